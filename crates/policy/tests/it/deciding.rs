//! What a ruling says, and what `explain` adds.

use stockade_domain::{Action, Answer, ContextValue, Decision, ResourceKind, Role, ids::ApprovalId};
use stockade_policy::{Engine, MAX_CONTEXT_TEXT_BYTES, MAX_RESOURCE_ID_BYTES, Ruling};

use crate::{deed, engine, person, shipped, tool};

fn ids(decision: &Decision) -> Vec<&str> {
    decision.policies.iter().map(|policy| policy.id.as_str()).collect()
}

#[test]
fn an_engine_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Engine>();
}

#[test]
fn allow_names_the_permits() {
    let engine = engine(&[
        ("b-also", "permit(principal is Agent, action, resource);"),
        ("a-first", "permit(principal, action == Action::\"tool.call\", resource);"),
        ("c-not", "permit(principal is User, action, resource);"),
    ]);
    let Ruling::Allow(permit) = engine.decide(tool("read")) else { panic!("not allowed") };
    assert_eq!(ids(permit.decision()), ["a-first", "b-also"]);
    assert_eq!(permit.decision().bundle, 7);
    assert_eq!(permit.deed(), &tool("read"));
}

#[test]
fn deny_names_the_forbids_that_matched() {
    let engine = engine(&[
        ("yes", "permit(principal, action, resource);"),
        ("no", "forbid(principal is Agent, action, resource);"),
        ("neither", "forbid(principal is User, action, resource);"),
    ]);
    let Ruling::Deny(refusal) = engine.decide(tool("read")) else { panic!("not denied") };
    assert_eq!(ids(refusal.decision()), ["no"]);
    assert_eq!(refusal.title(), "About no");
}

#[test]
fn what_nothing_permits_is_denied_and_names_nothing() {
    let Ruling::Deny(refusal) = engine(&[]).decide(tool("read")) else { panic!("not denied") };
    assert_eq!(ids(refusal.decision()), [""; 0]);
    assert_eq!(refusal.title(), "nothing permits this");
}

#[test]
fn ask_names_the_policies_that_want_a_person() {
    let engine = engine(&[
        ("yes", "permit(principal, action, resource);"),
        ("together", "forbid(principal, action, resource) when { context.unattended };"),
    ]);
    let Ruling::Ask(question) = engine.decide(tool("run")) else { panic!("not asked") };
    assert_eq!(ids(question.decision()), ["together"]);
    assert_eq!(question.title(), "About together");
}

#[test]
fn a_permit_that_wants_a_person_asks_too() {
    let engine = engine(&[("attended", "permit(principal, action, resource) unless { context.unattended };")]);
    let Ruling::Ask(question) = engine.decide(tool("run")) else { panic!("not asked") };
    assert_eq!(ids(question.decision()), ["attended"]);
}

#[test]
fn a_yes_makes_a_permit_and_a_no_a_refusal() {
    let engine = shipped();
    let ask = || {
        let mut deed = tool("run");
        deed.context = deed.context.with("level", 1);
        match engine.decide(deed) {
            Ruling::Ask(question) => question,
            other => panic!("{other:?}"),
        }
    };
    let approval = ApprovalId::from_bytes([9; 16]);
    let permit = ask().granted(approval);
    assert_eq!(permit.decision().approval, Some(approval));
    assert_eq!(permit.decision().answer, Answer::Ask);
    assert_eq!(ids(permit.decision()), ["level-1-ask-work"]);
    let refusal = ask().refused();
    assert_eq!(refusal.decision().approval, None);
    assert_eq!(refusal.title(), "Level 1: a person says yes before a file is changed or a command runs");
}

#[test]
fn a_policy_that_cannot_be_evaluated_denies_and_says_so() {
    let engine = engine(&[
        ("yes", "permit(principal, action, resource);"),
        ("overflow", "forbid(principal, action, resource) when { context has files && context.files + 1 > 3 };"),
    ]);
    let mut deed = tool("run");
    deed.context = deed.context.with("files", i64::MAX);
    let explanation = engine.explain(&deed);
    assert_eq!(explanation.may.errors.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["overflow"]);
    assert!(explanation.may.errors[0].error.contains("overflow"), "{explanation:#?}");
    let Ruling::Deny(refusal) = engine.decide(deed) else { panic!("not denied") };
    assert_eq!(refusal.decision(), &explanation.decision);
    assert_eq!(ids(refusal.decision()), ["overflow"]);
    assert_eq!(refusal.title(), "About overflow (this policy could not be evaluated)");
}

