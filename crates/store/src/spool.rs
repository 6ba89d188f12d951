//! The intake of runners' spools: every entry exactly once, in order, without gaps.

use std::collections::{BTreeMap, BTreeSet};

use stockade_domain::{
    ContentRef, EnvironmentEvent, EventKind, MAX_CLASS_NAME, Nanos, RunEvent, Timestamp,
    ids::{EnvironmentId, ModelCallId, RunId, RunnerId, SliceId},
};
use stockade_ledger::{Producer, Record};

use crate::{
    Result, StoreError, Tx,
    approvals::{self, Approval, ApprovalState},
    budgets, calls, connections, contents, environments, events, leases,
    records::{self, OpenLedger},
    runs::{self, Change, Order},
    sql::{Row, ask, json, statements},
};

statements! {
    MAKE_SPOOL = "INSERT INTO spools (runner, next) VALUES ($1, 0) ON CONFLICT DO NOTHING";
    LOCK_SPOOL = "UPDATE spools SET next = next WHERE runner = $1";
    WHICH_POSITION_COMES_NEXT = "SELECT next FROM spools WHERE runner = $1";
    ADVANCE_SPOOL = "UPDATE spools SET next = $2 WHERE runner = $1";
    KEEP_REFUSAL = "INSERT INTO refusals (runner, position, run, why, entry, created_at) \
                    VALUES ($1, $2, $3, $4, $5, $6)";
    WHAT_WAS_REFUSED = "SELECT runner, position, run, why, created_at FROM refusals \
                        ORDER BY created_at DESC, runner, position DESC LIMIT $1";
    DID_THIS_RUNNER_EVER_HAVE_THIS_RUN = "SELECT id FROM environments WHERE run = $1 AND runner = $2 \
        UNION ALL SELECT r.id FROM runs r JOIN runners n ON n.site = r.site WHERE r.id = $1 AND n.id = $2 \
        AND r.kind = 'personal' LIMIT 1";
}

/// The most entries of one shipment.
pub const MAX_ENTRIES: usize = 1_000;

/// One line of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A ledger record.
    Record {
        /// Its canonical bytes.
        canonical: String,
    },
    /// A sealed piece of content.
    Content {
        /// Its run.
        run: RunId,
        /// What it is.
        content: ContentRef,
        /// The sealed bytes.
        sealed: Vec<u8>,
    },
    /// A line of a run.
    Event {
        /// The fence of the lease under which it happened.
        fence: u64,
        /// The line.
        line: RunEvent,
    },
    /// Spending.
    Budget(BudgetEntry),
}

/// What a runner did with leased money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetEntry {
    /// A slice has arrived.
    Leased {
        /// Which.
        slice: SliceId,
        /// For which run.
        run: RunId,
        /// How much.
        amount: Nanos,
    },
    /// Money is set aside for a call.
    Reserved {
        /// Of which slice.
        slice: SliceId,
        /// For which call.
        call: ModelCallId,
        /// How much.
        amount: Nanos,
    },
    /// The call is over.
    Settled {
        /// Of which slice.
        slice: SliceId,
        /// Which call.
        call: ModelCallId,
        /// How much was spent.
        spent: Nanos,
    },
    /// What is left goes back.
    Returned {
        /// Of which slice.
        slice: SliceId,
        /// How much.
        amount: Nanos,
    },
}

/// What came of a shipment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ingested {
    /// The position that is expected next.
    pub next: u64,
    /// How many entries were new.
    pub taken: u64,
    /// How many of those were kept as refused and not applied (stale fence, unknown run, not allowed in this state).
    pub refused: u64,
    /// Runs that have new events: whoever waits for them may be woken.
    pub runs: Vec<RunId>,
}

/// An entry that was kept but not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whose.
    pub runner: RunnerId,
    /// Where in its spool.
    pub position: u64,
    /// Of which run.
    pub run: Option<RunId>,
    /// Why: a fixed word and, after a colon, which.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// Takes the next entries of a runner's spool. What is there already is passed over; if `first` is beyond what is
/// expected, nothing is taken and `next` says where to begin. An entry that no server can ever take (a record out of
/// order, not canonical, or of another producer) is `BadEntry` and nothing of the shipment is taken.
pub async fn ingest(tx: &mut Tx, runner: RunnerId, first: u64, entries: &[Entry], now: Timestamp) -> Result<Ingested> {
    if entries.len() > MAX_ENTRIES {
        let why = format!("{} entries are too many: at most {MAX_ENTRIES} are taken at once", entries.len());
        return Err(StoreError::Invalid { what: "shipment", why });
    }
    tx.run(ask!(MAKE_SPOOL, runner)).await?;
    tx.run(ask!(LOCK_SPOOL, runner)).await?;
    let mut intake = Intake {
        runner,
        now,
        ledger: None,
        known: BTreeMap::new(),
        runs: BTreeSet::new(),
        done: Ingested { next: next(tx, runner).await?, ..Ingested::default() },
    };
    // A gap: nothing is taken, the answer says where to begin. What is there already is passed over.
    let there = match intake.done.next.checked_sub(first).map(usize::try_from) {
        Some(Ok(there)) if there < entries.len() => there,
        _ => return Ok(intake.done),
    };
    for entry in entries.iter().skip(there) {
        intake.take(tx, entry).await?;
        intake.done.next += 1;
        intake.done.taken += 1;
    }
    if let Some(ledger) = &intake.ledger {
        ledger.keep(tx).await?;
    }
    tx.run(ask!(ADVANCE_SPOOL, runner, intake.done.next)).await?;
    intake.done.runs = intake.runs.into_iter().collect();
    Ok(intake.done)
}

