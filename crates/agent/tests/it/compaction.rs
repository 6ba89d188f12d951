//! The context is shortened when it must be, and stays a conversation.

use serde_json::{Value, json};
use stockade_agent::{Config, Input, ModelFailure, Notice};
use stockade_domain::{FailureCause, ToolOutcome, Usage};

use crate::{
    properties::assert_valid,
    sim::{Sim, config},
};

/// A turn that thinks, reads and gets a long result.
fn long_turn(sim: &mut Sim, usage: Usage) {
    let n = sim.agent.turn();
    sim.answer_used(
        json!([
            {"type": "thinking", "thinking": format!("thought {n}"), "signature": format!("signature {n}")},
            {"type": "tool_use", "id": format!("toolu_{n}"), "name": "read", "input": {"path": format!("file{n}")}},
        ]),
        "tool_use",
        usage,
    );
    sim.carry_out(ToolOutcome::Ok, &format!("result {n} {}", "x".repeat(6000)));
}

fn results(body: &Value) -> Vec<String> {
    let blocks = body["messages"].as_array().unwrap().iter().flat_map(|m| m["content"].as_array().unwrap());
    blocks.filter(|b| b["type"] == "tool_result").map(|b| b["content"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn old_results_go_first_and_recent_ones_stay() {
    for config in [
        Config { compact_at: 20_000, ..config() },
        Config { context_window: 36_000, max_output_tokens: 16_000, ..config() },
    ] {
        old_results_go_first(config);
    }
}

fn old_results_go_first(config: Config) {
    let mut sim = Sim::begun(config);
    let before = loop {
        let turn = sim.agent.turn();
        long_turn(&mut sim, Usage::default());
        if let Some(Notice::Compacted { before_tokens, after_tokens }) =
            sim.notices.iter().find(|n| matches!(n, Notice::Compacted { .. }))
        {
            assert!(*before_tokens > 20_000 && *after_tokens <= 12_000, "{before_tokens} {after_tokens}");
            break turn;
        }
    };
    let body = sim.body();
    assert_valid(&body);
    let results = results(&body);
    assert_eq!(u32::try_from(results.len()), Ok(before));
    assert!(results[0].starts_with("[elided] 6009 bytes"), "{}", results[0]);
    assert!(results.last().unwrap().starts_with(&format!("result {before} ")));
    // All of this is one turn of the person: its thinking is whole.
    let text = body.to_string();
    assert!((1..=before).all(|n| text.contains(&format!("thought {n}")) && text.contains(&format!("signature {n}"))));
    assert!(text.contains("Make the failing test pass."));
}

#[test]
fn the_provider_measures() {
    // By its own count the provider has seen three times fewer tokens than we would guess.
    let mut sim = Sim::begun(Config { compact_at: 20_000, ..config() });
    for _ in 0..9 {
        let tokens = sim.body().to_string().len() as u64 / 8;
        long_turn(&mut sim, Usage { input_tokens: tokens, ..Usage::default() });
    }
    assert!(!sim.notices.iter().any(|n| matches!(n, Notice::Compacted { .. })));
}

#[test]
fn a_context_that_the_provider_refuses_is_shortened_at_once() {
    for by_stop_reason in [true, false] {
        let mut sim = Sim::begun(config());
        for _ in 0..6 {
            long_turn(&mut sim, Usage::default());
        }
        let turn = sim.agent.turn();
        let notices = if by_stop_reason {
            sim.answer(json!([{"type": "text", "text": "half an ans"}]), "model_context_window_exceeded")
        } else {
            sim.fail_model(ModelFailure::TooLong, None)
        };
        assert!(matches!(notices[..], [Notice::Compacted { .. }]), "{notices:?}");
        let body = sim.body();
        assert_valid(&body);
        assert!(!body.to_string().contains("half an ans"));
        assert!(results(&body).iter().all(|text| text.len() < 1200));
        assert_eq!(sim.agent.turn(), turn, "it is the same turn");
        // There is nothing left to shorten: it ends.
        sim.fail_model(ModelFailure::TooLong, None);
        assert_eq!(sim.failed().0, FailureCause::Tokens);
    }
}

#[test]
fn thinking_of_an_earlier_turn_may_go_that_of_the_present_one_never() {
    let mut sim = Sim::begun(config());
    long_turn(&mut sim, Usage::default());
    sim.answer(json!([{"type": "text", "text": "Hm."}]), "end_turn");
    long_turn(&mut sim, Usage::default());
    sim.fail_model(ModelFailure::TooLong, None);
    let body = sim.body();
    assert_valid(&body);
    let text = body.to_string();
    assert!(!text.contains("thought 1") && !text.contains("signature 1"));
    assert!(text.contains("thought 3") && text.contains("signature 3"));
    sim.give(Input::Stop { cause: FailureCause::Internal, text: "enough".into() });
}
