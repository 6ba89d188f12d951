//! Every limit ends the run with its cause, at the bound.

use serde_json::json;
use stockade_agent::{Config, Input, Want};
use stockade_domain::{FailureCause, Nanos, ToolOutcome};

use crate::sim::{Sim, config};

/// One turn with one call that is new each time.
fn turn(sim: &mut Sim) {
    let n = sim.agent.turn();
    sim.call(&[("read", json!({"path": format!("file{n}")}))]);
    sim.carry_out(ToolOutcome::Ok, "text");
}

fn turns_until_failure(config: Config) -> (u32, FailureCause, Sim) {
    let mut sim = Sim::begun(config);
    while matches!(sim.want(), Want::Model { .. }) {
        turn(&mut sim);
    }
    (sim.agent.turn(), sim.failed().0, sim)
}

#[test]
fn turns() {
    let (turns, cause, mut sim) = turns_until_failure(Config { max_turns: 4, ..config() });
    assert_eq!((turns, cause), (4, FailureCause::Turns));
    sim.give(Input::Retry {});
    turn(&mut sim);
    assert!(matches!(sim.want(), Want::Model { turn: 6, .. }), "turns are counted anew");
}

#[test]
fn tokens() {
    // 1,050 tokens a turn.
    let (turns, cause, _) = turns_until_failure(Config { max_tokens: 3150, ..config() });
    assert_eq!((turns, cause), (3, FailureCause::Tokens));
    assert_eq!(turns_until_failure(Config { max_tokens: 3151, ..config() }).0, 4);
}

#[test]
fn money() {
    // A tenth of a cent a turn.
    let (turns, cause, mut sim) = turns_until_failure(Config { max_cost: Nanos(3_000_000), ..config() });
    assert_eq!((turns, cause), (3, FailureCause::Budget));
    assert_eq!(sim.agent.spent().1, Nanos(3_000_000));
    // Money is not counted anew.
    sim.give(Input::Retry {});
    assert_eq!(sim.failed().0, FailureCause::Budget);
}

#[test]
fn time() {
    // Two seconds a turn, and one before the first, which is not counted: nothing had begun.
    let (turns, cause, mut sim) = turns_until_failure(Config { max_time_ms: 6000, ..config() });
    assert_eq!((turns, cause), (3, FailureCause::Time));
    sim.give(Input::Retry {});
    assert!(matches!(sim.want(), Want::Model { .. }));
}

#[test]
fn time_comes_by_itself_and_stands_still_while_it_waits() {
    let mut sim = Sim::begun(Config { max_time_ms: 10_000, ..config() });
    sim.call(&[("run", json!({"command": "sleep 100"}))]);
    let deadline = sim.agent.deadline().unwrap();
    assert_eq!(deadline.ms_since(sim.now), 9000);
    sim.give(Input::Paused {});
    assert_eq!(sim.agent.deadline(), None);
    sim.now = sim.now.plus_ms(1_000_000);
    sim.give(Input::Resumed {});
    // The process dies; an hour later another goes on.
    sim.now = sim.now.plus_ms(3_600_000);
    sim.give(Input::Resumed {});
    let deadline = sim.agent.deadline().unwrap();
    assert_eq!(deadline.ms_since(sim.now), 8000);
    sim.now = sim.now.plus_ms(6998);
    sim.give(Input::Tick {});
    assert!(matches!(sim.want(), Want::Tools { .. }), "a tick before the time changes nothing");
    let late = sim.tools()[0].call;
    sim.give(Input::Tick {});
    assert_eq!(sim.failed().0, FailureCause::Time);
    // What was under way and ends later is not lost.
    sim.give(Input::Tool { call: late, outcome: ToolOutcome::Ok, text: "exit status 0".into() });
    sim.give(Input::Retry {});
    assert_eq!(sim.last_result().0, "exit status 0");
}

#[test]
fn answers_that_are_cut_off_for_ever() {
    let mut sim = Sim::begun(config());
    for _ in 0..=5 {
        sim.answer(json!([{"type": "text", "text": "and"}]), "max_tokens");
    }
    assert_eq!(sim.failed().0, FailureCause::Model);
}

#[test]
fn a_result_that_is_too_long_loses_its_middle() {
    let mut sim = Sim::begun(config());
    sim.call(&[("read", json!({"path": "a"}))]);
    sim.carry_out(ToolOutcome::Ok, &format!("begin{}end", "é".repeat(100_000)));
    let (text, _) = sim.last_result();
    assert!(text.len() < 48 * 1024 + 100 && text.starts_with("begin") && text.ends_with("end"));
    assert!(text.contains("bytes left out"));
}
