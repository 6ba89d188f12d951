//! Connections of environments, as people look for them: one row for each connection, request, use of a credential, fetch and
//! push, filled while the records of runners come in; and two sums that are kept beside it (by run, and by host of a run), so that no
//! question reads every connection.
//!
//! Nothing here is evidence: the records are, and each row has the identifier of the one that opened it. *Invariant:* what was said
//! is not here; a path stays sealed, and a run that is erased leaves no row.

mod fold;
#[cfg(test)]
mod plans;

use stockade_domain::{
    Answer, Id, Timestamp,
    ids::{ApprovalId, EnvironmentId, ProjectId, RecordId, RunId, RunnerId},
};

pub(crate) use self::fold::{STATEMENTS as FOLD_STATEMENTS, note};
use crate::{
    Page, Paged, Result, StoreError, Tx,
    sql::{Row, ask, statements},
};

macro_rules! connection_columns {
    () => {
        "SELECT id, closed, parent, runner, run, project, environment, action, host, port, protocol, inspected, method, \
         upgrade, repository, ref, credential, decision, policy, title, approval, status, code, http_status, bytes_out, \
         bytes_in, address, left_out, notable, opened_at, closed_at, noted_at FROM connections WHERE "
    };
}

/// Whatever index leads the way, the other wishes are looked at row by row.
macro_rules! connection_wishes {
    () => {
        "(CAST($4 AS TEXT) IS NULL OR run = $4) AND (CAST($5 AS TEXT) IS NULL OR project = $5) \
         AND (CAST($6 AS TEXT) IS NULL OR environment = $6) AND (CAST($7 AS TEXT) IS NULL OR host = $7) \
         AND (CAST($8 AS TEXT) IS NULL OR action = $8) AND (CAST($9 AS TEXT) IS NULL OR decision = $9) \
         AND (CAST($10 AS TEXT) IS NULL OR status = $10) AND (CAST($11 AS BIGINT) IS NULL OR notable = $11)"
    };
}

macro_rules! newest_first {
    ($lead:literal) => {
        concat!(
            connection_columns!(),
            $lead,
            "id < $1 AND id >= $3 AND ",
            connection_wishes!(),
            " ORDER BY id DESC LIMIT $2"
        )
    };
}

/// The span of identifiers leads no way here: SQLite would take it, and sort everything.
macro_rules! as_they_changed {
    ($lead:literal) => {
        concat!(
            connection_columns!(),
            $lead,
            "noted_at >= $12 AND (noted_at > $12 OR id > $13) AND (CAST($1 AS TEXT) IS NULL OR id < $1) \
             AND (CAST($3 AS TEXT) IS NULL OR id >= $3) AND ",
            connection_wishes!(),
            " ORDER BY noted_at, id LIMIT $2"
        )
    };
}

statements! {
    WHICH_RUN_HAD_THIS_ENVIRONMENT = "SELECT run FROM environments WHERE id = $1";
    WHICH_CONNECTION_IS_THIS = concat!(connection_columns!(), "id = $1");
    WHICH_CONNECTIONS_WERE_THERE = newest_first!("");
    WHICH_CONNECTIONS_HAD_THIS_RUN = newest_first!("run = $4 AND ");
    WHICH_CONNECTIONS_HAD_THIS_PROJECT = newest_first!("project = $5 AND ");
    WHICH_CONNECTIONS_WENT_TO_THIS_HOST = newest_first!("host = $7 AND ");
    WHICH_CONNECTIONS_WERE_FOR_THIS = newest_first!("action = $8 AND ");
    WHICH_CONNECTIONS_WERE_DECIDED_SO = newest_first!("decision = $9 AND ");
    WHICH_CONNECTIONS_ENDED_SO = newest_first!("status = $10 AND ");
    WHICH_CONNECTIONS_CHANGED = as_they_changed!("");
    WHICH_CONNECTIONS_OF_RUN_CHANGED = as_they_changed!("run = $4 AND ");
    WHAT_DID_THIS_RUN_DO = "SELECT action, decision, '' AS host, 0 AS port, times, left_out, bytes_out, bytes_in, first_at, last_at \
                            FROM connection_sums WHERE run = $1 ORDER BY action, decision";
    WHERE_DID_THIS_RUN_GO = "SELECT action, decision, host, port, times, left_out, bytes_out, bytes_in, first_at, last_at \
                             FROM connection_hosts WHERE run = $1 \
                             ORDER BY bytes_out + bytes_in DESC, times DESC, host, port, action, decision LIMIT $2";
    FORGET_CONNECTIONS_OF_RUN = "DELETE FROM connections WHERE run = $1";
    FORGET_SUMS_OF_RUN = "DELETE FROM connection_sums WHERE run = $1";
    FORGET_HOSTS_OF_RUN = "DELETE FROM connection_hosts WHERE run = $1";
}

/// So many rows of a run there are of one action with one decision. What is more is counted; the records are there.
pub const MAX_ROWS: i64 = 20_000;
/// So many hosts of a run are told apart of one action with one decision.
pub const MAX_HOSTS: i64 = 500;
/// The most hosts of one answer of [`sums`].
pub const MAX_SUMS: u32 = 1_000;

