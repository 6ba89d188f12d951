//! What an overlaid system begins with, beside the machine's own `/usr` and `/opt`: an `/etc` and a `/var` of copies.
//!
//! It owns the template: made once for the machine as it is, shared by all environments, and only read by them. It refuses what not
//! everybody on the machine may read, and nothing that is not on the lists comes along; links stay words. *Invariant:* no template changes once it has its name; one that no environment names is removed when the next is made.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use crate::launch::{BUNDLES, CHROMIUM_POLICIES, ETC, FIREFOX_POLICIES, JAVA_STORES, NAME_SERVER, SYSTEM};

/// What templates are called, before what they were made of.
const PREFIX: &str = "system-1-";
/// What one is called while it is made for an environment, after the environment's id.
const BEING_MADE: &str = ".system";
/// The most that is copied, in files and folders: a machine with more keeps the rest to itself.
const MAX_COPIED: u64 = 200_000;
/// How deep folders are copied.
const MAX_DEPTH: u32 = 32;
/// How deep the folders of the system are the workload's own without root, beside those that several packages share. What a package has to
/// itself, a new one does not write to.
const SKELETON: u32 = 3;
/// The same for what was put below `/usr/local` by hand.
const SKELETON_LOCAL: u32 = 6;
/// The largest list of a package's files that is read, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// What of `/etc` the installing of packages looks into, beside what every environment has.
const ETC_MORE: [&str; 42] = [
    "X11",
    "adduser.conf",
    "apt/keyrings",
    "apt/sources.list",
    "apt/sources.list.d",
    "apt/trusted.gpg",
    "apt/trusted.gpg.d",
    "bindresvport.blacklist",
    "debconf.conf",
    "deluser.conf",
    "dpkg",
    "emacs",
    "gss",
    "issue",
    "ld.so.conf",
    "libaudit.conf",
    "locale.gen",
    "login.defs",
    "logcheck",
    "manpath.config",
    "mke2fs.conf",
    "netconfig",
    "networks",
    "pam.conf",
    "pam.d",
    "perl",
    "profile",
    "profile.d",
    "python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "rmt",
    "rpc",
    "security",
    "sgml",
    "skel",
    "timezone",
    "ucf.conf",
    "xdg",
    "xml",
];

/// What of `/var` it looks into: which packages there are, and registers of theirs.
const VAR: [&str; 5] = ["lib/pam", "lib/rpm", "lib/sgml-base", "lib/ucf", "lib/xml-core"];

/// The register of Debian's packages. Of what each package has, the most by far, the machine's own is shown.
const REGISTER: &str = "/var/lib/dpkg";
/// What of it is not copied.
const NOT_COPIED: [&str; 2] = ["info", "methods"];

/// Folders that are there on every machine.
const FOLDERS: [&str; 29] = [
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "etc/default",
    "etc/init.d",
    "etc/opt",
    "etc/rc0.d",
    "etc/rc1.d",
    "etc/rc2.d",
    "etc/rc3.d",
    "etc/rc4.d",
    "etc/rc5.d",
    "etc/rc6.d",
    "etc/rcS.d",
    "etc/ssl/certs",
    "etc/ssl/private",
    "etc/stockade",
    "etc/systemd/system",
    "usr/sbin",
    "opt",
    "var/cache/apt/archives/partial",
    "var/cache/debconf",
    "var/lib/apt/lists/partial",
    "var/lib/misc",
    "var/local",
    "var/log/apt",
    "var/mail",
    "var/opt",
    "var/spool",
];

/// Text that is made anew.
const FILES: [(&str, u32, &str); 7] = [
    ("etc/hostname", 0o644, "stockade\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost stockade\n::1 localhost\n"),
    (
        "etc/nsswitch.conf",
        0o644,
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
    ),
    ("etc/shells", 0o644, "/bin/sh\n/bin/bash\n"),
    // What is installed does not start by itself: there is nobody who would look after it.
    (
        "usr/sbin/policy-rc.d",
        0o755,
        "#!/bin/sh\n# Services of an environment are started by whoever wants them.\nexit 101\n",
    ),
    ("etc/dpkg/dpkg.cfg.d/stockade", 0o644, "force-unsafe-io\n"),
    ("var/log/lastlog", 0o644, ""),
];

