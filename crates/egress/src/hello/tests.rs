//! Hellos of real clients, of rustls as it is here, and made by hand to be wrong.

use std::{io::Cursor, sync::Arc};

use proptest::prelude::*;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    client::{EchGreaseConfig, EchMode},
    crypto::{
        aws_lc_rs::{default_provider, hpke::DH_KEM_X25519_HKDF_SHA256_AES_128},
        hpke::Hpke as _,
    },
    pki_types::ServerName,
    server::Acceptor,
    version::{TLS12, TLS13},
};

use super::*;

/// One hello in its bytes.
fn hello_of(name: &str, alpn: &[&[u8]], change: impl FnOnce(&mut ClientConfig), ech: bool, old: bool) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = if ech {
        let suite = DH_KEM_X25519_HKDF_SHA256_AES_128;
        let (key, _) = suite.generate_key_pair().unwrap();
        builder.with_ech(EchMode::Grease(EchGreaseConfig::new(suite, key))).unwrap()
    } else {
        let versions = if old { vec![&TLS12] } else { vec![&TLS13, &TLS12] };
        builder.with_protocol_versions(&versions).unwrap()
    };
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    change(&mut config);
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The hello of an ordinary client.
fn plain() -> Vec<u8> {
    hello_of("registry.example", &[b"h2", b"http/1.1"], |_| {}, false, false)
}

fn read(bytes: &[u8]) -> Progress {
    let mut reader = Reader::new();
    let seen = reader.push(bytes);
    assert_eq!(reader.into_bytes(), bytes);
    seen
}

fn one_by_one(bytes: &[u8]) -> Progress {
    let mut reader = Reader::new();
    let seen = bytes.iter().fold(Progress::NeedMore, |_, byte| reader.push(&[*byte]));
    assert_eq!(reader.bytes(), bytes);
    seen
}

/// What stands in the records of a hello.
fn message(bytes: &[u8]) -> Vec<u8> {
    let (mut rest, mut message) = (bytes, Vec::new());
    while let [_, _, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        message.extend_from_slice(&after[..length]);
        rest = &after[length..];
    }
    message
}

/// A message in records of this size.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| [&[22, 3, 1], &u16::try_from(piece.len()).unwrap().to_be_bytes()[..], piece].concat();
    message.chunks(size).flat_map(record).collect()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A hello by hand, with these extensions and nothing else.
fn made(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let all: Vec<u8> =
        extensions.iter().flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &vector16(data)].concat()).collect();
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &vector16(&all)].concat();
    records(&[&[1, 0], &u16::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat(), 1 << 14)
}

fn sni(name: &[u8]) -> (u16, Vec<u8>) {
    (0, vector16(&[&[0], &vector16(name)[..]].concat()))
}

fn named(progress: Progress) -> Option<String> {
    match progress {
        Progress::Hello(hello) => hello.server_name,
        other => panic!("{other:?}"),
    }
}

/// What rustls' server says of the same bytes: the name, and the protocols.
fn rustls_says(bytes: &[u8]) -> Option<(Option<String>, Vec<Vec<u8>>)> {
    let mut acceptor = Acceptor::default();
    let mut from = Cursor::new(bytes);
    loop {
        if acceptor.read_tls(&mut from).ok()? == 0 {
            return None;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().map(|all| all.map(<[u8]>::to_vec).collect()).unwrap_or_default();
            return Some((hello.server_name().map(str::to_owned), alpn));
        }
    }
}

/// Where both read it, both read the same.
fn agrees(bytes: &[u8]) {
    if let (Progress::Hello(ours), Some((name, alpn))) = (read(bytes), rustls_says(bytes)) {
        assert_eq!((ours.server_name, ours.alpn), (name, alpn));
    }
}

/// A hello, its server name, its protocols, its versions.
type Client<'a> = (&'a [u8], Option<&'a str>, &'a [&'a [u8]], &'a [u16]);

