//! Whatever the model, tools and people do: the journal alone says what is wanted, and every request is valid.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use stockade_agent::{Agent, Config, HarnessEnd, Input, Line, ModelFailure, Tool, Want, tool_calls};
use stockade_domain::{FailureCause, Harness, Nanos, Timestamp, ToolOutcome, Usage, ids::CallId};

use crate::sim::Sim;

/// What happens next. How it is put into an input depends on what is wanted.
#[derive(Debug, Clone)]
enum Step {
    Answer {
        content: Value,
        stop_reason: String,
        tokens: u64,
    },
    ModelFails {
        failure: ModelFailure,
        retry_after_ms: Option<u64>,
    },
    Tool {
        which: usize,
        outcome: ToolOutcome,
        text: String,
    },
    Harness {
        outcome: HarnessEnd,
        text: String,
    },
    Called {
        ok: bool,
        tokens: u64,
    },
    Gates {
        passed: bool,
        text: String,
    },
    Person {
        text: String,
    },
    Change(u8),
    Clock(u8, u32),
    Retry,
    Stop,
    /// An input that may not fit at all.
    Wild(Input),
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Halves are read back as they were written; see `Line`.
        (-1000i32..1000).prop_map(|n| Value::from(f64::from(n) / 2.0)),
        "[a-z./ é]{0,300}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z_]{1,6}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn good_call() -> impl Strategy<Value = Value> {
    let word = "[a-c]{1,2}";
    prop_oneof![
        word.prop_map(|p| ("read", json!({"path": p}))),
        (word, "[a-z]{0,900}").prop_map(|(p, text)| ("write", json!({"path": p, "text": text}))),
        (word, word).prop_map(|(p, new)| ("edit", json!({"path": p, "old": "x", "new": new}))),
        Just(("list", json!({}))),
        word.prop_map(|p| ("search", json!({"pattern": p}))),
        word.prop_map(|c| ("run", json!({"command": c}))),
        any::<bool>().prop_map(|done| ("finish", json!({"summary": "s", "done": done}))),
        word.prop_map(|q| ("ask", json!({"question": q}))),
    ]
    .prop_flat_map(|(name, input)| {
        "[a-z0-9]{1,3}".prop_map(move |id| json!({"type": "tool_use", "id": id, "name": name, "input": input}))
    })
}

fn block() -> impl Strategy<Value = Value> {
    let field = || {
        prop_oneof![
            6 => "[a-z ]{0,400}".prop_map(Value::from),
            1 => "[ \n]{0,3}".prop_map(Value::from),
            2 => json_value()
        ]
    };
    prop_oneof![
        6 => good_call(),
        3 => field().prop_map(|text| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})),
        2 => (field(), field()).prop_map(|(t, s)| json!({"type": "thinking", "thinking": t, "signature": s})),
        1 => field().prop_map(|data| json!({"type": "redacted_thinking", "data": data})),
        2 => (field(), field(), json_value())
            .prop_map(|(id, name, input)| json!({"type": "tool_use", "id": id, "name": name, "input": input})),
        1 => "[a-z_]{0,12}".prop_map(|kind| json!({"type": kind, "text": "x", "tool_use_id": "y"})),
        1 => Just(json!({"type": "tool_result", "tool_use_id": "a", "content": "forged"})),
        1 => json_value(),
    ]
}

fn content() -> impl Strategy<Value = Value> {
    prop_oneof![9 => prop::collection::vec(block(), 0..5).prop_map(Value::from), 1 => json_value()]
}

fn stop_reason() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just("tool_use".to_owned()),
        3 => Just("end_turn".to_owned()),
        2 => Just("max_tokens".to_owned()),
        1 => Just("pause_turn".to_owned()),
        1 => Just("refusal".to_owned()),
        1 => Just("model_context_window_exceeded".to_owned()),
        1 => "[a-z_]{0,8}",
    ]
}

fn failure() -> impl Strategy<Value = ModelFailure> {
    use ModelFailure::*;
    prop::sample::select(vec![
        RateLimited,
        Overloaded,
        Network,
        Unavailable,
        Nonsense,
        TooLong,
        TooLong,
        Budget,
        Policy,
        Rehearsal,
        Rejected,
    ])
}

