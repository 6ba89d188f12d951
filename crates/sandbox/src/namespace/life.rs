//! One environment's life on disk and in the kernel: made, started, killed, removed. All of it blocks.
//!
//! Nothing is held in memory: a runner that starts anew finds everything here. What must be removed later is
//! written down before it is made.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{FlockOperation, Mode, OFlags},
    process::{Pid, PidfdFlags, Signal},
};
use serde::{Deserialize, Serialize};
use stockade_domain::ids::EnvironmentId;

use super::{
    NamespaceConfig, doors,
    groups::{self, Controller, Groups, LIMITS},
    image, system,
    trust::{self, Authority},
    usage,
};
use crate::{
    EnvironmentSpec, Inside, Measured, SandboxError, System, User,
    launch::{ID_RANGE, LAYER_FOLDER, Made, PLAN_FILE, Plan, RUN_FILE, Report, Running, TRUST_FOLDER, start_of},
};

/// How long the launcher may take before it is killed.
const LAUNCHING: Duration = Duration::from_secs(30);
/// How long dying may take.
const DYING: Duration = Duration::from_secs(10);
/// The longest line the launcher may say, in bytes.
const MAX_REPORT: u64 = 16 * 1024;
/// The first id of the machine that environments have when root makes them, and how many ranges there are.
const FIRST_ID: u32 = 0x4000_0000;
const ID_RANGES: u32 = 8_192;
/// What locks of environments are called, after their ids.
const LOCK_SUFFIX: &str = ".lock";
/// What folders of environments are called that have no note yet, or nothing but it any more.
const HALF_SUFFIX: &str = ".half";
const IMAGE_FILE: &str = "files.img";
const NOTE_FILE: &str = "environment.json";
const SOCKET: &str = "guest.sock";

/// What is written down about an environment before anything is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What was asked for.
    pub spec: EnvironmentSpec,
    /// Control groups that exist, or may.
    pub groups: Vec<PathBuf>,
    /// Whether an image holds its files.
    pub image: bool,
    /// The template that its system lies above, if it is overlaid.
    #[serde(default)]
    pub template: Option<String>,
}

/// What the launcher is told of the inside.
#[derive(Debug, Clone)]
struct Told {
    variables: BTreeMap<String, String>,
    gitconfig: Option<String>,
    inside: Inside,
    trust: bool,
    template: Option<PathBuf>,
}

/// Who this process is to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Might {
    /// Whether it may do as root does: map ids, mount, give files away.
    pub root: bool,
}

impl Might {
    /// Looks at the process's own rights.
    pub fn detect() -> Self {
        // CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, SYS_ADMIN by their bits (capabilities(7)).
        const NEEDED: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 21;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let has = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
        Self { root: rustix::process::geteuid().is_root() && has & NEEDED == NEEDED }
    }
}

/// One environment, held so that nobody else changes it meanwhile.
#[derive(Debug)]
pub struct Held<'a> {
    config: &'a NamespaceConfig,
    id: EnvironmentId,
    folder: PathBuf,
    lock: File,
    lock_path: PathBuf,
}

/// An environment's folder.
pub fn folder(config: &NamespaceConfig, id: EnvironmentId) -> PathBuf {
    config.root.join(id.to_string())
}

/// The guest of a folder, if it lives.
pub fn running(folder: &Path) -> Option<Running> {
    let running: Running = serde_json::from_slice(&fs::read(folder.join(RUN_FILE)).ok()?).ok()?;
    lives(&running).then_some(running)
}

fn lives(running: &Running) -> bool {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let stat = fs::read(format!("/proc/{}/stat", running.pid)).unwrap_or_default();
    running.boot == boot.trim() && start_of(&String::from_utf8_lossy(&stat)) == Some(running.start)
}

/// A short path to an environment's socket, however long its folder's path is, good while the folder is open.
pub fn socket(folder: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let fd = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", fd.as_raw_fd()));
    Ok((fd, path))
}

