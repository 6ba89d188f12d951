//! The crate as its users see it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod agreement;
mod bundles;
mod content;
mod deciding;
mod hostile;
mod learning;
mod levels;
mod read_as_people_do;
mod schema;
mod tables;

use stockade_domain::{
    Action, Deed, Principal, Resource, ResourceKind, Role,
    ids::{ProjectId, RunId, UserId},
};
use stockade_policy::{Bundle, Engine, default_bundle};

fn shipped() -> Engine {
    Bundle::parse(1, default_bundle()).unwrap_or_else(|e| panic!("{e}"))
}

fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

fn person(roles: &[Role]) -> Principal {
    Principal::User { id: user(1), roles: roles.to_vec() }
}

fn agent() -> Principal {
    Principal::Agent { run: RunId::from_bytes([2; 16]), owner: user(1) }
}

fn project(n: u8) -> ProjectId {
    ProjectId::from_bytes([n; 16])
}

fn deed(principal: Principal, action: Action, kind: ResourceKind, id: &str) -> Deed {
    Deed { principal, action, resource: Resource::new(kind, id), context: Default::default() }
}

/// A tool call of an agent.
fn tool(id: &str) -> Deed {
    deed(agent(), Action::ToolCall, ResourceKind::Tool, id)
}

/// A bundle of policies, each an id and a text.
fn bundle(policies: &[(&str, &str)]) -> String {
    policies
        .iter()
        .map(|(id, text)| format!("[[policy]]\nid = \"{id}\"\ntitle = \"About {id}\"\ntext = '''\n{text}\n'''\n"))
        .collect()
}

fn engine(policies: &[(&str, &str)]) -> Engine {
    Bundle::parse(7, &bundle(policies)).unwrap_or_else(|e| panic!("{:#?}", e.problems))
}
