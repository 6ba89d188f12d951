//! Leases and their fences: who may write about a run.

use stockade_domain::{Desired, EventKind, Nanos, RunState, RunTransition};
use stockade_store::{StoreError, budgets, bundles, environments, events, leases, placement, runs, sites, spool};

use crate::{
    engines::both,
    fixture::{Fixture, seen, written},
};

both! {
    a_lease_holds_while_it_is_renewed(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        assert_eq!(fence, 1);
        assert_eq!(seen!(f, |tx| leases::expired(&mut tx, f.now().plus_seconds(30), 9)), []);
        f.pass(20);
        let (renewed, lost) =
            written!(f, |tx| leases::renew(&mut tx, f.runner, &[(run, 1), (f.id(), 1)], 30_000, f.now())).unwrap();
        assert_eq!((renewed, lost.len()), (vec![run], 1));
        f.pass(31);
        let late = seen!(f, |tx| leases::expired(&mut tx, f.now(), 9));
        assert_eq!((late.len(), late[0].run, late[0].runner, late[0].fence), (1, run, f.runner, 1));
        assert!(written!(f, |tx| leases::clear(&mut tx, run, 1, f.now())).unwrap());
        assert!(!written!(f, |tx| leases::clear(&mut tx, run, 1, f.now())).unwrap());
        assert_eq!(seen!(f, |tx| leases::expired(&mut tx, f.now(), 9)), []);
        // It comes back: a new lease has a new number, and the old one renews nothing.
        assert_eq!(f.lease(f.runner, run).await, 2);
        let (renewed, lost) =
            written!(f, |tx| leases::renew(&mut tx, f.runner, &[(run, 1)], 30_000, f.now())).unwrap();
        assert_eq!((renewed, lost), (vec![], vec![run]));
        let (renewed, _) =
            written!(f, |tx| leases::renew(&mut tx, f.other_runner, &[(run, 2)], 30_000, f.now())).unwrap();
        assert_eq!(renewed, []);
    }

    what_happened_under_a_stale_fence_is_kept_and_not_applied(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, first) = f.leased(Nanos::DOLLAR).await;
        let second = f.lease(f.runner, run).await;
        // Its spool may lag behind its leases: the first lease's lines come after the second was given.
        assert_eq!(f.ship(f.runner, &[f.state(run, first, 1, RunTransition::Prepare)]).await.refused, 0);
        assert_eq!(f.ship(f.runner, &[f.state(run, second, 2, RunTransition::Work)]).await.refused, 0);
        // But not after the second's.
        let stale = f.ship(f.runner, &[f.state(run, first, 3, RunTransition::Succeed)]).await;
        assert_eq!((stale.taken, stale.refused), (1, 1));
        assert_eq!(f.run(run).await.state, RunState::Working);
        // Nor one that was never given.
        assert_eq!(f.ship(f.runner, &[f.state(run, 99, 4, RunTransition::Succeed)]).await.refused, 1);
        assert_eq!(seen!(f, |tx| events::last(&mut tx, run)), 2);
        let kept = seen!(f, |tx| spool::refusals(&mut tx, 9));
        assert_eq!(kept.iter().map(|one| (one.position, one.why.as_str())).collect::<Vec<_>>(), [
            (3, "stale_fence: 99"),
            (2, "stale_fence: 1")
        ]);
        assert_eq!((kept[0].run, kept[0].runner), (Some(run), f.runner));
    }

    a_run_taken_away_listens_to_its_old_runner_no_more(db) {
        let f = Fixture::new(&db.store).await;
        let (run, old_environment, fence) = f.leased(Nanos::DOLLAR).await;
        f.ship(f.runner, &[f.state(run, fence, 1, RunTransition::Prepare)]).await;
        let revision = f.revision(f.runner).await;
        written!(f, |tx| placement::unplace(&mut tx, run, f.now())).unwrap();
        assert!(f.revision(f.runner).await > revision);
        let found = f.run(run).await;
        assert_eq!((found.state, found.runner, found.environment), (RunState::Queued, None, None));
        assert_eq!(f.ship(f.runner, &[f.state(run, fence, 2, RunTransition::Work)]).await.refused, 1);
        assert!(written!(f, |tx| placement::place(&mut tx, run, f.other_runner, f.id(), f.now())).unwrap());
        let new = f.lease(f.other_runner, run).await;
        assert!(new > fence);
        assert!(matches!(
            written!(f, |tx| leases::take(&mut tx, f.runner, run, 1, f.now())),
            Err(StoreError::NoLease { .. })
        ));
        // The new runner counts its own lines from 1: the numbers that are kept go on.
        let lines = [f.state(run, new, 1, RunTransition::Prepare), f.state(run, new, 2, RunTransition::Work)];
        assert_eq!(f.ship(f.other_runner, &lines).await.refused, 0);
        for old in [fence, new] {
            assert_eq!(f.ship(f.runner, &[f.state(run, old, 3, RunTransition::Succeed)]).await.refused, 1);
        }
        assert_eq!(f.run(run).await.state, RunState::Working);
        let lines = seen!(f, |tx| events::after(&mut tx, run, 0, 9));
        assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(lines[1].event, EventKind::State { transition: RunTransition::Requeue });
        // The old runner still has to delete what it made.
        let left = seen!(f, |tx| placement::assignments(&mut tx, f.runner));
        assert_eq!((left[0].environment, left[0].desired.as_str()), (old_environment, "deleted"));
    }

    what_is_over_is_not_leased(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        f.ship(f.runner, &[f.state(run, fence, 1, RunTransition::Cancel)]).await;
        let error = written!(f, |tx| leases::take(&mut tx, f.runner, run, 1, f.now())).unwrap_err();
        assert_eq!(error.to_string(), "a run cannot be leased while it is cancelled");
        let (renewed, lost) = written!(f, |tx| leases::renew(&mut tx, f.runner, &[(run, fence)], 1, f.now())).unwrap();
        assert_eq!((renewed, lost), (vec![], vec![run]));
        assert!(matches!(
            written!(f, |tx| leases::take(&mut tx, f.runner, f.id(), 1, f.now())),
            Err(StoreError::NotFound { .. })
        ));
    }

    one_of_many_placements_wins(db) {
        let f = Fixture::new(&db.store).await;
        let run = f.queued(Nanos::DOLLAR).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..12 {
            let (store, now, environment) = (f.store.clone(), f.now(), f.id());
            let runner = if n % 2 == 0 { f.runner } else { f.other_runner };
            tasks.spawn(async move {
                let mut tx = store.write().await.unwrap();
                let placed = placement::place(&mut tx, run, runner, environment, now).await.unwrap();
                tx.commit().await.unwrap();
                u32::from(placed)
            });
        }
        let mut won = 0;
        while let Some(done) = tasks.join_next().await {
            won += done.unwrap();
        }
        assert_eq!(won, 1);
        let mut environments = 0;
        for runner in [f.runner, f.other_runner] {
            environments += seen!(f, |tx| placement::assignments(&mut tx, runner)).len();
        }
        assert_eq!(environments, 1);
    }
}

