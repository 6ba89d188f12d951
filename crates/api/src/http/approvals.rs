//! Approvals: a person's durable yes or no to one waiting deed.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Action, ContentRef, Timestamp, UnknownWord,
    ids::{ApprovalId, ProjectId, RunId, UserId},
};
use utoipa::{IntoParams, ToSchema};

/// How an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody has spoken.
    Pending,
    /// Yes.
    Granted,
    /// No.
    Denied,
    /// Nobody spoke in time, which is a no.
    Expired,
}

impl ApprovalState {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }
}

impl FromStr for ApprovalState {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Pending, Self::Granted, Self::Denied, Self::Expired]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownWord { what: "approval state", word: text.to_owned() })
    }
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Which.
    #[schema(value_type = String)]
    pub id: ApprovalId,
    /// The run that waits.
    #[schema(value_type = String)]
    pub run: RunId,
    /// Its project.
    #[schema(value_type = String)]
    pub project: ProjectId,
    /// How it stands.
    pub state: ApprovalState,
    /// The action that waits.
    #[schema(value_type = String)]
    pub action: Action,
    /// The resource's id: a tool's name, the run.
    pub resource: String,
    /// The title of the policy that asks.
    pub policy: String,
    /// What exactly is asked, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub content: Option<ContentRef>,
    /// Since when.
    #[schema(value_type = i64)]
    pub created_at: Timestamp,
    /// When silence becomes a no.
    #[schema(value_type = i64)]
    pub expires_at: Timestamp,
    /// Who answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub answered_by: Option<UserId>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub answered_at: Option<Timestamp>,
}

/// Which approvals, newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListApprovals {
    /// Only of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub run: Option<RunId>,
    /// Only in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ApprovalState>,
    /// At most so many items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// From the last answer's `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
