//! What an environment uses, read from wherever this machine counts it.
//!
//! Control groups of either version where there are any: what they count is the kernel's own sum, also of processes that have ended. Without,
//! the processes below the guest: of one that has ended, its parent has the time once it has waited for it. It refuses to guess: what nobody
//! counts is nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Measured, launch::Running};

/// Where no image bounds the files, so many entries are measured; of a tree with more, the rest is not counted.
pub const MAX_ENTRIES: u64 = 100_000;
/// The fields of `stat` after the name (proc(5)): the parent; times of itself and of children that it has waited for; resident pages.
const PARENT: usize = 1;
const TIMES: [usize; 4] = [11, 12, 13, 14];
const RESIDENT: usize = 21;

/// Measures an environment: its groups, its guest if that runs, its image or else the folder of its files.
pub fn measure(groups: &[PathBuf], running: Option<&Running>, image: &Path, files: &Path) -> Measured {
    let processes = || running.map(|guest| of_processes(guest.pid)).unwrap_or_default();
    let (boot, counted) = (boot(), cpu_of(groups));
    // The counters of a group live as long as it does: until the environment is deleted, or the machine starts anew.
    let (since, cpu_us) = match (counted, running) {
        (Some(cpu_us), _) => (boot, cpu_us),
        (None, Some(guest)) => (format!("{boot} {} {}", guest.pid, guest.start), processes().cpu_us),
        (None, None) => (boot, 0),
    };
    let (memory_bytes, memory_peak_bytes) = memory_of(groups).unwrap_or_else(|| {
        let now = processes().memory_bytes;
        (now, now)
    });
    let disk_bytes = match fs::metadata(image) {
        // What of it was ever written to; what is deleted inside is not given back to the machine.
        Ok(facts) => facts.blocks() * 512,
        Err(_) => disk_of(files, MAX_ENTRIES),
    };
    Measured { since, cpu_us, memory_bytes, memory_peak_bytes, disk_bytes }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Processor time in microseconds: of a version 2 group, with or without its controller; else of version 1's `cpuacct`.
fn cpu_of(groups: &[PathBuf]) -> Option<u64> {
    let of_v2 = |group: &PathBuf| {
        let text = fs::read_to_string(group.join("cpu.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse::<u64>().ok()
    };
    let of_v1 = |group: &PathBuf| number(&group.join("cpuacct.usage")).map(|ns| ns / 1_000);
    groups.iter().filter_map(of_v2).max().or_else(|| groups.iter().filter_map(of_v1).max())
}

/// Memory now, and the most at a time. Before Linux 5.19 version 2 does not keep the latter.
fn memory_of(groups: &[PathBuf]) -> Option<(u64, u64)> {
    let pair = |group: &PathBuf, now: &str, peak: &str| {
        let now = number(&group.join(now))?;
        Some((now, number(&group.join(peak)).unwrap_or(now).max(now)))
    };
    groups.iter().find_map(|group| {
        pair(group, "memory.current", "memory.peak")
            .or_else(|| pair(group, "memory.usage_in_bytes", "memory.max_usage_in_bytes"))
    })
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    cpu_us: u64,
    memory_bytes: u64,
}

/// A process and all below it.
fn of_processes(root: i32) -> Sum {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read(entry.path().join("stat")).ok()?;
        Some((pid, String::from_utf8_lossy(&stat).into_owned()))
    });
    let (ticks, page) = (configured(libc::_SC_CLK_TCK, 100), configured(libc::_SC_PAGESIZE, 4_096));
    sum(root, &stats.collect(), 1_000_000 / ticks, page)
}

/// A number of this system's, above nothing.
fn configured(name: libc::c_int, otherwise: u64) -> u64 {
    // SAFETY: it takes a number and gives one, and touches no memory of ours.
    let found = unsafe { libc::sysconf(name) };
    u64::try_from(found).ok().filter(|found| *found > 0).unwrap_or(otherwise)
}

fn sum(root: i32, stats: &BTreeMap<i32, String>, tick_us: u64, page: u64) -> Sum {
    let mut below: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut known: BTreeMap<i32, Sum> = BTreeMap::new();
    for (pid, stat) in stats {
        // The name may hold anything, parentheses too.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok());
        let Some(parent) = field(PARENT).and_then(|parent| i32::try_from(parent).ok()) else { continue };
        below.entry(parent).or_default().push(*pid);
        let ticks = TIMES.iter().filter_map(|at| field(*at)).fold(0_u64, u64::saturating_add);
        let memory_bytes = field(RESIDENT).unwrap_or(0).saturating_mul(page);
        known.insert(*pid, Sum { cpu_us: ticks.saturating_mul(tick_us), memory_bytes });
    }
    let (mut total, mut next) = (Sum::default(), vec![root]);
    while let Some(pid) = next.pop() {
        // Taken out: nobody is counted twice, whatever the tree says.
        let Some(one) = known.remove(&pid) else { continue };
        total.cpu_us = total.cpu_us.saturating_add(one.cpu_us);
        total.memory_bytes = total.memory_bytes.saturating_add(one.memory_bytes);
        next.extend(below.remove(&pid).unwrap_or_default());
    }
    total
}

/// Bytes on disk below a folder, of so many entries. Links are not followed, and what vanishes meanwhile is nothing.
fn disk_of(folder: &Path, mut left: u64) -> u64 {
    let (mut bytes, mut next) = (0_u64, vec![folder.to_owned()]);
    while let Some(folder) = next.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Some(fewer) = left.checked_sub(1) else { return bytes };
            left = fewer;
            let Ok(facts) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(facts.blocks() * 512);
            if facts.is_dir() {
                next.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(dir: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let group = dir.join(name);
        fs::create_dir(&group).unwrap();
        for (file, text) in files {
            fs::write(group.join(file), text).unwrap();
        }
        group
    }

    #[test]
    fn groups_of_either_version_are_read_and_the_newer_one_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let v2 = group(
            dir.path(),
            "v2",
            &[
                ("cpu.stat", "usage_usec 1234\nuser_usec 1000\n"),
                ("memory.current", "4096\n"),
                ("memory.peak", "8192\n"),
            ],
        );
        let v1_cpu = group(dir.path(), "cpu", &[("cpu.stat", "nr_periods 0\n"), ("cpuacct.usage", "999000\n")]);
        let v1_memory =
            group(dir.path(), "memory", &[("memory.usage_in_bytes", "100\n"), ("memory.max_usage_in_bytes", "200\n")]);
        let old = group(dir.path(), "old", &[("memory.current", "7\n")]);
        let of = |groups: &[PathBuf]| (cpu_of(groups), memory_of(groups));
        assert_eq!(of(&[v1_cpu.clone(), v2]), (Some(1_234), Some((4_096, 8_192))));
        assert_eq!(of(&[v1_cpu, v1_memory]), (Some(999), Some((100, 200))));
        assert_eq!(of(&[old]), (None, Some((7, 7))));
        assert_eq!((cpu_of(&[]), memory_of(&[])), (None, None));
    }

    #[test]
    fn processes_are_summed_below_the_guest_and_nobody_twice() {
        let stat = |name: &str, parent: i32, ticks: [u64; 4], pages: u64| {
            let [a, b, c, d] = ticks;
            format!("0 ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 {a} {b} {c} {d} 20 0 1 0 5 100 {pages} 0")
        };
        let stats = BTreeMap::from([
            (10, stat("guest", 1, [1, 2, 3, 4], 5)),
            (11, stat("a) S 1 (b", 10, [10, 0, 0, 0], 1)),
            (12, stat("below", 11, [0, 0, 0, 100], 1)),
            (13, stat("a stranger", 1, [1_000, 0, 0, 0], 1_000)),
            (14, "nonsense".to_owned()),
            (15, stat("its own parent", 15, [1, 1, 1, 1], 1)),
        ]);
        assert_eq!(sum(10, &stats, 10, 4_096), Sum { cpu_us: 1_200, memory_bytes: 7 * 4_096 });
        assert_eq!(sum(99, &stats, 10, 4_096), Sum::default());
    }

    #[test]
    fn a_tree_is_measured_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), vec![1; 100_000]).unwrap();
        assert!((100_000..200_000).contains(&disk_of(dir.path(), MAX_ENTRIES)));
        assert!(disk_of(dir.path(), 1) < 100_000, "one entry is the folder");
    }
}