/// The position that is expected next from a runner; 0 at first.
pub async fn next(tx: &mut Tx, runner: RunnerId) -> Result<u64> {
    match tx.maybe(ask!(WHICH_POSITION_COMES_NEXT, runner)).await? {
        Some(row) => row.count("next"),
        None => Ok(0),
    }
}

/// The newest refused entries, at most `limit`.
pub async fn refusals(tx: &mut Tx, limit: u32) -> Result<Vec<Refusal>> {
    tx.all(ask!(WHAT_WAS_REFUSED, limit.min(crate::MAX_PAGE))).await?.iter().map(read).collect()
}

/// The word in the event [`EventKind::Notice`] by which a runner says that it has destroyed its copy of a run's key.
pub const ERASED: &str = "erased";

/// One shipment, under way.
struct Intake {
    runner: RunnerId,
    now: Timestamp,
    ledger: Option<OpenLedger>,
    /// Runs that this runner has, or has not, ever been given.
    known: BTreeMap<RunId, bool>,
    runs: BTreeSet<RunId>,
    done: Ingested,
}

/// Why an entry is kept but not applied: `Ok(())` if it was applied.
type Applied = std::result::Result<(), String>;

impl Intake {
    async fn take(&mut self, tx: &mut Tx, entry: &Entry) -> Result<()> {
        let (run, told, applied) = match entry {
            Entry::Record { canonical } => return self.record(tx, canonical).await,
            Entry::Content { run, content, sealed } => {
                let applied = self.content(tx, *run, *content, sealed).await?;
                (Some(*run), applied.is_err().then(|| json(content)).transpose()?, applied)
            }
            Entry::Event { fence, line } => {
                let applied = self.event(tx, *fence, line).await?;
                (Some(line.run), applied.is_err().then(|| json(line)).transpose()?, applied)
            }
            Entry::Budget(budget) => {
                let applied = self.budget(tx, budget).await?;
                (None, Some(format!("{budget:?}")), applied)
            }
        };
        if let Err(why) = applied {
            tracing::warn!(runner = %self.runner, position = self.done.next, %why, "an entry of a spool was refused");
            let entry = told.unwrap_or_default();
            tx.run(ask!(KEEP_REFUSAL, self.runner, self.done.next, run, why, entry, self.now)).await?;
            self.done.refused += 1;
        }
        Ok(())
    }

    async fn record(&mut self, tx: &mut Tx, canonical: &str) -> Result<()> {
        let (runner, position) = (self.runner, self.done.next);
        let bad = |why: String| StoreError::BadEntry { runner, position, why };
        let record = Record::parse(canonical.as_bytes()).map_err(|error| bad(error.to_string()))?;
        if record.producer != Producer::Runner(runner) {
            return Err(bad(format!("record {} is of another producer, {}", record.id, record.producer)));
        }
        let ledger = match &mut self.ledger {
            Some(ledger) => ledger,
            none => none.insert(records::open(tx, &runner.to_string()).await?),
        };
        if record.seq != ledger.tree.size() {
            let expected = ledger.tree.size();
            return Err(bad(format!("record {} has number {}, expected {expected}", record.id, record.seq)));
        }
        match ledger.add(tx, &record, canonical.to_owned()).await? {
            Some(_) => {
                calls::note(tx, runner, &record).await?;
                connections::note(tx, runner, &record, self.now).await
            }
            None => Err(bad(format!("there is already a record {}", record.id))),
        }
    }

    async fn content(&mut self, tx: &mut Tx, run: RunId, content: ContentRef, sealed: &[u8]) -> Result<Applied> {
        if !self.has_had(tx, run).await? {
            return Ok(Err(format!("unknown_run: {run}")));
        }
        match contents::put(tx, run, content, sealed, self.now).await {
            Ok(()) => Ok(Ok(())),
            Err(StoreError::Invalid { why, .. }) => Ok(Err(format!("bad_content: {why}"))),
            Err(error) => Err(error),
        }
    }

