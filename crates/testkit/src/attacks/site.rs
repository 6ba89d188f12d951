//! A site in small: a real exit behind an environment's doors, with a real policy, a real record, and the hostile world before it.
//!
//! It owns what the environment may reach ([`RULES`]), its one credential, and what of the record is compared. It refuses to decide or to
//! record itself: it does what the runner does with an environment's doors, and no more.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use secrecy::SecretString;
use stockade_domain::{
    Level, Principal, World as Outside,
    ids::{EnvironmentId, RecordId, RunnerId},
};
use stockade_egress::{
    ca::Authority,
    credential::{Credential, Credentials, Source},
    dial::{Declared, Dialer},
    exit::{Exit, Limits, Nobody, Parts, Room, Who},
    opening,
    origins::Origins,
    path::PathRule,
    placeholder::{Binding, Placeholder},
};
use stockade_ledger::{Body, EntryKind, Ledger, Log, LogOptions, Producer, Record, RunKey, SigningKey, SystemWorld};
use stockade_policy::{Bundle, Engine};
use stockade_sandbox::{Arrival, Class, Doors, Driver, EnvironmentSpec};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::world::{SECRET, World};

/// What the environment may reach.
pub const RULES: &str = r#"
[[connection]]
id = "read"
title = "Hosts that are read, in part"
hosts = ["read.test.example", "twin.test.example", "flip.test.example"]
ports = [80, 443]
methods = ["GET", "POST", "HEAD", "OPTIONS"]
paths = ["/open", "/open/*"]

[[connection]]
id = "socket"
title = "A host with WebSockets"
hosts = ["ws.test.example"]
ports = [80, 443]
methods = ["GET"]
paths = ["/open/*"]
upgrade = "websocket"

[[connection]]
id = "api"
title = "The API, and its WebSocket"
hosts = ["api.test.example"]
methods = ["GET", "POST"]
paths = ["/v1/*", "/v2/*"]
upgrade = "websocket"

[[credential]]
id = "token"
title = "The API's token"
credentials = ["api"]
hosts = ["api.test.example"]

[[connection]]
id = "tunnel"
title = "A host that nobody looks into, and hosts below one"
hosts = ["tunnel.test.example", "*.wild.test.example"]

[[connection]]
id = "points-inside"
title = "Names that point inside"
hosts = [
    "loop.test.example", "ten.test.example", "metadata.test.example", "six.test.example", "ula.test.example", "mapped.test.example",
    "translated.test.example", "tunnelled.test.example", "mixed.test.example", "nobody.test.example",
]
ports = [80]

[[connection]]
id = "forge"
title = "The forge's API is read"
hosts = ["git.test.example"]
methods = ["GET"]
paths = ["/api/*"]

[[repository]]
id = "app"
title = "The team's repository: fetch, and push to branches of ours"
repositories = ["git.test.example/team/app"]
push = true
"#;

/// What was told of one attack.
#[derive(Debug)]
pub struct Told {
    /// What was recorded: each thing once, in the order of its words.
    pub records: String,
    /// What the world heard.
    pub heard: String,
    /// What should be in no record and was.
    pub leaked: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Site {
    /// The world before it.
    pub world: World,
    /// The policy of the day.
    pub policy: Arc<ArcSwap<Engine>>,
    /// The record.
    pub ledger: Arc<Ledger>,
    /// What it is written to.
    pub log: Arc<Log>,
    authority: Arc<Authority>,
    parts: Parts,
    limits: Limits,
}

/// There is always room.
#[derive(Debug)]
struct Endless;

impl Room for Endless {
    fn has_room(&self) -> bool {
        true
    }
}

impl Site {
    /// A site whose record is in this folder.
    ///
    /// # Errors
    /// If this is no namespace of the test's own, or the policy does not read.
    pub async fn new(folder: &Path) -> Result<Self> {
        let world = World::new().await?;
        let outside: Arc<dyn Outside> = Arc::new(SystemWorld);
        let log = Arc::new(Log::open(&folder.join("record"), LogOptions::default())?);
        let runner: RunnerId = outside.id();
        let ledger =
            Ledger::start(Arc::clone(&log), Producer::Runner(runner), SigningKey::generate(), Arc::clone(&outside))?;
        let ledger = Arc::new(ledger);
        let authority = Arc::new(Authority::generate(Arc::clone(&outside), "attacked")?);
        let bundle = Bundle::parse(1, RULES).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let policy = Arc::new(ArcSwap::from_pointee(bundle));
        let parts = Parts {
            policy: Arc::clone(&policy),
            ledger: Arc::clone(&ledger),
            dialer: Dialer::new(world.names(), Declared::default(), Duration::from_secs(5)),
            authority: Some(Arc::clone(&authority)),
            origins: Some(Arc::new(Origins::new(Arc::new(world.roots()?))?)),
            credentials: Arc::new(credentials()?),
            people: Arc::new(Nobody),
            inside: None,
            room: Arc::new(Endless),
            world: outside,
        };
        let opening = opening::Patience { silence: Duration::from_secs(1), whole: Duration::from_secs(3) };
        let limits = Limits { opening, ..Limits::default() };
        Ok(Self { world, policy, ledger, log, authority, parts, limits })
    }

