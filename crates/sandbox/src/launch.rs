//! What driver and launcher say to each other: a file in the environment's folder, and one line back.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{Inside, User};

/// The file in `root/ENV/` that tells the launcher what to make.
pub const PLAN_FILE: &str = "plan.json";

/// The file in `root/ENV/` that tells which process is the guest.
pub const RUN_FILE: &str = "run.json";

/// The folder in `root/ENV/` with what the tools inside trust: `own` is `/etc/stockade` there, `certs` lies over the machine's
/// folder of certificates, and `chromium` and `firefox` are what browsers are told.
pub const TRUST_FOLDER: &str = "trust";
/// The certificate of the environment's own authority, inside.
pub const CA_FILE: &str = "/etc/stockade/ca.pem";
/// The same and all that the machine trusts, inside.
pub const BUNDLE_FILE: &str = "/etc/stockade/ca-bundle.pem";
/// Where machines keep the one file with all that they trust.
pub const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where machines keep the same for Java.
pub const JAVA_STORES: [&str; 2] = ["/etc/ssl/certs/java/cacerts", "/etc/pki/ca-trust/extracted/java/cacerts"];

/// Where browsers made of Chromium look for what their machine's owner says, inside: they have stores of their own and are told nothing by variables.
pub const CHROMIUM_POLICIES: [&str; 4] = [
    "/etc/chromium/policies/managed",
    "/etc/opt/chrome/policies/managed",
    "/etc/opt/edge/policies/managed",
    "/etc/brave/policies/managed",
];
/// Where Firefox looks for it.
pub const FIREFOX_POLICIES: &str = "/etc/firefox/policies";

/// Directories of the machine that every environment may read.
pub const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"];

/// What of `/etc` is the machine's own: nothing that names a person, a host, a key or a token.
pub const ETC: [&str; 32] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "chromium.d",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "maven",
    "mime.types",
    "os-release",
    "pki/ca-trust",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/ca-bundle.pem",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
];

/// Where names are asked for inside: one of the addresses of the way out, at which its doors for names answer.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 53);

/// The workload's user and group inside.
pub const WORKLOAD_ID: u32 = 1_000;

/// Who is root of the environment, if the workload is, among the ids of the environment: not its first one, who is the guest.
pub const WORKLOAD_ROOT: u32 = 65_535;

/// What root of an environment may, by the bits of capabilities(7): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID. All of it
/// holds for the environment's own ids and files only.
pub const ROOT_MAY: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7;

/// And where it may make namespaces, SETFCAP: the kernel maps root to nobody who lacks it (user_namespaces(7)).
pub const NESTING_ROOT_MAY: u64 = ROOT_MAY | 1 << 31;

/// The folder in `root/ENV/` with what is laid above the machine's `/etc` and `/usr` for this environment alone.
pub const LAYER_FOLDER: &str = "layer";

/// The folder among the environment's files with what was written to its system.
pub const WRITTEN_FOLDER: &str = "system";

/// How many ids of the machine one environment has when it is made by root.
pub const ID_RANGE: u32 = 65_536;

/// An environment as the launcher makes it. Written by the driver before the launcher starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The environment's folder: `root/ENV`.
    pub folder: PathBuf,
    /// The guest's program.
    pub guest: PathBuf,
    /// The first of [`ID_RANGE`] ids of the machine that this environment has to itself; nothing when the
    /// launcher is not root, and the caller's own id is the only one.
    pub id_base: Option<u32>,
    /// The image that holds its files, if the disk limit is one.
    pub image: Option<PathBuf>,
    /// `cgroup.procs` (or `tasks`) files that the guest's id is written to, before it acts.
    pub cgroups: Vec<PathBuf>,
    /// Whether there is a folder [`TRUST_FOLDER`], with what the tools inside trust.
    pub trust: bool,
    /// Variables of the workload's programs.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The text of `/etc/gitconfig`.
    #[serde(default)]
    pub gitconfig: Option<String>,
    /// What its inside is to those who work there.
    #[serde(default)]
    pub inside: Inside,
    /// What an overlaid system begins with; nothing for a system that is the machine's.
    #[serde(default)]
    pub template: Option<PathBuf>,
    /// More that may be read, at the same path.
    pub extra_read_only: Vec<PathBuf>,
    /// Processes and threads of the workload at any one time.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// The largest file.
    pub file_bytes: u64,
    /// Private memory of one process, where no control group holds all of them together.
    pub data_bytes: Option<u64>,
    /// `/dev/shm`.
    pub shm_bytes: u64,
    /// The guest measures the files and kills the workload above this, where no image holds them.
    pub watch_bytes: Option<u64>,
    /// Whether to go on without Landlock.
    pub without_landlock: bool,
    /// Whether to go on where Landlock does not hold signals and abstract sockets.
    pub without_scopes: bool,
}

