//! What was said in a call, read back from its kept bytes: for people who look at a record.
//!
//! It owns the guess of the dialect, which stands nowhere beside the bytes: a request is kept as it went to the provider, an
//! answer as it came. It refuses to fail and to show half of something: what it cannot read, it says nothing of, and the bytes
//! are shown as they are.

use std::cell::LazyCell;

use serde_json::{Map, Value};

use crate::{
    Dialect, Framing, PathFacts,
    neutral::{Answer, Media, MediaKind, Part, Role, Tee},
};

/// The most bytes of an answer's words that are put together.
const MAX_WORDS: usize = 64 * 1024 * 1024;

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// By whom, in words: `system`, `user`, `model`, `model thinks`, `model → TOOL`, `tool`.
    pub who: String,
    /// What.
    pub text: String,
}

impl Told {
    fn new(who: impl Into<String>, text: impl Into<String>) -> Self {
        Self { who: who.into(), text: text.into() }
    }
}

/// What a request says. Nothing if it cannot be read.
#[must_use]
pub fn request(body: &[u8]) -> Option<Vec<Told>> {
    let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let known = |name: &str| fields.contains_key(name);
    if known("input") && (known("encoding_format") || known("dimensions")) {
        return embedded(fields.get("input")?);
    }
    let order: &[Dialect] = if known("contents") {
        &[Dialect::Gemini]
    } else if known("input") {
        &[Dialect::Responses]
    } else if known("anthropic_version") {
        &[Dialect::Messages]
    } else if is_converse(&fields) {
        &[Dialect::Converse]
    } else {
        // Where both can read it, they read the same.
        &[Dialect::Messages, Dialect::Chat]
    };
    // In some envelopes the model stands in the path.
    let path = PathFacts { model: Some(String::new()), stream: None };
    let named = LazyCell::new(move || {
        let mut fields = fields;
        fields.entry("model").or_insert_with(|| "-".into());
        serde_json::to_vec(&fields).ok()
    });
    let read = |dialect: &Dialect| {
        let whole = dialect.read_request(body, &path).ok();
        whole.or_else(|| dialect.read_request(named.as_deref()?, &path).ok())
    };
    let request = order.iter().find_map(read)?;
    let mut told = Vec::new();
    request.system.iter().for_each(|one| part("system", one, &mut told));
    for turn in &request.turns {
        let who = match turn.role {
            Role::User => "user",
            Role::Assistant => "model",
            Role::System => "system",
        };
        turn.parts.iter().for_each(|one| part(who, one, &mut told));
    }
    (!told.is_empty()).then_some(told)
}

/// Parts of content have a type everywhere but in Converse.
fn is_converse(fields: &Map<String, Value>) -> bool {
    let messages = fields.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut parts = messages.iter().filter_map(|message| message.get("content")?.as_array()).flatten();
    parts.any(|part| part.is_object() && part.get("type").is_none())
}

/// What an answer says, in whatever frames it came. Nothing if it cannot be read.
#[must_use]
pub fn answer(body: &[u8]) -> Option<Vec<Told>> {
    let (dialect, framing) = form(body)?;
    let mut tee = Tee::new(dialect.decoder(framing), MAX_WORDS);
    tee.push(body);
    let Answer { parts, error, .. } = tee.finish(true);
    let mut told = Vec::new();
    parts.iter().for_each(|one| part("model", one, &mut told));
    if let Some(fault) = error {
        told.push(Told::new("error", format!("{}: {}", fault.code, fault.message)));
    }
    (!told.is_empty()).then_some(told)
}

/// In which dialect and frames an answer is.
fn form(body: &[u8]) -> Option<(Dialect, Framing)> {
    match body.trim_ascii_start().first()? {
        b'{' => Some((of_object(&serde_json::from_slice(body).ok()?)?, Framing::Whole)),
        b'[' => Some((Dialect::Gemini, Framing::Array)),
        b'e' | b'd' | b':' | b'i' | b'r' => {
            let text = std::str::from_utf8(body).ok()?;
            let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
            let first = data.filter_map(|data| serde_json::from_str(data.trim()).ok()).find_map(|one| of_object(&one));
            Some((first?, Framing::Events))
        }
        // Amazon's frames begin with a length. `chunk` is the one type of InvokeModel's events, and stands in the first head.
        _ => {
            let head = body.get(..512).unwrap_or(body);
            let invoked = head.windows(5).any(|window| window == b"chunk");
            Some((if invoked { Dialect::Messages } else { Dialect::Converse }, Framing::Frames))
        }
    }
}

/// In which dialect an answer, or one event of it, is.
fn of_object(fields: &Map<String, Value>) -> Option<Dialect> {
    let known = |name: &str| fields.contains_key(name);
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    if known("candidates") || known("promptFeedback") || known("usageMetadata") {
        Some(Dialect::Gemini)
    } else if known("choices") {
        Some(Dialect::Chat)
    } else if kind.starts_with("response.") || fields.get("object").is_some_and(|object| object == "response") {
        Some(Dialect::Responses)
    } else if fields.get("output").is_some_and(Value::is_object) {
        Some(Dialect::Converse)
    } else if ["message", "message_start", "error"].contains(&kind) {
        Some(Dialect::Messages)
    } else {
        None
    }
}

/// The texts of which numbers are wanted.
fn embedded(input: &Value) -> Option<Vec<Told>> {
    match input {
        Value::String(text) => Some(vec![Told::new("text", text)]),
        Value::Array(texts) => texts.iter().map(|text| Some(Told::new("text", text.as_str()?))).collect(),
        _ => None,
    }
}