/// Where there is the register of Debian's packages: nobody's accounts (a package's own are made by its scripts), and locks to take.
const IN_REGISTER: [&str; 5] = ["statoverride", "available", "lock", "lock-frontend", "triggers/Lock"];

/// Accounts of a distribution's own, the same on each of its machines: base-passwd has them.
const ACCOUNTS: [&str; 2] = ["/usr/share/base-passwd/passwd.master", "/usr/share/base-passwd/group.master"];

/// The template for the machine as it is now: its name below `templates`. Made for the environment of a folder if it is not there.
/// `named` tells which templates environments name; whoever calls holds [`lock`].
pub fn ensure(
    templates: &Path,
    folder: &Path,
    by_root: bool,
    named: impl FnOnce() -> BTreeSet<String>,
) -> io::Result<String> {
    let name = format!("{PREFIX}{:016x}", mark(by_root));
    if templates.join(&name).is_dir() {
        return Ok(name);
    }
    let fresh = being_made(templates, folder);
    super::life::remove_tree(&fresh)?;
    let made = make(&fresh, by_root).and_then(|()| fs::rename(&fresh, templates.join(&name)));
    if made.is_err() {
        let _ = super::life::remove_tree(&fresh);
    }
    made?;
    let named = named();
    for entry in fs::read_dir(templates)?.flatten() {
        let Ok(other) = entry.file_name().into_string() else { continue };
        if other.starts_with("system-") && other != name && !named.contains(&other) {
            super::life::remove_tree(&entry.path())?;
        }
    }
    Ok(name)
}

/// Held while a template is chosen and until an environment's note names it, so that nobody removes it in between.
pub fn lock(templates: &Path) -> io::Result<File> {
    fs::create_dir_all(templates)?;
    let file = File::options().write(true).create(true).truncate(false).open(templates.join("system.lock"))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Writes what lies above the template for one environment alone: git's configuration, and what the tools inside trust, of which the part
/// for `/etc/ssl/certs` is moved here from the folder of that (`trust`).
pub fn layer(to: &Path, gitconfig: Option<&str>, trust: Option<&Path>) -> io::Result<()> {
    let folder = |path: &Path| -> io::Result<()> {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    };
    folder(to)?;
    folder(&to.join("etc"))?;
    put(&to.join("etc/gitconfig"), 0o644, gitconfig.unwrap_or_default().as_bytes())?;
    let Some(trust) = trust else { return Ok(()) };
    folder(&to.join("etc/ssl"))?;
    let certs = to.join("etc/ssl/certs");
    fs::rename(trust.join("certs"), &certs)?;
    for (paths, ours) in [(&BUNDLES[..], "ca-certificates.crt"), (&JAVA_STORES[..], "java/cacerts")] {
        for path in paths.iter().filter_map(|path| fs::canonicalize(path).ok()) {
            let Ok(inner) = path.strip_prefix("/etc") else { continue };
            let at = to.join("etc").join(inner);
            if !certs.join(ours).exists() || path.starts_with("/etc/ssl/certs") || at.exists() {
                continue;
            }
            for above in inner.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
                folder(&to.join("etc").join(above))?;
            }
            fs::hard_link(certs.join(ours), at)?;
        }
    }
    // Whoever collects the certificates anew, as installing some does, finds it among them.
    let local = to.join("usr/local/share/ca-certificates");
    for above in ["usr", "usr/local", "usr/local/share", "usr/local/share/ca-certificates"] {
        folder(&to.join(above))?;
    }
    fs::hard_link(certs.join("stockade.pem"), local.join("stockade.crt"))
}

/// Removes what is left of a template that was being made for the environment of a folder.
pub fn abandon(templates: &Path, folder: &Path) -> io::Result<()> {
    super::life::remove_tree(&being_made(templates, folder))
}

fn being_made(templates: &Path, folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(BEING_MADE);
    templates.join(name)
}

fn etc() -> impl Iterator<Item = PathBuf> {
    ETC.iter().chain(&ETC_MORE).map(|name| Path::new("/etc").join(name))
}

