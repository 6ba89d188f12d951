//! The intake of spools: exactly once, in order, without gaps.

use proptest::prelude::*;
use stockade_domain::{ContentKind, Nanos, RunTransition};
use stockade_store::{
    StoreError, contents, events, records,
    spool::{self, Entry, Ingested},
};

use crate::{
    engines::{Db, both},
    fixture::{Fixture, content, seen, written},
};

both! {
    what_comes_twice_is_taken_once(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let sealed = b"sealed".to_vec();
        let entries = [
            f.record(f.runner, 0, Some(run)),
            Entry::Content { run, content: content(ContentKind::Transcript, &sealed), sealed: sealed.clone() },
            f.state(run, fence, 1, RunTransition::Prepare),
            f.record(f.runner, 1, Some(run)),
            f.state(run, fence, 2, RunTransition::Work),
        ];
        let ship = |first, entries: &[Entry]| {
            let (f, entries) = (&f, entries.to_vec());
            async move { written!(f, |tx| spool::ingest(&mut tx, f.runner, first, &entries, f.now())).unwrap() }
        };
        let all = ship(0, &entries[..3]).await;
        assert_eq!(all, Ingested { next: 3, taken: 3, refused: 0, runs: vec![run] });
        // The answer was lost: the same again, whole, in part, and overlapping with what is new.
        assert_eq!(ship(0, &entries[..3]).await, Ingested { next: 3, ..Ingested::default() });
        assert_eq!(ship(1, &entries[1..2]).await, Ingested { next: 3, ..Ingested::default() });
        assert_eq!(ship(1, &entries[1..]).await, Ingested { next: 5, taken: 2, refused: 0, runs: vec![run] });
        // A gap: nothing is taken, and the answer says where to begin.
        assert_eq!(ship(6, &entries[..1]).await, Ingested { next: 5, ..Ingested::default() });
        assert_eq!(ship(u64::MAX, &entries[..1]).await.next, 5);
        assert_eq!(ship(5, &[]).await.next, 5);
        assert_eq!(seen!(f, |tx| events::last(&mut tx, run)), 2);
        assert_eq!(seen!(f, |tx| records::ledger(&mut tx, &f.runner.to_string())).size, 2);
        assert_eq!(seen!(f, |tx| contents::list(&mut tx, run, 9)).len(), 2);
        // Another runner has a spool of its own.
        assert_eq!(seen!(f, |tx| spool::next(&mut tx, f.other_runner)), 0);
    }

    many_connections_ship_the_same_and_it_is_taken_once(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let mut entries = vec![f.state(run, fence, 1, RunTransition::Prepare)];
        entries.extend((0..20).map(|seq| f.record(f.runner, seq, Some(run))));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (store, entries, runner, now) = (f.store.clone(), entries.clone(), f.runner, f.now());
            tasks.spawn(async move {
                let mut tx = store.write().await.unwrap();
                let done = spool::ingest(&mut tx, runner, 0, &entries, now).await.unwrap();
                tx.commit().await.unwrap();
                done
            });
        }
        let mut taken = 0;
        while let Some(done) = tasks.join_next().await {
            let done = done.unwrap();
            assert_eq!(done.next, 21);
            taken += done.taken;
        }
        assert_eq!(taken, 21);
        assert_eq!(seen!(f, |tx| events::last(&mut tx, run)), 1);
        assert_eq!(seen!(f, |tx| records::ledger(&mut tx, &f.runner.to_string())).size, 20);
    }

    a_record_that_cannot_be_next_is_refused_with_all_that_came_along(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let good = f.state(run, fence, 1, RunTransition::Prepare);
        let Entry::Record { canonical } = f.record(f.runner, 0, None) else { unreachable!() };
        for (wrong, why) in [
            (f.record(f.runner, 1, None), "has number 1, expected 0"),
            (f.record(f.other_runner, 0, None), "is of another producer"),
            (Entry::Record { canonical: canonical.replace("\"code\":", "\"code\": ") }, "not in canonical form"),
            (Entry::Record { canonical: "{}".to_owned() }, "these bytes are no record"),
        ] {
            let entries = [good.clone(), wrong];
            let error = written!(f, |tx| spool::ingest(&mut tx, f.runner, 0, &entries, f.now())).unwrap_err();
            assert!(matches!(error, StoreError::BadEntry { position: 1, .. }), "{error:?}");
            assert!(error.to_string().contains(why), "{error}");
        }
        // The same record a second time, with the next number.
        f.ship(f.runner, &[Entry::Record { canonical: canonical.clone() }]).await;
        let twin = Entry::Record { canonical: canonical.replace("\"seq\":0", "\"seq\":1") };
        let error = written!(f, |tx| spool::ingest(&mut tx, f.runner, 1, &[twin], f.now())).unwrap_err();
        assert!(error.to_string().contains("there is already a record"), "{error}");
        assert_eq!(seen!(f, |tx| events::last(&mut tx, run)), 0, "nothing of those shipments was taken");
        assert_eq!(seen!(f, |tx| spool::next(&mut tx, f.runner)), 1);
    }

    what_makes_no_sense_is_kept_beside(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let foreign = f.queued(Nanos::DOLLAR).await;
        let sealed = b"sealed".to_vec();
        let reference = content(ContentKind::Transcript, &sealed);
        let done = f.ship(f.runner, &[
            f.state(run, fence, 1, RunTransition::Succeed),
            f.state(foreign, 1, 1, RunTransition::Prepare),
            f.state(f.id(), 1, 1, RunTransition::Prepare),
            Entry::Content { run: foreign, content: reference, sealed: sealed.clone() },
            Entry::Content { run, content: reference, sealed: b"swapped".to_vec() },
            Entry::Content { run, content: reference, sealed },
        ]).await;
        assert_eq!((done.taken, done.refused, done.runs), (6, 5, vec![]));
        let mut why: Vec<String> = seen!(f, |tx| spool::refusals(&mut tx, 9)).into_iter().map(|one| one.why).collect();
        why.reverse();
        assert_eq!(why[0], "not_allowed: a run cannot become succeeded while it is queued");
        assert!(why[1].starts_with("unknown_run: run_") && why[2].starts_with("unknown_run: run_"), "{why:?}");
        assert!(why[3].starts_with("unknown_run: run_") && why[4].starts_with("bad_content: the bytes"), "{why:?}");
        assert_eq!(seen!(f, |tx| contents::get(&mut tx, run, reference.digest)).1, b"sealed");
    }

    too_much_at_once_is_refused(db) {
        let f = Fixture::new(&db.store).await;
        let entries = vec![f.record(f.runner, 0, None); spool::MAX_ENTRIES + 1];
        let error = written!(f, |tx| spool::ingest(&mut tx, f.runner, 0, &entries, f.now())).unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    /// However shipments overlap, repeat and jump ahead, the ledger holds every record once and in order.
    #[test]
    fn any_shipping_gives_the_same_ledger(cuts in prop::collection::vec((0_usize..30, 0_usize..30), 1..30)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let db = Db::sqlite().await;
            let f = Fixture::new(&db.store).await;
            let entries: Vec<Entry> = (0..30).map(|seq| f.record(f.runner, seq, None)).collect();
            let mut expected = 0;
            for (from, len) in cuts {
                let part = &entries[from..(from + len).min(30)];
                let done =
                    written!(f, |tx| spool::ingest(&mut tx, f.runner, from as u64, part, f.now())).unwrap();
                if from as u64 <= expected {
                    expected = expected.max((from + part.len()) as u64);
                }
                assert_eq!(done.next, expected);
            }
            let kept = seen!(f, |tx| records::export(&mut tx, &f.runner.to_string(), 0, 100));
            let told: Vec<Entry> = kept.into_iter().map(|one| Entry::Record { canonical: one.canonical }).collect();
            assert_eq!(told, entries[..usize::try_from(expected).unwrap()]);
        });
    }
}
