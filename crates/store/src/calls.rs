//! Model calls, as people look for them: one row for each, filled while the records of runners come in, and two sums that are
//! kept beside it (by session and by day), so that no question reads every call.
//!
//! Nothing here is evidence: the records are, and each row names its two.

use std::{borrow::Cow, collections::BTreeMap};

use stockade_domain::{
    Action, ContextValue, Id, Nanos, RunKind, Timestamp, Usage,
    ids::{ModelCallId, ProjectId, RecordId, RunId, RunnerId, UserId},
};
use stockade_ledger::{Body, DeedFacts, Record, Status};

use crate::{
    Page, Paged, Result, StoreError, Tx,
    facts::{self, Facts},
    runs,
    sql::{Row, ask, statements},
};

macro_rules! call_columns {
    () => {
        "SELECT id, opened, closed, runner, run, project, repository, person, model, upstream, provider, dialect, client, \
         session, turn, status, code, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost, \
         started_at, duration_ms FROM calls WHERE "
    };
}

/// Whatever index leads the way, the other wishes are looked at row by row.
macro_rules! call_wishes {
    () => {
        "id < $1 AND id >= $3 AND (CAST($4 AS TEXT) IS NULL OR person = $4) \
         AND (CAST($5 AS TEXT) IS NULL OR project = $5) AND (CAST($6 AS TEXT) IS NULL OR model = $6) \
         AND (CAST($7 AS TEXT) IS NULL OR provider = $7) AND (CAST($8 AS TEXT) IS NULL OR session = $8) \
         AND (CAST($9 AS TEXT) IS NULL OR run = $9) AND (CAST($10 AS TEXT) IS NULL OR client = $10) \
         AND (CAST($11 AS TEXT) IS NULL OR status = $11) ORDER BY id DESC LIMIT $2"
    };
}

macro_rules! session_columns {
    () => {
        "SELECT session, run, project, person, client, calls, turns, tokens, cost, first_at, last_at, first_call \
         FROM call_sessions WHERE "
    };
}

macro_rules! session_wishes {
    () => {
        "first_call < $1 AND (CAST($3 AS TEXT) IS NULL OR person = $3) \
         AND (CAST($4 AS TEXT) IS NULL OR project = $4) AND (CAST($5 AS TEXT) IS NULL OR session = $5) \
         AND (CAST($6 AS TEXT) IS NULL OR run = $6) AND (CAST($7 AS TEXT) IS NULL OR client = $7) \
         AND last_at >= $8 AND first_at < $9 ORDER BY first_call DESC LIMIT $2"
    };
}

macro_rules! totals_by {
    ($key:literal) => {
        concat!(
            "SELECT ",
            $key,
            " AS what, CAST(SUM(calls) AS BIGINT) AS calls, CAST(SUM(input_tokens) AS BIGINT) AS input_tokens, \
             CAST(SUM(output_tokens) AS BIGINT) AS output_tokens, CAST(SUM(cost) AS BIGINT) AS cost FROM call_days \
             WHERE day >= $1 AND day <= $2 AND (CAST($3 AS TEXT) IS NULL OR person = $3) \
             AND (CAST($4 AS TEXT) IS NULL OR project = $4) AND (CAST($5 AS TEXT) IS NULL OR model = $5) \
             AND (CAST($6 AS TEXT) IS NULL OR provider = $6) AND (CAST($7 AS TEXT) IS NULL OR client = $7) \
             GROUP BY 1 ORDER BY 5 DESC, 1 LIMIT $8"
        )
    };
}

/// The notes that tell of a call for which there was no money.
const UNPAID: [&str; 2] = ["budget_exhausted", "budget_unreachable"];

