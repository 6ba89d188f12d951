//! Control groups: memory, processes and processor time of one environment, and a sure way to kill it whole.
//!
//! Version 1 and version 2 controllers are taken as they are found, also side by side. Groups are made below
//! the caller's own, never elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use stockade_domain::ids::EnvironmentId;

use crate::Class;

/// The group that holds all of ours.
const OURS: &str = "stockade";
/// Where the runner itself goes if a version 2 group may not hold both processes and groups.
const RUNNER: &str = "stockade-runner";
/// Threads and supervisors of the guest, beyond what the class gives the workload.
const GUEST_TASKS: u64 = 160;
/// The length that processor time is dealt out over, in microseconds.
const PERIOD_US: u64 = 100_000;

/// What a group limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Memory of all together.
    Memory,
    /// Number of processes and threads.
    Processes,
    /// Processor time.
    Cpu,
    /// Nothing: version 2 without controllers, for `cgroup.kill`.
    Kill,
}

impl Controller {
    /// The capability's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Cpu => "cpu",
            Self::Kill => "kill",
        }
    }

    const fn kernel_name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "pids",
            Self::Cpu => "cpu",
            Self::Kill => "",
        }
    }
}

/// The controllers that limit something.
pub const LIMITS: [Controller; 3] = [Controller::Memory, Controller::Processes, Controller::Cpu];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    v2: bool,
    /// What of the hierarchy is mounted there.
    root: String,
    at: PathBuf,
    options: String,
}

/// Where the caller stands in the machine's hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    mounts: Vec<Mount>,
    /// `hierarchy:controllers:path` lines of `/proc/self/cgroup`.
    own: Vec<(String, String)>,
}

