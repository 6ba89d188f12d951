//! Content stored once: what a session stores, what comes back, what is remembered.

use std::{collections::HashMap, convert::Infallible, fmt::Write};

use bytes::Bytes;
use proptest::prelude::*;
use stockade_domain::{Digest, Id, ids::RunId};
use stockade_gateway::capture::{Capture, CaptureLimits, UnpackError, unpack};
use stockade_ledger::Body;

use crate::{
    fake::{Fake, whole},
    house::{House, TOKEN},
    wire::{Client, MESSAGE, PATH},
};

fn run(n: u8) -> RunId {
    Id::from_bytes([n; 16])
}

/// What was stored, by a digest that is made up.
#[derive(Default)]
struct Store {
    contents: HashMap<Digest, Bytes>,
    bytes: usize,
    reads: usize,
}

/// What sealing adds to a content, in bytes.
const SEAL: usize = 52;

impl Store {
    fn put(&mut self, plain: &Bytes) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&(self.contents.len() as u64 + 1).to_be_bytes());
        let digest = Digest(digest);
        self.bytes += plain.len() + SEAL;
        self.contents.insert(digest, plain.clone());
        digest
    }

    fn store(&mut self, capture: &Capture, run: RunId, session: &str, body: &Bytes) -> Digest {
        let packed = capture.pack(run, Some(session), body);
        let digest = self.put(&packed.plain);
        capture.stored(packed, digest);
        digest
    }

    fn body(&mut self, digest: Digest) -> Bytes {
        self.reads = 0;
        let body = unpack(digest, |digest| {
            self.reads += 1;
            Ok::<_, Infallible>(self.contents[&digest].clone())
        });
        body.unwrap()
    }
}

/// Text that looks like what people and programs write, without repetitions that would help.
struct Words(u64);

impl Words {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn text(&mut self, len: u64) -> String {
        let mut text = String::new();
        while (text.len() as u64) < len {
            for _ in 0..2 + self.next(8) {
                text.push(char::from(b'a' + u8::try_from(self.next(26)).unwrap()));
            }
            text.push_str([" ", " ", " ", "\\n", ", ", "(", "::", ". "][usize::try_from(self.next(8)).unwrap()]);
        }
        text
    }
}

const MARK: &str = r#","cache_control":{"type":"ephemeral"}"#;

/// A conversation as a coding agent has it with the Messages dialect: its marks move on with every turn.
struct Claude {
    words: Words,
    system: String,
    tools: String,
    /// Each with the place where its mark goes.
    messages: Vec<(String, String)>,
    distinct: usize,
}

