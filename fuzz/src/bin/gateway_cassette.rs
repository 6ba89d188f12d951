//! Cassettes: what reads can be written and reads again as the same; and any of them is played, to a conversation that begins
//! with what follows a zero byte and goes on as an agent would.
#![no_main]

use serde_json::{Value, json};
use stockade_gateway::{fuzzing::played, rehearsal::Cassette};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (text, said) = text.split_once('\0').unwrap_or((text, "go"));
    let Ok(cassette) = Cassette::parse("fuzz", text) else { return };
    let written = cassette.to_toml();
    let again = Cassette::parse("again", &written).unwrap_or_else(|error| panic!("{error} in\n{written}"));
    assert_eq!((again.name(), again.turns()), (cassette.name(), cassette.turns()));
    assert_eq!(again.to_toml(), written);

    // A whole request of somebody else: it is answered or departs, and either is the same twice.
    assert_eq!(played(&cassette, said.as_bytes()), played(&again, said.as_bytes()));

    let mut messages = vec![json!({"role": "user", "content": said})];
    for turn in 0..cassette.turns().min(8) {
        let mut names: Vec<Value> = Vec::new();
        let request = |names: &[Value]| {
            let tools: Vec<Value> = names.iter().map(|name| json!({"name": name, "input_schema": {}})).collect();
            json!({"model": "m", "max_tokens": 4096, "messages": messages, "tools": tools}).to_string()
        };
        // It says which tool is missing; an agent that has it offers it.
        let answer = loop {
            match played(&cassette, request(&names).as_bytes()) {
                Err(why) if names.len() < 4 => {
                    let missing =
                        why.split_once("to offer the tool `").and_then(|(_, rest)| rest.rsplit_once("` but saw"));
                    let Some((name, _)) = missing else { return };
                    names.push(json!(name));
                }
                other => break other,
            }
        };
        let Ok((content, stop)) = answer else { return };
        assert!(!content.is_empty() && !stop.is_empty(), "turn {turn}");
        let result = |block: &Value| {
            (block["type"] == "tool_use")
                .then(|| json!({"type": "tool_result", "tool_use_id": block["id"], "content": said}))
        };
        let results: Vec<Value> = content.iter().filter_map(result).collect();
        messages.push(json!({"role": "assistant", "content": content}));
        messages.push(if results.is_empty() {
            json!({"role": "user", "content": said})
        } else {
            json!({"role": "user", "content": results})
        });
    }
    // Nothing comes after the last turn, unless one is played again.
    if cassette.turns() <= 8 && !said.starts_with("[interrupted]") {
        let body = json!({"model": "m", "max_tokens": 4096, "messages": messages}).to_string();
        assert!(played(&cassette, body.as_bytes()).is_err());
    }
});
