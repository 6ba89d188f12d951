//! What a decision costs: the default bundle filled up to 200 policies as a company of many projects would write
//! them, and a mixture of deeds; and connections under 10, 100 and 1,000 tables about hosts. Every decision answers both
//! questions and makes its deed anew. Prints one JSON object.

#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::{collections::BTreeMap, error::Error, hint::black_box, time::Instant};

use serde_json::json;
use stockade_domain::{
    Action, Answer, Context, Deed, Principal, Resource, ResourceKind, Role,
    ids::{ProjectId, RunId, UserId},
};
use stockade_policy::{Bundle, Engine, default_bundle};

const POLICIES: usize = 200;
const ROUNDS: usize = 20_000;
const WARM_UP: usize = 2_000;
const GOAL_US: f64 = 20.0;

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Bundle::parse(1, &filled(project_policy)?)?;
    let same = Bundle::parse(1, &filled(same_action_policy)?)?;
    let mut figures = BTreeMap::new();
    let mut answers = BTreeMap::new();
    let mut all = Vec::new();
    for (name, deed, expected) in deeds() {
        let answer = engine.simulate(&deed).answer;
        if answer != expected {
            return Err(format!("{name}: expected {expected}, found {answer}").into());
        }
        let mut times = measure(&engine, &deed);
        all.extend_from_slice(&times);
        answers.insert(name, answer.as_str());
        figures.insert(format!("{name}_median_us"), at(&mut times, 0.5));
        figures.insert(format!("{name}_p99_us"), at(&mut times, 0.99));
    }
    let median = at(&mut all, 0.5);
    figures.insert("median_us".into(), median);
    figures.insert("p99_us".into(), at(&mut all, 0.99));
    // The hardest: nearly all of the policies are about the one action, and none can be told apart beforehand.
    if let Some((_, deed, _)) = deeds().into_iter().find(|(name, ..)| *name == "command_level_2") {
        let mut times = measure(&same, &deed);
        figures.insert("all_policies_on_one_action_median_us".into(), at(&mut times, 0.5));
    }
    connections(&mut figures)?;
    let worst = deeds()
        .iter()
        .filter_map(|(name, ..)| figures.get(&format!("{name}_median_us")))
        .fold(0.0, |a: f64, b| a.max(*b));
    figures.insert("worst_kind_median_us".into(), worst);
    let summary = engine.summary();
    let result = json!({
        "name": "policy",
        "conditions": {
            "policies": summary.policies,
            "permits": summary.permits,
            "forbids": summary.forbids,
            "most_policies_one_kind_of_deed_meets": summary.busiest,
            "bundle_bytes": engine.text().len(),
            "decisions_per_kind_of_deed": ROUNDS,
            "answers": answers,
            "both_questions": true,
            "threads": 1,
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        },
        "figures": figures,
        "targets": {
            "median_us": { "goal": GOAL_US, "measured": median, "holds": median < GOAL_US },
        },
    });
    println!("{}", serde_json::to_string_pretty(&result)?);
    Ok(())
}

/// Connections to a host that is allowed, to one below a name that is, and to one that nothing permits.
fn connections(figures: &mut BTreeMap<String, f64>) -> Result<(), Box<dyn Error>> {
    for rules in [10, 100, 1_000] {
        let mut text = default_bundle().to_owned();
        text.extend((0..rules).map(connection_table));
        let start = Instant::now();
        let engine = Bundle::parse(1, &text)?;
        figures.insert(format!("load_{rules}_connection_tables_ms"), (start.elapsed().as_secs_f64() * 1e3).round());
        let last = rules - 1;
        for (name, host, expected) in [
            ("allowed", format!("h{last}.example"), Answer::Allow),
            ("below", format!("a.b.below{last}.example"), Answer::Allow),
            ("refused", format!("h{last}.example.evil"), Answer::Deny),
        ] {
            let context = Context::default().with("level", 2).with("port", 443).with("protocol", "tls");
            let resource = Resource::new(ResourceKind::Host, host).in_project(project(7));
            let principal = Principal::Agent { run: RunId::from_bytes([3; 16]), owner: UserId::from_bytes([4; 16]) };
            let deed =
                Deed { principal, action: Action::ConnectionOpen, resource, context: context.with("inspected", false) };
            let answer = engine.simulate(&deed).answer;
            if answer != expected {
                return Err(format!("{name} of {rules}: expected {expected}, found {answer}").into());
            }
            let mut times = measure(&engine, &deed);
            figures.insert(format!("connection_{name}_{rules}_tables_median_us"), at(&mut times, 0.5));
            figures.insert(format!("connection_{name}_{rules}_tables_p99_us"), at(&mut times, 0.99));
        }
    }
    Ok(())
}

/// Each names a host and what is below another one; one in ten is about requests, one in fifty forbids.
fn connection_table(n: usize) -> String {
    let more = match (n % 10, n % 50) {
        (_, 3) => "effect = \"deny\"\n",
        (5, _) => "methods = [\"GET\", \"HEAD\"]\npaths = [\"/x/*\"]\n",
        _ => "",
    };
    format!(
        "\n[[connection]]\nid = \"own-{n}\"\ntitle = \"Own host {n}\"\nhosts = [\"h{n}.example\", \"*.below{n}.example\"]\n{more}"
    )
}

