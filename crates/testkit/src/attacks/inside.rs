//! The attacks on the box: each a few lines of Python that an agent's command could be, and what becomes of it.
//!
//! It owns the rows that need nothing but a command inside; nobody stands at the doors but somebody who ends each stream at once.

/// One attack.
#[derive(Debug)]
pub struct Attack {
    /// The row of the list that it belongs to.
    pub row: &'static str,
    /// What is tried.
    pub what: &'static str,
    /// How: Python, with the words of [`PRELUDE`].
    pub script: &'static str,
    /// What it says, exactly.
    pub outcome: &'static str,
}

/// What the scripts may use: `tell` says the value of a function or the name of the error, `call` is a system call.
pub const PRELUDE: &str = r#"
import ctypes, errno, os, pathlib, signal, socket, struct, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *given):
    got = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(x) if isinstance(x, int) else x for x in given])
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got
def tell(*tries):
    said = []
    for one in tries:
        try:
            said.append(str(one()))
        except OSError as error:
            said.append(errno.errorcode.get(error.errno, str(error)))
        except subprocess.CalledProcessError as error:
            said.append('failed')
    print(' '.join(dict.fromkeys(said)))
def shut(act):
    # Which of a mount, a mode and a fence is asked first differs between root and others; that each refuses does not.
    def tried():
        try:
            return act()
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return 'refused'
            raise
    return tried
def read(path):
    return lambda: open(path, 'rb').read(64) and 'read'
def write(path, text=b'1'):
    def act():
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, text)
        return 'written'
    return act
def run(*words):
    return lambda: subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) and 'ran'
def to(where, kind=socket.SOCK_STREAM):
    def act():
        s = socket.socket(socket.AF_INET6 if ':' in where[0] else socket.AF_INET, kind)
        s.settimeout(10)
        s.connect(where)
        return 'through' if s.recv(1) else 'ended'
    return act
"#;

