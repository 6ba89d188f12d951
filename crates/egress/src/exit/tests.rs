//! An exit with a real policy and a real ledger, before servers on loopback that are declared.

use std::{
    io,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use stockade_domain::{Timestamp, ids::RunnerId};
use stockade_ledger::{Body, EntryKind, Log, LogOptions, Producer, Record, SigningKey, Status, SystemWorld};
use stockade_policy::Bundle;
use tokio::{
    io::duplex,
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::dial::{Declared, Resolver};

const CURL: &[u8] = include_bytes!("../../testdata/hello/curl");
const NAMELESS: &[u8] = include_bytes!("../../testdata/hello/python-13-no-sni");

const ALLOWS: &str = r#"
[[policy]]
id = "registry"
title = "The registry, over TLS"
text = '''
permit(principal is Agent, action == Action::"connection.open", resource)
when { resource.id == "registry.example" && context has protocol && context.protocol == "tls" };
'''

[[policy]]
id = "ssh"
title = "The forge, over SSH"
text = '''
permit(principal is Agent, action == Action::"connection.open", resource)
when { resource.id == "forge.example" && context has port && context.port == 22 };
'''
"#;

/// Anything, once a person has said yes.
const ASKS: &str = r#"
[[policy]]
id = "any"
title = "Anything"
text = "permit(principal is Agent, action == Action::\"connection.open\", resource);"

[[policy]]
id = "ask"
title = "A person says yes to each host"
text = "forbid(principal is Agent, action == Action::\"connection.open\", resource) when { context.unattended };"
"#;

/// Every name is here, and what was asked for is remembered.
#[derive(Debug, Default)]
pub(super) struct Here(Mutex<Vec<String>>);

#[async_trait]
impl Resolver for Here {
    async fn addresses(&self, name: &crate::name::Name) -> io::Result<Vec<IpAddr>> {
        self.0.lock().unwrap().push(name.as_str().to_owned());
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}

#[derive(Debug)]
pub(super) struct Endless;

impl Room for Endless {
    fn has_room(&self) -> bool {
        true
    }
}

/// A minute passes when it is told to.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicI64);

impl World for Clock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn random(&self, out: &mut [u8]) {
        SystemWorld.random(out);
    }
}

pub(super) struct House {
    pub(super) clock: Arc<Clock>,
    pub(super) exit: Arc<Exit>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) log: Arc<Log>,
    pub(super) asked: Arc<Here>,
    _dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self::with(Limits::default(), &["127.0.0.0/8"])
    }

    pub(super) fn with(limits: Limits, declared: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world: Arc<dyn World> = Arc::new(SystemWorld);
        let log = Arc::new(Log::open(&dir.path().join("log"), LogOptions::default()).unwrap());
        let runner: RunnerId = world.id();
        let producer = Producer::Runner(runner);
        let ledger = Ledger::start(log.clone(), producer, SigningKey::generate(), world.clone()).unwrap();
        let (ledger, asked) = (Arc::new(ledger), Arc::new(Here::default()));
        let (run, owner) = (world.id(), world.id());
        let who = Who {
            principal: Principal::Agent { run, owner },
            run,
            project: world.id(),
            level: Level::ON_THE_LOOP,
            key: Arc::new(RunKey::generate(&SystemWorld, run)),
        };
        let clock = Arc::new(Clock::default());
        let networks = declared.iter().map(|text| text.parse().unwrap());
        let parts = Parts {
            policy: Arc::new(ArcSwap::from_pointee(Bundle::parse(1, ALLOWS).unwrap())),
            ledger: ledger.clone(),
            dialer: Dialer::new(asked.clone(), Declared::new(networks), Duration::from_secs(5)),
            authority: None,
            origins: None,
            credentials: Arc::default(),
            people: Arc::new(Nobody),
            inside: None,
            room: Arc::new(Endless),
            world: clock.clone(),
        };
        Self { clock, exit: Arc::new(Exit::new(who, parts, limits)), ledger, log, asked, _dir: dir }
    }

    /// The address that the environment is given for a name.
    pub(super) async fn address(&self, name: &str) -> IpAddr {
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        let reply = self.exit.question(&query).await.unwrap();
        let address: [u8; 4] = reply[reply.len() - 4..].try_into().unwrap();
        address.into()
    }

    /// Opens a stream, says something, and gives its end and the task that carries it.
    fn open(&self, to: (IpAddr, u16), says: &'static [u8]) -> (tokio::io::DuplexStream, tokio::task::JoinHandle<()>) {
        let (mut near, far) = duplex(64 * 1024);
        let exit = self.exit.clone();
        let carried = tokio::spawn(async move { exit.stream(far, to.into()).await });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                // A stream that is closed at once may not take it.
                let _ = near.write_all(says).await;
            });
        });
        (near, carried)
    }

    pub(super) fn bodies(&self) -> Vec<Body> {
        self.records().into_iter().map(|(_, body)| body).collect()
    }

    pub(super) fn records(&self) -> Vec<(RecordId, Body)> {
        let entries = self.log.read(self.log.start(), usize::MAX, usize::MAX).unwrap().into_iter();
        let records = entries.filter(|(_, entry)| entry.kind == EntryKind::Record);
        records
            .map(|(_, entry)| Record::parse(&entry.payload).unwrap())
            .map(|record| (record.id, record.body))
            .collect()
    }

    /// The one refusal that is there: by what, of which host.
    fn refused(&self) -> (String, String) {
        let [Body::Refused { deed, decision, .. }] = &self.bodies()[..] else { panic!("{:?}", self.bodies()) };
        let by = decision.policies.first().map_or("nothing", |policy| policy.id.as_str());
        (by.to_owned(), deed.resource.id.clone())
    }
}

