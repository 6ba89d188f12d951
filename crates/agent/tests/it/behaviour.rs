//! What the agent does, case by case.

use serde_json::json;
use stockade_agent::{ApplyError, Input, ModelFailure, Notice, Tool, Want};
use stockade_domain::{FailureCause, ToolOutcome};

use crate::sim::{Sim, config};

#[test]
fn read_only_calls_go_side_by_side_and_others_one_by_one_in_order() {
    let mut sim = Sim::begun(config());
    sim.call(&[
        ("finish", json!({"summary": "done"})),
        ("read", json!({"path": "a"})),
        ("list", json!({})),
        ("edit", json!({"path": "a", "old": "x", "new": "y"})),
        ("run", json!({"command": "make"})),
        ("search", json!({"pattern": "x"})),
    ]);
    let mut seen = vec![];
    while let Want::Tools { calls } = sim.want() {
        seen.push(calls.iter().map(|c| c.tool.name()).collect::<Vec<_>>());
        // Answers come in any order.
        for wanted in calls.iter().rev() {
            let text = if wanted.tool.name() == "finish" { "" } else { "ok" };
            sim.give(Input::Tool { call: wanted.call, outcome: ToolOutcome::Ok, text: text.into() });
        }
    }
    assert_eq!(seen, [vec!["read", "list"], vec!["edit"], vec!["run"], vec!["search"], vec!["finish"]]);
    assert_eq!(sim.want(), Want::Gates { attempt: 1 });
}

#[test]
fn a_runner_that_died_gets_the_rest_of_the_batch() {
    let mut sim = Sim::begun(config());
    sim.call(&[("read", json!({"path": "a"})), ("read", json!({"path": "b"}))]);
    let both = sim.tools();
    sim.give(Input::Tool { call: both[1].call, outcome: ToolOutcome::Ok, text: "b".into() });
    assert_eq!(sim.tools(), both[..1]);
    let again = Input::Tool { call: both[1].call, outcome: ToolOutcome::Ok, text: "b".into() };
    assert!(matches!(sim.agent.accepts(&again), Err(ApplyError::Unexpected { .. })));
}

#[test]
fn a_bad_call_is_answered_without_the_runner() {
    let mut sim = Sim::begun(config());
    let notices = sim.call(&[("shell", json!({"command": "ls"})), ("read", json!({"path": "../x"}))]);
    assert!(matches!(notices[..], [Notice::BadCall { .. }, Notice::BadCall { .. }, Notice::Turn { turn: 2 }]));
    assert_eq!(
        sim.last_result(),
        ("`read`: `path` contains `..`; give one relative to the workspace".to_owned(), true)
    );
}

#[test]
fn denied_and_interrupted_calls_read_as_what_they_are() {
    let mut sim = Sim::begun(config());
    sim.call(&[("run", json!({"command": "curl x"}))]);
    sim.carry_out(ToolOutcome::Denied, "No downloads");
    let (text, is_error) = sim.last_result();
    assert!(text.starts_with("[denied] No downloads\n") && is_error, "{text}");
    sim.call(&[("run", json!({"command": "make"}))]);
    sim.carry_out(ToolOutcome::Interrupted, "");
    let (text, is_error) = sim.last_result();
    assert!(text.starts_with("[interrupted] ") && is_error, "{text}");
}

#[test]
fn gates_that_fail_go_back_and_then_the_change_is_opened() {
    let mut sim = Sim::begun(config());
    sim.call(&[("write", json!({"path": "a", "text": "x"}))]);
    sim.carry_out(ToolOutcome::Ok, "written");
    sim.call(&[("finish", json!({"summary": "First try"}))]);
    sim.carry_out(ToolOutcome::Ok, "");
    sim.give(Input::Gates { attempt: 1, passed: false, text: "make test: exit status 2".into() });
    let (text, is_error) = sim.last_result();
    assert!(text.starts_with("[gates] ") && text.contains("attempt 1 of 3") && text.ends_with("exit status 2"));
    assert!(is_error);
    sim.call(&[("finish", json!({"title": "Mend the count", "summary": "Second try"}))]);
    sim.carry_out(ToolOutcome::Ok, "");
    sim.give(Input::Gates { attempt: 2, passed: true, text: String::new() });
    assert_eq!(sim.want(), Want::OpenChange { title: "Mend the count".into(), body: "Second try".into() });
    sim.give(Input::ChangeOpened {});
    assert_eq!(sim.want(), Want::Finished { title: "Mend the count".into(), summary: "Second try".into() });
}

