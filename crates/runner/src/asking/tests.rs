//! Questions over restarts, answers of every kind, and nobody to be asked.

use std::time::Duration;

use stockade_api::runner::Poll;
use stockade_domain::{
    Action, Answer, ContentKind, Context, DecidingPolicy, Decision, Deed, Id, Principal, Resource, ResourceKind, World,
};
use stockade_ledger::{
    Body, EntryKind, Ledger, Log, LogOptions, Producer, Record, RunKey, SigningKey, SiteKey, SystemWorld, sha256,
};

use super::*;
use crate::{personal::Tokens, spool::Spool};

/// A site without anything but its questions.
struct Bare {
    dir: tempfile::TempDir,
    desk: Desk,
    link: Arc<Link>,
    runs: Arc<Registry>,
}

impl Bare {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let log = Arc::new(Log::open(&dir.path().join("log"), LogOptions::default()).unwrap());
        let producer = Producer::Runner(world.id());
        let ledger = Ledger::start(Arc::clone(&log), producer, SigningKey::generate(), Arc::clone(&world)).unwrap();
        let (spool, _) = Spool::start(log, dir.path().join("archive"), u64::MAX).unwrap();
        let link = Arc::new(Link::anonymous("http://127.0.0.1:9", Arc::clone(&world)).unwrap());
        let tokens = Tokens::new(Arc::new(SiteKey::generate().unwrap()), Arc::clone(&world));
        let runs = Arc::new(Registry::new(dir.path().join("runs"), tokens));
        Self { desk: Desk { spool: Arc::new(spool), ledger: Arc::new(ledger), world }, dir, link, runs }
    }

    /// As after a start.
    fn asking(&self) -> Asking {
        Asking::start(self.desk.clone(), Arc::clone(&self.link), Arc::clone(&self.runs), self.dir.path())
    }

    /// What the log holds: records that ask, and events by name.
    fn written(&self) -> (usize, Vec<&'static str>) {
        let (mut asked, mut events) = (0, Vec::new());
        for (_, entry) in self.desk.spool.log().read(0, usize::MAX, usize::MAX).unwrap() {
            match entry.kind {
                EntryKind::Record => {
                    asked += usize::from(matches!(Record::parse(&entry.payload).unwrap().body, Body::Asked { .. }));
                }
                EntryKind::Event => {
                    let text = String::from_utf8(entry.payload.to_vec()).unwrap();
                    let answered = text.contains("approval_answered");
                    events.push(match (answered, text.contains("\"granted\":true")) {
                        (true, true) => "yes",
                        (true, false) => "no",
                        (false, _) => "asked",
                    });
                }
                EntryKind::Content | EntryKind::Budget => {}
            }
        }
        (asked, events)
    }
}

fn inquiry(what: &str) -> Inquiry {
    let (run, owner) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
    let key = RunKey::generate(&SystemWorld, run);
    let seal = |kind| key.seal(&SystemWorld, kind, what.as_bytes()).unwrap();
    Inquiry {
        run,
        owner,
        subject: sha256(&[what.as_bytes()]),
        deed: Deed {
            principal: Principal::User { id: owner, roles: vec![] },
            action: Action::ModelCall,
            resource: Resource::new(ResourceKind::Model, "opus").in_run(run),
            context: Context::default(),
        },
        decision: Decision {
            answer: Answer::Ask,
            bundle: 1,
            policies: vec![DecidingPolicy { id: "dear".to_owned(), title: "Dear calls".to_owned() }],
            approval: None,
        },
        shown: seal(ContentKind::Question),
        request: seal(ContentKind::ModelRequest),
        patience: Duration::ZERO,
        valid_ms: 3_600_000,
    }
}

fn id_of(word: &Word) -> ApprovalId {
    match word {
        Word::Yes { approval } | Word::No { approval, .. } | Word::Silence { approval, .. } => *approval,
    }
}

fn answer(approval: ApprovalId, granted: bool) -> ApprovalAnswer {
    ApprovalAnswer { approval, granted, by: Some(Id::from_bytes([2; 16])), at: Timestamp(1) }
}