both! {
    nobody_waits_in_a_circle(db) {
        // Heartbeats, orders, shipments and wishes for the same runs at once: if you are here because somebody was
        // told `Conflict`, two functions lock the same rows in two orders. The head page says which order is ours.
        let f = Fixture::new(&db.store).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(f.leased(Nanos::DOLLAR).await);
        }
        let leases: Vec<_> = held.iter().map(|(run, _, fence)| (*run, *fence)).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for round in 0..12 {
            let (run, environment, fence) = held[round % held.len()];
            let (store, runner, now, by) = (f.store.clone(), f.runner, f.now(), f.admin);
            let mine = leases.clone();
            tasks.spawn(async move {
                let mut tx = store.write().await?;
                sites::heartbeat(&mut tx, runner, 0, None, now).await?;
                leases::renew(&mut tx, runner, &mine, 30_000, now).await?;
                tx.commit().await
            });
            let store = f.store.clone();
            tasks.spawn(async move {
                let mut tx = store.write().await?;
                runs::order(&mut tx, run, runs::Order::Cancel, now).await?;
                tx.commit().await
            });
            let store = f.store.clone();
            let desired = if round % 2 == 0 { Desired::Stopped } else { Desired::Running };
            tasks.spawn(async move {
                let mut tx = store.write().await?;
                environments::desire(&mut tx, environment, desired, now).await?;
                tx.commit().await
            });
            let store = f.store.clone();
            tasks.spawn(async move {
                let mut tx = store.write().await?;
                bundles::put(&mut tx, None, "more", Some(by), now).await?;
                tx.commit().await
            });
            let store = f.store.clone();
            let lines = [f.event(run, fence, 1, EventKind::Turn { turn: 1 })];
            tasks.spawn(async move {
                let mut tx = store.write().await?;
                let first = spool::next(&mut tx, runner).await?;
                spool::ingest(&mut tx, runner, first, &lines, now).await?;
                tx.commit().await
            });
            let (store, slice) = (f.store.clone(), f.id());
            tasks.spawn(async move {
                let mut tx = store.write().await?;
                let ask = budgets::LeaseSlice { slice, run, model: String::new(), need: Nanos(1), want: Nanos(1) };
                budgets::lease_slice(&mut tx, runner, &ask, now).await?;
                tx.commit().await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
    }
}