#[test]
fn gates_that_never_pass_end_the_run() {
    let mut sim = Sim::begun(config());
    for attempt in 1..=3 {
        sim.call(&[("finish", json!({"summary": format!("try {attempt}")}))]);
        sim.carry_out(ToolOutcome::Ok, "");
        sim.give(Input::Gates { attempt, passed: false, text: "no".into() });
    }
    assert_eq!(sim.failed().0, FailureCause::Gates);
    sim.give(Input::Retry {});
    assert!(sim.last_result().0.contains("attempt 3 of 3"));
    sim.call(&[("finish", json!({"summary": "again"}))]);
    sim.carry_out(ToolOutcome::Ok, "");
    assert_eq!(sim.want(), Want::Gates { attempt: 1 });
}

#[test]
fn nothing_is_finished_beside_a_call_that_failed() {
    let mut sim = Sim::begun(config());
    sim.call(&[
        ("edit", json!({"path": "a", "old": "x", "new": "y"})),
        ("finish", json!({"summary": "done"})),
        ("finish", json!({"summary": "done"})),
    ]);
    sim.carry_out(ToolOutcome::Error, "no match");
    assert!(sim.last_result().0.contains("called before in the same message"));
    assert!(matches!(sim.want(), Want::Model { .. }));
    assert!(sim.agent.conversation().to_string().contains("not finished: another call"));
}

#[test]
fn a_question_waits_for_a_person_and_time_stands_still() {
    let mut sim = Sim::begun(config());
    sim.call(&[("ask", json!({"question": "Which?"})), ("read", json!({"path": "a"}))]);
    let asked = sim.tools();
    assert_eq!(asked[0].tool, Tool::Ask { question: "Which?".into() });
    assert_eq!(asked.len(), 1);
    sim.give(Input::Tool { call: asked[0].call, outcome: ToolOutcome::Ok, text: String::new() });
    assert_eq!(sim.want(), Want::Person { question: "Which?".into() });
    assert_eq!(sim.agent.deadline(), None);
    let waited = config().max_time_ms * 2;
    sim.now = sim.now.plus_ms(waited);
    sim.give(Input::Reply { text: "The second.".into() });
    assert_eq!(sim.tools()[0].tool.name(), "read");
    sim.carry_out(ToolOutcome::Ok, "text");
    let body = sim.body().to_string();
    assert!(body.contains("The person answers:\\n\\nThe second."), "{body}");
}

#[test]
fn what_a_person_says_unasked_comes_with_the_next_message() {
    let mut sim = Sim::begun(config());
    let before = sim.body();
    sim.give(Input::Reply { text: "Hurry.".into() });
    assert_eq!(sim.body(), before, "the request that is under way stays the same");
    sim.call(&[("read", json!({"path": "a"}))]);
    sim.carry_out(ToolOutcome::Ok, "x");
    assert_eq!(sim.last_text(), "A person says:\n\nHurry.");
}

#[test]
fn stopping_without_finish_is_finishing_once_something_changed() {
    let mut sim = Sim::begun(config());
    sim.call(&[("edit", json!({"path": "a", "old": "x", "new": "y"}))]);
    sim.carry_out(ToolOutcome::Ok, "ok");
    sim.answer(json!([{"type": "text", "text": "Mended the count.\nAll is well."}]), "end_turn");
    assert_eq!(sim.want(), Want::Gates { attempt: 1 });
    sim.give(Input::Gates { attempt: 1, passed: false, text: "no".into() });
    assert!(sim.last_text().starts_with("[gates] "));
    sim.answer(json!([{"type": "text", "text": "Now."}]), "end_turn");
    sim.give(Input::Gates { attempt: 2, passed: true, text: String::new() });
    assert_eq!(sim.want(), Want::OpenChange { title: "Now.".into(), body: "Now.".into() });
}

