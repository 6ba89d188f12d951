//! What of the machine an environment may be shown beside its system, as the configuration names it.
//!
//! It refuses what would cover the environment's own folders or the kernel's, and what would show the machine's keys and accounts whole.

use std::path::{Component, Path};

/// Folders that are the environment's own or the kernel's: nothing of the machine lies there, nor below these.
const CLOSED: [&str; 7] = ["/proc", "/sys", "/dev", "/workspace", "/run/stockade", "/etc/stockade", "/.layers"];
/// Folders in which something of the machine may lie, and which are never the machine's themselves.
const OWN: [&str; 11] =
    ["/", "/etc", "/var", "/run", "/tmp", "/var/tmp", "/home", "/home/agent", "/root", "/mnt", "/var/lib"];

/// Why a path cannot be shown, if it cannot, in words that go after the path.
pub fn wrong(path: &Path) -> Option<&'static str> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return Some("is no path from the root without `..`: write it whole");
    }
    if CLOSED.iter().any(|closed| path.starts_with(closed)) {
        return Some("lies where an environment has its own: name a folder elsewhere, or a link to one");
    }
    // What is above one of the closed folders is among these.
    OWN.iter().any(|own| path == Path::new(own)).then_some(
        "would cover what an environment has there, or show all of it: name the folders in it that are wanted",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_an_environments_own_is_refused() {
        for path in [
            "/usr/local/tool",
            "/srv/tools",
            "/var/tmp/tools",
            "/tmp/a/b",
            "/home/me/.cargo",
            "/root/tools",
            "/etc/npmrc",
            "/var/cache/x",
        ] {
            assert_eq!(wrong(Path::new(path)), None, "{path}");
        }
        for path in [
            "tools",
            "/srv/../etc/shadow",
            "/",
            "/etc",
            "/etc/",
            "/proc/1",
            "/dev/sda",
            "/workspace/x",
            "/run",
            "/run/stockade/transfer",
            "/home",
            "/var/tmp",
            "/var",
            "/sys",
        ] {
            assert!(wrong(Path::new(path)).is_some(), "{path}");
        }
    }
}
