//! The agent loop: whatever a model answers, one answer a line, the machine goes on, ends, or says what it wants; a
//! second machine that is told the same wants the same.
#![no_main]

use serde_json::{Value, json};
use stockade_agent::{Agent, Config, Facts, HarnessEnd, Input, Line, Want, tool_calls};
use stockade_domain::{Harness, Id, Nanos, Timestamp, ToolOutcome, Usage};

fn answer(want: &Want, said: &[u8], count: &mut u8) -> Option<Input> {
    Some(match want {
        Want::Model { attempt, .. } => {
            let message = serde_json::from_slice(said).unwrap_or_else(
                |_| json!({"role": "assistant", "content": [{"type": "text", "text": String::from_utf8_lossy(said)}]}),
            );
            let stop_reason = message.get("stop_reason").and_then(Value::as_str).unwrap_or("end_turn").to_owned();
            let fresh = |_| {
                *count = count.wrapping_add(1);
                Id::from_parts(1, [*count; 10])
            };
            let calls = (0..tool_calls(&message)).map(fresh).collect();
            let (usage, cost) = (Usage::default(), Nanos(1));
            Input::Model { attempt: *attempt, message, stop_reason, usage, cost, calls }
        }
        Want::Harness { attempt, prompt, .. } => {
            assert!(!prompt.is_empty());
            let outcome = match said.len() % 4 {
                0 => HarnessEnd::Failed,
                1 => HarnessEnd::Interrupted,
                _ => HarnessEnd::Done,
            };
            Input::HarnessEnded { attempt: *attempt, outcome, said: String::from_utf8_lossy(said).into_owned() }
        }
        Want::Tools { calls } => {
            let text = String::from_utf8_lossy(said).into_owned();
            Input::Tool { call: calls.first()?.call, outcome: ToolOutcome::Ok, text }
        }
        Want::Gates { attempt } => {
            Input::Gates { attempt: *attempt, passed: said.len() % 2 == 0, text: "it failed".to_owned() }
        }
        Want::Person { .. } => Input::Reply { text: String::from_utf8_lossy(said).into_owned() },
        Want::OpenChange { .. } if said.len() % 3 == 0 => Input::NoChange {},
        Want::OpenChange { .. } => Input::ChangeOpened {},
        Want::Finished { .. } | Want::Failed { .. } => return None,
    })
}

/// A conversation as the provider takes it: it begins with the person and no message is empty.
fn check(body: &Value) {
    let messages = body.get("messages").and_then(Value::as_array).expect("messages");
    assert_eq!(messages.first().and_then(|first| first.get("role")), Some(&json!("user")));
    for message in messages {
        assert!(message.get("content").and_then(Value::as_array).is_some_and(|blocks| !blocks.is_empty()), "{message}");
    }
    for pair in messages.windows(2) {
        assert_ne!(pair[0].get("role"), pair[1].get("role"));
        let of = |message: &Value, kind: &str, id: &str| -> Vec<Value> {
            let blocks = message.get("content").and_then(Value::as_array).into_iter().flatten();
            let blocks = blocks.filter(|block| block.get("type") == Some(&json!(kind)));
            let mut ids: Vec<_> = blocks.filter_map(|block| block.get(id).cloned()).collect();
            ids.sort_by_key(Value::to_string);
            ids
        };
        assert_eq!(of(&pair[0], "tool_use", "id"), of(&pair[1], "tool_result", "tool_use_id"));
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let harness = if bytes.first() == Some(&b'~') { Harness::Codex } else { Harness::Stockade };
    let config = || Config { harness, max_turns: 30, context_window: 4_000, compact_at: 2_000, ..Config::new("m") };
    let (mut agent, mut second) = (Agent::new(config()), Agent::new(config()));
    let began = Input::Began { task: "Do it.".to_owned(), instructions: None, facts: Facts::default() };
    let (mut next, mut count) = (Some(began), 0);
    for (time, said) in (0..).zip(bytes.split(|byte| *byte == b'\n').take(64)) {
        let Some(input) = next else { break };
        let line = Line { at: Timestamp(time), input };
        agent.apply(&line).unwrap_or_else(|error| panic!("{error}"));
        second.apply(&line).expect("the same");
        let wants = agent.wants();
        assert_eq!(second.wants(), wants);
        let want = wants.first().expect("one want");
        if let Want::Model { body, .. } = want {
            check(body);
        }
        next = answer(want, said, &mut count);
    }
});
