//! Requests: what is found in every dialect, and that nothing else changes.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use proptest::prelude::*;
use serde_json::{Value, json};
use stockade_domain::ids::ProjectId;
use stockade_policy::{
    Bundle, Engine,
    content::{ContentScope, Direction},
};

use super::*;

/// A token of GitHub that nobody has, in pieces, so that this file is not full of what it is about.
pub fn token() -> String {
    ["ghp_Zp3QvT9rLk2m", "Xc7WbY5nHd8FgJ4sAe48iBZo"].concat()
}

pub fn key() -> String {
    let body = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v0VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
    ["-----BEGIN PRIV", "ATE KEY-----\n", body, "\n-----END PRIV", "ATE KEY-----"].concat()
}

/// The rules: what, and what is done about it.
pub fn guard(dialect: Dialect, rules: &[(&str, &str)]) -> Guard {
    let mut text: String = "[[content_pattern]]\nname = \"ticket\"\nregex = \"ACME-[0-9]{4,8}\"\n\
        [[content_words]]\nname = \"code\"\nwords = [\"blue falcon\"]\n"
        .to_owned();
    for (n, (class, action)) in rules.iter().enumerate() {
        text.push_str(&format!(
            "[[content]]\nid = \"r{n}\"\ntitle = \"No {class}\"\nclasses = [\"{class}\"]\naction = \"{action}\"\n"
        ));
    }
    static ENGINES: LazyLock<Mutex<HashMap<String, Arc<Engine>>>> = LazyLock::new(Mutex::default);
    let read = || Arc::new(Bundle::parse(1, &text).unwrap_or_else(|e| panic!("{:#?}", e.problems)));
    let engine = ENGINES.lock().unwrap().entry(text.clone()).or_insert_with(read).clone();
    let scope = ContentScope { project: ProjectId::from_bytes([1; 16]), provider: "p", model: "m" };
    let rules = |direction| engine.content(&scope, direction);
    Guard::for_call(rules(Direction::Request), rules(Direction::Response), dialect, Marker::new(b"run"))
}

