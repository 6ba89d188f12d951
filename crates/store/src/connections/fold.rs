//! What a runner's records say of the way out, folded into rows.
//!
//! A record comes in once, and that of an end never before that of its beginning: the intake of spools sees to both.

use std::borrow::Cow;

use stockade_domain::{
    Action, Answer, Decision, ResourceKind, Timestamp,
    ids::{ApprovalId, EnvironmentId, ProjectId, RecordId, RunId, RunnerId},
};
use stockade_ledger::{Body, DeedFacts, Outcome, Record, Status};

use super::{MAX_HOSTS, MAX_ROWS};
use crate::{
    Result, Tx,
    facts::{Facts, cut},
    sql::{ask, statements},
};

statements! {
    // The runner leads no way: a runner has had more environments than a run.
    OUT_OF_WHICH_ENVIRONMENT = "SELECT MAX(e.id) AS id FROM environments e JOIN runs r ON r.id = e.run \
                                WHERE e.run = $1 AND COALESCE(e.runner, '') = $2 AND r.erased_at IS NULL";
    COUNT_CONNECTION = "INSERT INTO connection_sums (run, action, decision, times, left_out, hosts, bytes_out, bytes_in, \
                        first_at, last_at) VALUES ($1, $2, $3, 1, $4, 0, 0, 0, $5, $5) \
                        ON CONFLICT (run, action, decision) DO UPDATE SET times = connection_sums.times + 1, \
                        left_out = connection_sums.left_out + $4, last_at = $5 RETURNING times, hosts";
    COUNT_CONNECTION_TO_HOST = "UPDATE connection_hosts SET times = times + 1, left_out = left_out + $6, last_at = $7 \
        WHERE run = $1 AND action = $2 AND decision = $3 AND host = $4 AND port = $5";
    COUNT_FIRST_CONNECTION_TO_HOST = "INSERT INTO connection_hosts (run, action, decision, host, port, times, left_out, \
        bytes_out, bytes_in, first_at, last_at) VALUES ($1, $2, $3, $4, $5, 1, $6, 0, 0, $7, $7)";
    COUNT_HOST = "UPDATE connection_sums SET hosts = hosts + 1 WHERE run = $1 AND action = $2 AND decision = $3";
    ADD_CONNECTION = "INSERT INTO connections (id, parent, runner, run, project, environment, action, host, port, protocol, \
                      inspected, method, upgrade, repository, ref, credential, decision, policy, title, approval, status, \
                      bytes_out, bytes_in, left_out, notable, opened_at, closed_at, noted_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
                      $21, 0, 0, $22, $23, $24, $25, $26) ON CONFLICT DO NOTHING";
    END_QUESTION = "UPDATE connections SET status = $2, closed_at = $3, noted_at = $4 \
                    WHERE approval = $1 AND status = 'asked'";
    END_CONNECTION = "UPDATE connections SET closed = $3, status = $4, code = $5, http_status = $6, bytes_out = $7, \
                      bytes_in = $8, address = $9, closed_at = $10, noted_at = $11 \
                      WHERE id = $1 AND runner = $2 AND status = 'open' RETURNING run, action, decision, host, port";
    ADD_BYTES = "UPDATE connection_sums SET bytes_out = bytes_out + $4, bytes_in = bytes_in + $5 \
                 WHERE run = $1 AND action = $2 AND decision = $3";
    ADD_BYTES_TO_HOST = "UPDATE connection_hosts SET bytes_out = bytes_out + $6, bytes_in = bytes_in + $7 \
                         WHERE run = $1 AND action = $2 AND decision = $3 AND host = $4 AND port = $5";
}

/// The longest text that is kept, in bytes: names of hosts and refs are shorter.
const MAX_TEXT: usize = 300;
/// The most bytes of one connection that are summed, and the most refusals that one says were left out: so that no sum of
/// [`MAX_ROWS`] ever leaves its column.
const MAX_COUNT: i64 = 1 << 47;

/// The notes that tell of what went nowhere.
const NOWHERE: [&str; 3] = ["packet_nowhere", "names_crowded", "names_full"];

/// What a row says when it begins. The rest is put to it by its end.
struct Row<'a> {
    id: RecordId,
    runner: RunnerId,
    run: RunId,
    project: Option<ProjectId>,
    at: Timestamp,
    noted_at: Timestamp,
    action: &'a str,
    decision: Answer,
    status: &'a str,
    host: Cow<'a, str>,
    port: Option<i64>,
    protocol: Option<Cow<'a, str>>,
    policy: Option<Cow<'a, str>>,
    title: Option<Cow<'a, str>>,
    approval: Option<ApprovalId>,
    deed: Option<&'a DeedFacts>,
    left_out: i64,
}