#[test]
fn real_clients_are_read() {
    let name = Some("registry.example");
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    let one: &[&[u8]] = &[b"http/1.1"];
    let table: [Client<'_>; 9] = [
        (include_bytes!("../../testdata/hello/curl"), name, both, &[0x304, 0x303, 0x302, 0x301]),
        (include_bytes!("../../testdata/hello/java"), name, &[], &[0x304, 0x303]),
        (include_bytes!("../../testdata/hello/node"), name, one, &[0x304, 0x303]),
        (include_bytes!("../../testdata/hello/openssl"), name, both, &[0x304, 0x303, 0x302, 0x301]),
        (include_bytes!("../../testdata/hello/openssl-12-no-sni"), None, &[], &[0x303]),
        (include_bytes!("../../testdata/hello/python-12"), name, one, &[0x303]),
        (include_bytes!("../../testdata/hello/python-12-no-sni"), None, &[], &[0x303]),
        (include_bytes!("../../testdata/hello/python-13"), name, both, &[0x304]),
        (include_bytes!("../../testdata/hello/python-13-no-sni"), None, &[], &[0x304, 0x303]),
    ];
    for (bytes, name, alpn, versions) in table {
        let hello = ClientHello {
            server_name: name.map(str::to_owned),
            alpn: alpn.iter().map(|name| name.to_vec()).collect(),
            encrypted_client_hello: false,
            versions: versions.to_vec(),
        };
        assert_eq!(read(bytes), Progress::Hello(hello));
        assert_eq!(one_by_one(bytes), read(bytes));
        agrees(bytes);
    }
}

#[test]
fn rustls_in_several_configurations_is_read() {
    let with = |change: fn(&mut ClientConfig), ech, old| hello_of("Registry.Example", &[b"h2"], change, ech, old);
    for (bytes, name, ech) in [
        (with(|_| {}, false, false), Some("registry.example"), false),
        (with(|_| {}, false, true), Some("registry.example"), false),
        (with(|_| {}, true, false), Some("registry.example"), true),
        (with(|config| config.enable_sni = false, false, false), None, false),
        (with(|config| config.max_fragment_size = Some(64), false, false), Some("registry.example"), false),
        (hello_of("203.0.113.20", &[b"h2"], |_| {}, false, false), None, false),
    ] {
        let Progress::Hello(hello) = read(&bytes) else { panic!("{:?}", read(&bytes)) };
        assert_eq!(hello.server_name.as_deref(), name);
        assert_eq!(hello.alpn, [b"h2"]);
        assert_eq!(hello.encrypted_client_hello, ech);
        assert_eq!(one_by_one(&bytes), read(&bytes));
        assert!(rustls_says(&bytes).is_some());
        agrees(&bytes);
    }
}

#[test]
fn n12_a_hello_in_pieces_is_read_right() {
    let whole = plain();
    let message = message(&whole);
    for size in [1, 2, 3, 4, 5, 63, 1000] {
        let cut = records(&message, size);
        let seen = read(&cut);
        if message.len().div_ceil(size) > MAX_RECORDS {
            assert_eq!(seen, Progress::Refused(HelloError::TooManyRecords));
        } else {
            assert_eq!(seen, read(&whole));
        }
        assert_eq!(one_by_one(&cut), seen);
    }
}

#[test]
fn n12_an_encrypted_hello_is_told_and_its_outer_name_counts() {
    let Progress::Hello(hello) = read(&hello_of("public.example", &[], |_| {}, true, false)) else { panic!() };
    assert!(hello.encrypted_client_hello);
    assert_eq!(hello.server_name.as_deref(), Some("public.example"));
    let Progress::Hello(hello) = read(&made(&[sni(b"public.example"), (0xfe0d, vec![0])])) else { panic!() };
    assert!(hello.encrypted_client_hello);
}

