//! Budgets: never a nano-dollar above.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::{Connection, Executor};
use stockade_domain::{
    BudgetScope, EventKind, Nanos, Period, RunTransition, Timestamp, Usage,
    ids::{BudgetId, RunId, RunnerId, SliceId},
};
use stockade_store::{
    Engine, Store, StoreError,
    budgets::{self, LeaseSlice, Leased},
    spool::{self, BudgetEntry, Entry},
};

use crate::{
    engines::{Db, both},
    fixture::{Fixture, seen, written},
};

const CALL: Nanos = Nanos(1_000_003);

async fn leased(f: &Fixture, run: RunId, slice: SliceId, need: Nanos, want: Nanos) -> Leased {
    let ask = LeaseSlice { slice, run, model: String::new(), need, want };
    written!(f, |tx| budgets::lease_slice(&mut tx, f.runner, &ask, f.now())).unwrap()
}

async fn set(f: &Fixture, scope: BudgetScope, subject: &str, period: Period, limit: Nanos) -> budgets::Budget {
    written!(f, |tx| budgets::set(&mut tx, f.id(), scope, subject, period, limit, f.now())).unwrap()
}

async fn budget(f: &Fixture, id: BudgetId) -> budgets::Budget {
    seen!(f, |tx| budgets::get(&mut tx, id, f.now()))
}

fn settled(slice: SliceId, f: &Fixture, spent: Nanos) -> Entry {
    Entry::Budget(BudgetEntry::Settled { slice, call: f.id(), spent })
}