/// Everything of which anything is left. What a process that was killed left of environments that were not yet, or no longer, is
/// removed on the way.
pub fn list(config: &NamespaceConfig) -> Vec<EnvironmentId> {
    let Ok(entries) = fs::read_dir(&config.root) else { return Vec::new() };
    let (mut found, mut locks) = (Vec::new(), Vec::new());
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if let Ok(id) = name.parse::<EnvironmentId>() {
            found.push(id);
        } else if let Some(Ok(id)) = name.strip_suffix(LOCK_SUFFIX).map(str::parse) {
            locks.push(id);
        }
    }
    found.sort_unstable();
    // A lock is made before all else and removed after it.
    for id in locks.into_iter().filter(|id| found.binary_search(id).is_err()) {
        if let Ok(Some(held)) = Held::at_once(config, id) {
            held.sweep();
        }
    }
    found
}

/// The templates that environments name.
fn templates_of(config: &NamespaceConfig) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(&config.root) else { return BTreeSet::new() };
    let notes = entries.flatten().filter_map(|entry| fs::read(entry.path().join(NOTE_FILE)).ok());
    notes.filter_map(|text| serde_json::from_slice::<Note>(&text).ok()?.template).collect()
}

/// What an environment uses; nothing if it is not there.
pub fn measure(folder: &Path) -> Option<Measured> {
    let note: Note = serde_json::from_slice(&fs::read(folder.join(NOTE_FILE)).ok()?).ok()?;
    let running = running(folder);
    Some(usage::measure(&note.groups, running.as_ref(), &folder.join(IMAGE_FILE), &folder.join("files")))
}

fn wait_a_little() {
    // Polling nothing is waiting.
    let _ = rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
}

impl<'a> Held<'a> {
    /// Waits until nobody else is at it.
    pub fn new(config: &'a NamespaceConfig, id: EnvironmentId) -> Result<Self, SandboxError> {
        loop {
            if let Some(held) = Self::by(config, id, FlockOperation::LockExclusive)? {
                return Ok(held);
            }
        }
    }

    /// Nothing if somebody else is at it.
    fn at_once(config: &'a NamespaceConfig, id: EnvironmentId) -> Result<Option<Self>, SandboxError> {
        Self::by(config, id, FlockOperation::NonBlockingLockExclusive)
    }

