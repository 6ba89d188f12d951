//! Approvals: a person's durable yes or no to one waiting deed.

use stockade_domain::{
    Action, ContentRef, Timestamp,
    ids::{ApprovalId, ProjectId, RunId, UserId},
};

use crate::{Page, Paged, Result, Tx};

/// Where an approval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApprovalState {
    /// Nobody has answered.
    Pending,
    /// Yes.
    Granted,
    /// No.
    Denied,
    /// Nobody answered in time: no.
    Expired,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Which.
    pub id: ApprovalId,
    /// Of which run.
    pub run: RunId,
    /// Of which project.
    pub project: ProjectId,
    /// Who owns the run.
    pub owner: UserId,
    /// The deed's action.
    pub action: Action,
    /// The resource's id.
    pub resource: String,
    /// The title of the policy that asks.
    pub policy: String,
    /// What exactly is asked, sealed.
    pub content: Option<ContentRef>,
    /// Where it is.
    pub state: ApprovalState,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When silence becomes a no.
    pub expires_at: Timestamp,
    /// Who answered.
    pub by: Option<UserId>,
    /// When it was answered or expired.
    pub answered_at: Option<Timestamp>,
    /// When the runner took note of it.
    pub noted_at: Option<Timestamp>,
}

/// Which approvals.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of runs of this person.
    pub owner: Option<UserId>,
    /// Only in this state.
    pub state: Option<ApprovalState>,
}

/// One approval.
pub async fn get(tx: &mut Tx, id: ApprovalId) -> Result<Approval> {
    todo!()
}

/// Approvals, newest first.
pub async fn list(tx: &mut Tx, filter: &ApprovalFilter, page: &Page) -> Result<Paged<Approval>> {
    todo!()
}

/// Answers it. The same answer of the same person again is no error; any other second answer is `Refused`, and so is
/// one after its time. The runner's revision grows.
pub async fn answer(tx: &mut Tx, id: ApprovalId, granted: bool, by: UserId, now: Timestamp) -> Result<Approval> {
    todo!()
}

/// Turns silence into a no for all whose time is over, at most `limit`; gives which. Their runners' revisions grow.
pub async fn expire(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<ApprovalId>> {
    todo!()
}