    /// An environment as this site wants it made.
    pub fn spec(&self, id: EnvironmentId, class: Class) -> EnvironmentSpec {
        let variables = BTreeMap::from([("API_TOKEN".to_owned(), placeholder().as_str().to_owned())]);
        let certificate = Some(self.authority.certificate().to_owned());
        EnvironmentSpec {
            id,
            class,
            certificate,
            variables,
            gitconfig: None,
            inside: stockade_sandbox::Inside::default(),
        }
    }

    /// Stands at an environment's doors.
    ///
    /// # Errors
    /// If the driver gives none.
    pub async fn stand(&self, driver: &dyn Driver, id: EnvironmentId) -> Result<Standing> {
        let doors = driver.doors(id).await?;
        let exit = Arc::new(ArcSwap::new(self.exit()));
        let (stop, carried) = (CancellationToken::new(), TaskTracker::new());
        let standing = stand(Arc::clone(&exit), doors, stop.clone(), carried.clone());
        Ok(Standing { exit, stop, carried, loop_: tokio::spawn(standing), make: self.maker() })
    }

    fn exit(&self) -> Arc<Exit> {
        (self.maker())()
    }

    /// Makes exits of fresh runs.
    fn maker(&self) -> Maker {
        let (parts, limits) = (self.parts.clone(), self.limits);
        Box::new(move || {
            let (run, owner) = (parts.world.id(), parts.world.id());
            let who = Who {
                principal: Principal::Agent { run, owner },
                run,
                project: parts.world.id(),
                level: Level::ON_THE_LOOP,
                key: Arc::new(RunKey::generate(&*parts.world, run)),
            };
            Arc::new(Exit::new(who, parts.clone(), limits))
        })
    }

    /// Where the record stands now; the world forgets what it has heard.
    pub fn mark(&self) -> u64 {
        self.world.heard.clear();
        self.log.end()
    }

