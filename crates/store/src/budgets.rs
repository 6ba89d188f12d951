//! Money. *Invariant:* for every budget, what was spent in the period plus what is leased out never passes the limit:
//! not by concurrency, not by a crash, not by a second server.

use stockade_domain::{
    BudgetScope, Nanos, Period, Refused, RunKind, Timestamp,
    ids::{BudgetId, ModelCallId, RunId, RunnerId, SliceId},
};

use crate::{
    Result, StoreError, Tx, people, runs, sites,
    sql::{Row, ask, statements},
};

macro_rules! budget_columns {
    () => {
        "SELECT id, scope, subject, period, limit_nanos, spent, leased, period_start FROM budgets "
    };
}

/// Which runs a budget is about, by their project, owner and identifier.
macro_rules! of_these_runs {
    () => {
        "(CAST($1 AS TEXT) IS NULL OR r.project = $1) AND (CAST($2 AS TEXT) IS NULL OR r.owner = $2) \
         AND (CAST($3 AS TEXT) IS NULL OR r.id = $3) \
         AND (CAST($4 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM group_members g WHERE g.team = $4 AND g.member = r.owner))"
    };
}

statements! {
    LOCK_THE_MONEY = "UPDATE locks SET version = version + 1 WHERE name = 'money'";
    ADD_BUDGET = "INSERT INTO budgets (id, scope, subject, period, limit_nanos, ceiling, spent, leased, period_start, \
                  created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
    CHANGE_LIMIT = "UPDATE budgets SET limit_nanos = $2, \
                    ceiling = CASE WHEN spent + leased > $2 THEN spent + leased ELSE $2 END WHERE id = $1";
    BEGIN_PERIOD = "UPDATE budgets SET spent = 0, period_start = $2, \
                    ceiling = CASE WHEN leased > limit_nanos THEN leased ELSE limit_nanos END WHERE id = $1";
    KEEP_PERIOD = "INSERT INTO budget_periods (budget, period_start, spent, limit_nanos) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT DO NOTHING";
    WHICH_BUDGET_IS_THIS = concat!(budget_columns!(), "WHERE id = $1");
    WHICH_BUDGET_BOUNDS_THIS = concat!(budget_columns!(), "WHERE scope = $1 AND subject = $2 AND period = $3");
    WHICH_BUDGETS_ARE_THERE = concat!(
        budget_columns!(),
        "WHERE scope NOT IN ('run', 'key') OR subject = $1 ORDER BY scope, subject, period"
    );
    WHICH_BUDGETS_APPLY = concat!(
        budget_columns!(),
        "WHERE (scope = 'organization' AND subject = $1) OR (scope = 'project' AND subject = $2) \
         OR (scope = 'user' AND subject = $3) OR (scope = 'run' AND subject = $4) OR (scope = 'key' AND subject = $4) \
         OR (scope = 'model' AND subject = $5) \
         OR (scope = 'group' AND subject IN (SELECT team FROM group_members WHERE member = $3)) ORDER BY id"
    );
    WHICH_BUDGETS_HAS_THIS_SLICE = "SELECT b.id, b.scope, b.subject, b.period, b.limit_nanos, b.spent, b.leased, \
                                    b.period_start FROM budgets b JOIN slice_budgets s ON s.budget = b.id \
                                    WHERE s.slice = $1 ORDER BY b.id";
    LEASE_FROM_BUDGET = "UPDATE budgets SET leased = leased + $2 \
                         WHERE id = $1 AND spent + leased <= limit_nanos - $2";
    SPEND_FROM_BUDGET = "UPDATE budgets SET spent = spent + $2, leased = leased - $2 WHERE id = $1";
    RETURN_TO_BUDGET = "UPDATE budgets SET leased = leased - $2 WHERE id = $1";
    ADD_SLICE = "INSERT INTO slices (id, run, runner, amount, spent, returned, is_open, told, created_at, model) \
                 VALUES ($1, $2, $3, $4, 0, 0, 1, 0, $5, $6)";
    BIND_SLICE = "INSERT INTO slice_budgets (slice, budget) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    WHICH_SLICE_IS_THIS = "SELECT id, run, runner, amount, spent, returned, model FROM slices WHERE id = $1";
    WHICH_SLICES_ARE_OPEN = concat!(
        "SELECT s.id, s.run, s.runner, s.amount, s.spent, s.returned, s.model FROM slices s JOIN runs r ON r.id = s.run \
         WHERE s.is_open = 1 AND (CAST($5 AS TEXT) IS NULL OR s.model = $5) AND ",
        of_these_runs!()
    );
    WHICH_SLICES_ARE_LEFT_OVER = "SELECT s.id, s.run, s.runner, s.amount, s.spent, s.returned, s.model FROM slices s \
                                  JOIN runs r ON r.id = s.run WHERE s.is_open = 1 AND s.told = 1 \
                                  AND r.state IN ('succeeded', 'failed', 'cancelled', 'expired') ORDER BY s.id LIMIT $1";
    SPEND_FROM_SLICE = "UPDATE slices SET spent = spent + $2, told = 0 WHERE id = $1";
    RETURN_FROM_SLICE = "UPDATE slices SET returned = returned + $2, is_open = $3 WHERE id = $1";
    ALL_SPENDING_IS_TOLD = "UPDATE slices SET told = 1 WHERE run = $1 AND runner = $2 AND is_open = 1";
    ADD_SETTLEMENT = "INSERT INTO settlements (slice, call_id, run, spent, created_at) VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT DO NOTHING";
    WHAT_WAS_SPENT_SINCE = concat!(
        "SELECT CAST(COALESCE(SUM(s.spent), 0) AS BIGINT) AS total FROM settlements s JOIN runs r ON r.id = s.run \
         JOIN slices l ON l.id = s.slice WHERE s.created_at >= $6 AND (CAST($5 AS TEXT) IS NULL OR l.model = $5) AND ",
        of_these_runs!()
    );
}

