//! What a workload must not see, reach or become.

use std::{fs, io::Read, net::TcpListener, os::unix::net::UnixListener};

use serde_json::json;
use stockade_sandbox::Driver;

use crate::bed::{Bed, Guest, small};

crate::both!(
    the_machines_files_are_not_there,
    the_machines_processes_are_not_there,
    nothing_but_loopback_can_be_reached,
    the_kernels_side_doors_are_shut,
    the_system_cannot_be_changed,
    no_right_can_be_gained,
    the_guest_and_its_journal_cannot_be_touched,
);

const EPERM: &str = "1";
const ENOSYS: &str = "38";

async fn the_machines_files_are_not_there(bed: &Bed) {
    let canary = bed.dir.path().join("canary");
    fs::write(&canary, "host-canary-7731").unwrap();
    let (id, mut guest) = bed.make(small()).await;
    for path in [canary.to_str().unwrap(), "/etc/shadow", "/etc/machine-id", "/root/.ssh", "/var/run/docker.sock"] {
        let ran = guest.run(&["cat", path], 10_000).await;
        assert_ne!(ran.status, 0, "{path}: {}", ran.stdout);
    }
    assert_eq!(guest.sh("ls /home").await.stdout, "agent");
    assert_eq!(guest.sh("ls -A /root /sys /mnt | grep -v : | tr -d '\\n'").await.stdout, "");
    let listing = guest.sh("ls /").await.stdout;
    let known = "bin dev etc home lib lib32 lib64 libx32 mnt opt proc root run sbin sys tmp usr var workspace";
    for name in listing.split_whitespace() {
        assert!(known.split(' ').any(|word| word == name), "/{name} should not be there");
    }
    // Nothing of the runner's variables, not even of what the guest was started with.
    let variables = guest.sh("env | cut -d= -f1 | sort | tr '\\n' ' '").await.stdout;
    assert_eq!(variables.trim(), "HOME LANG LOGNAME PATH PWD SHELL STOCKADE_TRANSFER TMPDIR USER");
    assert_eq!(guest.sh("ls /proc/self/fd | wc -l").await.stdout, "4", "three streams and the folder being listed");
    let found = guest.sh("grep -rsl host-canary-7731 /workspace /home /tmp /run /var /etc /dev/shm /mnt; true").await;
    assert_eq!(found.stdout, "");
    bed.driver.delete(id).await.unwrap();
}

async fn the_machines_processes_are_not_there(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    let own = std::process::id();
    let seen = guest.sh("ls /proc | grep -c '^[0-9]'").await.stdout;
    assert!(seen.parse::<u32>().unwrap() <= 6, "{seen} processes are seen");
    assert_eq!(guest.call(&format!("syscall(62, {own}, 0)")).await, "3", "this process does not exist there");
    assert_ne!(guest.call(&format!("syscall(101, 16, {own}, 0, 0)")).await, "0", "nor can it be traced");
    assert_ne!(guest.sh(&format!("cat /proc/{own}/environ /proc/{own}/root/etc/shadow")).await.status, 0);
    // Everybody that can be signalled is signalled; the guest and this process are not among them.
    guest.sh("kill -9 -1").await;
    assert_eq!(guest.ask(json!({"op": "ping"})).await["reply"], "pong");
}