/// Tries until the database has said yes or no: what breaks under way is begun anew, as servers and runners do.
async fn lease_until_answered(store: Store, runner: RunnerId, ask: LeaseSlice, now: Timestamp) -> Nanos {
    loop {
        let tried: Result<Leased, StoreError> = async {
            let mut tx = store.write().await?;
            let leased = budgets::lease_slice(&mut tx, runner, &ask, now).await?;
            tx.commit().await?;
            Ok(leased)
        }
        .await;
        match tried {
            Ok(leased) => return leased.amount,
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
}

async fn ship_until_answered(
    store: Store,
    runner: RunnerId,
    lines: Arc<tokio::sync::Mutex<Vec<Entry>>>,
    now: Timestamp,
) {
    loop {
        let all = lines.lock().await.clone();
        let tried: Result<(), StoreError> = async {
            let mut tx = store.write().await?;
            spool::ingest(&mut tx, runner, 0, &all, now).await?;
            tx.commit().await
        }
        .await;
        match tried {
            Ok(()) => return,
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
}

both! {
    what_went_back_is_not_leased_a_second_time(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _) = f.placed(Nanos(1_000)).await;
        let slice: SliceId = f.id();
        assert_eq!(leased(&f, run, slice, Nanos(10), Nanos(400)).await.amount, Nanos(400));
        // The answer was lost: the same slice, whole.
        assert_eq!(leased(&f, run, slice, Nanos(10), Nanos(400)).await.amount, Nanos(400));
        let back = Entry::Budget(BudgetEntry::Returned { slice, amount: Nanos(300) });
        assert_eq!(f.ship(f.runner, &[settled(slice, &f, Nanos(100)), back]).await.refused, 0);
        let again = leased(&f, run, slice, Nanos(10), Nanos(400)).await;
        assert_eq!((again.amount, again.exhausted), (Nanos::ZERO, None));
    }
}

both! {
    two_hundred_calls_against_money_for_thirty_seven(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos(i64::MAX)).await;
        let limit = Nanos(CALL.0 * 37 + 5);
        let bound = set(&f, BudgetScope::Project, &f.project.to_string(), Period::Day, limit).await;
        let lines = Arc::new(tokio::sync::Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..200 {
            let ask = LeaseSlice { slice: f.id(), run, model: String::new(), need: CALL, want: CALL };
            let (store, runner, now, call, lines) = (f.store.clone(), f.runner, f.now(), f.id(), lines.clone());
            let patience = n % 60;
            tasks.spawn(async move {
                // Somebody hangs up in the middle: the half-done transaction is dropped wherever it stands.
                tokio::select! {
                    biased;
                    _ = lease_until_answered(store.clone(), runner, ask.clone(), now) => {}
                    () = yields(patience) => {}
                }
                let amount = lease_until_answered(store.clone(), runner, ask.clone(), now).await;
                // The answer may have been lost: asked again, it is the same.
                assert_eq!(lease_until_answered(store.clone(), runner, ask.clone(), now).await, amount);
                if amount > Nanos::ZERO {
                    assert_eq!(amount, CALL);
                    let spent = Entry::Budget(BudgetEntry::Settled { slice: ask.slice, call, spent: CALL });
                    lines.lock().await.push(spent);
                    ship_until_answered(store, runner, lines, now).await;
                }
                amount
            });
        }
        let over = Arc::new(AtomicBool::new(false));
        let hurting = tokio::spawn(hurt(f.store.clone(), db.admin.clone(), db.name(), over.clone()));
        let mut paid = 0;
        while let Some(done) = tasks.join_next().await {
            paid += i64::from(done.unwrap() > Nanos::ZERO);
        }
        over.store(true, Ordering::SeqCst);
        assert!(hurting.await.unwrap() > 0, "nothing was hurt: this test would prove nothing");
        assert_eq!(paid, 37);
        let after = budget(&f, bound.id).await;
        assert_eq!((after.spent, after.leased), (Nanos(CALL.0 * 37), Nanos::ZERO));
        let whole = seen!(f, |tx| budgets::list(&mut tx, Some(run), f.now()));
        assert_eq!(whole.iter().map(|one| one.spent).collect::<Vec<_>>(), [after.spent; 2]);
    }

    a_slice_is_as_large_as_the_tightest_budget_allows(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos(100)).await;
        let user = set(&f, BudgetScope::User, &f.admin.to_string(), Period::Month, Nanos(70)).await;
        set(&f, BudgetScope::Organization, &f.organization.to_string(), Period::Total, Nanos(1_000)).await;
        // Somebody else's do not matter.
        set(&f, BudgetScope::User, "usr_other", Period::Day, Nanos::ZERO).await;
        let slice = f.id();
        let first = leased(&f, run, slice, Nanos(10), Nanos(50)).await;
        assert_eq!(first, Leased { slice, amount: Nanos(50), exhausted: None });
        assert_eq!(leased(&f, run, slice, Nanos(10), Nanos(50)).await, first);
        assert_eq!(leased(&f, run, f.id(), Nanos(10), Nanos(50)).await.amount, Nanos(20));
        let empty: SliceId = f.id();
        let none = leased(&f, run, empty, Nanos(1), Nanos(50)).await;
        assert_eq!(none, Leased { slice: empty, amount: Nanos::ZERO, exhausted: Some(BudgetScope::User) });
        assert_eq!(budget(&f, user.id).await.leased, Nanos(70));
        let all = seen!(f, |tx| budgets::list(&mut tx, None, f.now()));
        assert_eq!(all.len(), 3);
    }

    what_is_settled_and_returned_adds_up(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos(100)).await;
        let own = BudgetId::from_bytes(*run.as_bytes());
        let slice = f.id();
        leased(&f, run, slice, Nanos(1), Nanos(60)).await;
        let call = f.id();
        let spent = Entry::Budget(BudgetEntry::Settled { slice, call, spent: Nanos(25) });
        let noise = Entry::Budget(BudgetEntry::Reserved { slice, call, amount: Nanos(30) });
        assert_eq!(f.ship(f.runner, &[noise, spent.clone(), spent]).await.refused, 0);
        let after = budget(&f, own).await;
        assert_eq!((after.spent, after.leased), (Nanos(25), Nanos(35)), "the same call is settled once");
        let back = Entry::Budget(BudgetEntry::Returned { slice, amount: Nanos(35) });
        assert_eq!(f.ship(f.runner, &[back]).await.refused, 0);
        let after = budget(&f, own).await;
        assert_eq!((after.spent, after.leased), (Nanos(25), Nanos::ZERO));
        // More than there was, of a slice that is not there or somebody else's: told, and no money moves.
        let lies = [
            settled(slice, &f, Nanos(1)),
            settled(f.id(), &f, Nanos(1)),
            settled(slice, &f, Nanos(-5)),
            Entry::Budget(BudgetEntry::Returned { slice, amount: Nanos(5) }),
            Entry::Budget(BudgetEntry::Returned { slice, amount: Nanos(-5) }),
        ];
        assert_eq!(f.ship(f.runner, &lies).await.refused, 5);
        assert_eq!(f.ship(f.other_runner, &[settled(slice, &f, Nanos(1))]).await.refused, 1);
        assert_eq!(budget(&f, own).await, after);
    }

    a_call_that_cost_more_than_its_slice_is_told(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos(100)).await;
        let slice = f.id();
        leased(&f, run, slice, Nanos(1), Nanos(60)).await;
        assert_eq!(f.ship(f.runner, &[settled(slice, &f, Nanos(61))]).await.refused, 1);
        let after = budget(&f, BudgetId::from_bytes(*run.as_bytes())).await;
        assert_eq!((after.spent, after.leased), (Nanos(60), Nanos::ZERO));
        let kept = seen!(f, |tx| spool::refusals(&mut tx, 9));
        assert!(kept[0].why.starts_with("overspent: "), "{}", kept[0].why);
    }

    a_new_day_has_new_money(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos::DOLLAR).await;
        let subject = f.project.to_string();
        let day = set(&f, BudgetScope::Project, &subject, Period::Day, Nanos(100)).await;
        let week = set(&f, BudgetScope::Project, &subject, Period::Week, Nanos(150)).await;
        let slice: SliceId = f.id();
        assert_eq!(leased(&f, run, slice, Nanos(1), Nanos(100)).await.amount, Nanos(100));
        f.ship(f.runner, &[settled(slice, &f, Nanos(60))]).await;
        assert_eq!(leased(&f, run, f.id(), Nanos(1), Nanos(9)).await.exhausted, Some(BudgetScope::Project));
        // Saturday. What is still leased of Friday may be spent on Saturday, so it counts there.
        f.pass(86_400);
        let shown = budget(&f, day.id).await;
        assert_eq!((shown.spent, shown.leased, shown.period_start), (Nanos::ZERO, Nanos(40), f.now()));
        assert_eq!(leased(&f, run, f.id(), Nanos(1), Nanos(100)).await.amount, Nanos(50), "the week has no more");
        f.ship(f.runner, &[settled(slice, &f, Nanos(40))]).await;
        let saturday = budget(&f, day.id).await;
        assert_eq!((saturday.spent, saturday.leased), (Nanos(40), Nanos(50)));
        // Monday.
        f.pass(2 * 86_400);
        let (day, week) = (budget(&f, day.id).await, budget(&f, week.id).await);
        assert_eq!((day.spent, day.leased, week.spent, week.leased), (Nanos::ZERO, Nanos(50), Nanos::ZERO, Nanos(50)));
        assert_eq!(leased(&f, run, f.id(), Nanos(1), Nanos(100)).await.amount, Nanos(50));
        // A clock that goes back gives nobody his money back.
        f.pass(-2 * 86_400);
        assert_eq!(leased(&f, run, f.id(), Nanos(1), Nanos(100)).await.amount, Nanos::ZERO);
    }

    a_limit_set_late_counts_what_was_spent(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos::DOLLAR).await;
        let slice: SliceId = f.id();
        leased(&f, run, slice, Nanos(1), Nanos(100)).await;
        f.ship(f.runner, &[settled(slice, &f, Nanos(30))]).await;
        let bound = set(&f, BudgetScope::User, &f.admin.to_string(), Period::Month, Nanos(120)).await;
        assert_eq!((bound.spent, bound.leased), (Nanos(30), Nanos(70)));
        assert_eq!(leased(&f, run, f.id(), Nanos(1), Nanos(100)).await.amount, Nanos(20));
        f.ship(f.runner, &[settled(slice, &f, Nanos(70))]).await;
        assert_eq!(budget(&f, bound.id).await.spent, Nanos(100));
        // Lowered below what is spent: nothing more; raised: on it goes. The identifier stays.
        let lowered = set(&f, BudgetScope::User, &f.admin.to_string(), Period::Month, Nanos(50)).await;
        assert_eq!((lowered.id, lowered.limit, lowered.spent), (bound.id, Nanos(50), Nanos(100)));
        assert_eq!(leased(&f, run, f.id(), Nanos(1), Nanos(1)).await.exhausted, Some(BudgetScope::User));
        set(&f, BudgetScope::User, &f.admin.to_string(), Period::Month, Nanos(125)).await;
        assert_eq!(leased(&f, run, f.id(), Nanos(1), Nanos(100)).await.amount, Nanos(5));
        let error = written!(f, |tx| budgets::set(
            &mut tx,
            f.id(),
            BudgetScope::User,
            "x",
            Period::Day,
            Nanos(-1),
            f.now()
        ));
        assert!(matches!(error, Err(StoreError::Invalid { .. })));
    }

    what_a_finished_run_did_not_use_comes_back(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos(100)).await;
        let own = BudgetId::from_bytes(*run.as_bytes());
        let slice: SliceId = f.id();
        leased(&f, run, slice, Nanos(1), Nanos(80)).await;
        f.ship(f.runner, &[settled(slice, &f, Nanos(30))]).await;
        let reclaim = || async { written!(f, |tx| budgets::reclaim(&mut tx, f.now(), 9)).unwrap() };
        // The run is over, but its runner has not told everything.
        f.ship(f.runner, &[f.state(run, fence, 1, RunTransition::Cancel)]).await;
        assert_eq!(reclaim().await, Nanos::ZERO);
        let told = EventKind::Spent { cost: Nanos(30), usage: Usage::default() };
        f.ship(f.runner, &[f.event(run, fence, 2, told.clone())]).await;
        // Something is settled after all: it was not everything.
        f.ship(f.runner, &[settled(slice, &f, Nanos(10))]).await;
        assert_eq!(reclaim().await, Nanos::ZERO);
        f.ship(f.runner, &[f.event(run, fence, 3, told)]).await;
        assert_eq!(reclaim().await, Nanos(40));
        assert_eq!(reclaim().await, Nanos::ZERO);
        let after = budget(&f, own).await;
        assert_eq!((after.spent, after.leased), (Nanos(40), Nanos::ZERO));
    }

    money_goes_only_to_who_works(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos(100)).await;
        let ask = LeaseSlice { slice: f.id(), run, model: String::new(), need: Nanos(1), want: Nanos(9) };
        let error = written!(f, |tx| budgets::lease_slice(&mut tx, f.other_runner, &ask, f.now())).unwrap_err();
        assert!(matches!(error, StoreError::NoLease { .. }), "{error}");
        for (need, want) in [(Nanos(-1), Nanos(5)), (Nanos(5), Nanos(4)), (Nanos(0), Nanos(0))] {
            let ask = LeaseSlice { slice: f.id(), run, model: String::new(), need, want };
            let error = written!(f, |tx| budgets::lease_slice(&mut tx, f.runner, &ask, f.now())).unwrap_err();
            assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
        }
        leased(&f, run, ask.slice, Nanos(1), Nanos(9)).await;
        let (other, ..) = f.leased(Nanos(100)).await;
        let stolen = LeaseSlice { run: other, ..ask.clone() };
        let error = written!(f, |tx| budgets::lease_slice(&mut tx, f.runner, &stolen, f.now())).unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
        f.ship(f.runner, &[f.state(run, fence, 1, RunTransition::Cancel)]).await;
        let late = LeaseSlice { slice: f.id(), ..ask };
        let error = written!(f, |tx| budgets::lease_slice(&mut tx, f.runner, &late, f.now())).unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    }

    the_table_itself_refuses_to_go_above(db) {
        let f = Fixture::new(&db.store).await;
        f.leased(Nanos(100)).await;
        for wrong in ["UPDATE budgets SET spent = 101", "UPDATE budgets SET leased = -1"] {
            let mut tx = f.store.write().await.unwrap();
            assert!(matches!(tx.hurt(wrong).await, Err(StoreError::Database { .. })), "{wrong}");
        }
    }
}

