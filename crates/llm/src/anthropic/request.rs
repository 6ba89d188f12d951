//! A request, seen through the few fields that the gateway acts on. Everything else stays as it was sent.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::{scan::Scan, session::session_of};
use crate::{Estimate, MAX_MODEL_NAME, RequestError, View, take::Object};

/// The typed view of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The model that is asked for.
    pub model: String,
    /// The most tokens that may be written.
    pub max_tokens: u64,
    /// Whether the answer should come as a stream.
    pub stream: bool,
    /// How many messages the conversation has.
    pub messages: usize,
    /// The most that it can use.
    pub estimate: Estimate,
    /// What it says of the client's session: untrusted.
    pub session: Option<String>,
    model_at: Range<usize>,
}

impl Request {
    /// Reads a body.
    ///
    /// # Errors
    /// [`RequestError`], with a text for the client.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let scan = Scan::of(body).map_err(|error| RequestError::Syntax("Messages", error.to_string()))?;
        let raw = scan.model.ok_or(RequestError::Missing("model"))?.get();
        let model: String = serde_json::from_str(raw).map_err(|_| RequestError::ModelName)?;
        if model.is_empty() || model.len() > MAX_MODEL_NAME || model.chars().any(char::is_control) {
            return Err(RequestError::ModelName);
        }
        // `raw` borrows from `body`, so the distance is where it stands.
        let at = (raw.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
        let max_tokens = scan.max_tokens.ok_or(RequestError::Missing("max_tokens"))?;
        let messages = scan.messages.ok_or(RequestError::Missing("messages"))?;
        if let Some(what) = unpriced(&scan) {
            return Err(RequestError::Unpriced(what));
        }
        Ok(Self {
            model,
            max_tokens,
            stream: scan.stream.unwrap_or(false),
            messages,
            estimate: scan.estimate(max_tokens),
            session: user_id(&scan.small).and_then(session_of),
            model_at: at..at + raw.len(),
        })
    }

    /// What the gateway looks at.
    #[must_use]
    pub fn into_view(self) -> View {
        View {
            model: Some(self.model),
            model_at: Some(self.model_at),
            stream: self.stream,
            messages: self.messages,
            max_output: Some(self.max_tokens),
            answers: 1,
            estimate: self.estimate,
            session: self.session,
            ..View::default()
        }
    }

    /// The same bytes, but for the model's name if it is another. `body` is what this view was parsed from.
    #[must_use]
    pub fn with_model(&self, body: &Bytes, model: &str) -> Bytes {
        let (Some(before), Some(after)) = (body.get(..self.model_at.start), body.get(self.model_at.end..)) else {
            return body.clone();
        };
        if model == self.model {
            return body.clone();
        }
        let name = Value::from(model).to_string();
        let mut out = BytesMut::with_capacity(before.len() + name.len() + after.len());
        out.extend_from_slice(before);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(after);
        out.freeze()
    }
}

fn user_id(body: &Object) -> Option<&str> {
    body.get("metadata")?.get("user_id")?.as_str()
}

