//! The money that the server has leased to this runner.
//!
//! Owns slices, reservations and settlements. Money is set aside in memory first, so that nobody else takes it, and the entry that
//! says so goes into the spool with the record of the call; it is free again in memory only when the entry that says so is durable.
//! So memory never has more to give than the spool, and a restart, which folds the same entries, makes and loses no money. It
//! refuses: overdrawing a slice, and spending of a run beyond its own bound. *Invariant:* of every slice, spent + reserved +
//! free is what was leased.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stockade_api::runner::{BudgetEntry, LeaseSlice};
use stockade_domain::{
    BudgetScope, Nanos, Timestamp, World,
    ids::{ModelCallId, RunId, SliceId},
};
use stockade_gateway::{Purse, PurseError};
use stockade_ledger::LogEntry;
use tokio::sync::Notify;

use crate::{
    files,
    link::Link,
    spool::{Spool, SpoolError, budget_entry},
};

/// A slice is asked for this many times what is needed, so that not every call asks the server.
pub const SLICE_FACTOR: i64 = 4;
/// The largest slice that is asked for beyond what is needed: 2 dollars.
pub const SLICE_MOST: Nanos = Nanos(2_000_000_000);

/// So long it is waited, before a budget counts as used up, for what goes back to reach the server.
pub const TELLING: Duration = Duration::from_secs(5);

/// After so long without a call, in seconds, a person's token keeps no money: what lies idle with one may be missing to another. It
/// keeps it while the server is away.
pub const IDLE: u64 = 600;

/// One slice of a run's money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceState {
    /// Whose.
    pub run: RunId,
    /// For calls to the model of this name.
    #[serde(default)]
    pub model: String,
    /// What was leased.
    pub amount: Nanos,
    /// What is spent.
    pub spent: Nanos,
    /// What is set aside, by call. It grows if a call needs more than was thought.
    pub reserved: BTreeMap<ModelCallId, Nanos>,
    /// What the last calls cost, by call: a crash may have come between the money and the record that names it.
    #[serde(default)]
    pub settled: BTreeMap<ModelCallId, Nanos>,
}

/// So many settled calls of a slice are remembered. Only those that were under way at a crash are asked for.
pub const SETTLED_KEPT: usize = 256;

impl SliceState {
    /// What is neither spent nor set aside.
    pub fn free(&self) -> Nanos {
        let reserved: Nanos = self.reserved.values().copied().sum();
        self.amount.saturating_sub(self.spent).saturating_sub(reserved)
    }
}

/// What follows from all budget entries so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Money {
    /// Slices that are not over.
    pub slices: BTreeMap<SliceId, SliceState>,
    /// What each run has spent of slices that are over.
    pub past: BTreeMap<RunId, Nanos>,
}

impl Money {
    /// Folds an entry.
    pub fn take(&mut self, entry: &BudgetEntry) {
        let slices = &mut self.slices;
        match entry {
            BudgetEntry::Leased { slice, run, model, amount } => {
                slices.entry(*slice).or_insert_with(|| SliceState {
                    run: *run,
                    model: model.clone(),
                    amount: *amount,
                    spent: Nanos::ZERO,
                    reserved: BTreeMap::new(),
                    settled: BTreeMap::new(),
                });
            }
            BudgetEntry::Reserved { slice, call, amount } => {
                if let Some(state) = slices.get_mut(slice) {
                    state.reserved.insert(*call, *amount);
                }
            }
            BudgetEntry::Settled { slice, call, spent } => {
                if let Some(state) = slices.get_mut(slice) {
                    state.reserved.remove(call);
                    state.spent = state.spent.saturating_add(*spent);
                    state.settled.insert(*call, *spent);
                    // Identifiers grow with time: the first is the oldest.
                    while state.settled.len() > SETTLED_KEPT {
                        state.settled.pop_first();
                    }
                }
            }
            BudgetEntry::Returned { slice, .. } => {
                if let Some(state) = slices.remove(slice) {
                    let past = self.past.entry(state.run).or_default();
                    *past = past.saturating_add(state.spent);
                }
            }
        }
    }
}

/// Why there is no money.
#[derive(Debug, thiserror::Error)]
pub enum NoMoney {
    /// Some budget has not that much left.
    #[error("the budget of this {0} has not that much left")]
    Exhausted(BudgetScope),
    /// It cannot be found out, or not be written down, now.
    #[error("money for the call cannot be set aside: {0}")]
    Unavailable(String),
}

