//! A look at a request: what the gateway acts on, and what bounds its cost.

use serde_json::{Map, Value};

use crate::{
    RequestError, View,
    openai::scan::{Form, Scan},
};

const FORM: Form = Form {
    title: "Responses",
    conversation: "input",
    kept: &[
        "model",
        "stream",
        "stream_options",
        "max_output_tokens",
        "max_tool_calls",
        "service_tier",
        "user",
        "prompt_cache_key",
        "prompt_cache_options",
        "previous_response_id",
        "conversation",
        "prompt",
        "background",
        "context_management",
        "reasoning",
        "store",
        "metadata",
        "client_metadata",
        "include",
        "temperature",
        "top_p",
        "truncation",
        "safety_identifier",
    ],
    silent: &[
        "model",
        "stream",
        "stream_options",
        "max_output_tokens",
        "max_tool_calls",
        "service_tier",
        "user",
        "prompt_cache_key",
        "prompt_cache_options",
        "previous_response_id",
        "conversation",
        "background",
        "reasoning",
        "store",
        "metadata",
        "client_metadata",
        "include",
        "temperature",
        "top_p",
        "truncation",
        "safety_identifier",
    ],
};

/// Tools that the client runs, or that cost nothing but tokens.
const OURS: &[&str] = &[
    "function",
    "custom",
    "namespace",
    "tool_search",
    "local_shell",
    "apply_patch",
    "computer",
    "computer_use_preview",
];

/// Looks at a request.
pub(super) fn view(body: &[u8]) -> Result<View, RequestError> {
    let mut scan = Scan::of(body, &FORM)?;
    let (model, at) = scan.model(body)?;
    // What is kept at the provider is read again with every request, and nothing here knows how long it is.
    let kept = ["previous_response_id", "conversation", "prompt"].into_iter().any(|key| scan.says(key));
    if scan.sums.messages == 0 && !kept {
        return Err(RequestError::Missing("input"));
    }
    scan.sums.unbounded |= kept;
    unpriced(&scan)?;
    let options = scan.read::<Option<Map<String, Value>>>(&FORM, "prompt_cache_options")?.flatten().unwrap_or_default();
    scan.sums.kept_long |= options.get("ttl").is_some_and(|ttl| !ttl.is_null() && ttl != "30m");
    let max_output = scan.read::<Option<u64>>(&FORM, "max_output_tokens")?.flatten();
    Ok(View {
        estimate: scan.estimate(&model, max_output.unwrap_or(0)),
        model: Some(model),
        model_at: Some(at),
        stream: scan.read::<Option<bool>>(&FORM, "stream")?.flatten().unwrap_or(false),
        messages: scan.sums.messages,
        max_output,
        answers: 1,
        session: scan.session(&["prompt_cache_key", "user"]),
        tier: scan.tier()?,
        ..View::default()
    })
}

/// Refuses what costs more than its tokens at the listed prices, and what is settled only after the answer.
fn unpriced(scan: &Scan<'_>) -> Result<(), RequestError> {
    if scan.says("background") {
        return Err(RequestError::Unsupported("`background`".to_owned(), "answers are not kept here: ask without it"));
    }
    if scan.says("context_management") {
        return Err(RequestError::Unpriced("`context_management`".to_owned()));
    }
    let reasoning = scan.read::<Option<Map<String, Value>>>(&FORM, "reasoning")?.flatten().unwrap_or_default();
    if reasoning.get("mode").is_some_and(|mode| !mode.is_null() && mode != "standard") {
        return Err(RequestError::Unpriced("`reasoning.mode` other than `standard`".to_owned()));
    }
    if let Some(what) = scan.sums.unpriced {
        return Err(RequestError::Unpriced(what.to_owned()));
    }
    match scan.sums.tools.iter().find(|word| !OURS.contains(&word.as_str())) {
        // Codex sends it unless it is told not to.
        Some(word) if word.starts_with("web_search") => Err(RequestError::Unpriced(format!(
            "the tool `{word}`, which the provider runs (Codex: web_search = \"disabled\" in its config.toml leaves it out),"
        ))),
        Some(word) => Err(RequestError::Unpriced(format!("the tool `{word}`, which the provider runs,"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Tier;

    fn with(key: &str, value: Value) -> Result<View, RequestError> {
        let mut body = json!({"model": "gpt-5", "input": [{"role": "user", "content": "hi"}]});
        body[key] = value;
        view(body.to_string().as_bytes())
    }

    #[test]
    fn what_the_gateway_acts_on_is_seen() {
        let body = json!({"model": "gpt-5.1-codex", "stream": true, "store": false, "max_output_tokens": 70, "prompt_cache_key": "019a",
            "client_metadata": {"x": "y".repeat(5_000)}, "include": ["reasoning.encrypted_content"], "service_tier": "priority",
            "input": [{"role": "user", "content": "hi"}, {"type": "function_call_output", "call_id": "c", "output": "x"}]});
        let seen = view(body.to_string().as_bytes()).unwrap();
        assert_eq!((seen.stream, seen.messages, seen.max_output, seen.answers), (true, 2, Some(70), 1));
        assert_eq!((seen.session.as_deref(), seen.tier), (Some("019a"), Tier::Priority));
        assert!(seen.estimate.input_tokens.unwrap() < 300);
        assert_eq!(with("input", json!("just text")).unwrap().messages, 1);
        assert_eq!(with("input", json!([])).unwrap_err().to_string(), "input: Field required");
    }

    #[test]
    fn what_is_kept_at_the_provider_is_bounded_by_the_context_window() {
        for (key, value) in [
            ("previous_response_id", json!("resp_1")),
            ("conversation", json!({"id": "conv_1"})),
            ("prompt", json!({"id": "pmpt_1"})),
            ("input", json!([{"type": "item_reference", "id": "msg_1"}])),
            ("input", json!([{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}])),
        ] {
            assert_eq!(with(key, value).unwrap().estimate.input_tokens, None, "{key}");
        }
        assert!(with("previous_response_id", json!(null)).unwrap().estimate.input_tokens.is_some());
    }

    #[test]
    fn row_03_what_has_no_price_is_refused_and_row_27_tools_of_codex_are_not() {
        for (key, value) in [
            ("tools", json!([{"type": "web_search", "external_web_access": false}])),
            ("tools", json!([{"type": "mcp", "server_label": "x"}])),
            (
                "tools",
                json!([{"type": "namespace", "name": "n", "description": "", "tools": [{"type": "code_interpreter"}]}]),
            ),
            (
                "input",
                json!([{"type": "additional_tools", "role": "developer", "tools": [{"type": "image_generation"}]}]),
            ),
            ("context_management", json!([{"type": "compaction"}])),
            ("reasoning", json!({"mode": "pro"})),
            ("service_tier", json!("ultrafast")),
        ] {
            assert!(with(key, value).unwrap_err().to_string().contains("has no price here"), "{key}");
        }
        assert!(matches!(with("background", json!(true)), Err(RequestError::Unsupported(..))));
        let tools = json!([
            {"type": "function", "name": "exec_command", "parameters": {"type": "object"}, "strict": false},
            {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}},
            {"type": "namespace", "name": "mcp__docs", "description": "d", "tools": [{"type": "function", "name": "find"}]},
            {"type": "tool_search", "execution": "client"}, {"type": "local_shell"}]);
        assert!(with("tools", tools).is_ok());
        let text = with("tools", json!([{"type": "web_search"}])).unwrap_err().to_string();
        assert!(text.contains("Codex"), "{text}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = view(&bytes);
        }
    }
}