#[test]
fn stopping_without_having_done_anything_is_nudged_once() {
    for content in [json!([{"type": "text", "text": "Hm."}]), json!([]), json!("text"), json!(null)] {
        let mut sim = Sim::begun(config());
        let notices = sim.answer(content.clone(), "end_turn");
        assert_eq!(notices, [Notice::Idle, Notice::Turn { turn: 2 }]);
        assert!(sim.last_text().starts_with("You stopped without"));
        sim.answer(content, "end_turn");
        assert_eq!(sim.failed().0, FailureCause::NoChange);
    }
}

#[test]
fn an_answer_that_was_cut_off_goes_on() {
    let mut sim = Sim::begun(config());
    sim.answer(json!([{"type": "text", "text": "I beg"}]), "max_tokens");
    assert!(sim.last_text().contains("cut off"));
    let notices = sim.answer(
        json!([
            {"type": "tool_use", "id": "a", "name": "read", "input": {"path": "a"}},
            {"type": "tool_use", "id": "b", "name": "write", "input": {"path": "a"}},
        ]),
        "max_tokens",
    );
    assert!(notices.contains(&Notice::CutOff));
    // What came before the cut is whole and is carried out.
    sim.carry_out(ToolOutcome::Ok, "text");
    assert!(sim.last_result().0.contains("cut off"));
    sim.answer(json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]), "pause_turn");
    assert_eq!(sim.last_text(), "Go on.");
}

#[test]
fn a_refusal_ends_the_run_and_a_retry_asks_again() {
    let mut sim = Sim::begun(config());
    sim.answer(json!([{"type": "text", "text": "I cannot help with that."}]), "refusal");
    let (cause, text) = sim.failed();
    assert_eq!(cause, FailureCause::GaveUp);
    assert!(text.contains("cannot help"), "{text}");
    sim.give(Input::Retry {});
    assert!(!sim.body().to_string().contains("cannot help"), "what was refused is not sent again");
}

