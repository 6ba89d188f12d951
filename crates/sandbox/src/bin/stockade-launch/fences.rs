//! The fences that the guest puts around each process of the workload: a seccomp filter and a Landlock ruleset.
//!
//! They are made here, where the crates for them are, and handed over as descriptors; the guest itself must
//! still be able to enter the workload's user namespace, so they are not its own.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};
use stockade_sandbox::{
    Inside, User,
    launch::{Plan, SYSTEM},
};

use crate::{Failure, Step, sys};

/// Where the workload may write, make and remove, beside its home.
const WRITABLE: [&str; 6] = ["/workspace", "/tmp", "/run/stockade/transfer", "/dev", "/proc", "/dev/shm"];

/// And where the system is its own.
const OVERLAID: [&str; 3] = ["/etc", "/var", "/run"];

/// The oldest Landlock that is enough: renames and links between folders are governed from this on.
const LEAST: ABI = ABI::V2;

/// The newest whose rights are asked for where the kernel has them.
const BEST: ABI = ABI::V5;

/// The oldest that keeps signals and abstract sockets within.
const SCOPES: ABI = ABI::V6;

/// What of Landlock an environment may go without.
#[derive(Debug, Clone, Copy)]
pub struct Without {
    /// All of it.
    pub landlock: bool,
    /// That signals and abstract sockets end at the fence.
    pub scopes: bool,
}

/// What the ruleset says of files.
#[derive(Debug, Clone)]
pub enum Files {
    /// These can be written, the others read.
    Writable(Vec<PathBuf>),
    /// Nothing: where it says anything of files, the kernel lets nobody mount.
    Unsaid,
}

impl Files {
    /// What a plan asks for.
    pub fn of(plan: &Plan, overlaid: bool) -> Self {
        if plan.inside.nested {
            return Self::Unsaid;
        }
        let mut writable: Vec<PathBuf> = WRITABLE.iter().map(PathBuf::from).collect();
        writable.push(Path::new("/").join(plan.home()));
        if overlaid {
            // A layer is a hierarchy of its own to Landlock: these are the overlays, and no mount leads to what is below.
            let system = SYSTEM.iter().chain(&OVERLAID).map(PathBuf::from);
            writable.extend(system.filter(|path| fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir())));
        }
        Self::Writable(writable)
    }
}

/// The Landlock ruleset; nothing if the machine has none and the plan goes on without.
pub fn landlock(without: Without, files: Files) -> Result<Option<OwnedFd>, Failure> {
    let ruleset = |scopes| match &files {
        Files::Writable(writable) => ruleset(scopes, writable),
        // Only scopes are left.
        Files::Unsaid if scopes => only_scopes(),
        Files::Unsaid => Ok(None),
    };
    match ruleset(true).or_else(|error| if without.scopes { ruleset(false) } else { Err(error) }) {
        Ok(Some(fd)) => Ok(Some(fd)),
        Ok(None) if matches!(files, Files::Unsaid) && without.scopes => Ok(None),
        _ if without.landlock => Ok(None),
        Err(error) if matches!(files, Files::Unsaid) => Err(error).step("landlock_scopes"),
        // What is missing is named as closely as it can be.
        Err(error) if matches!(ruleset(false), Ok(Some(_))) => Err(error).step("landlock_scopes"),
        Ok(None) => Err("the kernel has no Landlock").step("landlock"),
        Err(error) => Err(error).step("landlock"),
    }
}

fn only_scopes() -> Result<Option<OwnedFd>, landlock::RulesetError> {
    let wanted = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).scope(Scope::from_all(SCOPES))?;
    Ok(wanted.create()?.into())
}

fn ruleset(scopes: bool, writable: &[PathBuf]) -> Result<Option<OwnedFd>, landlock::RulesetError> {
    let read = AccessFs::from_read(BEST);
    let mut wanted =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::from_all(LEAST))?;
    if scopes {
        wanted = wanted.scope(Scope::from_all(SCOPES))?;
    }
    let created = wanted
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(BEST))?
        .create()?
        .add_rules(path_beneath_rules(["/"], read))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(BEST)))?;
    Ok(created.into())
}

/// What no workload has business with. Refused with EPERM.
const REFUSED: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_vhangup,
    libc::SYS_kcmp,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// What only who makes namespaces inside has business with: refused with EPERM to everybody else.
const NESTING: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    SYS_OPEN_TREE_ATTR,
];

/// What programs ask for politely and do without. Refused with ENOSYS, as an older kernel would: clone3 carries
/// its flags in memory, where no filter can read them, and io_uring does what the filter would refuse.
const ABSENT: &[i64] =
    &[libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Not yet in libc: open_tree(2) with attributes, the same number everywhere.
const SYS_OPEN_TREE_ATTR: i64 = 467;

const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    // CLONE_NEWTIME is a signal number to clone(2) and is added for unshare(2) alone.
    0,
];
const CLONE_NEWTIME: u64 = 0x80;
/// Options of sockets that set the rules of netfilter's old tables, by level: whoever is root of a network namespace of his own could reach
/// them through any socket (`IPT_BASE_CTL`, `ARPT_BASE_CTL`, `EBT_BASE_CTL`, `IP6T_BASE_CTL`, and the next after each).
const OLD_TABLES: [(u64, u64); 8] = [(0, 64), (0, 65), (0, 96), (0, 97), (0, 128), (0, 129), (41, 64), (41, 65)];
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;
/// Gives a terminal a line discipline, which the kernel loads as a module: old code that few look at.
const TIOCSETD: u64 = 0x5423;
/// Kinds of sockets of the internet's families that are neither streams nor datagrams: raw, reliably delivered, in packets that stay apart
/// (SCTP), with congestion control (DCCP), of a device.
const STRANGE_KINDS: [u64; 5] = [3, 4, 5, 6, 10];
/// The kind without the flags that come with it.
const KIND: u64 = 0x0F;