#[tokio::test]
async fn a_question_is_asked_once_and_its_yes_is_used_once_also_over_restarts() {
    let bare = Bare::new();
    let first = bare.asking().ask(inquiry("x")).await.unwrap();
    let approval = id_of(&first);
    assert!(matches!(first, Word::Silence { .. }));
    assert_eq!(bare.written(), (1, vec!["asked"]));
    // After a restart it is the same question, and another request is another.
    let asking = bare.asking();
    assert_eq!(asking.ask(inquiry("x")).await.unwrap(), first);
    assert_ne!(id_of(&asking.ask(inquiry("y")).await.unwrap()), approval);
    assert!(!asking.spend(approval).await.unwrap(), "nobody has said yes");
    asking.heard(&[answer(approval, true), answer(Id::from_bytes([9; 16]), true)]);
    let asking = bare.asking();
    assert_eq!(asking.ask(inquiry("x")).await.unwrap(), Word::Yes { approval });
    assert!(asking.spend(approval).await.unwrap());
    assert!(!asking.spend(approval).await.unwrap());
    let asking = bare.asking();
    asking.heard(&[answer(approval, true)]);
    assert!(!asking.spend(approval).await.unwrap(), "the server says it until it knows: it counts once");
    assert_ne!(id_of(&asking.ask(inquiry("x")).await.unwrap()), approval);
    assert_eq!(bare.written(), (3, vec!["asked", "asked", "yes", "asked"]));
}

#[tokio::test]
async fn a_no_holds_for_the_same_request_and_is_noted_once() {
    let bare = Bare::new();
    let asking = bare.asking();
    let waits = Inquiry { patience: Duration::from_secs(60), ..inquiry("x") };
    let waiting = tokio::spawn({
        let asking = asking.clone();
        async move { asking.ask(waits).await }
    });
    let approval = loop {
        if let Some(asked) = asking.shared.known().keys().next() {
            break *asked;
        }
        tokio::task::yield_now().await;
    };
    asking.heard(&[answer(approval, false)]);
    let no = Word::No { approval, by: Some(Id::from_bytes([2; 16])) };
    assert_eq!(waiting.await.unwrap().unwrap(), no);
    assert_eq!(asking.ask(inquiry("x")).await.unwrap(), no);
    asking.heard(&[answer(approval, true)]);
    assert_eq!(bare.asking().ask(inquiry("x")).await.unwrap(), no, "what was said is said");
    let (asked, events) = bare.written();
    assert_eq!((asked, events.first(), events.get(1)), (1, Some(&"asked"), Some(&"no")));
}

#[tokio::test]
async fn what_is_over_or_erased_is_asked_anew() {
    let bare = Bare::new();
    let asking = bare.asking();
    let first = id_of(&asking.ask(Inquiry { valid_ms: 0, ..inquiry("x") }).await.unwrap());
    asking.heard(&[answer(first, true)]);
    assert!(!asking.spend(first).await.unwrap(), "a yes has its time");
    let second = id_of(&asking.ask(inquiry("x")).await.unwrap());
    assert_ne!(first, second);
    asking.forget(Id::from_bytes([1; 16])).unwrap();
    assert_ne!(id_of(&bare.asking().ask(inquiry("x")).await.unwrap()), second);
    slot::set_erased(&bare.runs.dir_of(Id::from_bytes([1; 16]))).unwrap();
    assert_eq!(asking.ask(inquiry("x")).await, Err(Unasked::Nobody), "what is erased is not asked about");
    std::fs::write(bare.dir.path().join("questions.json"), b"{").unwrap();
    assert!(bare.asking().shared.known().is_empty(), "what cannot be read counts for nothing");
}

#[tokio::test]
async fn so_many_questions_of_one_person_are_open_and_none_while_the_server_is_away() {
    let bare = Bare::new();
    let asking = bare.asking();
    for number in 0..MAX_OPEN {
        assert!(asking.ask(inquiry(&number.to_string())).await.is_ok());
    }
    assert_eq!(asking.ask(inquiry("one more")).await, Err(Unasked::TooMany(MAX_OPEN)));
    assert!(asking.ask(Inquiry { owner: Id::from_bytes([5; 16]), ..inquiry("theirs") }).await.is_ok());
    let nobody = Poll { revision: 0, wait_ms: 0, listener: String::new(), bundle: 0, classes: vec![] };
    assert!(bare.link.poll(&nobody).await.is_err());
    assert_eq!(asking.ask(Inquiry { owner: Id::from_bytes([6; 16]), ..inquiry("away") }).await, Err(Unasked::Away));
    assert!(asking.ask(inquiry("0")).await.is_ok(), "what is asked already is");
}