/// A budget, in its present period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Which.
    pub id: BudgetId,
    /// Whose spending.
    pub scope: BudgetScope,
    /// The identifier of the organization, project, user, group or run, as text; the name of a model.
    pub subject: String,
    /// When it starts again.
    pub period: Period,
    /// The most.
    pub limit: Nanos,
    /// Settled in this period.
    pub spent: Nanos,
    /// With runners, not yet settled.
    pub leased: Nanos,
    /// When this period began (the epoch for `Total`).
    pub period_start: Timestamp,
}

/// What a runner gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// Which slice.
    pub slice: SliceId,
    /// How much: at least `need`, at most `want`; 0 if some budget has not that much left.
    pub amount: Nanos,
    /// If 0: the scope of the budget that is used up.
    pub exhausted: Option<BudgetScope>,
}

/// What a runner asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSlice {
    /// Chosen by the runner: a repeated request gives the same slice.
    pub slice: SliceId,
    /// For which run.
    pub run: RunId,
    /// For calls to the model of this name; empty from a runner that does not say.
    pub model: String,
    /// At least.
    pub need: Nanos,
    /// Conveniently.
    pub want: Nanos,
}

/// Sets the limit of a scope, subject and period; makes the budget if there is none (then `id` is its identifier, and
/// what was already spent and leased in the present period counts). A limit below what is spent holds from now on.
pub async fn set(
    tx: &mut Tx,
    id: BudgetId,
    scope: BudgetScope,
    subject: &str,
    period: Period,
    limit: Nanos,
    now: Timestamp,
) -> Result<Budget> {
    if limit < Nanos::ZERO {
        return Err(StoreError::Invalid { what: "limit", why: "an amount below nothing is no limit".to_owned() });
    }
    lock(tx).await?;
    if let Some(row) = tx.maybe(ask!(WHICH_BUDGET_BOUNDS_THIS, scope.as_str(), subject, period.as_str())).await? {
        let found = roll(tx, read(&row)?, now).await?;
        tx.run(ask!(CHANGE_LIMIT, found.id, limit)).await?;
        return get(tx, found.id, now).await;
    }
    // It is new, but its subject is not: what was spent in this period, and what runners hold, counts.
    let only = |wanted: BudgetScope| (scope == wanted).then_some(subject);
    let (project, owner) = (only(BudgetScope::Project), only(BudgetScope::User));
    let run = only(BudgetScope::Run).or_else(|| only(BudgetScope::Key));
    let (group, model) = (only(BudgetScope::Group), only(BudgetScope::Model));
    let start = period_start(period, now);
    let spent = match tx.maybe(ask!(WHAT_WAS_SPENT_SINCE, project, owner, run, group, model, start)).await? {
        Some(row) => row.nanos("total")?,
        None => Nanos::ZERO,
    };
    let rows = tx.all(ask!(WHICH_SLICES_ARE_OPEN, project, owner, run, group, model)).await?;
    let slices: Vec<Slice> = rows.iter().map(read_slice).collect::<Result<_>>()?;
    let leased: Nanos = slices.iter().map(Slice::left).sum();
    let budget = Budget { id, scope, subject: subject.to_owned(), period, limit, spent, leased, period_start: start };
    insert(tx, &budget, now).await?;
    for slice in slices {
        tx.run(ask!(BIND_SLICE, slice.id, id)).await?;
    }
    Ok(budget)
}