#[test]
fn n10_a_name_in_two_readings_is_refused() {
    use HelloError::*;
    let two = [&[0][..], &vector16(b"a.example"), &[0], &vector16(b"b.example")].concat();
    let other = [&[1][..], &vector16(b"a.example")].concat();
    let table = [
        (vec![sni(b"a.example"), sni(b"b.example")], Twice(0)),
        (vec![(0, vector16(&two))], TwoNames),
        (vec![(0, vector16(&other))], NameType(1)),
        (vec![(0, vec![])], Length("extension")),
        (vec![(0, vec![0, 0])], Length("server name")),
        (vec![(0, [vector16(&[&[0], &vector16(b"a")[..]].concat()), vec![0]].concat())], Length("extension")),
        (vec![(0, vec![0, 4, 0, 0, 9, b'a'])], Length("server name")),
        (vec![sni(b"")], Length("server name")),
        (vec![sni(b"a.example.")], Name(HostError::TrailingDot)),
        (vec![sni(b"evil\0a.example")], Name(HostError::Character)),
        (vec![sni(b"203.0.113.20")], Name(HostError::Address)),
        (vec![sni(b"::1")], Name(HostError::Address)),
        (vec![sni(&[b'a'; 254])], Name(HostError::TooLong)),
        (vec![(16, vec![0, 0])], Length("protocols")),
        (vec![(16, vec![0, 1, 0])], Length("protocols")),
        (vec![(16, vec![0, 2, 0, 0])], Length("protocol")),
        (vec![(16, vec![0, 2, 2, b'h'])], Length("protocol")),
        (vec![(43, vec![1, 3])], Length("versions")),
        (vec![(43, vec![3, 3, 4, 3])], Length("versions")),
        (vec![(43, vec![2, 3, 4, 0])], Length("extension")),
    ];
    for (extensions, why) in table {
        assert_eq!(read(&made(&extensions)), Progress::Refused(why), "{extensions:?}");
        assert_eq!(one_by_one(&made(&extensions)), Progress::Refused(why));
    }
    assert_eq!(named(read(&made(&[sni(b"A.Example")]))).as_deref(), Some("a.example"));
    assert_eq!(named(read(&made(&[]))), None);
}

#[test]
fn n12_what_is_no_hello_is_told_apart() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x\r\n", &[0x80, 0x2e, 1, 3, 1], &[21, 3, 3, 0, 2], &[22, 2], &[22, 4]]
    {
        assert_eq!(read(bytes), Progress::NotTls);
    }
    for bytes in [&[][..], &[22], &[22, 3], &[22, 3, 1, 0], &[22, 3, 1, 0, 1], &[22, 3, 1, 0, 1, 1]] {
        assert_eq!(read(bytes), Progress::NeedMore);
    }
    let whole = message(&plain());
    let mut trailing = whole.clone();
    trailing.push(14);
    let mut lying = whole.clone();
    lying[3] = lying[3].wrapping_sub(1);
    for (bytes, why) in [
        (vec![22, 3, 5], HelloError::RecordVersion),
        (vec![22, 3, 1, 0, 0], HelloError::RecordLength),
        (vec![22, 3, 1, 0x40, 1], HelloError::RecordLength),
        (vec![22, 3, 1, 0, 4, 2], HelloError::OtherMessage),
        (vec![22, 3, 1, 0, 4, 1, 1, 0, 1], HelloError::TooLong),
        (vec![22, 3, 1, 0, 4, 1, 0, 0, 0], HelloError::Length("hello")),
        ([records(&whole[..9], 9), vec![23]].concat(), HelloError::OtherRecord),
        ([records(&whole[..9], 9), vec![22, 9]].concat(), HelloError::RecordVersion),
        (records(&trailing, 1 << 14), HelloError::Trailing),
        (records(&lying, 1 << 14), HelloError::Trailing),
    ] {
        assert_eq!(read(&bytes), Progress::Refused(why));
        assert_eq!(one_by_one(&bytes), Progress::Refused(why));
    }
}