fn body(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// One request of each dialect with this text in each place.
fn requests(text: &str) -> Vec<(Dialect, Place, Value)> {
    use Dialect::{Chat, Converse, Gemini, Messages, Responses};
    let inside = json!({ "command": text }).to_string();
    vec![
        (Messages, Place::System, json!({"system": [{"type": "text", "text": text}], "messages": []})),
        (Messages, Place::Text, json!({"messages": [{"role": "user", "content": text}]})),
        (
            Messages,
            Place::ToolArgument,
            json!({"messages": [{"role": "assistant", "content":
            [{"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": text}}]}]}),
        ),
        (
            Messages,
            Place::ToolResult,
            json!({"messages": [{"role": "user", "content":
            [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": text}]}]}]}),
        ),
        (
            Messages,
            Place::Reasoning,
            json!({"messages": [{"role": "assistant", "content":
            [{"type": "thinking", "thinking": text, "signature": "s"}]}]}),
        ),
        (Chat, Place::System, json!({"messages": [{"role": "developer", "content": text}]})),
        (Chat, Place::Text, json!({"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]})),
        (
            Chat,
            Place::ToolArgument,
            json!({"messages": [{"role": "assistant", "tool_calls":
            [{"id": "c", "type": "function", "function": {"name": "f", "arguments": inside}}]}]}),
        ),
        (Chat, Place::ToolResult, json!({"messages": [{"role": "tool", "tool_call_id": "c", "content": text}]})),
        (
            Responses,
            Place::Text,
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]}),
        ),
        (Responses, Place::ToolArgument, json!({"input": [{"type": "function_call", "arguments": inside}]})),
        (Responses, Place::ToolArgument, json!({"input": [{"type": "custom_tool_call", "input": text}]})),
        (Responses, Place::ToolResult, json!({"input": [{"type": "function_call_output", "output": text}]})),
        (Responses, Place::Reasoning, json!({"input": [{"type": "reasoning", "summary": [{"text": text}]}]})),
        (Gemini, Place::Text, json!({"contents": [{"role": "user", "parts": [{"text": text}]}]})),
        (Gemini, Place::ToolArgument, json!({"contents": [{"parts": [{"functionCall": {"args": {"a": text}}}]}]})),
        (
            Gemini,
            Place::ToolResult,
            json!({"contents": [{"parts": [{"functionResponse": {"response": {"o": text}}}]}]}),
        ),
        (Gemini, Place::Reasoning, json!({"contents": [{"parts": [{"thought": true, "text": text}]}]})),
        (Converse, Place::Text, json!({"messages": [{"role": "user", "content": [{"text": text}]}]})),
        (Converse, Place::ToolArgument, json!({"messages": [{"content": [{"toolUse": {"input": {"a": text}}}]}]})),
        (
            Converse,
            Place::ToolResult,
            json!({"messages": [{"content": [{"toolResult": {"content": [{"text": text}]}}]}]}),
        ),
    ]
}

#[test]
fn row_22_requests_are_guarded_in_every_place_of_every_dialect() {
    for secret in [token(), key()] {
        for (dialect, place, value) in requests(&format!("look:\n{secret}\nthere")) {
            let guard = guard(dialect, &[("secret.*", "block")]);
            match guard.request(&body(&value)).unwrap() {
                Verdict::Block { title, findings } => {
                    assert_eq!(title, "No secret.*");
                    assert_eq!(findings.len(), 1, "{dialect:?} {place} {findings:?}");
                    assert_eq!(findings[0].place, place, "{dialect:?} {value}");
                }
                other => panic!("{dialect:?} {place}: {other:?}"),
            }
        }
    }
}

#[test]
fn row_22_what_does_not_read_is_refused() {
    let guard = guard(Dialect::Messages, &[("secret.*", "report")]);
    for bad in ["", "{", "{\"a\":\"\\q\"}", "not json"] {
        assert!(guard.request(&Bytes::from(bad)).is_err(), "{bad}");
    }
}

#[test]
fn row_22_redacting_changes_the_finding_and_nothing_else() {
    let rules = [("secret.*", "redact"), ("pattern.ticket", "redact"), ("words.code", "redact")];
    for secret in [token(), key(), "ACME-12345".to_owned(), "Blue Falcon".to_owned()] {
        let mut digests = std::collections::BTreeSet::new();
        for (dialect, place, value) in requests(&format!("é \"look\"\n{secret}\n\\there")) {
            let guard = guard(dialect, &rules);
            let sent = body(&value);
            let Verdict::Redact { bytes, vault, findings } = guard.request(&sent).unwrap() else {
                panic!("{dialect:?} {place} {secret}")
            };
            let reference = vault.references().next().unwrap().to_owned();
            digests.insert(reference.clone());
            let expected = requests(&format!("é \"look\"\n{reference}\n\\there"));
            let same = expected.iter().find(|(d, p, v)| (*d, *p) == (dialect, place) && same_shape(v, &value)).unwrap();
            assert_eq!(bytes, body(&same.2), "{dialect:?} {place}");
            assert!(findings.iter().all(|finding| finding.action == ContentAction::Redact));
            use secrecy::ExposeSecret;
            assert_eq!(vault.value(&reference).unwrap().expose_secret(), secret);
        }
        assert_eq!(digests.len(), 1, "the same value has the same reference in every dialect: {digests:?}");
    }
}

fn same_shape(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys().eq(b.keys()) && a.values().zip(b.values()).all(|(a, b)| same_shape(a, b))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_shape(a, b)),
        (Value::String(a), Value::String(b)) => a == b || (a.contains("look") && b.contains("look")),
        (a, b) => a == b,
    }
}

#[test]
fn escapes_hide_nothing() {
    let guard = guard(Dialect::Chat, &[("secret.*", "redact")]);
    let token = token();
    let hidden: String = token.chars().map(|letter| format!("\\u{:04x}", letter as u32)).collect();
    let once = format!(r#"{{"messages":[{{"role":"user","content":"a {hidden} b"}}]}}"#);
    let twice = format!(
        r#"{{"messages":[{{"role":"assistant","tool_calls":[{{"function":{{"arguments":"{{\"a\":\"{}\"}}"}}}}]}}]}}"#,
        hidden.replace('\\', "\\\\")
    );
    for sent in [once, twice] {
        let Verdict::Redact { bytes, vault, .. } = guard.request(&Bytes::from(sent.clone())).unwrap() else {
            panic!("{sent}")
        };
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains(vault.references().next().unwrap()) && !text.contains("\\u0067"), "{text}");
        serde_json::from_str::<Value>(&text).unwrap();
    }
}

#[test]
fn numbers_are_cards_only_in_what_tools_give_and_take() {
    let guard = guard(Dialect::Messages, &[("personal.card", "redact")]);
    let argument = r#"{"messages":[{"content":[{"type":"tool_use","input":{"card":4111111111111111}}]}]}"#;
    let Verdict::Redact { bytes, .. } = guard.request(&Bytes::from(argument)).unwrap() else { panic!() };
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.contains(r#"{"card":"[stockade:redacted:personal.card:"#), "{text}");
    let inside = r#"{"messages":[{"tool_calls":[{"function":{"arguments":"{\"card\": 4111111111111111}"}}]}]}"#;
    let Verdict::Redact { bytes, .. } = guard.request(&Bytes::from(inside)).unwrap() else { panic!() };
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let arguments = value["messages"][0]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert!(arguments["card"].as_str().unwrap().starts_with("[stockade:redacted"), "{arguments}");
    let setting = r#"{"max_tokens":4111111111111111,"messages":[]}"#;
    assert!(matches!(guard.request(&Bytes::from(setting)).unwrap(), Verdict::Clean));
}

#[test]
fn documents_are_opened_and_pictures_are_not() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let guard = guard(Dialect::Messages, &[("secret.*", "redact")]);
    let document = |bytes: &[u8]| {
        body(&json!({"messages": [{"role": "user", "content": [{"type": "document",
            "source": {"type": "base64", "media_type": "text/plain", "data": STANDARD.encode(bytes)}}]}]}))
    };
    let text = format!("A long enough document, so that it goes as base64.\n{}\nThe end of the document.", token());
    let Verdict::Redact { bytes, vault, .. } = guard.request(&document(text.as_bytes())).unwrap() else { panic!() };
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let data = value["messages"][0]["content"][0]["source"]["data"].as_str().unwrap();
    let opened = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
    assert_eq!(opened, text.replace(&token(), vault.references().next().unwrap()));
    let mut picture = vec![0x89, b'P', b'N', b'G', 0, 1, 2];
    picture.extend_from_slice(text.as_bytes());
    assert!(matches!(guard.request(&document(&picture)).unwrap(), Verdict::Clean));
    let signature = json!({"messages": [{"content": [{"type": "thinking", "thinking": "", "signature": token()}]}]});
    assert!(matches!(guard.request(&body(&signature)).unwrap(), Verdict::Clean));
}

#[test]
fn the_strongest_wins_and_everything_is_reported() {
    let sent = body(&json!({"messages": [{"role": "user", "content": format!("{} a.b@acme.io ACME-1234", token())}]}));
    let of = |rules: &[(&str, &str)]| guard(Dialect::Messages, rules).request(&sent).unwrap();
    let all = |verdict: &Verdict| classes(verdict.findings()).into_iter().collect::<Vec<_>>().join(" ");
    let noted = of(&[("personal.*", "report"), ("pattern.ticket", "report")]);
    assert!(matches!(noted, Verdict::Report(_)) && all(&noted) == "pattern.ticket personal.email");
    let asked = of(&[("personal.*", "report"), ("secret.*", "redact"), ("pattern.ticket", "ask")]);
    assert_eq!(all(&asked), "pattern.ticket personal.email secret.github_token");
    let Verdict::Ask { title, bytes, vault, .. } = asked else { panic!() };
    assert_eq!((title.as_str(), vault.is_empty()), ("No pattern.ticket", false));
    assert!(!String::from_utf8_lossy(&bytes).contains(&token()));
    assert!(matches!(of(&[("secret.*", "block"), ("pattern.ticket", "ask")]), Verdict::Block { .. }));
    assert!(matches!(of(&[("personal.iban", "block")]), Verdict::Clean));
}

#[test]
fn there_may_be_so_many_findings_and_no_more() {
    let sent =
        |n: usize| Bytes::from(json!({"messages": [{"role": "user", "content": "ACME-1234 ".repeat(n)}]}).to_string());
    let redacting = guard(Dialect::Messages, &[("pattern.ticket", "redact")]);
    let Verdict::Redact { findings, vault, bytes } = redacting.request(&sent(MAX_FINDINGS + 5)).unwrap() else {
        panic!()
    };
    assert_eq!((findings.len(), vault.references().count()), (MAX_FINDINGS, 1));
    assert!(!String::from_utf8_lossy(&bytes).contains("ACME"));
    assert!(redacting.request(&sent(MAX_ACTIONS + 1)).is_err());
    let reporting = guard(Dialect::Messages, &[("pattern.ticket", "report")]);
    assert_eq!(reporting.request(&sent(MAX_ACTIONS + 1)).unwrap().findings().len(), MAX_FINDINGS);
}

proptest! {
    #[test]
    fn redacted_bodies_are_json_without_the_secret(
        before in "\\PC{0,20}", after in "\\PC{0,20}", which in 0_usize..21, escaped in any::<bool>(),
    ) {
        let token = token();
        let (dialect, _, value) = requests(&format!("{before} {token} {after}")).remove(which);
        let mut sent = value.to_string();
        if escaped {
            sent = sent.replace("ghp_", "\\u0067hp\\u005f");
        }
        let guard = guard(dialect, &[("secret.github_token", "redact")]);
        let Verdict::Redact { bytes, vault, .. } = guard.request(&Bytes::from(sent)).unwrap() else {
            return Err(TestCaseError::fail("not redacted"));
        };
        let reference = vault.references().next().unwrap();
        let expected = requests(&format!("{before} {reference} {after}")).remove(which).2;
        prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let guard = guard(Dialect::Chat, &[("secret.*", "redact"), ("personal.*", "redact")]);
        let _ = guard.request(&Bytes::from(bytes));
    }
}
