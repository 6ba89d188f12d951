//! Requests and answers of the public API, one file per resource.
//!
//! Everything is JSON over HTTP below `/v1`, with a bearer token; identifiers are strings, times are
//! microseconds since 1970, money is in nano-dollars. Lists take `limit` and `cursor` and answer a
//! [`Page`]. A failed answer has the body [`crate::error::ErrorBody`]. `GET /v1/openapi.json` is the
//! same in the form that programs read.
//!
//! This module owns shapes and nothing else: what is allowed is policy's, what is true is the store's.

mod approvals;
mod budgets;
mod calls;
mod classes;
mod connections;
mod environments;
mod groups;
mod people;
mod policy;
mod projects;
mod records;
mod runners;
mod runs;
mod system;
mod tasks;
mod tokens;

pub use approvals::{Approval, ApprovalState, ListApprovals};
pub use budgets::{Budget, ListBudgets, SetBudget};
pub use calls::{CallSum, ListCalls, ListSessions, ModelCall, Session, ShownCall, SumCalls};
pub use classes::{Class, ListClasses};
pub use connections::{Connection, ConnectionSum, ConnectionSums, ListConnections, ShownConnection, SumConnections};
pub use environments::{Environment, ListEnvironments};
pub use groups::{ChangeGroup, CreateGroup, Group, Member};
pub use people::{CreateToken, CreatedToken, Me};
pub use policy::{
    CheckPolicy, ContentExample, ExampleResult, ExplainDeed, ExplainedPolicy, Explanation, Policy, PolicyProblem,
    PolicyReport, PutPolicy, Question,
};
pub use projects::{CreateProject, ListProjects, Project, UpdateProject};
pub use records::{Export, Ledger, ListRecords, Proof, Record};
pub use runners::{CreateEnrollToken, EnrollToken, Runner};
pub use runs::{Change, IssueTicket, IssuedTicket, ListEvents, ListRuns, Run, RunEvents, SealedContent};
pub use system::{Check, Doctor, Health};
pub use tasks::{PrepareTask, PreparedTask, StartTask, TaskLimits};
pub use tokens::{CreateGatewayToken, CreatedGatewayToken, GatewayToken, ListGatewayTokens, PrepareToken};

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How many items a page has when nobody said.
pub const DEFAULT_PAGE: u32 = 50;

/// How many items a page has at most. A larger `limit` gives this many.
pub const MAX_PAGE: u32 = 200;

/// A part of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// At most so many items: 50 if absent, 200 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// An answer that says nothing but yes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {}