    async fn event(&mut self, tx: &mut Tx, fence: u64, line: &RunEvent) -> Result<Applied> {
        let asks = matches!(&line.event, EventKind::ApprovalRequested { .. } | EventKind::ApprovalAnswered { .. });
        let admitted = leases::admits(tx, self.runner, line.run, fence, self.now).await?
            || asks && leases::admits_question(tx, self.runner, line.run, self.now).await?;
        if !admitted {
            let known = self.has_had(tx, line.run).await?;
            return Ok(Err(if known { format!("stale_fence: {fence}") } else { format!("unknown_run: {}", line.run) }));
        }
        // What the lifecycle, or a thing that is not there, refuses is kept beside, for people to look at.
        match self.apply(tx, line).await {
            Ok(()) => {}
            Err(StoreError::Refused(refused)) => return Ok(Err(format!("not_allowed: {refused}"))),
            Err(error @ StoreError::NotFound { .. }) => return Ok(Err(format!("unknown: {error}"))),
            Err(error) => return Err(error),
        }
        events::append(tx, line.run, line.at, line.event.clone()).await?;
        self.runs.insert(line.run);
        Ok(Ok(()))
    }

    async fn apply(&mut self, tx: &mut Tx, line: &RunEvent) -> Result<()> {
        let run = line.run;
        match &line.event {
            EventKind::State { transition } => runs::swap(tx, run, None, *transition, self.now).await.map(drop),
            EventKind::Environment { environment, observed, generation, class, .. } => {
                self.owns(tx, run, *environment).await?;
                if let Some(class) = class {
                    environments::note_class(tx, *environment, &class.chars().take(MAX_CLASS_NAME).collect::<String>())
                        .await?;
                }
                let event = EnvironmentEvent::Observe { observed: *observed, generation: *generation };
                environments::swap(tx, *environment, event, self.now).await.map(drop)
            }
            EventKind::EnvironmentUsage { environment, usage, cost } => {
                self.owns(tx, run, *environment).await?;
                environments::note_used(tx, *environment, *usage, *cost).await
            }
            EventKind::Turn { turn } => runs::note_turn(tx, run, *turn).await,
            EventKind::ModelCall { usage, cost, .. } => runs::add_spent(tx, run, *cost, *usage).await,
            EventKind::Spent { cost, usage } => {
                runs::note_spent(tx, run, *cost, *usage).await?;
                budgets::told(tx, run, self.runner).await
            }
            EventKind::ApprovalRequested { approval, action, resource, policy, expires_at, content } => {
                let found = runs::get(tx, run).await?;
                let new = Approval {
                    id: *approval,
                    run,
                    project: found.project,
                    owner: found.owner,
                    action: *action,
                    resource: resource.clone(),
                    policy: policy.clone(),
                    content: *content,
                    state: ApprovalState::Pending,
                    requested_at: line.at,
                    expires_at: *expires_at,
                    by: None,
                    answered_at: None,
                    noted_at: None,
                };
                approvals::add(tx, &new).await
            }
            EventKind::ApprovalAnswered { approval, granted } => {
                approvals::note(tx, run, *approval, *granted, self.now).await
            }
            EventKind::Change { branch, commit, base, files, insertions, deletions, diff, .. } => {
                let change = Change {
                    branch: branch.clone(),
                    commit: commit.clone(),
                    base: base.clone(),
                    files: *files,
                    insertions: *insertions,
                    deletions: *deletions,
                    diff: *diff,
                };
                runs::note_change(tx, run, &change).await
            }
            EventKind::Notice { code } if code == ERASED => match runs::get(tx, run).await?.order {
                Some(Order::Erase) => runs::want(tx, run, None, self.now).await,
                _ => Ok(()),
            },
            EventKind::ToolCall { .. }
            | EventKind::InputRequested { .. }
            | EventKind::InputReceived {}
            | EventKind::Gate { .. }
            | EventKind::Executions { .. }
            | EventKind::Compacted { .. }
            | EventKind::Notice { .. } => Ok(()),
        }
    }

    async fn budget(&mut self, tx: &mut Tx, entry: &BudgetEntry) -> Result<Applied> {
        match entry {
            // The server gave the slice and knows; what is set aside within it is the runner's own affair.
            BudgetEntry::Leased { .. } | BudgetEntry::Reserved { .. } => Ok(Ok(())),
            BudgetEntry::Settled { slice, call, spent } => {
                budgets::settle(tx, self.runner, *slice, *call, *spent, self.now).await
            }
            BudgetEntry::Returned { slice, amount } => {
                budgets::give_back(tx, self.runner, *slice, *amount, self.now).await
            }
        }
    }

    async fn has_had(&mut self, tx: &mut Tx, run: RunId) -> Result<bool> {
        if let Some(known) = self.known.get(&run) {
            return Ok(*known);
        }
        let known = tx.maybe(ask!(DID_THIS_RUNNER_EVER_HAVE_THIS_RUN, run, self.runner)).await?.is_some();
        self.known.insert(run, known);
        Ok(known)
    }

    async fn owns(&self, tx: &mut Tx, run: RunId, id: EnvironmentId) -> Result<()> {
        let found = environments::get(tx, id).await?;
        if found.run == run && found.runner == self.runner {
            Ok(())
        } else {
            Err(StoreError::not_found("environment", id))
        }
    }
}

fn read(row: &Row) -> Result<Refusal> {
    Ok(Refusal {
        runner: row.word("runner")?,
        position: row.count("position")?,
        run: row.maybe_word("run")?,
        why: row.text("why")?,
        at: row.at("created_at")?,
    })
}
