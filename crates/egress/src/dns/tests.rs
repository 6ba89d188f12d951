//! Queries as programs and attackers send them, and a reader of replies that shares nothing with the writer.

use proptest::prelude::*;

use super::{wire::TTL_SECONDS, *};

/// A reply as a client reads it.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    id: u16,
    flags: u16,
    question: Vec<u8>,
    /// Type, life and data of each: answers, authorities, additional.
    records: [Vec<(u16, u32, Vec<u8>)>; 3],
}

impl Read {
    fn rcode(&self) -> u16 {
        self.flags & 15
    }
    fn is_cut(&self) -> bool {
        self.flags & 0x200 != 0
    }
}

fn skip_name(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes[at] {
            0 => return at + 1,
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0 => return at + 2,
            other => panic!("a label of type {other:#x} in a reply"),
        }
    }
}

fn read(bytes: &[u8]) -> Read {
    let u16_at = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let mut at = 12;
    let questions = u16_at(4);
    assert!(questions <= 1);
    if questions == 1 {
        at = skip_name(bytes, at) + 4;
    }
    let question = bytes[12..at].to_vec();
    let records = [6, 8, 10].map(|count| {
        (0..u16_at(count))
            .map(|_| {
                at = skip_name(bytes, at);
                let (kind, length) = (u16_at(at), usize::from(u16_at(at + 8)));
                let life = u32::from(u16_at(at + 4)) << 16 | u32::from(u16_at(at + 6));
                at += 10 + length;
                (kind, life, bytes[at - length..at].to_vec())
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(at, bytes.len(), "nothing comes after the last record");
    Read { id: u16_at(0), flags: u16_at(2), question, records }
}

fn question(labels: &[&[u8]], kind: u16, class: u16) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in labels {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend_from_slice(label);
    }
    wire.push(0);
    wire.extend(kind.to_be_bytes());
    wire.extend(class.to_be_bytes());
    wire
}

fn query_of(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut wire = vec![0xab, 0xcd];
    wire.extend(flags.to_be_bytes());
    wire.extend(counts.map(u16::to_be_bytes).concat());
    wire.extend_from_slice(rest);
    wire
}

/// A query as a resolver of libc sends it.
fn query(name: &str, kind: u16) -> Vec<u8> {
    let labels: Vec<_> = name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes).collect();
    query_of(0x0100, [1, 0, 0, 0], &question(&labels, kind, 1))
}

/// The record of EDNS.
fn opt(size: u16, version: u8, flags: u16, options: &[u8]) -> Vec<u8> {
    let mut wire = vec![0, 0, 41];
    wire.extend(size.to_be_bytes());
    wire.extend([0, version]);
    wire.extend(flags.to_be_bytes());
    wire.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
    wire.extend_from_slice(options);
    wire
}

fn with_opt(name: &str, kind: u16, opt: &[u8]) -> Vec<u8> {
    let mut wire = query(name, kind);
    wire[11] = 1;
    wire.extend_from_slice(opt);
    wire
}

/// The verdict and the reply as read.
fn ask(names: &mut Names, query: &[u8]) -> (Verdict, Read) {
    let answered = answer(names, query, Transport::Udp);
    (answered.verdict, read(&answered.reply.unwrap()))
}

const NX: u16 = 3;
const SOA: u16 = 6;

#[test]
fn a_name_has_an_address_of_each_family_and_the_address_its_name() {
    let mut names = Names::new();
    let (verdict, reply) = ask(&mut names, &query("example.com", 1));
    assert_eq!((verdict, reply.id, reply.flags), (Verdict::Answered, 0xabcd, 0x8180));
    assert_eq!(reply.records, [vec![(1, TTL_SECONDS, vec![198, 18, 1, 0])], vec![], vec![]]);
    let (_, reply) = ask(&mut names, &query("example.com", 28));
    let v6: Ipv6Addr = "fd6a:2c8c:6149::198.18.1.0".parse().unwrap();
    assert_eq!(reply.records[0], [(28, TTL_SECONDS, v6.octets().to_vec())]);
    let backwards = nibbles_of(v6).iter().rev().map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa";
    for name in ["0.1.18.198.in-addr.arpa", &backwards] {
        let (verdict, reply) = ask(&mut names, &query(name, 12));
        assert_eq!(verdict, Verdict::Answered);
        assert_eq!(reply.records[0], [(12, TTL_SECONDS, b"\x07example\x03com\0".to_vec())]);
        assert_eq!(ask(&mut names, &query(name, 1)).0, Verdict::NoData);
    }
    let asked = answer(&mut names, &query("Example.COM", 1), Transport::Udp).asked.unwrap();
    assert_eq!((asked.name.as_str(), asked.kind.to_string().as_str()), ("example.com", "A"));
}

/// Rows N4 and N9: there is nobody to ask further; the names of a tunnel fill a table with a bound, and the first above it is told.
#[test]
fn row_n04_a_tunnel_of_names_fills_a_budget_and_reaches_nobody() {
    let mut names = Names::new();
    let mut verdicts = Vec::new();
    for at in 0..500 {
        let kind = [16, 1, 10, 65][at % 4];
        let (verdict, reply) = ask(&mut names, &query(&format!("mzxw6ytboi{at}.{at}.denied.example"), kind));
        assert_eq!(reply.rcode(), if at < MAX_NAMES_BELOW { 0 } else { 5 });
        verdicts.push(verdict);
    }
    let crowded = |first| Verdict::Turned(Turned::Crowded { parent: "denied.example".to_owned(), first });
    assert_eq!(verdicts[MAX_NAMES_BELOW], crowded(true));
    assert!(verdicts[MAX_NAMES_BELOW + 1..].iter().all(|verdict| *verdict == crowded(false)));
    assert_eq!(names.turned_away(), (500 - MAX_NAMES_BELOW as u64, 0));
}

#[test]
fn row_n04_a_full_table_answers_servfail() {
    let mut names = Names::new();
    for at in 0..MAX_NAMES {
        names.give(&Name::parse(&format!("a.b{at}")).unwrap()).unwrap();
    }
    let (verdict, reply) = ask(&mut names, &query("a.c", 1));
    assert_eq!((verdict, reply.rcode()), (Verdict::Turned(Turned::Full { first: true }), 2));
    assert_eq!(ask(&mut names, &query("a.b7", 1)).0, Verdict::Answered);
}

/// Row N6: what programs do to find another resolver finds none.
#[test]
fn row_n06_no_other_resolver_is_found_by_asking() {
    let mut names = Names::new();
    for name in [
        "use-application-dns.net",
        "_dns.resolver.arpa",
        "ipv4only.arpa",
        "printer.local",
        "local",
        "x.onion",
        "wpad.local",
    ] {
        let (verdict, reply) = ask(&mut names, &query(name, 1));
        assert_eq!((verdict, reply.rcode()), (Verdict::NoSuchName, NX), "{name}");
        assert_eq!(reply.records[1][0].0, SOA);
    }
    assert!(names.is_empty());
}

/// Row N7: no type but A, AAAA and PTR has data, and nothing of the query but its question comes back.
#[test]
fn row_n07_no_type_carries_anything() {
    let mut names = Names::new();
    for kind in (0..=300).chain([32_768, 65_535]).filter(|kind| ![1, 28, 251, 252].contains(kind)) {
        let (verdict, reply) = ask(&mut names, &query("example.com", kind));
        assert_eq!((verdict, reply.rcode()), (Verdict::NoData, 0), "{kind}");
        assert_eq!((reply.records[0].len(), reply.records[1][0].0), (0, SOA));
    }
    for kind in [251, 252] {
        let (verdict, reply) = ask(&mut names, &query("example.com", kind));
        assert_eq!((verdict, reply.rcode()), (Verdict::Transfer, 5));
    }
    assert_eq!(names.len(), 1);
}

#[test]
fn row_n07_letters_come_back_as_they_came_and_are_not_kept() {
    let mut names = Names::new();
    let plain = ask(&mut names, &query("www.example.com", 1)).1;
    let mixed = query("wWw.ExAmPlE.cOM", 1);
    let answered = answer(&mut names, &mixed, Transport::Udp);
    let reply = read(&answered.reply.unwrap());
    assert_eq!(reply.question, mixed[12..]);
    assert_eq!(reply.records, plain.records);
    assert_eq!(answered.asked.unwrap().name, "www.example.com");
    assert_eq!(names.len(), 1);
}

#[test]
fn row_n07_options_of_edns_are_skipped_and_none_comes_back() {
    let mut names = Names::new();
    // A cookie, a client's network, padding, one of nobody's.
    let options = [
        &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8][..],
        &[0, 8, 0, 4, 0, 1, 0, 0],
        &[0, 12, 0, 2, 0, 0],
        &[0xff, 1, 0, 1, 9],
    ]
    .concat();
    let (verdict, reply) = ask(&mut names, &with_opt("example.com", 1, &opt(4_096, 0, 0x8000, &options)));
    assert_eq!(verdict, Verdict::Answered);
    // Version 0, DNSSEC asked for, no data.
    assert_eq!(reply.records[2], [(41, 0x0000_8000, vec![])]);
    let (verdict, reply) = ask(&mut names, &with_opt("example.com", 1, &opt(4_096, 1, 0, &[])));
    assert_eq!((verdict, reply.rcode()), (Verdict::EdnsVersion(1), 0));
    assert_eq!(reply.records[2], [(41, 0x0100_0000, vec![])], "16, of which the upper bits stand here");
    assert_eq!(reply.records[0], []);
}

/// Rows N8 and N31: the answer is the same whatever the name is really, and what a cloud or a hypervisor would answer is not asked.
#[test]
fn row_n08_every_name_gets_an_address_of_ours_and_no_other() {
    let mut names = Names::new();
    for name in [
        "rebind.network",
        "127.0.0.1.nip.io",
        "metadata.google.internal",
        "host.docker.internal",
        "localtest.me",
        "a.test",
    ] {
        let (verdict, reply) = ask(&mut names, &query(name, 1));
        assert_eq!(verdict, Verdict::Answered);
        let address = <[u8; 4]>::try_from(&*reply.records[0][0].2).unwrap();
        assert_eq!(names.name_of(address.into()).unwrap().as_str(), name);
        assert_eq!(crate::address::class(address.into()), crate::address::Class::OurOwn);
    }
}

#[test]
fn localhost_is_this_machine_and_a_single_label_nothing() {
    let mut names = Names::new();
    for name in ["localhost", "LOCALHOST", "app.localhost"] {
        assert_eq!(ask(&mut names, &query(name, 1)).1.records[0][0].2, [127, 0, 0, 1]);
        assert_eq!(ask(&mut names, &query(name, 28)).1.records[0][0].2, Ipv6Addr::LOCALHOST.octets());
        assert_eq!(ask(&mut names, &query(name, 16)).0, Verdict::NoData);
    }
    assert_eq!(ask(&mut names, &query("1.0.0.127.in-addr.arpa", 12)).1.records[0][0].2, b"\x09localhost\0");
    for name in ["gateway", "com", "arpa", ""] {
        let (verdict, reply) = ask(&mut names, &query(name, 1));
        assert_eq!((verdict, reply.rcode()), (Verdict::NoData, 0), "{name}");
    }
    assert!(names.is_empty());
}

#[test]
fn the_reverse_of_what_is_not_ours_is_no_name_and_what_is_above_ours_is_there() {
    let mut names = Names::new();
    for name in [
        "1.1.1.1.in-addr.arpa",
        "9.9.18.198.in-addr.arpa",
        "254.169.254.169.in-addr.arpa",
        "20.198.in-addr.arpa",
        "0.1.018.198.in-addr.arpa",
        "x.1.18.198.in-addr.arpa",
        "5.0.1.18.198.in-addr.arpa",
        "example.arpa",
        "256.in-addr.arpa",
        "00.ip6.arpa",
        "2.ip6.arpa",
        "g.ip6.arpa",
    ] {
        let (verdict, reply) = ask(&mut names, &query(name, 12));
        assert_eq!((verdict, reply.rcode()), (Verdict::NoSuchName, NX), "{name}");
    }
    for name in [
        "in-addr.arpa",
        "198.in-addr.arpa",
        "18.198.in-addr.arpa",
        "7.19.198.in-addr.arpa",
        "0.0.127.in-addr.arpa",
        "ip6.arpa",
        "f.ip6.arpa",
        "a.6.d.f.ip6.arpa",
        "0.ip6.arpa",
    ] {
        assert_eq!(ask(&mut names, &query(name, 12)).0, Verdict::NoData, "{name}");
    }
    let long = "0.".repeat(33) + "ip6.arpa";
    assert_eq!(ask(&mut names, &query(&long, 12)).0, Verdict::NoSuchName);
    assert!(names.is_empty());
}

/// Row N15, on the wire.
#[test]
fn row_n15_what_is_no_name_is_not_there_and_is_written_so_that_it_can_be_printed() {
    let mut names = Names::new();
    for (labels, error, text) in [
        (&[&b"attacker\0"[..], b"allowed"][..], NameError::Nul, "attacker\\000.allowed"),
        (&[b"attacker.com", b"allowed"], NameError::Dot, "attacker\\.com.allowed"),
        (&[b"a b", b"c"], NameError::Space, "a\\032b.c"),
        (&[b"*", b"allowed"], NameError::Char('*'), "*.allowed"),
        (&["münchen".as_bytes(), b"de"], NameError::NotAscii, "m\\195\\188nchen.de"),
        (&[b"\x1b[31m", b"x"], NameError::Control, "\\027[31m.x"),
        (&[b"A\\B", b"x"], NameError::Backslash, "a\\\\b.x"),
        (&[b"127", b"0", b"0", b"1"], NameError::Address, "127.0.0.1"),
        (&[b"2130706433"], NameError::Address, "2130706433"),
        (&[b"-a", b"b"], NameError::Hyphen, "-a.b"),
    ] {
        let query = query_of(0x0100, [1, 0, 0, 0], &question(labels, 1, 1));
        let answered = answer(&mut names, &query, Transport::Udp);
        assert_eq!((answered.verdict, answered.asked.unwrap().name.as_str()), (Verdict::NotAName(error), text));
        assert_eq!(read(&answered.reply.unwrap()).rcode(), NX);
    }
    assert!(names.is_empty());
}

#[test]
fn what_does_not_read_is_said_to_be_so_and_a_reply_is_never_replied_to() {
    let mut names = Names::new();
    let good = question(&[b"example", b"com"], 1, 1);
    let one = [1, 0, 0, 0];
    let long = vec![[63; 64]; 4].concat();
    let plain = |rest: &[u8]| query_of(0x0100, one, rest);
    for (query, error) in [
        (query_of(0x0100, [0, 0, 0, 0], &[]), Malformed::Questions(0)),
        (query_of(0x0100, [2, 0, 0, 0], &[&*good, &good].concat()), Malformed::Questions(2)),
        (query_of(0x0100, [u16::MAX, 0, 0, 0], &good), Malformed::Questions(u16::MAX)),
        (plain(&[]), Malformed::Truncated),
        (plain(&good[..5]), Malformed::Truncated),
        (plain(&good[..good.len() - 1]), Malformed::Truncated),
        (plain(&[0xc0, 0x0c, 0, 1, 0, 1]), Malformed::Pointer),
        (plain(&[1, b'a', 0xc0, 0x0c, 0, 1, 0, 1]), Malformed::Pointer),
        (plain(&[0x41, 0, 0, 1, 0, 1]), Malformed::Label),
        (plain(&[0x80, 0, 0, 1, 0, 1]), Malformed::Label),
        (plain(&[&*long, &[0, 0, 1, 0, 1]].concat()), Malformed::Name),
        (plain(&[&*good, &[0]].concat()), Malformed::Trailing),
        (query_of(0x0100, [1, 1, 0, 0], &good), Malformed::Records),
        (query_of(0x0100, [1, 0, 1, 0], &good), Malformed::Records),
        (
            query_of(0x0100, [1, 0, 0, 2], &[&*good, &opt(512, 0, 0, &[]), &opt(512, 0, 0, &[])].concat()),
            Malformed::Records,
        ),
        (query_of(0x0100, [1, 0, 0, 1], &good), Malformed::Edns),
        (with_opt("example.com", 1, &[0, 0, 250, 0, 0, 0, 0, 0, 0, 0, 0]), Malformed::Records),
        (with_opt("example.com", 1, &[0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 1]), Malformed::Edns),
        (with_opt("example.com", 1, &[&*opt(512, 0, 0, &[]), &[1]].concat()), Malformed::Trailing),
        (with_opt("example.com", 1, &opt(512, 0, 0, &[0; 1_300])), Malformed::Long),
    ] {
        let (verdict, reply) = ask(&mut names, &query);
        assert_eq!((verdict, reply.rcode()), (Verdict::Malformed(error), 1));
    }
    for (query, error) in [
        (query_of(0x8180, one, &good), Malformed::Reply),
        (good[..11].to_vec(), Malformed::Short),
        (vec![], Malformed::Short),
    ] {
        let answered = answer(&mut names, &query, Transport::Udp);
        assert_eq!(answered, Answered { reply: None, asked: None, verdict: Verdict::Malformed(error) });
    }
    // An update, a notification; a question of the class in which servers tell their version.
    for (opcode, flags) in [(5, 0x2800), (4, 0x2000), (15, 0x7800)] {
        let (verdict, reply) = ask(&mut names, &query_of(flags, one, &good));
        assert_eq!((verdict, reply.flags), (Verdict::Opcode(opcode), 0x8084 | flags));
    }
    for class in [3, 254, 255] {
        let query = query_of(0, one, &question(&[b"version", b"bind"], 16, class));
        let (verdict, reply) = ask(&mut names, &query);
        assert_eq!((verdict, reply.rcode()), (Verdict::Class(class), 5));
    }
    assert!(names.is_empty());
}

#[test]
fn a_name_of_the_wire_has_255_bytes_and_no_more() {
    let (full, last, over) = ([b'a'; 63], [b'a'; 61], [b'a'; 62]);
    for (end, verdict) in [(&last[..], Verdict::Answered), (&over, Verdict::Malformed(Malformed::Name))] {
        let query = query_of(0x0100, [1, 0, 0, 0], &question(&[&full, &full, &full, end], 1, 1));
        assert_eq!(ask(&mut Names::new(), &query).0, verdict);
    }
}

#[test]
fn of_the_querys_bits_only_those_that_are_the_clients_come_back() {
    let query = query_of(0x07ff, [1, 0, 0, 0], &question(&[b"example", b"com"], 1, 1));
    assert_eq!(ask(&mut Names::new(), &query).1.flags, 0x8190);
    let query = query_of(0, [1, 0, 0, 0], &question(&[b"example", b"com"], 1, 1));
    assert_eq!(ask(&mut Names::new(), &query).1.flags, 0x8080);
}

#[test]
fn a_reply_by_udp_that_does_not_fit_is_cut_down_to_its_question() {
    let mut names = Names::new();
    let name = Name::parse("example.com").unwrap();
    names.give(&name).unwrap();
    let bytes = query("example.com", 1);
    let (header, rest) = wire::header(&bytes).unwrap();
    let parsed = wire::question(header, bytes.len(), rest).unwrap();
    assert_eq!(parsed.udp_limit(), 512);
    let whole = Reply::to(&parsed, Rcode::NoError, Some(Data::A(Ipv4Addr::LOCALHOST)), 45);
    assert_eq!((read(&whole).records[0].len(), read(&whole).is_cut()), (1, false));
    let cut = Reply::to(&parsed, Rcode::NoError, Some(Data::A(Ipv4Addr::LOCALHOST)), 44);
    assert_eq!((read(&cut).records[0].len(), read(&cut).is_cut(), cut.len()), (0, true, 29));
    for (said, limit) in [(0, 512), (511, 512), (1_000, 1_000), (65_535, 1_232)] {
        let bytes = with_opt("example.com", 1, &opt(said, 0, 0, &[]));
        let (header, rest) = wire::header(&bytes).unwrap();
        assert_eq!(wire::question(header, bytes.len(), rest).unwrap().udp_limit(), limit);
    }
}

/// As many labels as there can be, and the longest reply: the longest name's own, without EDNS.
#[test]
fn the_longest_replies_fit_where_every_client_reads_them() {
    let mut names = Names::new();
    for name in ["a.".repeat(126) + "a", [["a"; 62].concat().as_str(); 4].join(".") + ".b"] {
        assert_eq!(name.len(), 253);
        let edns = opt(512, 0, 0, &[]);
        for kind in [1, 28, 16] {
            let answered = answer(&mut names, &with_opt(&name, kind, &edns), Transport::Udp);
            let reply = answered.reply.unwrap();
            assert!(reply.len() <= 512 && !read(&reply).is_cut(), "{}", reply.len());
        }
        let place = names.addresses_of(&Name::parse(&name).unwrap()).unwrap().v6;
        let backwards =
            nibbles_of(place).iter().rev().map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa";
        let reply = answer(&mut names, &with_opt(&backwards, 12, &edns), Transport::Udp).reply.unwrap();
        assert!(reply.len() <= 512 && !read(&reply).is_cut(), "{}", reply.len());
    }
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let label = prop_oneof![
        "[a-cA-C]{1,3}".prop_map(String::into_bytes),
        prop_oneof!["arpa", "in-addr", "ip6", "198", "18", "localhost", "local", "1", "0"].prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..70),
    ];
    let name = prop::collection::vec(label, 0..6).prop_map(|labels| {
        let mut wire = Vec::new();
        for label in labels {
            wire.push(label.len().try_into().unwrap_or(u8::MAX));
            wire.extend(label);
        }
        wire.push(0);
        wire
    });
    let kind = prop_oneof![Just(1_u16), Just(28), Just(12), Just(16), any::<u16>()];
    let class = prop_oneof![9 => Just(1_u16), 1 => any::<u16>()];
    let flags = prop_oneof![9 => Just(0x0100_u16), 1 => any::<u16>()];
    let tail = prop_oneof![
        Just((0, vec![])),
        (any::<u16>(), 0_u8..2, any::<u16>(), prop::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(a, b, c, d)| (1, opt(a, b, c, &d))),
        (0_u16..3, prop::collection::vec(any::<u8>(), 0..30)),
    ];
    (flags, name, kind, class, tail).prop_map(|(flags, name, kind, class, (count, tail))| {
        query_of(flags, [1, 0, 0, count], &[&*name, &kind.to_be_bytes(), &class.to_be_bytes(), &tail].concat())
    })
}

