//! An environment's doors: sockets inside its network namespace at which everything that wants out ends, and which only the runner
//! holds.
//!
//! It owns the namespace's routes (every address is the namespace's own), the rules that lead every stream to one door where the kernel has
//! nf_tables, and the doors themselves. It refuses to open anything: with its work half done, or all of it undone, a connection
//! still ends inside, for there is nothing but a loopback interface. *Invariant:* what is made here is handed to the runner alone: nothing
//! inside ever holds it.
//!
//! Run for an environment that is there: `stockade-launch doors FOLDER` with a Unix socket as standard output; `doors-unled` for doors
//! without rules.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, bind, listen,
        sendmsg, socket_with, sockopt,
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use stockade_sandbox::launch::{
    DOOR_V4, DOOR_V6, Door, FALLBACK_PORTS, Made, NAMES_PORT, RUN_FILE, Running, STREAMS_PORT, start_of,
};

use crate::{
    Failure, Step,
    netlink::{ACK, APPEND, CREATE, EXCLUSIVE, Messages, NETFILTER, ROUTE, Writer},
    sys,
};

/// How many connections wait at a door for the runner.
const BACKLOG: i32 = 1024;
/// The loopback interface of a new network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
const TABLE: &str = "stockade";
/// How many streams and questions of each family the kernel keeps in mind for one environment. Above, new ones are dropped: that
/// memory is the machine's, and counted for nobody. A question is kept for 30 s, a stream until some time after its end.
const MAX_TRACKED: u32 = 8_192;

/// Makes the doors of a running environment and hands them over through standard output.
pub fn open(folder: &Path, lead: bool) -> Result<(), Failure> {
    join(folder)?;
    sys::loopback_up().step("bringing up the loopback interface")?;
    let v6 = routes().step("making every address local")?;
    let led = if lead { redirect(v6) } else { Err(io::Error::other("the configuration wants none")) };
    let why_not = led.err().map(|error| error.to_string());
    let (doors, held) = doors(v6, why_not.is_none()).step("making the doors")?;
    let made = Made { doors, redirected: why_not.is_none(), why_not };
    let line = serde_json::to_vec(&made).step("naming the doors")?;
    hand_over(&line, &held).step("handing over the doors")
}

/// Tries in this network namespace, a new one, whether streams can be led. For `probe`.
pub fn try_leading() -> io::Result<()> {
    sys::loopback_up()?;
    let v6 = routes()?;
    redirect(v6)
}

/// Enters the network namespace of the environment's guest, without root by way of its user namespace.
fn join(folder: &Path) -> Result<(), Failure> {
    let step = "entering the environment's network";
    let text = fs::read(folder.join(RUN_FILE)).step(step)?;
    let running: Running = serde_json::from_slice(&text).step(step)?;
    let open = |kind: &str| {
        let path = format!("/proc/{}/ns/{kind}", running.pid);
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let (users, network) = (open("user").step(step)?, open("net").step(step)?);
    // Only now: what was opened is of a process that still is the guest, whoever has its number later.
    let stat = fs::read(format!("/proc/{}/stat", running.pid)).step(step)?;
    if start_of(&String::from_utf8_lossy(&stat)) != Some(running.start) {
        return Err("the guest is gone").step(step);
    }
    if !rustix::process::geteuid().is_root() {
        move_into_link_name_space(users.as_fd(), Some(LinkNameSpaceType::User)).step(step)?;
    }
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).step(step)
}

/// Every address of both families is this namespace's own: what is sent anywhere arrives here. False if the kernel has no IPv6.
fn routes() -> io::Result<bool> {
    const RTM_NEWROUTE: u16 = 24;
    const RTA_OIF: u16 = 4;
    const TABLE_LOCAL: u8 = 255;
    const STATIC: u8 = 4;
    const SCOPE_HOST: u8 = 254;
    const LOCAL: u8 = 2;
    let route = |family: libc::c_int| {
        let mut messages = Messages::default();
        messages.add(RTM_NEWROUTE, ACK | CREATE, |writer| {
            let family = u8::try_from(family).unwrap_or_default();
            // `struct rtmsg`: family, lengths of destination and source, service, table, protocol, scope, type, flags.
            writer.fields(&[family, 0, 0, 0, TABLE_LOCAL, STATIC, SCOPE_HOST, LOCAL, 0, 0, 0, 0]);
            writer.bytes(RTA_OIF, &LOOPBACK.to_ne_bytes());
        });
        messages.send(ROUTE, &[libc::EEXIST])
    };
    route(libc::AF_INET)?;
    match route(libc::AF_INET6) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            // No IPv6 in this kernel, or none here: then no address of it can be reached at all.
            Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EACCES | libc::EPERM | libc::ENODEV) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Leads every stream to the door for streams, and questions for names to theirs, whatever their address and port, but for
