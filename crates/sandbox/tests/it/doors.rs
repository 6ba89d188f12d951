//! What ends at the doors, and that nothing ends elsewhere.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use stockade_sandbox::{Arrival, Doors, Driver, SandboxError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::{Bed, small};

crate::both!(
    every_stream_ends_at_the_doors_with_where_it_was_to_go,
    names_are_asked_of_nobody_else,
    what_is_no_stream_goes_nowhere_and_is_seen,
    the_workloads_own_loopback_is_its_own,
    without_a_holder_nothing_is_open_and_the_next_one_opens_it_anew,
    a_workload_cannot_change_its_network,
    without_rules_some_ports_end_at_the_doors_and_the_others_nowhere,
    a_flood_is_kept_in_mind_up_to_a_bound_and_passes,
);

/// Perl that opens a stream, says `hello`, and prints what it hears, or the number of the error.
fn connect(to: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    let (family, name) = match to {
        SocketAddr::V4(to) => ("AF_INET", format!("sockaddr_in({}, inet_aton('{}'))", to.port(), to.ip())),
        SocketAddr::V6(to) => {
            ("AF_INET6", format!("sockaddr_in6({}, Socket::inet_pton(AF_INET6, '{}'))", to.port(), to.ip()))
        }
    };
    format!(
        "socket(my $s, {family}, SOCK_STREAM, 0) or die; alarm 20; \
         connect($s, {name}) or do {{ print $! + 0; exit }}; \
         syswrite($s, 'hello'); sysread($s, my $heard, 100); print $heard"
    )
}

async fn perl(guest: &mut crate::bed::Guest, script: &str) -> String {
    let ran = guest.run(&["perl", "-MSocket=:all", "-e", script], 30_000).await;
    format!("{}{}", ran.stdout, ran.stderr)
}

/// The next arrival; there is one.
async fn next(doors: &dyn Doors) -> Arrival {
    tokio::time::timeout(Duration::from_secs(30), doors.arrival()).await.expect("something arrives").unwrap()
}

async fn every_stream_ends_at_the_doors_with_where_it_was_to_go(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    let doors = bed.driver.doors(id).await.unwrap();
    assert!(doors.every_port(), "this machine has nf_tables");
    for to in [
        "203.0.113.20:22",
        "203.0.113.20:80",
        "1.2.3.4:443",
        "10.0.0.5:22",
        "169.254.169.254:80",
        "198.18.0.7:65535",
        "198.18.0.1:1",
        "8.8.8.8:53",
        "[2606:4700::1111]:443",
        "[fd00::1]:8080",
        "[fe80::1]:443",
        "[::ffff:10.0.0.1]:443",
    ] {
        let script = connect(to);
        let answer = async {
            let Arrival::Stream { mut stream, wanted } = next(&*doors).await else { panic!("a stream") };
            let mut said = [0; 5];
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"hello");
            stream.write_all(wanted.to_string().as_bytes()).await.unwrap();
        };
        if to.starts_with("[fe80") {
            // Without a zone, a link-local address names no interface: the kernel refuses.
            assert_eq!(perl(&mut guest, &script).await, "22");
            continue;
        }
        let (heard, ()) = tokio::join!(perl(&mut guest, &script), answer);
        let to: SocketAddr = to.parse().unwrap();
        let same: SocketAddr = (to.ip().to_canonical(), to.port()).into();
        assert_eq!(heard, same.to_string());
    }
    bed.driver.delete(id).await.unwrap();
}

async fn names_are_asked_of_nobody_else(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    let id = bed.driver.list().await[0];
    let doors = bed.driver.doors(id).await.unwrap();
    for (family, server) in [("AF_INET", "8.8.8.8"), ("AF_INET", "198.18.0.53"), ("AF_INET6", "2001:4860::8888")] {
        let name = if family == "AF_INET" {
            format!("sockaddr_in(53, inet_aton('{server}'))")
        } else {
            format!("sockaddr_in6(53, Socket::inet_pton(AF_INET6, '{server}'))")
        };
        // Connected, so that an answer counts only if it comes from whom was asked.
        let script = format!(
            "socket(my $s, {family}, SOCK_DGRAM, 0) or die; alarm 20; connect($s, {name}) or die; \
             send($s, 'who is it?', 0) or die; recv($s, my $heard, 100, 0); print $heard"
        );
        let answer = async {
            let Arrival::Names { message, from } = next(&*doors).await else { panic!("a question") };
            assert_eq!(message, b"who is it?");
            doors.reply(from, b"nobody").await;
        };
        let (heard, ()) = tokio::join!(perl(&mut guest, &script), answer);
        assert_eq!(heard, "nobody", "{server}");
    }
}