proptest! {
    #[test]
    fn every_reply_is_one_to_its_question_and_fits(
        queries in prop::collection::vec(prop_oneof![hostile(), prop::collection::vec(any::<u8>(), 0..60)], 1..12),
    ) {
        let mut names = Names::new();
        for query in queries {
            let udp = answer(&mut names, &query, Transport::Udp);
            let tcp = answer(&mut names, &query, Transport::Tcp);
            // What is told once differs; everything else is the same.
            prop_assert_eq!((udp.verdict.as_str(), &udp.asked), (tcp.verdict.as_str(), &tcp.asked));
            let Some(bytes) = udp.reply else {
                prop_assert!(tcp.reply.is_none() && (query.len() < 12 || query[2] & 0x80 != 0));
                continue;
            };
            prop_assert_eq!(Some(&bytes), tcp.reply.as_ref(), "no reply is so long that it is cut");
            prop_assert!(bytes.len() <= 512);
            let reply = read(&bytes);
            prop_assert_eq!(&bytes[..2], &query[..2]);
            prop_assert!(reply.flags & 0x8000 != 0);
            prop_assert!(query[12..].starts_with(&reply.question));
            prop_assert_eq!(reply.question.is_empty(), udp.asked.is_none());
            prop_assert_eq!(reply.records[0].len(), usize::from(udp.verdict == Verdict::Answered));
            if let Some(asked) = udp.asked {
                prop_assert!(asked.name.bytes().all(|byte| byte.is_ascii_graphic()), "{}", asked.name);
                prop_assert!(!asked.name.bytes().any(|byte| byte.is_ascii_uppercase()));
            }
            for (kind, _, data) in &reply.records[0] {
                let address: IpAddr = match kind {
                    1 => <[u8; 4]>::try_from(&**data).unwrap().into(),
                    28 => <[u8; 16]>::try_from(&**data).unwrap().into(),
                    _ => continue,
                };
                prop_assert!(address.is_loopback() || names.name_of(address).is_some());
            }
        }
    }
}
