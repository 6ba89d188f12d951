//! Requests and answers of every kind, for property tests of the dialects.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    CacheMark, Delta, Effort, Event, Media, MediaKind, OutputForm, Part, PartHead, Reasoning, ReasoningWish, Request,
    Role, Signature, Source, StopReason, Tool, ToolChoice, ToolKind, Turn,
};
use crate::{Dialect, Usage};

/// Which parts of the neutral form a dialect can say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Can {
    pub dialect: Dialect,
    pub model: &'static str,
    pub marks: bool,
    /// Whether thoughts without a signature may come back.
    pub unsigned: bool,
    pub redacted: bool,
    /// Whether signatures stand on calls.
    pub signed_calls: bool,
    pub documents: bool,
    pub strict: bool,
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Zäöü日 .,\"\\\\{}\n]{0,30}[a-z]"
}

fn mark(can: Can) -> BoxedStrategy<Option<CacheMark>> {
    if can.marks {
        prop_oneof![8 => Just(None), 1 => Just(Some(CacheMark::Short)), 1 => Just(Some(CacheMark::Hour))].boxed()
    } else {
        Just(None).boxed()
    }
}

fn says(can: Can) -> BoxedStrategy<Part> {
    (text(), mark(can)).prop_map(|(text, cache)| Part::Text { text, cache }).boxed()
}

fn media(can: Can) -> impl Strategy<Value = Part> {
    let image = prop_oneof![
        Just(Source::Base64 { media_type: "image/png".into(), data: "aGVsbG8=".into() }),
        Just(Source::Url("https://example.org/a.png".into())),
    ];
    let pdf = Source::Base64 { media_type: "application/pdf".into(), data: "aGVsbG8=".into() };
    (image, any::<bool>(), mark(can)).prop_map(move |(source, document, cache)| {
        let (kind, source) =
            if document && can.documents { (MediaKind::Document, pdf.clone()) } else { (MediaKind::Image, source) };
        Part::Media(Media { kind, source, name: None, detail: None, cache })
    })
}

fn thought(can: Can) -> impl Strategy<Value = Part> {
    (text(), "[A-Za-z0-9+/]{4,20}", any::<bool>(), any::<bool>()).prop_map(move |(text, data, redacted, unsigned)| {
        let signature = Some(Signature::new(can.dialect, data));
        Part::Reasoning(if redacted && can.redacted {
            Reasoning { signature, redacted: true, ..Reasoning::default() }
        } else {
            Reasoning { text, signature: signature.filter(|_| !(unsigned && can.unsigned)), ..Reasoning::default() }
        })
    })
}

/// A model's turn and the person's that follows, with results for every call.
fn exchange(can: Can) -> impl Strategy<Value = Vec<Turn>> {
    let call = ("[a-z_]{1,12}", prop_oneof![Just(json!({})), Just(json!({"path": "a", "n": 1}))], any::<bool>());
    let calls = prop::collection::vec(call, 0..3);
    let result = prop::collection::vec(prop_oneof![4 => says(can), 1 => media(can)], 1..2);
    let user = prop::collection::vec(prop_oneof![4 => says(can), 1 => media(can)], 1..3);
    (prop::option::of(thought(can)), says(can), calls, result, any::<bool>(), user).prop_map(
        move |(thought, said, calls, result, is_error, more)| {
            let mut model: Vec<Part> = thought.into_iter().chain([said]).collect();
            let mut person = Vec::new();
            for (at, (name, input, signed)) in calls.into_iter().enumerate() {
                let id = format!("call_{at}_{name}");
                let signature = (signed && can.signed_calls).then(|| Signature::new(can.dialect, "c2ln"));
                let input = input.to_string();
                let (call, named) = (id.clone(), name.clone());
                model.push(Part::ToolCall { id: call, name: named, input, free_form: false, signature, cache: None });
                person.push(Part::ToolResult { id, name: Some(name), parts: result.clone(), is_error, cache: None });
            }
            person.extend(more);
            vec![Turn { role: Role::Assistant, parts: model }, Turn { role: Role::User, parts: person }]
        },
    )
}

