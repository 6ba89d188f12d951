//! What was said in a model call, in words: for the Messages dialect, whole or streamed. Of anything else it says nothing, and
//! the bytes are shown as they are.

use serde_json::Value;
use stockade_api::domain::ContentKind;

/// The longest line of one piece, in characters.
const MAX_CHARS: usize = 2_000;

/// The lines of a request or an answer; nothing if it cannot be read.
pub fn of(kind: ContentKind, bytes: &[u8]) -> Option<Vec<String>> {
    match kind {
        ContentKind::ModelRequest => request(&serde_json::from_slice(bytes).ok()?),
        ContentKind::ModelResponse => match serde_json::from_slice::<Value>(bytes) {
            Ok(whole) => Some(blocks("model", whole.get("content")?.as_array()?)),
            Err(_) => stream(std::str::from_utf8(bytes).ok()?),
        },
        _ => None,
    }
}

fn request(body: &Value) -> Option<Vec<String>> {
    let messages = body.get("messages")?.as_array()?;
    let mut lines = Vec::new();
    match body.get("system") {
        Some(Value::String(text)) => lines.push(said("system", text)),
        Some(Value::Array(parts)) => lines.extend(blocks("system", parts)),
        _ => {}
    }
    for message in messages {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("?");
        match message.get("content") {
            Some(Value::String(text)) => lines.push(said(role, text)),
            Some(Value::Array(parts)) => lines.extend(blocks(role, parts)),
            _ => {}
        }
    }
    Some(lines)
}

fn blocks(who: &str, parts: &[Value]) -> Vec<String> {
    parts.iter().filter_map(|part| block(who, part)).collect()
}

fn block(who: &str, part: &Value) -> Option<String> {
    let text = |name: &str| part.get(name).and_then(Value::as_str);
    Some(match text("type")? {
        "text" => said(who, text("text")?),
        "thinking" => said(&format!("{who} thinks"), text("thinking")?),
        "tool_use" => said(&format!("{who} → {}", text("name")?), &part.get("input")?.to_string()),
        "tool_result" => {
            let content = part.get("content").unwrap_or(&Value::Null);
            let plain = match content {
                Value::String(text) => text.clone(),
                Value::Array(parts) => {
                    parts.iter().filter_map(|p| p.get("text")?.as_str()).collect::<Vec<_>>().join("\n")
                }
                other => other.to_string(),
            };
            said("tool", &plain)
        }
        other => format!("{who}: [{other}]"),
    })
}

/// The blocks of a streamed answer, put together from their deltas.
fn stream(text: &str) -> Option<Vec<String>> {
    let mut parts: std::collections::BTreeMap<u64, (String, String)> = std::collections::BTreeMap::new();
    for line in text.lines() {
        let Some(data) = line.strip_prefix("data:") else { continue };
        let Ok(event) = serde_json::from_str::<Value>(data.trim()) else { continue };
        let Some(index) = event.get("index").and_then(Value::as_u64) else { continue };
        if let Some(block) = event.get("content_block") {
            let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
            let who = match (kind, block.get("name").and_then(Value::as_str)) {
                ("thinking", _) => "model thinks".to_owned(),
                (_, Some(name)) => format!("model → {name}"),
                _ => "model".to_owned(),
            };
            parts.entry(index).or_default().0 = who;
        }
        let delta = event.get("delta");
        let piece = ["text", "thinking", "partial_json"].iter().find_map(|name| delta?.get(name)?.as_str());
        if let Some(piece) = piece {
            parts.entry(index).or_default().1.push_str(piece);
        }
    }
    (!parts.is_empty()).then(|| parts.values().map(|(who, text)| said(who, text)).collect())
}

fn said(who: &str, text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("  {who}: {}", shown.trim_end().replace('\n', "\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_a_streamed_answer_are_read_out() {
        let request = br#"{"system":"be kind","messages":[{"role":"user","content":"hello"},
            {"role":"user","content":[{"type":"tool_result","content":"42"}]}]}"#;
        assert_eq!(
            of(ContentKind::ModelRequest, request).unwrap(),
            ["  system: be kind", "  user: hello", "  tool: 42"]
        );
        let answer = "event: content_block_start\ndata: {\"index\":0,\"content_block\":{\"type\":\"text\"}}\n\n\
            data: {\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"good \"}}\n\n\
            data: {\"index\":0,\"delta\":{\"text\":\"day\"}}\n\n\
            data: {\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"name\":\"run\"}}\n\
            data: {\"index\":1,\"delta\":{\"partial_json\":\"{}\"}}\n";
        assert_eq!(
            of(ContentKind::ModelResponse, answer.as_bytes()).unwrap(),
            ["  model: good day", "  model → run: {}"]
        );
        assert!(of(ContentKind::ModelRequest, b"\xff").is_none() && of(ContentKind::ModelResponse, b"?").is_none());
    }
}