/// One budget. A period that is over shows as new.
pub async fn get(tx: &mut Tx, id: BudgetId, now: Timestamp) -> Result<Budget> {
    let row = tx.maybe(ask!(WHICH_BUDGET_IS_THIS, id)).await?;
    Ok(shown(read(&row.ok_or_else(|| StoreError::not_found("budget", id))?)?, now))
}

/// Budgets; without those of runs unless a run is given.
pub async fn list(tx: &mut Tx, run: Option<RunId>, now: Timestamp) -> Result<Vec<Budget>> {
    let rows = tx.all(ask!(WHICH_BUDGETS_ARE_THERE, run)).await?;
    rows.iter().map(|row| Ok(shown(read(row)?, now))).collect()
}

/// Leases money for a run to the runner that it is placed on (`NoLease` otherwise), from every budget that applies at
/// once. Idempotent by `slice`.
pub async fn lease_slice(tx: &mut Tx, runner: RunnerId, ask: &LeaseSlice, now: Timestamp) -> Result<Leased> {
    let need = ask.need.max(Nanos(1));
    if ask.need < Nanos::ZERO || ask.want < need {
        let why = format!("{} at least and {} at most makes no sense", ask.need, ask.want);
        return Err(StoreError::Invalid { what: "slice", why });
    }
    lock(tx).await?;
    let run = runs::get(tx, ask.run).await?;
    let may = match run.kind {
        RunKind::Task => run.runner == Some(runner),
        // Nobody places it: whoever of its site is called serves it.
        RunKind::Personal => sites::runner(tx, runner).await?.site == run.site,
    };
    if !may {
        return Err(StoreError::NoLease { run: ask.run, runner });
    }
    if let Some(row) = tx.maybe(ask!(WHICH_SLICE_IS_THIS, ask.slice)).await? {
        let slice = read_slice(&row)?;
        if slice.run != ask.run || slice.runner != runner || slice.model != ask.model {
            return Err(StoreError::exists("slice", ask.slice));
        }
        // What was spent of it or went back is not given a second time.
        return Ok(Leased { slice: ask.slice, amount: slice.left(), exhausted: None });
    }
    if run.state.is_final() {
        return Err(Refused { what: "a run", event: "lease money".to_owned(), state: run.state.to_string() }.into());
    }
    let organization = people::installation(tx).await?.map(|found| found.organization);
    let rows = tx.all(ask!(WHICH_BUDGETS_APPLY, organization, run.project, run.owner, run.id, &ask.model)).await?;
    let (mut amount, mut tightest) = (ask.want, None);
    let mut budgets = Vec::with_capacity(rows.len());
    for row in &rows {
        let budget = roll(tx, read(row)?, now).await?;
        let headroom = budget.limit.saturating_sub(budget.spent.saturating_add(budget.leased));
        if headroom < amount {
            (amount, tightest) = (headroom, Some(budget.scope));
        }
        budgets.push(budget.id);
    }
    if amount < need {
        return Ok(Leased { slice: ask.slice, amount: Nanos::ZERO, exhausted: tightest });
    }
    tx.run(ask!(ADD_SLICE, ask.slice, ask.run, runner, amount, now, &ask.model)).await?;
    for budget in budgets {
        // Checked twice: by us above, by the statement, and by the table's own CHECK if both were wrong.
        if tx.run(ask!(LEASE_FROM_BUDGET, budget, amount)).await? == 0 {
            return Err(StoreError::conflict("budget", budget));
        }
        tx.run(ask!(BIND_SLICE, ask.slice, budget)).await?;
    }
    Ok(Leased { slice: ask.slice, amount, exhausted: None })
}