#[derive(Debug, Default)]
struct Account {
    /// The run's own bound.
    limit: Option<Nanos>,
    /// One lease of a slice at a time.
    leasing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Books {
    money: Money,
    accounts: BTreeMap<RunId, Account>,
    /// What each call spent, on its way into the spool.
    spending: BTreeMap<ModelCallId, Vec<BudgetEntry>>,
    /// Slices on their way back to the server: nothing of them is given any more.
    leaving: BTreeSet<SliceId>,
    /// When each run last began or ended a call, as far as it is looked after by [`SitePurse::rest`].
    used: BTreeMap<RunId, Timestamp>,
    /// Where in the spool it stands, for each run, what was last spent or went back.
    told: BTreeMap<RunId, u64>,
}

impl Books {
    /// Sets money aside in a slice that has it. All of it is one step, so that two calls never take the same money.
    fn take_aside(
        &mut self,
        run: RunId,
        model: &str,
        call: ModelCallId,
        amount: Nanos,
    ) -> Result<Option<BudgetEntry>, NoMoney> {
        let mine = || self.money.slices.values().filter(|s| s.run == run);
        let committed: Nanos = mine().map(|s| s.spent.saturating_add(s.reserved.values().copied().sum())).sum();
        let past = self.money.past.get(&run).copied().unwrap_or_default();
        let limit = self.accounts.get(&run).and_then(|a| a.limit).unwrap_or(Nanos(i64::MAX));
        if past.saturating_add(committed).saturating_add(amount) > limit {
            return Err(NoMoney::Exhausted(BudgetScope::Run));
        }
        let leaving = &self.leaving;
        let of = |s: &SliceState| s.run == run && s.model == model;
        let fits = |(id, s): &(&SliceId, &SliceState)| of(s) && s.free() >= amount && !leaving.contains(*id);
        let slices = &self.money.slices;
        // More for a call is best where the call has some already.
        let known = slices.iter().filter(|(_, s)| s.reserved.contains_key(&call)).find(fits);
        let Some((slice, state)) = known.or_else(|| slices.iter().find(fits)) else { return Ok(None) };
        let before = state.reserved.get(&call).copied().unwrap_or_default();
        let entry = BudgetEntry::Reserved { slice: *slice, call, amount: before.saturating_add(amount) };
        self.money.take(&entry);
        Ok(Some(entry))
    }

    /// What a call spent, slice by slice. What it spent beyond what was set aside is taken from what is free of its slices, and set
    /// aside at once.
    fn spend(&mut self, call: ModelCallId, spent: Nanos) -> Vec<BudgetEntry> {
        let mut rest = spent;
        let mut entries = Vec::new();
        let slices = &mut self.money.slices;
        for (slice, state) in slices.iter().filter(|(_, s)| s.reserved.contains_key(&call)) {
            let here = state.reserved.get(&call).copied().unwrap_or_default().min(rest);
            rest = rest.saturating_sub(here);
            entries.push((*slice, here));
        }
        for (slice, here) in &mut entries {
            if let Some(state) = slices.get_mut(slice).filter(|_| rest > Nanos::ZERO) {
                let more = state.free().min(rest);
                rest = rest.saturating_sub(more);
                *here = here.saturating_add(more);
                let aside = state.reserved.entry(call).or_default();
                *aside = (*aside).max(*here);
            }
        }
        if rest > Nanos::ZERO {
            // The bound holds, the rest is said aloud.
            tracing::error!(%call, %spent, %rest, "model call {call} cost more than could be set aside for it");
        }
        let settled = |(slice, spent)| BudgetEntry::Settled { slice, call, spent };
        let entries: Vec<BudgetEntry> = entries.into_iter().map(settled).collect();
        self.spending.insert(call, entries.clone());
        entries
    }

    /// `end` is where the spool ends now.
    fn spent(&mut self, call: ModelCallId, end: u64) {
        let entries = self.spending.remove(&call).unwrap_or_default();
        for entry in &entries {
            self.money.take(entry);
            self.told_of(entry, end);
        }
    }

    fn told_of(&mut self, entry: &BudgetEntry, end: u64) {
        if let BudgetEntry::Settled { slice, .. } | BudgetEntry::Returned { slice, .. } = entry
            && let Some(state) = self.money.slices.get(slice)
        {
            let _ = self.told.insert(state.run, end);
        }
    }

