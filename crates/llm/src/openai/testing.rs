//! What the tests of both dialects share: conversations and answers made up by chance, and ways to take answers apart.

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    Dialect, Framing, Target, Usage,
    neutral::{
        Answer, Delta, Effort, Event, ForClient, Media, MediaKind, OutputForm, Part, PartHead, ReasoningWish, Request,
        Role, Source, StopReason, Tool, ToolChoice, ToolKind, Turn,
    },
};

/// A model that reasons.
pub(crate) const TARGET: Target = Target { max_output: 100_000, reasoning: true };

pub(crate) fn text(text: &str) -> Part {
    Part::Text { text: text.to_owned(), cache: None }
}

pub(crate) fn client(request: Option<Request>) -> ForClient {
    ForClient {
        model: "asked".to_owned(),
        id: "abc123".to_owned(),
        created: 1_790_000_000,
        stream: true,
        include_usage: true,
        likely_input_tokens: 10,
        request: request.map(std::sync::Arc::new),
        ..ForClient::default()
    }
}

/// The events of an answer that arrives in these pieces.
pub(crate) fn decoded<'a>(
    dialect: Dialect,
    framing: Framing,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Event> {
    let (mut decoder, mut out) = (dialect.decoder(framing), Vec::new());
    pieces.into_iter().for_each(|piece| decoder.push(piece, &mut out));
    decoder.finish(true, &mut out);
    out
}

/// What a client of this dialect gets for these events.
pub(crate) fn encoded(dialect: Dialect, framing: Framing, client: ForClient, events: &[Event]) -> Vec<u8> {
    let mut encoder = dialect.encoder(framing, client).unwrap();
    let mut out = BytesMut::new();
    events.iter().for_each(|event| encoder.push(event, &mut out));
    out.to_vec()
}

/// A stream of these chunks.
pub(crate) fn stream(chunks: &[Value]) -> Vec<u8> {
    let lines: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    lines.concat().into_bytes()
}

/// Events, one a line.
pub(crate) fn lines(events: &[Event]) -> String {
    events.iter().map(|event| format!("{event:?}\n")).collect()
}

/// The same answer, folded.
pub(crate) fn folded(events: &[Event]) -> Answer {
    let (mut answer, mut room) = (Answer::default(), usize::MAX);
    events.iter().for_each(|event| answer.take(event, &mut room));
    answer
}

/// The same bytes in pieces that end where `cuts` say.
pub(crate) fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    let (mut pieces, mut from) = (Vec::new(), 0);
    for end in at {
        pieces.push(&bytes[from..end]);
        from = end;
    }
    pieces.push(&bytes[from..]);
    pieces
}

fn words() -> impl Strategy<Value = String> {
    "[a-zA-Zäß日 .,\\\\\"\n]{1,40}"
}

/// Arguments of a call, as a model writes them.
fn arguments() -> impl Strategy<Value = String> {
    (words(), any::<i32>()).prop_map(|(text, number)| json!({ "text": text, "n": number }).to_string())
}

fn picture() -> impl Strategy<Value = Part> {
    ("[A-Za-z0-9]{4,20}", prop::option::of(prop::sample::select(vec!["low", "high", "auto"]))).prop_map(
        |(data, detail)| {
            Part::Media(Media {
                kind: MediaKind::Image,
                source: Source::Base64 { media_type: "image/png".to_owned(), data },
                name: None,
                detail: detail.map(str::to_owned),
                cache: None,
            })
        },
    )
}

/// What one exchange says, calls and gets.
type Exchange = (String, Option<Part>, String, Vec<(String, String, String)>);

fn exchange() -> impl Strategy<Value = Exchange> {
    let calls = prop::collection::vec(("[a-z_]{1,20}", arguments(), words()), 0..3);
    (words(), prop::option::of(picture()), words(), calls)
}

fn turns(exchanges: Vec<Exchange>) -> Vec<Turn> {
    let (mut turns, mut number) = (Vec::new(), 0);
    for (asked, picture, said, calls) in exchanges {
        turns.push(Turn { role: Role::User, parts: [text(&asked)].into_iter().chain(picture).collect() });
        let (mut parts, mut results) = (vec![text(&said)], Vec::new());
        for (name, input, gave) in calls {
            number += 1;
            let id = format!("call_{number}");
            results.push(Part::ToolResult {
                id: id.clone(),
                name: Some(name.clone()),
                parts: vec![text(&gave)],
                is_error: false,
                cache: None,
            });
            parts.push(Part::ToolCall { id, name, input, free_form: false, signature: None, cache: None });
        }
        turns.push(Turn { role: Role::Assistant, parts });
        if !results.is_empty() {
            turns.push(Turn { role: Role::User, parts: results });
        }
    }
    turns
}