/// A runner's record has come in: what it says of the way out is noted.
pub(crate) async fn note(tx: &mut Tx, runner: RunnerId, record: &Record, now: Timestamp) -> Result<()> {
    let (deed, decision, status) = match &record.body {
        Body::Open { deed, decision, .. } => (deed, decision, "open"),
        Body::Refused { deed, decision, .. } => (deed, decision, "refused"),
        Body::Asked { deed, decision, approval, .. } => {
            let asked =
                |run| Row { approval: Some(*approval), ..of_deed(runner, run, record, deed, decision, "asked", now) };
            return match record.run.filter(|_| goes_out(deed.action)) {
                Some(run) => begun(tx, asked(run)).await,
                None => Ok(()),
            };
        }
        Body::Close { of, outcome, facts, .. } => {
            let facts = Facts { all: facts, max_text: MAX_TEXT };
            return ended(tx, runner, record, *of, outcome, facts, now).await;
        }
        Body::Note { code, facts, .. } if NOWHERE.contains(&code.as_str()) => {
            let facts = Facts { all: facts, max_text: MAX_TEXT };
            return match record.run {
                Some(run) => begun(tx, of_note(runner, run, record, code, facts, now)).await,
                None => Ok(()),
            };
        }
        Body::Note { .. } => return Ok(()),
    };
    let Some(run) = record.run.filter(|_| goes_out(deed.action)) else { return Ok(()) };
    if let Some(approval) = decision.approval {
        let said = if status == "open" { "granted" } else { "refused" };
        tx.run(ask!(END_QUESTION, approval, said, record.at, now)).await?;
    }
    begun(tx, of_deed(runner, run, record, deed, decision, status, now)).await
}

const fn goes_out(action: Action) -> bool {
    matches!(
        action,
        Action::ConnectionOpen | Action::RequestSend | Action::CredentialUse | Action::GitFetch | Action::GitPush
    )
}

fn of_deed<'a>(
    runner: RunnerId,
    run: RunId,
    record: &Record,
    deed: &'a DeedFacts,
    decision: &'a Decision,
    status: &'a str,
    now: Timestamp,
) -> Row<'a> {
    let facts = facts_of(deed);
    let id = cut(&deed.resource.id, MAX_TEXT);
    let host = match deed.resource.kind {
        ResourceKind::Host => id,
        // A repository's identifier begins with its host.
        ResourceKind::Repository => {
            facts.maybe_text("host").unwrap_or_else(|| match deed.resource.id.split_once('/') {
                Some((host, _)) => cut(host, MAX_TEXT),
                None => id,
            })
        }
        _ => facts.text("host"),
    };
    let policy = decision.policies.first();
    Row {
        id: record.id,
        runner,
        run,
        project: record.project,
        at: record.at,
        noted_at: now,
        action: deed.action.as_str(),
        decision: decision.answer,
        status,
        host,
        port: facts.maybe_long("port"),
        protocol: facts.maybe_text("protocol"),
        policy: policy.map(|policy| cut(&policy.id, MAX_TEXT)),
        title: policy.map(|policy| cut(&policy.title, MAX_TEXT)),
        approval: decision.approval,
        deed: Some(deed),
        left_out: facts.count("left_out").min(MAX_COUNT),
    }
}

/// What goes nowhere is told once of a kind, as a note; nobody was asked, so no policy is named.
fn of_note<'a>(
    runner: RunnerId,
    run: RunId,
    record: &Record,
    code: &'a str,
    facts: Facts<'a>,
    now: Timestamp,
) -> Row<'a> {
    let protocol = facts.maybe_long("protocol").map(|number| match number {
        1 => Cow::Borrowed("icmp"),
        6 => Cow::Borrowed("tcp"),
        17 => Cow::Borrowed("udp"),
        58 => Cow::Borrowed("icmp6"),
        132 => Cow::Borrowed("sctp"),
        other => Cow::Owned(other.to_string()),
    });
    Row {
        id: record.id,
        runner,
        run,
        project: record.project,
        at: record.at,
        noted_at: now,
        action: code,
        decision: Answer::Deny,
        status: "refused",
        host: facts.maybe_text("to").or_else(|| facts.maybe_text("below")).unwrap_or_default(),
        port: facts.maybe_long("port"),
        protocol,
        policy: None,
        title: None,
        approval: None,
        deed: None,
        left_out: 0,
    }
}

