//! Placeholders: a secret goes where it is bound and nowhere else, nothing of the kind is left behind, and bodies show
//! the same however they come. The first line is the address, each other one a header; `@1` to `@3` are placeholders,
//! and what stands between `<` and `>` comes in base64.
#![no_main]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::SecretString;
use stockade_egress::{
    path::{NormalPath, PathRule},
    placeholder::{Binding, Placeholder, Scanner, Verdict, fill, look},
    request::Wanted,
};
use stockade_fuzz::arrivals;

const SECRET: &str = "THE SECRET ITSELF";

fn placeholder(seed: u8) -> Placeholder {
    Placeholder::from_random(&[seed; 20])
}

fn written(text: &str) -> String {
    let mut text = text.to_owned();
    for seed in 1..=3 {
        text = text.replace(&format!("@{seed}"), placeholder(seed).as_str());
    }
    if let Some((before, rest)) = text.split_once('<') {
        let (inner, after) = rest.split_once('>').unwrap_or((rest, ""));
        text = format!("{before}{}{after}", STANDARD.encode(inner));
    }
    text
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let bindings = [(1, header::AUTHORIZATION, "/team"), (2, HeaderName::from_static("x-key"), "/")].map(
        |(seed, header, path)| Binding {
            placeholder: placeholder(seed),
            host: "a.example".into(),
            port: 443,
            in_the_clear: seed == 2,
            header,
            path: PathRule::below(path).expect("a path"),
        },
    );
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let raw_target = written(lines.next().unwrap_or_default());
    let path = NormalPath::read(raw_target.split('?').next().unwrap_or_default());
    let host = if bytes.len() % 7 == 0 { "b.example" } else { "a.example" }.to_owned();
    let wanted =
        Wanted { host, port: 443, tls: bytes.len() % 5 != 0, method: Method::GET, path, raw_target, upgrade: None };
    let mut headers = HeaderMap::new();
    for line in lines.take(32) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = written(value.trim());
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    let secret = SecretString::from(SECRET);
    if let Verdict::Replace(places) = look(&bindings, &wanted, &headers) {
        assert_eq!(wanted.host, "a.example");
        let before = headers.clone();
        fill(&mut headers, &places, |_| Some(&secret)).expect("what was found is filled");
        assert_eq!(headers.len(), before.len());
        for (name, value) in &headers {
            let mine = value.is_sensitive();
            assert!(!mine || wanted.tls || name == "x-key");
            assert!(!mine || *name == header::AUTHORIZATION || name == "x-key");
            assert!(mine || before.get_all(name).iter().any(|old| old == value));
        }
        assert_eq!(look(&bindings, &wanted, &headers), Verdict::Nothing);
    }
    let body = written(&text).into_bytes();
    let seen = arrivals(&body).map(|pieces| {
        let (mut scanner, mut encoded) = (Scanner::new(), false);
        let mut found = Vec::new();
        for piece in pieces {
            let seen = scanner.push(piece);
            found.extend(seen.placeholders);
            encoded |= seen.encoded;
        }
        found.truncate(16);
        (found, encoded)
    });
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
});