/// Takes back what is left of slices whose run is over and whose runner has told all its spending (an event `spent`
/// after the last lease). Gives how much, at most `limit` slices.
pub async fn reclaim(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Nanos> {
    lock(tx).await?;
    let rows = tx.all(ask!(WHICH_SLICES_ARE_LEFT_OVER, limit)).await?;
    let mut total = Nanos::ZERO;
    for row in &rows {
        let slice = read_slice(row)?;
        total = total.saturating_add(slice.left());
        release(tx, &slice, slice.left(), now).await?;
    }
    Ok(total)
}

/// A part of budgets that a runner holds.
struct Slice {
    id: SliceId,
    run: RunId,
    runner: RunnerId,
    amount: Nanos,
    spent: Nanos,
    returned: Nanos,
    model: String,
}

impl Slice {
    fn left(&self) -> Nanos {
        self.amount.saturating_sub(self.spent).saturating_sub(self.returned)
    }
}

/// All movements of money happen one after the other: no order of locks to get wrong, and the organization's budget
/// would be one row for everybody anyway. A runner comes here once per slice, not once per call.
async fn lock(tx: &mut Tx) -> Result<()> {
    tx.run(ask!(LOCK_THE_MONEY)).await.map(drop)
}

/// A new run's own budget: nothing was spent on it yet. That of a personal run is what people call the budget of a key.
pub(crate) async fn add_for_run(tx: &mut Tx, id: BudgetId, start: &runs::Start) -> Result<()> {
    let budget = Budget {
        id,
        scope: match start.kind {
            RunKind::Task => BudgetScope::Run,
            RunKind::Personal => BudgetScope::Key,
        },
        subject: start.run.to_string(),
        period: start.period,
        limit: start.spec.max_cost.max(Nanos::ZERO),
        spent: Nanos::ZERO,
        leased: Nanos::ZERO,
        period_start: period_start(start.period, start.now),
    };
    insert(tx, &budget, start.now).await
}

/// A call is over. What is more than the slice has left is not charged twice over, but told: it means a runner that
/// does not reserve first.
pub(crate) async fn settle(
    tx: &mut Tx,
    runner: RunnerId,
    id: SliceId,
    call: ModelCallId,
    spent: Nanos,
    now: Timestamp,
) -> Result<std::result::Result<(), String>> {
    lock(tx).await?;
    let Some(slice) = slice_of(tx, runner, id).await? else { return Ok(Err(format!("unknown_slice: {id}"))) };
    if spent < Nanos::ZERO {
        return Ok(Err(format!("bad_amount: {call} spent {spent}")));
    }
    let charged = spent.min(slice.left());
    if tx.run(ask!(ADD_SETTLEMENT, id, call, slice.run, charged, now)).await? == 0 {
        return Ok(Ok(()));
    }
    tx.run(ask!(SPEND_FROM_SLICE, id, charged)).await?;
    for budget in budgets_of(tx, id).await? {
        let budget = roll(tx, budget, now).await?;
        tx.run(ask!(SPEND_FROM_BUDGET, budget.id, charged)).await?;
    }
    if charged < spent {
        return Ok(Err(format!("overspent: {call} spent {spent}, {id} had {charged} left")));
    }
    Ok(Ok(()))
}

/// What is left of a slice goes back.
pub(crate) async fn give_back(
    tx: &mut Tx,
    runner: RunnerId,
    id: SliceId,
    amount: Nanos,
    now: Timestamp,
) -> Result<std::result::Result<(), String>> {
    lock(tx).await?;
    let Some(slice) = slice_of(tx, runner, id).await? else { return Ok(Err(format!("unknown_slice: {id}"))) };
    let left = slice.left();
    release(tx, &slice, amount.clamp(Nanos::ZERO, left), now).await?;
    if amount != left {
        return Ok(Err(format!("bad_amount: {amount} came back of {id}, {left} was left")));
    }
    Ok(Ok(()))
}

/// The runner has told all spending of a run: what is left of its slices may be taken back once the run is over.
pub(crate) async fn told(tx: &mut Tx, run: RunId, runner: RunnerId) -> Result<()> {
    lock(tx).await?;
    tx.run(ask!(ALL_SPENDING_IS_TOLD, run, runner)).await.map(drop)
}

async fn release(tx: &mut Tx, slice: &Slice, amount: Nanos, now: Timestamp) -> Result<()> {
    tx.run(ask!(RETURN_FROM_SLICE, slice.id, amount, amount < slice.left())).await?;
    for budget in budgets_of(tx, slice.id).await? {
        let budget = roll(tx, budget, now).await?;
        tx.run(ask!(RETURN_TO_BUDGET, budget.id, amount)).await?;
    }
    Ok(())
}

async fn slice_of(tx: &mut Tx, runner: RunnerId, id: SliceId) -> Result<Option<Slice>> {
    let row = tx.maybe(ask!(WHICH_SLICE_IS_THIS, id)).await?;
    Ok(row.map(|row| read_slice(&row)).transpose()?.filter(|slice| slice.runner == runner))
}

async fn budgets_of(tx: &mut Tx, slice: SliceId) -> Result<Vec<Budget>> {
    tx.all(ask!(WHICH_BUDGETS_HAS_THIS_SLICE, slice)).await?.iter().map(read).collect()
}

async fn insert(tx: &mut Tx, budget: &Budget, now: Timestamp) -> Result<()> {
    let ask = ask!(
        ADD_BUDGET,
        budget.id,
        budget.scope.as_str(),
        &budget.subject,
        budget.period.as_str(),
        budget.limit,
        budget.limit.max(budget.spent.saturating_add(budget.leased)),
        budget.spent,
        budget.leased,
        budget.period_start,
        now
    );
    match tx.run(ask).await? {
        0 => Err(StoreError::exists("budget", budget.id)),
        _ => Ok(()),
    }
}

/// Begins the budget's next period if the present one is over. What runners still hold of the last one may be spent in
/// the new one, so it goes on counting. A clock that goes back changes nothing.
async fn roll(tx: &mut Tx, budget: Budget, now: Timestamp) -> Result<Budget> {
    let next = shown(budget.clone(), now);
    if next.period_start != budget.period_start {
        tx.run(ask!(KEEP_PERIOD, budget.id, budget.period_start, budget.spent, budget.limit)).await?;
        tx.run(ask!(BEGIN_PERIOD, budget.id, next.period_start)).await?;
    }
    Ok(next)
}

fn shown(budget: Budget, now: Timestamp) -> Budget {
    let start = period_start(budget.period, now);
    if start > budget.period_start { Budget { spent: Nanos::ZERO, period_start: start, ..budget } } else { budget }
}

/// When the period that holds `now` began, in UTC.
fn period_start(period: Period, now: Timestamp) -> Timestamp {
    const DAY: i64 = 86_400_000_000;
    let days = now.0.div_euclid(DAY);
    let first = match period {
        Period::Total => 0,
        Period::Day => days,
        // 1970-01-01 was a Thursday.
        Period::Week => days - (days + 3).rem_euclid(7),
        Period::Month => days - day_of_month(days) + 1,
    };
    Timestamp(first.saturating_mul(DAY))
}

/// The day of the month, from 1, of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
const fn day_of_month(days: i64) -> i64 {
    let shifted = days + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    day_of_year - (153 * month + 2) / 5 + 1
}

fn read(row: &Row) -> Result<Budget> {
    Ok(Budget {
        id: row.word("id")?,
        scope: row.word("scope")?,
        subject: row.text("subject")?,
        period: row.word("period")?,
        limit: row.nanos("limit_nanos")?,
        spent: row.nanos("spent")?,
        leased: row.nanos("leased")?,
        period_start: row.at("period_start")?,
    })
}

fn read_slice(row: &Row) -> Result<Slice> {
    Ok(Slice {
        id: row.word("id")?,
        run: row.word("run")?,
        runner: row.word("runner")?,
        amount: row.nanos("amount")?,
        spent: row.nanos("spent")?,
        returned: row.nanos("returned")?,
        model: row.text("model")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_at_midnight_utc() {
        // 2024-02-29T12:00:00Z, a Thursday.
        let now = Timestamp(1_709_208_000_000_000);
        for (period, start) in [
            (Period::Total, 0),
            (Period::Day, 1_709_164_800_000_000),
            (Period::Week, 1_708_905_600_000_000),
            (Period::Month, 1_706_745_600_000_000),
        ] {
            assert_eq!(period_start(period, now), Timestamp(start), "{period}");
            assert_eq!(period_start(period, Timestamp(start)), Timestamp(start), "{period}");
        }
        assert_eq!(period_start(Period::Day, Timestamp(-1)), Timestamp(-86_400_000_000));
        assert_eq!(period_start(Period::Week, Timestamp(0)), Timestamp(-3 * 86_400_000_000));
    }

    #[test]
    fn every_month_begins_with_its_first() {
        let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut day = 0;
        for year in 1970..2500 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for (month, length) in lengths.into_iter().enumerate() {
                for expected in 1..=length + i64::from(leap && month == 1) {
                    assert_eq!(day_of_month(day), expected, "{year}-{}", month + 1);
                    day += 1;
                }
            }
        }
    }
}
