//! The operation table against itself.

use std::collections::BTreeSet;

use stockade_domain::Action;
use stockade_server::{
    OPERATIONS,
    operation::{Caller, Method, Recorded, Rule},
};

/// If you are here because this failed: the line that you added to the table says less than it must.
#[test]
fn every_operation_says_who_may_call_it_and_by_what_it_is_decided() {
    for operation in OPERATIONS {
        let name = format!("{operation:?}");
        match (operation.caller, operation.rule) {
            (Caller::User, Rule::Action(_)) => assert_ne!(operation.recorded, Recorded::Never, "{name}"),
            (_, Rule::Action(_)) => panic!("{name}: only people's deeds are decided by policy here"),
            (_, Rule::Public(reason) | Rule::Runner(reason)) => {
                assert!(reason.len() > 10, "{name}: say why nobody decides it");
            }
        }
        assert_eq!(
            operation.caller == Caller::Runner,
            operation.path.starts_with("/v1/runner/") && operation.path != "/v1/runner/enroll",
            "{name}"
        );
    }
}

/// What changes something is recorded. The exceptions ask and change nothing.
#[test]
fn what_changes_something_is_recorded() {
    const ASKS: [&str; 5] = [
        "/v1/tasks/prepare",
        "/v1/gateway/tokens/prepare",
        "/v1/policy/check",
        "/v1/policy/test",
        "/v1/policy/explain",
    ];
    for operation in OPERATIONS.iter().filter(|operation| operation.caller == Caller::User) {
        if operation.method != Method::Get && !ASKS.contains(&operation.path) {
            assert_eq!(operation.recorded, Recorded::Always, "{operation:?}");
        }
    }
}

/// Every action that people take through the server has an operation. The others are decided in the site.
#[test]
fn every_action_of_people_has_an_operation() {
    let here: BTreeSet<Action> = OPERATIONS
        .iter()
        .filter_map(|operation| match operation.rule {
            Rule::Action(action) => Some(action),
            _ => None,
        })
        .collect();
    let site = [
        Action::ContentRead,
        Action::EnvironmentExec,
        Action::ModelCall,
        Action::ToolCall,
        Action::ChangeOpen,
        Action::ConnectionOpen,
        Action::RequestSend,
        Action::CredentialUse,
        Action::GitFetch,
        Action::GitPush,
    ];
    for action in Action::ALL {
        assert_ne!(here.contains(action), site.contains(action), "{action}");
    }
}
