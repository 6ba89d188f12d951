//! The fences one by one: each test fails without its fence, whatever the others hold.

use std::{collections::BTreeSet, fs, os::unix::fs::OpenOptionsExt};

use crate::bed::{Bed, guest_pid, is_root, small};

crate::both!(
    commands_reach_each_other_and_not_the_guest,
    only_sockets_of_known_kinds_are_made,
    calls_of_other_machines_are_refused,
    the_guests_own_program_cannot_be_written,
    no_keyring_is_inherited,
    what_tells_of_the_machine_is_masked,
    a_crash_starts_nothing_on_the_machine,
    the_supervisor_of_a_command_cannot_be_touched,
);

async fn commands_reach_each_other_and_not_the_guest(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    // A server that one command left is there for the next: to talk to, to look at, to end.
    let server = "use Socket; socket(my $l, AF_UNIX, SOCK_STREAM, 0) or die; bind($l, pack_sockaddr_un(\"\\0left\")) or die; \
                  listen($l, 5) or die; if (my $p = fork) { print $p; exit } close STDOUT; close STDERR; \
                  while (accept(my $s, $l)) { syswrite($s, 'hello') }";
    let pid = guest.run(&["perl", "-e", server], 10_000).await.stdout;
    let talk = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
                connect($s, pack_sockaddr_un(\"\\0left\")) or die $!; sysread($s, my $heard, 9); print $heard";
    let ran = guest.run(&["perl", "-e", talk], 10_000).await;
    assert_eq!(ran.stdout, "hello", "{}", ran.stderr);
    assert_eq!(guest.sh(&format!("readlink /proc/{pid}/exe | grep -c perl")).await.stdout, "1");
    assert_eq!(guest.sh(&format!("kill {pid}")).await.status, 0);
    // The guest is of another domain: even where it is the same user to the kernel, no signal reaches it, not even none.
    assert_eq!(guest.call("syscall(62, 1, 0)").await, "1");
}

async fn only_sockets_of_known_kinds_are_made(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    let every = "for my $f (0..50) { for my $k (1..6, 10) { for my $p (0, 1, 2, 6, 9, 15, 17, 33, 41, 58, 115, 132, 136, 255, 262) { \
                 print \"$f/$k/$p \" if socket(my $s, $f, $k, $p) } } }";
    let made = guest.run(&["perl", "-e", every], 30_000).await.stdout;
    let made: BTreeSet<&str> = made.split_whitespace().collect();
    let known = [
        // Unix: stream, datagram (also by the name of raw), packets. Protocol 1 is the family's own number.
        "1/1/0", "1/1/1", "1/2/0", "1/2/1", "1/3/0", "1/3/1", "1/5/0", "1/5/1",
        // The internet's: TCP and UDP, by name and by kind.
        "2/1/0", "2/1/6", "2/2/0", "2/2/17", "10/1/0", "10/1/6", "10/2/0", "10/2/17", // Route netlink.
        "16/2/0", "16/3/0",
    ];
    assert_eq!(made, BTreeSet::from(known));
    for (what, call) in
        [("raw", "2, 3, 6"), ("SCTP", "2, 5, 0"), ("ping", "2, 2, 1"), ("vsock", "40, 1, 0"), ("xdp", "44, 3, 0")]
    {
        assert_eq!(
            guest.call(&format!("socket(my $s, {call})")).await,
            "1",
            "{what} is refused by the filter, not by chance"
        );
    }
    assert_eq!(guest.call("socketpair(my $a, my $b, 40, 1, 0)").await, "1");
    for request in ["0x5412", "0x541C", "0x5423"] {
        assert_eq!(guest.call(&format!("ioctl(STDIN, {request}, my $c = 'x' x 8)")).await, "1", "{request}");
        let high = format!("syscall(16, 0, {request} | 1 << 32, my $c = 'x' x 8)");
        assert_eq!(guest.call(&high).await, "1", "{request} with a bit that the kernel does not look at");
    }
}

#[cfg(target_arch = "x86_64")]
async fn calls_of_other_machines_are_refused(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    // A program whose whole body is: the number of getpid on 32 bits; int 0x80; leave with 7.
    let code = "b814000000cd80bf07000000b83c0000000f05";
    let write = format!(
        "my $code = pack('H*', '{code}'); my $n = 120 + length $code; open(my $f, '>', '/workspace/other') or die; \
         print $f pack('a4 C5 x7 v v V Q Q Q V v v v v v v', \"\\x7fELF\", 2, 1, 1, 0, 0, 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0), \
         pack('V V Q Q Q Q Q Q', 1, 5, 0, 0x400000, 0x400000, $n, $n, 4096), $code; close $f; chmod 0755, '/workspace/other'"
    );
    assert_eq!(guest.run(&["perl", "-e", &write], 10_000).await.status, 0);
    let ran = guest.run(&["/workspace/other"], 10_000).await;
    // Ended by the filter (SIGSYS); where the kernel knows no such calls, by the processor (SIGSEGV).
    assert!([31, 11].contains(&ran.answer["signal"].as_i64().unwrap_or(0)), "{}", ran.answer);
    for call in [39, 41, 101, 425] {
        assert_eq!(guest.call(&format!("syscall(0x40000000 + {call}, 0, 0, 0)")).await, "38", "x32 call {call}");
    }
}

#[cfg(not(target_arch = "x86_64"))]
async fn calls_of_other_machines_are_refused(_: &Bed) {}

async fn the_guests_own_program_cannot_be_written(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    // By the running guest's own name for its program, as whoever owns the file: it lies on a mount that cannot be written, and is not
    // only busy.
    let path = format!("/proc/{}/exe", guest_pid(&bed.folder(id)));
    let error = fs::File::options().write(true).custom_flags(libc::O_TRUNC).open(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    // And from inside: by what a command is before it is itself.
    for script in [
        "exec /proc/self/exe --listen /tmp/s --state-dir /tmp",
        "exec 3</proc/$PPID/exe",
        "printf '#!/proc/self/exe\\n' > /tmp/x; chmod +x /tmp/x; exec 3<>/proc/$PPID/exe; /tmp/x",
    ] {
        assert_ne!(guest.sh(script).await.status, 0, "{script}");
    }
    let answer = guest
        .ask(serde_json::json!({"op": "exec", "argv": ["/proc/self/exe"], "timeout_ms": 5000, "max_output": 100}))
        .await;
    assert_eq!(answer["reply"], "error", "the fence around files does not know the guest's program: {answer}");
}

async fn no_keyring_is_inherited(bed: &Bed) {
    if !is_root() {
        // The same launcher does it; who looks from outside must be able to become the guest's user, whom nobody else is.
        return;
    }
    let (id, _) = bed.make(small()).await;
    let map = fs::read_to_string(format!("/proc/{}/uid_map", guest_pid(&bed.folder(id)))).unwrap();
    let user: libc::uid_t = map.split_whitespace().nth(1).unwrap().parse().unwrap();
    // One sees the keyrings of one's own user.
    let keys = std::thread::spawn(move || {
        // SAFETY: plain numbers; the raw call changes this thread only, which ends right after.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) }, 0);
        fs::read_to_string("/proc/keys").unwrap()
    });
    let keys = keys.join().unwrap();
    assert!(
        keys.lines().any(|line| line.contains("keyring   _ses: empty")),
        "the guest's session keyring is its own, and empty:\n{keys}"
    );
}

async fn what_tells_of_the_machine_is_masked(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    // What container runtimes mask by default, and a little more.
    for path in [
        "/proc/interrupts",
        "/proc/kallsyms",
        "/proc/kcore",
        "/proc/keys",
        "/proc/key-users",
        "/proc/kmsg",
        "/proc/kpageflags",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/sysrq-trigger",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/vmallocinfo",
    ] {
        assert_eq!(guest.sh(&format!("head -c 100 {path} 2>/dev/null | wc -c")).await.stdout, "0", "{path}");
    }
    for path in
        ["/proc/acpi", "/proc/asound", "/proc/scsi", "/proc/driver", "/proc/1", "/sys", "/sys/firmware", "/sys/kernel"]
    {
        assert_eq!(guest.sh(&format!("ls -A {path} 2>/dev/null | wc -l")).await.stdout, "0", "{path}");
    }
    let writable = guest.sh("find /proc/sys /proc/bus /proc/fs /proc/irq -writable 2>/dev/null | wc -l").await.stdout;
    assert_eq!(writable, "0");
}

async fn a_crash_starts_nothing_on_the_machine(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    let limits = guest.sh("grep 'core file' /proc/self/limits").await.stdout;
    let figures: Vec<&str> = limits.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(figures, ["1", "1"], "with one byte the kernel calls no program for crashes: {limits}");
    let ran = guest.sh("kill -SEGV $$").await;
    assert_eq!(ran.answer["signal"], 11);
    assert_eq!(
        guest.sh("find / -xdev -name 'core*' -newer /etc/hostname -type f 2>/dev/null | grep -v ^/proc").await.stdout,
        ""
    );
}

async fn the_supervisor_of_a_command_cannot_be_touched(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    for script in [
        "cat /proc/$PPID/environ",
        "readlink /proc/$PPID/fd/0",
        "cat /proc/$PPID/fd/3",
        "ls /proc/$PPID/root/",
        "ls /proc/$PPID/cwd/",
        "readlink /proc/$PPID/exe",
        "cat /proc/$PPID/maps | grep .",
        "echo x > /proc/$PPID/mem",
        "readlink /proc/$PPID/ns/net",
    ] {
        assert_ne!(guest.sh(script).await.status, 0, "{script}");
    }
    let parent = "(my $p = getppid)";
    assert_ne!(guest.call(&format!("syscall(101, 16, {parent}, 0, 0)")).await, "0", "tracing it");
    assert_ne!(
        guest.call("do { my $p = syscall(434, getppid, 0); syscall(438, $p, 3, 0) }").await,
        "0",
        "taking its descriptors"
    );
}