/// The first thing in the request that costs more than its tokens at the listed prices.
fn unpriced(scan: &Scan<'_>) -> Option<String> {
    let present = |key: &str| scan.small.get(key).filter(|value| !value.is_null());
    for key in ["mcp_servers", "container", "fallbacks"] {
        if present(key).is_some_and(|value| value.as_array().is_none_or(|items| !items.is_empty())) {
            return Some(format!("`{key}`"));
        }
    }
    for (key, ordinary) in
        [("speed", &["standard"][..]), ("inference_geo", &["global"]), ("service_tier", &["auto", "standard_only"])]
    {
        if present(key).is_some_and(|value| value.as_str().is_none_or(|word| !ordinary.contains(&word))) {
            return Some(format!("`{key}` other than `{}`", ordinary.first().unwrap_or(&"")));
        }
    }
    let edits = present("context_management").and_then(|value| value.get("edits")).and_then(Value::as_array);
    let word = |edit: &Value| edit.get("type").map(|word| word.as_str().unwrap_or("?").to_owned());
    let mut edits = edits.into_iter().flatten().filter_map(word);
    // Shortening the conversation by clearing is free; having the provider summarise it is a model call of its own.
    if let Some(edit) = edits.find(|word| !word.starts_with("clear_")) {
        return Some(format!("the context edit `{edit}`"));
    }
    let ours = |word: &str| {
        word == "custom"
            || ["bash_", "text_editor_", "computer_", "memory_", "tool_search_tool_"]
                .iter()
                .any(|p| word.starts_with(p))
    };
    scan.tools.iter().find(|word| !ours(word)).map(|word| format!("the tool `{word}`, which the provider runs,"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{CacheUse, estimate::Walk, neutral::any};

    fn parse(value: &Value) -> Result<Request, RequestError> {
        Request::parse(value.to_string().as_bytes())
    }

    #[test]
    fn only_the_model_is_replaced_and_only_that_one() {
        let body = Bytes::from_static(
            b"{ \"messages\" : [{\"role\":\"user\",\"content\":\"\\u00e9 \\\"model\\\": 1\"}],\t\"model\":  \"alias\" , \"max_tokens\":1e2 }",
        );
        assert!(matches!(Request::parse(&body), Err(RequestError::Syntax(..))), "1e2 is no whole number");
        let body = Bytes::from(String::from_utf8(body.to_vec()).unwrap().replace("1e2", "100"));
        let request = Request::parse(&body).unwrap();
        assert_eq!((request.model.as_str(), request.max_tokens, request.messages), ("alias", 100, 1));
        let other = request.with_model(&body, "exact-\"1\"");
        assert_eq!(other, String::from_utf8(body.to_vec()).unwrap().replace("\"alias\"", "\"exact-\\\"1\\\"\""));
        assert_eq!(request.with_model(&body, "alias").as_ptr(), body.as_ptr(), "nothing is copied without need");
    }

    #[test]
    fn what_is_missing_or_twice_is_said() {
        let text = |body: &str| Request::parse(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(text("{}"), "model: Field required");
        assert_eq!(text(r#"{"model":"m","messages":[]}"#), "max_tokens: Field required");
        assert_eq!(text(r#"{"model":"m","max_tokens":1}"#), "messages: Field required");
        assert!(text(r#"{"model":"a","max_tokens":1,"messages":[],"mod\u0065l":"b"}"#).contains("duplicate"));
        assert!(text(r#"{"model":"a","max_tokens":-1,"messages":[]}"#).contains("does not read"));
        assert!(text(r#"{"model":"","max_tokens":1,"messages":[]}"#).starts_with("model: expected"));
        assert!(text("[1]").contains("does not read"));
        assert!(text(&"[".repeat(100_000)).contains("does not read"));
        let deep = format!("{{\"model\":\"m\",\"max_tokens\":1,\"messages\":{}{}}}", "[".repeat(500), "]".repeat(500));
        assert!(text(&deep).contains("does not read"));
    }

    #[test]
    fn what_nothing_bounds_is_refused() {
        let with = |key: &str, value: Value| {
            let mut body = json!({"model": "m", "max_tokens": 1, "messages": []});
            body[key] = value;
            parse(&body).map(|_| ()).map_err(|error| error.to_string())
        };
        for (key, value) in [
            ("tools", json!([{"name": "x", "input_schema": {}}, {"type": "web_search_20250305", "name": "w"}])),
            ("tools", json!([{"type": "something_new_20290101"}])),
            ("mcp_servers", json!([{"url": "https://example.org"}])),
            ("container", json!("c")),
            ("speed", json!("fast")),
            ("inference_geo", json!("us")),
            ("context_management", json!({"edits": [{"type": "compact_20260112"}]})),
        ] {
            assert!(with(key, value).unwrap_err().contains("has no price here"), "{key}");
        }
        for (key, value) in [
            (
                "tools",
                json!([{"type": "custom", "name": "x"}, {"type": "bash_20250124", "name": "bash"}, {"name": "y"}]),
            ),
            ("mcp_servers", json!([])),
            ("speed", json!(null)),
            ("context_management", json!({"edits": [{"type": "clear_tool_uses_20250919"}]})),
            ("something_new", json!({"anything": [1]})),
        ] {
            assert_eq!(with(key, value), Ok(()), "{key}");
        }
    }

    #[test]
    fn the_estimate_knows_pictures_documents_and_cache_marks() {
        let of = |content: Value| {
            parse(&json!({"model": "m", "max_tokens": 7, "messages": [{"role": "user", "content": content}]}))
                .unwrap()
                .estimate
        };
        let plain = of(json!("hello"));
        assert_eq!((plain.output_tokens, plain.cache), (7, CacheUse::None));
        let picture = json!([{"type": "image", "source": {"type": "base64", "data": "A".repeat(1_000_000)}}]);
        assert!((5_000..6_000).contains(&of(picture).input_tokens.unwrap()));
        // What only claims to be a picture is counted as the text that it is.
        let text = json!([{"type": "text", "text": "A1".repeat(50_000)}]);
        assert!(of(text).input_tokens.unwrap() >= 100_000);
        let document = json!([{"type": "document", "source": {"type": "file", "file_id": "f"}}]);
        assert_eq!(of(document).input_tokens, None);
        let marked = json!([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]);
        assert_eq!(of(marked).cache, CacheUse::FiveMinutes);
        let hour = json!([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]);
        assert_eq!(of(hour).cache, CacheUse::Hour);
    }

    const WORDS: &[&str] = &[
        "type",
        "text",
        "image",
        "document",
        "source",
        "base64",
        "url",
        "file",
        "data",
        "cache_control",
        "ttl",
        "5m",
        "1h",
        "ephemeral",
        "tools",
        "system",
        "name",
        "custom",
        "metadata",
        "context_management",
        "edits",
        "content",
    ];

    proptest! {
        #[test]
        fn one_pass_finds_what_a_walk_over_a_tree_finds(
            body in any::json(WORDS),
            blocks in prop::collection::vec(any::json(WORDS), 0..5),
            tools in prop::collection::vec(any::json(WORDS), 0..3),
        ) {
            let mut body = body.as_object().cloned().unwrap_or_default();
            body.extend([
                ("model".to_owned(), json!("m")),
                ("max_tokens".to_owned(), json!(7)),
                ("messages".to_owned(), json!(blocks)),
                ("tools".to_owned(), json!(tools)),
            ]);
            let text = Value::Object(body.clone()).to_string();
            // Read back first: the text of a number may stand for its neighbour.
            let body: Object = serde_json::from_str(&text).unwrap();
            if let Ok(request) = Request::parse(text.as_bytes()) {
                prop_assert_eq!(request.estimate, Walk::request(&body).estimate(7));
                prop_assert_eq!(request.messages, blocks.len());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::parse(&bytes);
        }

        #[test]
        fn with_model_changes_only_the_model(before in "[a-z ]{0,9}", name in "\\PC{1,20}", exact in "\\PC{1,20}") {
            let body = Bytes::from(format!(
                "{{\"system\":{},\"model\" : {} ,\"max_tokens\":1,\"messages\":[]}}", json!(before), json!(name)));
            let other = Request::parse(&body).unwrap().with_model(&body, &exact);
            prop_assert_eq!(&Request::parse(&other).unwrap().model, &exact);
            let expected = format!(
                "{{\"system\":{},\"model\" : {} ,\"max_tokens\":1,\"messages\":[]}}", json!(before), json!(exact));
            prop_assert_eq!(&other[..], expected.as_bytes());
        }
    }
}
