//! The operation table: every operation of the API has a line here, or does not exist.

use stockade_domain::Action as A;

use crate::{
    operation::{
        BODY, BODY_SEALED, BODY_SHIP, Caller, Method, Operation, Recorded as Rec,
        Rule::{self, Public, Runner},
        handler,
    },
    resource as r, site,
};

macro_rules! table {
    ($($method:ident $path:literal $caller:ident $rule:expr, $recorded:ident, $body:ident => $handler:expr;)*) => {
        &[$(Operation {
            method: Method::$method,
            path: $path,
            caller: Caller::$caller,
            rule: $rule,
            recorded: Rec::$recorded,
            body: $body,
            handler: || handler(Method::$method, $handler),
        }),*]
    };
}

const fn act(action: A) -> Rule {
    Rule::Action(action)
}

/// All operations.
#[rustfmt::skip]
pub static OPERATIONS: &[Operation] = table! {
    Get    "/v1/health"                         Anybody Public("says nothing but that the server is there"), Never, BODY => r::system::health;
    Get    "/v1/openapi.json"                   Anybody Public("is in the source code"), Never, BODY => r::system::openapi;
    Get    "/v1/me"                             User    Public("tells callers only what their own token says"), Never, BODY => r::people::me;
    Get    "/v1/doctor"                         User    act(A::RunnerRead), Refusals, BODY => r::system::doctor;
    Post   "/v1/tokens"                         User    act(A::TokenCreate), Always, BODY => r::people::create_token;
    Post   "/v1/gateway/tokens/prepare"         User    act(A::TokenCreate), Refusals, BODY => r::tokens::prepare;
    Post   "/v1/gateway/tokens"                 User    act(A::TokenCreate), Always, BODY => r::tokens::create;
    Get    "/v1/gateway/tokens"                 User    act(A::TokenRead), Refusals, BODY => r::tokens::list;
    Post   "/v1/gateway/tokens/{token}/revoke"  User    act(A::TokenRevoke), Always, BODY => r::tokens::revoke;
    Get    "/v1/groups"                         User    act(A::GroupRead), Refusals, BODY => r::groups::list;
    Post   "/v1/groups"                         User    act(A::GroupWrite), Always, BODY => r::groups::create;
    Post   "/v1/groups/{group}/members"         User    act(A::GroupWrite), Always, BODY => r::groups::change;
    Get    "/v1/calls"                          User    act(A::CallRead), Refusals, BODY => r::calls::list;
    Get    "/v1/calls/sums"                     User    act(A::CallRead), Refusals, BODY => r::calls::sums;
    Get    "/v1/calls/{call}"                   User    act(A::CallRead), Refusals, BODY => r::calls::show;
    Get    "/v1/connections"                    User    act(A::ConnectionRead), Refusals, BODY => r::connections::list;
    Get    "/v1/connections/sums"               User    act(A::ConnectionRead), Refusals, BODY => r::connections::sums;
    Get    "/v1/connections/{connection}"       User    act(A::ConnectionRead), Refusals, BODY => r::connections::show;
    Get    "/v1/sessions"                       User    act(A::CallRead), Refusals, BODY => r::calls::sessions;
    Get    "/v1/projects"                       User    act(A::ProjectRead), Refusals, BODY => r::projects::list;
    Post   "/v1/projects"                       User    act(A::ProjectCreate), Always, BODY => r::projects::create;
    Get    "/v1/projects/{project}"             User    act(A::ProjectRead), Refusals, BODY => r::projects::show;
    Patch  "/v1/projects/{project}"             User    act(A::ProjectUpdate), Always, BODY => r::projects::update;
    Post   "/v1/tasks/prepare"                  User    act(A::TaskStart), Refusals, BODY => r::tasks::prepare;
    Post   "/v1/tasks"                          User    act(A::TaskStart), Always, BODY_SEALED => r::tasks::start;
    Get    "/v1/runs"                           User    act(A::RunRead), Refusals, BODY => r::runs::list;
    Get    "/v1/runs/{run}"                     User    act(A::RunRead), Refusals, BODY => r::runs::show;
    Get    "/v1/runs/{run}/events"              User    act(A::RunRead), Refusals, BODY => r::run_events::list;
    Get    "/v1/runs/{run}/contents/{digest}"   User    act(A::RunRead), Refusals, BODY => r::run_contents::show;
    Post   "/v1/runs/{run}/cancel"              User    act(A::RunCancel), Always, BODY => r::runs::cancel;
    Post   "/v1/runs/{run}/resume"              User    act(A::RunResume), Always, BODY => r::runs::resume;
    Post   "/v1/runs/{run}/erase"               User    act(A::RunErase), Always, BODY => r::runs::erase;
    Post   "/v1/runs/{run}/ticket"              User    act(A::RunRead), Always, BODY => r::run_tickets::issue;
    Post   "/v1/runs/{run}/replies"             User    act(A::InputGive), Always, BODY => r::run_replies::give;
    Get    "/v1/approvals"                      User    act(A::ApprovalRead), Refusals, BODY => r::approvals::list;
    Get    "/v1/approvals/{approval}"           User    act(A::ApprovalRead), Refusals, BODY => r::approvals::show;
    Post   "/v1/approvals/{approval}/grant"     User    act(A::ApprovalAnswer), Always, BODY => r::approvals::grant;
    Post   "/v1/approvals/{approval}/deny"      User    act(A::ApprovalAnswer), Always, BODY => r::approvals::deny;
    Get    "/v1/classes"                        User    act(A::EnvironmentRead), Refusals, BODY => r::classes::list;
    Get    "/v1/environments"                   User    act(A::EnvironmentRead), Refusals, BODY => r::environments::list;
    Get    "/v1/environments/{environment}"     User    act(A::EnvironmentRead), Refusals, BODY => r::environments::show;
    Delete "/v1/environments/{environment}"     User    act(A::EnvironmentDelete), Always, BODY => r::environments::delete;
    Get    "/v1/policy"                         User    act(A::PolicyRead), Refusals, BODY => r::policy::show;
    Put    "/v1/policy"                         User    act(A::PolicyWrite), Always, BODY_SEALED => r::policy::put;
    Post   "/v1/policy/check"                   User    act(A::PolicyRead), Refusals, BODY_SEALED => r::policy::check;
    Post   "/v1/policy/test"                    User    act(A::PolicyRead), Refusals, BODY_SEALED => r::policy::test;
    Post   "/v1/policy/explain"                 User    act(A::PolicyRead), Refusals, BODY => r::policy::explain;
    Get    "/v1/budgets"                        User    act(A::BudgetRead), Refusals, BODY => r::budgets::list;
    Put    "/v1/budgets"                        User    act(A::BudgetSet), Always, BODY => r::budgets::set;
    Get    "/v1/records"                        User    act(A::RecordRead), Refusals, BODY => r::records::list;
    Get    "/v1/records/{record}"               User    act(A::RecordRead), Refusals, BODY => r::records::show;
    Get    "/v1/records/{record}/proof"         User    act(A::RecordRead), Refusals, BODY => r::records::proof;
    Get    "/v1/ledgers"                        User    act(A::RecordRead), Refusals, BODY => r::ledgers::list;
    Get    "/v1/export"                         User    act(A::RecordRead), Always, BODY => r::export::stream;
    Get    "/v1/runners"                        User    act(A::RunnerRead), Refusals, BODY => r::runners::list;
    Post   "/v1/runners/enroll-token"           User    act(A::RunnerEnroll), Always, BODY => r::runners::enroll_token;
    Post   "/v1/runner/enroll"                  Anybody Runner("the one-time token was decided when it was made"), Always, BODY => site::enroll;
    Post   "/v1/runner/poll"                    Runner  Runner("tells a runner what was given to it"), Never, BODY => site::poll;
    Post   "/v1/runner/lease"                   Runner  Runner("only of runs that were given to it"), Never, BODY => site::lease;
    Post   "/v1/runner/heartbeat"               Runner  Runner("only of its own leases"), Never, BODY => site::heartbeat;
    Post   "/v1/runner/ship"                    Runner  Runner("only of its own spool"), Never, BODY_SHIP => site::ship;
    Post   "/v1/runner/slice"                   Runner  Runner("only for runs that were given to it; budgets decide"), Never, BODY => site::slice;
    Post   "/v1/runner/checkpoint"              Runner  Runner("only of its own ledger"), Never, BODY => site::checkpoint;
};
