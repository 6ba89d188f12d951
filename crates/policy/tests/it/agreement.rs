//! The short cuts of `decide` change no answer: every decision is compared with Cedar's own about the whole bundle,
//! asked with entities and context that went through JSON and were checked against the schema.

use cedar_policy::{
    Authorizer, Context, Decision as Verdict, Entities, EntityUid, Policy, PolicyId, PolicySet, Request, Schema,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use stockade_domain::{Action, Answer, ContextValue, Deed, Principal, ResourceKind, Role};
use stockade_policy::{Bundle, Engine};

use crate::{agent, bundle, deed, person, project};

/// The answer and the deciding policies, the slow way.
fn oracle(engine: &Engine, schema: &Schema, deed: &Deed) -> (Answer, Vec<String>) {
    let policies = engine
        .policies()
        .into_iter()
        .map(|reason| Policy::parse(Some(PolicyId::new(&reason.id)), &reason.text).unwrap());
    let set = PolicySet::from_policies(policies).unwrap();
    let ask = |unattended: bool| {
        let (request, entities) = question(schema, deed, unattended);
        let response = Authorizer::new().is_authorized(&request, &set, &entities);
        let sorted = |ids: Vec<&PolicyId>| {
            let mut ids: Vec<String> = ids.into_iter().map(ToString::to_string).collect();
            ids.sort();
            ids
        };
        let errors = response
            .diagnostics()
            .errors()
            .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(e)| e.policy_id());
        (
            response.decision() == Verdict::Allow,
            sorted(response.diagnostics().reason().collect()),
            sorted(errors.collect()),
        )
    };
    let (may, by, errors) = ask(false);
    if !errors.is_empty() || !may {
        return (Answer::Deny, if errors.is_empty() { by } else { errors });
    }
    let (unattended, by_unattended, errors) = ask(true);
    match (errors.is_empty(), unattended, by_unattended.is_empty()) {
        (false, ..) => (Answer::Deny, errors),
        (_, true, _) => (Answer::Allow, by_unattended),
        (_, false, false) => (Answer::Ask, by_unattended),
        (_, false, true) => (Answer::Ask, by),
    }
}

fn question(schema: &Schema, deed: &Deed, unattended: bool) -> (Request, Entities) {
    let uid = |kind: &str, id: &str| json!({ "type": kind, "id": id });
    let (kind, id) = (camel(deed.principal.kind()), deed.principal.id());
    let attributes = match &deed.principal {
        Principal::User { roles, .. } => {
            json!({ "id": id, "roles": roles.iter().map(|role| role.as_str()).collect::<Vec<_>>() })
        }
        Principal::Agent { owner, .. } => json!({ "run": id, "owner": owner.to_string() }),
        _ => json!({}),
    };
    let mut resource = json!({ "id": deed.resource.id });
    if let Some(project) = deed.resource.project {
        resource["project"] = json!(project.to_string());
    }
    if matches!(deed.resource.kind, ResourceKind::Run | ResourceKind::Change) {
        resource["run"] = json!(deed.resource.id);
    }
    if deed.resource.kind == ResourceKind::Repository {
        resource["folded"] = json!(deed.resource.id.to_lowercase());
    }
    let action: EntityUid = format!("Action::\"{}\"", deed.action).parse().unwrap();
    let resource_kind = camel(deed.resource.kind.as_str());
    let entities = json!([
        { "uid": uid(&kind, &id), "attrs": attributes, "parents": [] },
        { "uid": uid(&resource_kind, &deed.resource.id), "attrs": resource, "parents": [] },
    ]);
    let entities = Entities::from_json_value(entities, Some(schema)).unwrap();
    let mut context = json!({ "unattended": unattended });
    for (name, value) in deed.context.public.iter().chain(&deed.context.content) {
        context[name] = match value {
            ContextValue::Bool(value) => json!(value),
            ContextValue::Long(value) => json!(value),
            ContextValue::Text(value) => json!(value),
            ContextValue::Set(value) => json!(value),
        };
    }
    let context = Context::from_json_value(context, Some((schema, &action))).unwrap();
    let entity = |value: Value| EntityUid::from_json(value).unwrap();
    let (principal, resource) = (entity(uid(&kind, &id)), entity(uid(&resource_kind, &deed.resource.id)));
    (Request::new(principal, action, resource, context, Some(schema)).unwrap(), entities)
}