    /// Nothing if somebody else is at it, or has just deleted it.
    fn by(config: &'a NamespaceConfig, id: EnvironmentId, how: FlockOperation) -> Result<Option<Self>, SandboxError> {
        let lock_path = config.root.join(format!("{id}{LOCK_SUFFIX}"));
        let failed = |source: io::Error| SandboxError::Io { id, what: "locking", path: lock_path.clone(), source };
        if !config.root.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.root).map_err(failed)?;
        }
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed)?;
        match rustix::fs::flock(&lock, how) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            other => other.map_err(|error| failed(error.into()))?,
        }
        // Whoever held it before may have deleted the environment and the lock with it.
        let same = fs::metadata(&lock_path).and_then(|now| Ok(now.ino() == lock.metadata()?.ino())).unwrap_or(false);
        Ok(same.then(|| Self { config, id, folder: folder(config, id), lock, lock_path }))
    }

    /// A folder that is not yet the environment's, or no longer.
    fn half(&self) -> PathBuf {
        self.config.root.join(format!("{}{HALF_SUFFIX}", self.id))
    }

    /// Where images are copied from.
    fn templates(&self) -> PathBuf {
        self.config.root.join("templates")
    }

    /// Removes what was being made, or removed, when whoever did so was killed, and the lock. For one that has no folder.
    fn sweep(self) {
        let templates = self.templates();
        let removed = remove_tree(&self.half())
            .and_then(|()| image::abandon(&templates, &self.folder))
            .and_then(|()| system::abandon(&templates, &self.folder));
        match removed {
            Ok(()) => {
                let _ = fs::remove_file(&self.lock_path);
            }
            // The lock stays, and with it the knowledge; the next look finds it again.
            Err(error) => {
                tracing::warn!(environment = %self.id, %error, "what is left of environment {} cannot be removed", self.id)
            }
        }
    }

    fn io(&self, what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SandboxError + use<> {
        let (id, path) = (self.id, path.to_owned());
        move |source| SandboxError::Io { id, what, path, source }
    }

    fn note(&self) -> Option<Note> {
        serde_json::from_slice(&fs::read(self.folder.join(NOTE_FILE)).ok()?).ok()
    }

    /// Writes the note. *Invariant:* no folder of an environment is without one.
    pub fn note_down(&self, note: &Note) -> Result<(), SandboxError> {
        if self.folder.is_dir() {
            return self.write_in(&self.folder, NOTE_FILE, note);
        }
        let half = self.half();
        remove_tree(&half).map_err(self.io("removing", &half))?;
        fs::DirBuilder::new().mode(0o700).create(&half).map_err(self.io("making the folder", &half))?;
        self.write_in(&half, NOTE_FILE, note)?;
        fs::rename(&half, &self.folder).map_err(self.io("making the folder", &self.folder))
    }

    /// Writes the note of an environment, with the template that its system lies above if it is overlaid. Gives that template's folder.
    fn note_with_template(&self, mut note: Note, might: Might) -> Result<Option<PathBuf>, SandboxError> {
        if note.spec.inside.system == System::ReadOnly {
            self.note_down(&note)?;
            return Ok(None);
        }
        let templates = self.templates();
        let failed = self.io("copying the machine's system", &templates);
        // Until the note names it, nobody else may find that nobody does.
        let held = system::lock(&templates).and_then(|held| {
            let name = system::ensure(&templates, &self.folder, might.root, || templates_of(self.config))?;
            Ok((held, name))
        });
        let (_held, name) = held.map_err(failed)?;
        note.template = Some(name.clone());
        self.note_down(&note)?;
        Ok(Some(templates.join(name)))
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), SandboxError> {
        self.write_in(&self.folder, name, value)
    }

    fn write_in(&self, folder: &Path, name: &str, value: &impl Serialize) -> Result<(), SandboxError> {
        let path = folder.join(name);
        let fresh = path.with_extension("new");
        serde_json::to_vec(value)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&fresh, text))
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(self.io("noting", &path))
    }

    /// Makes it, or starts it again.
    pub fn create(&self, spec: &EnvironmentSpec) -> Result<(), SandboxError> {
        if running(&self.folder).is_some() {
            return Ok(());
        }
        let had = self.note();
        let class = &spec.class;
        let bad = |why: &str| Err(SandboxError::BadSpec { id: self.id, why: why.to_owned() });
        if class.disk_bytes < image::LEAST_DISK {
            return bad("its class gives less than 16 MiB of disk");
        }
        if class.memory_bytes < 16 << 20 || class.processes < 4 || class.open_files < 16 || class.cpu_millis < 10 {
            return bad(
                "its class gives less than 16 MiB of memory, 4 processes, 16 open files or 10 thousandths of a core",
            );
        }
        if let Some(text) = &spec.certificate
            && let Err(why) = Authority::read(text)
        {
            return bad(why);
        }
        if let Some(why) = spec.wrong() {
            return bad(why);
        }
        for path in &self.config.extra_read_only {
            if let Some(why) = crate::wrong_to_show(path) {
                return bad(&format!("`{}` of extra_read_only {why}", path.display()));
            }
        }
        self.start(spec, had)
    }

    /// Starts it again as it was made.
    pub fn restart(&self) -> Result<(), SandboxError> {
        let note = self.note().ok_or(SandboxError::Unknown { id: self.id })?;
        self.start(&note.spec.clone(), Some(note))
    }

    fn may_lack(&self, capability: &str) -> bool {
        self.config.allow_degraded.iter().any(|allowed| allowed == capability)
    }

    /// What the machine does not give is a refusal, or said loudly.
    fn without(&self, capability: &str, why: String) -> Result<(), SandboxError> {
        if self.may_lack(capability) {
            tracing::warn!(environment = %self.id, capability, why, "environment {} goes without its {capability} limit", self.id);
            return Ok(());
        }
        Err(SandboxError::Unavailable { capability: capability.to_owned(), why })
    }

    fn start(&self, spec: &EnvironmentSpec, had: Option<Note>) -> Result<(), SandboxError> {
        if let Some(note) = &had {
            self.kill(note)?;
        }
        let might = Might::detect();
        let groups = Groups::detect();
        let launcher = self.helper("stockade-launch")?;
        let guest = self.helper("stockade-guest")?;

        // First what will be needed, then the note of it, then the making.
        let mut places = Vec::new();
        let mut missing = Vec::new();
        for controller in LIMITS.into_iter().chain([Controller::Kill]) {
            match groups.place(controller, self.id) {
                Ok(place) => places.push((controller, place)),
                Err(why) => missing.push((controller, why)),
            }
        }
        let image = match (&had, image::available(might.root)) {
            (Some(had), Ok(maker)) if had.image => Some(maker),
            (Some(had), Err(why)) if had.image => {
                return Err(SandboxError::Unavailable { capability: "disk".into(), why });
            }
            (Some(_), _) => None,
            (None, Ok(maker)) => Some(maker),
            (None, Err(why)) => {
                self.without("disk", why)?;
                None
            }
        };
        let mut spec = spec.clone();
        if let Some(had) = &had {
            // The image has the size that it has.
            spec.class.disk_bytes = had.spec.class.disk_bytes;
        }
        let class = spec.class.clone();
        let authority = spec.certificate.as_deref().and_then(|text| Authority::read(text).ok());
        let mut noted: Vec<PathBuf> = places.iter().map(|(_, (path, _))| path.clone()).collect();
        // What an earlier start had, in another place of the hierarchy, is not forgotten.
        noted.extend(had.iter().flat_map(|had| had.groups.clone()));
        noted.sort_unstable();
        noted.dedup();
        let inside = spec.inside;
        let told = Told {
            variables: spec.variables.clone(),
            gitconfig: spec.gitconfig.clone(),
            inside,
            trust: authority.is_some(),
            template: self
                .note_with_template(Note { spec, groups: noted, image: image.is_some(), template: None }, might)?,
        };
        self.write_trust(authority.as_ref())?;
        let layer = self.folder.join(LAYER_FOLDER);
        remove_tree(&layer).map_err(self.io("removing", &layer))?;
        if told.template.is_some() {
            let trust = self.folder.join(TRUST_FOLDER);
            system::layer(&layer, told.gitconfig.as_deref(), authority.is_some().then_some(trust.as_path()))
                .map_err(self.io("writing its own part of the system", &layer))?;
        }
        let mut made = self.launch(
            might,
            &groups,
            &class,
            &places,
            missing.clone(),
            image.clone(),
            told.clone(),
            &launcher,
            &guest,
        );
        if let Err(SandboxError::Unavailable { capability, why }) = &made
            && capability == "overlay"
            && self.may_lack(capability)
        {
            self.without("overlay", why.clone())?;
            self.write_trust(authority.as_ref())?;
            let inside = Inside { system: System::ReadOnly, user: User::Agent, ..inside };
            let told = Told { inside, template: None, ..told };
            made = self.launch(might, &groups, &class, &places, missing, image, told, &launcher, &guest);
        }
        if made.is_err() && had.is_none() {
            // What never ran leaves nothing.
            let _ = self.delete();
        }
        made
    }

    /// Writes what its tools trust. Anew each time: the machine may trust others by now.
    fn write_trust(&self, authority: Option<&Authority>) -> Result<(), SandboxError> {
        let trust = self.folder.join(TRUST_FOLDER);
        remove_tree(&trust).map_err(self.io("removing", &trust))?;
        let Some(authority) = authority else { return Ok(()) };
        trust::write(&trust, authority).map_err(self.io("writing what it trusts", &trust))
    }

    #[expect(clippy::too_many_arguments, reason = "the second half of one step, split to undo it in one place")]
    fn launch(
        &self,
        might: Might,
        groups: &Groups,
        class: &crate::Class,
        places: &[(Controller, (PathBuf, bool))],
        mut missing: Vec<(Controller, String)>,
        image: Option<PathBuf>,
        told: Told,
        launcher: &Path,
        guest: &Path,
    ) -> Result<(), SandboxError> {
        let mut joined: Vec<PathBuf> = Vec::new();
        for (controller, place) in places {
            match groups.make(*controller, place, class) {
                Ok(()) => joined.push(place.0.join("cgroup.procs")),
                Err(why) => missing.push((*controller, why)),
            }
        }
        joined.sort_unstable();
        joined.dedup();
        let mut data_bytes = None;
        for (controller, why) in missing {
            match controller {
                Controller::Memory => {
                    self.without("memory", why)?;
                    data_bytes = Some(class.memory_bytes);
                }
                Controller::Cpu => self.without("cpu", why)?,
                // The workload's user namespace holds one user, and RLIMIT_NPROC counts within it: that holds too.
                // And the end of the guest is the end of its process-id namespace.
                Controller::Processes | Controller::Kill => {}
            }
        }
        let image_path = self.folder.join(IMAGE_FILE);
        if let Some(maker) = &image {
            image::ensure(maker, &self.templates(), &image_path, class.disk_bytes)
                .map_err(self.io("making the image", &image_path))?;
        }
        let [.., r0, r1, r2, r3] = *self.id.as_bytes();
        let slot = u32::from_be_bytes([r0, r1, r2, r3]) % ID_RANGES;
        self.write(
            PLAN_FILE,
            &Plan {
                folder: self.folder.clone(),
                guest: guest.to_owned(),
                id_base: might.root.then(|| FIRST_ID + slot * ID_RANGE),
                watch_bytes: image.is_none().then_some(class.disk_bytes),
                image: image.map(|_| image_path),
                cgroups: joined,
                trust: told.trust,
                variables: told.variables,
                gitconfig: told.gitconfig,
                inside: told.inside,
                template: told.template,
                extra_read_only: self.config.extra_read_only.clone(),
                processes: class.processes,
                open_files: class.open_files,
                file_bytes: class.disk_bytes,
                data_bytes,
                shm_bytes: class.memory_bytes / 2,
                without_landlock: self.may_lack("landlock"),
                without_scopes: self.may_lack("landlock_scopes"),
            },
        )?;
        self.run_launcher(launcher)
    }

    fn helper(&self, name: &str) -> Result<PathBuf, SandboxError> {
        let path = self.config.helpers.join(name);
        let usable = fs::metadata(&path).and_then(|facts| {
            // The guest starts as another user, who must be able to run it.
            if facts.is_file() && facts.permissions().mode() & 0o111 != 0 {
                Ok(())
            } else {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not marked executable"))
            }
        });
        match usable.and_then(|()| path.canonicalize()) {
            Ok(path) => Ok(path),
            Err(source) => Err(SandboxError::Helper { path, source }),
        }
    }

    fn run_launcher(&self, launcher: &Path) -> Result<(), SandboxError> {
        let listen = || -> io::Result<UnixListener> {
            let (_open, path) = socket(&self.folder)?;
            let _ = fs::remove_file(&path);
            UnixListener::bind(&path)
        };
        let listener = listen().map_err(self.io("listening", &self.folder.join(SOCKET)))?;
        let spawn = || -> io::Result<_> {
            Command::new(launcher)
                .arg("start")
                .arg(&self.folder)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::from(OwnedFd::from(listener)))
                .stdout(Stdio::piped())
                // The lock stays held until the launcher ends, even if this process is killed meanwhile.
                .stderr(Stdio::from(self.lock.try_clone()?))
                .spawn()
        };
        let mut child = spawn().map_err(|source| SandboxError::of_helper(launcher, source))?;
        let mut said = Vec::new();
        let mut in_time = true;
        if let Some(out) = child.stdout.take() {
            let end = Instant::now() + LAUNCHING;
            in_time = wait_readable(out.as_fd(), end);
            if in_time {
                let _ = out.take(MAX_REPORT).read_to_end(&mut said);
            }
        }
        if !in_time {
            let _ = child.kill();
        }
        let _ = child.wait();
        let failed = |step: String, message: String| Err(SandboxError::Launch { id: self.id, step, message });
        match serde_json::from_slice(&said) {
            Ok(Report::Started(_)) => Ok(()),
            Ok(Report::Failed { step, message }) if matches!(step.as_str(), "landlock" | "landlock_scopes") => {
                Err(SandboxError::Unavailable { capability: step, why: message })
            }
            Ok(Report::Failed { step, message }) if step.starts_with("overlay") => {
                Err(SandboxError::Unavailable { capability: "overlay".into(), why: format!("{step}: {message}") })
            }
            Ok(Report::Failed { step, message }) => failed(step, message),
            Err(_) if !in_time => failed("starting".into(), format!("nothing came of it in {LAUNCHING:?}")),
            Err(_) => failed("starting".into(), "the launcher ended without a word".into()),
        }
    }

    /// Has its doors made.
    pub fn doors(&self) -> Result<(Made, Vec<OwnedFd>), SandboxError> {
        if running(&self.folder).is_none() {
            return Err(SandboxError::Gone { id: self.id });
        }
        doors::make(&self.helper("stockade-launch")?, &self.folder, self.id, !self.config.without_redirection)
    }

    /// Kills everything, keeps the files.
    pub fn stop(&self) -> Result<(), SandboxError> {
        self.note().map_or(Ok(()), |note| self.kill(&note))
    }

    fn kill(&self, note: &Note) -> Result<(), SandboxError> {
        let end = Instant::now() + DYING;
        if let Some(guest) = running(&self.folder)
            && let Some(pid) = Pid::from_raw(guest.pid)
            && let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            // Looked at again: the handle is now the process's own, whoever has the number later.
            && lives(&guest)
        {
            let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
            // Its end is the end of everything in its process-id namespace, and is told only after that.
            if !wait_readable(handle.as_fd(), end) {
                return Err(SandboxError::Survivors { id: self.id, count: 1 });
            }
        }
        loop {
            let mut left = 0;
            for group in &note.groups {
                let members = groups::members(group);
                left += members.len();
                if !members.is_empty() {
                    groups::kill(group);
                }
                for pid in members.into_iter().filter_map(Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            if left == 0 {
                break;
            }
            if Instant::now() > end {
                return Err(SandboxError::Survivors { id: self.id, count: left });
            }
            wait_a_little();
        }
        let _ = fs::remove_file(self.folder.join(RUN_FILE));
        Ok(())
    }

    /// Kills everything and removes every trace.
    pub fn delete(&self) -> Result<(), SandboxError> {
        if let Some(note) = self.note() {
            self.kill(&note)?;
            let end = Instant::now() + DYING;
            for group in &note.groups {
                // The last process may still be on its way out of the group.
                while let Err(error) = groups::remove(group) {
                    if Instant::now() > end {
                        return Err(self.io("removing the control group", group)(error));
                    }
                    wait_a_little();
                }
            }
        }
        // The note goes last: as long as anything is left, it is known what.
        if let Ok(entries) = fs::read_dir(&self.folder) {
            for entry in entries.flatten().filter(|entry| entry.file_name() != NOTE_FILE) {
                remove_tree(&entry.path()).map_err(self.io("removing", &entry.path()))?;
            }
        }
        let half = self.half();
        remove_tree(&half).map_err(self.io("removing", &half))?;
        match fs::rename(&self.folder, &half) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(self.io("removing", &self.folder))?,
        }
        remove_tree(&half).map_err(self.io("removing", &half))?;
        let templates = self.templates();
        image::abandon(&templates, &self.folder)
            .and_then(|()| system::abandon(&templates, &self.folder))
            .map_err(self.io("removing", &templates))?;
        let _ = fs::remove_file(&self.lock_path);
        Ok(())
    }
}

/// Whether something came before the time.
fn wait_readable(fd: std::os::fd::BorrowedFd<'_>, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Removes a tree, also below folders that their owner may not enter.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let facts = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !facts.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => return other,
    }
    // Nothing of the environment lives any more, so nobody swaps a folder for a link between these two.
    let mut next = vec![path.to_owned()];
    while let Some(folder) = next.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                next.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_closed_folders_is_removed_and_what_links_point_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/c"), "x").unwrap();
        fs::write(&other, "stays").unwrap();
        std::os::unix::fs::symlink(&other, tree.join("a/link")).unwrap();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o0)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(other.exists());
    }
}