/// Answers what it hears, once.
pub(super) async fn server() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.expect("somebody comes").unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_connection_is_recorded_dialled_carried_and_closed_with_what_went_over() {
    let house = House::new();
    let (listener, port) = server().await;
    let registry = house.address("registry.example").await;
    let (mut near, carried) = house.open((registry, port), CURL);
    let mut far = accept(&listener).await;
    // Before anything was dialled, it was on the disk.
    assert!(matches!(&house.bodies()[..], [Body::Open { .. }]), "{:?}", house.bodies());
    let mut heard = vec![0; CURL.len()];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, CURL, "not a byte is lost");
    far.write_all(b"hello yourself").await.unwrap();
    drop(far);
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"hello yourself");
    near.shutdown().await.unwrap();
    carried.await.unwrap();
    let [Body::Open { deed, decision, .. }, Body::Close { outcome, facts, .. }] = &house.bodies()[..] else { panic!() };
    assert_eq!((deed.resource.id.as_str(), decision.policies[0].id.as_str()), ("registry.example", "registry"));
    assert_eq!((&deed.context["protocol"], &deed.context["port"]), (&"tls".into(), &i64::from(port).into()));
    assert_eq!(outcome.status, Status::Ok, "{outcome:?}");
    assert_eq!(facts["bytes_out"], ContextValue::Long(CURL.len() as i64));
    assert_eq!(facts["bytes_in"], ContextValue::Long(14));
    assert_eq!(facts["address"], format!("127.0.0.1:{port}").as_str().into());
    assert!(house.ledger.unclosed().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n09_a_name_that_policy_does_not_allow_is_neither_looked_up_nor_dialled() {
    let house = House::new();
    let (listener, port) = server().await;
    // The same bytes to a name that nobody allowed, and with the allowed name to an address that nobody gave it.
    let other = house.address("evil.example").await;
    let (mut near, carried) = house.open((other, port), b"SSH-2.0-x\r\n");
    assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 0, "it is closed");
    carried.await.unwrap();
    assert_eq!(house.refused(), ("nothing".to_owned(), "evil.example".to_owned()));
    assert!(house.asked.0.lock().unwrap().is_empty(), "nobody was asked");
    assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err(), "nothing was dialled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_judged_or_is_for_another_is_refused_before_the_policy_is_asked() {
    for (name, says, by) in [
        ("registry.example", NAMELESS, "egress:misdirected"),
        ("forge.example", CURL, "egress:misdirected"),
        ("registry.example", b"\x16\x03\x01\0\x05\x02\0\0\x01\0", "egress:opening"),
    ] {
        let house = House::new();
        let address = house.address(name).await;
        let (mut near, carried) = house.open((address, 22), says);
        let _ = near.read(&mut [0; 9]).await;
        carried.await.unwrap();
        assert_eq!(house.refused(), (by.to_owned(), name.to_owned()));
        assert!(house.asked.0.lock().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n01_an_address_is_decided_as_an_address_and_one_of_ours_without_a_name_is_nobody() {
    for (to, by, shown) in [
        ("203.0.113.20", "nothing", "203.0.113.20"),
        ("169.254.169.254", "nothing", "169.254.169.254"),
        ("::ffff:10.0.0.1", "nothing", "10.0.0.1"),
        ("127.0.0.1", "nothing", "127.0.0.1"),
        ("198.18.77.77", "egress:unnamed", "198.18.77.77"),
        ("198.18.0.1", "egress:unnamed", "198.18.0.1"),
    ] {
        let house = House::new();
        let (mut near, carried) = house.open((to.parse().unwrap(), 22), b"SSH-2.0-x\r\n");
        let _ = near.read(&mut [0; 9]).await;
        carried.await.unwrap();
        assert_eq!(house.refused(), (by.to_owned(), shown.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n08_an_allowed_name_that_points_inside_is_not_dialled_and_the_record_says_so() {
    let house = House::with(Limits::default(), &[]);
    let (listener, port) = server().await;
    let registry = house.address("registry.example").await;
    let (mut near, carried) = house.open((registry, port), CURL);
    let _ = near.read(&mut [0; 9]).await;
    carried.await.unwrap();
    let [Body::Open { .. }, Body::Close { outcome, facts, .. }] = &house.bodies()[..] else { panic!() };
    assert_eq!((outcome.status, outcome.code.as_deref()), (Status::Error, Some("not_public")));
    assert_eq!(facts["bytes_out"], ContextValue::Long(0));
    assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n27_what_is_open_ends_when_the_exit_is_told_to_stop() {
    let house = House::new();
    let (listener, port) = server().await;
    let registry = house.address("registry.example").await;
    let (mut near, carried) = house.open((registry, port), CURL);
    let far = accept(&listener).await;
    house.exit.stop();
    carried.await.unwrap();
    assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 0);
    let [Body::Open { .. }, Body::Close { outcome, .. }] = &house.bodies()[..] else { panic!() };
    assert_eq!((outcome.status, outcome.code.as_deref()), (Status::Cancelled, Some("stopped")));
    drop(far);
    let (mut late, carried) = house.open((registry, port), CURL);
    carried.await.unwrap();
    assert_eq!(late.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(house.bodies().len(), 2, "what comes later is nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n29_a_flood_of_refusals_and_strays_is_counted_and_not_written_down() {
    let house = House::with(Limits { connections: 4, ..Limits::default() }, &[]);
    for _ in 0..90 {
        let (mut near, carried) = house.open(([203, 0, 113, 20].into(), 22), b"SSH-2.0-x\r\n");
        let _ = near.read(&mut [0; 9]).await;
        carried.await.unwrap();
    }
    assert_eq!(house.bodies().len(), 60);
    // The next that is written down says how many were not.
    house.clock.0.store(60_000_000, Ordering::SeqCst);
    let (mut near, carried) = house.open(([203, 0, 113, 20].into(), 22), b"SSH-2.0-x\r\n");
    let _ = near.read(&mut [0; 9]).await;
    carried.await.unwrap();
    let Some(Body::Refused { deed, .. }) = house.bodies().pop() else { panic!() };
    assert_eq!((house.bodies().len(), deed.context.get("left_out")), (61, Some(&ContextValue::Long(30))));
    let house = House::new();
    for port in [443, 443, 123, 443] {
        house.exit.stray(17, ([8, 8, 8, 8], port).into()).await;
    }
    let words = house.bodies();
    assert_eq!(words.len(), 2, "the first of each kind: {words:?}");
    let Body::Note { code, facts, .. } = &words[0] else { panic!() };
    assert_eq!((code.as_str(), &facts["to"], &facts["port"]), ("packet_nowhere", &"8.8.8.8".into(), &443_i64.into()));
    // At the end it is said how many there were.
    house.exit.settle().await;
    house.exit.settle().await;
    let words = house.bodies();
    let Some(Body::Note { code, facts, .. }) = words.get(2) else { panic!() };
    assert_eq!((words.len(), code.as_str(), &facts["packets"]), (3, "packets_nowhere_in_all", &4_i64.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n29_refusals_that_were_only_counted_are_told_at_the_end() {
    let house = House::with(Limits { connections: 0, ..Limits::default() }, &[]);
    for _ in 0..100 {
        let (_near, carried) = house.open(([203, 0, 113, 20].into(), 22), b"SSH-2.0-x\r\n");
        carried.await.unwrap();
    }
    assert_eq!(house.bodies().len(), 60);
    house.exit.settle().await;
    let Some(Body::Note { code, facts, .. }) = house.bodies().pop() else { panic!() };
    assert_eq!((code.as_str(), &facts["left_out"]), ("refusals_left_out", &40_i64.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n06_questions_by_stream_are_answered_like_the_others_and_go_nowhere() {
    let house = House::new();
    let known = house.address("registry.example").await;
    // To a resolver of the open internet, as it thinks.
    let query = b"\0\x22\0\x09\x01\0\0\x01\0\0\0\0\0\0\x08registry\x07example\0\0\x01\0\x01";
    let (mut near, carried) = house.open(([8, 8, 8, 8].into(), 53), query);
    let mut len = [0; 2];
    near.read_exact(&mut len).await.unwrap();
    let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
    near.read_exact(&mut reply).await.unwrap();
    let IpAddr::V4(known) = known else { panic!() };
    assert_eq!(reply[reply.len() - 4..], known.octets());
    drop(near);
    carried.await.unwrap();
    assert!(house.bodies().is_empty() && house.asked.0.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n27_a_policy_that_changes_cuts_what_it_no_longer_allows_and_nothing_else() {
    let house = House::new();
    let (listener, port) = server().await;
    let registry = house.address("registry.example").await;
    let (mut near, carried) = house.open((registry, port), CURL);
    let _far = accept(&listener).await;
    let swap = |number, text: &str| {
        let engine = Bundle::parse(number, text).unwrap();
        house.exit.parts.policy.store(Arc::new(engine));
        house.exit.reconsider()
    };
    assert_eq!(swap(2, ALLOWS), 0);
    let asks = format!(
        "{ALLOWS}\n[[policy]]\nid = \"ask\"\ntitle = \"Ask\"\ntext = '''forbid(principal is Agent, action == \
         Action::\"connection.open\", resource) when {{ context.unattended }};'''\n"
    );
    assert_eq!(swap(3, &asks), 1, "nobody has said yes to it");
    carried.await.unwrap();
    assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 0);
    let [Body::Open { .. }, Body::Close { outcome, .. }] = &house.bodies()[..] else { panic!() };
    assert_eq!((outcome.status, outcome.code.as_deref()), (Status::Cancelled, Some("policy")));
    assert_eq!(swap(4, "about = \"nothing\""), 0, "what is over is forgotten");
}

/// Says yes, and counts how often it was asked.
#[derive(Debug, Default)]
struct Yes(Mutex<u32>);

#[async_trait]
impl People for Yes {
    async fn ask(&self, question: Question, _contents: Vec<Sealed>, _patience: Duration) -> Result<Permit, Refusal> {
        *self.0.lock().unwrap() += 1;
        Ok(question.granted((&SystemWorld as &dyn World).id()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_about_which_policy_asks_waits_for_a_person_whose_yes_outlives_the_question() {
    let mut house = House::new();
    house.exit.parts.policy.store(Arc::new(Bundle::parse(2, ASKS).unwrap()));
    let address = house.address("registry.example").await;
    let (listener, port) = server().await;
    let (mut near, carried) = house.open((address, port), CURL);
    assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 0, "nobody is there to be asked");
    carried.await.unwrap();
    let Some(Body::Refused { decision, .. }) = house.bodies().pop() else { panic!() };
    assert_eq!((decision.answer.as_str(), decision.policies[0].id.as_str()), ("ask", "ask"));

    let people = Arc::new(Yes::default());
    let parts = Parts { people: people.clone(), ..house.exit.parts.clone() };
    house.exit = Arc::new(Exit::new(house.exit.who.clone(), parts, Limits::default()));
    let address = house.address("registry.example").await;
    let (mut near, carried) = house.open((address, port), CURL);
    let far = accept(&listener).await;
    let Some(Body::Open { decision, .. }) = house.bodies().pop() else { panic!() };
    assert!(decision.approval.is_some());
    assert_eq!(house.exit.reconsider(), 0, "the yes holds while the policy still asks");
    drop(far);
    near.shutdown().await.unwrap();
    carried.await.unwrap();
    assert_eq!(*people.0.lock().unwrap(), 1);
}

/// Greets.
#[derive(Debug)]
struct Greets;

#[async_trait]
impl Inside for Greets {
    async fn serve(&self, mut stream: Box<dyn Stream>) {
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_is_reached_by_its_name_and_port_and_by_nothing_else() {
    let mut house = House::new();
    let parts = Parts { inside: Some(Arc::new(Greets)), ..house.exit.parts.clone() };
    house.exit = Arc::new(Exit::new(house.exit.who.clone(), parts, Limits::default()));
    let gateway = house.address(GATEWAY).await;
    let (mut near, carried) = house.open((gateway, GATEWAY_PORT), b"");
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.unwrap();
    carried.await.unwrap();
    assert_eq!((said.as_slice(), house.bodies().len()), (&b"hello"[..], 0));
    let (mut near, carried) = house.open((gateway, 443), CURL);
    let _ = near.read(&mut [0; 9]).await;
    carried.await.unwrap();
    assert_eq!(house.refused().1, GATEWAY);
    assert!(house.asked.0.lock().unwrap().is_empty());
}

#[derive(Debug)]
struct Full;

impl Room for Full {
    fn has_room(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_is_not_done() {
    let mut house = House::new();
    let parts = Parts { room: Arc::new(Full), ..house.exit.parts.clone() };
    house.exit = Arc::new(Exit::new(house.exit.who.clone(), parts, Limits::default()));
    for name in ["registry.example", "evil.example"] {
        let address = house.address(name).await;
        let (mut near, carried) =
            house.open((address, 443), if name == "evil.example" { b"SSH-2.0-x\r\n" } else { CURL });
        let _ = near.read(&mut [0; 9]).await;
        carried.await.unwrap();
    }
    assert!(house.bodies().is_empty() && house.asked.0.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_speaks_http_in_the_clear_is_told_why_it_may_not_connect() {
    let house = House::new();
    let address = house.address("evil.example").await;
    let (mut near, carried) = house.open((address, 80), b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    let mut said = String::new();
    near.read_to_string(&mut said).await.unwrap();
    carried.await.unwrap();
    assert!(said.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{said}");
    assert!(
        said.ends_with("\r\n\r\nStockade: nothing permits this\n") && said.contains("content-length: 31\r\n"),
        "{said}"
    );
    assert!(house.asked.0.lock().unwrap().is_empty());
}

/// Says yes, and puts another policy into force first.
#[derive(Debug)]
struct YesTooLate(Mutex<Option<Arc<Exit>>>, Arc<ArcSwap<Engine>>);

#[async_trait]
impl People for YesTooLate {
    async fn ask(&self, question: Question, _contents: Vec<Sealed>, _patience: Duration) -> Result<Permit, Refusal> {
        self.1.store(Arc::new(Bundle::parse(3, "about = \"nothing\"").unwrap()));
        let exit = self.0.lock().unwrap().clone().unwrap();
        assert_eq!(exit.reconsider(), 0, "it is not open yet");
        Ok(question.granted((&SystemWorld as &dyn World).id()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n27_a_policy_that_comes_between_the_decision_and_the_deed_is_held_against_it() {
    let mut house = House::new();
    let policy = house.exit.parts.policy.clone();
    policy.store(Arc::new(Bundle::parse(2, ASKS).unwrap()));
    let people = Arc::new(YesTooLate(Mutex::default(), policy));
    let parts = Parts { people: people.clone(), ..house.exit.parts.clone() };
    house.exit = Arc::new(Exit::new(house.exit.who.clone(), parts, Limits::default()));
    *people.0.lock().unwrap() = Some(house.exit.clone());
    let address = house.address("registry.example").await;
    let (mut near, carried) = house.open((address, 443), CURL);
    assert_eq!(near.read(&mut [0; 9]).await.unwrap(), 0);
    carried.await.unwrap();
    let [Body::Open { .. }, Body::Close { outcome, .. }] = &house.bodies()[..] else { panic!("{:?}", house.bodies()) };
    assert_eq!((outcome.status, outcome.code.as_deref()), (Status::Cancelled, Some("policy")));
    assert!(house.asked.0.lock().unwrap().is_empty(), "nothing was looked up");
    *people.0.lock().unwrap() = None;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n29_whoever_goes_away_while_a_deed_is_recorded_leaves_no_record_open() {
    let house = House::new();
    for _ in 0..20 {
        let deed = house.exit.connection("registry.example", 443, Some("tls"), false);
        let mut going = Box::pin(house.exit.go(house.exit.ruling(deed)));
        // Once: the record is on its way to the disk.
        let begun = std::future::poll_fn(|cx| std::task::Poll::Ready(going.as_mut().poll(cx).is_pending())).await;
        assert!(begun);
    }
    let closed = async {
        while house.bodies().len() < 40 || !house.ledger.unclosed().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("all of them are closed");
    let lost =
        |body: &Body| matches!(body, Body::Close { outcome, .. } if outcome.code.as_deref() == Some("client_lost"));
    assert_eq!(house.bodies().iter().filter(|body| lost(body)).count(), 20);
}