async fn what_is_no_stream_goes_nowhere_and_is_seen(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    let doors = bed.driver.doors(id).await.unwrap();
    let send = |to: &str, port: u16| {
        format!(
            "socket(my $s, AF_INET, SOCK_DGRAM, 0) or die; alarm 20; connect($s, sockaddr_in({port}, inet_aton('{to}'))) or die; \
             send($s, 'x', 0); print defined(recv($s, my $heard, 100, 0)) ? 'heard' : $! + 0"
        )
    };
    let mut seen = BTreeSet::new();
    for (to, port) in [("8.8.8.8", 443), ("9.9.9.9", 123), ("10.0.0.1", 51_820)] {
        let heard = perl(&mut guest, &send(to, port)).await;
        assert_eq!(heard, "111", "{to}: the kernel says that nobody is there");
        let Arrival::Stray(stray) = next(&*doors).await else { panic!("a stray") };
        assert_eq!(stray.protocol, 17);
        seen.insert(stray.to.to_string());
    }
    assert_eq!(seen, ["10.0.0.1:51820", "8.8.8.8:443", "9.9.9.9:123"].map(str::to_owned).into());
    assert!(perl(&mut guest, &send("224.0.0.251", 5353)).await.contains("Died"), "a group is nowhere");
    for (family, kind, protocol) in
        [("AF_INET", "SOCK_RAW", 1), ("AF_INET", "SOCK_RAW", 255), ("AF_INET6", "SOCK_RAW", 58)]
    {
        let word = guest.call(&format!("socket(my $s, {family}, {kind}, {protocol})")).await;
        assert_eq!(word, "1", "raw sockets are refused");
    }
}

async fn the_workloads_own_loopback_is_its_own(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    let doors = bed.driver.doors(id).await.unwrap();
    let script = "socket(my $l, AF_INET, SOCK_STREAM, 0) or die; alarm 20; bind($l, sockaddr_in(8080, inet_aton('127.0.0.1'))) or die $!; \
                  listen($l, 5) or die; socket(my $s, AF_INET, SOCK_STREAM, 0) or die; \
                  connect($s, sockaddr_in(8080, inet_aton('127.0.0.1'))) or die $!; accept(my $c, $l) or die; \
                  syswrite($c, 'own'); sysread($s, my $heard, 9); print $heard";
    assert_eq!(perl(&mut guest, script).await, "own");
    // Nor are the doors there, nor may their ports be taken.
    for to in ["127.0.0.1:1", "127.0.0.1:53"] {
        assert_eq!(perl(&mut guest, &connect(to)).await, "111", "{to}");
    }
    let taken = guest.call("do { socket(S, AF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(1, INADDR_ANY)) }").await;
    assert_eq!(taken, "13");
    let quiet = tokio::time::timeout(Duration::from_millis(50), doors.arrival()).await;
    assert!(quiet.is_err(), "nothing of it arrived: {quiet:?}");
}

async fn without_a_holder_nothing_is_open_and_the_next_one_opens_it_anew(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    assert!(
        ["101", "111"].contains(&perl(&mut guest, &connect("1.2.3.4:443")).await.as_str()),
        "before there are doors"
    );
    let doors = bed.driver.doors(id).await.unwrap();
    match bed.driver.doors(id).await {
        Err(SandboxError::Launch { step, .. }) => assert_eq!(step, "making the doors"),
        other => panic!("one holder at a time: {other:?}"),
    }
    drop(doors);
    for to in ["1.2.3.4:443", "127.0.0.1:443", "[2606:4700::1111]:443"] {
        assert_eq!(perl(&mut guest, &connect(to)).await, "111", "{to}: nobody is there");
    }
    // As after the end of the runner.
    let doors = bed.driver_again().doors(id).await.unwrap();
    let script = connect("1.2.3.4:443");
    let answer = async {
        let Arrival::Stream { mut stream, wanted } = next(&*doors).await else { panic!("a stream") };
        stream.write_all(wanted.to_string().as_bytes()).await.unwrap();
        // Not closed before all is read: what is unread would reset it.
        let _ = stream.read(&mut [0; 9]).await;
    };
    let (heard, ()) = tokio::join!(perl(&mut guest, &script), answer);
    assert_eq!(heard, "1.2.3.4:443");
    // Stopped, there is nothing to hold.
    bed.driver.stop(id).await.unwrap();
    drop(doors);
    assert!(matches!(bed.driver.doors(id).await, Err(SandboxError::Gone { .. })));
    // A new guest has a new network, closed until its doors are held.
    bed.driver.restart(id).await.unwrap();
    let doors = bed.driver.doors(id).await.unwrap();
    assert!(doors.every_port());
}