/// The times of single decisions in microseconds, deed in and ruling out.
fn measure(engine: &Engine, deed: &Deed) -> Vec<f64> {
    for _ in 0..WARM_UP {
        let _ruling = black_box(engine.decide(black_box(deed.clone())));
    }
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let deed = black_box(deed.clone());
        let start = Instant::now();
        let ruling = black_box(engine.decide(deed));
        times.push(start.elapsed().as_secs_f64() * 1e6);
        drop(ruling);
    }
    times
}

fn at(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list of some thousands"
    )]
    let place = (times.len() as f64 * share) as usize;
    times.get(place).map_or(f64::NAN, |time| (time * 100.0).round() / 100.0)
}

fn filled(policy: fn(usize) -> String) -> Result<String, Box<dyn Error>> {
    let shipped = Bundle::parse(1, default_bundle())?.summary().policies;
    let mut text = default_bundle().to_owned();
    for n in shipped..POLICIES {
        text.push_str(&format!(
            "\n[[policy]]\nid = \"own-{n}\"\ntitle = \"Own rule {n}\"\ntext = '''\n{}\n'''\n",
            policy(n)
        ));
    }
    Ok(text)
}

fn project(n: usize) -> ProjectId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&(n as u64).to_be_bytes());
    ProjectId::from_bytes(bytes)
}

/// Rules about one project or about all of them, on all that agents and some of what people do.
fn project_policy(n: usize) -> String {
    let project = project(n % 30);
    let here = format!("resource has project && resource.project == \"{project}\"");
    let agent = "principal is Agent, action ==";
    match n % 6 {
        0 => format!(
            "forbid({agent} Action::\"tool.call\", resource) when {{ {here} && context has command && context.command like \"*deploy-{n}*\" }};"
        ),
        1 => format!(
            "forbid({agent} Action::\"model.call\", resource) when {{ {here} && !([\"model-a\", \"claude\"].contains(resource.id)) }};"
        ),
        2 => format!(
            "forbid({agent} Action::\"change.open\", resource) when {{ {here} && context.unattended && context has files && context.files > {n} }};"
        ),
        3 => format!(
            "permit(principal is User, action == Action::\"task.start\", resource) when {{ principal.roles.contains(\"approver\") && {here} }};"
        ),
        // About every project: cannot be told apart before it is evaluated.
        4 => format!(
            "forbid({agent} Action::\"tool.call\", resource == Tool::\"run\") when {{ context has command && context.command like \"*forbidden-{n} *\" }};"
        ),
        _ => format!(
            "forbid(principal is User, action == Action::\"content.read\", resource) when {{ {here} && !(context has owner && context.owner == principal.id) }};"
        ),
    }
}

fn same_action_policy(n: usize) -> String {
    format!(
        "forbid(principal is Agent, action == Action::\"tool.call\", resource) when {{ context has command && context.command like \"*forbidden-{n} *\" && context.unattended }};"
    )
}

fn deeds() -> Vec<(&'static str, Deed, Answer)> {
    let run = RunId::from_bytes([3; 16]);
    let owner = UserId::from_bytes([4; 16]);
    let agent = Principal::Agent { run, owner };
    let command = "cd /workspace && cargo test --workspace --all-targets 2>&1 | tail -n 40";
    let deed = |principal: &Principal, action, kind, id: &str| Deed {
        principal: principal.clone(),
        action,
        resource: Resource::new(kind, id).in_project(project(7)).in_run(run),
        context: Default::default(),
    };
    let level = |mut deed: Deed, level: i64| {
        deed.context = deed.context.with("level", level);
        deed
    };
    let tool = |id: &str, n| {
        let mut deed = level(deed(&agent, Action::ToolCall, ResourceKind::Tool, id), n);
        deed.context = deed.context.with("tool", id).with("read_only", id == "read");
        deed
    };
    let commanded = |mut deed: Deed| {
        deed.context = deed.context.with_content("command", command);
        deed
    };
    let mut read = tool("read", 2);
    read.context = read.context.with_content("path", "crates/policy/src/engine.rs");
    let mut model = level(deed(&agent, Action::ModelCall, ResourceKind::Model, "claude"), 2);
    model.context =
        model.context.with("model", "claude").with("provider", "anthropic").with("estimate_nanos", 12_000_000);
    let mut change = level(deed(&agent, Action::ChangeOpen, ResourceKind::Change, "run_1"), 3);
    change.context = change
        .context
        .with("diff_lines", 120)
        .with("files", 4)
        .with("protected_paths", false)
        .with("gates_passed", true)
        .with_content("branch", "stockade/run_1");
    let person = Principal::User { id: owner, roles: vec![Role::Developer] };
    let mut content = deed(&person, Action::ContentRead, ResourceKind::Run, "run_1");
    content.context = content.context.with("owner", owner.to_string());
    vec![
        ("command_level_1", commanded(tool("run", 1)), Answer::Ask),
        ("command_level_2", commanded(tool("run", 2)), Answer::Allow),
        ("read_level_2", read, Answer::Allow),
        ("model_call", model, Answer::Allow),
        ("change_level_3", change, Answer::Allow),
        ("content_read", content, Answer::Allow),
    ]
}