fn camel(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

fn policies() -> impl Strategy<Value = String> {
    let scope = prop::sample::select(vec![
        "principal, action, resource",
        "principal is Agent, action, resource",
        "principal is Agent, action == Action::\"tool.call\", resource",
        "principal is Agent, action == Action::\"tool.call\", resource == Tool::\"run\"",
        "principal, action in [Action::\"tool.call\", Action::\"content.read\"], resource",
        "principal is User, action == Action::\"content.read\", resource",
        "principal is Agent, action == Action::\"connection.open\", resource",
        "principal is Agent, action in [Action::\"connection.open\", Action::\"git.fetch\"], resource",
    ]);
    let first = prop::sample::select(vec![
        "true",
        "context has level && context.level == 1",
        "context has level && 2 == context.level",
        "context has level && (context.level == 1 || context.level == 2)",
        "context has files && context.files * 9223372036854775807 > 0",
        "context has path && context.path == \"src\" && ip(\"10.0.0.1\").isIpv4()",
        "context.unattended",
        "!context.unattended",
        "context has command && context[\"command\"] like \"*push*\"",
        "context has owner && context.owner == \"somebody\"",
        "resource has project && resource.project == \"prj_01040g2081040g2081040g2081\"",
        "[\"read\", \"run\"].contains(resource.id)",
        "!([\"read\"].contains(resource.id))",
        "context has protected_paths && context.protected_paths",
        "context has protected_paths && !context.protected_paths",
        "context has files && context.files >= 1",
        "context has files && !(context.files < 1)",
        "context has level && context.level != 1",
        "!(context has command && context.command like \"git*\")",
        "(context has owner || context has path)",
        "resource.id == \"run\"",
        "resource.id like \"*.crates.example\"",
        "resource.id like \"forge.example/team/*\"",
        "resource.id like \"*crates*\"",
        "(resource.id == \"crates.example\" || resource.id like \"*.crates.example\")",
        "([\"crates.example\", \"run\"].contains(resource.id) || context.unattended)",
        "(resource.id like \"*.example\" || context has files && context.files * 9223372036854775807 > 0)",
        "(context has files && context.files * 9223372036854775807 > 0 || resource.id == \"run\")",
        "!(resource.id like \"*.crates.example\")",
        "context has port && [80, 443].contains(context.port)",
        "context has owner && [\"somebody\", \"nobody\"].contains(context.owner)",
        "resource has run && resource.run == \"x\"",
        "(if context.unattended then resource.id == \"run\" else true)",
        "(context has files && context.files + 9223372036854775807 > 0 || true)",
    ]);
    let effect = prop::sample::select(vec!["permit", "permit", "permit", "forbid"]);
    let condition = (prop::bool::weighted(0.75), prop::collection::vec(first, 1..4))
        .prop_map(|(when, all)| format!("{} {{ {} }}", if when { "when" } else { "unless" }, all.join(" && ")));
    (effect, scope, prop::collection::vec(condition, 0..3))
        .prop_map(|(effect, scope, conditions)| format!("{effect}({scope}) {};", conditions.join(" ")))
}

fn deeds() -> impl Strategy<Value = Deed> {
    let deed = prop::sample::select(vec![
        deed(agent(), Action::ToolCall, ResourceKind::Tool, "run"),
        deed(agent(), Action::ToolCall, ResourceKind::Tool, "read"),
        deed(agent(), Action::ModelCall, ResourceKind::Model, "run"),
        deed(agent(), Action::ChangeOpen, ResourceKind::Change, "x"),
        deed(person(&[Role::Developer, Role::Auditor]), Action::ContentRead, ResourceKind::Run, "x"),
        deed(person(&[]), Action::ContentRead, ResourceKind::Run, "run"),
        deed(agent(), Action::ConnectionOpen, ResourceKind::Host, "crates.example"),
        deed(agent(), Action::ConnectionOpen, ResourceKind::Host, "a.crates.example"),
        deed(agent(), Action::ConnectionOpen, ResourceKind::Host, "a.b.crates.example"),
        deed(agent(), Action::ConnectionOpen, ResourceKind::Host, "notcrates.example"),
        deed(agent(), Action::GitFetch, ResourceKind::Repository, "forge.example/team/app"),
        deed(agent(), Action::GitFetch, ResourceKind::Repository, "forge.example/teams/app"),
    ]);
    let texts = |of: &[&'static str]| prop::option::of(prop::sample::select(of.to_vec()));
    (
        deed,
        prop::option::of(1i64..4),
        prop::option::of(0i64..3),
        texts(&["10.0.0.1", "src"]),
        texts(&["git push", "ls"]),
        texts(&["somebody", "else"]),
        prop::option::of(prop::sample::select(vec![project(1), project(2)])),
        prop::option::of(prop::bool::ANY),
        prop::option::of(prop::sample::select(vec![80i64, 443, 22])),
    )
        .prop_map(|(mut deed, level, files, path, command, owner, project, protected, port)| {
            let mut context = deed.context;
            if let Some(port) = port {
                context = context.with("port", port);
            }
            if let Some(level) = level {
                context = context.with("level", level);
            }
            if let Some(files) = files {
                context = context.with("files", files);
            }
            if let Some(protected) = protected {
                context = context.with("protected_paths", protected);
            }
            for (name, text) in [("path", path), ("command", command), ("owner", owner)] {
                if let Some(text) = text {
                    context = context.with_content(name, text);
                }
            }
            deed.context = context;
            deed.resource.project = project;
            deed
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn short_cuts_change_no_answer(
        policies in prop::collection::vec(policies(), 1..10),
        deeds in prop::collection::vec(deeds(), 12),
    ) {
        let named: Vec<(String, &String)> = policies.iter().enumerate().map(|(n, text)| (format!("p{n}"), text)).collect();
        let rows: Vec<(&str, &str)> = named.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
        let engine = Bundle::parse(1, &bundle(&rows)).map_err(|e| TestCaseError::fail(format!("{:#?}", e.problems)))?;
        let (schema, _) = Schema::from_cedarschema_str(stockade_policy::schema()).unwrap();
        for deed in deeds {
            let decision = engine.simulate(&deed);
            let ids: Vec<String> = decision.policies.iter().map(|policy| policy.id.clone()).collect();
            prop_assert_eq!((decision.answer, ids), oracle(&engine, &schema, &deed), "{:?}", deed);
            let explanation = engine.explain(&deed);
            prop_assert_eq!(&explanation.decision, &decision);
            let two = (explanation.may.yes, explanation.unattended.errors.is_empty(), explanation.unattended.yes);
            let answer = match two {
                (false, ..) | (true, false, _) => Answer::Deny,
                (true, true, true) => Answer::Allow,
                (true, true, false) => Answer::Ask,
            };
            prop_assert_eq!(answer, decision.answer);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn patterns_mean_what_they_mean_to_cedar(
        patterns in prop::collection::vec("([abé]|\\*|\\\\\\*){0,6}", 1..8),
        texts in prop::collection::vec("[abé*]{0,6}", 6),
    ) {
        let policies: Vec<(String, String)> = patterns.iter().enumerate().map(|(n, pattern)| {
            let when = format!("context has command && context.command like \"{pattern}\"");
            (format!("p{n}"), format!("permit(principal, action, resource) when {{ {when} }};"))
        }).collect();
        let rows: Vec<(&str, &str)> = policies.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
        let engine = Bundle::parse(1, &bundle(&rows)).map_err(|e| TestCaseError::fail(format!("{:#?}", e.problems)))?;
        let (schema, _) = Schema::from_cedarschema_str(stockade_policy::schema()).unwrap();
        for text in texts {
            let mut deed = deed(agent(), Action::ToolCall, ResourceKind::Tool, "run");
            deed.context = deed.context.with_content("command", text);
            let decision = engine.simulate(&deed);
            let ids: Vec<String> = decision.policies.iter().map(|policy| policy.id.clone()).collect();
            prop_assert_eq!((decision.answer, ids), oracle(&engine, &schema, &deed), "{:?}", deed);
        }
    }
}