/// All of them. Where root and a plain user see different errors, both are the kernel's own for the same refusal, and the script says one
/// word for them.
pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "N17",
        what: "connect to the doors themselves",
        script: "tell(to(('127.0.0.1', 1)), to(('127.0.0.1', 53))); tell(to(('198.18.0.1', 1)), to(('198.18.0.1', 53)))",
        outcome: "ECONNREFUSED\nended",
    },
    Attack {
        row: "N18",
        what: "leave by IPv6: global, local, link-local addresses; a forged router's word",
        script: "tell(to(('2606:4700::1111', 443)), to(('fd00::7', 22)), to(('64:ff9b::a9fe:a9fe', 80))); \
                 tell(lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58))",
        outcome: "ended\nEPERM",
    },
    Attack {
        row: "N19",
        what: "sockets that are no streams: ICMP, SCTP, DCCP, raw, packet, XDP, crypto, netlink of the kernel",
        script: "tell(*[lambda f=f, k=k, p=p: socket.socket(f, k, p) and 'made' for f, k, p in \
                 [(2, 2, 1), (2, 3, 1), (2, 3, 255), (2, 5, 132), (2, 1, 132), (2, 6, 33), (10, 2, 58), (10, 3, 58), (17, 3, 768), (44, 3, 0), (38, 5, 0)] \
                 + [(16, 3, p) for p in range(1, 23)]])",
        outcome: "EPERM",
    },
    Attack {
        row: "N20",
        what: "a socket to the hypervisor, and other families",
        script: "tell(*[lambda f=f, k=k: socket.socket(f, k, 0) and 'made' for f in [40, 31, 29, 9, 4, 5, 21, 24, 27, 30, 33, 36, 37, 39, 41, 43] for k in [1, 2, 5]])",
        outcome: "EPERM",
    },
    Attack {
        row: "N21",
        what: "io_uring, whose operations no filter sees",
        script: "tell(lambda: call(425, 1, ctypes.create_string_buffer(200)), lambda: call(426, 0, 0, 0, 0, 0, 0), lambda: call(427, 0, 0, 0, 0))",
        outcome: "ENOSYS",
    },
    Attack {
        row: "N22",
        what: "new namespaces by unshare, clone and clone3; the machine's by setns",
        script: "tell(*[lambda flag=flag: call(272, flag) for flag in [0x10000000, 0x40000000, 0x20000, 0x20000000, 0x8000000, 0x4000000, 0x2000000, 0x80]], \
                 lambda: call(56, 0x10000011, 0, 0, 0, 0)); tell(lambda: call(435, ctypes.create_string_buffer(88), 88)); \
                 fd = os.open('/proc/self/ns/net', 0); tell(lambda: call(308, fd, 0), run('ip', 'netns', 'add', 'x') if os.path.exists('/usr/sbin/ip') else lambda: call(308, fd, 0)); \
                 tell(lambda: os.open('/proc/1/ns/net', 0))",
        outcome: "EPERM\nENOSYS\nEPERM failed\nENOENT",
    },
    Attack {
        row: "N23",
        what: "take the rules and routes away, change the interface and the network's settings",
        script: "import fcntl\n\
                 def route(kind, body):\n\
                 \x20   s = socket.socket(16, 3, 0); s.settimeout(10)\n\
                 \x20   s.send(struct.pack('IHHII', 16 + len(body), kind, 5, 1, 0) + body)\n\
                 \x20   code = -struct.unpack_from('i', s.recv(4096), 16)[0]\n\
                 \x20   raise OSError(code, '')\n\
                 tell(lambda: route(25, bytes([2, 0, 0, 0, 255, 0, 0, 2, 0, 0, 0, 0])), lambda: route(17, struct.pack('BBHiII', 0, 0, 0, 1, 0, 0)), \
                 lambda: fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 0) + bytes(14)))\n\
                 tell(lambda: socket.socket(16, 3, 12))\n\
                 tell(*[shut(write(path)) for path in ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/lo/disable_ipv6']])",
        outcome: "EPERM\nEPERM\nrefused",
    },
    Attack {
        row: "N24",
        what: "find a socket of somebody else: by name, by path, in the kernel's list",
        script: "names = open('/proc/net/unix').read().splitlines()[1:]\n\
                 found = [p for d in ['/run', '/tmp', '/var', '/home', '/dev'] for p in pathlib.Path(d).rglob('*') if p.is_socket()]\n\
                 print(len(names), len(found))\n\
                 def unix(name):\n\
                 \x20   return lambda: socket.socket(socket.AF_UNIX).connect(name)\n\
                 tell(*[unix(name) for name in ['/var/run/docker.sock', '/run/dbus/system_bus_socket', '/run/containerd/containerd.sock', '/run/systemd/private', '/run/podman/podman.sock']])\n\
                 tell(*[unix('\\0' + name) for name in ['/tmp/.X11-unix/X0', '/containerd-shim/x', 'stockade']])",
        outcome: "0 0\nENOENT\nECONNREFUSED",
    },
    Attack {
        row: "N25",
        what: "use what was inherited: descriptors, variables, the parent's",
        script: "print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')) - 1)\n\
                 tell(*[lambda n=n: os.listdir(f'/proc/{os.getppid()}/fd/{n}/') for n in range(4)] + [read(f'/proc/{os.getppid()}/environ')]) \n\
                 print([n for n in os.environ if n.startswith(('AWS', 'SSH', 'GITHUB', 'ANTHROPIC', 'CARGO', 'RUST'))])",
        outcome: "[0, 1, 2] 3\nEACCES\n[]",
    },
    Attack {
        row: "F1",
        what: "read keys, passwords and other people's files",
        script: "tell(*[read(path) for path in ['/etc/shadow', '/etc/gshadow', '/etc/sudoers', '/etc/machine-id', '/root/.ssh/id_ed25519', '/root/.bash_history', \
                 '/etc/ssh/ssh_host_ed25519_key', '/var/lib/docker', '/var/log/syslog', '/proc/1/root/etc/shadow', '/etc/ssl/private', '/boot/vmlinuz', '/srv', '/media']]); \
                 print(os.listdir('/home'), os.listdir('/root'), os.listdir('/mnt'))",
        outcome: "ENOENT\n['agent'] [] []",
    },
    Attack {
        row: "F2",
        what: "leave the root by links, `..`, magic links, handles, and files without a name",
        script: "os.chdir('/workspace')\n\
                 tell(read('/proc/self/root/../../../../etc/shadow'), read('/proc/self/cwd/../../../etc/shadow'))\n\
                 tell(lambda: os.link('/etc/passwd', 'hard'), lambda: os.link('/usr/bin/su', 'hard'))\n\
                 tell(lambda: os.rename('/etc', '/workspace/etc'))\n\
                 fd = os.open('/usr', 0)\n\
                 tell(lambda: os.open('x', os.O_RDWR | os.O_CREAT, dir_fd=fd), lambda: os.open('/usr', os.O_RDWR | os.O_TMPFILE))\n\
                 tell(lambda: call(161, ctypes.c_char_p(b'/tmp')), lambda: call(304, fd, ctypes.create_string_buffer(128), 0), lambda: call(155, ctypes.c_char_p(b'/tmp'), ctypes.c_char_p(b'/tmp')))\n\
                 t = os.open('/tmp', os.O_RDWR | os.O_TMPFILE, 0o777)\n\
                 tell(lambda: os.link(f'/proc/self/fd/{t}', '/usr/bin/mine', follow_symlinks=True))",
        outcome: "ENOENT\nEXDEV\nEXDEV\nEROFS\nEPERM\nEROFS",
    },
    Attack {
        row: "F4",
        what: "mount, bind over, remount, unmount, by the old calls and the new; device nodes, FUSE",
        script: "c = ctypes.c_char_p\n\
                 tell(lambda: call(165, c(b'none'), c(b'/tmp'), c(b'tmpfs'), 0, 0), lambda: call(165, c(b'/tmp'), c(b'/usr'), 0, 4096, 0), \
                 lambda: call(165, c(b'none'), c(b'/usr'), 0, 4096 | 32, 0), lambda: call(166, c(b'/proc/1'), 2), lambda: call(428, -100, c(b'/usr'), 1), \
                 lambda: call(429, -100, c(b'/tmp'), -100, c(b'/usr'), 0), lambda: call(430, c(b'tmpfs'), 0), lambda: call(442, -100, c(b'/usr'), 0, ctypes.create_string_buffer(32), 32), \
                 lambda: call(467, -100, c(b'/usr'), 1, 0, 0))\n\
                 tell(*[lambda kind=kind: os.mknod('/workspace/node', kind | 0o666, os.makedev(1, 1)) for kind in [0o020000, 0o060000]])\n\
                 tell(read('/dev/fuse'), read('/dev/kvm'), read('/dev/mem'), read('/dev/sda'), read('/dev/loop-control'))",
        outcome: "EPERM\nEPERM\nENOENT",
    },
    Attack {
        row: "F6",
        what: "act on the kernel through /proc and /sys",
        script: "tell(*[shut(write(path)) for path in ['/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/proc/sys/vm/drop_caches', '/proc/sys/kernel/hostname', '/proc/sys/user/max_user_namespaces', '/proc/sys/fs/binfmt_misc/register']])\n\
                 tell(*[write(path) for path in ['/sys/kernel/uevent_helper', '/sys/power/state', '/sys/fs/cgroup/cgroup.procs', '/sys/module/x']])\n\
                 print([p for p in ['/proc/kallsyms', '/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/interrupts', '/proc/iomem'] if os.path.exists(p) and open(p, 'rb').read(9)])\n\
                 os.path.exists('/proc/sysrq-trigger') and write('/proc/sysrq-trigger', b'b')()\n\
                 print('still there')",
        outcome: "refused ENOENT\nENOENT\n[]\nstill there",
    },
    Attack {
        row: "P1",
        what: "trace, read, signal and rob the guest, its supervisors, and processes of the machine",
        script: "p = os.getppid(); b = ctypes.create_string_buffer(64); v = struct.pack('QQ', ctypes.addressof(b), 64)\n\
                 tell(*[lambda pid=pid: call(101, 16, pid, 0, 0) for pid in [1, p]], *[lambda pid=pid: call(310, pid, v, 1, v, 1, 0) for pid in [1, p]], *[lambda pid=pid: call(311, pid, v, 1, v, 1, 0) for pid in [1, p]])\n\
                 tell(*[lambda pid=pid: call(438, call(434, pid, 0), 3, 0) for pid in [1, p]])\n\
                 tell(*[lambda s=s: os.kill(1, s) for s in [0, 9, 19, 15, 11]])\n\
                 tell(*[lambda pid=pid: os.kill(pid, 0) for pid in range(300, 4000)])\n\
                 tell(lambda: os.open('/proc/1/mem', 2), lambda: os.listdir('/proc/1/fd'))\n\
                 tell(lambda: os.open(f'/proc/{p}/mem', 2))",
        outcome: "EPERM\nEPERM\nEPERM\nESRCH\nENOENT\nEACCES",
    },
    Attack {
        row: "P2",
        what: "gain a right: set-user-id files, capabilities, keys, typing for a terminal, other ids",
        script: "import shutil, fcntl\n\
                 print(*dict.fromkeys(l.split()[1] for l in open('/proc/self/status') if l.startswith(('Cap', 'NoNewPrivs'))))\n\
                 shutil.copy('/usr/bin/id', '/tmp/id'); os.chmod('/tmp/id', 0o6755)\n\
                 print(subprocess.run(['/tmp/id', '-u'], capture_output=True, text=True).stdout.strip())\n\
                 tell(run('su', '-c', 'true'), run('mount', '-t', 'tmpfs', 'x', '/mnt'))\n\
                 tell(*[lambda i=i: os.setuid(i) for i in [0, 1, 1001, 65534]])\n\
                 tell(lambda: call(126, struct.pack('II', 0x20080522, 0), struct.pack('6I', *[0xffffffff] * 6)), lambda: os.setgroups([0]), lambda: call(250, 0, -3, 0), \
                 lambda: call(248, ctypes.c_char_p(b'user'), ctypes.c_char_p(b'x'), ctypes.c_char_p(b'y'), 1, -3), lambda: call(249, ctypes.c_char_p(b'user'), ctypes.c_char_p(b'x'), 0, -3))\n\
                 m, s = os.openpty()\n\
                 tell(*[lambda r=r: fcntl.ioctl(s, r, b'x' * 8) for r in [0x5412, 0x541C, 0x5423]])\n\
                 tell(lambda: call(321, 0, ctypes.create_string_buffer(128), 128), lambda: call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0), lambda: call(323, 1), lambda: call(175, 0, 0, ctypes.c_char_p(b'')), \
                 lambda: call(313, 0, ctypes.c_char_p(b''), 0), lambda: call(246, 0, 0, 0, 0), lambda: call(169, 0, 0, 0, 0), lambda: call(167, ctypes.c_char_p(b'/x'), 0))",
        outcome: "0000000000000000 1\n1000\nfailed\nEINVAL\nEPERM\nEPERM\nEPERM",
    },
    Attack {
        row: "P3",
        what: "overwrite the program that starts the next command, by what a process is before it is itself",
        script: "open('/tmp/s', 'w').write('#!/proc/self/exe\\n'); os.chmod('/tmp/s', 0o755)\n\
                 p = os.getppid()\n\
                 tell(lambda: os.open(f'/proc/{p}/exe', os.O_RDONLY), lambda: os.readlink(f'/proc/{p}/exe'), lambda: os.readlink(f'/proc/{p}/cwd'), lambda: os.open(f'/proc/{p}/root', 0))\n\
                 tell(lambda: os.open('/proc/1/exe', os.O_WRONLY))",
        outcome: "EACCES\nENOENT",
    },
    Attack {
        row: "P4",
        what: "take everything: processes, descriptors, pseudo-terminals, inotify instances",
        script: "def many(make, most):\n\
                 \x20   kept = []\n\
                 \x20   try:\n\
                 \x20       while len(kept) < most:\n\
                 \x20           kept.append(make())\n\
                 \x20   except OSError as error:\n\
                 \x20       return 'ended' \n\
                 \x20   return 'no end'\n\
                 def one():\n\
                 \x20   p = os.fork()\n\
                 \x20   if p == 0:\n\
                 \x20       signal.pause()\n\
                 \x20   return p\n\
                 print(many(lambda: os.open('/dev/null', 0), 10000), many(lambda: call(253), 10000), many(lambda: os.openpty(), 10000))\n\
                 print(many(one, 10000))\n\
                 signal.signal(signal.SIGTERM, signal.SIG_IGN); os.killpg(0, signal.SIGTERM)",
        outcome: "ended ended ended\nended",
    },
    Attack {
        row: "C1",
        what: "start a program by another name, so that a rule about names misses it: the fence holds for each of them (and each does run)",
        script: "import shutil\n\
                 shutil.copy('/bin/cat', '/tmp/harmless'); os.symlink('/bin/cat', '/tmp/link')\n\
                 f = os.memfd_create('x', 0); os.write(f, open('/bin/cat', 'rb').read()); os.lseek(f, 0, 0); m = os.open(f'/proc/self/fd/{f}', 0); os.close(f)\n\
                 loader = [p for p in ['/lib64/ld-linux-x86-64.so.2', '/lib/ld-linux-aarch64.so.1'] if os.path.exists(p)]\n\
                 secret = '/proc/1/environ'\n\
                 tell(run('/usr/bin/env', 'cat', secret), run('/tmp/harmless', secret), run('/tmp/link', secret), run(*loader, '/bin/cat', secret), run('sh', '-c', '$(printf cat) ' + secret), \
                 run(sys.executable, '-c', f'open(\"{secret}\").read()'), lambda: subprocess.run(['x', secret], executable=f'/proc/self/fd/{m}', pass_fds=[m], check=True, stderr=subprocess.DEVNULL))\n\
                 tell(run('/tmp/harmless', '/etc/hostname'), run('/tmp/link', '/etc/hostname'), run(*loader, '/bin/cat', '/etc/hostname'))",
        outcome: "failed\nran",
    },
    Attack {
        row: "C2",
        what: "change one's own rules: variables, resolver, trust, the guest's settings",
        script: "os.environ.update(HTTPS_PROXY='http://203.0.113.9:3128', SSL_CERT_FILE='/tmp/none', LD_PRELOAD='/tmp/x.so', NO_PROXY='*')\n\
                 tell(to(('203.0.113.20', 443)), to(('203.0.113.9', 3128)))\n\
                 tell(*[shut(write(path)) for path in ['/etc/resolv.conf', '/etc/hosts', '/etc/nsswitch.conf', '/etc/passwd', '/etc/ssl/certs/ca-certificates.crt', '/etc/ld.so.cache']], \
                 shut(lambda: open('/etc/ld.so.preload', 'w')), shut(lambda: os.mkdir('/etc/stockade')))",
        outcome: "ended\nrefused",
    },
];

