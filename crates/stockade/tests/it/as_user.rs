//! An installation that a user without any right has started: the main paths of the way out again, as that user.
//!
//! Run by root, this starts the same tests of this program under another user id, over copies that this user may read.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
};

/// Who that is. Nobody has this id.
const USER: u32 = 54_322;
/// What is run again.
const AGAIN: [&str; 3] = [
    "ways_out::what_policy_allows_goes_out_and_nothing_else_does_and_all_of_it_is_recorded",
    "ways_out::n26_n27_what_is_open_ends_with_a_policy_that_refuses_it_and_with_the_runner_and_comes_back",
    "ways_out::s1_a_request_is_looked_into_and_given_its_credential_on_the_way_and_no_other_is_let_through",
];

/// Whether this is root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

/// What a user without rights cannot have of the machine: the kernel gives them no hold on memory, processor and disk.
pub const fn degraded() -> &'static str {
    "[environment]\nallow_degraded = [\"memory\", \"cpu\", \"disk\"]\n"
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copied(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_way_out_is_the_same_for_whoever_has_no_right_on_the_machine() {
    if !is_root() {
        // Whoever this is runs those tests by themselves.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (bin, sources, work) = (dir.path().join("bin"), dir.path().join("sources"), dir.path().join("work"));
    fs::create_dir(&bin).unwrap();
    fs::create_dir(&work).unwrap();
    chown(&work, Some(USER), Some(USER)).unwrap();
    let stockade = stockade_testkit::stockade().unwrap();
    for name in ["stockade", "stockade-guest", "stockade-launch"] {
        fs::copy(stockade.with_file_name(name), bin.join(name)).unwrap();
    }
    fs::copy(std::env::current_exe().unwrap(), bin.join("program")).unwrap();
    for folder in ["samples", "crates/stockade/tests/cassettes"] {
        copied(&stockade_testkit::root().join(folder), &sources.join(folder));
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("setpriv")
        .args([format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".into()])
        .args(["--inh-caps=-all", "--bounding-set=-all"])
        .arg(bin.join("program"))
        .args(["--exact", "--test-threads=1"])
        .args(AGAIN)
        .env("STOCKADE_BIN", bin.join("stockade"))
        .env("STOCKADE_SOURCES", &sources)
        .env("TMPDIR", &work)
        .env("HOME", &work)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .current_dir(&work)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "as user {USER}:\n{said}");
    assert!(said.contains(&format!("{} passed", AGAIN.len())), "they ran:\n{said}");
}