statements! {
    ADD_CALL = "INSERT INTO calls (id, opened, closed, runner, run, project, repository, person, model, upstream, provider, \
                dialect, client, session, turn, status, code, input_tokens, output_tokens, cache_read_tokens, \
                cache_write_tokens, cost, started_at, duration_ms) VALUES ($1, $2, NULL, $3, $4, $5, \
                COALESCE((SELECT repository FROM projects WHERE id = $5), ''), $6, $7, $8, $9, $10, $11, $12, $13, $14, \
                $16, 0, 0, 0, 0, 0, $15, NULL) ON CONFLICT DO NOTHING";
    END_CALL = "UPDATE calls SET closed = $2, status = $3, code = $4, input_tokens = $5, output_tokens = $6, \
                cache_read_tokens = $7, cache_write_tokens = $8, cost = $9, duration_ms = $10 \
                WHERE opened = $1 AND closed IS NULL";
    WHICH_CALL_WAS_OPENED_BY_THIS = concat!(call_columns!(), "opened = $1");
    WHICH_CALL_IS_THIS = concat!(call_columns!(), "id = $1");
    WHICH_CALLS_WERE_MADE = concat!(call_columns!(), call_wishes!());
    WHICH_CALLS_WERE_MADE_IN_SESSION = concat!(call_columns!(), "session = $8 AND ", call_wishes!());
    WHICH_CALLS_WERE_MADE_IN_RUN = concat!(call_columns!(), "run = $9 AND ", call_wishes!());
    WHICH_CALLS_WERE_MADE_BY_PERSON = concat!(call_columns!(), "person = $4 AND ", call_wishes!());
    WHICH_CALLS_WERE_MADE_FOR_PROJECT = concat!(call_columns!(), "project = $5 AND ", call_wishes!());
    WHICH_CALLS_WERE_MADE_TO_MODEL = concat!(call_columns!(), "model = $6 AND ", call_wishes!());
    WHICH_CALLS_WERE_MADE_BY_CLIENT = concat!(call_columns!(), "client = $10 AND ", call_wishes!());
    WHICH_CALLS_WERE_MADE_TO_PROVIDER = concat!(call_columns!(), "provider = $7 AND ", call_wishes!());
    WHICH_CALLS_ENDED_SO = concat!(call_columns!(), "status = $11 AND ", call_wishes!());
    BEGIN_SESSION = "INSERT INTO call_sessions (session, run, project, person, client, calls, turns, tokens, cost, first_at, \
                     last_at, first_call) VALUES ($1, $2, $3, $4, $5, 0, 0, 0, 0, $6, $6, $7) ON CONFLICT DO NOTHING";
    COUNT_CALL_IN_SESSION = "UPDATE call_sessions SET calls = calls + 1, \
                             turns = CASE WHEN turns < $3 THEN $3 ELSE turns END, last_at = $4 \
                             WHERE session = $1 AND run = $2";
    COUNT_COST_IN_SESSION = "UPDATE call_sessions SET tokens = tokens + $3, cost = cost + $4, last_at = $5 \
                             WHERE session = $1 AND run = $2";
    WHICH_SESSIONS_WERE_THERE = concat!(session_columns!(), session_wishes!());
    WHICH_SESSIONS_HAD_THIS_PERSON = concat!(session_columns!(), "person = $3 AND ", session_wishes!());
    WHICH_SESSIONS_HAD_THIS_PROJECT = concat!(session_columns!(), "project = $4 AND ", session_wishes!());
    COUNT_IN_DAY = "INSERT INTO call_days (day, person, project, model, provider, client, calls, input_tokens, \
                    output_tokens, cost) VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9) \
                    ON CONFLICT (day, person, project, model, provider, client) DO UPDATE SET \
                    calls = call_days.calls + 1, input_tokens = call_days.input_tokens + $7, \
                    output_tokens = call_days.output_tokens + $8, cost = call_days.cost + $9";
    TOTALS_BY_PERSON = totals_by!("person");
    TOTALS_BY_PROJECT = totals_by!("project");
    TOTALS_BY_MODEL = totals_by!("model");
    TOTALS_BY_PROVIDER = totals_by!("provider");
    TOTALS_BY_CLIENT = totals_by!("client");
    TOTALS_BY_DAY = totals_by!("CAST(day AS TEXT)");
}

/// The most rows of one answer of [`totals`].
pub const MAX_TOTALS: u32 = 1_000;

