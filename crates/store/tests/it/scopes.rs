//! Every way of attaching a budget, with every period: each blocks, under any number of requests at once, and one that is set
//! late counts what was spent before.

use stockade_domain::{
    BudgetScope, ContentKind, Nanos, Period, RunKind,
    ids::{GroupId, RunId},
};
use stockade_store::{
    StoreError,
    budgets::{self, LeaseSlice},
    groups, runs,
    spool::{BudgetEntry, Entry},
};

use crate::{
    engines::both,
    fixture::{Fixture, WRAPPED, content, seen, written},
};

const MODEL: &str = "sonnet";

struct Scene {
    f: Fixture,
    task: RunId,
    personal: RunId,
    group: GroupId,
}

impl Scene {
    async fn new(store: &stockade_store::Store) -> Self {
        let f = Fixture::new(store).await;
        let (task, ..) = f.leased(Nanos(1_000_000)).await;
        let sealed = b"sealed name".to_vec();
        let start = runs::Start {
            kind: RunKind::Personal,
            period: Period::Month,
            task: f.id(),
            run: f.id(),
            project: f.project,
            owner: f.admin,
            site: f.site,
            spec: f.spec(Nanos(1_000_000)),
            wrapped_key: WRAPPED.to_owned(),
            content: content(ContentKind::Task, &sealed),
            sealed,
            now: f.now(),
        };
        let personal = written!(f, |tx| runs::start(&mut tx, &start)).unwrap().id;
        let group = written!(f, |tx| groups::add(&mut tx, f.id(), "team", f.now())).unwrap().id;
        written!(f, |tx| groups::join(&mut tx, group, f.admin, f.now())).unwrap();
        Self { f, task, personal, group }
    }

    fn subject(&self, scope: BudgetScope) -> String {
        match scope {
            BudgetScope::Organization => self.f.organization.to_string(),
            BudgetScope::Project => self.f.project.to_string(),
            BudgetScope::User => self.f.admin.to_string(),
            BudgetScope::Run => self.task.to_string(),
            BudgetScope::Key => self.personal.to_string(),
            BudgetScope::Model => MODEL.to_owned(),
            BudgetScope::Group => self.group.to_string(),
        }
    }

    const fn run(&self, scope: BudgetScope) -> RunId {
        if matches!(scope, BudgetScope::Key) { self.personal } else { self.task }
    }

    fn ask(&self, scope: BudgetScope, amount: Nanos) -> LeaseSlice {
        LeaseSlice { slice: self.f.id(), run: self.run(scope), model: MODEL.to_owned(), need: amount, want: amount }
    }

    async fn set(&self, scope: BudgetScope, period: Period, limit: Nanos) -> budgets::Budget {
        let (f, subject) = (&self.f, self.subject(scope));
        written!(f, |tx| budgets::set(&mut tx, f.id(), scope, &subject, period, limit, f.now())).unwrap()
    }

    async fn lease(&self, ask: &LeaseSlice) -> budgets::Leased {
        let f = &self.f;
        written!(f, |tx| budgets::lease_slice(&mut tx, f.runner, ask, f.now())).unwrap()
    }
}

both! {
    every_way_of_attaching_a_budget_blocks(db) {
        let scene = Scene::new(&db.store).await;
        let open = Nanos(i64::MAX / 4);
        let mut spent = Nanos::ZERO;
        for scope in BudgetScope::ALL {
            for period in Period::ALL {
                let had = scene.set(*scope, *period, open).await;
                assert!(*scope == BudgetScope::Key || had.spent == spent, "{scope} {period}: what was spent before counts");
                let room = Nanos(had.spent.0 + 10);
                scene.set(*scope, *period, room).await;
                let none = scene.lease(&scene.ask(*scope, Nanos(11))).await;
                assert_eq!((none.amount, none.exhausted), (Nanos::ZERO, Some(*scope)), "{scope} {period}");
                let ask = scene.ask(*scope, Nanos(10));
                assert_eq!(scene.lease(&ask).await.amount, Nanos(10), "{scope} {period}");
                let settled = BudgetEntry::Settled { slice: ask.slice, call: scene.f.id(), spent: Nanos(10) };
                assert_eq!(scene.f.ship(scene.f.runner, &[Entry::Budget(settled)]).await.refused, 0);
                let none = scene.lease(&scene.ask(*scope, Nanos(1))).await;
                assert_eq!((none.amount, none.exhausted), (Nanos::ZERO, Some(*scope)), "{scope} {period}: it is used up");
                scene.set(*scope, *period, open).await;
                spent = Nanos(spent.0 + 10);
            }
        }
    }

    what_is_somebody_else_s_or_another_model_s_is_not_bound(db) {
        let scene = Scene::new(&db.store).await;
        scene.set(BudgetScope::Model, Period::Day, Nanos::ZERO).await;
        let other = LeaseSlice { model: "opus".to_owned(), ..scene.ask(BudgetScope::Run, Nanos(5)) };
        assert_eq!(scene.lease(&other).await.amount, Nanos(5));
        scene.set(BudgetScope::Model, Period::Day, Nanos(100)).await;
        scene.set(BudgetScope::Group, Period::Day, Nanos::ZERO).await;
        let f = &scene.f;
        assert_eq!(scene.lease(&scene.ask(BudgetScope::Run, Nanos(5))).await.exhausted, Some(BudgetScope::Group));
        written!(f, |tx| groups::leave(&mut tx, scene.group, f.admin)).unwrap();
        assert_eq!(scene.lease(&scene.ask(BudgetScope::Run, Nanos(5))).await.amount, Nanos(5));
        // A personal run's money goes to any runner of its site.
        let ask = scene.ask(BudgetScope::Key, Nanos(5));
        let leased = written!(f, |tx| budgets::lease_slice(&mut tx, f.other_runner, &ask, f.now())).unwrap();
        assert_eq!(leased.amount, Nanos(5));
        let shown = seen!(f, |tx| budgets::list(&mut tx, Some(scene.personal), f.now()));
        assert!(shown.iter().any(|budget| budget.scope == BudgetScope::Key && budget.period == Period::Month));
    }

    many_at_once_pass_no_limit(db) {
        let scene = std::sync::Arc::new(Scene::new(&db.store).await);
        for scope in [BudgetScope::Key, BudgetScope::Group, BudgetScope::Model] {
            scene.set(scope, Period::Day, Nanos(1_000)).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let scene = std::sync::Arc::clone(&scene);
            tasks.spawn(async move {
                let ask = scene.ask(BudgetScope::Key, Nanos(70));
                loop {
                    let f = &scene.f;
                    match written!(f, |tx| budgets::lease_slice(&mut tx, f.runner, &ask, f.now())) {
                        Ok(leased) => return leased.amount,
                        Err(error) => assert!(StoreError::is_transient(&error), "{error:?}"),
                    }
                }
            });
        }
        let mut total = 0;
        while let Some(amount) = tasks.join_next().await {
            total += amount.unwrap().0;
        }
        assert_eq!(total, 14 * 70);
    }
}