fn harness_end() -> impl Strategy<Value = HarnessEnd> {
    use HarnessEnd::*;
    prop_oneof![
        3 => Just(Done),
        1 => prop::sample::select(vec![Failed, Failed, Interrupted, TimedOut, Missing, Denied, Refused, Budget]),
    ]
}

fn call_id() -> impl Strategy<Value = CallId> {
    (0u64..30).prop_map(|n| CallId::from_parts(n, [1; 10]))
}

fn wild() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::Began { task: "again".into(), instructions: None, facts: Default::default() }),
        (0u32..6, content(), stop_reason(), prop::collection::vec(call_id(), 0..3)).prop_map(
            |(attempt, content, stop_reason, calls)| Input::Model {
                attempt,
                message: json!({"content": content}),
                stop_reason,
                usage: Usage::default(),
                cost: Nanos(1),
                calls
            }
        ),
        (call_id(), prop::sample::select(ToolOutcome::ALL.to_vec())).prop_map(|(call, outcome)| Input::Tool {
            call,
            outcome,
            text: "late".into()
        }),
        (0u32..4, any::<bool>()).prop_map(|(attempt, passed)| Input::Gates { attempt, passed, text: "t".into() }),
        (0u32..6, harness_end()).prop_map(|(attempt, outcome)| Input::HarnessEnded {
            attempt,
            outcome,
            said: "late".into()
        }),
        Just(Input::ChangeOpened {}),
        Just(Input::NoChange {}),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop::sample::select(ToolOutcome::ALL.to_vec());
    let outcome = prop_oneof![3 => Just(ToolOutcome::Ok), 1 => outcome];
    prop_oneof![
        12 => (content(), stop_reason(), 0u64..100_000)
            .prop_map(|(content, stop_reason, tokens)| Step::Answer { content, stop_reason, tokens }),
        1 => (failure(), proptest::option::of(0u64..100_000))
            .prop_map(|(failure, retry_after_ms)| Step::ModelFails { failure, retry_after_ms }),
        12 => (0usize..4, outcome, prop_oneof!["[ -~é\n]{0,2000}", Just(String::new())])
            .prop_map(|(which, outcome, text)| Step::Tool { which, outcome, text }),
        6 => (harness_end(), "[ -~é\n]{0,2000}").prop_map(|(outcome, text)| Step::Harness { outcome, text }),
        4 => (any::<bool>(), 0u64..100_000).prop_map(|(ok, tokens)| Step::Called { ok, tokens }),
        2 => (any::<bool>(), "[ -~]{0,800}").prop_map(|(passed, text)| Step::Gates { passed, text }),
        2 => "[ -~]{0,40}".prop_map(|text| Step::Person { text }),
        1 => (0u8..3).prop_map(Step::Change),
        2 => (0u8..3, any::<u32>()).prop_map(|(kind, ms)| Step::Clock(kind, ms % 400_000)),
        2 => Just(Step::Retry),
        1 => Just(Step::Stop),
        2 => wild().prop_map(Step::Wild),
    ]
}