fn tools(can: Can) -> impl Strategy<Value = Vec<Tool>> {
    let schema = json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
    let tool = ("[a-z_]{1,12}", prop::option::of(text()), any::<bool>(), mark(can));
    prop::collection::btree_map("[a-z]{1,8}", tool, 0..3).prop_map(move |tools| {
        let tool = |(name, (_, description, strict, cache)): (String, (String, Option<String>, bool, _))| Tool {
            name,
            description,
            kind: ToolKind::Function { schema: schema.clone() },
            strict: (strict && can.strict).then_some(true),
            cache,
        };
        tools.into_iter().map(tool).collect()
    })
}

/// Requests that a dialect can say without loss.
pub(crate) fn request(can: Can) -> impl Strategy<Value = Request> {
    let conversation = (says(can), prop::collection::vec(exchange(can), 0..3));
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false});
    let form = prop_oneof![
        3 => Just(OutputForm::Text),
        1 => Just(OutputForm::Schema { name: None, schema, strict: None }),
    ];
    let choice = prop_oneof![3 => Just(0u8), 1 => Just(1), 1 => Just(2), 1 => Just(3)];
    let effort = prop_oneof![Just(Effort::Low), Just(Effort::Medium), Just(Effort::High)];
    let wish = prop::option::of((effort, prop::option::of(any::<bool>())));
    let system = prop::collection::vec(says(can), 0..2);
    let rest = (wish, prop::collection::vec("[a-z]{1,5}", 0..2), any::<bool>());
    (conversation, tools(can), choice, form, system, 1u64..50_000, rest).prop_map(
        move |((first, exchanges), tools, choice, output, system, max, (wish, stop, stream))| {
            let mut turns = vec![Turn { role: Role::User, parts: vec![first] }];
            turns.extend(exchanges.into_iter().flatten());
            let tool_choice = match (choice, tools.first()) {
                (1, Some(_)) => ToolChoice::Any,
                (2, Some(_)) => ToolChoice::None,
                (3, Some(tool)) => ToolChoice::Named(tool.name.clone()),
                _ => ToolChoice::Auto,
            };
            let free = !matches!(tool_choice, ToolChoice::Any | ToolChoice::Named(_));
            let wish = wish.filter(|_| free).map(|(effort, show)| ReasoningWish {
                effort: Some(effort),
                enabled: Some(true),
                show,
                ..ReasoningWish::default()
            });
            Request {
                model: can.model.to_owned(),
                system,
                turns,
                tools,
                tool_choice,
                max_output: Some(max),
                stop,
                reasoning: wish,
                output,
                stream,
                ..Request::default()
            }
        },
    )
}