/// What the template depends on, in a number: folders tell by their times that something in them was put in its place.
fn mark(by_root: bool) -> u64 {
    let mut sum = Sum(0xcbf2_9ce4_8422_2325 ^ u64::from(by_root));
    let more = [
        "/var/lib/dpkg/status",
        "/var/lib/rpm",
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/share",
        "/usr/local",
        "/usr/local/bin",
        "/usr/local/lib",
        "/opt",
    ];
    for path in etc().chain(more.iter().map(PathBuf::from)).chain(ACCOUNTS.iter().map(PathBuf::from)) {
        let deep = if path.starts_with("/etc") { MAX_DEPTH } else { 0 };
        sum.add(&path, deep);
    }
    sum.0
}

/// FNV-1a: nobody gains by making two machines look alike.
struct Sum(u64);

impl Sum {
    fn take(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    fn add(&mut self, path: &Path, deep: u32) {
        let Ok(facts) = fs::symlink_metadata(path) else { return };
        self.take(path.as_os_str().as_encoded_bytes());
        for number in [facts.ino(), facts.len(), facts.mtime().cast_unsigned(), facts.mtime_nsec().cast_unsigned()] {
            self.take(&number.to_ne_bytes());
        }
        if facts.is_dir() && deep > 0 {
            let mut below: Vec<PathBuf> = fs::read_dir(path)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
            below.sort_unstable();
            for path in below {
                self.add(&path, deep - 1);
            }
        }
    }
}

fn make(to: &Path, by_root: bool) -> io::Result<()> {
    let mut copy = Copy { to, left: MAX_COPIED };
    copy.folder(Path::new("/"), 0o755)?;
    for path in etc().chain(VAR.iter().map(|name| Path::new("/var").join(name))) {
        copy.tree(&path, MAX_DEPTH)?;
    }
    for entry in fs::read_dir(REGISTER).into_iter().flatten().flatten() {
        if NOT_COPIED.iter().any(|name| entry.file_name() == *name) {
            copy.folder_like(&entry.path())?;
        } else {
            copy.tree(&entry.path(), MAX_DEPTH)?;
        }
    }
    let lists = Lists::read();
    for folder in FOLDERS {
        copy.folder(&Path::new("/").join(folder), 0o755)?;
    }
    // What browsers are told lies there, above: the folders are the workload's.
    for folder in CHROMIUM_POLICIES.iter().chain([&FIREFOX_POLICIES]) {
        copy.folder(Path::new(folder), 0o755)?;
    }
    for folder in lists.var {
        copy.folder_like(&folder)?;
    }
    for (name, mode, text) in FILES {
        put(&to.join(name), mode, text.as_bytes())?;
    }
    let register = copy.target(Path::new(REGISTER));
    for name in IN_REGISTER.iter().filter(|_| register.is_dir()) {
        put(&register.join(name), 0o644, b"")?;
    }
    put(
        &to.join("etc/resolv.conf"),
        0o644,
        format!("nameserver {NAME_SERVER}\noptions timeout:2 attempts:2\n").as_bytes(),
    )?;
    for (path, text) in
        [("etc/mtab", "/proc/self/mounts"), ("var/tmp", "/tmp"), ("var/run", "/run"), ("var/lock", "/run/lock")]
    {
        // A package may own a folder of the name.
        let _ = fs::remove_dir(to.join(path));
        symlink(text, to.join(path))?;
    }
    without_passwords(&to.join("etc/apt"))?;
    accounts(to)?;
    // What is the machine's in there belongs to nobody inside, whoever made the environment; the folders are the workload's.
    copy.skeleton(Path::new("/usr/local"), SKELETON_LOCAL)?;
    copy.skeleton(Path::new("/opt"), SKELETON)?;
    if by_root {
        // What is lent can be read by whom it is lent to: so what only the machine's root may read is taken out.
        for path in SYSTEM.iter().chain([&REGISTER]).map(Path::new).filter(|path| *path != Path::new("/opt")) {
            if let Some(facts) = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir) {
                copy.without_closed(path, facts.dev(), MAX_DEPTH)?;
            }
        }
    } else {
        // To the kernel all that is inside is one user's: nobody else can be become.
        put(&to.join("etc/apt/apt.conf.d/81stockade-one-user"), 0o644, b"APT::Sandbox::User \"root\";\n")?;
        // The machine's folders belong to nobody whom the environment knows. Of these, laid above, it owns each, and what it then puts
        // in there is its own.
        for path in SYSTEM.iter().map(Path::new) {
            if fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir()) {
                copy.skeleton(path, SKELETON)?;
            }
        }
        let system = |path: &Path| SYSTEM.iter().any(|system| path.starts_with(system));
        for folder in lists.shared.into_iter().filter(|path| system(path)) {
            copy.folder_like(&folder)?;
        }
    }
    Ok(())
}

