//! Connections of environments as people look for them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stockade_domain::{
    Action, Answer, ContextValue, DecidingPolicy, Decision, Nanos, Principal, Resource, ResourceKind, Timestamp,
    ids::{ApprovalId, EnvironmentId, RecordId, RunId, RunnerId},
};
use stockade_ledger::{Body, DeedFacts, Outcome, Producer, Record, Status};
use stockade_store::{
    Page, Store, StoreError,
    connections::{self, Connection, ConnectionFilter, MAX_HOSTS, MAX_ROWS},
    runs,
    spool::{self, Entry},
};

use crate::{
    engines::{Db, both},
    fixture::{Fixture, seen, written},
};

/// The largest number of a record.
const WIDEST: i64 = (1 << 53) - 1;

type Facts<'a> = &'a [(&'a str, ContextValue)];

/// A run with an environment on the first runner, whose records are numbered as they are made.
struct Scene<'a> {
    f: &'a Fixture,
    run: RunId,
    environment: EnvironmentId,
    runner: RunnerId,
    seq: u64,
}

impl<'a> Scene<'a> {
    async fn new(f: &'a Fixture) -> Self {
        let (run, environment) = f.placed(Nanos(100)).await;
        Self { f, run, environment, runner: f.runner, seq: 0 }
    }

    fn record(&mut self, body: Body) -> Record {
        let (producer, seq) = (Producer::Runner(self.runner), self.seq);
        self.seq += 1;
        let (at, id) = (self.f.now(), self.f.id());
        Record { producer, seq, at, id, run: Some(self.run), project: Some(self.f.project), body }
    }

    fn deed(&self, action: Action, kind: ResourceKind, id: &str, facts: Facts<'_>) -> DeedFacts {
        DeedFacts {
            principal: Principal::Agent { run: self.run, owner: self.f.admin },
            action,
            resource: Resource::new(kind, id).in_project(self.f.project).in_run(self.run),
            context: facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        }
    }

    fn to_host(&self, host: &str) -> DeedFacts {
        let facts = [("port", 443.into()), ("protocol", "tls".into()), ("inspected", false.into())];
        self.deed(Action::ConnectionOpen, ResourceKind::Host, host, &facts)
    }

    fn open(&mut self, deed: DeedFacts) -> Record {
        self.record(Body::Open { deed, decision: decision(Answer::Allow, None), contents: vec![] })
    }

    fn refuse(&mut self, deed: DeedFacts) -> Record {
        self.record(Body::Refused { deed, decision: decision(Answer::Deny, None), contents: vec![] })
    }

    fn close(&mut self, of: RecordId, outcome: Outcome, facts: Facts<'_>) -> Record {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.record(Body::Close { of, outcome, usage: None, cost: None, facts, contents: vec![] })
    }

    async fn ship(&self, records: &[&Record]) {
        let lines: Vec<Entry> = records.iter().map(|record| line(record)).collect();
        assert_eq!(self.f.ship(self.runner, &lines).await.taken, records.len() as u64);
    }

    async fn get(&self, record: &Record) -> Connection {
        seen!(self.f, |tx| connections::get(&mut tx, record.id))
    }

    async fn list(&self, filter: &ConnectionFilter) -> Vec<Connection> {
        seen!(self.f, |tx| connections::list(&mut tx, filter, &Page { limit: 200, cursor: None })).items
    }
}

fn line(record: &Record) -> Entry {
    Entry::Record { canonical: String::from_utf8(record.canonical()).unwrap() }
}

fn decision(answer: Answer, approval: Option<ApprovalId>) -> Decision {
    let policies = vec![DecidingPolicy { id: "web".to_owned(), title: "Names that agents reach".to_owned() }];
    Decision { answer, bundle: 1, policies, approval }
}

fn went(out: i64, back: i64) -> [(&'static str, ContextValue); 3] {
    [("bytes_out", out.into()), ("bytes_in", back.into()), ("address", "192.0.2.7:443".into())]
}

both! {
    a_connection_is_noted_when_it_opens_and_counted_once_when_it_ends(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let deed = s.to_host("crates.example");
        let opened = s.open(deed);
        s.ship(&[&opened]).await;
        let found = s.get(&opened).await;
        assert_eq!((found.status.as_str(), found.closed_at, found.environment), ("open", None, s.environment));
        assert_eq!((found.port, found.protocol.as_deref(), found.inspected), (Some(443), Some("tls"), Some(false)));
        assert_eq!((found.policy.as_deref(), found.decision), (Some("web"), Answer::Allow));
        f.pass(2);
        let closed = s.close(opened.id, Outcome::with_code(Status::Error, "silent"), &went(10, 500));
        // A second end of the same is a record like any other and changes no sum; nor does the end of something else.
        let again = s.close(opened.id, Outcome::new(Status::Ok), &went(1, 1));
        let other = s.close(f.id(), Outcome::new(Status::Ok), &went(1, 1));
        s.ship(&[&closed, &again, &other]).await;
        let found = s.get(&opened).await;
        assert_eq!((found.status.as_str(), found.code.as_deref()), ("error", Some("silent")));
        assert_eq!((found.bytes_out, found.bytes_in, found.address.as_deref()), (10, 500, Some("192.0.2.7:443")));
        assert_eq!((found.closed, found.closed_at), (Some(closed.id), Some(closed.at)));
        let sums = seen!(f, |tx| connections::sums(&mut tx, s.run));
        assert_eq!((sums.all.len(), sums.hosts.len()), (1, 1));
        assert_eq!((sums.all[0].times, sums.all[0].bytes_out, sums.all[0].bytes_in), (1, 10, 500));
        let host = &sums.hosts[0];
        assert_eq!((host.host.as_str(), host.port, host.bytes_in), ("crates.example", 443, 500));
    }

    what_is_refused_names_the_policy_and_what_was_left_out(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let facts = [("port", 22.into()), ("left_out", 7.into())];
        let refused = s.refuse(s.deed(Action::ConnectionOpen, ResourceKind::Host, "far.example", &facts));
        s.ship(&[&refused]).await;
        let found = s.get(&refused).await;
        assert_eq!((found.status.as_str(), found.decision, found.left_out), ("refused", Answer::Deny, 7));
        assert_eq!((found.title.as_deref(), found.closed_at), (Some("Names that agents reach"), Some(refused.at)));
        assert!(found.notable);
        let sums = seen!(f, |tx| connections::sums(&mut tx, s.run));
        assert_eq!((sums.all[0].decision, sums.all[0].times, sums.all[0].left_out), (Answer::Deny, 1, 7));
    }

    a_question_is_answered_by_what_follows_it(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let (yes, no): (ApprovalId, ApprovalId) = (f.id(), f.id());
        let ask = |s: &mut Scene<'_>, approval| {
            let deed = s.to_host("ask.example");
            s.record(Body::Asked { deed, decision: decision(Answer::Ask, None), approval, contents: vec![] })
        };
        let (first, second) = (ask(&mut s, yes), ask(&mut s, no));
        s.ship(&[&first, &second]).await;
        let found = s.get(&first).await;
        assert_eq!((found.status.as_str(), found.decision, found.approval), ("asked", Answer::Ask, Some(yes)));
        f.pass(5);
        let deed = s.to_host("ask.example");
        let allowed = decision(Answer::Allow, Some(yes));
        let opened = s.record(Body::Open { deed: deed.clone(), decision: allowed, contents: vec![] });
        let refused = decision(Answer::Deny, Some(no));
        let refused = s.record(Body::Refused { deed, decision: refused, contents: vec![] });
        s.ship(&[&opened, &refused]).await;
        assert_eq!((s.get(&first).await.status.as_str(), s.get(&first).await.closed_at), ("granted", Some(opened.at)));
        assert_eq!((s.get(&second).await.status.as_str(), s.get(&refused).await.approval), ("refused", Some(no)));
        assert_eq!((s.get(&opened).await.status.as_str(), s.get(&opened).await.approval), ("open", Some(yes)));
    }

    requests_credentials_and_pushes_say_what_they_are(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let deed = s.to_host("forge.example");
        let connection = s.open(deed);
        let on = ("connection", ContextValue::from(connection.id.to_string()));
        let facts = [on.clone(), ("port", 443.into()), ("method", "POST".into()), ("upgrade", "websocket".into())];
        let request = s.open(s.deed(Action::RequestSend, ResourceKind::Host, "forge.example", &facts));
        let used = s.open(s.deed(Action::CredentialUse, ResourceKind::Credential, "forge", &[("host", "forge.example".into())]));
        // A zero in a text is nothing that Postgres takes.
        let facts = [("ref", "refs/heads/a\0b".into()), ("connection", "no record".into())];
        let push = s.refuse(s.deed(Action::GitPush, ResourceKind::Repository, "forge.example/team/app", &facts));
        let answered = s.close(request.id, Outcome::new(Status::Ok), &[("status", 201.into())]);
        s.ship(&[&connection, &request, &used, &push, &answered]).await;
        let found = s.get(&request).await;
        assert_eq!((found.parent, found.method.as_deref(), found.http_status), (Some(connection.id), Some("POST"), Some(201)));
        assert_eq!((found.upgrade.as_deref(), found.notable), (Some("websocket"), false));
        let found = s.get(&used).await;
        assert_eq!((found.credential.as_deref(), found.host.as_str(), found.notable), (Some("forge"), "forge.example", true));
        let found = s.get(&push).await;
        assert_eq!((found.repository.as_deref(), found.host.as_str()), (Some("forge.example/team/app"), "forge.example"));
        assert_eq!((found.git_ref.as_deref(), found.parent), (Some("refs/heads/a\u{fffd}b"), None));
    }

    packets_and_names_that_went_nowhere_are_told(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let note = |s: &mut Scene<'_>, code: &str, facts: Facts<'_>| {
            let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            s.record(Body::Note { code: code.to_owned(), facts, contents: vec![] })
        };
        let facts = [("protocol", 17.into()), ("to", "192.0.2.1".into()), ("port", 443.into())];
        let packet = note(&mut s, "packet_nowhere", &facts);
        let names = note(&mut s, "names_crowded", &[("below", "tunnel.example".into())]);
        let other = note(&mut s, "tested", &[]);
        s.ship(&[&packet, &names, &other]).await;
        let found = s.get(&packet).await;
        assert_eq!((found.action.as_str(), found.host.as_str(), found.port), ("packet_nowhere", "192.0.2.1", Some(443)));
        assert_eq!((found.protocol.as_deref(), found.decision), (Some("udp"), Answer::Deny));
        assert_eq!(s.get(&names).await.host, "tunnel.example");
        let gone = connections::get(&mut f.store.read().await.unwrap(), other.id).await;
        assert!(matches!(gone, Err(StoreError::NotFound { .. })));
    }

    whoever_follows_a_run_is_told_of_each_host_once(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let mut records = Vec::new();
        for host in ["a.example", "b.example", "a.example", "a.example", "b.example"] {
            let deed = s.to_host(host);
            records.push(s.open(deed));
        }
        s.ship(&records.iter().collect::<Vec<_>>()).await;
        let told = s.list(&ConnectionFilter { notable: Some(true), ..ConnectionFilter::default() }).await;
        assert_eq!(told.iter().map(|row| row.id).collect::<Vec<_>>(), [records[1].id, records[0].id]);
    }

    a_list_is_what_was_asked_for(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let deed = s.to_host("a.example");
        let first = s.open(deed);
        f.pass(10);
        let push = s.open(s.deed(Action::GitPush, ResourceKind::Repository, "b.example/x", &[]));
        let done = s.close(push.id, Outcome::new(Status::Ok), &[]);
        f.pass(10);
        let refused = s.refuse(s.to_host("c.example"));
        s.ship(&[&first, &push, &done, &refused]).await;
        let all = ConnectionFilter::default;
        let text = |text: &str| Some(text.to_owned());
        for (wish, ids) in [
            (all(), vec![&refused, &push, &first]),
            (ConnectionFilter { run: Some(s.run), ..all() }, vec![&refused, &push, &first]),
            (ConnectionFilter { run: Some(f.id()), ..all() }, vec![]),
            (ConnectionFilter { project: Some(f.project), ..all() }, vec![&refused, &push, &first]),
            (ConnectionFilter { environment: Some(s.environment), ..all() }, vec![&refused, &push, &first]),
            (ConnectionFilter { environment: Some(f.id()), ..all() }, vec![]),
            (ConnectionFilter { host: text("b.example"), ..all() }, vec![&push]),
            (ConnectionFilter { action: text("git.push"), ..all() }, vec![&push]),
            (ConnectionFilter { decision: Some(Answer::Deny), ..all() }, vec![&refused]),
            (ConnectionFilter { status: text("open"), ..all() }, vec![&first]),
            (ConnectionFilter { since: Some(push.at), ..all() }, vec![&refused, &push]),
            (ConnectionFilter { until: Some(push.at), ..all() }, vec![&first]),
        ] {
            let found: Vec<_> = s.list(&wish).await.iter().map(|row| row.id).collect();
            assert_eq!(found, ids.iter().map(|record| record.id).collect::<Vec<_>>(), "{wish:?}");
        }
        let page = Page { limit: 2, cursor: None };
        let one = seen!(f, |tx| connections::list(&mut tx, &all(), &page));
        let page = Page { limit: 2, cursor: one.next_cursor };
        assert_eq!((one.items.len(), seen!(f, |tx| connections::list(&mut tx, &all(), &page)).items.len()), (2, 1));
    }

    who_follows_hears_of_ends_too(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let deed = s.to_host("a.example");
        let (first, second) = (s.open(deed.clone()), s.open(deed));
        s.ship(&[&first, &second]).await;
        f.pass(10);
        let since = f.now();
        let closed = s.close(first.id, Outcome::new(Status::Ok), &went(1, 2));
        s.ship(&[&closed]).await;
        let filter = ConnectionFilter { run: Some(s.run), ..ConnectionFilter::default() };
        let heard = seen!(f, |tx| connections::changed(&mut tx, &filter, since, &Page::default())).items;
        assert_eq!(heard.iter().map(|row| (row.id, row.status.as_str())).collect::<Vec<_>>(), [(first.id, "ok")]);
        // From the beginning, a page at a time.
        let mut page = Page { limit: 1, cursor: None };
        let mut all = Vec::new();
        loop {
            let found = seen!(f, |tx| connections::changed(&mut tx, &ConnectionFilter::default(), Timestamp(0), &page));
            all.extend(found.items.iter().map(|row| row.id));
            page.cursor = found.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        assert_eq!(all, [second.id, first.id]);
        let page = Page { limit: 1, cursor: Some("nonsense".to_owned()) };
        let bad = connections::changed(&mut f.store.read().await.unwrap(), &filter, since, &page).await;
        assert!(matches!(bad, Err(StoreError::Invalid { what: "cursor", .. })));
    }

    a_run_has_so_many_rows_and_hosts_and_what_is_more_is_counted(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let deed = s.to_host("a.example");
        let first = s.open(deed.clone());
        s.ship(&[&first]).await;
        assert_eq!((MAX_ROWS, MAX_HOSTS), (20_000, 500));
        let mut tx = f.store.write().await.unwrap();
        tx.hurt("UPDATE connection_sums SET times = 19999, hosts = 499").await.unwrap();
        tx.commit().await.unwrap();
        let (last, over) = (s.open(s.to_host("b.example")), s.open(s.to_host("c.example")));
        let closed = s.close(over.id, Outcome::new(Status::Ok), &went(5, 5));
        // Another kind of thing has rows of its own: a flood hides no push and no refusal.
        let refused = s.refuse(deed);
        let push = s.open(s.deed(Action::GitPush, ResourceKind::Repository, "b.example/x", &[]));
        s.ship(&[&last, &over, &closed, &refused, &push]).await;
        let ids: Vec<_> = s.list(&ConnectionFilter::default()).await.iter().map(|row| row.id).collect();
        assert_eq!(ids, [push.id, refused.id, last.id, first.id]);
        let sums = seen!(f, |tx| connections::sums(&mut tx, s.run));
        let opened = sums.all.iter().find(|sum| sum.action == "connection.open" && sum.decision == Answer::Allow);
        assert_eq!(opened.map(|sum| (sum.times, sum.bytes_in)), Some((20_001, 0)));
        assert!(sums.hosts.iter().all(|sum| sum.host != "c.example"));
    }

    a_run_that_is_erased_leaves_no_row(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let deed = s.to_host("a.example");
        let opened = s.open(deed.clone());
        s.ship(&[&opened]).await;
        written!(f, |tx| runs::erase(&mut tx, s.run, f.now())).unwrap();
        let (closed, late) = (s.close(opened.id, Outcome::new(Status::Ok), &went(1, 1)), s.open(deed));
        s.ship(&[&closed, &late]).await;
        assert!(s.list(&ConnectionFilter::default()).await.is_empty());
        let sums = seen!(f, |tx| connections::sums(&mut tx, s.run));
        assert!(sums.all.is_empty() && sums.hosts.is_empty());
    }

    a_runner_tells_nothing_of_runs_that_it_never_had(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let deed = s.to_host("a.example");
        let opened = s.open(deed.clone());
        s.ship(&[&opened]).await;
        (s.runner, s.seq) = (f.other_runner, 0);
        let (foreign, closed) = (s.open(deed), s.close(opened.id, Outcome::new(Status::Ok), &went(9, 9)));
        s.ship(&[&foreign, &closed]).await;
        let found = s.list(&ConnectionFilter::default()).await;
        assert_eq!(found.iter().map(|row| (row.id, row.status.as_str())).collect::<Vec<_>>(), [(opened.id, "open")]);
    }

    what_overflows_is_cut(db) {
        let f = Fixture::new(&db.store).await;
        let mut s = Scene::new(&f).await;
        let deed = s.to_host(&"x".repeat(900));
        let (first, second) = (s.open(deed.clone()), s.open(deed));
        let most = [("bytes_out", WIDEST.into()), ("bytes_in", (-WIDEST).into()), ("status", WIDEST.into())];
        let ends = [s.close(first.id, Outcome::new(Status::Ok), &most), s.close(second.id, Outcome::new(Status::Ok), &most)];
        s.ship(&[&first, &second, &ends[0], &ends[1]]).await;
        let sums = seen!(f, |tx| connections::sums(&mut tx, s.run));
        assert_eq!((sums.all[0].bytes_out, sums.all[0].bytes_in), (2 << 47, 0));
        let found = s.get(&first).await;
        assert_eq!((found.host.len(), found.http_status), (300, None));
    }
}

/// What happens to one of a few connections.
#[derive(Debug, Clone, Copy)]
enum Step {
    Open(u8),
    Refuse(u8),
    Close(u8, i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u8..4).prop_map(Step::Open),
        1 => (0_u8..4).prop_map(Step::Refuse),
        3 => (0_u8..8, 0_i64..1_000).prop_map(|(which, bytes)| Step::Close(which, bytes)),
    ];
    prop::collection::vec(step, 1..40)
}

/// Ships what happened in pieces, each of which begins again a little before the last one ended, and gives what should be seen: by
/// connection its status and bytes.
async fn shipped_in_pieces(
    store: &Store,
    steps: &[Step],
    pieces: &[usize],
) -> (Vec<Connection>, BTreeMap<RecordId, (String, u64)>, u64) {
    let f = Fixture::new(store).await;
    let mut s = Scene::new(&f).await;
    let mut lines = Vec::new();
    let mut model = BTreeMap::new();
    let mut opened = Vec::new();
    for step in steps {
        f.pass(1);
        let record = match *step {
            Step::Open(host) => {
                let record = s.open(s.to_host(&format!("h{host}.example")));
                opened.push(record.id);
                model.insert(record.id, ("open".to_owned(), 0));
                record
            }
            Step::Refuse(host) => {
                let record = s.refuse(s.to_host(&format!("h{host}.example")));
                model.insert(record.id, ("refused".to_owned(), 0));
                record
            }
            Step::Close(which, bytes) => {
                let of = opened.get(which as usize).copied().unwrap_or_else(|| f.id());
                if let Some(known) = model.get_mut(&of).filter(|(status, _)| status == "open") {
                    *known = ("ok".to_owned(), bytes.unsigned_abs());
                }
                s.close(of, Outcome::new(Status::Ok), &[("bytes_in", bytes.into())])
            }
        };
        lines.push(line(&record));
    }
    let mut from = 0;
    for piece in pieces.iter().copied().chain([usize::MAX]) {
        let end = from.min(lines.len()).saturating_add(piece).min(lines.len());
        let start = from.saturating_sub(3).min(end);
        let mut tx = f.store.write().await.unwrap();
        spool::ingest(&mut tx, s.runner, start as u64, &lines[start..end], f.now()).await.unwrap();
        tx.commit().await.unwrap();
        from = end;
    }
    let sums = seen!(f, |tx| connections::sums(&mut tx, s.run));
    let bytes = sums.hosts.iter().map(|sum| sum.bytes_in).sum();
    assert_eq!(sums.all.iter().map(|sum| sum.bytes_in).sum::<u64>(), bytes);
    (s.list(&ConnectionFilter::default()).await, model, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// In whatever pieces records come, and however often again: each connection is there once, with its one end.
    #[test]
    fn records_that_come_again_change_nothing(steps in steps(), pieces in prop::collection::vec(0_usize..9, 0..8)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (found, model, bytes) = runtime.block_on(async {
            let db = Db::sqlite().await;
            shipped_in_pieces(&db.store, &steps, &pieces).await
        });
        prop_assert_eq!(model.values().map(|(_, bytes)| *bytes).sum::<u64>(), bytes);
        let found: BTreeMap<_, _> = found.into_iter().map(|row| (row.id, (row.status, row.bytes_in))).collect();
        prop_assert_eq!(found, model);
    }
}
