//! Records, their search and their checkpoints.

use stockade_domain::{Action, Answer, Decision, Deed, Nanos, Principal, Resource, ResourceKind, Role};
use stockade_ledger::{Body, DeedFacts, Record, Tree, leaf_hash};
use stockade_store::{
    Page, StoreError,
    records::{self, NewRecord, RecordFilter},
};

use crate::{
    engines::both,
    fixture::{Fixture, seen, written},
};

fn opened(f: &Fixture, principal: Principal, action: Action, resource: Resource) -> NewRecord {
    let deed = Deed { principal, action, resource, context: Default::default() };
    let decision = Decision { answer: Answer::Allow, bundle: 1, policies: Vec::new(), approval: None };
    NewRecord {
        id: f.id(),
        at: f.now(),
        run: deed.resource.run,
        project: deed.resource.project,
        body: Body::Open { deed: DeedFacts::from(&deed), decision, contents: Vec::new() },
    }
}

both! {
    many_writers_make_one_chain(db) {
        let f = Fixture::new(&db.store).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let principal = Principal::User { id: f.admin, roles: vec![Role::Admin] };
            let new = opened(&f, principal, Action::PolicyRead, Resource::new(ResourceKind::Policy, "policy"));
            let (store, server) = (f.store.clone(), f.server);
            tasks.spawn(async move {
                let mut tx = store.write().await.unwrap();
                records::append(&mut tx, server, new).await.unwrap();
                tx.commit().await.unwrap();
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let producer = f.server.to_string();
        let all = seen!(f, |tx| records::export(&mut tx, &producer, 0, 100));
        assert_eq!(all.iter().map(|one| one.seq).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
        let mut tree = Tree::new();
        for one in &all {
            assert_eq!(Record::parse(one.canonical.as_bytes()).unwrap().seq, one.seq);
            tree.append(leaf_hash(one.canonical.as_bytes()));
        }
        let state = seen!(f, |tx| records::ledger(&mut tx, &producer));
        assert_eq!((state.size, state.root), (40, tree.root()));
        assert_eq!(seen!(f, |tx| records::export(&mut tx, &producer, 30, 5))[0], all[30]);
        let leaves = seen!(f, |tx| records::leaf_hashes(&mut tx, &producer, 39, 9));
        assert_eq!(leaves, [leaf_hash(all[39].canonical.as_bytes())]);
        assert_eq!(seen!(f, |tx| records::ledgers(&mut tx)), [state]);
        assert_eq!(seen!(f, |tx| records::get(&mut tx, all[7].id)), all[7]);
    }

    a_record_that_is_not_committed_leaves_no_gap(db) {
        let f = Fixture::new(&db.store).await;
        let new = || {
            let resource = Resource::new(ResourceKind::Policy, "policy");
            opened(&f, Principal::Server { id: f.server }, Action::PolicyRead, resource)
        };
        let mut tx = f.store.write().await.unwrap();
        records::append(&mut tx, f.server, new()).await.unwrap();
        drop(tx);
        let kept = written!(f, |tx| records::append(&mut tx, f.server, new())).unwrap();
        assert_eq!(kept.seq, 0);
        let twin = NewRecord { id: kept.id, ..new() };
        assert!(matches!(
            written!(f, |tx| records::append(&mut tx, f.server, twin)),
            Err(StoreError::Exists { .. })
        ));
    }

    records_are_found(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos::DOLLAR).await;
        let person = Principal::User { id: f.admin, roles: vec![Role::Admin] };
        let agent = Principal::Agent { run, owner: f.admin };
        let mut ids = Vec::new();
        for (principal, action, resource) in [
            (person.clone(), Action::ProjectCreate, Resource::new(ResourceKind::Project, f.project).in_project(f.project)),
            (agent.clone(), Action::ModelCall, Resource::new(ResourceKind::Model, "Sonnet_5%").in_run(run)),
            (agent, Action::ToolCall, Resource::new(ResourceKind::Tool, "run").in_run(run).in_project(f.project)),
            (Principal::Server { id: f.server }, Action::RunnerRead, Resource::new(ResourceKind::Organization, "x")),
        ] {
            f.pass(1);
            let new = opened(&f, principal, action, resource);
            ids.push(written!(f, |tx| records::append(&mut tx, f.server, new)).unwrap().id);
        }
        f.ship(f.runner, &[f.record(f.runner, 0, Some(run))]).await;
        let found = |filter: RecordFilter| {
            let (f, ids) = (&f, &ids);
            async move {
                let page = seen!(f, |tx| records::list(&mut tx, &filter, &Page::default()));
                let place = |one: records::StoredRecord| ids.iter().position(|id| *id == one.id).unwrap_or(99);
                page.items.into_iter().map(place).collect::<Vec<_>>()
            }
        };
        let any = RecordFilter::default;
        assert_eq!(found(any()).await, [99, 3, 2, 1, 0]);
        assert_eq!(found(RecordFilter { run: Some(run), ..any() }).await, [99, 2, 1]);
        assert_eq!(found(RecordFilter { principal: Some(f.admin.to_string()), ..any() }).await, [2, 1, 0]);
        assert_eq!(found(RecordFilter { principal: Some(run.to_string()), ..any() }).await, [2, 1]);
        assert_eq!(found(RecordFilter { principal: Some(f.server.to_string()), ..any() }).await, [3]);
        assert_eq!(found(RecordFilter { action: Some(Action::ToolCall), ..any() }).await, [2]);
        assert_eq!(found(RecordFilter { project: Some(f.project), ..any() }).await, [2, 0]);
        assert_eq!(found(RecordFilter { producer: Some(f.runner.to_string()), ..any() }).await, [99]);
        let since = crate::fixture::FRIDAY.plus_seconds(2);
        assert_eq!(found(RecordFilter { since: Some(since), until: Some(since.plus_seconds(1)), ..any() }).await, [1]);
        // What is a pattern elsewhere is only a text here.
        assert_eq!(found(RecordFilter { text: Some("sonnet_5%".to_owned()), ..any() }).await, [1]);
        assert_eq!(found(RecordFilter { text: Some("%".to_owned()), ..any() }).await, [1]);
        assert_eq!(found(RecordFilter { text: Some("S_nnet".to_owned()), ..any() }).await, [0_usize; 0]);
        assert_eq!(found(RecordFilter { text: Some("\\".to_owned()), ..any() }).await, [0_usize; 0]);
        let both = RecordFilter { run: Some(run), action: Some(Action::ModelCall), ..any() };
        assert_eq!(found(both).await, [1]);
        let long = RecordFilter { text: Some("x".repeat(201)), ..any() };
        assert!(records::list(&mut f.store.read().await.unwrap(), &long, &Page::default()).await.is_err());
        // A page at a time.
        let first = seen!(f, |tx| records::list(&mut tx, &any(), &Page { limit: 3, cursor: None }));
        let rest = Page { limit: 3, cursor: first.next_cursor };
        assert_eq!(seen!(f, |tx| records::list(&mut tx, &any(), &rest)).items.len(), 2);
    }

    checkpoints_only_go_forward(db) {
        let f = Fixture::new(&db.store).await;
        let producer = f.runner.to_string();
        let entries: Vec<_> = (0..3).map(|seq| f.record(f.runner, seq, None)).collect();
        f.ship(f.runner, &entries).await;
        let keep = |size, note: &'static str| {
            let (f, producer) = (&f, &producer);
            async move { written!(f, |tx| records::set_checkpoint(&mut tx, producer, size, note, f.now())).unwrap() }
        };
        assert!(!keep(4, "of records that are not here").await);
        assert!(keep(2, "two").await);
        assert!(!keep(1, "one").await);
        assert!(keep(3, "three").await);
        let state = seen!(f, |tx| records::ledger(&mut tx, &producer));
        assert_eq!((state.note.as_str(), state.note_size, state.size), ("three", 3, 3));
        let none = seen!(f, |tx| records::ledger(&mut tx, "srv_nobody"));
        assert_eq!((none.size, none.root, none.note.as_str()), (0, Tree::new().root(), ""));
    }

    a_ledger_row_changed_by_hand_is_noticed(db) {
        let f = Fixture::new(&db.store).await;
        f.ship(f.runner, &[f.record(f.runner, 0, None)]).await;
        let mut tx = f.store.write().await.unwrap();
        tx.hurt("UPDATE ledgers SET size = 2").await.unwrap();
        tx.commit().await.unwrap();
        let entry = f.record(f.runner, 1, None);
        let error = written!(f, |tx| stockade_store::spool::ingest(&mut tx, f.runner, 1, &[entry], f.now()));
        assert!(error.unwrap_err().to_string().contains("was changed by hand"));
    }
}
