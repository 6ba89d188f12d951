//! Content policy: what is taken out of a request leaves JSON and no secret, and a guarded stream does not depend on where
//! its bytes were split; a clean one comes out as it came.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use stockade_domain::ids::ProjectId;
use stockade_fuzz::arrivals;
use stockade_gateway::content::{Guard, Marker, StreamGuard, Verdict};
use stockade_llm::{Dialect, Framing};
use stockade_policy::{
    Bundle, Engine,
    content::{ContentScope, Direction},
};

const RULES: &str = r#"
[[content_pattern]]
name = "ticket"
regex = "ACME-[0-9]{4,8}"
[[content_words]]
name = "code"
words = ["blue falcon"]
[[content]]
id = "a"
title = "a"
classes = ["secret.*", "personal.card", "words.code"]
action = "redact"
[[content]]
id = "b"
title = "b"
classes = ["pattern.ticket"]
places = ["text"]
action = "block"
"#;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| Bundle::parse(1, RULES).expect("the rules are in order"));

fn guard(dialect: Dialect) -> Guard {
    let scope = ContentScope { project: ProjectId::from_bytes([1; 16]), provider: "p", model: "m" };
    let rules = |direction| ENGINE.content(&scope, direction);
    Guard::for_call(rules(Direction::Request), rules(Direction::Response), dialect, Marker::new(b"k"))
}

fn through(mut guard: StreamGuard, pieces: &[&[u8]]) -> (Vec<u8>, Option<String>) {
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(guard.push(&Bytes::copy_from_slice(piece)).concat());
    }
    out.extend(guard.finish().concat());
    (out, guard.stopped().map(str::to_owned))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let body = Bytes::copy_from_slice(bytes);
    // Not `IgnoredAny`, which takes strings that are no UTF-8 and any depth.
    let json = serde_json::from_slice::<serde_json::Value>(bytes).is_ok();
    match guard(Dialect::Chat).request(&body) {
        Ok(Verdict::Redact { bytes: redacted, .. }) if json => {
            serde_json::from_slice::<serde_json::Value>(&redacted).expect("it was JSON before");
        }
        Err(_) => assert!(!json, "what serde reads is read"),
        Ok(_) => {}
    }
    for (dialect, framing) in [
        (Dialect::Messages, Framing::Events),
        (Dialect::Chat, Framing::Events),
        (Dialect::Responses, Framing::Events),
        (Dialect::Gemini, Framing::Array),
        (Dialect::Converse, Framing::Frames),
    ] {
        let [once, single, uneven] = arrivals(bytes).map(|pieces| through(guard(dialect).stream(framing), &pieces));
        assert_eq!(once, single);
        assert_eq!(once, uneven);
    }
});