/// The longest text of a public circumstance that is kept, in bytes.
const MAX_TEXT: usize = 200;

const DAY_US: i64 = 86_400_000_000;

/// A model call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub id: ModelCallId,
    /// The record that opened it.
    pub opened: RecordId,
    /// The record that closed it.
    pub closed: Option<RecordId>,
    /// Whose gateway made it.
    pub runner: RunnerId,
    /// For which run.
    pub run: RunId,
    /// For which project.
    pub project: Option<ProjectId>,
    /// The project's repository at that time.
    pub repository: String,
    /// The person behind it.
    pub person: Option<UserId>,
    /// The name that was asked for.
    pub model: String,
    /// The exact version.
    pub upstream: String,
    /// Who served it.
    pub provider: String,
    /// How the client spoke.
    pub dialect: String,
    /// The client's program and version.
    pub client: String,
    /// The client's session; empty if it names none.
    pub session: String,
    /// How many messages the conversation had.
    pub turn: u64,
    /// `open`, `ok`, `error`, `cancelled`, `unknown` or `refused`.
    pub status: String,
    /// A fixed word that says more.
    pub code: Option<String>,
    /// What it used.
    pub input_tokens: u64,
    /// What came back.
    pub output_tokens: u64,
    /// Read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Written to it.
    pub cache_write_tokens: u64,
    /// What it cost.
    pub cost: Nanos,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, once it is over.
    pub duration_ms: Option<u64>,
}

/// Which calls.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// Only of this person.
    pub person: Option<UserId>,
    /// Only for this project.
    pub project: Option<ProjectId>,
    /// Only with this name of a model.
    pub model: Option<String>,
    /// Only by this provider.
    pub provider: Option<String>,
    /// Only of this session.
    pub session: Option<String>,
    /// Only for this run.
    pub run: Option<RunId>,
    /// Only from this client.
    pub client: Option<String>,
    /// Only those that ended so.
    pub status: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// The calls of one agent session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The client's session.
    pub session: String,
    /// The run it belongs to.
    pub run: RunId,
    /// For which project.
    pub project: Option<ProjectId>,
    /// The person behind it.
    pub person: Option<UserId>,
    /// The client's program and version.
    pub client: String,
    /// How many calls.
    pub calls: u64,
    /// The most messages that a conversation of it had.
    pub turns: u64,
    /// Tokens of all kinds.
    pub tokens: u64,
    /// What it cost.
    pub cost: Nanos,
    /// When its first call began.
    pub first_at: Timestamp,
    /// When something of it was last heard.
    pub last_at: Timestamp,
}

/// By what totals are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TotalsBy {
    /// By person.
    Person,
    /// By project.
    Project,
    /// By the model's name.
    Model,
    /// By provider.
    Provider,
    /// By client.
    Client,
    /// By day (UTC).
    Day,
}

/// Calls of one kind, summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Whose: an identifier, a name, or the day as microseconds since 1970.
    pub what: String,
    /// How many.
    pub calls: u64,
    /// Tokens in, those of caches too.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// What they cost.
    pub cost: Nanos,
}

/// One call.
pub async fn get(tx: &mut Tx, id: ModelCallId) -> Result<Call> {
    let row = tx.maybe(ask!(WHICH_CALL_IS_THIS, id)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("call", id))?)
}