    /// Waits until everything is closed and what was recorded and heard is what is expected, or has had its time; and gives it.
    pub async fn settled(&self, since: u64, records: &str, heard: &str) -> Told {
        let begun = Instant::now();
        loop {
            let told = self.told(since);
            let whole = self.ledger.unclosed().is_empty() && told.records == records && told.heard == heard;
            if whole || begun.elapsed() > Duration::from_secs(5) {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What was recorded since then, and heard.
    pub fn told(&self, since: u64) -> Told {
        let mut opened: BTreeMap<RecordId, String> = BTreeMap::new();
        let (mut lines, mut leaked) = (Vec::new(), None);
        for (_, entry) in self.log.read(since, usize::MAX, usize::MAX).unwrap_or_default() {
            // What is sealed may by chance have four bytes of anything; of a secret it has not so many.
            let plain = entry.kind == EntryKind::Record;
            let found = |what: &str| entry.payload.windows(what.len()).any(|bytes| bytes == what.as_bytes());
            for what in [SECRET, "stk_ph_", "/open", "/v1", "\\u001b"] {
                if leaked.is_none() && (plain || what.len() > 8) && found(what) {
                    leaked = Some(format!("{what:?} stands in the record"));
                }
            }
            if entry.kind != EntryKind::Record {
                continue;
            }
            let Ok(Record { id, body, .. }) = Record::parse(&entry.payload) else { continue };
            match body {
                Body::Open { deed, .. } => {
                    opened.insert(id, format!("{} {}", deed.action.as_str(), shown(&deed.resource.id)));
                }
                Body::Close { of, outcome, .. } => {
                    let deed = opened.remove(&of).unwrap_or_else(|| "something earlier".to_owned());
                    // Who hangs up first is a matter of moments.
                    let code = outcome.code.as_deref().filter(|code| !["client_lost", "lost"].contains(code));
                    lines.push(format!("{deed}: {}", code.unwrap_or("over")));
                }
                Body::Refused { deed, decision, .. } => {
                    let by = decision.policies.first().map_or("no rule", |policy| policy.id.as_str());
                    lines.push(format!("{} {}: refused, {by}", deed.action.as_str(), shown(&deed.resource.id)));
                }
                Body::Note { code, .. } => lines.push(code),
                Body::Asked { deed, .. } => {
                    lines.push(format!("{} {}: asked", deed.action.as_str(), shown(&deed.resource.id)))
                }
            }
        }
        lines.extend(opened.into_values().map(|deed| format!("{deed}: open")));
        lines.sort();
        lines.dedup();
        Told { records: lines.join("\n"), heard: self.world.heard.told(), leaked }
    }
}

/// A name, without a first label that is nothing but random.
fn shown(id: &str) -> String {
    match id.split_once('.') {
        Some((first, above)) if first.len() > 40 => format!("*.{above}"),
        _ => id.to_owned(),
    }
}

type Maker = Box<dyn Fn() -> Arc<Exit> + Send + Sync>;

/// Somebody stands at an environment's doors.
pub struct Standing {
    exit: Arc<ArcSwap<Exit>>,
    stop: CancellationToken,
    carried: TaskTracker,
    loop_: tokio::task::JoinHandle<()>,
    make: Maker,
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing").field("exit", &self.exit.load()).finish_non_exhaustive()
    }
}

impl Standing {
    /// From here on as for another run: what was open ends, names and counts are forgotten.
    pub fn anew(&self) {
        self.exit.swap((self.make)()).stop();
    }

    /// The exit of now.
    pub fn exit(&self) -> Arc<Exit> {
        self.exit.load_full()
    }

    /// Goes away: the doors are closed, and all that was open is over when this returns.
    pub async fn leave(self) {
        self.stop.cancel();
        self.exit.load().stop();
        // It ends when it is told to.
        let _ = self.loop_.await;
        self.carried.close();
        self.carried.wait().await;
        self.exit.load_full().settle().await;
    }
}

/// What the runner does with everything that comes to the doors.
async fn stand(exit: Arc<ArcSwap<Exit>>, doors: Box<dyn Doors>, stop: CancellationToken, carried: TaskTracker) {
    loop {
        let arrival = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            arrival = doors.arrival() => arrival,
        };
        let exit = exit.load_full();
        match arrival {
            Ok(Arrival::Stream { stream, wanted }) => {
                carried.spawn(async move { exit.stream(stream, wanted).await });
            }
            Ok(Arrival::Names { message, from }) => {
                if let Some(reply) = exit.question(&message).await {
                    doors.reply(from, &reply).await;
                }
            }
            Ok(Arrival::Stray(stray)) => exit.stray(stray.protocol, stray.to).await,
            // No descriptor is left, or the environment is gone: the next look tells.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What stands for the secret inside.
fn placeholder() -> Placeholder {
    Placeholder::from_random(&[7; 20])
}

fn credentials() -> Result<Credentials> {
    let binding = Binding {
        placeholder: placeholder(),
        host: "api.test.example".to_owned(),
        port: 443,
        in_the_clear: false,
        header: hyper::header::AUTHORIZATION,
        path: PathRule::below("/v1").map_err(|error| anyhow::anyhow!("{error}"))?,
    };
    Ok(Credentials::new([Credential { name: "api".to_owned(), bindings: vec![binding], source: Arc::new(Kept) }]))
}

/// Where the site keeps its secret.
#[derive(Debug)]
struct Kept;

#[async_trait]
impl Source for Kept {
    async fn read(&self) -> std::io::Result<SecretString> {
        Ok(SecretString::from(SECRET.to_owned()))
    }
}