/// what the workload says to itself on the loopback addresses.
fn redirect(v6: bool) -> io::Result<()> {
    // None are there in a new namespace. A runner that came back finds its rules: then they are taken away and made anew, at the price of
    // waiting until no processor looks at the old ones.
    match redirect_by(v6, false) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => redirect_by(v6, true),
        other => other,
    }
}

fn redirect_by(v6: bool, anew: bool) -> io::Result<()> {
    let mut messages = Messages::default();
    batch(&mut messages, true);
    for family in [libc::AF_INET, libc::AF_INET6].into_iter().filter(|family| v6 || *family == libc::AF_INET) {
        rules(&mut messages, family, anew);
    }
    batch(&mut messages, false);
    messages.send(NETFILTER, &[])
}

/// The beginning and the end of what is taken as a whole or not at all.
fn batch(messages: &mut Messages, begin: bool) {
    const BEGIN: u16 = 16;
    const END: u16 = 17;
    const SUBSYSTEM: u16 = 10;
    let [high, low] = SUBSYSTEM.to_be_bytes();
    messages.add(if begin { BEGIN } else { END }, 0, |writer| writer.fields(&[0, 0, high, low]));
}

fn rules(messages: &mut Messages, family: libc::c_int, anew: bool) {
    const NFTABLES: u16 = 10 << 8;
    const NEW_TABLE: u16 = 0;
    const DELETE_TABLE: u16 = 2;
    const NEW_CHAIN: u16 = 3;
    const NEW_RULE: u16 = 6;
    const HOOK_OUTPUT: u32 = 3;
    const BEFORE_LEADING: i32 = -150;
    const BEFORE_FILTERS: i32 = -100;
    let head = [u8::try_from(family).unwrap_or_default(), 0, 0, 0];
    // Made, taken away with all that was in it, made: then it is there, empty, whatever was before.
    let emptied = [(NEW_TABLE, ACK | CREATE), (DELETE_TABLE, ACK), (NEW_TABLE, ACK | CREATE)];
    for (kind, flags) in if anew { &emptied[..] } else { &[(NEW_TABLE, ACK | CREATE | EXCLUSIVE)] } {
        messages.add(NFTABLES | kind, *flags, |writer| {
            writer.fields(&head);
            writer.text(1, TABLE);
        });
    }
    for (name, kind, priority) in [("bound", "filter", BEFORE_LEADING), ("output", "nat", BEFORE_FILTERS)] {
        messages.add(NFTABLES | NEW_CHAIN, ACK | CREATE, |writer| {
            writer.fields(&head);
            writer.text(1, TABLE);
            writer.text(3, name);
            writer.nested(4, |writer| {
                writer.number(1, HOOK_OUTPUT);
                writer.number(2, priority.cast_unsigned());
            });
            writer.text(7, kind);
        });
    }
    let mut rule_in = |chain: &str, write: &dyn Fn(&mut Writer<'_>)| {
        messages.add(NFTABLES | NEW_RULE, ACK | CREATE | APPEND, |writer| {
            writer.fields(&head);
            writer.text(1, TABLE);
            writer.text(2, chain);
            writer.nested(4, write);
        });
    };
    rule_in("bound", &|writer| {
        const STATE: u32 = 0;
        const NEW: [u8; 4] = 8_u32.to_ne_bytes();
        const OVER: u32 = 1;
        const DROP: u32 = 0;
        expression(writer, "ct", |writer| {
            writer.number(1, 1);
            writer.number(2, STATE);
        });
        equal(writer, &NEW);
        expression(writer, "connlimit", |writer| {
            writer.number(1, MAX_TRACKED);
            writer.number(2, OVER);
        });
        verdict(writer, DROP);
    });
    let mut rule = |write: &dyn Fn(&mut Writer<'_>)| rule_in("output", write);
    let (door, own): (Vec<u8>, (u32, Vec<u8>)) = if family == libc::AF_INET {
        (DOOR_V4.octets().to_vec(), (16, vec![127]))
    } else {
        (DOOR_V6.octets().to_vec(), (24, Ipv6Addr::LOCALHOST.octets().to_vec()))
    };
    rule(&|writer| {
        const NETWORK_HEADER: u32 = 1;
        const ACCEPT: u32 = 1;
        load(writer, NETWORK_HEADER, own.0, u32::try_from(own.1.len()).unwrap_or_default());
        equal(writer, &own.1);
        verdict(writer, ACCEPT);
    });
    let lead = |writer: &mut Writer<'_>, port: u16| {
        for (register, value) in [(1, &door[..]), (2, &port.to_be_bytes()[..])] {
            expression(writer, "immediate", |writer| {
                writer.number(1, register);
                writer.nested(2, |writer| writer.bytes(1, value));
            });
        }
        const DESTINATION: u32 = 1;
        expression(writer, "nat", |writer| {
            for (kind, value) in [(1, DESTINATION), (2, family.cast_unsigned()), (3, 1), (4, 1), (5, 2), (6, 2)] {
                writer.number(kind, value);
            }
        });
    };
    rule(&|writer| {
        protocol(writer, libc::IPPROTO_TCP);
        lead(writer, STREAMS_PORT);
    });
    rule(&|writer| {
        const TRANSPORT_HEADER: u32 = 2;
        protocol(writer, libc::IPPROTO_UDP);
        load(writer, TRANSPORT_HEADER, 2, 2);
        equal(writer, &NAMES_PORT.to_be_bytes());
        lead(writer, NAMES_PORT);
    });
}