/// A connection, or what was done on one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The record that opened or refused it.
    pub id: RecordId,
    /// The record that closed it.
    pub closed: Option<RecordId>,
    /// The record of the connection on which a request came.
    pub parent: Option<RecordId>,
    /// Whose site.
    pub runner: RunnerId,
    /// For which run.
    pub run: RunId,
    /// For which project.
    pub project: Option<ProjectId>,
    /// Out of which environment.
    pub environment: EnvironmentId,
    /// What was done: the word of an action, or of a note.
    pub action: String,
    /// The host's name or address; empty if there is none.
    pub host: String,
    /// Its port.
    pub port: Option<i64>,
    /// What was spoken.
    pub protocol: Option<String>,
    /// Whether it was looked into.
    pub inspected: Option<bool>,
    /// A request's method.
    pub method: Option<String>,
    /// What a request wanted to go over to.
    pub upgrade: Option<String>,
    /// The git repository.
    pub repository: Option<String>,
    /// Its ref.
    pub git_ref: Option<String>,
    /// The credential's name.
    pub credential: Option<String>,
    /// What was decided.
    pub decision: Answer,
    /// By which policy.
    pub policy: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// The approval for which it waits, or by which it was allowed.
    pub approval: Option<ApprovalId>,
    /// `open`, `ok`, `error`, `cancelled`, `unknown`, `refused`, `asked` or `granted`.
    pub status: String,
    /// A fixed word that says more.
    pub code: Option<String>,
    /// The status with which an HTTP request was answered.
    pub http_status: Option<i64>,
    /// What went out.
    pub bytes_out: u64,
    /// What came in.
    pub bytes_in: u64,
    /// The address that was dialled.
    pub address: Option<String>,
    /// How many refusals before this one were not written down.
    pub left_out: u64,
    /// Whether whoever follows the run is told.
    pub notable: bool,
    /// When it was opened or refused.
    pub opened_at: Timestamp,
    /// When it was over.
    pub closed_at: Option<Timestamp>,
    /// When this was last heard of, by the server's clock.
    pub noted_at: Timestamp,
}

/// Which connections.
#[derive(Debug, Clone, Default)]
pub struct ConnectionFilter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of this project.
    pub project: Option<ProjectId>,
    /// Only out of this environment.
    pub environment: Option<EnvironmentId>,
    /// Only to this host.
    pub host: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only what was decided so.
    pub decision: Option<Answer>,
    /// Only those that ended so.
    pub status: Option<String>,
    /// Only what whoever follows a run is told.
    pub notable: Option<bool>,
    /// Not opened before.
    pub since: Option<Timestamp>,
    /// Opened before.
    pub until: Option<Timestamp>,
}

/// What a run did of one kind, summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// What was done.
    pub action: String,
    /// What was decided.
    pub decision: Answer,
    /// To which host; empty if to all of them.
    pub host: String,
    /// To which port; 0 if there is none.
    pub port: i64,
    /// How often.
    pub times: u64,
    /// How often besides, without a record of its own.
    pub left_out: u64,
    /// What went out.
    pub bytes_out: u64,
    /// What came in.
    pub bytes_in: u64,
    /// For the first time.
    pub first_at: Timestamp,
    /// For the last time.
    pub last_at: Timestamp,
}

/// What a run did, summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// By action and decision.
    pub all: Vec<Sum>,
    /// By host too, where most went over first.
    pub hosts: Vec<Sum>,
}

/// One connection.
pub async fn get(tx: &mut Tx, id: RecordId) -> Result<Connection> {
    let row = tx.maybe(ask!(WHICH_CONNECTION_IS_THIS, id)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("connection", id))?)
}

/// Connections, newest first.
pub async fn list(tx: &mut Tx, filter: &ConnectionFilter, page: &Page) -> Result<Paged<Connection>> {
    let mut filter = filter.clone();
    if let (None, Some(environment)) = (filter.run, filter.environment) {
        // An environment is one run's, and a run has an index.
        let Some(row) = tx.maybe(ask!(WHICH_RUN_HAD_THIS_ENVIRONMENT, environment)).await? else {
            return Ok(Paged { items: Vec::new(), next_cursor: None });
        };
        filter.run = Some(row.word("run")?);
    }
    let sql = if filter.run.is_some() {
        WHICH_CONNECTIONS_HAD_THIS_RUN
    } else if filter.status.is_some() {
        WHICH_CONNECTIONS_ENDED_SO
    } else if filter.host.is_some() {
        WHICH_CONNECTIONS_WENT_TO_THIS_HOST
    } else if filter.project.is_some() {
        WHICH_CONNECTIONS_HAD_THIS_PROJECT
    } else if filter.decision.is_some() {
        WHICH_CONNECTIONS_WERE_DECIDED_SO
    } else if filter.action.is_some() {
        WHICH_CONNECTIONS_WERE_FOR_THIS
    } else {
        WHICH_CONNECTIONS_WERE_THERE
    };
    // Identifiers begin with the time of opening: a span of time is a span of identifiers.
    let until = filter.until.map_or_else(|| "zzzzzzzz".to_owned(), first_at);
    let rows = tx.all_planned_anew(wishes(sql, &filter, page.before()?.min(&until), page.fetch())).await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_>>()?, |connection| connection.id.to_string()))
}

