//! The attacks on the box where the inside is another by choice: which come to another end than in an environment of the safest kind, which,
//! and why that harms nobody.
//!
//! It owns the other ends; every attack that it does not name comes to its own end there too.

use stockade_sandbox::{Inside, System, User};

/// An attack of [`super::inside::ATTACKS`] that comes to another end.
#[derive(Debug)]
pub struct Other {
    /// The attack's row.
    pub row: &'static str,
    /// Of which insides.
    pub of: fn(Inside) -> bool,
    /// The same in words.
    pub words: &'static str,
    /// What it says, exactly: as root, and where a user without rights made the environment.
    pub outcomes: [&'static str; 2],
    /// Why it harms nobody.
    pub why: &'static str,
}

/// The insides that are tried.
pub const TRIED: [Inside; 4] = [
    Inside { system: System::Overlay, user: User::Agent, nested: false },
    Inside { system: System::Overlay, user: User::Root, nested: false },
    Inside { system: System::ReadOnly, user: User::Agent, nested: true },
    Inside { system: System::Overlay, user: User::Root, nested: true },
];

const OVERLAY: &str = "`system = \"overlay\"`";
const ROOT: &str = "`user = \"root\"`";

/// All of them.
pub const OTHERS: &[Other] = &[
    Other {
        row: "N19",
        of: |inside| inside.user == User::Root,
        words: ROOT,
        outcomes: ["EPERM EPROTONOSUPPORT"; 2],
        why: "the kernel's audit is refused by another word, with which what makes accounts goes on",
    },
    Other {
        row: "N22",
        of: |inside| inside.nested,
        words: "`nested = true`",
        outcomes: ["0 EPERM\nENOSYS\n0 failed\nENOENT"; 2],
        why: "user namespaces are made, and by root of one the others; none of the machine's is entered, and a network made within has nobody in it",
    },
    Other {
        row: "F1",
        of: |inside| inside.system == System::Overlay && inside.user == User::Agent,
        words: "`system = \"overlay\"`, `user = \"agent\"`",
        outcomes: ["read ENOENT EISDIR\n['agent'] [] []"; 2],
        why: "what is read are accounts that were made for the environment, without a password, and an empty folder for keys",
    },
    Other {
        row: "F1",
        of: |inside| inside.user == User::Root,
        words: ROOT,
        outcomes: ["read ENOENT EISDIR\n[] [] []"; 2],
        why: "the same; root's home is its own",
    },
    Other {
        row: "F2",
        of: |inside| inside.system == System::Overlay,
        words: OVERLAY,
        outcomes: ["read\nEXDEV\nEXDEV\n4 5\nEPERM\nEXDEV"; 2],
        why: "its own accounts are read, and files are made in its own `/usr`, above the machine's",
    },
    Other {
        row: "P2",
        of: |inside| inside.user == User::Root && !inside.nested,
        words: ROOT,
        outcomes: [
            "0000000000000000 00000000000000fb 1\n0\nran failed\nNone EPERM\nEPERM\nEPERM\nEPERM",
            "0000000000000000 00000000000000fb 1\n0\nfailed\nNone EINVAL\nEPERM\nEPERM\nEPERM",
        ],
        why: "it has its seven capabilities and its users, is root to `su`, and gains nothing",
    },
    Other {
        row: "P2",
        of: |inside| inside.user == User::Root && inside.nested,
        words: "`user = \"root\"`, `nested = true`",
        outcomes: [
            "0000000000000000 00000000800000fb 1\n0\nran failed\nNone EPERM\nEPERM\nEPERM\nEPERM",
            "0000000000000000 00000000800000fb 1\n0\nfailed\nNone EINVAL\nEPERM\nEPERM\nEPERM",
        ],
        why: "and the eighth, without which no namespace of its own would have a root",
    },
    Other {
        row: "C2",
        of: |inside| inside.system == System::Overlay,
        words: OVERLAY,
        outcomes: ["ended\nwritten <_io.TextIOWrapper name='/etc/ld.so.preload' mode='w' encoding='UTF-8'> EEXIST"; 2],
        why: "its own settings are its own: the way out asks none of them, and nothing of the guest or the runner reads them",
    },
];

/// What an attack says in such an inside; nothing if it says what it always does.
pub fn outcome(row: &str, inside: Inside, by_root: bool) -> Option<&'static str> {
    let [as_root, as_user] = OTHERS.iter().find(|other| other.row == row && (other.of)(inside))?.outcomes;
    Some(if by_root { as_root } else { as_user })
}