async fn yields(times: u32) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Breaks transactions under way, again and again: on Postgres by ending their connections from outside, on SQLite by
/// dropping half-done ones in between; a few times, and until something was under way to be broken or all is `over`. How often something was broken.
async fn hurt(store: Store, admin: Option<String>, name: String, over: Arc<AtomicBool>) -> u64 {
    let mut broken = 0;
    match admin {
        Some(admin) => {
            assert_eq!(store.engine(), Engine::Postgres);
            let mut conn = sqlx::AnyConnection::connect(&admin).await.unwrap();
            let mut rounds = 0;
            while rounds < 6 || (broken == 0 && !over.load(Ordering::SeqCst)) {
                rounds += 1;
                // Two of those that are in the middle of something.
                let sql = format!(
                    "SELECT pg_terminate_backend(pid) AS ended FROM (SELECT pid FROM pg_stat_activity WHERE datname = \
                     '{name}' AND pid <> pg_backend_pid() AND (state = 'active' OR state LIKE 'idle in%') LIMIT 2) s"
                );
                broken += conn.fetch_all(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap().len() as u64;
                yields(20).await;
            }
        }
        None => {
            for _ in 0..20 {
                let mut tx = store.write().await.unwrap();
                tx.hurt("UPDATE budgets SET spent = 0, leased = 0").await.unwrap();
                drop(tx);
                broken += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    broken
}

/// A second program may have the same Postgres: two servers, one limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_one_limit() {
    let Some(db) = Db::postgres().await else { return };
    let f = Fixture::new(&db.store).await;
    let second = Store::open(&db.url).await.unwrap();
    let (run, ..) = f.leased(Nanos(1_000)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60 {
        let store = if n % 2 == 0 { f.store.clone() } else { second.clone() };
        let ask = LeaseSlice { slice: f.id(), run, model: String::new(), need: Nanos(50), want: Nanos(70) };
        tasks.spawn(lease_until_answered(store, f.runner, ask, f.now()));
    }
    let mut total = 0;
    while let Some(done) = tasks.join_next().await {
        total += done.unwrap().0;
    }
    // Fourteen times seventy, and twenty are less than anybody needs.
    assert_eq!(total, 980);
    second.close().await;
    db.drop().await;
}
