//! Heads of requests: the same however they come; what passes is read alike by hyper's parser, names one host and one
//! length; and a request that passes is for its connection. Bodies in chunks end where they end.
#![no_main]

use http::{Request, Version};
use stockade_egress::{
    chunks::{self, Chunks},
    head::{Body, Reader, Verdict},
    path::{NormalPath, PathRule},
    request::{Layer, Via, check},
};
use stockade_fuzz::arrivals;

const VIA: Via<'_> = Via { host: "a.example", port: 443, layer: Layer::Tls { server_name: Some("a.example") } };

/// A request as hyper makes it, of either version.
fn parsed(bytes: &[u8], second: bool) -> Option<(usize, Request<()>)> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut raw = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = raw.parse(bytes).ok()? else { return None };
    let version = match (second, raw.version?) {
        (true, _) => Version::HTTP_2,
        (_, 0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let mut request = Request::builder().method(raw.method?).uri(raw.path?).version(version);
    for header in raw.headers.iter() {
        request = request.header(header.name, header.value);
    }
    request.body(()).ok().map(|request| (length, request))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let seen = arrivals(bytes).map(|pieces| {
        let mut reader = Reader::new();
        pieces.into_iter().for_each(|piece| {
            reader.push(piece);
        });
        (reader.push(&[]), reader.body())
    });
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    for second in [false, true] {
        let Some((length, request)) = parsed(bytes, second) else { continue };
        let strict = matches!(seen[0].0, Verdict::Ok(_));
        if strict {
            assert_eq!(seen[0].0, Verdict::Ok(length));
        }
        let (parts, ()) = request.into_parts();
        let Ok(wanted) = check(&VIA, &parts, None) else { continue };
        assert_eq!((wanted.host.as_str(), wanted.port), ("a.example", 443));
        assert!(wanted.raw_target.is_ascii() && (wanted.raw_target == "*" || wanted.raw_target.starts_with('/')));
        if strict && !second {
            let chunked = parts.headers.contains_key("transfer-encoding");
            assert_eq!(chunked, seen[0].1 == Some(Body::Chunked));
        }
        let Ok(path) = &wanted.path else { continue };
        assert_eq!(NormalPath::read(path.as_str()).as_ref().map(NormalPath::as_str), Ok(path.as_str()));
        assert!(path.as_str().split('/').all(|segment| segment != "." && segment != ".."));
        // However an encoded slash is read, nothing leads above.
        let slashes = path.as_str().replace("%2F", "/");
        assert!(slashes.split('/').all(|segment| segment != "." && segment != ".."));
        let target = wanted.target();
        let again = NormalPath::read(target.split('?').next().unwrap_or_default()).expect("it was read before");
        assert!(!again.moved() && again.as_str() == path.as_str());
        assert!(PathRule::below("/").expect("a path").matches(path));
    }
    let ends = arrivals(bytes).map(|pieces| {
        let (mut reader, mut before) = (chunks::Reader::new(), 0);
        for piece in pieces {
            match reader.push(piece) {
                Chunks::NeedMore => before += piece.len(),
                Chunks::End(taken) => return Chunks::End(before + taken),
                refused @ Chunks::Refused(_) => return refused,
            }
        }
        Chunks::NeedMore
    });
    assert_eq!(ends[0], ends[1]);
    assert_eq!(ends[0], ends[2]);
});
