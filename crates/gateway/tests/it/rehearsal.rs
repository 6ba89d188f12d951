//! The rehearsal provider, played through the gateway and by itself.

use std::net::SocketAddr;

use proptest::prelude::*;
use serde_json::{Value, json};
use stockade_gateway::rehearsal::{Cassette, serve};
use stockade_ledger::Status;
use stockade_llm::anthropic::{Shape, Tee};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    fake::Fake,
    house::{House, Plan},
    wire::{Answer, Client},
};

const FIX: &str = r#"
name = "fix"
description = "Looks, repairs, finishes."

[[turn]]
usage = { input = 40, output = 30, cache_read = 7 }
[[turn.expect]]
from = "task"
contains = "sum"
[[turn.content]]
type = "thinking"
text = "The failing test will say where; ä ö ü 🚀."
[[turn.content]]
type = "text"
text = "I look at the test first."
[[turn.content]]
type = "tool_use"
name = "run"
input = { command = "sh test.sh", deep = { list = [1, "two", true] } }

[[turn]]
[[turn.expect]]
contains = "FAILED"
[[turn.expect]]
matches = "^line [0-9]+$"
lacks = "panic"
[[turn.capture]]
name = "line"
regex = "line ([0-9]+)"
[[turn.content]]
type = "tool_use"
name = "read"
input = { path = "sum.sh", note = "line {{line}} and {{ line }}, not {{}} nor {{Line}}" }
[[turn.content]]
type = "tool_use"
name = "list"

[[turn]]
[[turn.expect]]
from = "last_message"
contains = "line {{line}} is here"
[[turn.content]]
type = "text"
text = "It is line {{line}}."
"#;

async fn provider(cassettes: &[&str]) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let cassettes = cassettes.iter().map(|text| Cassette::parse("test.toml", text).unwrap()).collect();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, cassettes, stop.clone()));
    (addr, stop)
}

/// A conversation that goes on by itself.
struct Talk {
    addr: SocketAddr,
    model: String,
    messages: Vec<Value>,
    stream: bool,
}

impl Talk {
    fn new(addr: SocketAddr, task: &str) -> Self {
        Self { addr, model: "fix".into(), messages: vec![json!({"role": "user", "content": task})], stream: true }
    }

    fn body(&self) -> String {
        let tool = |name: &str| json!({"name": name, "input_schema": {"type": "object"}});
        json!({"model": self.model, "max_tokens": 500, "stream": self.stream, "messages": self.messages,
            "tools": [tool("run"), tool("read"), tool("list")]})
        .to_string()
    }

    async fn post(&self) -> Answer {
        Client::send(self.addr, "POST", "/v1/messages", "", &self.body()).await.answer().await
    }

    /// The next message, which also becomes part of the conversation.
    async fn next(&mut self) -> Value {
        let answer = self.post().await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let mut tee = Tee::new(if self.stream { Shape::Events } else { Shape::Whole });
        tee.push(&answer.body);
        let seen = tee.finish(answer.complete);
        assert!(seen.complete && seen.unreadable == 0);
        let message = seen.message.unwrap();
        self.messages.push(json!({"role": "assistant", "content": message["content"]}));
        message
    }

    fn results(&mut self, texts: &[&str]) {
        let content: Vec<Value> =
            texts.iter().map(|text| json!({"type": "tool_result", "tool_use_id": "t", "content": text})).collect();
        self.messages.push(json!({"role": "user", "content": content}));
    }

    async fn departure(&self) -> String {
        let answer = self.post().await;
        assert_eq!((answer.status, answer.error().0.as_str()), (400, "invalid_request_error"));
        answer.error().1
    }
}

#[tokio::test]
async fn a_cassette_is_played_to_its_end() {
    let (addr, stop) = provider(&[FIX]).await;
    let mut messages = Vec::new();
    for stream in [true, false] {
        let mut talk = Talk { stream, ..Talk::new(addr, "Repair the sum.") };
        let first = talk.next().await;
        assert_eq!(first["content"][0]["thinking"], "The failing test will say where; ä ö ü 🚀.");
        assert!(!first["content"][0]["signature"].as_str().unwrap().is_empty());
        assert_eq!(first["content"][1], json!({"type": "text", "text": "I look at the test first."}));
        assert_eq!(first["content"][2]["input"], json!({"command": "sh test.sh", "deep": {"list": [1, "two", true]}}));
        assert_eq!((&first["stop_reason"], &first["model"]), (&json!("tool_use"), &json!("rehearsal/fix")));
        assert_eq!(
            (
                &first["usage"]["input_tokens"],
                &first["usage"]["output_tokens"],
                &first["usage"]["cache_read_input_tokens"]
            ),
            (&json!(40), &json!(30), &json!(7))
        );
        talk.results(&["1 passed", "FAILED\nline 17\n"]);
        let second = talk.next().await;
        assert_eq!(second["content"][0]["input"]["note"], "line 17 and 17, not {{}} nor {{Line}}");
        assert_eq!(second["content"][1]["input"], json!({}));
        assert!(second["usage"]["input_tokens"].as_u64().unwrap() > 50);
        talk.results(&["line 17 is here", ""]);
        let third = talk.next().await;
        assert_eq!(third["content"], json!([{"type": "text", "text": "It is line 17."}]));
        assert_eq!(third["stop_reason"], "end_turn");
        talk.messages.push(json!({"role": "user", "content": "Go on."}));
        assert!(
            talk.departure().await.contains("fix has 3 turns, but turn 4 was asked for; the last message was `Go on.`")
        );
        messages.push(vec![first, second, third]);
    }
    assert_eq!(messages[0], messages[1], "streamed or not, it is the same message");
    stop.cancel();
}