fn part(who: &str, part: &Part, told: &mut Vec<Told>) {
    match part {
        Part::Text { text, .. } if text.is_empty() => {}
        Part::Text { text, .. } => told.push(Told::new(who, text)),
        Part::Refusal(text) => told.push(Told::new(format!("{who} refuses"), text)),
        Part::Reasoning(thought) if thought.text.is_empty() => {
            told.push(Told::new(format!("{who} thinks"), "[sealed by the provider]"));
        }
        Part::Reasoning(thought) => told.push(Told::new(format!("{who} thinks"), &thought.text)),
        Part::ToolCall { name, input, .. } => told.push(Told::new(format!("{who} → {name}"), input)),
        Part::ToolResult { parts, is_error, .. } => {
            let mut inner = Vec::new();
            parts.iter().for_each(|one| self::part("", one, &mut inner));
            let text: Vec<String> = inner.into_iter().map(|one| one.text).collect();
            told.push(Told::new(if *is_error { "tool, failed" } else { "tool" }, text.join("\n")));
        }
        Part::Media(media) => told.push(Told::new(who, shown(media))),
        Part::Foreign(value) => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("something of the provider's");
            told.push(Told::new(who, format!("[{kind}]")));
        }
    }
}

fn shown(media: &Media) -> String {
    let kind = match media.kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        MediaKind::Audio => "sound",
        MediaKind::Video => "film",
    };
    match &media.name {
        Some(name) => format!("[{kind}: {name}]"),
        None => format!("[{kind}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(told: Option<Vec<Told>>) -> Vec<String> {
        told.unwrap().into_iter().map(|one| format!("{}: {}", one.who, one.text)).collect()
    }

    #[test]
    fn requests_of_every_dialect_are_read_back() {
        let said = ["system: be kind", "user: hello", "model → run: {\"a\":1}", "tool: 42"];
        for body in [
            r#"{"model":"m","max_tokens":9,"system":"be kind","messages":[{"role":"user","content":"hello"},
              {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"run","input":{"a":1}}]},
              {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"42"}]}]}"#,
            r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"system":"be kind","messages":[{"role":"user","content":"hello"},
              {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"run","input":{"a":1}}]},
              {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"42"}]}]}"#,
            r#"{"model":"m","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hello"},
              {"role":"assistant","tool_calls":[{"id":"t","type":"function","function":{"name":"run","arguments":"{\"a\":1}"}}]},
              {"role":"tool","tool_call_id":"t","content":"42"}]}"#,
            r#"{"model":"m","instructions":"be kind","input":[{"role":"user","content":"hello"},
              {"type":"function_call","call_id":"t","name":"run","arguments":"{\"a\":1}"},
              {"type":"function_call_output","call_id":"t","output":"42"}]}"#,
            r#"{"systemInstruction":{"parts":[{"text":"be kind"}]},"contents":[{"role":"user","parts":[{"text":"hello"}]},
              {"role":"model","parts":[{"functionCall":{"name":"run","args":{"a":1}}}]},
              {"role":"user","parts":[{"functionResponse":{"name":"run","response":{"output":"42"}}}]}]}"#,
            r#"{"system":[{"text":"be kind"}],"messages":[{"role":"user","content":[{"text":"hello"}]},
              {"role":"assistant","content":[{"toolUse":{"toolUseId":"t","name":"run","input":{"a":1}}}]},
              {"role":"user","content":[{"toolResult":{"toolUseId":"t","content":[{"text":"42"}]}}]}]}"#,
        ] {
            assert_eq!(lines(request(body.as_bytes())), said, "{body}");
        }
        assert_eq!(
            lines(request(br#"{"model":"e","input":["a","b"],"encoding_format":"float"}"#)),
            ["text: a", "text: b"]
        );
    }

    #[test]
    fn answers_of_every_dialect_are_read_back() {
        for body in [
            r#"{"type":"message","role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"good day"}],"stop_reason":"end_turn"}"#,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"i\",\"usage\":{}}}\n\n\
             data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n\
             data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n\
             data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
             data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"good day\"}}\n\n",
            r#"{"id":"r","object":"response","status":"completed","output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]},
               {"type":"message","role":"assistant","content":[{"type":"output_text","text":"good day"}]}]}"#,
            r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hm","thought":true},{"text":"good day"}]}}]}"#,
            r#"[{"candidates":[{"content":{"role":"model","parts":[{"text":"hm","thought":true},{"text":"good day"}]}}]}]"#,
            r#"{"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"hm","signature":"s"}}},{"text":"good day"}]}},"stopReason":"end_turn"}"#,
        ] {
            assert_eq!(lines(answer(body.as_bytes())), ["model thinks: hm", "model: good day"], "{body}");
        }
        let chat = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"good day\"}}]}\n\ndata: [DONE]\n\n";
        assert_eq!(lines(answer(chat.as_bytes())), ["model: good day"]);
        let refused = r#"{"type":"error","error":{"type":"overloaded_error","message":"later"}}"#;
        assert_eq!(lines(answer(refused.as_bytes())), ["error: overloaded_error: later"]);
    }

    #[test]
    fn what_cannot_be_read_is_left_to_others() {
        for bytes in [&b""[..], b"\xff", b"?", b"{}", b"[", b"{\"messages\":7}", b"\0\0\0\x10"] {
            assert_eq!((request(bytes), answer(bytes)), (None, None), "{bytes:?}");
        }
    }
}
