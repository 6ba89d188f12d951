//! What surrounds git's protocol: which requests are git's, bodies that are packed, reports of a server, answers with what a push builds upon.
//! The first byte chooses how the rest is cut.
#![no_main]

use http::{HeaderMap, HeaderValue, Method, header};
use stockade_egress::git::base::BaseReader;
use stockade_egress::git::gate::{recognise, version};
use stockade_egress::git::gzip::{FREE_BYTES, Gunzip, GzipError, MAX_RATIO};
use stockade_egress::git::pack::Limits;
use stockade_egress::git::path::Service;
use stockade_egress::git::push::Push;
use stockade_egress::git::report::{MAX_REFERENCES, Report, ReportReader, plain};
use stockade_egress::git::{Format, checksum};
use stockade_egress::path::NormalPath;
use stockade_egress::request::Wanted;

const LIMITS: Limits = Limits {
    pack_bytes: 1 << 20,
    objects: 10_000,
    object_bytes: 1 << 20,
    meta_bytes: 1 << 16,
    kept_bytes: 1 << 20,
    total_bytes: 16 << 20,
    ratio: 200,
    chain: 64,
    working_bytes: 4 << 20,
    thin: false,
};

fn unpacked(pieces: &[&[u8]]) -> Result<Vec<u8>, GzipError> {
    let (mut gunzip, mut out) = (Gunzip::new(), Vec::new());
    for piece in pieces {
        gunzip.push(piece, &mut |made| -> Result<(), GzipError> {
            out.extend_from_slice(made);
            Ok(())
        })?;
    }
    gunzip.finish().map(|()| out)
}

fn reported(pieces: &[&[u8]], capabilities: &[&str]) -> Report {
    let capabilities = capabilities.iter().map(|word| (*word).to_owned()).collect();
    let mut reader = ReportReader::new(&Push { capabilities, ..Push::default() });
    pieces.iter().for_each(|piece| reader.push(piece));
    reader.report()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*cut) + 1).collect();

    // A body that ends whole is the same at any cut, and no bomb.
    let whole = unpacked(&[bytes]);
    if let Ok(made) = &whole {
        assert_eq!(unpacked(&pieces).as_ref(), Ok(made));
        assert!((made.len() as u64).saturating_sub(FREE_BYTES) <= bytes.len() as u64 * MAX_RATIO);
    }
    for capabilities in [&["report-status"][..], &["report-status-v2", "side-band-64k"]] {
        let report = reported(&[bytes], capabilities);
        assert_eq!(report, reported(&pieces, capabilities));
        assert!(report.references.len() <= MAX_REFERENCES);
    }

    let mut base = BaseReader::on(Vec::new(), Format::Sha1, LIMITS);
    if pieces.iter().try_for_each(|piece| base.push(piece)).is_ok()
        && let Ok(pack) = base.finish()
    {
        let sum = pack.bytes().len().saturating_sub(20);
        assert_eq!(checksum(Format::Sha1, &pack.bytes()[..sum]).as_bytes(), &pack.bytes()[sum..]);
    }

    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let told = plain(text);
    assert!(!told.is_empty() && !told.chars().any(char::is_control));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert("git-protocol", value);
        assert!(version(&headers).is_none_or(|version| version < 3));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Service::ReceivePack.request_type()));
    for (method, headers) in [(Method::GET, HeaderMap::new()), (Method::POST, headers), (Method::PUT, HeaderMap::new())]
    {
        let wanted = Wanted {
            host: "forge.example".to_owned(),
            port: 443,
            tls: true,
            path: NormalPath::read(text.split('?').next().unwrap_or_default()),
            raw_target: text.to_owned(),
            upgrade: None,
            method: method.clone(),
        };
        match recognise(&wanted, &headers) {
            Ok(Some(asked)) => {
                assert_eq!(asked.method(), method);
                assert!(text.starts_with(&asked.base) && asked.id.starts_with("forge.example/"));
                assert!(asked.id.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            }
            // Whatever a server may take for a push is git's, or refused.
            Ok(None) => assert!(method != Method::POST || !text.contains("git-receive-pack")),
            Err(_) => {}
        }
    }
});