/// Rows that are not a script: they take a machine around them.
pub const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "F2",
        "races of links and folders against the guest's own file calls",
        "`a_race_of_links_and_folders_leads_nowhere`",
    ),
    (
        "F3",
        "a workspace that would have the machine run something: hooks, fsmonitor, sshCommand, filters and attributes, includes, submodules, .envrc, .vscode, devcontainer.json; as root and as a user",
        "`f3_nothing_that_a_workspace_brings_along_runs_here`, `f3_the_same_for_a_runner_that_is_a_user_without_rights`, `nothing_of_a_repository_on_this_machine_runs_here`",
    ),
    (
        "F5",
        "archives with hostile paths: what is taken out is a bundle of git's, whose trees are looked through; layers are read by no driver yet",
        "`what_would_poison_a_repository_is_refused`",
    ),
    (
        "N8–N13, S1, S3",
        "the same on a machine without nf_tables, where doors for some ports stand at every address; as root and as a user",
        "`without_rules_that_lead_streams_the_way_out_is_the_same`",
    ),
    (
        "N1–N29",
        "the main paths of the way out with a whole installation, as root and as a user without rights",
        "`the_way_out_is_the_same_for_whoever_has_no_right_on_the_machine`, and the tests of `ways_out`",
    ),
    (
        "A1",
        "tamper with the record: a changed byte, an end that is cut off",
        "`no_single_changed_byte_goes_unnoticed`, `a_truncated_ledger_is_named`",
    ),
    ("P3", "writing to the guest's program by the name of a running one", "`the_guests_own_program_cannot_be_written`"),
    (
        "P4",
        "memory, disk, processor, processes",
        "`memory_is_limited`, `files_without_content_are_limited`, `what_the_kernel_has_for_everybody_is_limited`, `disk_is_limited`, `processor_time_is_limited`, `processes_are_limited`",
    ),
    ("P5", "outliving deletion: double forks, sessions, deafness to signals", "`deletion_leaves_nothing`"),
    ("P6", "killing the runner at any instant", "`whatever_a_killed_runner_leaves_is_found_again_or_removed`"),
    ("P2", "calls of 32 bits and x32", "`calls_of_other_machines_are_refused`"),
];
