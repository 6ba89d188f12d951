//! The way in: paths, queries and headers of clients. No secret of the client goes on, whatever way it is spelt, and what is
//! signed for Amazon has one spelling. The first line is the address, each other one a header.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use stockade_gateway::{
    fuzzing::{entered, request, signed},
    metrics::TraceParent,
};
use stockade_llm::Framing;

/// What a client shows to us and nobody else.
const SECRET: [&str; 7] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "x-amz-security-token",
    "proxy-authorization",
];

/// Percent-decoded once, as a provider does.
fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if *first == b'%' && digits.is_some_and(|two| !two.starts_with('+')) => {
                out.push(byte);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let address = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(at);
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let (path, query) = address.split_once('?').map_or((&*address, None), |(path, query)| (path, Some(query)));
    for method in [Method::POST, Method::GET, Method::DELETE] {
        let seen = entered(&method, path, query, &headers);
        let call = seen.door.starts_with("Call");
        assert!(!call || method == Method::POST, "{method} {address} {}", seen.door);
        assert!(!seen.door.starts_with("Model") || method == Method::GET, "{method} {address} {}", seen.door);
        assert!(seen.token.is_none_or(|token| !token.is_empty() && token.trim() == token));
        assert!(SECRET.iter().all(|name| !seen.outgoing.contains_key(*name)));
        assert!(!seen.outgoing.contains_key(header::HOST) && !seen.outgoing.contains_key(header::CONTENT_LENGTH));
        for pair in seen.query.iter().flat_map(|query| query.split('&')) {
            let name = decoded(pair.split('=').next().unwrap_or_default());
            assert!(!["key", "access_token", "api-version", "alt"].contains(&name.as_str()), "{pair}");
        }
        assert!(seen.client.len() < 64 && seen.client.bytes().all(|byte| byte.is_ascii_graphic()), "{}", seen.client);
        assert!(seen.session.is_none_or(|session| session.len() == 16));
    }
    if let Some(text) = headers.get("traceparent").and_then(|value| value.to_str().ok()) {
        let _ = TraceParent::parse(text);
    }
    let _ = Framing::of_content_type(headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()));

    // Signed again, nothing changes: what is sent is what was signed.
    let Ok(parts) = request(&format!("https://bedrock.example/{address}"), headers) else { return };
    let Ok(once) = signed(parts, bytes) else { return };
    let again = signed(once.clone(), bytes).expect("it was signed before");
    assert_eq!((once.uri, once.headers), (again.uri, again.headers));
});
