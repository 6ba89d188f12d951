//! Messages of a model, read as untrusted and made fit to be sent back.
//!
//! *Invariant:* what [`Said`] holds can stand in a Messages conversation: no empty text, every tool call with a fresh
//! identifier, a possible name and an object as input, no thinking without signature, nothing that the request did not
//! make possible. Thinking that is kept is kept byte for byte, because its signature covers it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// At most so many blocks of one message are kept. A model's answer has a handful.
pub(crate) const MAX_BLOCKS: usize = 128;

/// The longest identifier or name of a tool call.
const MAX_NAME: usize = 64;

/// What a model said, fit to be sent back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    /// The content blocks; may be empty, and is then no message.
    pub blocks: Vec<Value>,
    /// The tool calls in it, in order.
    pub calls: Vec<Called>,
    /// Whether something was left out or changed.
    pub mended: bool,
    /// Whether the last block is a tool call: at a limit, that one is incomplete.
    pub ends_in_call: bool,
}

/// One tool call of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Called {
    /// Its identifier in the conversation.
    pub id: String,
    /// The name, as the model wrote it.
    pub name: String,
    /// The input, as the model wrote it.
    pub input: Value,
}

/// How many tool calls a provider's message holds: so many identifiers the runner puts into `Input::Model`.
pub fn tool_calls(message: &Value) -> usize {
    blocks(message).filter(|block| kind(block) == "tool_use").count()
}

fn blocks(message: &Value) -> impl Iterator<Item = &Value> {
    message.get("content").and_then(Value::as_array).into_iter().flatten().take(MAX_BLOCKS)
}

fn kind(block: &Value) -> &str {
    block.get("type").and_then(Value::as_str).unwrap_or("")
}

/// Reads a message. `used` are the call identifiers of the conversation so far; `attempt` makes new ones unique where the
/// model's cannot stand.
pub(crate) fn read(message: &Value, used: &BTreeSet<String>, attempt: u32) -> Said {
    let given = message.get("content").and_then(Value::as_array).map_or(0, Vec::len);
    let mut said = Said { blocks: vec![], calls: vec![], mended: given > MAX_BLOCKS, ends_in_call: false };
    let mut ids = used.clone();
    for (index, block) in blocks(message).enumerate() {
        let text = |field: &str| block.get(field).and_then(Value::as_str);
        let kept = match kind(block) {
            "text" => text("text").filter(|t| !t.trim().is_empty()).map(|t| json!({"type": "text", "text": t})),
            "thinking" => match (text("thinking"), text("signature")) {
                (Some(thinking), Some(signature)) if !signature.is_empty() => {
                    Some(json!({"type": "thinking", "thinking": thinking, "signature": signature}))
                }
                _ => None,
            },
            "redacted_thinking" => {
                text("data").filter(|d| !d.is_empty()).map(|d| json!({"type": "redacted_thinking", "data": d}))
            }
            "tool_use" => {
                let (called, mended) = call(block, &ids, attempt, index);
                said.mended |= mended;
                ids.insert(called.id.clone());
                let input = if called.input.is_object() { called.input.clone() } else { json!({}) };
                let block =
                    json!({"type": "tool_use", "id": called.id, "name": plain_name(&called.name), "input": input});
                said.calls.push(called);
                Some(block)
            }
            _ => None,
        };
        // An empty text is so common after tool results that it is no news.
        said.mended |= kept.is_none() && kind(block) != "text";
        said.blocks.extend(kept);
    }
    // The provider refuses a message that ends in thinking: it was cut off, and nothing follows from it.
    while said.blocks.last().is_some_and(|block| matches!(kind(block), "thinking" | "redacted_thinking")) {
        said.blocks.pop();
    }
    said.ends_in_call = said.blocks.last().is_some_and(|block| kind(block) == "tool_use");
    said
}

fn call(block: &Value, used: &BTreeSet<String>, attempt: u32, index: usize) -> (Called, bool) {
    let name = block.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
    let input = block.get("input").cloned().unwrap_or(Value::Null);
    let id = block.get("id").and_then(Value::as_str).unwrap_or("");
    if is_plain(id) && !used.contains(id) {
        let mended = !is_plain(&name) || !input.is_object();
        return (Called { id: id.to_owned(), name, input }, mended);
    }
    let mut fresh = format!("toolu_mended_{attempt}_{index}");
    while used.contains(&fresh) {
        fresh.push('_');
    }
    (Called { id: fresh, name, input }, true)
}

fn is_plain(word: &str) -> bool {
    (1..=MAX_NAME).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn plain_name(name: &str) -> &str {
    if is_plain(name) { name } else { "unreadable" }
}

#[cfg(test)]
pub(crate) fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let word = prop::sample::select(vec![
        "path",
        "text",
        "old",
        "new",
        "depth",
        "pattern",
        "glob",
        "max_matches",
        "command",
        "timeout_ms",
        "title",
        "summary",
        "done",
        "question",
        "from_line",
        "max_lines",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[a-z./]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_message_is_kept_as_it_is() {
        let message = json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "x=="},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "a"}},
        ]});
        let said = read(&message, &BTreeSet::new(), 1);
        assert_eq!(Value::Array(said.blocks), message["content"]);
        assert!(!said.mended && said.ends_in_call);
        assert_eq!(said.calls.len(), tool_calls(&message));
    }

    #[test]
    fn what_cannot_be_sent_back_is_mended() {
        let message = json!({"content": [
            {"type": "text", "text": " \n"},
            {"type": "thinking", "thinking": "no signature"},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "tool_use", "id": "used", "name": "read", "input": {"path": "a"}},
            {"type": "tool_use", "id": "b b", "name": "näme", "input": [1]},
            {"type": "tool_use"},
            7,
            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
            {"type": "thinking", "thinking": "cut", "signature": "s"},
        ]});
        let said = read(&message, &BTreeSet::from(["used".to_owned()]), 4);
        assert!(said.mended && !said.ends_in_call);
        assert_eq!(
            Value::Array(said.blocks),
            json!([
                {"type": "tool_use", "id": "toolu_mended_4_3", "name": "read", "input": {"path": "a"}},
                {"type": "tool_use", "id": "toolu_mended_4_4", "name": "unreadable", "input": {}},
                {"type": "tool_use", "id": "toolu_mended_4_5", "name": "unreadable", "input": {}},
                {"type": "text", "text": "x"},
            ])
        );
    }

    #[test]
    fn a_flood_of_blocks_is_cut() {
        let message = json!({"content": vec![json!({"type": "tool_use"}); MAX_BLOCKS + 1]});
        let said = read(&message, &BTreeSet::new(), 1);
        assert_eq!((said.calls.len(), tool_calls(&message), said.mended), (MAX_BLOCKS, MAX_BLOCKS, true));
    }
}