async fn nothing_but_loopback_can_be_reached(bed: &Bed) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    tcp.set_nonblocking(true).unwrap();
    let path = bed.dir.path().join("host.sock");
    let unix = UnixListener::bind(&path).unwrap();
    unix.set_nonblocking(true).unwrap();
    let (_, mut guest) = bed.make(small()).await;
    assert_eq!(guest.sh("grep -c : /proc/net/dev; grep -o lo: /proc/net/dev").await.stdout, "1\nlo:");
    let connect = |address: &str, port: u16| {
        format!(
            "socket(my $s, AF_INET, SOCK_STREAM, 0) or die; \
             connect($s, sockaddr_in({port}, inet_aton('{address}'))) and print 'through'; print $! + 0"
        )
    };
    for (address, port) in [("127.0.0.1", port), ("192.0.2.1", 80), ("10.0.0.1", 22), ("169.254.169.254", 80)] {
        let ran = guest.run(&["perl", "-MSocket", "-e", &connect(address, port)], 10_000).await;
        assert!(["111", "101"].contains(&ran.stdout.as_str()), "{address}: {} {}", ran.stdout, ran.stderr);
    }
    let udp = "socket(my $s, AF_INET, SOCK_DGRAM, 0) or die; \
               print send($s, 'x', 0, sockaddr_in(53, inet_aton('192.0.2.1'))) ? 'sent' : $! + 0";
    assert_eq!(guest.run(&["perl", "-MSocket", "-e", udp], 10_000).await.stdout, "101");
    let six = "socket(my $s, AF_INET6, SOCK_STREAM, 0) or die; \
               print connect($s, pack_sockaddr_in6(443, inet_pton(AF_INET6, '2001:db8::1'))) ? 'through' : $! + 0";
    assert_eq!(guest.run(&["perl", "-MSocket=:all", "-e", six], 10_000).await.stdout, "101");
    let pathname = format!(
        "socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; print connect($s, pack_sockaddr_un('{}')) ? 'through' : 'no'",
        path.display()
    );
    assert_eq!(guest.run(&["perl", "-MSocket", "-e", &pathname], 10_000).await.stdout, "no");
    assert_eq!(guest.sh("tail -n +2 /proc/net/unix | wc -l").await.stdout, "0", "no abstract socket of the machine");
    assert!(tcp.accept().is_err() && unix.accept().is_err(), "and nobody arrived");
    // Loopback itself works: tests of servers must.
    let own = "socket(my $l, AF_INET, SOCK_STREAM, 0); bind($l, sockaddr_in(0, INADDR_LOOPBACK)) or die; listen($l, 1); \
               socket(my $s, AF_INET, SOCK_STREAM, 0); connect($s, getsockname($l)) and print 'joined'";
    assert_eq!(guest.run(&["perl", "-MSocket", "-e", own], 10_000).await.stdout, "joined");
}

async fn the_kernels_side_doors_are_shut(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    for (what, call, refusal) in [
        ("io_uring", "syscall(425, 1, my $p = \"\\0\" x 200)", ENOSYS),
        ("clone3", "syscall(435, my $p = \"\\0\" x 88, 88)", ENOSYS),
        ("bpf", "syscall(321, 0, my $p = \"\\0\" x 128, 128)", EPERM),
        ("perf", "syscall(298, my $p = \"\\0\" x 128, 0, -1, -1, 0)", EPERM),
        ("keyctl", "syscall(250, 0, -3, 0)", EPERM),
        ("userfaultfd", "syscall(323, 1)", EPERM),
        ("mount", "syscall(165, my $a = \"none\", my $b = \"/tmp\", my $c = \"tmpfs\", 0, 0)", EPERM),
        ("unmounting", "syscall(166, my $a = \"/workspace\", 2)", EPERM),
        ("a user namespace", "syscall(272, 0x10000000)", EPERM),
        ("a user namespace by clone", "syscall(56, 0x10000011, 0, 0, 0, 0)", EPERM),
        ("a network namespace", "syscall(272, 0x40000000)", EPERM),
        ("joining a namespace", "syscall(308, 0, 0)", EPERM),
        ("kexec", "syscall(246, 0, 0, 0, 0)", EPERM),
        ("a kernel module", "syscall(175, 0, 0, my $a = \"\")", EPERM),
        ("reboot", "syscall(169, 0, 0, 0, 0)", EPERM),
        ("the kernel's log", "syscall(103, 3, my $a = \"\\0\" x 64, 64)", EPERM),
        ("an x32 call", "syscall(0x40000000 + 39)", ENOSYS),
        ("vsock", "socket(my $s, 40, 1, 0)", EPERM),
        ("a packet socket", "socket(my $s, 17, 3, 0)", EPERM),
        ("the kernel's crypto socket", "socket(my $s, 38, 5, 0)", EPERM),
        ("a raw socket", "socket(my $s, 2, 3, 1)", EPERM),
        ("netfilter's netlink", "socket(my $s, 16, 3, 12)", EPERM),
        ("typing for the terminal", "ioctl(STDIN, 0x5412, my $c = \"x\")", EPERM),
    ] {
        assert_eq!(guest.call(call).await, refusal, "{what}");
    }
    assert_eq!(guest.call("socket(my $s, 16, 3, 0)").await, "0", "route netlink is how programs see interfaces");
}

