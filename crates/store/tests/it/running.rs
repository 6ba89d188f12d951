//! The life of a run: started, placed, worked on, ended, resumed, erased.

use stockade_domain::{
    ContentKind, Desired, EnvironmentEvent, EventKind, FailureCause, Nanos, Observed, RunState, RunTransition, Usage,
    ids::RunId,
};
use stockade_store::{
    Page, StoreError, contents, environments, events, leases, placement, replies,
    runs::{self, Order, RunFilter},
};

use crate::{
    engines::{Db, both},
    fixture::{Fixture, WRAPPED, content, seen, written},
};

both! {
    a_run_goes_its_way(db) {
        let f = Fixture::new(&db.store).await;
        let run = f.queued(Nanos::DOLLAR).await;
        assert_eq!(f.run(run).await.state, RunState::Queued);
        let queued = seen!(f, |tx| placement::queued(&mut tx, 10));
        assert_eq!(queued, [placement::Queued { run, site: f.site, previous: None, class: None }]);
        let live = seen!(f, |tx| placement::live_runners(&mut tx, f.now()));
        assert_eq!(live.iter().map(|load| (load.runner, load.runs)).collect::<Vec<_>>(), [
            (f.runner, 0),
            (f.other_runner, 0)
        ]);
        assert_eq!(seen!(f, |tx| placement::live_runners(&mut tx, f.now().plus_seconds(1))), []);

        let (environment, revision) = (f.id(), f.revision(f.runner).await);
        assert!(written!(f, |tx| placement::place(&mut tx, run, f.runner, environment, f.now())).unwrap());
        assert!(!written!(f, |tx| placement::place(&mut tx, run, f.other_runner, f.id(), f.now())).unwrap());
        assert_eq!(f.revision(f.runner).await, revision + 1);
        assert_eq!(seen!(f, |tx| placement::live_runners(&mut tx, f.now()))[0].runner, f.other_runner);
        let assigned = seen!(f, |tx| placement::assignments(&mut tx, f.runner));
        assert_eq!(assigned.len(), 1);
        let one = &assigned[0];
        assert_eq!((one.run, one.environment, one.desired, one.generation), (run, environment, Desired::Running, 1));
        assert_eq!((one.wrapped_key.as_deref(), one.sealed.as_slice()), (Some(WRAPPED), b"sealed task".as_slice()));
        assert_eq!((one.spec.clone(), one.project_spec.name.as_str()), (f.spec(Nanos::DOLLAR), "sample"));
        assert_eq!(seen!(f, |tx| placement::assignments(&mut tx, f.other_runner)).len(), 0);

        let fence = f.lease(f.runner, run).await;
        let usage = Usage { input_tokens: 5, output_tokens: 7, ..Usage::default() };
        let diff = content(ContentKind::Diff, b"diff");
        let shipped = f.ship(f.runner, &[
            f.state(run, fence, 1, RunTransition::Prepare),
            f.event(run, fence, 2, EventKind::Environment {
                environment,
                observed: Observed::Running,
                generation: 1,
                duration_ms: Some(12), class: None,
            }),
            f.state(run, fence, 3, RunTransition::Work),
            f.event(run, fence, 4, EventKind::Turn { turn: 1 }),
            f.event(run, fence, 5, EventKind::ModelCall {
                call: f.id(),
                model: "rehearsal/sample".to_owned(),
                usage,
                cost: Nanos(30),
                stop_reason: "end_turn".to_owned(),
                ok: true,
                record: f.id(),
                duration_ms: 3,
                content: None,
            }),
            f.event(run, fence, 6, EventKind::Change {
                branch: format!("stockade/{run}"),
                commit: "c0ffee".to_owned(),
                tree: "7ee".to_owned(),
                base: "ba5e".to_owned(),
                files: 1,
                insertions: 2,
                deletions: 3,
                diff,
                record: f.id(),
            }),
            f.event(run, fence, 7, EventKind::Spent { cost: Nanos(31), usage }),
            f.state(run, fence, 8, RunTransition::Succeed),
        ]).await;
        assert_eq!((shipped.taken, shipped.refused, shipped.runs), (8, 0, vec![run]));
        let done = f.run(run).await;
        assert_eq!((done.state, done.turn, done.cost, done.usage), (RunState::Succeeded, 1, Nanos(31), usage));
        assert_eq!(done.change.map(|change| (change.commit, change.diff)), Some(("c0ffee".to_owned(), diff)));
        assert!(done.finished_at.is_some() && done.started_at.is_some());
        let lines = seen!(f, |tx| events::after(&mut tx, run, 0, 100));
        assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
        assert_eq!(seen!(f, |tx| events::after(&mut tx, run, 6, 1)), lines[6..7]);
        assert_eq!(seen!(f, |tx| events::last(&mut tx, run)), 8);

        // The environment is nobody's any more: it goes, and with it the assignment.
        assert_eq!(seen!(f, |tx| environments::orphaned(&mut tx, 10)), [environment]);
        let wanted = written!(f, |tx| environments::desire(&mut tx, environment, Desired::Deleted, f.now())).unwrap();
        assert_eq!((wanted.state.desired, wanted.state.generation), (Desired::Deleted, 2));
        assert_eq!(seen!(f, |tx| environments::orphaned(&mut tx, 10)), []);
        assert_eq!(seen!(f, |tx| placement::assignments(&mut tx, f.runner))[0].desired, Desired::Deleted);
        let gone = EventKind::Environment { environment, observed: Observed::Deleted, generation: 2, duration_ms: None, class: None };
        assert_eq!(f.ship(f.runner, &[f.event(run, fence, 9, gone)]).await.refused, 0);
        assert_eq!(seen!(f, |tx| placement::assignments(&mut tx, f.runner)).len(), 0);
        assert_eq!(seen!(f, |tx| environments::list(&mut tx, &Default::default(), &Page::default())).items.len(), 0);
    }

    a_task_starts_whole_or_not_at_all(db) {
        let f = Fixture::new(&db.store).await;
        let run = f.queued(Nanos::DOLLAR).await;
        let found = f.run(run).await;
        let sealed = b"sealed task".to_vec();
        let again = runs::Start {
            kind: stockade_domain::RunKind::Task,
            period: stockade_domain::Period::Total,
            task: f.id(),
            run,
            project: f.project,
            owner: f.admin,
            site: f.site,
            spec: f.spec(Nanos::DOLLAR),
            wrapped_key: "w".to_owned(),
            content: content(ContentKind::Task, &sealed),
            sealed: sealed.clone(),
            now: f.now(),
        };
        let error = written!(f, |tx| runs::start(&mut tx, &again)).unwrap_err();
        assert_eq!(error.to_string(), format!("there is already a run {run}"));
        let torn = runs::Start { run: f.id(), sealed: b"other bytes".to_vec(), ..again.clone() };
        assert!(matches!(written!(f, |tx| runs::start(&mut tx, &torn)), Err(StoreError::Invalid { .. })));
        let nowhere = runs::Start { run: f.id(), project: f.id(), ..again };
        assert!(matches!(written!(f, |tx| runs::start(&mut tx, &nowhere)), Err(StoreError::NotFound { .. })));
        assert_eq!(seen!(f, |tx| runs::list(&mut tx, &RunFilter::default(), &Page::default())).items, [found]);
    }

    runs_are_found_by_what_they_are(db) {
        let f = Fixture::new(&db.store).await;
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(f.queued(Nanos::DOLLAR).await);
        }
        written!(f, |tx| runs::order(&mut tx, all[1], Order::Cancel, f.now())).unwrap();
        let ids = |filter: RunFilter, limit| {
            let f = &f;
            async move {
                let page = seen!(f, |tx| runs::list(&mut tx, &filter, &Page { limit, cursor: None }));
                page.items.into_iter().map(|run| run.id).collect::<Vec<RunId>>()
            }
        };
        assert_eq!(ids(RunFilter::default(), 2).await, [all[4], all[3]]);
        let cancelled = RunFilter { state: Some(RunState::Cancelled), ..RunFilter::default() };
        assert_eq!(ids(cancelled, 9).await, [all[1]]);
        assert_eq!(ids(RunFilter { project: Some(f.id()), ..RunFilter::default() }, 9).await, []);
        assert_eq!(ids(RunFilter { owner: Some(f.admin), ..RunFilter::default() }, 9).await.len(), 5);
        f.pass(10);
        let late = seen!(f, |tx| runs::overdue(&mut tx, 9_000, f.now(), 9));
        assert_eq!(late, [all[0], all[2], all[3], all[4]]);
        assert_eq!(seen!(f, |tx| runs::overdue(&mut tx, 10_000, f.now(), 9)), []);
    }

    what_nobody_has_is_cancelled_at_once(db) {
        let f = Fixture::new(&db.store).await;
        let run = f.queued(Nanos::DOLLAR).await;
        let cancelled = written!(f, |tx| runs::order(&mut tx, run, Order::Cancel, f.now())).unwrap();
        assert_eq!((cancelled.state, cancelled.order), (RunState::Cancelled, None));
        assert!(!written!(f, |tx| placement::place(&mut tx, run, f.runner, f.id(), f.now())).unwrap());
        let lines = seen!(f, |tx| events::after(&mut tx, run, 0, 9));
        assert_eq!(lines[0].event, EventKind::State { transition: RunTransition::Cancel });
        // Twice is once; another order is refused by the lifecycle.
        written!(f, |tx| runs::order(&mut tx, run, Order::Cancel, f.now())).unwrap();
        let error = written!(f, |tx| runs::order(&mut tx, run, Order::Resume, f.now())).unwrap_err();
        assert_eq!(error.to_string(), "a run cannot become queued while it is cancelled");
    }

    what_a_runner_has_is_cancelled_by_it(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        f.ship(f.runner, &[f.state(run, fence, 1, RunTransition::Prepare)]).await;
        let revision = f.revision(f.runner).await;
        let ordered = written!(f, |tx| runs::order(&mut tx, run, Order::Cancel, f.now())).unwrap();
        assert_eq!((ordered.state, ordered.order), (RunState::Preparing, Some(Order::Cancel)));
        assert_eq!(f.revision(f.runner).await, revision + 1);
        assert_eq!(seen!(f, |tx| placement::assignments(&mut tx, f.runner))[0].order, Some(Order::Cancel));
        written!(f, |tx| runs::order(&mut tx, run, Order::Cancel, f.now())).unwrap();
        assert_eq!(f.revision(f.runner).await, revision + 1, "nothing new to tell");
        f.ship(f.runner, &[f.state(run, fence, 2, RunTransition::Cancel)]).await;
        let done = f.run(run).await;
        assert_eq!((done.state, done.order), (RunState::Cancelled, None));
    }

    a_failed_run_is_tried_again(db) {
        let f = Fixture::new(&db.store).await;
        let (run, environment, fence) = f.leased(Nanos::DOLLAR).await;
        f.ship(f.runner, &[
            f.state(run, fence, 1, RunTransition::Prepare),
            f.state(run, fence, 2, RunTransition::Fail { cause: FailureCause::Model }),
        ]).await;
        assert_eq!(f.run(run).await.cause, Some(FailureCause::Model));
        // Its environment is still there: it goes on in it.
        let resumed = written!(f, |tx| runs::order(&mut tx, run, Order::Resume, f.now())).unwrap();
        assert_eq!(
            (resumed.state, resumed.order, resumed.environment, resumed.cause, resumed.finished_at),
            (RunState::Queued, Some(Order::Resume), Some(environment), None, None)
        );
        let fence = f.lease(f.runner, run).await;
        f.ship(f.runner, &[f.state(run, fence, 3, RunTransition::Prepare)]).await;
        assert_eq!(f.run(run).await.order, None);
        // It fails again and its environment is deleted: the next time it gets another, with the same runner first.
        f.ship(f.runner, &[f.state(run, fence, 4, RunTransition::Fail { cause: FailureCause::Gates })]).await;
        written!(f, |tx| environments::desire(&mut tx, environment, Desired::Deleted, f.now())).unwrap();
        let resumed = written!(f, |tx| runs::order(&mut tx, run, Order::Resume, f.now())).unwrap();
        assert_eq!((resumed.state, resumed.environment), (RunState::Queued, None));
        let queued = seen!(f, |tx| placement::queued(&mut tx, 9));
        assert_eq!(queued, [placement::Queued { run, site: f.site, previous: Some(f.runner), class: None }]);
        assert!(written!(f, |tx| placement::place(&mut tx, run, f.runner, f.id(), f.now())).unwrap());
        assert_eq!(seen!(f, |tx| events::last(&mut tx, run)), 6, "the two queueings by the server are lines too");
    }

    what_was_erased_cannot_be_opened_and_the_runner_is_told(db) {
        let f = Fixture::new(&db.store).await;
        let (run, environment, fence) = f.leased(Nanos::DOLLAR).await;
        f.ship(f.runner, &[
            f.state(run, fence, 1, RunTransition::Prepare),
            f.state(run, fence, 2, RunTransition::Work),
            f.state(run, fence, 3, RunTransition::Succeed),
            f.event(run, fence, 4, EventKind::Environment {
                environment,
                observed: Observed::Deleted,
                generation: 1,
                duration_ms: None, class: None,
            }),
        ]).await;
        assert_eq!(seen!(f, |tx| placement::assignments(&mut tx, f.runner)).len(), 0);
        let erased = written!(f, |tx| runs::order(&mut tx, run, Order::Erase, f.now())).unwrap();
        assert_eq!((erased.state, erased.erased_at), (RunState::Succeeded, Some(f.now())));
        assert_eq!(seen!(f, |tx| runs::wrapped_key(&mut tx, run)), None);
        let told = seen!(f, |tx| placement::assignments(&mut tx, f.runner));
        assert_eq!((told[0].run, told[0].order, told[0].wrapped_key.clone()), (run, Some(Order::Erase), None));
        // The ciphertext stays, so that the ledger still verifies.
        assert_eq!(seen!(f, |tx| contents::list(&mut tx, run, 9)).len(), 1);
        f.ship(f.runner, &[f.event(run, fence, 5, EventKind::Notice { code: "erased".to_owned() })]).await;
        assert_eq!(seen!(f, |tx| placement::assignments(&mut tx, f.runner)).len(), 0);
        written!(f, |tx| runs::erase(&mut tx, run, f.now())).unwrap();
        assert_eq!(f.run(run).await.order, None, "erased twice is erased once");
    }

    an_active_run_is_erased_by_its_runner(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        written!(f, |tx| runs::erase(&mut tx, run, f.now())).unwrap();
        assert_eq!(f.run(run).await.state, RunState::Queued);
        f.ship(f.runner, &[f.state(run, fence, 1, RunTransition::Fail { cause: FailureCause::Erased })]).await;
        let done = f.run(run).await;
        assert_eq!((done.state, done.order, done.cause), (RunState::Failed, None, Some(FailureCause::Erased)));
        assert!(written!(f, |tx| runs::order(&mut tx, run, Order::Resume, f.now())).is_err());
        // One that nobody has is erased at once.
        let run = f.queued(Nanos::DOLLAR).await;
        let done = written!(f, |tx| runs::erase(&mut tx, run, f.now())).unwrap();
        assert_eq!((done.state, done.cause), (RunState::Failed, Some(FailureCause::Erased)));
    }

    of_two_who_move_a_run_one_is_refused(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos::DOLLAR).await;
        let version = f.run(run).await.version;
        written!(f, |tx| runs::transition(&mut tx, run, Some(version), RunTransition::Prepare, f.now())).unwrap();
        let error =
            written!(f, |tx| runs::transition(&mut tx, run, Some(version), RunTransition::Expire, f.now())).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        // Many at once, each taking its turn on what the last one wrote: no change is lost.
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..16 {
            let (store, now) = (f.store.clone(), f.now());
            tasks.spawn(async move {
                let step = if n % 2 == 0 { RunTransition::Work } else { RunTransition::Prepare };
                loop {
                    let mut tx = store.write().await.unwrap();
                    match runs::transition(&mut tx, run, None, step, now).await {
                        Ok(_) => break tx.commit().await.unwrap(),
                        Err(error) => assert!(error.is_transient(), "{error:?}"),
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let lines = seen!(f, |tx| events::after(&mut tx, run, 0, 100));
        // Every line is a change from the state that the line before left.
        assert!(lines.windows(2).all(|two| two[0].event != two[1].event), "{lines:#?}");
        assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), (1..=lines.len() as u64).collect::<Vec<_>>());
    }

    replies_are_numbered_and_reach_the_runner(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let revision = f.revision(f.runner).await;
        for (number, sealed) in [(1, b"first".as_slice()), (2, b"second")] {
            let reference = content(ContentKind::Reply, sealed);
            let given = written!(f, |tx| replies::give(&mut tx, run, reference, sealed, f.admin, f.now())).unwrap();
            assert_eq!(given, number);
        }
        assert_eq!(f.revision(f.runner).await, revision + 2);
        let told = seen!(f, |tx| placement::assignments(&mut tx, f.runner)).remove(0).replies;
        assert_eq!(told.iter().map(|reply| (reply.number, reply.sealed.as_slice())).collect::<Vec<_>>(), [
            (1, b"first".as_slice()),
            (2, b"second")
        ]);
        f.ship(f.runner, &[f.state(run, fence, 1, RunTransition::Cancel)]).await;
        let late = content(ContentKind::Reply, b"late");
        let error = written!(f, |tx| replies::give(&mut tx, run, late, b"late", f.admin, f.now())).unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
    }

    an_environment_is_seen_only_by_its_runner(db) {
        let f = Fixture::new(&db.store).await;
        let (_, environment, _) = f.leased(Nanos::DOLLAR).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let seen = EventKind::Environment { environment, observed: Observed::Failed, generation: 1, duration_ms: None, class: None };
        assert_eq!(f.ship(f.runner, &[f.event(run, fence, 1, seen)]).await.refused, 1);
        let found = seen!(f, |tx| environments::get(&mut tx, environment));
        assert_eq!(found.state.observed, Observed::Pending);
        let kept = found.state.apply(EnvironmentEvent::Desire { desired: Desired::Stopped }).unwrap();
        let stopped = written!(f, |tx| environments::desire(&mut tx, environment, Desired::Stopped, f.now())).unwrap();
        assert_eq!(stopped.state, kept);
        assert!(matches!(
            leases::take(&mut f.store.write().await.unwrap(), f.other_runner, run, 1, f.now()).await,
            Err(StoreError::NoLease { .. })
        ));
    }
}

#[tokio::test]
async fn a_destroyed_key_is_nowhere_in_the_file() {
    let db = Db::sqlite().await;
    let f = Fixture::new(&db.store).await;
    let run = f.queued(Nanos::DOLLAR).await;
    let file = db.file().unwrap();
    let found = || {
        let holds = |end: &str| {
            let bytes = std::fs::read(format!("{}{end}", file.display())).unwrap_or_default();
            bytes.windows(WRAPPED.len()).any(|part| part == WRAPPED.as_bytes())
        };
        holds("") || holds("-wal")
    };
    assert!(found(), "this test looks in the wrong place");
    written!(f, |tx| runs::erase(&mut tx, run, f.now())).unwrap();
    // Closing empties the write-ahead log into the file.
    f.store.clone().close().await;
    assert!(!found());
}