/// Answers that a dialect can say without loss: parts one after the other, none of them empty.
pub(crate) fn answer(can: Can) -> impl Strategy<Value = Vec<Event>> {
    let piece = "[a-zä日\"\\\\\n]{1,12}";
    let pieces = || prop::collection::vec(piece, 1..4);
    let signature = move |data: String| Delta::Signature(Signature::new(can.dialect, data));
    let said = pieces().prop_map(|texts| (PartHead::Text, texts.into_iter().map(Delta::Text).collect::<Vec<_>>()));
    let thought = (pieces(), "[A-Za-z0-9]{4,9}").prop_map(move |(texts, data)| {
        let deltas = texts.into_iter().map(Delta::Reasoning).chain([signature(data)]);
        (PartHead::Reasoning { id: None }, deltas.collect())
    });
    let redacted = "[A-Za-z0-9]{4,9}".prop_map(move |data| {
        let data = Signature::new(can.dialect, data);
        (PartHead::Redacted { data }, Vec::new())
    });
    let call = ("[a-z]{4,9}", "[a-z_]{1,9}", any::<bool>()).prop_map(move |(id, name, signed)| {
        let input = Delta::Input(json!({"path": id}).to_string());
        let signed = (signed && can.signed_calls).then(|| signature("c2ln".to_owned()));
        (PartHead::ToolCall { id, name, free_form: false }, signed.into_iter().chain([input]).collect())
    });
    let part = if can.redacted {
        prop_oneof![said, thought, redacted, call].boxed()
    } else {
        prop_oneof![said, thought, call].boxed()
    };
    let usage = prop::array::uniform4(0u64..1_000_000);
    (prop::collection::vec(part, 1..5), usage, any::<bool>()).prop_map(
        move |(parts, [input, output, read, write], max)| {
            let mut events = vec![Event::Start { id: None, model: None }];
            let called = parts.iter().any(|(head, _)| matches!(head, PartHead::ToolCall { .. }));
            for (index, (part, deltas)) in (0u32..).zip(parts) {
                events.push(Event::PartStart { index, part });
                events.extend(deltas.into_iter().map(|delta| Event::Delta { index, delta }));
                events.push(Event::PartStop { index });
            }
            events.push(Event::Usage(Usage {
                input_tokens: input,
                output_tokens: output,
                cache_read_tokens: read,
                cache_write_5m_tokens: if can.marks { write } else { 0 },
                cache_write_1h_tokens: 0,
                reasoning_tokens: None,
                tier: None,
            }));
            let reason = match (max, called) {
                (true, _) => StopReason::MaxTokens,
                (_, true) => StopReason::ToolUse,
                _ => StopReason::End,
            };
            events.push(Event::Stop { reason, said: String::new(), sequence: None });
            events.push(Event::End);
            events
        },
    )
}

/// Anything at all that JSON can say, with words that mean something to this dialect.
pub(crate) fn json(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let word = prop::sample::select(words);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let object = prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner.clone(), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What a reader makes of bytes that come at once, one by one, and in pieces.
pub(crate) fn arrivals(dialect: Dialect, framing: crate::Framing, bytes: &[u8], ended: bool) -> [Vec<Event>; 3] {
    [bytes.len().max(1), 1, 7].map(|size| {
        let (mut decoder, mut out) = (dialect.decoder(framing), Vec::new());
        bytes.chunks(size).for_each(|piece| decoder.push(piece, &mut out));
        decoder.finish(ended, &mut out);
        out
    })
}

/// An answer as this dialect writes it, read again, without what only the wire says.
pub(crate) fn there_and_back(dialect: Dialect, framing: crate::Framing, events: &[Event]) -> Vec<Event> {
    let client = super::ForClient { model: "m".to_owned(), id: "1".to_owned(), ..super::ForClient::default() };
    let mut encoder = dialect.encoder(framing, client).expect("it writes answers");
    let mut bytes = bytes::BytesMut::new();
    events.iter().for_each(|event| encoder.push(event, &mut bytes));
    let [at_once, one_by_one, pieces] = arrivals(dialect, framing, &bytes, true);
    assert_eq!(at_once, one_by_one);
    assert_eq!(at_once, pieces);
    plain(at_once)
}

/// Joins deltas of one kind, and leaves out what only the wire says.
pub(crate) fn plain(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (
                Some(Event::Delta { index, delta: Delta::Text(text) }),
                Event::Delta { index: at, delta: Delta::Text(more) },
            )
            | (
                Some(Event::Delta { index, delta: Delta::Reasoning(text) }),
                Event::Delta { index: at, delta: Delta::Reasoning(more) },
            )
            | (
                Some(Event::Delta { index, delta: Delta::Input(text) }),
                Event::Delta { index: at, delta: Delta::Input(more) },
            ) if *index == at => text.push_str(&more),
            (_, Event::Start { .. }) => out.push(Event::Start { id: None, model: None }),
            (_, Event::Stop { reason, sequence, .. }) => {
                out.push(Event::Stop { reason, said: String::new(), sequence });
            }
            (_, event) => out.push(event),
        }
    }
    // Usage may be said more than once: the last word holds.
    let last = out.iter().rposition(|event| matches!(event, Event::Usage(_)));
    let mut at = 0;
    out.retain(|event| {
        at += 1;
        !matches!(event, Event::Usage(_)) || Some(at - 1) == last
    });
    out
}