/// Calls, newest first.
pub async fn list(tx: &mut Tx, filter: &CallFilter, page: &Page) -> Result<Paged<Call>> {
    let sql = if filter.session.is_some() {
        WHICH_CALLS_WERE_MADE_IN_SESSION
    } else if filter.run.is_some() {
        WHICH_CALLS_WERE_MADE_IN_RUN
    } else if filter.person.is_some() {
        WHICH_CALLS_WERE_MADE_BY_PERSON
    } else if filter.project.is_some() {
        WHICH_CALLS_WERE_MADE_FOR_PROJECT
    } else if filter.model.is_some() {
        WHICH_CALLS_WERE_MADE_TO_MODEL
    } else if filter.client.is_some() {
        WHICH_CALLS_WERE_MADE_BY_CLIENT
    } else if filter.status.is_some() {
        WHICH_CALLS_ENDED_SO
    } else if filter.provider.is_some() {
        WHICH_CALLS_WERE_MADE_TO_PROVIDER
    } else {
        WHICH_CALLS_WERE_MADE
    };
    // Identifiers begin with the time of the call: a span of time is a span of identifiers.
    let until = filter.until.map_or_else(|| "zzzzzzzz".to_owned(), first_at);
    let ask = ask!(
        sql,
        page.before()?.min(&until),
        page.fetch(),
        filter.since.map(first_at).unwrap_or_default(),
        filter.person,
        filter.project,
        filter.model.as_deref(),
        filter.provider.as_deref(),
        filter.session.as_deref(),
        filter.run,
        filter.client.as_deref(),
        filter.status.as_deref()
    );
    let rows = tx.all_planned_anew(ask).await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_>>()?, |call| call.id.to_string()))
}

/// Sessions, the one that began last first. Time means those that were at work within it; of the filter, model, provider and
/// status are not looked at, because a session has many.
pub async fn sessions(tx: &mut Tx, filter: &CallFilter, page: &Page) -> Result<Paged<Session>> {
    let sql = match (filter.person, filter.project) {
        (Some(_), _) => WHICH_SESSIONS_HAD_THIS_PERSON,
        (None, Some(_)) => WHICH_SESSIONS_HAD_THIS_PROJECT,
        (None, None) => WHICH_SESSIONS_WERE_THERE,
    };
    let ask = ask!(
        sql,
        page.before()?,
        page.fetch(),
        filter.person,
        filter.project,
        filter.session.as_deref(),
        filter.run,
        filter.client.as_deref(),
        filter.since.map_or(i64::MIN, |since| since.0),
        filter.until.map_or(i64::MAX, |until| until.0)
    );
    let rows = tx.all_planned_anew(ask).await?;
    let found = rows.iter().map(|row| Ok((row.text("first_call")?, read_session(row)?))).collect::<Result<Vec<_>>>()?;
    let cut = page.cut(found, |(first, _)| first.clone());
    Ok(Paged { items: cut.items.into_iter().map(|(_, session)| session).collect(), next_cursor: cut.next_cursor })
}

/// Calls that are over, summed, the most expensive first. Time is taken in whole days (UTC); of the filter, session, run and
/// status are not looked at.
pub async fn totals(tx: &mut Tx, by: TotalsBy, filter: &CallFilter) -> Result<Vec<Total>> {
    let sql = match by {
        TotalsBy::Person => TOTALS_BY_PERSON,
        TotalsBy::Project => TOTALS_BY_PROJECT,
        TotalsBy::Model => TOTALS_BY_MODEL,
        TotalsBy::Provider => TOTALS_BY_PROVIDER,
        TotalsBy::Client => TOTALS_BY_CLIENT,
        TotalsBy::Day => TOTALS_BY_DAY,
    };
    let ask = ask!(
        sql,
        filter.since.map_or(i64::MIN, day_of),
        filter.until.map_or(i64::MAX, |until| day_of(Timestamp(until.0.saturating_sub(1)))),
        filter.person,
        filter.project,
        filter.model.as_deref(),
        filter.provider.as_deref(),
        filter.client.as_deref(),
        MAX_TOTALS
    );
    let rows = tx.all(ask).await?;
    rows.iter()
        .map(|row| {
            Ok(Total {
                what: row.text("what")?,
                calls: row.count("calls")?,
                input_tokens: row.count("input_tokens")?,
                output_tokens: row.count("output_tokens")?,
                cost: row.nanos("cost")?,
            })
        })
        .collect()
}