/// Copies what everybody on the machine may read, to the same place below.
struct Copy<'a> {
    to: &'a Path,
    left: u64,
}

impl Copy<'_> {
    fn target(&self, path: &Path) -> PathBuf {
        self.to.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn counted(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            io::Error::other(format!("the machine's system has more than {MAX_COPIED} files and folders to begin with"))
        })?;
        Ok(())
    }

    fn folder(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        let target = self.target(path);
        if target.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent().filter(|above| *above != Path::new("/")) {
            self.folder(above, 0o755)?;
        }
        self.counted()?;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&target)?;
        // Whatever this process's mask is.
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))
    }

    /// A folder with the machine's mode, if everybody may look into it.
    fn folder_like(&mut self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Ok(facts) if facts.is_dir() && facts.mode() & 0o005 == 0o005 => self.folder(path, facts.mode() & 0o1777),
            _ => Ok(()),
        }
    }

    fn tree(&mut self, path: &Path, deep: u32) -> io::Result<()> {
        let Ok(facts) = fs::symlink_metadata(path) else { return Ok(()) };
        let (kind, open) = (facts.file_type(), facts.mode() & 0o004 != 0);
        let above = path.parent().unwrap_or(path);
        if kind.is_symlink() {
            self.folder(above, 0o755)?;
            self.counted()?;
            return match symlink(fs::read_link(path)?, self.target(path)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            };
        }
        if kind.is_file() && open {
            self.folder(above, 0o755)?;
            self.counted()?;
            let target = self.target(path);
            // What went, or was closed, since it was looked at is not there.
            let copied = File::open(path).and_then(|mut from| {
                let mut file = File::create(&target)?;
                io::copy(&mut from, &mut file)?;
                file.set_permissions(fs::Permissions::from_mode(facts.mode() & 0o755))
            });
            return match copied {
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                    Ok(())
                }
                other => other,
            };
        }
        if kind.is_dir() && facts.mode() & 0o005 == 0o005 && deep > 0 {
            self.folder(path, facts.mode() & 0o755)?;
            for entry in fs::read_dir(path)?.flatten() {
                self.tree(&entry.path(), deep - 1)?;
            }
        }
        Ok(())
    }

    /// Marks what not everybody may read as taken away, as an overlay does it (a device of number 0).
    fn without_closed(&mut self, path: &Path, device: u64, deep: u32) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != Path::new("/usr/local")) {
            let Ok(facts) = fs::symlink_metadata(&path) else { continue };
            if facts.file_type().is_symlink() || facts.dev() != device {
                continue;
            }
            let wanted = if facts.is_dir() { 0o005 } else { 0o004 };
            if facts.mode() & wanted != wanted || (facts.is_dir() && deep == 0) {
                self.folder(path.parent().unwrap_or(&path), 0o755)?;
                self.counted()?;
                let kind = rustix::fs::FileType::CharacterDevice;
                match rustix::fs::mknodat(rustix::fs::CWD, self.target(&path), kind, rustix::fs::Mode::empty(), 0) {
                    // What the template says instead stands.
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            } else if facts.is_dir() {
                self.without_closed(&path, device, deep - 1)?;
            }
        }
        Ok(())
    }

    /// Folders without what is in them.
    fn skeleton(&mut self, path: &Path, deep: u32) -> io::Result<()> {
        self.folder_like(path)?;
        if deep == 0 || !self.target(path).is_dir() {
            return Ok(());
        }
        // One that may not be looked into has nothing to show.
        let Ok(entries) = fs::read_dir(path) else { return Ok(()) };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            self.skeleton(&entry.path(), deep - 1)?;
        }
        Ok(())
    }
}