async fn a_workload_cannot_change_its_network(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    let _doors = bed.driver.doors(id).await.unwrap();
    // RTM_NEWLINK and RTM_NEWROUTE by a netlink socket of its own, which it may have for reading; netfilter's it may not have at all.
    for (what, message) in [
        (
            "a route",
            "pack('LSSLL', 36, 24, 0x405, 1, 0) . pack('C8L', 2, 0, 0, 0, 254, 4, 0, 1, 0) . pack('SSL', 8, 4, 1)",
        ),
        ("an interface", "pack('LSSLL', 32, 16, 0x605, 1, 0) . pack('CCSlLL', 0, 0, 0, 0, 0, 0)"),
    ] {
        let script = format!(
            "socket(my $s, 16, SOCK_RAW, 0) or die; alarm 20; send($s, {message}, 0) or die $!; recv($s, my $word, 4096, 0); \
             print -unpack('l', substr($word, 16, 4))"
        );
        assert_eq!(perl(&mut guest, &script).await, "1", "{what}");
    }
    assert_eq!(guest.call("socket(my $s, 16, SOCK_RAW, 12)").await, "1");
    for call in ["unshare -n true", "nsenter -t 1 -n true", "ip link add x type dummy", "nft flush ruleset"] {
        assert_ne!(guest.sh(call).await.status, 0, "{call}");
    }
    // What the runner holds is not in any process of the workload.
    let sockets = guest.sh("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c socket; true").await.stdout;
    assert_eq!(sockets, "0");
}

async fn without_rules_some_ports_end_at_the_doors_and_the_others_nowhere(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    let doors = bed.driver_unled().doors(id).await.unwrap();
    assert!(!doors.every_port());
    for to in ["1.2.3.4:443", "169.254.169.254:80", "10.0.0.5:22", "127.0.0.1:443", "[2606:4700::1111]:443"] {
        let script = connect(to);
        let answer = async {
            let Arrival::Stream { mut stream, wanted } = next(&*doors).await else { panic!("a stream") };
            stream.read_exact(&mut [0; 5]).await.unwrap();
            stream.write_all(wanted.to_string().as_bytes()).await.unwrap();
        };
        let (heard, ()) = tokio::join!(perl(&mut guest, &script), answer);
        assert_eq!(heard, to);
    }
    for to in ["1.2.3.4:4711", "[2606:4700::1111]:4711"] {
        assert_eq!(perl(&mut guest, &connect(to)).await, "111", "{to}");
    }
    let script = "socket(my $s, AF_INET, SOCK_DGRAM, 0) or die; alarm 20; connect($s, sockaddr_in(53, inet_aton('8.8.8.8'))) or die; \
                  send($s, 'who is it?', 0) or die; recv($s, my $heard, 100, 0); print $heard";
    let answer = async {
        let Arrival::Names { from, .. } = next(&*doors).await else { panic!("a question") };
        doors.reply(from, b"nobody").await;
    };
    let (heard, ()) = tokio::join!(perl(&mut guest, script), answer);
    assert_eq!(heard, "nobody");
}

async fn a_flood_is_kept_in_mind_up_to_a_bound_and_passes(bed: &Bed) {
    let (id, mut guest) = bed.make(small()).await;
    let doors = bed.driver.doors(id).await.unwrap();
    // Each question from a port of its own; nobody takes them.
    let flood = "for my $n (1..20000) { socket(my $s, AF_INET, SOCK_DGRAM, 0) or die; \
                 connect($s, sockaddr_in(53, pack('N', 0x09000000 + $n))) or die $!; \
                 send($s, 'x', 0); close($s) } print 'done'";
    assert_eq!(perl(&mut guest, flood).await, "done");
    let kept: u32 = guest.sh("cat /proc/sys/net/netfilter/nf_conntrack_count").await.stdout.parse().unwrap();
    assert!((8_000..=8_500).contains(&kept), "{kept} are kept in mind");
    drop(doors);
}