/// A runner's record has come in: what it says of a model call is noted.
pub(crate) async fn note(tx: &mut Tx, runner: RunnerId, record: &Record) -> Result<()> {
    match &record.body {
        Body::Open { deed, .. } if deed.action == Action::ModelCall => {
            begun(tx, runner, record, deed, "open", None).await
        }
        Body::Refused { deed, decision, .. } if deed.action == Action::ModelCall => {
            // By what: a policy, a content rule, or the gateway itself (`gateway:…`).
            let by = decision.policies.first().map(|policy| policy.id.as_str());
            begun(tx, runner, record, deed, "refused", by).await
        }
        Body::Close { of, outcome, usage, cost, .. } => {
            let status = match outcome.status {
                Status::Ok => "ok",
                Status::Error => "error",
                Status::Unknown => "unknown",
                Status::Cancelled => "cancelled",
            };
            let cost = cost.unwrap_or_default();
            ended(tx, record, *of, status, outcome.code.as_deref(), usage.unwrap_or_default(), cost).await
        }
        Body::Note { code, facts, .. } if UNPAID.contains(&code.as_str()) => {
            unpaid(tx, runner, record, code, facts).await
        }
        Body::Asked { .. } | Body::Note { .. } | Body::Open { .. } | Body::Refused { .. } => Ok(()),
    }
}

/// A call for which there was no money: policy had allowed it, so a note tells of it and no deed.
async fn unpaid(
    tx: &mut Tx,
    runner: RunnerId,
    record: &Record,
    code: &str,
    facts: &BTreeMap<String, ContextValue>,
) -> Result<()> {
    let fact = Facts { all: facts, max_text: MAX_TEXT };
    let (Some(id), Some(run)) = (fact.text("call").parse::<ModelCallId>().ok(), record.run) else { return Ok(()) };
    let run = match runs::get(tx, run).await {
        Err(StoreError::NotFound { .. }) => return Ok(()),
        run => run?,
    };
    let ask = ask!(
        ADD_CALL,
        id,
        record.id,
        runner,
        run.id,
        run.project,
        run.owner,
        fact.text("model"),
        "",
        "",
        "",
        fact.text("client"),
        fact.text("session"),
        0_i64,
        "refused",
        record.at,
        cut(code)
    );
    tx.run(ask).await.map(drop)
}

async fn begun(
    tx: &mut Tx,
    runner: RunnerId,
    record: &Record,
    deed: &DeedFacts,
    status: &str,
    code: Option<&str>,
) -> Result<()> {
    let fact = Facts { all: &deed.context, max_text: MAX_TEXT };
    // A call without a name of its own, or for no run, is none that a gateway of ours has made.
    let (Some(id), Some(run)) = (fact.text("call").parse::<ModelCallId>().ok(), record.run) else { return Ok(()) };
    let person = deed.principal.person();
    let model = if fact.text("model").is_empty() { cut(&deed.resource.id) } else { fact.text("model") };
    let (client, session, turn) = (fact.text("client"), fact.text("session"), fact.count("turn"));
    let (client, session) = (&*client, &*session);
    let ask = ask!(
        ADD_CALL,
        id,
        record.id,
        runner,
        run,
        record.project,
        person,
        model,
        fact.text("upstream"),
        fact.text("provider"),
        fact.text("dialect"),
        client,
        session,
        turn,
        status,
        record.at,
        code.map(cut)
    );
    if tx.run(ask).await? == 0 || status == "refused" || session.is_empty() {
        return Ok(());
    }
    tx.run(ask!(BEGIN_SESSION, session, run, record.project, person, client, record.at, id)).await?;
    tx.run(ask!(COUNT_CALL_IN_SESSION, session, run, turn, record.at)).await.map(drop)
}

