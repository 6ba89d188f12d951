//! Approvals: a person's durable yes or no to one waiting deed.

use stockade_domain::{
    Action, ContentRef, Refused, Timestamp,
    ids::{ApprovalId, ProjectId, RunId, RunnerId, SiteId, UserId},
};

use crate::{
    Page, Paged, Result, StoreError, Tx, runs, sites,
    sql::{Row, ask, json, statements},
};

macro_rules! approval_columns {
    () => {
        "SELECT a.id, a.run, r.project, r.owner, a.action, a.resource, a.policy, a.content, a.state, a.requested_at, \
         a.expires_at, a.author, a.answered_at, a.noted_at FROM approvals a JOIN runs r ON r.id = a.run "
    };
}

statements! {
    ADD_APPROVAL = "INSERT INTO approvals (id, run, action, resource, policy, content, state, requested_at, \
                    expires_at) VALUES ($1, $2, $3, $4, $5, $6, 'pending', $7, $8) ON CONFLICT DO NOTHING";
    WHICH_APPROVAL_IS_THIS = concat!(approval_columns!(), "WHERE a.id = $1");
    WHICH_APPROVALS_ARE_THERE = concat!(
        approval_columns!(),
        "WHERE a.id < $1 AND (CAST($3 AS TEXT) IS NULL OR a.run = $3) AND (CAST($4 AS TEXT) IS NULL OR r.owner = $4) \
         AND (CAST($5 AS TEXT) IS NULL OR a.state = $5) ORDER BY a.id DESC LIMIT $2"
    );
    WHICH_APPROVALS_HAS_THIS_RUN = concat!(approval_columns!(), "WHERE a.run = $1 ORDER BY a.id");
    ANSWER_APPROVAL = "UPDATE approvals SET state = $2, author = $3, answered_at = $4 \
                       WHERE id = $1 AND state = 'pending'";
    WHICH_APPROVALS_RAN_OUT = "SELECT id FROM approvals WHERE state = 'pending' AND expires_at <= $1 \
                               ORDER BY expires_at, id LIMIT $2";
    WHICH_ANSWERS_WAIT_AT_THIS_SITE = concat!(
        approval_columns!(),
        "WHERE a.state IN ('granted', 'denied', 'expired') AND a.expires_at > $2 AND a.noted_at IS NULL \
         AND r.kind = 'personal' AND r.site = $1 ORDER BY a.id DESC LIMIT $3"
    );
    NOTE_APPROVAL = "UPDATE approvals SET noted_at = COALESCE(noted_at, $2) WHERE id = $1 AND run = $3";
}

/// The most answers about personal runs that are told to a runner at once.
pub const MAX_ANSWERS: u32 = 4_096;

/// For how long after its time a question's end is told to runners, in microseconds.
const TELL_EXPIRED_US: i64 = 60 * 1_000_000;

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
    let row = tx.maybe(ask!(WHICH_APPROVAL_IS_THIS, id)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("approval", id))?)
}

/// Approvals, newest first.
pub async fn list(tx: &mut Tx, filter: &ApprovalFilter, page: &Page) -> Result<Paged<Approval>> {
    let ask = ask!(
        WHICH_APPROVALS_ARE_THERE,
        page.before()?,
        page.fetch(),
        filter.run,
        filter.owner,
        filter.state.map(ApprovalState::as_str)
    );
    let rows = tx.all(ask).await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_>>()?, |approval| approval.id.to_string()))
}

/// Answers it. The same answer of the same person again is no error; any other second answer is `Refused`, and so is
/// one after its time. The runner's revision grows.
pub async fn answer(tx: &mut Tx, id: ApprovalId, granted: bool, by: UserId, now: Timestamp) -> Result<Approval> {
    let found = get(tx, id).await?;
    let state = if granted { ApprovalState::Granted } else { ApprovalState::Denied };
    let in_time = found.expires_at > now;
    if found.state == ApprovalState::Pending
        && in_time
        && tx.run(ask!(ANSWER_APPROVAL, id, state.as_str(), by, now)).await? == 1
    {
        let runners = listening(tx, found.run).await?;
        sites::touch_these(tx, runners).await?;
        return get(tx, id).await;
    }
    // Too late, or somebody was faster: perhaps oneself.
    let found = get(tx, id).await?;
    if found.state == state && found.by == Some(by) {
        return Ok(found);
    }
    let state = if found.state == ApprovalState::Pending { ApprovalState::Expired } else { found.state };
    Err(Refused { what: "an approval", event: "be answered".to_owned(), state: state.as_str().to_owned() }.into())
}