/// Connections of which something was heard at this time (by the server's clock) or later, in that order. What a server that was slow
/// heard a moment before may still appear: ask a little way back, and pass over what is known.
pub async fn changed(
    tx: &mut Tx,
    filter: &ConnectionFilter,
    since: Timestamp,
    page: &Page,
) -> Result<Paged<Connection>> {
    let sql = if filter.run.is_some() { WHICH_CONNECTIONS_OF_RUN_CHANGED } else { WHICH_CONNECTIONS_CHANGED };
    let (at, after) = match &page.cursor {
        None => (since, String::new()),
        Some(cursor) => change(cursor)?,
    };
    let until = filter.until.map_or_else(|| "zzzzzzzz".to_owned(), first_at);
    let mut ask = wishes(sql, filter, &until, page.fetch());
    ask.values.extend(ask!("", at, after).values);
    let rows = tx.all_planned_anew(ask).await?;
    let found = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(page.cut(found, |connection| format!("{}_{}", connection.noted_at.0, connection.id)))
}

/// What a run did on its way out, summed.
pub async fn sums(tx: &mut Tx, run: RunId) -> Result<Sums> {
    let sum = |row: &Row| {
        Ok(Sum {
            action: row.text("action")?,
            decision: row.word("decision")?,
            host: row.text("host")?,
            port: row.int("port")?,
            times: row.count("times")?,
            left_out: row.count("left_out")?,
            bytes_out: row.count("bytes_out")?,
            bytes_in: row.count("bytes_in")?,
            first_at: row.at("first_at")?,
            last_at: row.at("last_at")?,
        })
    };
    let all = tx.all(ask!(WHAT_DID_THIS_RUN_DO, run)).await?.iter().map(sum).collect::<Result<_>>()?;
    let hosts = tx.all(ask!(WHERE_DID_THIS_RUN_GO, run, MAX_SUMS)).await?.iter().map(sum).collect::<Result<_>>()?;
    Ok(Sums { all, hosts })
}

/// Forgets what is known of a run's connections. The records stay.
pub(crate) async fn forget(tx: &mut Tx, run: RunId) -> Result<()> {
    for sql in [FORGET_CONNECTIONS_OF_RUN, FORGET_SUMS_OF_RUN, FORGET_HOSTS_OF_RUN] {
        tx.run(ask!(sql, run)).await?;
    }
    Ok(())
}

fn wishes(sql: &'static str, filter: &ConnectionFilter, before: &str, fetch: i64) -> crate::sql::Ask {
    ask!(
        sql,
        before,
        fetch,
        filter.since.map(first_at).unwrap_or_default(),
        filter.run,
        filter.project,
        filter.environment,
        filter.host.as_deref(),
        filter.action.as_deref(),
        filter.decision.map(Answer::as_str),
        filter.status.as_deref(),
        filter.notable
    )
}

/// Where a page of changes ended.
fn change(cursor: &str) -> Result<(Timestamp, String)> {
    let read = || {
        let (at, id) = cursor.split_once('_')?;
        Some((Timestamp(at.parse().ok()?), id.parse::<RecordId>().ok()?.to_string()))
    };
    read().ok_or_else(|| StoreError::Invalid {
        what: "cursor",
        why: "it is none that this server gave out; begin again without one".to_owned(),
    })
}

fn first_at(at: Timestamp) -> String {
    let id: RecordId = Id::from_parts(at.unix_ms(), [0; 10]);
    id.to_string()
}

fn read(row: &Row) -> Result<Connection> {
    Ok(Connection {
        id: row.word("id")?,
        closed: row.maybe_word("closed")?,
        parent: row.maybe_word("parent")?,
        runner: row.word("runner")?,
        run: row.word("run")?,
        project: row.maybe_word("project")?,
        environment: row.word("environment")?,
        action: row.text("action")?,
        host: row.text("host")?,
        port: row.maybe_int("port")?,
        protocol: row.maybe_text("protocol")?,
        inspected: row.maybe_int("inspected")?.map(|yes| yes != 0),
        method: row.maybe_text("method")?,
        upgrade: row.maybe_text("upgrade")?,
        repository: row.maybe_text("repository")?,
        git_ref: row.maybe_text("ref")?,
        credential: row.maybe_text("credential")?,
        decision: row.word("decision")?,
        policy: row.maybe_text("policy")?,
        title: row.maybe_text("title")?,
        approval: row.maybe_word("approval")?,
        status: row.text("status")?,
        code: row.maybe_text("code")?,
        http_status: row.maybe_int("http_status")?,
        bytes_out: row.count("bytes_out")?,
        bytes_in: row.count("bytes_in")?,
        address: row.maybe_text("address")?,
        left_out: row.count("left_out")?,
        notable: row.int("notable")? != 0,
        opened_at: row.at("opened_at")?,
        closed_at: row.maybe_at("closed_at")?,
        noted_at: row.at("noted_at")?,
    })
}