/// The seccomp programs, one after another in a memory file: each is a count (u32, native order) and that many
/// instructions of eight bytes.
pub fn seccomp(inside: Inside) -> Result<OwnedFd, Failure> {
    let step = "seccomp";
    let mut bytes = Vec::new();
    for program in programs(inside).step(step)? {
        bytes.extend(u32::try_from(program.len()).step(step)?.to_ne_bytes());
        for sock_filter { code, jt, jf, k } in program {
            bytes.extend(code.to_ne_bytes());
            bytes.extend([jt, jf]);
            bytes.extend(k.to_ne_bytes());
        }
    }
    let file = rustix::fs::memfd_create("seccomp", rustix::fs::MemfdFlags::CLOEXEC).step(step)?;
    sys::write_all(&file, &bytes).step(step)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).step(step)?;
    Ok(file)
}

fn programs(inside: Inside) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let nested = inside.nested;
    let condition = |arg, op, value| SeccompCondition::new(arg, Dword, op, value);
    let nesting = NESTING.iter().filter(|_| !nested);
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(nesting).map(|call| (*call, Vec::new())).collect();
    if nested {
        let tables = OLD_TABLES
            .iter()
            .map(|(level, option)| SeccompRule::new(vec![condition(1, Eq, *level)?, condition(2, Eq, *option)?]));
        refused.insert(libc::SYS_setsockopt, tables.collect::<Result<_, _>>()?);
    }

    for call in [libc::SYS_clone, libc::SYS_unshare].into_iter().filter(|_| !nested) {
        let mut rules = Vec::new();
        for flag in NAMESPACES.iter().filter(|flag| **flag != 0).map(|flag| u64::from(flag.cast_unsigned())) {
            rules.push(SeccompRule::new(vec![condition(0, MaskedEq(flag), flag)?])?);
        }
        if call == libc::SYS_unshare {
            rules.push(SeccompRule::new(vec![condition(0, MaskedEq(CLONE_NEWTIME), CLONE_NEWTIME)?])?);
        }
        refused.insert(call, rules);
    }
    let family = |value: libc::c_int| u64::from(value.cast_unsigned());
    let (unix, inet, inet6, netlink) =
        (family(libc::AF_UNIX), family(libc::AF_INET), family(libc::AF_INET6), family(libc::AF_NETLINK));
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let other = vec![
            condition(0, Ne, unix)?,
            condition(0, Ne, inet)?,
            condition(0, Ne, inet6)?,
            condition(0, Ne, netlink)?,
        ];
        let not_route = vec![condition(0, Eq, netlink)?, condition(2, Ne, family(libc::NETLINK_ROUTE))?];
        let mut rules = vec![SeccompRule::new(other)?, SeccompRule::new(not_route)?];
        for ours in [inet, inet6] {
            for kind in STRANGE_KINDS {
                rules.push(SeccompRule::new(vec![condition(0, Eq, ours)?, condition(1, MaskedEq(KIND), kind)?])?);
            }
            // Whatever the kind stands for by itself, TCP and UDP: not SCTP, L2TP, ICMP and what else the kernel would load.
            let mut others = vec![condition(0, Eq, ours)?];
            for protocol in [libc::IPPROTO_IP, libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
                others.push(condition(2, Ne, family(protocol))?);
            }
            rules.push(SeccompRule::new(others)?);
        }
        refused.insert(call, rules);
    }
    let pushing = [TIOCSTI, TIOCLINUX, TIOCSETD].map(|request| SeccompRule::new(vec![condition(1, Eq, request)?]));
    refused.insert(libc::SYS_ioctl, pushing.into_iter().collect::<Result<_, _>>()?);

    let absent: BTreeMap<i64, Vec<SeccompRule>> = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into()?;
    let compile = |rules, errno: libc::c_int| -> Result<BpfProgram, seccompiler::BackendError> {
        let action = SeccompAction::Errno(errno.cast_unsigned());
        SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()
    };
    let mut programs = vec![compile(refused, libc::EPERM)?, compile(absent, libc::ENOSYS)?];
    if inside.user == User::Root {
        // What makes accounts asks the kernel's audit first, and goes on without where the kernel has none: of two filters that refuse, the
        // later one's word is told.
        let audit = vec![condition(0, Eq, netlink)?, condition(2, Eq, family(libc::NETLINK_AUDIT))?];
        let none = BTreeMap::from([(libc::SYS_socket, vec![SeccompRule::new(audit)?])]);
        programs.push(compile(none, libc::EPROTONOSUPPORT)?);
    }
    if cfg!(target_arch = "x86_64") {
        programs.push(no_x32());
    }
    Ok(programs)
}

/// The x32 numbers of the same calls would pass all of the above: refused as a whole.
fn no_x32() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    const ALLOW: u32 = 0x7FFF_0000;
    let errno = 0x0005_0000 | libc::ENOSYS.cast_unsigned();
    vec![
        // Load the number of the call; from the x32 bit on, refuse.
        sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
        sock_filter { code: 0x35, jt: 0, jf: 1, k: X32 },
        sock_filter { code: 0x06, jt: 0, jf: 0, k: errno },
        sock_filter { code: 0x06, jt: 0, jf: 0, k: ALLOW },
    ]
}

/// Whether the filter can be made and put on. For `probe`, in a process that ends right after.
pub fn try_seccomp() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    for program in programs(Inside::default()).map_err(io::Error::other)? {
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}