#[test]
fn an_error_in_the_second_question_denies_too() {
    let engine = engine(&[
        ("yes", "permit(principal, action, resource);"),
        (
            "overflow",
            "forbid(principal, action, resource) when { context.unattended && context has files && context.files + 1 > 3 };",
        ),
    ]);
    let mut deed = tool("run");
    deed.context = deed.context.with("files", i64::MAX);
    let explanation = engine.explain(&deed);
    assert!(explanation.may.yes && explanation.may.errors.is_empty());
    assert_eq!(explanation.unattended.errors.len(), 1);
    assert_eq!(engine.simulate(&deed), explanation.decision);
    assert_eq!((explanation.decision.answer, ids(&explanation.decision)), (Answer::Deny, vec!["overflow"]));
}

#[test]
fn an_explanation_reads_on_its_own() {
    let mut deed = tool("run");
    deed.context = deed.context.with("level", 1).with_content("command", "cargo test");
    let explanation = shipped().explain(&deed);
    insta::assert_snapshot!(serde_json::to_string_pretty(&explanation).unwrap());
}

/// Each of these is a mistake of whoever made the deed. Were it let through, a forbid could look past it.
#[test]
fn a_deed_that_does_not_fit_the_schema_is_denied() {
    let engine = engine(&[("yes", "permit(principal, action, resource);")]);
    assert_eq!(engine.simulate(&tool("run")).answer, Answer::Allow);
    let with = |name: &str, value: ContextValue| {
        let mut deed = tool("run");
        deed.context = deed.context.with(name, value);
        deed
    };
    let twice = {
        let mut deed = tool("run");
        deed.context = deed.context.with("path", "a").with_content("path", "b");
        deed
    };
    let cases = [
        (with("unattended", false.into()), "the circumstance `unattended` is Stockade's own to give"),
        (with("protected_path", true.into()), "there is no circumstance `protected_path` in the schema"),
        (with("level", "2".into()), "the circumstance `level` must be a whole number, not a text"),
        (with("path", ContextValue::Set(vec![])), "the circumstance `path` must be a text, not a set of texts"),
        (twice, "the circumstance `path` is given twice, in public and as content"),
        (
            deed(person(&[Role::Admin]), Action::ToolCall, ResourceKind::Tool, "run"),
            "tool.call is nothing that a user does to a tool",
        ),
        (
            deed(person(&[Role::Admin]), Action::PolicyWrite, ResourceKind::Run, "run"),
            "policy.write is nothing that a user does to a run",
        ),
    ];
    for (deed, why) in cases {
        let explanation = engine.explain(&deed);
        assert_eq!(explanation.misfit.as_deref(), Some(why));
        let Ruling::Deny(refusal) = engine.decide(deed) else { panic!("not denied: {why}") };
        assert_eq!(refusal.decision(), &explanation.decision);
        assert_eq!((ids(refusal.decision()), refusal.title()), (vec!["(schema)"], why));
    }
}

#[test]
fn a_deed_may_carry_so_much_text_and_no_more() {
    let engine = engine(&[("yes", "permit(principal, action, resource);")]);
    let with = |len: usize| {
        let mut deed = tool("run");
        deed.context = deed.context.with_content("path", "x").with_content("command", "c".repeat(len - 1));
        deed
    };
    assert_eq!(engine.simulate(&with(MAX_CONTEXT_TEXT_BYTES)).answer, Answer::Allow);
    let decision = engine.simulate(&with(MAX_CONTEXT_TEXT_BYTES + 1));
    assert_eq!((decision.answer, decision.title()), (Answer::Deny, "the circumstances are longer than 262144 bytes"));
    assert_eq!(engine.simulate(&tool(&"t".repeat(MAX_RESOURCE_ID_BYTES))).answer, Answer::Allow);
    let decision = engine.simulate(&tool(&"t".repeat(MAX_RESOURCE_ID_BYTES + 1)));
    assert_eq!((decision.answer, decision.title()), (Answer::Deny, "the name of the tool is longer than 1024 bytes"));
}

#[test]
fn what_is_logged_of_a_ruling_holds_no_content() {
    let mut deed = tool("run");
    deed.context = deed.context.with("level", 2).with_content("command", "echo the-secret-word");
    let ruling = shipped().decide(deed);
    assert!(!format!("{ruling:?}").contains("the-secret-word"));
}
