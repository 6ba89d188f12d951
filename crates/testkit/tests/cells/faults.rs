//! A provider that fails in the middle of a stream, relayed and converted: the client never takes a part for the whole, and the books
//! are right every time.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::json;
use stockade_testkit::{
    cell::{House, KEY, TOKEN, Told, script},
    fakes::{Fake, Fault},
};

use super::{PROVIDERS, spec};

/// What a client saw of one stream, and what the books say.
struct Seen {
    status: String,
    body: String,
    /// Whether the connection ended as it should.
    whole: bool,
    calls: Vec<Told>,
    provider: Vec<u8>,
}

/// One streamed Messages request to a provider that fails like this.
fn stream(provider: &str, faults: &[Fault]) -> Seen {
    let (_, upstream) = PROVIDERS.iter().find(|(name, _)| *name == provider).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spec = spec("messages", "", provider, upstream, true, folder.path());
    let fake = Fake::start(stockade_testkit::cell::kind(provider).unwrap(), KEY, script(&spec)).unwrap();
    fake.faults(faults);
    let house = House::start(&fake, &spec).unwrap();
    let body = json!({
        "model": spec.model, "max_tokens": 4096, "stream": true, "messages": [{"role": "user", "content": "go"}],
        "tools": [{"name": "bash", "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}}}],
    })
    .to_string();
    let mut client = TcpStream::connect(house.url().trim_start_matches("http://")).unwrap();
    write!(
        client,
        "POST /gateway/anthropic/v1/messages HTTP/1.1\r\nhost: here\r\nconnection: close\r\nx-api-key: {TOKEN}\r\n\
         anthropic-version: 2023-06-01\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut bytes = Vec::new();
    let read = client.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Seen {
        status: head.lines().next().unwrap_or_default().to_owned(),
        body: body.to_owned(),
        whole: read.is_ok() && (body.ends_with("0\r\n\r\n") || head.contains("content-length")),
        calls: house.calls().unwrap(),
        provider: fake.exchanges().last().unwrap().answer.clone(),
    }
}

/// Relayed as it is, in other frames, and converted from each dialect.
const WAYS: &[&str] =
    &["anthropic", "bedrock", "vertex-claude", "openai", "openai-compatible", "gemini", "bedrock-converse"];

#[test]
fn a_part_is_never_taken_for_the_whole() {
    for provider in WAYS {
        // So far that text was seen, and not to the end.
        let after = if *provider == "gemini" { 3 } else { 8 };
        for fault in [Fault::Reset { after }, Fault::Cut { after }, Fault::ErrorEvent { after }] {
            let seen = stream(provider, &[fault]);
            assert!(!seen.body.contains("message_stop"), "{provider}, {fault:?}: {}", seen.body);
            let told = seen.body.contains("event: error");
            assert!(told || !seen.whole, "{provider}, {fault:?}: nothing tells the client: {}", seen.body);
            let [call] = seen.calls.as_slice() else { panic!("{provider}, {fault:?}: {} calls", seen.calls.len()) };
            assert_ne!(call.outcome, "ok", "{provider}, {fault:?}");
            assert!(call.cost > 0, "{provider}, {fault:?}: what was seen is charged");
            assert_eq!(call.answer, seen.provider, "{provider}, {fault:?}: what came is kept");
        }
    }
}

#[test]
fn a_gigantic_line_that_means_nothing_harms_nobody() {
    for provider in WAYS {
        let seen = stream(provider, &[Fault::Gigantic { after: 2, bytes: 600_000 }]);
        assert!(seen.whole && seen.body.contains("message_stop"), "{provider}: {}", seen.status);
        let [call] = seen.calls.as_slice() else { panic!("{provider}: {} calls", seen.calls.len()) };
        assert_eq!(call.outcome, "ok", "{provider}");
        assert_eq!(call.usage.output_tokens, 80, "{provider}");
    }
}

#[test]
fn what_cannot_be_read_is_charged_and_ends_somehow() {
    for provider in WAYS {
        let seen = stream(provider, &[Fault::Malformed { after: 2 }]);
        let [call] = seen.calls.as_slice() else { panic!("{provider}: {} calls", seen.calls.len()) };
        assert!(call.cost > 0, "{provider}");
        let ended = seen.body.contains("message_stop") || seen.body.contains("event: error") || !seen.whole;
        assert!(ended, "{provider}: {}", seen.body);
    }
}

#[test]
fn before_the_first_byte_another_attempt_is_made_and_both_are_recorded() {
    for provider in WAYS {
        for fault in [Fault::Status(503), Fault::Status(529), Fault::Status(500)] {
            let seen = stream(provider, &[fault]);
            if seen.status.contains(" 200 ") {
                assert_eq!(seen.calls.len(), 2, "{provider}, {fault:?}");
                assert!(seen.body.contains("message_stop"), "{provider}, {fault:?}");
            }
            assert_ne!(seen.calls[0].outcome, "ok", "{provider}, {fault:?}");
            assert_eq!(seen.calls[0].cost, 0, "{provider}, {fault:?}: a refusal costs nothing");
        }
    }
}