const fn facts_of(deed: &DeedFacts) -> Facts<'_> {
    Facts { all: &deed.context, max_text: MAX_TEXT }
}

async fn begun(tx: &mut Tx, row: Row<'_>) -> Result<()> {
    // Of a run that this runner never had an environment of, or that was erased, nothing is kept.
    let found = tx.maybe(ask!(OUT_OF_WHICH_ENVIRONMENT, row.run, row.runner)).await?;
    let found = found.map(|row| row.maybe_word("id")).transpose()?.flatten();
    let Some::<EnvironmentId>(environment) = found else { return Ok(()) };
    let (decision, port) = (row.decision.as_str(), row.port.unwrap_or_default());
    let counted = tx.maybe(ask!(COUNT_CONNECTION, row.run, row.action, decision, row.left_out, row.at)).await?;
    let (times, hosts) = match counted {
        Some(row) => (row.int("times")?, row.int("hosts")?),
        None => (0, 0),
    };
    let host = &*row.host;
    let again = ask!(COUNT_CONNECTION_TO_HOST, row.run, row.action, decision, host, port, row.left_out, row.at);
    let first = tx.run(again).await? == 0 && hosts < MAX_HOSTS;
    if first {
        let count =
            ask!(COUNT_FIRST_CONNECTION_TO_HOST, row.run, row.action, decision, host, port, row.left_out, row.at);
        tx.run(count).await?;
        tx.run(ask!(COUNT_HOST, row.run, row.action, decision)).await?;
    }
    if times > MAX_ROWS {
        return Ok(());
    }
    // A request to a new host came on a connection to it, which is told.
    let notable = row.decision != Answer::Allow
        || row.action == Action::GitPush.as_str()
        || first && row.action != Action::RequestSend.as_str();
    let facts = row.deed.map(facts_of);
    let text = |name: &str| facts.and_then(|facts| facts.maybe_text(name));
    let named = |kind| row.deed.filter(|deed| deed.resource.kind == kind).map(|deed| cut(&deed.resource.id, MAX_TEXT));
    let ask = ask!(
        ADD_CONNECTION,
        row.id,
        text("connection").and_then(|id| id.parse::<RecordId>().ok()),
        row.runner,
        row.run,
        row.project,
        environment,
        row.action,
        host,
        row.port,
        row.protocol.as_deref(),
        facts.and_then(|facts| facts.maybe_bool("inspected")),
        text("method").as_deref(),
        text("upgrade").as_deref(),
        named(ResourceKind::Repository).as_deref(),
        text("ref").as_deref(),
        named(ResourceKind::Credential).as_deref(),
        decision,
        row.policy.as_deref(),
        row.title.as_deref(),
        row.approval,
        row.status,
        row.left_out,
        notable,
        row.at,
        (row.status == "refused").then_some(row.at),
        row.noted_at
    );
    tx.run(ask).await.map(drop)
}

async fn ended(
    tx: &mut Tx,
    runner: RunnerId,
    record: &Record,
    opened: RecordId,
    outcome: &Outcome,
    facts: Facts<'_>,
    now: Timestamp,
) -> Result<()> {
    let status = match outcome.status {
        Status::Ok => "ok",
        Status::Error => "error",
        Status::Unknown => "unknown",
        Status::Cancelled => "cancelled",
    };
    let (out, back) = (facts.count("bytes_out").min(MAX_COUNT), facts.count("bytes_in").min(MAX_COUNT));
    let code = outcome.code.as_deref().map(|code| cut(code, MAX_TEXT));
    let http_status = facts.maybe_long("status").filter(|status| (100..1_000).contains(status));
    let address = facts.maybe_text("address");
    let ask = ask!(
        END_CONNECTION,
        opened,
        runner,
        record.id,
        status,
        code.as_deref(),
        http_status,
        out,
        back,
        address.as_deref(),
        record.at,
        now
    );
    let Some(row) = tx.maybe(ask).await? else { return Ok(()) };
    if (out, back) == (0, 0) {
        return Ok(());
    }
    let (run, action, decision) = (row.text("run")?, row.text("action")?, row.text("decision")?);
    tx.run(ask!(ADD_BYTES, &run, &action, &decision, out, back)).await?;
    let (host, port) = (row.text("host")?, row.maybe_int("port")?.unwrap_or_default());
    tx.run(ask!(ADD_BYTES_TO_HOST, &run, &action, &decision, &host, port, out, back)).await.map(drop)
}