async fn the_system_cannot_be_changed(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    let closed =
        "/ /usr /usr/bin /usr/local /bin /lib /etc /etc/ssl /opt /run /run/stockade /home /var /dev /sys /proc/sys";
    for folder in closed.split(' ') {
        let ran = guest.sh(&format!("touch {folder}/stockade-test-file")).await;
        assert_ne!(ran.status, 0, "{folder} can be written to");
    }
    for file in ["/etc/passwd", "/etc/resolv.conf", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"] {
        let ran = guest.sh(&format!("echo x > {file}; chmod 777 {file} 2>/dev/null; echo x >> {file}")).await;
        assert!(ran.status != 0 || file == "/proc/sysrq-trigger", "{file} can be written");
    }
    assert_ne!(guest.sh("mknod /workspace/disk b 8 0").await.status, 0);
    assert_ne!(guest.sh("mount -o remount,rw /usr || mount --bind /tmp /usr").await.status, 0);
    for open in ["/workspace", "/home/agent", "/tmp", "/var/tmp", "/run/stockade/transfer", "/dev/shm"] {
        let ran = guest.sh(&format!("echo kept > {open}/f && cat {open}/f")).await;
        assert_eq!(ran.stdout, "kept", "{open} is the workload's own: {}", ran.stderr);
    }
    assert_eq!(guest.sh("git --version >/dev/null 2>&1; getent passwd agent").await.status, 0);
    let tools = "echo x > /dev/null && head -c1 /dev/zero | wc -c && test -c /dev/tty && test -c /dev/ptmx";
    assert_eq!(guest.sh(tools).await.status, 0);
}

async fn no_right_can_be_gained(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    assert_eq!(guest.sh("id -u; id -g; id -G").await.stdout, "1000\n1000\n1000");
    let status = guest.sh("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status").await.stdout;
    let fields: Vec<&str> = status.split_whitespace().collect();
    let none = "0000000000000000";
    let wanted =
        ["CapInh:", none, "CapPrm:", none, "CapEff:", none, "CapBnd:", none, "CapAmb:", none, "NoNewPrivs:", "1"];
    assert_eq!(fields[..12], wanted);
    assert_eq!(fields[12..], ["Seccomp:", "2"]);
    // A copy that carries the bit, and those that the system brings along.
    let script = "cp /usr/bin/id /tmp/id && chmod 6755 /tmp/id && /tmp/id -u";
    assert_eq!(guest.sh(script).await.stdout, "1000");
    assert_ne!(guest.sh("su -c id root </dev/null").await.status, 0);
    for call in ["syscall(105, 0)", "syscall(106, 0)", "syscall(117, 0, 0, 0)"] {
        assert_eq!(guest.call(call).await, "22", "no other id even exists there: {call}");
    }
}

async fn the_guest_and_its_journal_cannot_be_touched(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    guest
        .ask(json!({"op": "exec", "call": "call_00000000000000000000000001", "argv": ["true"],
                     "timeout_ms": 1000, "max_output": 10}))
        .await;
    let journal = bed.folder(id).join("state/journal");
    let mut before = Vec::new();
    if crate::bed::is_root() || journal.exists() {
        fs::File::open(&journal).unwrap().read_to_end(&mut before).unwrap();
        assert!(!before.is_empty());
    }
    for script in [
        "cat /proc/1/environ",
        "ls /proc/1/fd/",
        "cat /proc/1/fd/4/journal",
        "echo x >> /proc/1/fd/4/journal",
        "ls /proc/1/root/",
        "echo x > /proc/1/mem",
        "cat /proc/1/exe > /tmp/guest",
        "for f in 3 4 5 6 7; do cat /proc/self/fd/$f/journal; done; test -e /proc/self/fd/4",
    ] {
        assert_ne!(guest.sh(script).await.status, 0, "{script}");
    }
    assert_ne!(guest.call("syscall(101, 16, 1, 0, 0)").await, "0", "tracing it");
    for signal in ["KILL", "STOP", "TERM", "SEGV", "ABRT", "INT"] {
        guest.sh(&format!("kill -{signal} 1")).await;
    }
    assert_eq!(guest.sh("find / -name journal -path '*state*' 2>/dev/null | grep -v ^/proc").await.stdout, "");
    assert_eq!(guest.ask(json!({"op": "ping"})).await["reply"], "pong");
    assert_eq!(fs::read(&journal).unwrap(), before, "none of it had a call id, so the journal is as it was");
    let _ = Guest::of(&bed.driver, id).await;
}
