//! Git's wire protocol as both sides may speak it: packets, pushes, fetches, advertisements, commands over SSH, paths.
//! The first byte chooses how the rest is cut.
#![no_main]

use stockade_egress::git::advertisement::Rewriter;
use stockade_egress::git::fetch::{FetchReader, RequestReader};
use stockade_egress::git::path::{self, Repository, Service};
use stockade_egress::git::pkt::{Kind, PacketReader, side_band, write};
use stockade_egress::git::push::{PushReader, check_reference};
use stockade_egress::git::refs::{Pattern, RefRules, Unknown, judge};

fn plain(repository: &Repository) {
    assert!(repository.name().split('/').all(|part| !matches!(part, "." | "..")));
    assert!(!repository.said().is_empty() && !repository.said().contains(char::is_control));
}

fn packets(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut reader, mut read) = (PacketReader::new(), Vec::new());
    for mut piece in pieces.iter().copied() {
        loop {
            match reader.read(&mut piece) {
                Ok(Some(packet)) => {
                    if packet.kind == Kind::Data {
                        let _ = side_band(packet.payload);
                        let mut again = Vec::new();
                        write(&mut again, packet.payload).expect("what was read is not too long");
                        assert!(again.eq_ignore_ascii_case(packet.raw) || again.len() == packet.raw.len());
                    }
                    read.push(packet.raw.to_vec());
                }
                Ok(None) => break,
                Err(_) => return (read, false),
            }
        }
    }
    (read, reader.finish().is_ok())
}

fn shown(service: Service, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let (mut out, mut rewriter) = (Vec::new(), Rewriter::http(service));
    let mut ok = true;
    for mut piece in pieces.iter().copied() {
        match rewriter.read(&mut piece, &mut out, &mut |_, _| ()) {
            Ok(Some(_)) | Err(_) => {
                ok = false;
                break;
            }
            Ok(None) => {}
        }
    }
    (out, ok)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*cut) + 1).collect();
    assert_eq!(packets(&pieces), packets(&[bytes]));
    for service in [Service::UploadPack, Service::ReceivePack] {
        assert_eq!(shown(service, &pieces).0, shown(service, &[bytes]).0);
    }

    let (mut at_once, mut in_pieces) = (PushReader::new(), PushReader::new());
    let mut rest = bytes;
    let whole = at_once.read(&mut rest).map(|push| push.cloned());
    for mut piece in pieces.iter().copied() {
        if !matches!(in_pieces.read(&mut piece), Ok(None)) {
            break;
        }
    }
    assert_eq!(in_pieces.read(&mut [].as_slice()).map(|push| push.cloned()), whole);
    if let Ok(Some(push)) = whole {
        for command in &push.commands {
            assert_eq!(check_reference(command.reference.as_bytes()), Ok(command.reference.as_str()));
            assert!(!(command.old.is_zero() && command.new.is_zero()));
        }
        let rules =
            RefRules { push: Pattern::parse("refs/heads/stockade/*").into_iter().collect(), ..RefRules::default() };
        if judge(&push, &rules, &Unknown, push.format).is_ok() {
            assert!(push.commands.iter().all(|command| command.reference.starts_with("refs/heads/stockade/")
                && (command.old.is_zero() || command.old == command.new)));
        }
    }

    let mut rest = bytes;
    let mut requests = RequestReader::new();
    while let Ok(Some(_)) = requests.read(&mut rest) {}
    let mut rest = bytes;
    let mut fetches = FetchReader::new();
    while let Ok(Some(_)) = fetches.read(&mut rest) {}

    if let Ok(asked) = path::ssh(bytes) {
        plain(&asked.repository);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Pattern::parse(text);
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        for (method, kind) in [("GET", None), ("POST", Some(Service::ReceivePack.request_type()))] {
            match path::http(method, path, query, kind) {
                Ok(Some(asked)) => plain(&asked.repository),
                Ok(None) => assert!(!path.ends_with("/git-receive-pack") && !path.ends_with("/git-upload-pack")),
                Err(_) => {}
            }
        }
    }
});
