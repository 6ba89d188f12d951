//! The money that the server has leased to this runner.
//!
//! Owns slices, reservations and settlements. Every step is an entry of the spool before it counts, and a restart folds the
//! same entries, so that no crash makes or loses money. It refuses: overdrawing a slice, and spending of a run beyond its own
//! bound. *Invariant:* of every slice, spent + reserved + free is what was leased.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stockade_api::runner::{BudgetEntry, LeaseSlice};
use stockade_domain::{
    BudgetScope, Nanos, World,
    ids::{ModelCallId, RunId, SliceId},
};
use stockade_gateway::{Purse, PurseError};

use crate::{
    files,
    link::Link,
    spool::{Spool, SpoolError, budget_entry},
};

/// A slice is asked for this many times what is needed, so that not every call asks the server.
pub const SLICE_FACTOR: i64 = 4;
/// The largest slice that is asked for beyond what is needed: 2 dollars.
pub const SLICE_MOST: Nanos = Nanos(2_000_000_000);

/// One slice of a run's money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceState {
    /// Whose.
    pub run: RunId,
    /// What was leased.
    pub amount: Nanos,
    /// What is spent.
    pub spent: Nanos,
    /// What is set aside, by call.
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
            BudgetEntry::Leased { slice, run, amount } => {
                slices.entry(*slice).or_insert_with(|| SliceState {
                    run: *run,
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
    #[error("the budget of this {0} is used up")]
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
}

/// The purse of this runner.
#[derive(Debug)]
pub struct SitePurse {
    books: Mutex<Books>,
    spool: Arc<Spool>,
    link: Arc<Link>,
    world: Arc<dyn World>,
    dir: PathBuf,
    /// Entries go to the log in the order in which the books change.
    writing: tokio::sync::Mutex<()>,
}

/// The right to look at the books and to write what follows, with nobody in between.
type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

#[derive(Serialize, Deserialize)]
struct Pending {
    slice: SliceId,
    need: Nanos,
    want: Nanos,
}

impl SitePurse {
    /// Takes up the slices that a restart found. `dir` is where requests for slices are noted while they are under way.
    pub fn new(money: Money, spool: Arc<Spool>, link: Arc<Link>, world: Arc<dyn World>, dir: PathBuf) -> Self {
        let books = Mutex::new(Books { money, accounts: BTreeMap::new() });
        Self { books, spool, link, world, dir, writing: tokio::sync::Mutex::new(()) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins or goes on: this is its bound.
    pub fn begin(&self, run: RunId, limit: Nanos) {
        self.books().accounts.entry(run).or_default().limit = Some(limit);
    }

    /// What a call cost, if it was settled in a slice that is not over.
    pub fn cost_of(&self, call: ModelCallId) -> Option<Nanos> {
        self.books().money.slices.values().find_map(|slice| slice.settled.get(&call).copied())
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
        let mut charged = Vec::new();
        for (run, slice, call, amount) in open {
            let spent = if opened.contains(&call) { amount } else { Nanos::ZERO };
            self.write(vec![BudgetEntry::Settled { slice, call, spent }]).await?;
            if spent > Nanos::ZERO {
                charged.push((run, call, spent));
            }
        }
        Ok(charged)
    }

    async fn write(&self, entries: Vec<BudgetEntry>) -> Result<(), SpoolError> {
        let turn = self.writing.lock().await;
        self.write_in_turn(&turn, entries).await
    }

    /// The same for whoever has looked at the books in the same turn: nothing has changed since.
    async fn write_in_turn(&self, _turn: &Turn<'_>, entries: Vec<BudgetEntry>) -> Result<(), SpoolError> {
        self.spool.append(entries.iter().map(budget_entry).collect()).await?;
        let mut books = self.books();
        entries.iter().for_each(|entry| books.money.take(entry));
        Ok(())
    }

    /// Sets money aside in a slice that has it. The whole step is under one lock, so that two calls never take the same money.
    async fn take_aside(&self, run: RunId, call: ModelCallId, amount: Nanos) -> Result<bool, NoMoney> {
        let _turn = self.writing.lock().await;
        let slice = {
            let books = self.books();
            let account = books.accounts.get(&run);
            let mine = || books.money.slices.values().filter(|s| s.run == run);
            let committed: Nanos = mine().map(|s| s.spent.saturating_add(s.reserved.values().copied().sum())).sum();
            let past = books.money.past.get(&run).copied().unwrap_or_default();
            let limit = account.and_then(|a| a.limit).unwrap_or(Nanos(i64::MAX));
            if past.saturating_add(committed).saturating_add(amount) > limit {
                return Err(NoMoney::Exhausted(BudgetScope::Run));
            }
            books.money.slices.iter().find(|(_, s)| s.run == run && s.free() >= amount).map(|(id, _)| *id)
        };
        let Some(slice) = slice else { return Ok(false) };
        let entry = BudgetEntry::Reserved { slice, call, amount };
        self.spool.append(vec![budget_entry(&entry)]).await.map_err(|e| NoMoney::Unavailable(e.to_string()))?;
        self.books().money.take(&entry);
        Ok(true)
    }

    /// Sets money aside for a call.
    pub async fn set_aside(&self, run: RunId, call: ModelCallId, amount: Nanos) -> Result<(), NoMoney> {
        self.spool.room().map_err(|e| NoMoney::Unavailable(e.to_string()))?;
        if self.take_aside(run, call, amount).await? {
            return Ok(());
        }
        let leasing = Arc::clone(&self.books().accounts.entry(run).or_default().leasing);
        let _one = leasing.lock().await;
        // Somebody may have brought a slice while this call waited.
        for _ in 0..2 {
            if self.take_aside(run, call, amount).await? {
                return Ok(());
            }
            self.lease(run, amount).await?;
        }
        if self.take_aside(run, call, amount).await? { Ok(()) } else { Err(NoMoney::Exhausted(BudgetScope::Run)) }
    }

    async fn lease(&self, run: RunId, need: Nanos) -> Result<(), NoMoney> {
        let unavailable = |e: &dyn std::fmt::Display| NoMoney::Unavailable(e.to_string());
        let path = self.pending_file(run);
        // A request that a crash cut off is made again first: the server may have leased that slice already.
        let old = self.unanswered(&path).map_err(|e| unavailable(&e))?;
        self.give_back_idle(run).await.map_err(|e| unavailable(&e))?;
        let request = old.unwrap_or_else(|| Pending {
            slice: self.world.id(),
            need,
            want: Nanos(need.0.saturating_mul(SLICE_FACTOR)).min(SLICE_MOST).max(need),
        });
        note(&path, &request).map_err(|e| unavailable(&e))?;
        let Pending { slice, need, want } = request;
        let leased = self.link.slice(&LeaseSlice { slice, run, need, want }).await.map_err(|e| unavailable(&e))?;
        if leased.amount > Nanos::ZERO {
            self.write(vec![BudgetEntry::Leased { slice, run, amount: leased.amount }])
                .await
                .map_err(|e| unavailable(&e))?;
        }
        files::remove_all(&path).map_err(|e| unavailable(&e))?;
        // Nothing, and no budget is used up: an old slice of which nothing is left. The caller asks for another.
        if leased.amount > Nanos::ZERO || leased.exhausted.is_none() {
            Ok(())
        } else {
            Err(NoMoney::Exhausted(leased.exhausted.unwrap_or(BudgetScope::Organization)))
        }
    }

    /// The request for a slice that a crash cut off. If the slice had arrived, the note is only removed: asked for again after it
    /// went back, the same slice would be there a second time, and its money twice.
    fn unanswered(&self, path: &Path) -> std::io::Result<Option<Pending>> {
        match pending(path) {
            Some(old) if self.books().money.slices.contains_key(&old.slice) => files::remove_all(path).map(|()| None),
            old => Ok(old),
        }
    }

    /// The call is over.
    pub async fn pay(&self, call: ModelCallId, spent: Nanos) -> Result<(), SpoolError> {
        let turn = self.writing.lock().await;
        let found = {
            let books = self.books();
            books
                .money
                .slices
                .iter()
                .find_map(|(id, s)| s.reserved.get(&call).map(|reserved| (*id, *reserved, s.free())))
        };
        let Some((slice, reserved, free)) = found else { return Ok(()) };
        // More than was set aside can only be taken from what is free of the slice: the bound holds, the rest is said aloud.
        let most = reserved.saturating_add(free);
        if spent > most {
            tracing::error!(%call, %spent, %most, "model call {call} cost more than could be set aside for it");
        }
        self.write_in_turn(&turn, vec![BudgetEntry::Settled { slice, call, spent: spent.min(most) }]).await
    }

    async fn give_back_idle(&self, run: RunId) -> Result<(), SpoolError> {
        // One turn for looking and writing: a slice in which a call has just set money aside is not idle any more.
        let turn = self.writing.lock().await;
        let idle: Vec<BudgetEntry> = self
            .books()
            .money
            .slices
            .iter()
            .filter(|(_, s)| s.run == run && s.reserved.is_empty())
            .map(|(id, s)| BudgetEntry::Returned { slice: *id, amount: s.free() })
            .collect();
        for entry in idle {
            self.write_in_turn(&turn, vec![entry]).await?;
        }
        Ok(())
    }

    /// The run is over: what is left goes back. Calls that are still under way keep theirs until they end.
    pub async fn end(&self, run: RunId) -> Result<(), SpoolError> {
        let path = self.pending_file(run);
        let old = self.unanswered(&path).map_err(|source| SpoolError::File { path: path.clone(), source })?;
        if let Some(Pending { slice, need, want }) = old {
            match self.link.slice(&LeaseSlice { slice, run, need, want }).await {
                Ok(leased) => {
                    if leased.amount > Nanos::ZERO {
                        self.write(vec![BudgetEntry::Leased { slice, run, amount: leased.amount }]).await?;
                    }
                    files::remove_all(&path).map_err(|source| SpoolError::File { path: path.clone(), source })?;
                }
                // The server is away: the note stays, and the next end of this run asks again.
                Err(error) => tracing::warn!(%error, %run, "a slice of {run} may stay leased until the server is back"),
            }
        }
        self.give_back_idle(run).await
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

#[async_trait]
impl Purse for SitePurse {
    async fn reserve(&self, run: RunId, call: ModelCallId, amount: Nanos) -> Result<(), PurseError> {
        self.set_aside(run, call, amount).await.map_err(|e| match e {
            NoMoney::Exhausted(scope) => PurseError::Exhausted { scope },
            NoMoney::Unavailable(why) => PurseError::Unavailable(why),
        })
    }

    async fn settle(&self, call: ModelCallId, spent: Nanos) -> Result<(), PurseError> {
        self.pay(call, spent).await.map_err(|e| PurseError::Unavailable(e.to_string()))
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

    #[tokio::test]
    async fn a_slice_that_had_arrived_is_not_asked_for_again() {
        use stockade_ledger::{Log, LogOptions, SigningKey, SystemWorld};
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(Log::open(&dir.path().join("spool"), LogOptions::default()).unwrap());
        let (spool, _) = Spool::start(log, dir.path().join("contents"), 1 << 20).unwrap();
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let key = Arc::new(SigningKey::generate());
        // Nobody is there: whoever asked for a slice would get an error.
        let link = Link::signed("http://127.0.0.1:9", Arc::clone(&world), world.id(), key).unwrap();
        let (slice, run, call): (SliceId, RunId, ModelCallId) = (world.id(), world.id(), world.id());
        let mut money = Money::default();
        money.take(&BudgetEntry::Leased { slice, run, amount: Nanos(100) });
        // A crash came between the arrival of the slice and the removal of the note about it.
        let purse = SitePurse::new(money, Arc::new(spool), Arc::new(link), world, dir.path().to_owned());
        note(&purse.pending_file(run), &Pending { slice, need: Nanos(100), want: Nanos(100) }).unwrap();
        purse.set_aside(run, call, Nanos(60)).await.unwrap();
        purse.pay(call, Nanos(60)).await.unwrap();
        purse.end(run).await.unwrap();
        assert!(!purse.pending_file(run).exists());
        assert_eq!(purse.books().money.past[&run], Nanos(60));
        assert!(purse.books().money.slices.is_empty(), "the money is there once");
    }

    proptest! {
        #[test]
        fn of_a_slice_nothing_is_made_and_nothing_is_lost(steps in steps()) {
            let (slice, run): (SliceId, RunId) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
            let mut money = Money::default();
            money.take(&BudgetEntry::Leased { slice, run, amount: Nanos(100) });
            // Told twice, as after a crash: nothing changes.
            money.take(&BudgetEntry::Leased { slice, run, amount: Nanos(100) });
            for (what, call, amount) in steps {
                let call: ModelCallId = Id::from_bytes([call; 16]);
                let state = money.slices[&slice].clone();
                match what {
                    0 if state.free().0 >= amount && !state.reserved.contains_key(&call) => {
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
