//! What the inside of an environment is to those who work there: the system's files, who they are, and whether they may make
//! namespaces of their own.
//!
//! The default is the safest. Each other choice costs something, which docs/isolation.md says. It refuses combinations that give
//! nothing.

use serde::{Deserialize, Serialize};

/// What may become of the system's files (`/usr`, `/opt`, `/etc`, `/var`) inside. The machine's own never change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// They are the machine's and can be read.
    #[default]
    ReadOnly,
    /// They belong to whoever works there: what is written lies above the machine's, on the environment's own disk, counts against its
    /// limit and goes with it.
    Overlay,
}

/// Who the workload is inside. To the machine it is nobody in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum User {
    /// The user `agent`, without any capability.
    #[default]
    Agent,
    /// Root of the environment and of nothing else, with the seven capabilities that installing packages takes: owners and modes of its
    /// own files, other users of its own, and signals to them. No network, no mounts, no devices.
    Root,
}

/// The inside of an environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inside {
    /// The system's files.
    pub system: System,
    /// Who works there.
    pub user: User,
    /// Whether user namespaces may be made inside, and mounts within them: what containers and the sandboxes of browsers take. The
    /// machine's kernel is then open to more kinds of calls, and Landlock holds no files.
    pub nested: bool,
}

impl Inside {
    /// What of it cannot be meant, in a sentence that says what to write instead.
    pub fn wrong(self) -> Option<&'static str> {
        (self.user == User::Root && self.system == System::ReadOnly)
            .then_some("`user = \"root\"` gives nothing where the system cannot be written: add `system = \"overlay\"`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_safest_and_root_wants_something_to_write() {
        let inside = Inside::default();
        assert_eq!(
            serde_json::to_value(inside).unwrap(),
            serde_json::json!({"system": "read_only", "user": "agent", "nested": false})
        );
        assert_eq!(inside.wrong(), None);
        assert!(Inside { user: User::Root, ..inside }.wrong().is_some_and(|why| why.contains("overlay")));
        assert_eq!(Inside { user: User::Root, system: System::Overlay, nested: true }.wrong(), None);
    }
}
