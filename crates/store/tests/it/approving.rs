//! Approvals: asked once, answered once.

use stockade_domain::{Action, EventKind, Nanos, RunTransition, ids::ApprovalId, ids::RunId};
use stockade_store::{
    Page, StoreError,
    approvals::{self, ApprovalFilter, ApprovalState},
    people, placement,
    spool::Entry,
};

use crate::{
    engines::both,
    fixture::{Fixture, seen, written},
};

fn asked(f: &Fixture, run: RunId, fence: u64, approval: ApprovalId) -> Entry {
    f.event(
        run,
        fence,
        1,
        EventKind::ApprovalRequested {
            approval,
            action: Action::ChangeOpen,
            resource: run.to_string(),
            policy: "Changes wait for a person".to_owned(),
            expires_at: f.now().plus_seconds(60),
            content: None,
        },
    )
}

both! {
    a_yes_is_durable_and_reaches_the_runner(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let id: ApprovalId = f.id();
        f.ship(f.runner, &[asked(&f, run, fence, id)]).await;
        let pending = ApprovalFilter { state: Some(ApprovalState::Pending), ..ApprovalFilter::default() };
        let waiting = seen!(f, |tx| approvals::list(&mut tx, &pending, &Page::default())).items;
        assert_eq!((waiting.len(), waiting[0].owner, waiting[0].action), (1, f.admin, Action::ChangeOpen));
        assert_eq!(waiting[0].policy, "Changes wait for a person");
        let revision = f.revision(f.runner).await;
        let granted = written!(f, |tx| approvals::answer(&mut tx, id, true, f.admin, f.now())).unwrap();
        assert_eq!((granted.state, granted.by), (ApprovalState::Granted, Some(f.admin)));
        assert_eq!(f.revision(f.runner).await, revision + 1);
        // The same again is nothing new; a no afterwards is refused; so is somebody else's yes.
        written!(f, |tx| approvals::answer(&mut tx, id, true, f.admin, f.now())).unwrap();
        let error = written!(f, |tx| approvals::answer(&mut tx, id, false, f.admin, f.now())).unwrap_err();
        assert_eq!(error.to_string(), "an approval cannot be answered while it is granted");
        let other = people::User { id: f.id(), name: "other".to_owned(), roles: vec![], created_at: f.now() };
        written!(f, |tx| people::add_user(&mut tx, &other)).unwrap();
        assert!(written!(f, |tx| approvals::answer(&mut tx, id, true, other.id, f.now())).is_err());
        let told = seen!(f, |tx| placement::assignments(&mut tx, f.runner)).remove(0).approvals;
        assert_eq!(told, [placement::Answered { approval: id, granted: true, by: Some(f.admin), at: f.now() }]);
        let noted = EventKind::ApprovalAnswered { approval: id, granted: true };
        assert_eq!(f.ship(f.runner, &[f.event(run, fence, 2, noted)]).await.refused, 0);
        assert_eq!(seen!(f, |tx| approvals::get(&mut tx, id)).noted_at, Some(f.now()));
        assert!(written!(f, |tx| approvals::expire(&mut tx, f.now().plus_seconds(99), 9)).unwrap().is_empty());
    }

    silence_is_a_no(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let id: ApprovalId = f.id();
        f.ship(f.runner, &[asked(&f, run, fence, id)]).await;
        assert!(written!(f, |tx| approvals::expire(&mut tx, f.now().plus_seconds(59), 9)).unwrap().is_empty());
        f.pass(60);
        // Too late, although nobody has swept yet.
        let error = written!(f, |tx| approvals::answer(&mut tx, id, true, f.admin, f.now())).unwrap_err();
        assert_eq!(error.to_string(), "an approval cannot be answered while it is expired");
        let revision = f.revision(f.runner).await;
        assert_eq!(written!(f, |tx| approvals::expire(&mut tx, f.now(), 9)).unwrap(), [id]);
        assert_eq!(f.revision(f.runner).await, revision + 1);
        let told = seen!(f, |tx| placement::assignments(&mut tx, f.runner)).remove(0).approvals;
        assert_eq!((told[0].granted, told[0].by), (false, None));
    }

    a_personal_run_is_asked_about_without_a_lease_and_all_of_its_site_hears(db) {
        let f = Fixture::new(&db.store).await;
        let run = f.personal().await;
        let (id, other): (ApprovalId, ApprovalId) = (f.id(), f.id());
        let strange = f.event(run, 0, 1, EventKind::State { transition: RunTransition::Succeed });
        let shipped = f.ship(f.runner, &[asked(&f, run, 0, id), asked(&f, run, 0, other), strange]).await;
        assert_eq!(shipped.refused, 1, "questions only");
        assert!(seen!(f, |tx| approvals::of_site(&mut tx, f.site, f.now())).is_empty());
        let revision = f.revision(f.runner).await;
        written!(f, |tx| approvals::answer(&mut tx, id, true, f.admin, f.now())).unwrap();
        assert_eq!(f.revision(f.runner).await, revision + 1);
        let heard = seen!(f, |tx| approvals::of_site(&mut tx, f.site, f.now()));
        assert_eq!((heard.len(), heard[0].id, heard[0].state), (1, id, ApprovalState::Granted));
        let noted = EventKind::ApprovalAnswered { approval: id, granted: true };
        assert_eq!(f.ship(f.runner, &[f.event(run, 0, 3, noted)]).await.refused, 0);
        assert!(seen!(f, |tx| approvals::of_site(&mut tx, f.site, f.now())).is_empty(), "it is noted");
        f.pass(60);
        let revision = f.revision(f.runner).await;
        assert_eq!(written!(f, |tx| approvals::expire(&mut tx, f.now(), 9)).unwrap(), [other]);
        assert_eq!(f.revision(f.runner).await, revision + 1);
        assert_eq!(seen!(f, |tx| approvals::of_site(&mut tx, f.site, f.now())).len(), 1);
        f.pass(60);
        assert!(seen!(f, |tx| approvals::of_site(&mut tx, f.site, f.now())).is_empty(), "its time is long over");
    }

    of_many_answers_one_counts(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let id: ApprovalId = f.id();
        f.ship(f.runner, &[asked(&f, run, fence, id)]).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..10 {
            let (store, now, by) = (f.store.clone(), f.now(), f.admin);
            tasks.spawn(async move {
                let mut tx = store.write().await.unwrap();
                let granted = n % 2 == 0;
                let answered = approvals::answer(&mut tx, id, granted, by, now).await;
                if answered.is_ok() {
                    tx.commit().await.unwrap();
                }
                answered.ok().map(|approval| (granted, approval.state))
            });
        }
        let mut answers = Vec::new();
        while let Some(done) = tasks.join_next().await {
            answers.extend(done.unwrap());
        }
        let state = seen!(f, |tx| approvals::get(&mut tx, id)).state;
        assert_eq!(answers.len(), 5);
        for (granted, told) in answers {
            assert_eq!(told, state);
            assert_eq!(granted, state == ApprovalState::Granted);
        }
    }

    a_runner_answers_only_for_its_run(db) {
        let f = Fixture::new(&db.store).await;
        let (run, _, fence) = f.leased(Nanos::DOLLAR).await;
        let (other, _, other_fence) = f.leased(Nanos::DOLLAR).await;
        let id: ApprovalId = f.id();
        f.ship(f.runner, &[asked(&f, run, fence, id)]).await;
        let no = EventKind::ApprovalAnswered { approval: id, granted: false };
        assert_eq!(f.ship(f.runner, &[f.event(other, other_fence, 1, no.clone())]).await.refused, 1);
        assert_eq!(seen!(f, |tx| approvals::get(&mut tx, id)).state, ApprovalState::Pending);
        // Its own clock was faster than ours: time ran out.
        assert_eq!(f.ship(f.runner, &[f.event(run, fence, 2, no)]).await.refused, 0);
        assert_eq!(seen!(f, |tx| approvals::get(&mut tx, id)).state, ApprovalState::Expired);
        assert!(matches!(
            written!(f, |tx| approvals::answer(&mut tx, f.id(), true, f.admin, f.now())),
            Err(StoreError::NotFound { .. })
        ));
    }
}