fn put(path: &Path, mode: u32, text: &[u8]) -> io::Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    let _ = fs::remove_file(path);
    let mut file = File::create_new(path)?;
    file.write_all(text)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// What the lists of the machine's packages tell of folders.
struct Lists {
    /// Those below `/var`.
    var: BTreeSet<PathBuf>,
    /// Those of the system that more than one package puts something in.
    shared: BTreeSet<PathBuf>,
}

impl Lists {
    fn read() -> Self {
        let (mut var, mut once, mut shared) = (BTreeSet::new(), HashSet::new(), BTreeSet::new());
        let is_link = |path: &str| fs::symlink_metadata(path).is_ok_and(|facts| facts.is_symlink());
        let merged: Vec<&str> = ["/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/"]
            .into_iter()
            .filter(|top| is_link(top.trim_end_matches('/')))
            .collect();
        for entry in fs::read_dir(Path::new(REGISTER).join("info")).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_list = path.extension().is_some_and(|end| end == "list");
            if !is_list || entry.metadata().is_ok_and(|facts| facts.len() > MAX_LIST) {
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for line in text.lines().filter(|line| line.starts_with('/') && !line.contains("/../")) {
                if line.starts_with("/var/") {
                    var.insert(PathBuf::from(line));
                } else if !line.starts_with("/etc/") && !once.insert(line.to_owned()) {
                    // Where `/lib` leads to `/usr/lib`, packages know it by both names.
                    let merged = merged.iter().find(|top| line.starts_with(**top));
                    shared.insert(PathBuf::from(if merged.is_some() {
                        format!("/usr{line}")
                    } else {
                        line.to_owned()
                    }));
                }
            }
        }
        Self { var, shared }
    }
}

/// Where packages come from is told, what is needed to be let in is not.
fn without_passwords(apt: &Path) -> io::Result<()> {
    let mut next = vec![apt.join("sources.list")];
    next.extend(fs::read_dir(apt.join("sources.list.d"))?.flatten().map(|entry| entry.path()));
    for path in next {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let kept: Vec<&str> = text.lines().filter(|line| !has_password(line)).collect();
        put(&path, 0o644, (kept.join("\n") + "\n").as_bytes())?;
    }
    Ok(())
}

/// Whether one of the addresses in a line names a user.
fn has_password(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', ' ', '\t']).next().unwrap_or_default();
        authority.contains('@')
    })
}

