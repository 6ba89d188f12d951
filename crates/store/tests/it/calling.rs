//! Model calls as people look for them.

use stockade_domain::{
    Action, Answer, ContextValue, DecidingPolicy, Decision, Nanos, Principal, Resource, ResourceKind, Timestamp, Usage,
    ids::{ModelCallId, RunId},
};
use stockade_ledger::{Body, DeedFacts, Outcome, Producer, Record, Status};
use stockade_store::{
    Page,
    calls::{self, CallFilter, TotalsBy},
    spool::Entry,
};

use crate::{
    engines::both,
    fixture::{Fixture, seen},
};

fn record(f: &Fixture, seq: u64, run: RunId, body: Body) -> Record {
    let producer = Producer::Runner(f.runner);
    Record { producer, seq, at: f.now(), id: f.id(), run: Some(run), project: Some(f.project), body }
}

fn line(record: &Record) -> Entry {
    Entry::Record { canonical: String::from_utf8(record.canonical()).unwrap() }
}

fn deed(f: &Fixture, run: RunId, call: ModelCallId) -> DeedFacts {
    let context = [("call", call.to_string()), ("model", "sonnet".to_owned()), ("session", "s1".to_owned())];
    DeedFacts {
        principal: Principal::User { id: f.admin, roles: vec![] },
        action: Action::ModelCall,
        resource: Resource::new(ResourceKind::Model, "sonnet").in_project(f.project).in_run(run),
        context: context.map(|(name, value)| (name.to_owned(), ContextValue::Text(value))).into(),
    }
}

fn opening(f: &Fixture, run: RunId, call: ModelCallId) -> Body {
    let deed = deed(f, run, call);
    let decision = Decision { answer: Answer::Allow, bundle: 1, policies: vec![], approval: None };
    Body::Open { deed, decision, contents: vec![] }
}

both! {
    a_call_is_noted_when_it_begins_and_counted_once_when_it_ends(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos(100)).await;
        let call = f.id();
        let opened = record(&f, 0, run, opening(&f, run, call));
        f.ship(f.runner, &[line(&opened)]).await;
        assert_eq!(seen!(f, |tx| calls::get(&mut tx, call)).status, "open");
        f.pass(2);
        let usage = Usage { input_tokens: 10, output_tokens: 4, cache_read_tokens: 3, ..Usage::default() };
        let close = |of| Body::Close {
            of,
            outcome: Outcome::with_code(Status::Cancelled, "stopped"),
            usage: Some(usage),
            cost: Some(Nanos(70)),
            facts: std::collections::BTreeMap::new(),
            contents: vec![],
        };
        let closed = record(&f, 1, run, close(opened.id));
        // A second end of the same call is a record like any other, and changes no sum; nor does the end of something else.
        let (again, other) = (record(&f, 2, run, close(opened.id)), record(&f, 3, run, close(f.id())));
        f.ship(f.runner, &[line(&closed), line(&again), line(&other)]).await;
        let found = seen!(f, |tx| calls::get(&mut tx, call));
        assert_eq!((found.status.as_str(), found.code.as_deref()), ("cancelled", Some("stopped")));
        assert_eq!((found.closed, found.cost, found.duration_ms), (Some(closed.id), Nanos(70), Some(2_000)));
        assert_eq!((found.repository.as_str(), found.person), ("/srv/sample", Some(f.admin)));
        let sums = seen!(f, |tx| calls::totals(&mut tx, TotalsBy::Day, &CallFilter::default()));
        assert_eq!((sums.len(), sums[0].calls, sums[0].input_tokens, sums[0].cost), (1, 1, 13, Nanos(70)));
        let mine = CallFilter { person: Some(f.admin), ..CallFilter::default() };
        let sessions = seen!(f, |tx| calls::sessions(&mut tx, &mine, &Page::default())).items;
        assert_eq!((sessions.len(), sessions[0].calls, sessions[0].tokens), (1, 1, 17));
        let it = &sessions[0];
        let count = async |filter: CallFilter| seen!(f, |tx| calls::sessions(&mut tx, &filter, &Page::default())).items.len();
        let all = CallFilter::default;
        for (wish, other) in [
            (CallFilter { session: Some(it.session.clone()), ..all() }, CallFilter { session: Some("x".into()), ..all() }),
            (CallFilter { client: Some(it.client.clone()), ..all() }, CallFilter { client: Some("x".into()), ..all() }),
            (CallFilter { run: Some(it.run), ..all() }, CallFilter { run: Some(f.id()), ..all() }),
            (CallFilter { since: Some(it.last_at), ..all() }, CallFilter { since: Some(Timestamp(it.last_at.0 + 1)), ..all() }),
            (CallFilter { until: Some(Timestamp(it.first_at.0 + 1)), ..all() }, CallFilter { until: Some(it.first_at), ..all() }),
        ] {
            assert_eq!((count(wish.clone()).await, count(other).await), (1, 0), "{wish:?}");
        }
    }
}

both! {
    a_refused_call_says_by_what_and_counts_in_no_sum(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos(100)).await;
        let call = f.id();
        let title = "The token was made for other models".to_owned();
        let policies = vec![DecidingPolicy { id: "gateway:not_for_token".to_owned(), title }];
        let decision = Decision { answer: Answer::Deny, bundle: 1, policies, approval: None };
        let refused = record(&f, 0, run, Body::Refused { deed: deed(&f, run, call), decision, contents: vec![] });
        f.ship(f.runner, &[line(&refused)]).await;
        let found = seen!(f, |tx| calls::get(&mut tx, call));
        assert_eq!((found.status.as_str(), found.code.as_deref()), ("refused", Some("gateway:not_for_token")));
        assert_eq!((found.model.as_str(), found.cost), ("sonnet", Nanos(0)));
        assert!(seen!(f, |tx| calls::totals(&mut tx, TotalsBy::Day, &CallFilter::default())).is_empty());
    }
}

both! {
    a_call_without_money_is_told_as_refused(db) {
        let f = Fixture::new(&db.store).await;
        let (run, ..) = f.leased(Nanos(100)).await;
        let call: ModelCallId = f.id();
        let facts = [("call".to_owned(), call.to_string().into()), ("model".to_owned(), "sonnet".into())];
        let note = |number, run| {
            let body = Body::Note { code: "budget_exhausted".to_owned(), facts: facts.clone().into(), contents: vec![] };
            record(&f, number, run, body)
        };
        f.ship(f.runner, &[line(&note(0, run)), line(&note(1, f.id()))]).await;
        let found = seen!(f, |tx| calls::get(&mut tx, call));
        assert_eq!((found.status.as_str(), found.code.as_deref()), ("refused", Some("budget_exhausted")));
        assert_eq!((found.model.as_str(), found.person, found.run), ("sonnet", Some(f.admin), run));
        assert!(seen!(f, |tx| calls::totals(&mut tx, TotalsBy::Day, &CallFilter::default())).is_empty());
    }
}