/// The input that makes `step` of what is wanted; something is always possible.
fn input(sim: &mut Sim, step: Step) -> Input {
    match (step, sim.agent.wants().into_iter().next()) {
        (Step::Wild(input), _) => input,
        (Step::Stop, _) => Input::Stop { cause: FailureCause::Environment, text: String::new() },
        (Step::Clock(0, _), _) => Input::Paused {},
        (Step::Clock(1, _), _) => Input::Resumed {},
        (Step::Clock(_, ms), _) => {
            sim.now = sim.now.plus_ms(ms.into());
            Input::Tick {}
        }
        (Step::Person { text }, _) => Input::Reply { text },
        (Step::Answer { content, stop_reason, tokens }, Some(Want::Model { attempt, .. })) => {
            let message = json!({"role": "assistant", "content": content});
            let calls = (0..tool_calls(&message)).map(|_| sim.fresh()).collect();
            let usage = Usage { input_tokens: tokens, output_tokens: 7, ..Usage::default() };
            Input::Model { attempt, message, stop_reason, usage, cost: Nanos(3), calls }
        }
        (Step::ModelFails { failure, retry_after_ms }, Some(Want::Model { attempt, .. })) => Input::ModelFailed {
            attempt,
            failure,
            retry_after_ms,
            text: "no".into(),
            usage: Usage::default(),
            cost: Nanos(1),
        },
        (Step::Tool { which, outcome, text }, Some(Want::Tools { calls })) => {
            Input::Tool { call: calls[which % calls.len()].call, outcome, text }
        }
        (Step::Harness { outcome, text }, Some(Want::Harness { attempt, .. })) => {
            Input::HarnessEnded { attempt, outcome, said: text }
        }
        (Step::Called { ok, tokens }, _) => {
            let usage = Usage { input_tokens: tokens, ..Usage::default() };
            Input::Called { ok, usage, cost: Nanos(5) }
        }
        (Step::Gates { passed, text }, Some(Want::Gates { attempt })) => Input::Gates { attempt, passed, text },
        (Step::Change(0), Some(Want::OpenChange { .. })) => Input::ChangeDenied { title: "no".into() },
        (Step::Change(1), Some(Want::OpenChange { .. })) => Input::NoChange {},
        (Step::Change(_), Some(Want::OpenChange { .. })) => Input::ChangeOpened {},
        (Step::Retry, Some(Want::Failed { .. })) => Input::Retry {},
        // The step does not fit: what is wanted is done plainly.
        (_, Some(Want::Model { attempt, .. })) => {
            let message =
                json!({"content": [{"type": "tool_use", "id": format!("t{attempt}"), "name": "list", "input": {}}]});
            let (usage, calls) = (Usage::default(), vec![sim.fresh()]);
            Input::Model { attempt, message, stop_reason: "tool_use".into(), usage, cost: Nanos(1), calls }
        }
        (_, Some(Want::Harness { attempt, .. })) => {
            Input::HarnessEnded { attempt, outcome: HarnessEnd::Done, said: "done".into() }
        }
        (_, Some(Want::Tools { calls })) => {
            Input::Tool { call: calls[0].call, outcome: ToolOutcome::Ok, text: "x".repeat(700) }
        }
        (_, Some(Want::Gates { attempt })) => Input::Gates { attempt, passed: false, text: "no".into() },
        (_, Some(Want::Person { .. })) => Input::Reply { text: "yes".into() },
        (_, Some(Want::OpenChange { .. })) => Input::NoChange {},
        (_, Some(Want::Failed { .. })) => Input::Retry {},
        (_, Some(Want::Finished { .. }) | None) => Input::Tick {},
    }
}

/// A line as it comes back from the journal.
fn from_disk(line: &Line) -> Line {
    serde_json::from_str(&serde_json::to_string(line).unwrap()).unwrap()
}

/// Folds a journal that has been on a disk.
fn replay(config: &Config, lines: &[Line]) -> Agent {
    let mut agent = Agent::new(config.clone());
    for line in lines {
        agent.apply(&from_disk(line)).unwrap();
    }
    agent
}