/// Users and groups: the distribution's own, and the workload's.
fn accounts(to: &Path) -> io::Result<()> {
    let [users, groups] = ACCOUNTS.map(|path| fs::read_to_string(path).unwrap_or_default());
    let (mut passwd, mut shadow) =
        (String::from("root:x:0:0:root:/root:/bin/bash\n"), String::from("root:*:19000:0:99999:7:::\n"));
    let (mut group, mut gshadow) = (String::from("root:x:0:\n"), String::from("root:*::\n"));
    let taken = ["root", "agent", "nobody", "nogroup", "_apt"];
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    for line in users.lines().map(fields) {
        if let [name, _, id, own, told, home, shell] = line.as_slice()
            && !taken.contains(&name.as_str())
        {
            passwd.push_str(&format!("{name}:x:{id}:{own}:{told}:{home}:{shell}\n"));
            shadow.push_str(&format!("{name}:*:19000:0:99999:7:::\n"));
        }
    }
    for line in groups.lines().map(fields) {
        if let [name, _, id, _] = line.as_slice()
            && !taken.contains(&name.as_str())
        {
            group.push_str(&format!("{name}:x:{id}:\n"));
            gshadow.push_str(&format!("{name}:*::\n"));
        }
    }
    for (name, id, own, home, shell) in [
        ("_apt", 42, 65_534, "/nonexistent", "/usr/sbin/nologin"),
        ("agent", 1_000, 1_000, "/home/agent", "/bin/bash"),
        ("nobody", 65_534, 65_534, "/nonexistent", "/usr/sbin/nologin"),
    ] {
        passwd.push_str(&format!("{name}:x:{id}:{own}:{name}:{home}:{shell}\n"));
        shadow.push_str(&format!("{name}:*:19000:0:99999:7:::\n"));
    }
    if groups.is_empty() {
        group.push_str("tty:x:5:\n");
    }
    group.push_str("agent:x:1000:\nnogroup:x:65534:\n");
    gshadow.push_str("agent:*::\nnogroup:*::\n");
    for (name, mode, text) in [
        ("etc/passwd", 0o644, passwd),
        ("etc/group", 0o644, group),
        ("etc/shadow", 0o600, shadow),
        ("etc/gshadow", 0o600, gshadow),
    ] {
        put(&to.join(name), mode, text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_name_a_user_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sources.list.d")).unwrap();
        let text = "deb http://archive.example/debian bookworm main\ndeb https://me:secret@packages.example/ x main\n\
                    deb [arch=amd64] https://token@packages.example/a b c # @\n# me@example.org\n";
        fs::write(dir.path().join("sources.list"), text).unwrap();
        without_passwords(dir.path()).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("sources.list")).unwrap(),
            "deb http://archive.example/debian bookworm main\n# me@example.org\n"
        );
    }

    #[test]
    fn what_not_everybody_may_read_and_what_is_no_file_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("closed")).unwrap();
        fs::create_dir_all(from.join("open")).unwrap();
        for (name, mode) in
            [("key", 0o600), ("group", 0o640), ("open/text", 0o644), ("open/tool", 0o4755), ("closed/text", 0o644)]
        {
            fs::write(from.join(name), name).unwrap();
            fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(from.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("/etc/shadow", from.join("open/link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, from.join("open/pipe"), rustix::fs::FileType::Fifo, 0o666.into(), 0)
            .unwrap();
        Copy { to: &to, left: 100 }.tree(&from, MAX_DEPTH).unwrap();
        let there = to.join(from.strip_prefix("/").unwrap());
        let mut names: Vec<_> =
            fs::read_dir(there.join("open")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["link", "text", "tool"]);
        assert!(fs::symlink_metadata(there.join("open/link")).unwrap().is_symlink(), "a link stays a word");
        assert_eq!(fs::metadata(there.join("open/tool")).unwrap().mode() & 0o7777, 0o755, "no set-user-id");
        assert_eq!(fs::read_dir(&there).unwrap().count(), 1, "neither keys nor closed folders");
        let many = Copy { to: &dir.path().join("few"), left: 2 }.tree(&from, MAX_DEPTH).unwrap_err();
        assert!(many.to_string().contains("more than"), "{many}");
    }

    #[test]
    fn a_template_is_made_once_and_goes_when_nobody_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let templates = dir.path().join("templates");
        let _held = lock(&templates).unwrap();
        for name in ["system-0-old", "system-0-named"] {
            fs::create_dir_all(templates.join(name).join("etc")).unwrap();
        }
        let named = || BTreeSet::from(["system-0-named".to_owned()]);
        let name = ensure(&templates, Path::new("/x/env"), true, named).unwrap();
        assert_eq!(ensure(&templates, Path::new("/x/other"), true, BTreeSet::new).unwrap(), name);
        let mut left: Vec<_> =
            fs::read_dir(&templates).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["system-0-named".to_owned(), name.clone(), "system.lock".to_owned()]);
        let etc = templates.join(name).join("etc");
        assert!(fs::read_to_string(etc.join("passwd")).unwrap().contains("agent:x:1000:1000"));
        for absent in ["machine-id", "ssh", "sudoers", "fstab", "subuid", "apt/auth.conf.d", "apt/auth.conf"] {
            assert!(!etc.join(absent).exists(), "{absent}");
        }
        let shadow = fs::read_to_string(etc.join("shadow")).unwrap();
        assert!(
            shadow.lines().all(|line| line.split(':').nth(1) == Some("*")),
            "no password, not even a hash: {shadow}"
        );
    }
}