fn expression(writer: &mut Writer<'_>, name: &str, write: impl FnOnce(&mut Writer<'_>)) {
    writer.nested(1, |writer| {
        writer.text(1, name);
        writer.nested(2, write);
    });
}

/// What becomes of a packet that came so far.
fn verdict(writer: &mut Writer<'_>, word: u32) {
    expression(writer, "immediate", |writer| {
        writer.number(1, 0);
        writer.nested(2, |writer| writer.nested(2, |writer| writer.number(1, word)));
    });
}

/// Bytes of a packet's header, into the first register.
fn load(writer: &mut Writer<'_>, header: u32, offset: u32, len: u32) {
    expression(writer, "payload", |writer| {
        for (kind, value) in [(1, 1), (2, header), (3, offset), (4, len)] {
            writer.number(kind, value);
        }
    });
}

/// The rule ends here unless the first register is this.
fn equal(writer: &mut Writer<'_>, value: &[u8]) {
    expression(writer, "cmp", |writer| {
        writer.number(1, 1);
        writer.number(2, 0);
        writer.nested(3, |writer| writer.bytes(1, value));
    });
}

fn protocol(writer: &mut Writer<'_>, protocol: libc::c_int) {
    const L4PROTO: u32 = 16;
    expression(writer, "meta", |writer| {
        writer.number(1, 1);
        writer.number(2, L4PROTO);
    });
    equal(writer, &[u8::try_from(protocol).unwrap_or_default()]);
}

type Held = (Vec<Door>, Vec<OwnedFd>);

/// The doors and what each is. Without redirection, the door for streams stands at every address for some ports.
fn doors(v6: bool, redirected: bool) -> io::Result<Held> {
    let (mut kinds, mut held) = (Vec::new(), Vec::new());
    let mut families: Vec<(std::net::IpAddr, std::net::IpAddr)> = vec![(DOOR_V4.into(), Ipv4Addr::UNSPECIFIED.into())];
    if v6 {
        families.push((DOOR_V6.into(), Ipv6Addr::UNSPECIFIED.into()));
    }
    for (door, anywhere) in families {
        let (streams, names): (Vec<SocketAddr>, SocketAddr) = if redirected {
            (vec![(door, STREAMS_PORT).into()], (door, NAMES_PORT).into())
        } else {
            (FALLBACK_PORTS.iter().map(|port| (anywhere, *port).into()).collect(), (anywhere, NAMES_PORT).into())
        };
        for address in streams {
            let socket = door_at(address, SocketType::STREAM)?;
            listen(&socket, BACKLOG)?;
            kinds.push(Door::Streams);
            held.push(socket);
        }
        kinds.push(Door::Names);
        held.push(door_at(names, SocketType::DGRAM)?);
    }
    kinds.push(Door::Strays);
    held.push(sys::strays(LOOPBACK)?);
    Ok((kinds, held))
}

fn door_at(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
        // A local route makes an address local, and yet in IPv6 it is none to bind to.
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // Connections of a runner that is gone may still be ending.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

fn hand_over(line: &[u8], held: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = held.iter().map(AsFd::as_fd).collect();
    let mut room = vec![std::mem::MaybeUninit::uninit(); 64 + 16 * borrowed.len()];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::Error::other("there are too many doors for one message"));
    }
    let sent = sendmsg(rustix::stdio::stdout(), &[io::IoSlice::new(line)], &mut control, SendFlags::empty())?;
    if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