/// Turns silence into a no for all whose time is over, at most `limit`; gives which. Their runners' revisions grow.
pub async fn expire(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<ApprovalId>> {
    let rows = tx.all(ask!(WHICH_APPROVALS_RAN_OUT, now, limit)).await?;
    let (mut expired, mut runners) = (Vec::new(), Vec::new());
    for row in rows {
        let id: ApprovalId = row.word("id")?;
        if tx.run(ask!(ANSWER_APPROVAL, id, ApprovalState::Expired.as_str(), None::<UserId>, now)).await? == 1 {
            let run = get(tx, id).await?.run;
            runners.extend(listening(tx, run).await?);
            expired.push(id);
        }
    }
    sites::touch_these(tx, runners).await?;
    Ok(expired)
}

/// Who waits for the answers of a run: its runner, or for a personal run all of its site.
async fn listening(tx: &mut Tx, run: RunId) -> Result<Vec<RunnerId>> {
    let run = runs::get(tx, run).await?;
    if run.kind.is_placed() { Ok(run.runner.into_iter().collect()) } else { sites::runners_of(tx, run.site).await }
}

/// Answers about personal runs of a site, newest first, that no runner has taken note of and that still count.
pub async fn of_site(tx: &mut Tx, site: SiteId, now: Timestamp) -> Result<Vec<Approval>> {
    let since = now.0.saturating_sub(TELL_EXPIRED_US);
    let rows = tx.all(ask!(WHICH_ANSWERS_WAIT_AT_THIS_SITE, site, since, MAX_ANSWERS)).await?;
    rows.iter().map(read).collect()
}

/// Adds one that a runner asks for.
pub(crate) async fn add(tx: &mut Tx, approval: &Approval) -> Result<()> {
    let content = approval.content.map(|content| json(&content)).transpose()?;
    let ask = ask!(
        ADD_APPROVAL,
        approval.id,
        approval.run,
        approval.action.as_str(),
        &approval.resource,
        &approval.policy,
        content,
        approval.requested_at,
        approval.expires_at
    );
    tx.run(ask).await.map(drop)
}

/// The runner has taken note of the answer. If it says no and nobody has answered, its clock was faster: time ran out.
pub(crate) async fn note(tx: &mut Tx, run: RunId, id: ApprovalId, granted: bool, now: Timestamp) -> Result<()> {
    if get(tx, id).await?.run != run {
        return Err(StoreError::not_found("approval", id));
    }
    if !granted {
        tx.run(ask!(ANSWER_APPROVAL, id, ApprovalState::Expired.as_str(), None::<UserId>, now)).await?;
    }
    tx.run(ask!(NOTE_APPROVAL, id, now, run)).await.map(drop)
}

/// All of a run, oldest first.
pub(crate) async fn of_run(tx: &mut Tx, run: RunId) -> Result<Vec<Approval>> {
    tx.all(ask!(WHICH_APPROVALS_HAS_THIS_RUN, run)).await?.iter().map(read).collect()
}

impl ApprovalState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Granted, Self::Denied, Self::Expired];

    /// The word, as in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }
}

impl std::str::FromStr for ApprovalState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| format!("`{text}` is no such state"))
    }
}

fn read(row: &Row) -> Result<Approval> {
    Ok(Approval {
        id: row.word("id")?,
        run: row.word("run")?,
        project: row.word("project")?,
        owner: row.word("owner")?,
        action: row.word("action")?,
        resource: row.text("resource")?,
        policy: row.text("policy")?,
        content: row.maybe_json("content")?,
        state: row.word("state")?,
        requested_at: row.at("requested_at")?,
        expires_at: row.at("expires_at")?,
        by: row.maybe_word("author")?,
        answered_at: row.maybe_at("answered_at")?,
        noted_at: row.maybe_at("noted_at")?,
    })
}
