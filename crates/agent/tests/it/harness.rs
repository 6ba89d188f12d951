//! The machine where a program inside does the work.

use stockade_agent::{Config, HarnessEnd, Input, MAX_HARNESS_FAILURES, Notice, Want};
use stockade_domain::{FailureCause, Harness, Nanos, Timestamp, Usage};

use crate::sim::{Sim, config};

fn inside() -> Config {
    Config { harness: Harness::ClaudeCode, ..config() }
}

fn wanted(sim: &Sim) -> (u32, String, Option<Timestamp>) {
    match sim.want() {
        Want::Harness { attempt, prompt, not_before } => (attempt, prompt, not_before),
        other => panic!("wants {other:?}"),
    }
}

fn ends(sim: &mut Sim, outcome: HarnessEnd, said: &str) -> Vec<Notice> {
    let (attempt, ..) = wanted(sim);
    sim.give(Input::HarnessEnded { attempt, outcome, said: said.into() })
}

fn called(sim: &mut Sim, ok: bool) -> Vec<Notice> {
    let usage = Usage { input_tokens: 1000, output_tokens: 50, ..Usage::default() };
    sim.give(Input::Called { ok, usage, cost: Nanos(1_000_000) })
}

#[test]
fn the_program_takes_the_place_of_the_turns_and_gates_and_change_follow_as_always() {
    let mut sim = Sim::begun(inside());
    let (attempt, prompt, not_before) = wanted(&sim);
    assert_eq!((attempt, not_before), (1, None));
    assert!(prompt.starts_with("Make the failing test pass.\n"), "{prompt}");
    assert!(prompt.ends_with("these commands must succeed there:\n- make test"), "{prompt}");
    assert_eq!(called(&mut sim, true), [Notice::Turn { turn: 1 }]);
    assert_eq!(called(&mut sim, false), []);
    assert_eq!(wanted(&sim).0, 1, "it still runs");
    ends(&mut sim, HarnessEnd::Done, "Mended the count.\n\nIt was off by one.");
    assert_eq!(sim.want(), Want::Gates { attempt: 1 });
    sim.give(Input::Gates { attempt: 1, passed: true, text: String::new() });
    let Want::OpenChange { title, body } = sim.want() else { panic!("{:?}", sim.want()) };
    assert_eq!((title.as_str(), body.as_str()), ("Mended the count.", "Mended the count.\n\nIt was off by one."));
    sim.give(Input::ChangeOpened {});
    assert!(matches!(sim.want(), Want::Finished { .. }));
    assert_eq!(sim.agent.spent().1, Nanos(2_000_000));
}

#[test]
fn gates_that_fail_are_what_the_program_is_told_next() {
    let mut sim = Sim::begun(Config { gate_attempts: 2, ..inside() });
    ends(&mut sim, HarnessEnd::Done, "done");
    sim.give(Input::Gates { attempt: 1, passed: false, text: "make test: exit status 2".into() });
    let (attempt, prompt, _) = wanted(&sim);
    assert_eq!(attempt, 2);
    assert!(prompt.starts_with("Make the failing test pass.") && prompt.contains("go on from there"), "{prompt}");
    assert!(prompt.contains("(attempt 1 of 2). Mend the cause.\nmake test: exit status 2"), "{prompt}");
    sim.give(Input::Reply { text: "Look at line 7.".into() });
    ends(&mut sim, HarnessEnd::Done, "done");
    sim.give(Input::Gates { attempt: 2, passed: false, text: "again".into() });
    assert_eq!(sim.failed().0, FailureCause::Gates);
    // Tried again, it is told what failed, and what a person said meanwhile.
    sim.give(Input::Retry {});
    let (attempt, prompt, _) = wanted(&sim);
    assert!(attempt == 3 && prompt.ends_with("A person says:\n\nLook at line 7."), "{prompt}");
}

#[test]
fn a_program_that_fails_is_started_again_later_and_not_for_ever() {
    let mut sim = Sim::begun(inside());
    for failures in 1..MAX_HARNESS_FAILURES {
        let outcome = if failures == 1 { HarnessEnd::Failed } else { HarnessEnd::Interrupted };
        assert_eq!(ends(&mut sim, outcome, "API error"), [Notice::HarnessRetry { failures }]);
        let (attempt, prompt, not_before) = wanted(&sim);
        assert!(attempt == failures + 1 && not_before.is_some_and(|at| at > sim.now));
        assert!(prompt.contains(if failures == 1 { "ended early: API error" } else { "[interrupted]" }), "{prompt}");
    }
    ends(&mut sim, HarnessEnd::Failed, "API error");
    let (cause, text) = sim.failed();
    assert!(cause == FailureCause::GaveUp && text.contains("3 times in a row") && text.contains("API error"), "{text}");
}

#[test]
fn what_is_final_ends_the_run_with_its_cause() {
    for (outcome, cause) in [
        (HarnessEnd::TimedOut, FailureCause::Time),
        (HarnessEnd::Missing, FailureCause::Environment),
        (HarnessEnd::Denied, FailureCause::Policy),
        (HarnessEnd::Refused, FailureCause::Policy),
        (HarnessEnd::Budget, FailureCause::Budget),
    ] {
        let mut sim = Sim::begun(inside());
        ends(&mut sim, outcome, "words");
        assert_eq!(sim.failed().0, cause);
        sim.give(Input::Retry {});
        assert_eq!(wanted(&sim).0, 2, "a person may have it tried again, under another number");
    }
}

#[test]
fn limits_end_a_program_that_still_runs() {
    let mut sim = Sim::begun(Config { max_turns: 2, ..inside() });
    called(&mut sim, true);
    called(&mut sim, true);
    assert_eq!(wanted(&sim).0, 1, "the last answer is acted on");
    called(&mut sim, true);
    assert_eq!(sim.failed().0, FailureCause::Turns);
    // Its end, which the runner brings about, changes nothing.
    sim.give(Input::HarnessEnded { attempt: 1, outcome: HarnessEnd::Interrupted, said: String::new() });
    called(&mut sim, false);
    assert_eq!(sim.failed().0, FailureCause::Turns);

    let mut sim = Sim::begun(Config { max_cost: Nanos(2_000_000), ..inside() });
    called(&mut sim, true);
    called(&mut sim, true);
    assert_eq!(sim.failed().0, FailureCause::Budget);

    let mut sim = Sim::begun(Config { max_tokens: 1000, ..inside() });
    called(&mut sim, true);
    assert_eq!(sim.failed().0, FailureCause::Tokens);

    let mut sim = Sim::begun(Config { max_time_ms: 5_000, ..inside() });
    let deadline = sim.agent.deadline().unwrap();
    sim.now = deadline;
    sim.give(Input::Tick {});
    assert_eq!(sim.failed().0, FailureCause::Time);
}