fn tool() -> impl Strategy<Value = Tool> {
    ("[a-zA-Z0-9_-]{1,64}", prop::option::of(words()), any::<bool>(), prop::option::of(any::<bool>())).prop_map(
        |(name, description, free, strict)| {
            let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
            let kind = if free { ToolKind::FreeForm { format: None } } else { ToolKind::Function { schema } };
            let strict = if free { None } else { strict.or(Some(false)) };
            Tool { name, description, kind, strict, cache: None }
        },
    )
}

/// A request that both dialects can say in full to a model that thinks.
pub(crate) fn request() -> impl Strategy<Value = Request> {
    let talk = (prop::option::of(words()), prop::collection::vec(exchange(), 1..4));
    let tools = (prop::collection::vec(tool(), 0..3), 0..4usize, prop::option::of(any::<bool>()));
    let settings = (
        prop::option::of(16u64..100_000),
        prop::option::of(prop::sample::select(vec![Effort::Low, Effort::Medium, Effort::High])),
        0..3usize,
        prop::option::of(prop::sample::select(vec!["low", "medium", "high"])),
        any::<bool>(),
        prop::option::of("[a-z0-9-]{1,64}"),
    );
    (talk, tools, settings).prop_map(|((system, exchanges), (tools, choice, parallel), settings)| {
        let (max_output, effort, form, verbosity, stream, key) = settings;
        let wish = |effort| ReasoningWish { effort: Some(effort), enabled: Some(true), ..ReasoningWish::default() };
        let schema = json!({ "type": "object", "properties": {} });
        Request {
            model: "gpt-5.1".to_owned(),
            system: system.iter().map(|words| text(words)).collect(),
            turns: turns(exchanges),
            tool_choice: match (tools.first(), choice) {
                (Some(_), 1) => ToolChoice::Any,
                (Some(_), 2) => ToolChoice::None,
                (Some(tool), 3) => ToolChoice::Named(tool.name.clone()),
                _ => ToolChoice::Auto,
            },
            parallel_tools: parallel.filter(|_| !tools.is_empty()),
            tools,
            max_output,
            reasoning: effort.map(wish),
            output: match form {
                0 => OutputForm::Text,
                1 => OutputForm::Json,
                _ => OutputForm::Schema { name: Some("form".to_owned()), schema, strict: Some(true) },
            },
            verbosity: verbosity.map(str::to_owned),
            stream,
            user: key.clone(),
            cache_key: key,
            ..Request::default()
        }
    })
}

/// The events of an answer: a thought, a text, calls, in pieces.
pub(crate) fn answer() -> impl Strategy<Value = Vec<Event>> {
    let pieces = || prop::collection::vec(words(), 0..4);
    let calls = prop::collection::vec(("[a-z_]{1,20}", arguments()), 0..4);
    (pieces(), pieces(), calls, 0u64..9_999, 0u64..999).prop_map(
        |(thought, said, calls, input_tokens, output_tokens)| {
            let mut events = vec![Event::Start { id: Some("up-1".to_owned()), model: Some("exact".to_owned()) }];
            let mut index = 0;
            let mut part = |head: PartHead, deltas: Vec<Delta>, events: &mut Vec<Event>| {
                events.push(Event::PartStart { index, part: head });
                events.extend(deltas.into_iter().map(|delta| Event::Delta { index, delta }));
                events.push(Event::PartStop { index });
                index += 1;
            };
            if !thought.is_empty() {
                let deltas = thought.into_iter().map(Delta::Reasoning).collect();
                part(PartHead::Reasoning { id: None }, deltas, &mut events);
            }
            if !said.is_empty() {
                part(PartHead::Text, said.into_iter().map(Delta::Text).collect(), &mut events);
            }
            let reason = if calls.is_empty() { StopReason::End } else { StopReason::ToolUse };
            for (number, (name, input)) in calls.into_iter().enumerate() {
                let half = input.char_indices().nth(5).map_or(0, |(at, _)| at);
                let deltas = [&input[..half], &input[half..]].map(|piece| Delta::Input(piece.to_owned())).to_vec();
                part(PartHead::ToolCall { id: format!("call_{number}"), name, free_form: false }, deltas, &mut events);
            }
            events.push(Event::Usage(Usage { input_tokens, output_tokens, cache_read_tokens: 3, ..Usage::default() }));
            events.push(Event::Stop { reason, said: "said".to_owned(), sequence: None });
            events.push(Event::End);
            events
        },
    )
}
