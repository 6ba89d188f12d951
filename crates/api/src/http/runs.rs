//! Runs: one attempt at a task, its events, its sealed content.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    ContentRef, EnvironmentUsage, FailureCause, Harness, Level, Nanos, RunEvent, RunKind, RunState, Timestamp, Usage,
    ids::{EnvironmentId, ProjectId, RunId, RunnerId, TaskId, UserId},
};
use utoipa::{IntoParams, ToSchema};

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Which.
    #[schema(value_type = String)]
    pub id: RunId,
    /// `task`, or `personal` for that of a token for the gateway.
    #[serde(default = "task")]
    #[schema(value_type = String)]
    pub kind: RunKind,
    /// Of which task.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// Of which project.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// The project's name.
    pub project_name: String,
    /// Who asked.
    #[schema(value_type = String)]
    pub owner: UserId,
    /// Where it is.
    #[schema(value_type = String)]
    pub state: RunState,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cause: Option<FailureCause>,
    /// The model's name.
    pub model: String,
    /// Who does the work: `stockade`, our own loop; or a program inside the environment, for example `claude-code`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub harness: Harness,
    /// The autonomy level.
    #[schema(value_type = u8)]
    pub level: Level,
    /// The runner that works on it, once placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub runner: Option<RunnerId>,
    /// Its environment, once placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub environment: Option<EnvironmentId>,
    /// When it was asked for.
    #[schema(value_type = i64)]
    pub created_at: Timestamp,
    /// When work began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub finished_at: Option<Timestamp>,
    /// When it last changed.
    #[schema(value_type = i64)]
    pub updated_at: Timestamp,
    /// The class of its environment that was asked for; the site's first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What its environments cost by their classes, in nano-dollars. It is beside `cost`, and counts against no budget.
    #[serde(default)]
    #[schema(value_type = i64)]
    pub environment_cost: Nanos,
    /// What its environments have used together; only where one run is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub environment_usage: Option<EnvironmentUsage>,
    /// Its own budget, in nano-dollars.
    #[schema(value_type = i64)]
    pub max_cost: Nanos,
    /// What its model calls cost so far, in nano-dollars.
    #[schema(value_type = i64)]
    pub cost: Nanos,
    /// The tokens it used so far.
    #[schema(value_type = Object)]
    pub usage: Usage,
    /// The last turn that began; 0 before the first.
    pub turn: u32,
    /// The change that came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Whether the key of its content was destroyed.
    pub erased: bool,
}

const fn task() -> RunKind {
    RunKind::Task
}

/// A branch with a commit in the project's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The branch.
    pub branch: String,
    /// The commit, hexadecimal.
    pub commit: String,
    /// The commit it stands on, hexadecimal.
    pub base: String,
    /// Files touched.
    pub files: u32,
    /// Lines added.
    pub insertions: u32,
    /// Lines removed.
    pub deletions: u32,
    /// The change itself, sealed.
    #[schema(value_type = Object)]
    pub diff: ContentRef,
}

/// Which runs, newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListRuns {
    /// Only of this project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub project: Option<ProjectId>,
    /// Only in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub state: Option<RunState>,
    /// Those of tokens for the gateway, which are left out otherwise.
    #[serde(default)]
    pub personal: bool,
    /// Only of this person: a name, an identifier, or `me`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// At most so many items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which events of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListEvents {
    /// Those with a greater number.
    #[serde(default)]
    pub after: u64,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// If there are none: wait so long for one, in milliseconds, 25,000 at most.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Events of a run, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunEvents {
    /// The events.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<RunEvent>,
    /// Where the run is now.
    #[schema(value_type = String)]
    pub state: RunState,
    /// What to ask for next as `after`.
    pub after: u64,
}

/// A piece of content, sealed, with the reference that names it: for example the answer to a question of
/// the agent. People have the site's listener seal it (see [`crate::site`]).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SealedContent {
    /// What it is.
    #[schema(value_type = Object)]
    pub content: ContentRef,
    /// The sealed bytes, base64.
    pub sealed: String,
}

/// I want to talk to the site about a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueTicket {
    /// Which runner of the site shall accept it, for a run that is never placed; the one that was heard of last if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub runner: Option<RunnerId>,
}

/// A content ticket: proves to the site's listener who asks. Whether they may is decided there.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct IssuedTicket {
    /// The ticket, see [`crate::ticket`].
    pub ticket: String,
    /// The site's listener.
    pub listener: String,
    /// When the ticket ends.
    #[schema(value_type = i64)]
    pub expires_at: Timestamp,
    /// The run's environment, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub environment: Option<EnvironmentId>,
}

/// Shows everything but the ticket.
impl std::fmt::Debug for IssuedTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedTicket").field("listener", &self.listener).finish_non_exhaustive()
    }
}