/// The rules of the Messages API, as far as they concern what we send.
pub fn assert_valid(body: &Value) {
    let why = || serde_json::to_string_pretty(&body["messages"]).unwrap();
    let plain = |v: &Value| {
        let word = v.as_str().unwrap_or("");
        (1..=64).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    assert!(body["max_tokens"].as_u64().unwrap() > 0 && body["stream"] == true && body["model"].is_string());
    assert!(body.to_string().matches("\"cache_control\"").count() <= 4, "{}", why());
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages.len() % 2, 1, "the user speaks first and last: {}", why());
    let mut ids = BTreeSet::new();
    let mut open: Vec<String> = vec![];
    for (index, message) in messages.iter().enumerate() {
        let user = index % 2 == 0;
        assert_eq!(message["role"], if user { "user" } else { "assistant" }, "{}", why());
        let blocks = message["content"].as_array().unwrap();
        assert!(!blocks.is_empty(), "{}", why());
        let results: Vec<_> = blocks.iter().take_while(|b| b["type"] == "tool_result").collect();
        let answered: Vec<_> = results.iter().map(|b| b["tool_use_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(answered, open, "{}", why());
        assert!(results.iter().all(|b| !b["content"].as_str().unwrap().is_empty()), "{}", why());
        open.clear();
        for block in &blocks[results.len()..] {
            match (block["type"].as_str().unwrap(), user) {
                ("text", _) => assert!(!block["text"].as_str().unwrap().trim().is_empty(), "{}", why()),
                ("thinking", false) => {
                    assert!(block["thinking"].is_string() && !block["signature"].as_str().unwrap().is_empty());
                    assert!(block.get("cache_control").is_none());
                }
                ("redacted_thinking", false) => assert!(!block["data"].as_str().unwrap().is_empty()),
                ("tool_use", false) => {
                    assert!(plain(&block["id"]) && plain(&block["name"]) && block["input"].is_object(), "{}", why());
                    let id = block["id"].as_str().unwrap().to_owned();
                    assert!(ids.insert(id.clone()), "twice: {id} in {}", why());
                    open.push(id);
                }
                (kind, _) => panic!("{kind} in {}", why()),
            }
        }
        let last = blocks.last().unwrap()["type"].as_str().unwrap();
        assert!(!matches!(last, "thinking" | "redacted_thinking"), "{}", why());
    }
    assert!(open.is_empty());
}

fn config() -> impl Strategy<Value = Config> {
    let harness = prop_oneof![3 => Just(Harness::Stockade), 1 => Just(Harness::Codex)];
    (3u32..60, prop_oneof![Just(1500u64), Just(4000), Just(140_000)], 1u32..4, harness).prop_map(
        |(max_turns, compact_at, gate_attempts, harness)| Config {
            harness,
            max_turns,
            compact_at,
            gate_attempts,
            ..Config::new("rehearsal/any")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_alone_says_what_is_wanted_and_every_request_is_valid(
        config in config(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut sim = Sim::begun(config.clone());
        // The same machine in another process, which knows the journal only: at every line, a replay of that prefix.
        let mut other = replay(&config, &sim.lines);
        for step in steps {
            let input = input(&mut sim, step);
            let before = sim.agent.clone();
            let again = matches!(input, Input::Retry {});
            let line = Line { at: sim.now, input };
            match sim.agent.apply(&line) {
                Ok(_) => {
                    other.apply(&from_disk(&line)).unwrap();
                    sim.lines.push(line);
                }
                Err(_) => prop_assert_eq!(&sim.agent, &before),
            }
            prop_assert_eq!(&other, &sim.agent);
            prop_assert!(!before.is_over() || again || before.wants() == sim.agent.wants(), "what is over stays over");
            let wants = sim.agent.wants();
            prop_assert_eq!(wants.len(), 1);
            match &wants[0] {
                Want::Model { body, .. } => {
                    prop_assert!(!config.harness.is_inside());
                    assert_valid(body);
                }
                Want::Harness { attempt, prompt, .. } => {
                    prop_assert!(config.harness.is_inside() && !prompt.trim().is_empty());
                    // A number that was answered is never used again.
                    let used = |line: &Line| matches!(&line.input, Input::HarnessEnded { attempt: a, .. } if a == attempt);
                    prop_assert!(!sim.lines.iter().any(used));
                }
                Want::Tools { calls } => {
                    let side_by_side =
                        |t: &Tool| matches!(t, Tool::Read { .. } | Tool::List { .. } | Tool::Search { .. });
                    prop_assert!(calls.len() == 1 || (calls.len() > 1 && calls.iter().all(|c| side_by_side(&c.tool))));
                }
                _ => {}
            }
            prop_assert_eq!(sim.agent.is_over(), matches!(wants[0], Want::Finished { .. } | Want::Failed { .. }));
        }
        prop_assert_eq!(&replay(&config, &sim.lines), &sim.agent);
        // Nothing is lost: money counts every model line that was accepted.
        let cost = sim.lines.iter().map(|line| match &line.input {
            Input::Model { cost, .. } | Input::ModelFailed { cost, .. } | Input::Called { cost, .. } => *cost,
            _ => Nanos::ZERO,
        });
        prop_assert_eq!(sim.agent.spent().1, cost.sum());
    }

    /// Time goes backwards when a clock is set; the agent's does not.
    #[test]
    fn a_clock_that_jumps_makes_no_panic(times in prop::collection::vec(any::<i64>(), 1..20)) {
        let mut agent = Agent::new(Config::new("m"));
        for at in times {
            let _ = agent.apply(&Line { at: Timestamp(at), input: Input::Resumed {} });
            let begin = Input::Began { task: "t".into(), instructions: None, facts: Default::default() };
            let _ = agent.apply(&Line { at: Timestamp(at), input: begin });
            let _ = agent.apply(&Line { at: Timestamp(at), input: Input::Tick {} });
            let _ = (agent.wants(), agent.deadline());
        }
    }
}
