//! A small conversation, whole.

use serde_json::json;
use stockade_agent::Input;
use stockade_domain::ToolOutcome;

use crate::sim::{Sim, config};

#[test]
fn a_small_conversation() {
    let mut sim = Sim::begun(config());
    sim.answer(
        json!([
            {"type": "thinking", "thinking": "Look first.", "signature": "c2lnbmF0dXJl"},
            {"type": "text", "text": "I look around."},
            {"type": "tool_use", "id": "toolu_1", "name": "list", "input": {}},
            {"type": "tool_use", "id": "toolu_2", "name": "read", "input": {"path": "count.sh", "lines": 10}},
        ]),
        "tool_use",
    );
    sim.carry_out(ToolOutcome::Ok, "AGENTS.md\ncount.sh");
    sim.call(&[("edit", json!({"path": "count.sh", "old": "-l", "new": "-w"}))]);
    sim.carry_out(ToolOutcome::Ok, "replaced");
    sim.call(&[("finish", json!({"title": "Count words", "summary": "It counted lines."}))]);
    sim.carry_out(ToolOutcome::Ok, "");
    sim.give(Input::Gates { attempt: 1, passed: false, text: "make test\nexit status 2".into() });
    let mut body = sim.body();
    // The prompt and the tools have their own test, by digest.
    body["system"][0]["text"] = json!("…");
    body["tools"] = json!("…");
    let mut settings = insta::Settings::clone_current();
    settings.set_sort_maps(true);
    settings.bind(|| insta::assert_json_snapshot!(body));
}