#[test]
fn a_model_that_fails_is_asked_again_later_and_later() {
    let mut sim = Sim::begun(config());
    let mut waits = vec![];
    for failures in 1..=8 {
        let notices = sim.fail_model(ModelFailure::Overloaded, None);
        assert_eq!(notices, [Notice::ModelRetry { failures }]);
        let Want::Model { not_before: Some(at), attempt, turn, .. } = sim.want() else { panic!() };
        assert_eq!((attempt, turn), (failures + 1, 1));
        waits.push(at.ms_since(sim.now));
    }
    let least = [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
    assert!(waits.iter().zip(least).all(|(wait, least)| (least..least + least / 4).contains(wait)), "{waits:?}");
    sim.fail_model(ModelFailure::Network, None);
    let (cause, text) = sim.failed();
    assert_eq!(cause, FailureCause::Model);
    assert_eq!(text, "the model failed 9 times in a row, at last with: the provider says no");
    sim.give(Input::Retry {});
    assert_eq!(sim.attempt(), 10);
}

#[test]
fn the_provider_says_how_long_to_wait() {
    let mut sim = Sim::begun(config());
    for (said, waited) in [(30_000, 30_000), (86_400_000, 600_000)] {
        sim.fail_model(ModelFailure::RateLimited, Some(said));
        let Want::Model { not_before: Some(at), .. } = sim.want() else { panic!() };
        assert_eq!(at.ms_since(sim.now), waited);
    }
}

#[test]
fn a_final_failure_is_not_tried_again() {
    for (failure, cause) in [
        (ModelFailure::Budget, FailureCause::Budget),
        (ModelFailure::Policy, FailureCause::Policy),
        (ModelFailure::Rehearsal, FailureCause::Rehearsal),
        (ModelFailure::Rejected, FailureCause::Model),
    ] {
        let mut sim = Sim::begun(config());
        sim.fail_model(failure, None);
        assert_eq!(sim.failed(), (cause, "the provider says no".to_owned()));
    }
}

#[test]
fn going_round_in_circles_is_told_and_then_ended() {
    let mut sim = Sim::begun(config());
    for round in 1..=6 {
        assert!(matches!(sim.want(), Want::Model { .. }), "round {round}");
        sim.call(&[("run", json!({"command": "make"}))]);
        sim.carry_out(ToolOutcome::Ok, "exit status 2");
        assert_eq!(sim.last_text().contains("several times"), round == 3 || round == 6, "round {round}");
    }
    let (cause, text) = sim.failed();
    assert_eq!(cause, FailureCause::GaveUp);
    assert!(text.starts_with("stuck:"), "{text}");
    assert_eq!(sim.notices.iter().filter(|n| **n == Notice::Repeating).count(), 1);
}

#[test]
fn an_agent_that_gives_up_says_why() {
    let mut sim = Sim::begun(config());
    sim.call(&[("finish", json!({"summary": "There is no such test.", "done": false}))]);
    sim.carry_out(ToolOutcome::Ok, "");
    assert_eq!(sim.failed(), (FailureCause::GaveUp, "There is no such test.".to_owned()));
    sim.give(Input::Retry {});
    assert!(sim.last_result().0.contains("tried again"));
}

#[test]
fn a_change_that_is_refused_or_empty_ends_the_run() {
    for (input, cause) in [
        (Input::ChangeDenied { title: "Not on Fridays".into() }, FailureCause::Policy),
        (Input::NoChange {}, FailureCause::NoChange),
        (Input::Stop { cause: FailureCause::Repository, text: "gone".into() }, FailureCause::Repository),
    ] {
        let mut sim = Sim::begun(config());
        sim.call(&[("finish", json!({"summary": "s"}))]);
        sim.carry_out(ToolOutcome::Ok, "");
        sim.give(Input::Gates { attempt: 1, passed: true, text: String::new() });
        sim.give(input);
        assert_eq!(sim.failed().0, cause);
    }
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let mut sim = Sim::begun(config());
    let before = sim.agent.clone();
    for input in [
        Input::Gates { attempt: 1, passed: true, text: String::new() },
        Input::ChangeOpened {},
        Input::Retry {},
        Input::Began { task: "x".into(), instructions: None, facts: Default::default() },
        Input::Model {
            attempt: 1,
            message: json!({"content": [{"type": "tool_use"}]}),
            stop_reason: "tool_use".into(),
            usage: Default::default(),
            cost: Default::default(),
            calls: vec![],
        },
    ] {
        let line = stockade_agent::Line { at: sim.now.plus_ms(5), input };
        assert!(sim.agent.apply(&line).is_err());
        assert_eq!(sim.agent, before);
    }
}

#[test]
fn an_identifier_of_a_call_is_used_once() {
    let mut sim = Sim::begun(config());
    sim.call(&[("read", json!({"path": "a"}))]);
    let used = sim.tools()[0].call;
    sim.carry_out(ToolOutcome::Ok, "x");
    let message = json!({"content": [{"type": "tool_use", "id": "t", "name": "list", "input": {}}]});
    let input = Input::Model {
        attempt: sim.attempt(),
        message,
        stop_reason: "tool_use".into(),
        usage: Default::default(),
        cost: Default::default(),
        calls: vec![used],
    };
    assert_eq!(sim.agent.accepts(&input), Err(ApplyError::Calls { wanted: 1, given: 0 }));
}

#[test]
fn a_result_that_comes_after_the_end_does_not_wake_the_run() {
    let mut sim = Sim::begun(config());
    sim.call(&[("run", json!({"command": "make"}))]);
    let call = sim.tools()[0].call;
    sim.give(Input::Stop { cause: FailureCause::Environment, text: "it broke".into() });
    sim.give(Input::Tool { call, outcome: ToolOutcome::Ok, text: "exit status 0".into() });
    sim.give(Input::Stop { cause: FailureCause::Internal, text: "later".into() });
    assert_eq!(sim.failed(), (FailureCause::Environment, "it broke".to_owned()), "the first cause stands");
    sim.give(Input::Retry {});
    assert_eq!(sim.last_result().0, "exit status 0");
    assert!(matches!(sim.want(), Want::Model { turn: 2, .. }));
}

#[test]
fn thinking_is_asked_for_only_as_the_provider_takes_it() {
    for (tokens, asked) in [(None, None), (Some(1023), None), (Some(1024), Some(1024)), (Some(16_000), None)] {
        let sim = Sim::begun(stockade_agent::Config { thinking_tokens: tokens, ..config() });
        assert_eq!(sim.body()["thinking"]["budget_tokens"].as_u64(), asked);
    }
}