async fn ended(
    tx: &mut Tx,
    record: &Record,
    opened: RecordId,
    status: &str,
    code: Option<&str>,
    usage: Usage,
    cost: Nanos,
) -> Result<()> {
    let Some(row) = tx.maybe(ask!(WHICH_CALL_WAS_OPENED_BY_THIS, opened)).await? else { return Ok(()) };
    let call = read(&row)?;
    let written = usage.cache_write_5m_tokens.saturating_add(usage.cache_write_1h_tokens);
    let ask = ask!(
        END_CALL,
        opened,
        record.id,
        status,
        code.map(cut),
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        written,
        cost,
        record.at.ms_since(call.started_at)
    );
    if tx.run(ask).await? == 0 {
        return Ok(());
    }
    let input = usage.input_tokens.saturating_add(usage.cache_read_tokens).saturating_add(written);
    if !call.session.is_empty() {
        let tokens = input.saturating_add(usage.output_tokens);
        tx.run(ask!(COUNT_COST_IN_SESSION, &call.session, call.run, tokens, cost, record.at)).await?;
    }
    let text = |id: Option<String>| id.unwrap_or_default();
    let ask = ask!(
        COUNT_IN_DAY,
        day_of(call.started_at),
        text(call.person.map(|id| id.to_string())),
        text(call.project.map(|id| id.to_string())),
        &call.model,
        &call.provider,
        &call.client,
        input,
        usage.output_tokens,
        cost
    );
    tx.run(ask).await?;
    // Runs with an agent of ours tell their spending as events; nobody tells that of a personal run.
    match runs::get(tx, call.run).await {
        Ok(run) if run.kind == RunKind::Personal => runs::add_spent(tx, call.run, cost, usage).await,
        Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn cut(text: &str) -> Cow<'_, str> {
    facts::cut(text, MAX_TEXT)
}

fn first_at(at: Timestamp) -> String {
    let id: ModelCallId = Id::from_parts(at.unix_ms(), [0; 10]);
    id.to_string()
}

const fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(DAY_US).saturating_mul(DAY_US)
}

fn read(row: &Row) -> Result<Call> {
    Ok(Call {
        id: row.word("id")?,
        opened: row.word("opened")?,
        closed: row.maybe_word("closed")?,
        runner: row.word("runner")?,
        run: row.word("run")?,
        project: row.maybe_word("project")?,
        repository: row.text("repository")?,
        person: row.maybe_word("person")?,
        model: row.text("model")?,
        upstream: row.text("upstream")?,
        provider: row.text("provider")?,
        dialect: row.text("dialect")?,
        client: row.text("client")?,
        session: row.text("session")?,
        turn: row.count("turn")?,
        status: row.text("status")?,
        code: row.maybe_text("code")?,
        input_tokens: row.count("input_tokens")?,
        output_tokens: row.count("output_tokens")?,
        cache_read_tokens: row.count("cache_read_tokens")?,
        cache_write_tokens: row.count("cache_write_tokens")?,
        cost: row.nanos("cost")?,
        started_at: row.at("started_at")?,
        duration_ms: row.maybe_int("duration_ms")?.map(i64::unsigned_abs),
    })
}

fn read_session(row: &Row) -> Result<Session> {
    Ok(Session {
        session: row.text("session")?,
        run: row.word("run")?,
        project: row.maybe_word("project")?,
        person: row.maybe_word("person")?,
        client: row.text("client")?,
        calls: row.count("calls")?,
        turns: row.count("turns")?,
        tokens: row.count("tokens")?,
        cost: row.nanos("cost")?,
        first_at: row.at("first_at")?,
        last_at: row.at("last_at")?,
    })
}

#[cfg(test)]
mod plans;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, sql::Ask};

    /// If you are here because this failed: with a million calls, that question would read all of them. It needs an index
    /// whose first column it names.
    #[tokio::test]
    async fn no_question_reads_every_call() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", folder.path().join("calls.db").display())).await.unwrap();
        let mut tx = store.read().await.unwrap();
        let questions: Vec<_> = STATEMENTS.iter().filter(|(_, sql)| sql.starts_with("SELECT")).collect();
        assert!(questions.len() > 15, "{questions:?}");
        for (name, sql) in questions {
            let sql = Box::leak(format!("EXPLAIN QUERY PLAN {sql}").into_boxed_str());
            let plan = tx.all(Ask { sql, values: Vec::new() }).await.unwrap();
            let steps: Vec<String> = plan.iter().map(|row| row.text("detail").unwrap()).collect();
            assert!(steps.iter().any(|step| step.starts_with("SEARCH call")), "{name}: {steps:?}");
            assert!(!steps.iter().any(|step| step.starts_with("SCAN")), "{name}: {steps:?}");
        }
    }
}