#[tokio::test]
async fn its_events_are_those_of_the_provider() {
    let (addr, _stop) = provider(&[FIX]).await;
    let answer = Talk::new(addr, "the sum").post().await;
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let mut kinds = Vec::new();
    let mut json_pieces = 0;
    for frame in text.split_terminator("\n\n") {
        let (name, data) = frame.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"].as_str().unwrap());
        let delta = data["delta"]["type"].as_str();
        json_pieces += usize::from(delta == Some("input_json_delta"));
        let kind = delta.or(data["content_block"]["type"].as_str()).or(data["type"].as_str()).unwrap().to_owned();
        if kinds.last() != Some(&kind) {
            kinds.push(kind);
        }
    }
    assert_eq!(
        kinds,
        [
            "message_start",
            "ping",
            "thinking",
            "thinking_delta",
            "signature_delta",
            "content_block_stop",
            "text",
            "text_delta",
            "content_block_stop",
            "tool_use",
            "input_json_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(json_pieces > 4, "a tool's input comes in pieces");
    // The same request, the same bytes: nothing is remembered.
    assert_eq!(Talk::new(addr, "the sum").post().await.body, answer.body);
}

#[tokio::test]
async fn departures_are_loud_and_exact() {
    let (addr, _stop) = provider(&[FIX]).await;
    let mut talk = Talk::new(addr, "Something else.");
    assert_eq!(
        talk.departure().await,
        "rehearsal: turn 1 of fix expected the task to contain `sum` but saw `Something else.`"
    );
    talk = Talk::new(addr, "sum");
    talk.next().await;
    let before = talk.messages.clone();
    for (result, expected) in [
        ("line 1", "turn 2 of fix expected the last tool result to contain `FAILED` but saw `line 1`"),
        (
            "FAILED",
            "turn 2 of fix expected `line ([0-9]+)` to be found in the last tool result for line but saw `FAILED`",
        ),
        (
            "FAILED in line 4",
            "turn 2 of fix expected the last tool result to match `^line [0-9]+$` but saw `FAILED in line 4`",
        ),
        ("FAILED\nline 4\npanic", "turn 2 of fix expected the last tool result not to contain `panic` but saw"),
    ] {
        talk.messages.clone_from(&before);
        talk.results(&[result]);
        let said = talk.departure().await;
        assert!(said.contains(expected), "{said}");
    }
    talk.messages.clone_from(&before);
    talk.messages[1]["content"][2]["input"]["command"] = json!("rm -rf /");
    talk.results(&["FAILED\nline 4"]);
    assert!(talk.departure().await.contains("turn 1 of fix expected its own tool calls"));
    talk.messages.truncate(2);
    talk.messages[1] = before[1].clone();
    assert!(
        talk.departure().await.contains("expected a message of the user at the end of the conversation but saw none")
    );
    talk = Talk { model: "other".into(), ..Talk::new(addr, "sum") };
    let answer = talk.post().await;
    assert_eq!((answer.status, answer.error().1.contains("no cassette `other`; there are: fix")), (404, true));
    // No tools, too little room.
    for (change, expected) in [
        (json!({"tools": []}), "turn 1 of fix expected the request to offer the tool `run` but saw no tools"),
        (json!({"max_tokens": 29}), "turn 1 of fix expected max_tokens of at least 30, as its usage says, but saw 29"),
    ] {
        let mut body: Value = serde_json::from_str(&Talk::new(addr, "sum").body()).unwrap();
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let answer = Client::send(addr, "POST", "/v1/messages", "", &body.to_string()).await.answer().await;
        assert!(answer.error().1.contains(expected), "{}", answer.error().1);
    }
}

#[tokio::test]
async fn an_interrupted_turn_is_played_again() {
    let (addr, _stop) = provider(&[FIX]).await;
    let mut talk = Talk::new(addr, "sum");
    talk.next().await;
    talk.results(&["FAILED\nline 17"]);
    let second = talk.next().await;
    talk.results(&["line 17 is here", "[interrupted] A crash cut this call off."]);
    // The turn is played again: not the next one, the same calls, new ids, the value captured the first time.
    let again = talk.next().await;
    assert_eq!(again["content"][0]["input"], second["content"][0]["input"]);
    assert_ne!(again["content"][0]["id"], second["content"][0]["id"]);
    talk.results(&["[interrupted] twice", "x"]);
    assert_eq!(talk.next().await["content"][0]["input"], second["content"][0]["input"]);
    talk.results(&["line 17 is here", "x"]);
    assert_eq!(talk.next().await["content"][0]["text"], "It is line 17.");
}

#[tokio::test]
async fn through_the_gateway_it_is_a_model_like_any_other() {
    let (addr, _stop) = provider(&[FIX]).await;
    let fake = Fake::start(Vec::new()).await;
    let house = House::with(fake.addr, Plan { rehearsal: Some(addr), ..Plan::default() }).await;
    let body = Talk { model: "rehearsal/fix".into(), ..Talk::new(addr, "sum") }.body();
    let finished = house.call(&body).await;
    assert!(finished.ok(), "{:?}", finished.failure);
    assert_eq!((finished.usage.input_tokens, finished.usage.output_tokens), (40, 30));
    assert_eq!(finished.cost.0, 40 * 3_000 + 30 * 15_000 + 7 * 300);
    assert_eq!(finished.message["content"][2]["name"], "run");
    let departed = house.call(&body.replace("sum", "product")).await.failure.unwrap();
    assert!(departed.text.starts_with("rehearsal: turn 1 of fix expected") && !departed.kind.retryable());
    let entries = house.entries().await;
    assert_eq!((entries[0].status, entries[1].status), (Status::Ok, Status::Error));
    let sent: Value = serde_json::from_slice(&entries[0].request).unwrap();
    assert_eq!(sent["model"], "fix");
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_recording_plays_as_it_happened() {
    let (addr, _stop) = provider(&[FIX]).await;
    let mut exchanges = Vec::new();
    for stream in [true, false] {
        exchanges.clear();
        let mut talk = Talk { stream, ..Talk::new(addr, "sum") };
        for results in [&["FAILED\nline 17"][..], &["line 17 is here", "null"], &[]] {
            let answer = talk.post().await;
            // A failure and its repetition: the last whole answer counts.
            exchanges.push((talk.body().into_bytes(), answer.body[..answer.body.len() / 2].to_vec()));
            exchanges.push((talk.body().into_bytes(), answer.body.clone()));
            talk.next().await;
            talk.results(results);
        }
    }
    let recorded = Cassette::from_exchanges("fix", &exchanges).unwrap();
    assert_eq!((recorded.turns(), recorded.name()), (3, "fix"));
    let text = recorded.to_toml();
    let (copy, _stop) = provider(&[&text]).await;
    let (mut one, mut two) = (Talk::new(addr, "sum"), Talk::new(copy, "sum"));
    for results in [&["FAILED\nline 17"][..], &["line 17 is here", "x"], &[]] {
        let (one_said, two_said) = (one.next().await, two.next().await);
        assert_eq!(one_said["content"], two_said["content"], "{text}");
        assert_eq!(one_said["usage"]["output_tokens"], two_said["usage"]["output_tokens"]);
        one.results(results);
        two.results(results);
    }
}

#[test]
fn a_recording_keeps_what_toml_cannot_say() {
    let message = json!({"type": "message", "role": "assistant", "stop_reason": "tool_use",
    "usage": {"input_tokens": 5, "output_tokens": 6, "cache_creation_input_tokens": 3},
    "content": [
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "text", "text": "{{not_a_template}} '''\"\"\" \\ \u{1}"},
        {"type": "tool_use", "id": "t", "name": "x", "input": {"n": null, "big": u64::MAX, "f": 0.1}},
    ]});
    let request = json!({"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "x"}]});
    let exchanges = [(request.to_string().into_bytes(), message.to_string().into_bytes())];
    let text = Cassette::from_exchanges("kept", &exchanges).unwrap().to_toml();
    let again = Cassette::parse("again", &text).unwrap();
    assert_eq!(again.to_toml(), text);
    assert!(text.contains("templates = false") && text.contains("input_json"), "{text}");
    let gap = [(
        json!({"messages": [{"role": "assistant", "content": ""}]}).to_string().into_bytes(),
        exchanges[0].1.clone(),
    )];
    assert!(Cassette::from_exchanges("gap", &gap).unwrap_err().to_string().contains("has a gap"));
    assert!(Cassette::from_exchanges("none", &[]).unwrap_err().to_string().contains("no whole answer"));
}

#[test]
fn what_is_wrong_with_a_cassette_is_named() {
    let wrong = |text: &str| Cassette::parse("a.toml", text).unwrap_err().to_string();
    let turn = |text: &str| {
        wrong(&format!("name = \"x\"\n[[turn]]\n[[turn.content]]\ntype = \"text\"\ntext = \"a\"\n[[turn]]\n{text}"))
    };
    assert!(wrong("name = ").starts_with("a.toml: does not read as TOML"));
    assert!(wrong("{\"name\": 1}").starts_with("a.toml: does not read as JSON"));
    assert_eq!(wrong("name = \"A b\"\n[[turn]]"), "a.toml: `name` must be 1 to 64 characters of a-z, 0-9 and -");
    assert_eq!(wrong("name = \"x\""), "a.toml: there is no turn: write [[turn]] with [[turn.content]]");
    assert!(wrong("name = \"x\"\nsurprise = 1").contains("surprise"));
    assert_eq!(turn(""), "a.toml: turn 2: it says nothing: write [[turn.content]]");
    assert!(turn("[[turn.content]]\ntype = \"song\"").contains("song"));
    assert!(
        turn("[[turn.content]]\ntype = \"text\"\ntext = \"{{x}}\"")
            .starts_with("a.toml: turn 2: `{{x}}` is not captured")
    );
    assert!(
        turn("[[turn.content]]\ntype = \"tool_use\"\nname = \"y\"\ninput = { a = [\"{{x}}\"] }")
            .contains("`{{x}}` is not captured")
    );
    assert!(
        turn("[[turn.capture]]\nname = \"x\"\nregex = \"(\"\n[[turn.content]]\ntype = \"text\"\ntext = \"\"")
            .contains("turn 2: the pattern `(` does not read")
    );
    assert!(
        turn("[[turn.capture]]\nname = \"X\"\nregex = \"\"\n[[turn.content]]\ntype = \"text\"\ntext = \"\"")
            .contains("turn 2: the capture `X` needs a name")
    );
    assert!(
        turn("[[turn.expect]]\nfrom = \"task\"\n[[turn.content]]\ntype = \"text\"\ntext = \"\"")
            .contains("turn 2: an expectation needs")
    );
    assert!(
        turn("delay_ms = 99999999\n[[turn.content]]\ntype = \"text\"\ntext = \"\"")
            .contains("turn 2: `delay_ms` is more than")
    );
    assert!(
        turn("[[turn.content]]\ntype = \"tool_use\"\nname = \"y\"\ninput_json = \"{\"")
            .contains("turn 2: the `input_json` of `y`")
    );
    let regex = format!(
        "[[turn.capture]]\nname = \"x\"\nregex = \"{}\"\n[[turn.content]]\ntype = \"text\"\ntext = \"\"",
        "(a{1000}){1000}"
    );
    assert!(turn(&regex).contains("does not read"), "a pattern that would take too much memory");
    let many = "[[turn]]\n[[turn.content]]\ntype = \"text\"\ntext = \"a\"\n".repeat(2_001);
    assert!(wrong(&format!("name = \"x\"\n{many}")).contains("more than 2000 turns"));
}

#[test]
fn a_folder_is_loaded_in_order_and_names_are_once() {
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, name: &str| {
        std::fs::write(dir.path().join(file), FIX.replace("\"fix\"", &format!("\"{name}\""))).unwrap()
    };
    write("b.toml", "one");
    write("a.toml", "two");
    std::fs::write(dir.path().join("notes.md"), "no cassette").unwrap();
    let cassettes = Cassette::load_folder(dir.path()).unwrap();
    assert_eq!(cassettes.iter().map(Cassette::name).collect::<Vec<_>>(), ["two", "one"]);
    write("c.toml", "one");
    assert!(Cassette::load_folder(dir.path()).unwrap_err().to_string().contains("is called `one` too"));
    std::fs::write(dir.path().join("c.toml"), "x").unwrap();
    assert!(Cassette::load_folder(dir.path()).unwrap_err().to_string().contains("c.toml: does not read"));
    assert!(Cassette::load(&dir.path().join("none.toml")).unwrap_err().to_string().contains("cannot be read"));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}", lines in prop::collection::vec(0usize..9, 0..12)) {
        let _ = Cassette::parse("x", &text);
        let pieces = ["name = \"x\"", "[[turn]]", "[[turn.content]]", "type = \"text\"", "text = \"{{ {{a}} }}{{\"", "[[turn.capture]]",
            "name = \"a\"", "regex = \"a\"", "templates = true"];
        let text: String = lines.iter().map(|line| format!("{}\n", pieces[*line])).collect();
        let _ = Cassette::parse("x", &text);
    }
}