impl Groups {
    /// Looks where this process is.
    pub fn detect() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mounts = mountinfo.lines().filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let kind = right.next()?;
            let options = right.nth(1)?.to_owned();
            let mut left = left.split(' ').skip(3);
            let (root, at) = (left.next()?.to_owned(), PathBuf::from(left.next()?));
            (kind == "cgroup" || kind == "cgroup2").then(|| Mount { v2: kind == "cgroup2", root, at, options })
        });
        let own = cgroup.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        });
        Self { mounts: mounts.collect(), own: own.collect() }
    }

    /// The caller's group in the version 2 hierarchy.
    fn v2(&self) -> Option<PathBuf> {
        let mount = self.mounts.iter().find(|mount| mount.v2)?;
        let (_, path) = self.own.iter().find(|(controllers, _)| controllers.is_empty())?;
        let path = path.strip_suffix(RUNNER).map_or(path.as_str(), |above| above.trim_end_matches('/'));
        Some(below(mount, path))
    }

    fn v1(&self, controller: Controller) -> Option<PathBuf> {
        let has = |list: &str| list.split(',').any(|name| name == controller.kernel_name());
        let mount = self.mounts.iter().find(|mount| !mount.v2 && has(&mount.options))?;
        let (_, path) = self.own.iter().find(|(controllers, _)| has(controllers))?;
        Some(below(mount, path))
    }

    /// The folder of an environment's group for a controller, and whether it is version 2; or why there is none.
    pub fn place(&self, controller: Controller, id: EnvironmentId) -> Result<(PathBuf, bool), String> {
        if controller != Controller::Kill
            && let Some(base) = self.v1(controller)
        {
            return Ok((base.join(OURS).join(id.to_string()), false));
        }
        let base = self.v2().ok_or("no control groups are mounted in /sys/fs/cgroup")?;
        if controller != Controller::Kill {
            let has = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
            if !has.split_whitespace().any(|name| name == controller.kernel_name()) {
                return Err(format!(
                    "the control group {} has no `{}` controller: run as root, or have it delegated (for systemd: \
                     `Delegate=yes` in the service, or a user session)",
                    base.display(),
                    controller.kernel_name()
                ));
            }
        }
        Ok((base.join(OURS).join(id.to_string()), true))
    }

    /// Makes a group and sets its limit.
    pub fn make(&self, controller: Controller, place: &(PathBuf, bool), class: &Class) -> Result<(), String> {
        let (folder, v2) = place;
        let said = |what: &Path| {
            let what = what.display().to_string();
            move |error: io::Error| format!("{what}: {error}")
        };
        let ours = folder.parent().unwrap_or(folder);
        make(ours).map_err(said(ours))?;
        if *v2 && controller != Controller::Kill {
            delegate(ours, controller).map_err(said(ours))?;
        }
        make(folder).map_err(said(folder))?;
        for (file, value, needed) in limits(controller, *v2, class) {
            let file = folder.join(file);
            match fs::write(&file, value) {
                Err(error) if needed || error.kind() != io::ErrorKind::NotFound => return Err(said(&file)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn below(mount: &Mount, path: &str) -> PathBuf {
    let path = path.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or(path);
    mount.at.join(path.trim_start_matches('/'))
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Hands a controller down to our group and to those below it.
fn delegate(ours: &Path, controller: Controller) -> io::Result<()> {
    let word = format!("+{}", controller.kernel_name());
    let base = ours.parent().unwrap_or(ours);
    let control = |folder: &Path| fs::write(folder.join("cgroup.subtree_control"), &word);
    if let Err(error) = control(base) {
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error);
        }
        // A group with processes of its own hands nothing down: this process steps aside.
        let aside = base.join(RUNNER);
        make(&aside)?;
        fs::write(aside.join("cgroup.procs"), "0")?;
        control(base)?;
    }
    control(ours)
}

/// Files, what goes into them, and whether each must be there.
fn limits(controller: Controller, v2: bool, class: &Class) -> Vec<(&'static str, String, bool)> {
    let memory = class.memory_bytes.to_string();
    let tasks = class.processes.saturating_add(GUEST_TASKS).to_string();
    let quota = (class.cpu_millis.saturating_mul(PERIOD_US) / 1_000).max(1_000);
    match (controller, v2) {
        (Controller::Memory, false) => vec![
            // A lower limit for both may not be below the one for memory alone, so first that, then both.
            ("memory.limit_in_bytes", memory.clone(), true),
            ("memory.memsw.limit_in_bytes", memory, false),
        ],
        (Controller::Memory, true) => {
            vec![("memory.max", memory, true), ("memory.swap.max", "0".into(), false)]
        }
        (Controller::Processes, _) => vec![("pids.max", tasks, true)],
        (Controller::Cpu, false) => {
            vec![("cpu.cfs_period_us", PERIOD_US.to_string(), true), ("cpu.cfs_quota_us", quota.to_string(), true)]
        }
        (Controller::Cpu, true) => vec![("cpu.max", format!("{quota} {PERIOD_US}"), true)],
        (Controller::Kill, _) => Vec::new(),
    }
}

/// The processes in a group; nothing if the group is gone.
pub fn members(folder: &Path) -> Vec<i32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

/// Asks the kernel to kill all of a group at once. Only version 2 can; elsewhere nothing happens.
pub fn kill(folder: &Path) {
    let _ = fs::write(folder.join("cgroup.kill"), "1");
}

/// Removes an empty group.
pub fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 25 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
33 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 31 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";

    #[test]
    fn a_hybrid_machine_gives_version_1_limits_and_a_version_2_group_to_kill() {
        let groups = Groups::parse(HYBRID, "4:memory:/a/b\n1:cpu:/\n0::/");
        let id = EnvironmentId::from_bytes([0; 16]);
        let place = |controller| groups.place(controller, id).map(|(path, v2)| (path.display().to_string(), v2));
        assert_eq!(place(Controller::Memory), Ok((format!("/sys/fs/cgroup/memory/a/b/stockade/{id}"), false)));
        assert_eq!(place(Controller::Cpu), Ok((format!("/sys/fs/cgroup/cpu/stockade/{id}"), false)));
        assert_eq!(place(Controller::Kill), Ok((format!("/sys/fs/cgroup/unified/stockade/{id}"), true)));
        assert!(place(Controller::Processes).unwrap_err().contains("pids"));
    }

    /// Files of a tempdir stand in for the kernel's: what is written where is what is tried.
    #[test]
    fn a_delegated_version_2_tree_is_handed_down_and_limited_and_one_that_is_not_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mounted = format!("40 39 0:30 / {} rw - cgroup2 cgroup2 rw,nsdelegate", dir.path().display());
        let groups = Groups::parse(&mounted, "0::/user/service");
        let (base, id) = (dir.path().join("user/service"), EnvironmentId::from_bytes([0; 16]));
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("cgroup.controllers"), "memory pids\n").unwrap();
        let class =
            Class { memory_bytes: 64 << 20, processes: 40, cpu_millis: 1_500, disk_bytes: 1 << 30, open_files: 64 };
        let read = |path: &str| fs::read_to_string(base.join("stockade").join(path)).unwrap();
        for (controller, file, text) in
            [(Controller::Memory, "memory.max", "67108864"), (Controller::Processes, "pids.max", "200")]
        {
            let place = groups.place(controller, id).unwrap();
            assert!(place.1, "version 2");
            groups.make(controller, &place, &class).unwrap();
            assert_eq!(read(&format!("{id}/{file}")), text);
            assert_eq!(read("cgroup.subtree_control"), format!("+{}", controller.kernel_name()));
        }
        assert_eq!(read(&format!("{id}/memory.swap.max")), "0");
        assert_eq!(limits(Controller::Cpu, true, &class)[0].1, "150000 100000");
        let why = groups.place(Controller::Cpu, id).unwrap_err();
        assert!(why.contains("no `cpu` controller") && why.contains("Delegate=yes"), "{why}");
    }

    #[test]
    fn a_group_that_is_mounted_as_the_root_is_found_below_its_mount() {
        let mount = "40 39 0:30 /machine/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let groups = Groups::parse(mount, "0::/machine/x/sub/stockade-runner");
        assert_eq!(groups.v2(), Some(PathBuf::from("/sys/fs/cgroup/sub")));
        assert_eq!(Groups::parse("", "").v2(), None);
    }
}