impl Claude {
    fn new(seed: u64) -> Self {
        let mut words = Words(seed);
        let mut tools = String::new();
        for i in 0..24 {
            let (about, field) = (words.text(2_500), words.text(300));
            let _ = write!(
                tools,
                r#"{{"name":"Tool{i}","description":"{about}","input_schema":{{"type":"object","properties":{{"path":{{"type":"string","description":"{field}"}}}}}}}},"#
            );
        }
        tools.pop();
        let mut claude = Self { system: words.text(14_000), words, tools, messages: Vec::new(), distinct: 0 };
        let task = claude.words.text(4_000);
        claude.say("user", &format!(r#"{{"type":"text","text":"{task}""#));
        claude.distinct = claude.body().len();
        claude
    }

    fn say(&mut self, role: &str, block: &str) {
        self.distinct += block.len() + 40;
        self.messages.push((format!(r#"{{"role":"{role}","content":[{block}"#), "}]}".to_owned()));
    }

    fn turn(&mut self) {
        let (n, said, args) = (self.messages.len(), self.words.next(900) + 50, self.words.next(1_500) + 40);
        let (said, args) = (self.words.text(said), self.words.text(args));
        self.say(
            "assistant",
            &format!(r#"{{"type":"text","text":"{said}"}},{{"type":"tool_use","id":"toolu_{n:024}","name":"Tool3","input":{{"path":"{args}"}}"#),
        );
        let len = 100 + self.words.next(3_000);
        let result = self.words.text(len);
        self.say("user", &format!(r#"{{"type":"tool_result","tool_use_id":"toolu_{n:024}","content":"{result}""#));
    }

    fn body(&self) -> Bytes {
        let mut messages = String::new();
        for (i, (front, end)) in self.messages.iter().enumerate() {
            let mark = if i + 3 >= self.messages.len() { MARK } else { "" };
            let _ = write!(messages, "{front}{mark}{end},");
        }
        messages.pop();
        let Self { system, tools, .. } = self;
        format!(
            r#"{{"model":"claude-sonnet-4-6","messages":[{messages}],"system":[{{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1.197.{:03x}; cc_entrypoint=cli;"}},{{"type":"text","text":"{system}"{MARK}}}],"tools":[{tools}],"metadata":{{"user_id":"u"}},"max_tokens":32000,"thinking":{{"type":"adaptive"}},"stream":true}}"#,
            self.messages.len()
        )
        .into()
    }
}

/// The same with the Responses dialect: items are appended to `input`, and what follows it changes a little.
struct Codex {
    words: Words,
    instructions: String,
    tools: String,
    input: String,
    turns: usize,
    distinct: usize,
}

impl Codex {
    fn new(seed: u64) -> Self {
        let mut words = Words(seed);
        let (instructions, tools, task) = (words.text(22_000), words.text(16_000), words.text(3_000));
        let input =
            format!(r#"{{"type":"message","role":"user","content":[{{"type":"input_text","text":"{task}"}}]}}"#);
        let mut codex = Self { words, instructions, tools, input, turns: 0, distinct: 0 };
        codex.distinct = codex.body().len();
        codex
    }

    fn turn(&mut self) {
        self.turns += 1;
        let (n, before) = (self.turns, self.input.len());
        let (thought, args, len) = (self.words.text(700), self.words.text(200), 100 + self.words.next(2_500));
        let output = self.words.text(len);
        let _ = write!(
            self.input,
            r#",{{"type":"reasoning","summary":[],"encrypted_content":"{thought}"}},{{"type":"function_call","name":"shell","arguments":"{args}","call_id":"call_{n}"}},{{"type":"function_call_output","call_id":"call_{n}","output":"{output}"}}"#
        );
        self.distinct += self.input.len() - before;
    }

    fn body(&self) -> Bytes {
        let Self { instructions, tools, input, turns, .. } = self;
        format!(
            r#"{{"model":"gpt-5.4-codex","instructions":"{instructions}","input":[{input}],"tools":[{{"type":"function","name":"shell","description":"{tools}"}}],"tool_choice":"auto","parallel_tool_calls":true,"store":false,"stream":true,"include":["reasoning.encrypted_content"],"prompt_cache_key":"0199","client_metadata":{{"turn":"{turns}"}}}}"#
        )
        .into()
    }
}

#[test]
fn a_session_of_a_hundred_turns_stores_at_most_its_distinct_bytes_and_a_third() {
    let (capture, mut store) = (Capture::new(CaptureLimits::default()), Store::default());
    let (mut claude, mut side, mut sent) = (Claude::new(1), Claude::new(2), Vec::new());
    // Beside the main conversation: another of the same session, and a question for a title now and then.
    side.tools.clone_from(&claude.tools);
    let mut titles = 0;
    for turn in 0..100 {
        let body = claude.body();
        sent.push((store.store(&capture, run(1), "s", &body), body));
        if turn % 5 == 0 {
            let body = side.body();
            sent.push((store.store(&capture, run(1), "s", &body), body));
            side.turn();
        }
        if turn % 20 == 0 {
            let title = claude.words.text(900);
            let body = Bytes::from(format!(
                r#"{{"model":"claude-haiku-4-5","messages":[{{"role":"user","content":"{title}"}}]}}"#
            ));
            titles += body.len();
            sent.push((store.store(&capture, run(1), "s", &body), body));
        }
        claude.turn();
    }
    let whole: usize = sent.iter().map(|(_, body)| body.len()).sum();
    // The other conversation has the same tools.
    let distinct = claude.distinct + side.distinct - side.tools.len() + titles;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let ratio = store.bytes as f64 / distinct as f64;
    eprintln!("claude: {whole} bytes sent, {distinct} distinct, {} stored: {ratio:.3}", store.bytes);
    assert!(ratio <= 1.3, "{ratio}");
    assert_eq!(capture.held().0, 4, "title questions take a place of their own, and no more than there are");
    let mut most = 0;
    for (digest, body) in sent {
        assert_eq!(store.body(digest), body);
        most = most.max(store.reads);
    }
    eprintln!("claude: at most {most} contents are read for one body");
}

#[test]
fn the_same_for_a_conversation_of_responses() {
    let (capture, mut store) = (Capture::new(CaptureLimits::default()), Store::default());
    let (mut codex, mut sent) = (Codex::new(1), Vec::new());
    for _ in 0..100 {
        let body = codex.body();
        sent.push((store.store(&capture, run(1), "s", &body), body));
        codex.turn();
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let ratio = store.bytes as f64 / codex.distinct as f64;
    eprintln!("codex: {} distinct, {} stored: {ratio:.3}", codex.distinct, store.bytes);
    assert!(ratio <= 1.3, "{ratio}");
    for (digest, body) in sent {
        assert_eq!(store.body(digest), body);
    }
}

#[test]
fn a_repeated_request_costs_next_to_nothing() {
    let (capture, mut store) = (Capture::new(CaptureLimits::default()), Store::default());
    let body = Claude::new(3).body();
    store.store(&capture, run(1), "s", &body);
    let before = store.bytes;
    for _ in 0..10 {
        let digest = store.store(&capture, run(1), "s", &body);
        assert_eq!(store.body(digest), body);
    }
    assert!(store.bytes - before < 10 * 250, "{}", store.bytes - before);
}

#[test]
fn nothing_stands_on_another_run_or_session_or_on_what_was_not_stored() {
    let capture = Capture::new(CaptureLimits::default());
    let mut store = Store::default();
    let body = Claude::new(4).body();
    store.store(&capture, run(1), "s", &body);
    assert_eq!(capture.pack(run(2), Some("s"), &body).plain, body);
    assert_eq!(capture.pack(run(1), Some("t"), &body).plain, body);
    assert_eq!(capture.pack(run(1), None, &body).plain, body);
    // Packed and never told of: as if it had not been.
    assert_eq!(capture.pack(run(1), None, &body).plain, body);
    assert!(capture.pack(run(1), Some("s"), &body).plain.len() < 100);
    capture.forget(run(1));
    assert_eq!(capture.held(), (0, 0));
    assert_eq!(capture.pack(run(1), Some("s"), &body).plain, body);
}

#[test]
fn what_looks_packed_is_packed() {
    let (capture, mut store) = (Capture::new(CaptureLimits::default()), Store::default());
    for len in [0, 1, 600, 5_000_000] {
        let body = Bytes::from([b"\x89STKPCK\x01".as_slice(), &vec![b'x'; len]].concat());
        let digest = store.store(&capture, run(1), "s", &body);
        assert_ne!(store.contents[&digest], body);
        assert_eq!(store.body(digest), body);
    }
}

#[test]
fn row_25_memory_stays_flat_over_many_sessions() {
    let limits = CaptureLimits { bytes: 1 << 20, bodies: 50, per_session: 2, ..CaptureLimits::default() };
    let (capture, mut words) = (Capture::new(limits), Words(9));
    let mut store = Store::default();
    for i in 0..2_000_u64 {
        let len = 600 + words.next(60_000);
        let body = Bytes::from(words.text(len));
        store.store(&capture, run(u8::try_from(i % 7).unwrap()), &format!("session {}", i % 300), &body);
        let (bodies, bytes) = capture.held();
        assert!(bodies <= limits.bodies && bytes <= limits.bytes, "{bodies} {bytes}");
        assert!(bodies > 0);
    }
    for n in 0..7 {
        capture.forget(run(n));
    }
    assert_eq!(capture.held(), (0, 0));
}

#[test]
fn a_body_at_the_limit_is_remembered_and_above_it_is_not() {
    let limits = CaptureLimits { body: 1_000, least: 600, ..CaptureLimits::default() };
    let (capture, mut store, mut words) = (Capture::new(limits), Store::default(), Words(5));
    let text = Bytes::from(words.text(1_100));
    for (len, held) in [(599, 0), (600, 1), (1_000, 1), (1_001, 0)] {
        store.store(&capture, run(1), "s", &text.slice(..len));
        assert_eq!(capture.held().0, held, "{len}");
        capture.forget(run(1));
    }
}

#[test]
fn a_missing_or_changed_content_is_named() {
    let (capture, mut store) = (Capture::new(CaptureLimits::default()), Store::default());
    let mut claude = Claude::new(6);
    let first = store.store(&capture, run(1), "s", &claude.body());
    claude.turn();
    let second = store.store(&capture, run(1), "s", &claude.body());
    let gone = unpack(second, |digest| store.contents.get(&digest).filter(|_| digest != first).cloned().ok_or("gone"));
    assert!(matches!(gone, Err(UnpackError::Fetch { digest, source: "gone" }) if digest == first), "{gone:?}");
    let mut other = store.contents[&first].to_vec();
    other[20_000] ^= 1;
    store.contents.insert(first, other.into());
    let changed = unpack(second, |digest| Ok::<_, ()>(store.contents[&digest].clone()));
    assert!(matches!(changed, Err(UnpackError::Damaged { digest }) if digest == second), "{changed:?}");
}

#[test]
fn a_content_that_stands_on_itself_ends() {
    // The form is the one that is written: magic, checksum, 2^21 - 1 bytes, one source, which is the content itself.
    let digest = Digest([9; 32]);
    let mut plain = b"\x89STKPCK\x01....\xff\xff\x7f\x01\x01".to_vec();
    plain.extend_from_slice(&digest.0);
    plain.extend_from_slice(b"\xff\xff\xff\x01\x00\x00");
    let mut fetched = 0;
    let result = unpack(digest, |_| {
        fetched += 1;
        Ok::<_, ()>(Bytes::from(plain.clone()))
    });
    assert!(matches!(result, Err(UnpackError::TooMuch { .. })), "{result:?}");
    assert_eq!(fetched, 1);
}

/// What may happen to a conversation.
#[derive(Debug, Clone)]
enum Step {
    Say(usize),
    Insert(usize, usize),
    Cut(usize, usize),
    Switch(u8),
    Fail,
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..900).prop_map(Step::Say),
        2 => (any::<usize>(), 0usize..90).prop_map(|(at, len)| Step::Insert(at, len)),
        2 => (any::<usize>(), 0usize..400).prop_map(|(at, len)| Step::Cut(at, len)),
        1 => (0u8..3).prop_map(Step::Switch),
        1 => Just(Step::Fail),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_of_bodies_comes_back(steps in prop::collection::vec(step(), 1..60), seed: u64) {
        let limits = CaptureLimits { bytes: 60_000, body: 20_000, least: 64, bodies: 6, per_session: 3 };
        let (capture, mut store, mut words) = (Capture::new(limits), Store::default(), Words(seed));
        let mut texts = [words.text(1_500), words.text(300), String::new()];
        let (mut now, mut sent) = (0, Vec::new());
        for step in steps {
            let text = &mut texts[now];
            let place = |at: usize| at % (text.len() + 1);
            match step {
                Step::Say(len) => text.push_str(&words.text(len as u64)),
                Step::Insert(at, len) => text.insert_str(place(at), &words.text(len as u64)),
                Step::Cut(at, len) => {
                    let at = place(at);
                    text.replace_range(at..(at + len).min(text.len()), "");
                }
                Step::Switch(to) => now = usize::from(to),
                Step::Fail => {
                    // It could not be made durable.
                    let _lost = capture.pack(run(1), None, &Bytes::from(text.clone()));
                    continue;
                }
                Step::Forget => capture.forget(run(1)),
            }
            let body = Bytes::from(texts[now].clone());
            let packed = capture.pack(run(1), None, &body);
            prop_assert!(packed.plain.len() <= body.len() + 24);
            let digest = store.put(&packed.plain);
            capture.stored(packed, digest);
            sent.push((digest, body));
        }
        for (digest, body) in sent {
            prop_assert_eq!(store.body(digest), body);
        }
    }
}

#[tokio::test]
async fn a_conversation_through_the_gateway_is_stored_once_and_each_call_has_its_record() {
    let fake = Fake::start(vec![whole("200 OK", "content-type: application/json\r\n", MESSAGE)]).await;
    let house = House::new(&fake).await;
    let (mut claude, mut sent) = (Claude::new(7), Vec::new());
    for _ in 0..6 {
        let body = String::from_utf8(claude.body().to_vec()).unwrap();
        let headers = format!("x-api-key: {TOKEN}\r\nx-claude-code-session-id: 0199-session\r\n");
        let answer = Client::send(house.addr, "POST", PATH, &headers, &body).await.answer().await;
        assert_eq!(answer.status, 200);
        sent.push(body.into_bytes());
        claude.turn();
    }
    let distinct = claude.distinct;
    let mut entries = house.entries().await;
    entries.sort_by_key(|entry| entry.request.len());
    assert_eq!(entries.into_iter().map(|entry| entry.request).collect::<Vec<_>>(), sent);
    assert_eq!(fake.requests().iter().map(|seen| seen.body.clone()).collect::<Vec<_>>(), sent);
    let stored: u64 = house
        .records()
        .iter()
        .filter_map(|record| if let Body::Open { contents, .. } = &record.body { Some(contents[0].len) } else { None })
        .sum();
    assert!(stored * 10 <= distinct as u64 * 13, "{stored} for {distinct}");
}