#[test]
fn what_comes_behind_the_hello_is_kept_and_changes_nothing() {
    let bytes = [plain(), vec![20, 3, 3, 0, 1, 1]].concat();
    assert_eq!(read(&bytes), read(&plain()));
}

#[test]
fn n29_a_hello_that_never_ends_is_refused_at_its_bounds() {
    let padding = |length: usize| made(&[sni(b"a.example"), (21, vec![0; length])]);
    assert_eq!(named(read(&padding(16_000))).as_deref(), Some("a.example"));
    // A hello of several records, up to the bound in bytes.
    let large = [&[1, 0, 0xff, 0xff][..], &[0; 70_000]].concat();
    let cut = records(&large, MAX_RECORD);
    assert_eq!(read(&cut), Progress::Refused(HelloError::TooLong));
    assert_eq!(one_by_one(&cut), Progress::Refused(HelloError::TooLong));
    assert_eq!(read(&cut[..MAX_BYTES - 1]), Progress::NeedMore);
    assert_eq!(read(&cut[..MAX_BYTES]), Progress::Refused(HelloError::TooLong));
    // Records of one byte.
    let drip = records(&large[..MAX_RECORDS], 1);
    assert_eq!(read(&drip), Progress::NeedMore);
    assert_eq!(read(&[drip, vec![22]].concat()), Progress::Refused(HelloError::TooManyRecords));
    // Extensions.
    let many = |count: u16| made(&(0..count).map(|kind| (1000 + kind, vec![])).collect::<Vec<_>>());
    assert_eq!(named(read(&many(128))), None);
    assert_eq!(read(&many(129)), Progress::Refused(HelloError::TooManyExtensions));
}

/// The end of a push that decides is the same whatever else is in it.
fn at_any_split(bytes: &[u8], cuts: &[usize]) -> Progress {
    let mut reader = Reader::new();
    let (mut rest, mut seen) = (bytes, Progress::NeedMore);
    for cut in cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        seen = reader.push(piece);
        rest = after;
    }
    if !rest.is_empty() {
        seen = reader.push(rest);
    }
    assert_eq!(reader.into_bytes(), bytes);
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_split_gives_the_same(
        size in 1_usize..400, cuts in prop::collection::vec(0_usize..200, 0..40),
        flips in prop::collection::vec((0_usize..600, any::<u8>()), 0..3),
    ) {
        let mut bytes = records(&message(include_bytes!("../../testdata/hello/curl")), size);
        for (at, value) in flips {
            if let Some(place) = bytes.get_mut(at) {
                *place = value;
            }
        }
        prop_assert_eq!(at_any_split(&bytes, &cuts), read(&bytes));
        agrees(&bytes);
    }

    #[test]
    fn hostile_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), tls in any::<bool>()) {
        if tls && bytes.len() > 9 {
            let length = u8::try_from((bytes.len() - 9).min(200)).unwrap();
            bytes[..9].copy_from_slice(&[22, 3, 1, 0, length + 4, 1, 0, 0, length]);
        }
        prop_assert_eq!(one_by_one(&bytes), read(&bytes));
    }

    #[test]
    fn what_is_written_reads_back(
        name in "[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9]{0,20}){0,3}",
        alpn in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..5),
        versions in prop::collection::vec(any::<u16>(), 1..20),
    ) {
        let list: Vec<u8> = alpn.iter().flat_map(|one| [&[u8::try_from(one.len()).unwrap()], &one[..]].concat()).collect();
        let words: Vec<u8> = versions.iter().flat_map(|one| one.to_be_bytes()).collect();
        let words = [&[u8::try_from(words.len()).unwrap()], &words[..]].concat();
        let bytes = made(&[(16, vector16(&list)), sni(name.as_bytes()), (43, words)]);
        let hello = ClientHello { server_name: Some(name), alpn, encrypted_client_hello: false, versions };
        prop_assert_eq!(read(&bytes), Progress::Hello(hello));
    }
}