    /// Whether a call of this run is over and its end on its way into the spool.
    fn settles(&self, run: RunId) -> bool {
        let slice = |entry: &BudgetEntry| match entry {
            BudgetEntry::Settled { slice, .. } => self.money.slices.get(slice).is_some_and(|s| s.run == run),
            _ => false,
        };
        self.spending.values().any(|entries| entries.iter().any(slice))
    }
}

/// The purse of this runner.
#[derive(Debug)]
pub struct SitePurse {
    books: Mutex<Books>,
    /// Whenever a call is settled.
    settled: Notify,
    spool: Arc<Spool>,
    link: Arc<Link>,
    world: Arc<dyn World>,
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Pending {
    slice: SliceId,
    #[serde(default)]
    model: String,
    need: Nanos,
    want: Nanos,
}

impl SitePurse {
    /// Takes up the slices that a restart found. `dir` is where requests for slices are noted while they are under way.
    pub fn new(money: Money, spool: Arc<Spool>, link: Arc<Link>, world: Arc<dyn World>, dir: PathBuf) -> Self {
        let books = Mutex::new(Books { money, ..Books::default() });
        Self { books, settled: Notify::new(), spool, link, world, dir }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins or goes on: this is its bound.
    pub fn begin(&self, run: RunId, limit: Nanos) {
        self.books().accounts.entry(run).or_default().limit = Some(limit);
    }

    /// The runs of which slices are not over.
    pub fn runs(&self) -> BTreeSet<RunId> {
        self.books().money.slices.values().map(|slice| slice.run).collect()
    }

    /// What is set aside for calls that are under way, over all slices.
    pub fn aside(&self) -> Nanos {
        self.books().money.slices.values().flat_map(|slice| slice.reserved.values().copied()).sum()
    }

    /// What a call cost, if it was settled in a slice that is not over.
    pub fn cost_of(&self, call: ModelCallId) -> Option<Nanos> {
        let books = self.books();
        let costs = books.money.slices.values().filter_map(|slice| slice.settled.get(&call).copied());
        // A call that needed more than was thought has it from several slices.
        costs.reduce(Nanos::saturating_add)
    }

    /// Calls for which money was set aside when the process died. Those whose record was `opened` may have been made: they are
    /// charged what was set aside. The others never were: theirs is free again. Gives what was charged.
    pub async fn charge_reserved(
        &self,
        opened: &BTreeSet<ModelCallId>,
    ) -> Result<Vec<(RunId, ModelCallId, Nanos)>, SpoolError> {
        let open: Vec<(RunId, SliceId, ModelCallId, Nanos)> = self
            .books()
            .money
            .slices
            .iter()
            .flat_map(|(id, s)| s.reserved.iter().map(|(call, amount)| (s.run, *id, *call, *amount)))
            .collect();
        let mut charged: BTreeMap<ModelCallId, (RunId, Nanos)> = BTreeMap::new();
        for (run, slice, call, amount) in open {
            let spent = if opened.contains(&call) { amount } else { Nanos::ZERO };
            self.write(BudgetEntry::Settled { slice, call, spent }).await?;
            if spent > Nanos::ZERO {
                let (_, all) = charged.entry(call).or_insert((run, Nanos::ZERO));
                *all = all.saturating_add(spent);
            }
        }
        Ok(charged.into_iter().map(|(call, (run, spent))| (run, call, spent)).collect())
    }

    /// Writes an entry down, and only then believes it.
    async fn write(&self, entry: BudgetEntry) -> Result<(), SpoolError> {
        self.spool.append(vec![budget_entry(&entry)]).await?;
        let books = &mut *self.books();
        books.told_of(&entry, self.spool.log().end());
        books.money.take(&entry);
        Ok(())
    }

    /// Sets money aside for a call, or more for one that is under way. Nothing of it is durable: the entry that is given back is to
    /// be written. It says how much is set aside for the call in its slice, with this.
    pub async fn set_aside(
        &self,
        run: RunId,
        model: &str,
        call: ModelCallId,
        amount: Nanos,
    ) -> Result<BudgetEntry, NoMoney> {
        self.spool.room().map_err(|e| NoMoney::Unavailable(e.to_string()))?;
        self.books().used.insert(run, self.world.now());
        let now = |books: &mut Books| books.take_aside(run, model, call, amount);
        if let Some(entry) = now(&mut self.books())? {
            return Ok(entry);
        }
        let leasing = Arc::clone(&self.books().accounts.entry(run).or_default().leasing);
        let _one = leasing.lock().await;
        // Somebody may have brought a slice while this call waited.
        for _ in 0..2 {
            if let Some(entry) = now(&mut self.books())? {
                return Ok(entry);
            }
            self.lease(run, model, amount).await?;
        }
        now(&mut self.books())?.ok_or(NoMoney::Exhausted(BudgetScope::Run))
    }

    /// More for a call that is under way: durable when this returns.
    pub async fn add(&self, call: ModelCallId, more: Nanos) -> Result<(), NoMoney> {
        let of = |s: &SliceState| (s.run, s.model.clone());
        let found = self.books().money.slices.values().find(|s| s.reserved.contains_key(&call)).map(of);
        let (run, model) = found.ok_or_else(|| NoMoney::Unavailable(format!("nothing is set aside for {call}")))?;
        let entry = self.set_aside(run, &model, call, more).await?;
        // If that fails, it stays set aside in memory until the call is over: too much rather than too little.
        let written = self.spool.append(vec![budget_entry(&entry)]).await;
        written.map(|_| ()).map_err(|e| NoMoney::Unavailable(e.to_string()))
    }

    async fn lease(&self, run: RunId, model: &str, need: Nanos) -> Result<(), NoMoney> {
        let Some(scope) = self.ask(run, model, need).await? else { return Ok(()) };
        // What this run does not need any more may be what is missing. The server may not know of it yet.
        let told = tokio::time::timeout(TELLING, self.tell_all(run)).await;
        let news = told.unwrap_or(Ok(true)).map_err(|e| NoMoney::Unavailable(e.to_string()))?;
        match news {
            true => self.ask(run, model, need).await?.map_or(Ok(()), |scope| Err(NoMoney::Exhausted(scope))),
            false => Err(NoMoney::Exhausted(scope)),
        }
    }

    /// Waits until the server knows of all the money that this run has spent or does not need any more. Whether there was anything
    /// that it did not know.
    async fn tell_all(&self, run: RunId) -> Result<bool, SpoolError> {
        let mut news = false;
        loop {
            let settled = self.settled.notified();
            if !self.books().settles(run) {
                break;
            }
            news = true;
            settled.await;
        }
        self.give_back_idle(run, None).await?;
        let told = self.books().told.get(&run).copied().unwrap_or(0);
        if self.spool.cursor() < told {
            news = true;
            self.spool.shipped(told).await;
        }
        Ok(news)
    }

    /// Asks the server for a slice. The scope that is used up, if one is.
    async fn ask(&self, run: RunId, model: &str, need: Nanos) -> Result<Option<BudgetScope>, NoMoney> {
        let unavailable = |e: &dyn std::fmt::Display| NoMoney::Unavailable(e.to_string());
        let path = self.pending_file(run);
        // A request that a crash cut off is made again first: the server may have leased that slice already.
        let old = self.unanswered(&path).map_err(|e| unavailable(&e))?;
        self.give_back_idle(run, Some(model)).await.map_err(|e| unavailable(&e))?;
        let request = old.unwrap_or_else(|| Pending {
            slice: self.world.id(),
            model: model.to_owned(),
            need,
            want: Nanos(need.0.saturating_mul(SLICE_FACTOR)).min(SLICE_MOST).max(need),
        });
        note(&path, &request).map_err(|e| unavailable(&e))?;
        let Pending { slice, model, need, want } = request;
        let leased = self
            .link
            .slice(&LeaseSlice { slice, run, model: model.clone(), need, want })
            .await
            .map_err(|e| unavailable(&e))?;
        if leased.amount > Nanos::ZERO {
            self.write(BudgetEntry::Leased { slice, run, model, amount: leased.amount })
                .await
                .map_err(|e| unavailable(&e))?;
        }
        files::remove_all(&path).map_err(|e| unavailable(&e))?;
        // Nothing, and no budget is used up: an old slice of which nothing is left. The caller asks for another.
        Ok(leased.exhausted.filter(|_| leased.amount == Nanos::ZERO))
    }

    /// The request for a slice that a crash cut off. If the slice had arrived, the note is only removed: asked for again after it
    /// went back, the same slice would be there a second time, and its money twice.
    fn unanswered(&self, path: &Path) -> std::io::Result<Option<Pending>> {
        match pending(path) {
            Some(old) if self.books().money.slices.contains_key(&old.slice) => files::remove_all(path).map(|()| None),
            old => Ok(old),
        }
    }

    async fn give_back_idle(&self, run: RunId, model: Option<&str>) -> Result<(), SpoolError> {
        loop {
            let entry = {
                let books = &mut *self.books();
                let (slices, leaving) = (&books.money.slices, &mut books.leaving);
                let of =
                    |s: &SliceState| s.run == run && model.is_none_or(|model| s.model == model || s.model.is_empty());
                let idle = |(id, s): &(&SliceId, &SliceState)| of(s) && s.reserved.is_empty() && !leaving.contains(*id);
                let Some((slice, state)) = slices.iter().find(idle) else { return Ok(()) };
                // From here on no call takes money of it: what is written is still true when it is durable.
                leaving.insert(*slice);
                BudgetEntry::Returned { slice: *slice, amount: state.free() }
            };
            let written = self.write(entry.clone()).await;
            if let BudgetEntry::Returned { slice, .. } = &entry {
                self.books().leaving.remove(slice);
            }
            written?;
        }
    }

    /// Gives back what a run has not used for a while.
    pub async fn rest(&self, run: RunId, now: Timestamp) -> Result<(), SpoolError> {
        let since = *self.books().used.entry(run).or_insert(now);
        if now < since.plus_seconds(IDLE) || self.link.away().borrow().is_some() {
            return Ok(());
        }
        self.books().used.remove(&run);
        self.give_back_idle(run, None).await
    }

    /// The run is over: what is left goes back. Calls that are still under way keep theirs until they end.
    pub async fn end(&self, run: RunId) -> Result<(), SpoolError> {
        let path = self.pending_file(run);
        let old = self.unanswered(&path).map_err(|source| SpoolError::File { path: path.clone(), source })?;
        if let Some(Pending { slice, model, need, want }) = old {
            match self.link.slice(&LeaseSlice { slice, run, model: model.clone(), need, want }).await {
                Ok(leased) => {
                    if leased.amount > Nanos::ZERO {
                        self.write(BudgetEntry::Leased { slice, run, model, amount: leased.amount }).await?;
                    }
                    files::remove_all(&path).map_err(|source| SpoolError::File { path: path.clone(), source })?;
                }
                // The server is away: the note stays, and the next end of this run asks again.
                Err(error) => tracing::warn!(%error, %run, "a slice of {run} may stay leased until the server is back"),
            }
        }
        self.give_back_idle(run, None).await?;
        let books = &mut *self.books();
        books.told.remove(&run);
        books.used.remove(&run);
        Ok(())
    }

    fn pending_file(&self, run: RunId) -> PathBuf {
        self.dir.join(format!("{run}.slice"))
    }
}

fn pending(path: &Path) -> Option<Pending> {
    files::read_if_there(path).ok().flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

fn note(path: &Path, request: &Pending) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        files::private_dir(dir)?;
    }
    files::replace(path, &serde_json::to_vec(request).unwrap_or_default())
}

impl From<NoMoney> for PurseError {
    fn from(e: NoMoney) -> Self {
        match e {
            NoMoney::Exhausted(scope) => Self::Exhausted { scope },
            NoMoney::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

#[async_trait]
impl Purse for SitePurse {
    async fn hold(
        &self,
        run: RunId,
        model: &str,
        call: ModelCallId,
        amount: Nanos,
    ) -> Result<Vec<LogEntry>, PurseError> {
        if amount == Nanos::ZERO {
            // It cannot cost anything: there is nothing to set aside, and no slice is needed.
            return Ok(Vec::new());
        }
        Ok(vec![budget_entry(&self.set_aside(run, model, call, amount).await?)])
    }

    fn room(&self) -> Result<(), PurseError> {
        self.spool.room().map_err(|error| PurseError::Unavailable(error.to_string()))
    }

    fn release(&self, call: ModelCallId) {
        for state in self.books().money.slices.values_mut() {
            state.reserved.remove(&call);
        }
    }

    fn tops_up(&self) -> bool {
        true
    }

    async fn top_up(&self, call: ModelCallId, more: Nanos) -> Result<(), PurseError> {
        if more == Nanos::ZERO {
            return Ok(());
        }
        Ok(self.add(call, more).await?)
    }

    fn spend(&self, call: ModelCallId, spent: Nanos) -> Vec<LogEntry> {
        self.books().spend(call, spent).iter().map(budget_entry).collect()
    }

    fn spent(&self, call: ModelCallId) {
        self.books().spent(call, self.spool.log().end());
        self.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stockade_domain::Id;

    use super::*;

    fn steps() -> impl Strategy<Value = Vec<(u8, u8, i64)>> {
        prop::collection::vec((0u8..3, 0u8..4, 0i64..60), 0..40)
    }

    struct Home {
        purse: SitePurse,
        run: RunId,
        slices: Vec<SliceId>,
        dir: tempfile::TempDir,
    }

    /// A purse with slices of so much each. Nobody is there to lease another.
    async fn home(amounts: &[i64]) -> Home {
        use stockade_ledger::{Log, LogOptions, SigningKey, SystemWorld};
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(Log::open(&dir.path().join("spool"), LogOptions::default()).unwrap());
        let (spool, money) = Spool::start(log, dir.path().join("contents"), 1 << 20).unwrap();
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let key = Arc::new(SigningKey::generate());
        let link = Link::signed("http://127.0.0.1:9", Arc::clone(&world), world.id(), key).unwrap();
        let run = world.id();
        let money_dir = dir.path().to_owned();
        let purse = SitePurse::new(money, Arc::new(spool), Arc::new(link), Arc::clone(&world), money_dir);
        let mut slices = Vec::new();
        for amount in amounts {
            let slice = world.id();
            purse
                .write(BudgetEntry::Leased { slice, run, model: String::new(), amount: Nanos(*amount) })
                .await
                .unwrap();
            slices.push(slice);
        }
        Home { purse, run, slices, dir }
    }

    impl Home {
        fn call(&self) -> ModelCallId {
            self.purse.world.id()
        }

        /// What a restart would find.
        fn restarted(&self) -> Money {
            let log = self.purse.spool.log();
            let mut money = Money::default();
            for (_, entry) in log.read(0, usize::MAX, usize::MAX).unwrap() {
                money.take(&serde_json::from_slice(&entry.payload).unwrap());
            }
            money
        }

        fn believed(&self) -> Money {
            self.purse.books().money.clone()
        }
    }

    #[tokio::test]
    async fn a_slice_that_had_arrived_is_not_asked_for_again() {
        // A crash came between the arrival of the slice and the removal of the note about it.
        let home = home(&[100]).await;
        let Home { purse, run, slices, .. } = &home;
        note(
            &purse.pending_file(*run),
            &Pending { slice: slices[0], model: String::new(), need: Nanos(100), want: Nanos(100) },
        )
        .unwrap();
        let call = home.call();
        purse.hold(*run, "", call, Nanos(60)).await.unwrap();
        purse.spend(call, Nanos(60));
        purse.spent(call);
        purse.end(*run).await.unwrap();
        assert!(!purse.pending_file(*run).exists());
        assert_eq!(purse.books().money.past[run], Nanos(60));
        assert!(purse.books().money.slices.is_empty(), "the money is there once");
        assert!(home.dir.path().exists());
    }

    #[tokio::test]
    async fn what_is_not_used_for_a_while_goes_back_and_what_is_held_stays() {
        let home = home(&[100, 50]).await;
        let Home { purse, run, .. } = &home;
        let (first, second) = (home.call(), home.call());
        purse.hold(*run, "", first, Nanos(60)).await.unwrap();
        purse.hold(*run, "", second, Nanos(45)).await.unwrap();
        purse.spend(first, Nanos(10));
        purse.spent(first);
        let now = purse.world.now();
        purse.rest(*run, now.plus_seconds(IDLE - 5)).await.unwrap();
        assert_eq!(purse.books().money.slices.len(), 2);
        purse.rest(*run, now.plus_seconds(IDLE + 5)).await.unwrap();
        let left: Vec<_> = purse.books().money.slices.values().map(|slice| slice.amount).collect();
        assert_eq!((left, purse.books().money.past[run]), (vec![Nanos(50)], Nanos(10)), "a call is still under way");
        assert_eq!(home.restarted().slices.len(), 1);
    }

    #[tokio::test]
    async fn what_is_held_is_nobody_elses_and_free_again_once_released() {
        let home = home(&[100]).await;
        let Home { purse, run, .. } = &home;
        let (first, second) = (home.call(), home.call());
        let entries = purse.hold(*run, "", first, Nanos(60)).await.unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(home.restarted().slices.values().next().unwrap().free(), Nanos(100), "not durable yet");
        let refused = purse.hold(*run, "", second, Nanos(60)).await;
        assert!(matches!(refused, Err(PurseError::Unavailable(_))), "the server would have to be asked: {refused:?}");
        // While it is held, the slice does not go back.
        purse.end(*run).await.unwrap();
        assert_eq!(home.believed().slices.len(), 1);
        purse.release(first);
        purse.hold(*run, "", second, Nanos(100)).await.unwrap();
        // Nothing can come of nothing.
        assert_eq!(purse.hold(*run, "", home.call(), Nanos::ZERO).await, Ok(vec![]));
        assert_eq!(purse.top_up(home.call(), Nanos::ZERO).await, Ok(()));
    }

    #[tokio::test]
    async fn more_for_a_call_is_durable_comes_from_several_slices_and_has_an_end() {
        let home = home(&[100, 50]).await;
        let Home { purse, run, .. } = &home;
        purse.begin(*run, Nanos(140));
        let call = home.call();
        let entries = purse.hold(*run, "", call, Nanos(90)).await.unwrap();
        purse.spool.append(entries).await.unwrap();
        purse.top_up(call, Nanos(10)).await.unwrap();
        purse.top_up(call, Nanos(30)).await.unwrap();
        assert_eq!(purse.top_up(call, Nanos(30)).await, Err(PurseError::Exhausted { scope: BudgetScope::Run }));
        assert_eq!(home.restarted(), home.believed());
        let aside: Nanos = home.believed().slices.values().flat_map(|s| s.reserved.values().copied()).sum();
        assert_eq!(aside, Nanos(130));
        // A crash would charge all of it, in both slices.
        let entries = purse.spend(call, Nanos(120));
        assert_eq!(entries.len(), 2);
        assert_eq!(home.restarted(), home.believed(), "still set aside");
        assert_eq!(purse.spend(call, Nanos(120)), entries, "the same again");
        purse.spool.append(entries).await.unwrap();
        purse.spent(call);
        assert_eq!(home.restarted(), home.believed());
        assert_eq!(purse.cost_of(call), Some(Nanos(120)));
        assert!(home.believed().slices.values().all(|s| s.reserved.is_empty()));
        let nobody = purse.top_up(home.call(), Nanos(1)).await;
        assert!(matches!(nobody, Err(PurseError::Unavailable(_))), "{nobody:?}");
    }

    #[tokio::test]
    async fn what_a_crash_left_is_charged_if_its_record_is_there_and_free_if_not() {
        // Slices of one moment come in any order: the second holds both, whichever of them it is asked for.
        let home = home(&[100, 60]).await;
        let Home { purse, run, .. } = &home;
        let (made, not) = (home.call(), home.call());
        for (call, amount) in [(made, 80), (not, 20)] {
            let entries = purse.hold(*run, "", call, Nanos(amount)).await.unwrap();
            purse.spool.append(entries).await.unwrap();
        }
        purse.top_up(made, Nanos(40)).await.unwrap();
        let charged = purse.charge_reserved(&BTreeSet::from([made])).await.unwrap();
        assert_eq!(charged, [(*run, made, Nanos(120))]);
        assert_eq!(purse.cost_of(made), Some(Nanos(120)));
        let left: Nanos = home.restarted().slices.values().map(SliceState::free).sum();
        assert_eq!(left, Nanos(40));
    }

    #[tokio::test]
    async fn more_than_was_set_aside_is_taken_from_what_is_free_and_no_further() {
        let home = home(&[100]).await;
        let Home { purse, run, .. } = &home;
        let (call, other) = (home.call(), home.call());
        purse.hold(*run, "", other, Nanos(30)).await.unwrap();
        purse.hold(*run, "", call, Nanos(10)).await.unwrap();
        purse.spend(call, Nanos(500));
        // What is on its way is set aside: nobody takes it meanwhile.
        assert_eq!(home.believed().slices.values().next().unwrap().free(), Nanos::ZERO);
        purse.spent(call);
        let state = home.believed().slices.into_values().next().unwrap();
        assert_eq!((state.spent, state.free()), (Nanos(70), Nanos::ZERO));
    }

    /// What may happen to calls.
    #[derive(Debug, Clone)]
    enum Deed {
        Begin(i64),
        /// Its record cannot be written.
        Lose(i64),
        More(usize, i64),
        /// It is over, having cost so many hundredths of what it held.
        End(usize, i64),
        /// The same, but the process dies before that is written.
        Die(usize, i64),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let (call, part) = (0usize..6, 0i64..=100);
        prop_oneof![
            4 => (1i64..120).prop_map(Deed::Begin),
            1 => (1i64..120).prop_map(Deed::Lose),
            3 => (call.clone(), 1i64..90).prop_map(|(call, more)| Deed::More(call, more)),
            3 => (call.clone(), part.clone()).prop_map(|(call, part)| Deed::End(call, part)),
            1 => (call, part).prop_map(|(call, part)| Deed::Die(call, part)),
        ]
    }

    const LIMIT: i64 = 450;

    /// Memory has never more to give than what is written down, and neither passes a bound.
    fn sound(home: &Home) {
        let (believed, written) = (home.believed(), home.restarted());
        let mut all: i64 = written.past.values().map(|spent| spent.0).sum();
        for (slice, state) in &written.slices {
            let used = state.spent.0 + state.reserved.values().map(|amount| amount.0).sum::<i64>();
            assert!(used <= state.amount.0, "{used} of {}", state.amount);
            assert!(believed.slices[slice].free() <= state.free());
            all += used;
        }
        assert!(all <= LIMIT, "{all}");
    }

    async fn live_and_die(deeds: Vec<Deed>) {
        let home = home(&[300, 200]).await;
        let Home { purse, run, .. } = &home;
        purse.begin(*run, Nanos(LIMIT));
        // What is under way with what it holds, and what the rest has cost.
        let (mut live, mut cost): (Vec<(ModelCallId, i64)>, i64) = (Vec::new(), 0);
        for deed in deeds {
            match deed {
                Deed::Begin(amount) => {
                    let call = home.call();
                    if let Ok(entries) = purse.hold(*run, "", call, Nanos(amount)).await {
                        purse.spool.append(entries).await.unwrap();
                        live.push((call, amount));
                    }
                }
                Deed::Lose(amount) => {
                    let call = home.call();
                    if purse.hold(*run, "", call, Nanos(amount)).await.is_ok() {
                        purse.release(call);
                    }
                }
                Deed::More(at, more) => {
                    if let Some((call, held)) = live.get_mut(at)
                        && purse.top_up(*call, Nanos(more)).await.is_ok()
                    {
                        *held += more;
                    }
                }
                Deed::End(at, part) if at < live.len() => {
                    let (call, held) = live.remove(at);
                    let spent = held * part / 100;
                    purse.spool.append(purse.spend(call, Nanos(spent))).await.unwrap();
                    purse.spent(call);
                    cost += spent;
                }
                Deed::Die(at, part) => {
                    if let Some((call, held)) = live.get(at) {
                        purse.spend(*call, Nanos(held * part / 100));
                    }
                    break;
                }
                Deed::End(..) => {}
            }
            sound(&home);
        }
        // Another process over the same log.
        let (spool, link, world) = (Arc::clone(&purse.spool), Arc::clone(&purse.link), Arc::clone(&purse.world));
        let again = SitePurse::new(home.restarted(), spool, link, world, home.dir.path().to_owned());
        let charged = again.charge_reserved(&live.iter().map(|(call, _)| *call).collect()).await.unwrap();
        let charged: BTreeMap<_, _> = charged.into_iter().map(|(_, call, amount)| (call, amount.0)).collect();
        assert_eq!(charged, live.iter().copied().collect(), "all that was held, of all that were under way");
        let money = again.books().money.clone();
        let spent: Nanos = money.slices.values().map(|s| s.spent).chain(money.past.values().copied()).sum();
        assert_eq!(spent.0, cost + live.iter().map(|(_, held)| held).sum::<i64>());
        assert!(spent.0 <= LIMIT);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn no_crash_makes_or_loses_money(deeds in prop::collection::vec(deed(), 1..30)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(live_and_die(deeds));
        }
    }

    proptest! {
        #[test]
        fn of_a_slice_nothing_is_made_and_nothing_is_lost(steps in steps()) {
            let (slice, run): (SliceId, RunId) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
            let mut money = Money::default();
            money.take(&BudgetEntry::Leased { slice, run, model: String::new(), amount: Nanos(100) });
            // Told twice, as after a crash: nothing changes.
            money.take(&BudgetEntry::Leased { slice, run, model: String::new(), amount: Nanos(100) });
            for (what, call, amount) in steps {
                let call: ModelCallId = Id::from_bytes([call; 16]);
                let state = money.slices[&slice].clone();
                match what {
                    // Some, or more than there was.
                    0 if state.free().0 >= amount => {
                        let amount = state.reserved.get(&call).copied().unwrap_or_default().0 + amount;
                        money.take(&BudgetEntry::Reserved { slice, call, amount: Nanos(amount) });
                    }
                    1 => if let Some(reserved) = state.reserved.get(&call) {
                        let spent = Nanos(amount.min(reserved.0));
                        money.take(&BudgetEntry::Settled { slice, call, spent });
                    },
                    _ => {}
                }
                let now = &money.slices[&slice];
                let reserved: Nanos = now.reserved.values().copied().sum();
                prop_assert_eq!(now.spent.0 + reserved.0 + now.free().0, 100);
            }
            let spent = money.slices[&slice].spent;
            money.take(&BudgetEntry::Returned { slice, amount: Nanos::ZERO });
            prop_assert!(money.slices.is_empty());
            prop_assert_eq!(money.past[&run], spent);
        }
    }
}