impl Plan {
    /// Who the workload is within its own user namespace.
    pub fn workload_id(&self) -> u32 {
        match self.inside.user {
            User::Agent => WORKLOAD_ID,
            User::Root => 0,
        }
    }

    /// The same among the environment's ids: those of the guest's user namespace.
    pub fn owner_id(&self) -> u32 {
        match (self.id_base, self.inside.user) {
            // The one id that there is.
            (None, _) => 0,
            (Some(_), User::Agent) => WORKLOAD_ID,
            (Some(_), User::Root) => WORKLOAD_ROOT,
        }
    }

    /// The same among the machine's ids, for giving files away; nothing where there is but one.
    pub fn owner(&self) -> Option<u32> {
        self.id_base.map(|base| base.saturating_add(self.owner_id()))
    }

    /// The capabilities that the workload keeps within its own user namespace.
    pub fn may(&self) -> u64 {
        match (self.inside.user, self.inside.nested) {
            (User::Agent, _) => 0,
            (User::Root, false) => ROOT_MAY,
            (User::Root, true) => NESTING_ROOT_MAY,
        }
    }

    /// The workload's home.
    pub fn home(&self) -> &'static str {
        match self.inside.user {
            User::Agent => "home/agent",
            User::Root => "root",
        }
    }
}

/// Which process is the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its id on the machine.
    pub pid: i32,
    /// When it started, in clock ticks since boot (proc(5), `stat` field 22): an id alone may be another's.
    pub start: u64,
    /// The boot that the ticks count from.
    pub boot: String,
}

/// The launcher's one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The guest runs.
    Started(Running),
    /// It does not.
    Failed {
        /// What the launcher was doing.
        step: String,
        /// What happened.
        message: String,
    },
}

/// Where in an environment its doors stand, if streams can be led to them: of the addresses from which names get theirs, one of those
/// that no name is given (198.18.0.0/24, see `dns` in the crate for the way out).
pub const DOOR_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same in IPv6.
pub const DOOR_V6: Ipv6Addr = Ipv6Addr::new(0xfd6a, 0x2c8c, 0x6149, 0, 0, 0, 0xc612, 1);
/// The door for streams. No workload may take a port below 1,024.
pub const STREAMS_PORT: u16 = 1;
/// The door for names.
pub const NAMES_PORT: u16 = 53;
/// Where streams can be led nowhere, doors for these ports stand at every address; to others there is none.
pub const FALLBACK_PORTS: [u16; 10] = [22, 53, 80, 443, 2222, 5432, 8080, 8443, 9418, 11_371];

/// What a descriptor is that the launcher hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// A listener at which streams end.
    Streams,
    /// A datagram socket to which names are asked for.
    Names,
    /// What sees the beginning of packets that are no streams.
    Strays,
}

/// What comes with the descriptors, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// What each is.
    pub doors: Vec<Door>,
    /// Whether streams to any port are led to the doors.
    pub redirected: bool,
    /// Why not.
    pub why_not: Option<String>,
}

/// One thing that the launcher tried for `probe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The capability.
    pub name: String,
    /// Nothing if it worked.
    pub error: Option<String>,
    /// What it found.
    pub found: String,
}

/// Reads when a process started from the text of its `stat`; nothing if the text is none, or it is dead and
/// only not yet reaped.
pub fn start_of(stat: &str) -> Option<u64> {
    // The second field is a name in parentheses that may hold anything, parentheses too.
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_process_name_does_not_move_the_fields() {
        let stat = "7 (a) S 9 (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 10";
        assert_eq!(start_of(stat), Some(4242));
        assert_eq!(start_of("7 (a) Z 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 10"), None);
        assert_eq!(start_of("nonsense"), None);
    }
}
