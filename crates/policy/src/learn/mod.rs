//! Learning: from what was refused on the way out to the least that would have let it through.
//!
//! It owns the proposal ([`learn`]): a preset where one serves a host, else tables that name what was seen and nothing besides.
//! Only where [`MANY`] names stand below one, or paths below a folder, is the part above proposed, and a comment says so. It
//! refuses to lead around a prohibition, and to propose pushes that would need a guard rail taken off. A person reads the
//! proposal before it becomes policy; nothing here puts it into force.

mod write;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stockade_domain::{Action, ContextValue, Decision, Deed, ids::ProjectId};

use crate::tables::{PathPattern, Reach, RefPattern, RepositoryPattern, host, repository};
use write::Writer;

/// So many names below one, or paths below a folder, are proposed as what is below.
pub const MANY: usize = 5;
/// The most different things of which a proposal is made. The others are left out, and it says so.
pub const MAX_LEARNED: usize = 1_000;

/// Something that an agent wanted and was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What.
    pub wanted: Wanted,
    /// The policy, or the reason of another kind, that forbade it, in words; nothing if it was only that nothing permits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden_by: Option<String>,
    /// How often.
    pub times: u64,
}

/// What an agent wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "snake_case")]
pub enum Wanted {
    /// To open a connection.
    Connection {
        /// To which host.
        host: String,
        /// To which port.
        port: i64,
        /// Whether what it speaks can be looked into: TLS, or HTTP in the clear.
        readable: bool,
    },
    /// To send a request.
    Request {
        /// To which host.
        host: String,
        /// To which port.
        port: i64,
        /// With which method.
        method: String,
        /// The path as it is judged; it is content, and often not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// Whether it was to become a WebSocket.
        websocket: bool,
    },
    /// To fetch.
    Fetch {
        /// From which repository.
        repository: String,
    },
    /// To push.
    Push {
        /// To which repository.
        repository: String,
        /// To which ref, by its whole name.
        #[serde(rename = "ref")]
        full: String,
        /// What about it would need a guard rail taken off: `force`, `deletion`, `findings`, `protected_paths`.
        rails: Vec<String>,
    },
    /// To have a credential put into a request.
    Credential {
        /// Which.
        credential: String,
        /// To which host.
        host: String,
        /// With which method.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        method: Option<String>,
    },
}

/// What would let it through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Tables for the end of a bundle; empty if there is nothing to propose.
    pub text: String,
    /// The presets among them.
    pub presets: Vec<String>,
    /// What is not proposed.
    pub left_out: Vec<LeftOut>,
}

/// Something that is not proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// What was wanted, in words.
    pub what: String,
    /// Why not.
    pub why: String,
    /// How often it was wanted.
    pub times: u64,
}

impl Wanted {
    /// What a deed of the way out wants. Nothing if it is another deed.
    pub fn of(deed: &Deed) -> Option<Self> {
        let text = |name: &str| match deed.context.public.get(name).or_else(|| deed.context.content.get(name)) {
            Some(ContextValue::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let port = match deed.context.public.get("port") {
            Some(ContextValue::Long(port)) => *port,
            _ => 443,
        };
        let id = deed.resource.id.clone();
        Some(match deed.action {
            Action::ConnectionOpen => {
                let readable = matches!(text("protocol").as_deref(), Some("tls" | "http1" | "http2"));
                Self::Connection { host: id, port, readable }
            }
            Action::RequestSend => Self::Request {
                host: id,
                port,
                method: text("method").unwrap_or_default(),
                path: text("path"),
                websocket: text("upgrade").is_some(),
            },
            Action::GitFetch => Self::Fetch { repository: id },
            Action::GitPush => {
                Self::Push { repository: id, full: text("ref").unwrap_or_default(), rails: rails(&deed.context.public) }
            }
            Action::CredentialUse => {
                Self::Credential { credential: id, host: text("host").unwrap_or_default(), method: text("method") }
            }
            _ => return None,
        })
    }

    /// Why no table can say this, if none can.
    fn unfit(&self) -> Option<String> {
        let port = |port: i64| (!(1..=65_535).contains(&port)).then(|| format!("there is no port {port}"));
        match self {
            Self::Connection { host: name, port: at, .. } => host(name).err().or_else(|| port(*at)),
            Self::Request { host: name, port: at, method, path, .. } => {
                let path = path.as_deref().and_then(|path| match PathPattern::parse(path) {
                    Ok(PathPattern::Exact(_)) => None,
                    Ok(_) => Some("its path ends with `*`".to_owned()),
                    Err(why) => Some(why),
                });
                host(name).err().or_else(|| port(*at)).or_else(|| odd_method(method)).or(path)
            }
            Self::Fetch { repository: id } => repository(id).err().or_else(|| pattern(id)),
            Self::Push { repository: id, full, rails } => {
                let rails = (!rails.is_empty()).then(|| {
                    format!(
                        "a rule would have to say `{} = true`: write that yourself if it is meant",
                        rails.join(" = true` and `")
                    )
                });
                let full = if full.starts_with("refs/") && !full.contains('*') {
                    RefPattern::parse(full).err()
                } else {
                    Some("its ref is not said whole".to_owned())
                };
                repository(id).err().or_else(|| pattern(id)).or(rails).or(full)
            }
            Self::Credential { credential, host: name, method } => {
                let odd = credential.is_empty() || credential.len() > 100 || credential.contains(char::is_control);
                let odd = odd.then(|| "its name is none that a table can name".to_owned());
                host(name).err().or(odd).or_else(|| method.as_deref().and_then(odd_method))
            }
        }
    }

    /// In words, for people.
    fn words(&self) -> String {
        match self {
            Self::Connection { host, port, .. } => format!("a connection to {host}:{port}"),
            Self::Request { host, port, method, .. } => format!("a request {method} to {host}:{port}"),
            Self::Fetch { repository } => format!("a fetch from {repository}"),
            Self::Push { repository, full, .. } => format!("a push to {full} of {repository}"),
            Self::Credential { credential, host, .. } => format!("the credential {credential} for {host}"),
        }
    }
}

/// Why a table cannot name a method.
fn odd_method(method: &str) -> Option<String> {
    let fits = (1..=32).contains(&method.len()) && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    (!fits).then(|| "its method is none that a table can name".to_owned())
}

/// Why a table cannot name a repository exactly.
fn pattern(id: &str) -> Option<String> {
    match RepositoryPattern::parse(id) {
        Ok(pattern) if !pattern.below => None,
        Ok(_) => Some("its name ends with `*`".to_owned()),
        Err(why) => Some(why),
    }
}

/// What about a push needs a word of its own in a rule. What is not said needs it too.
pub fn rails(context: &BTreeMap<String, ContextValue>) -> Vec<String> {
    let no = |name: &str| context.get(name) == Some(&ContextValue::Bool(false));
    let clean = matches!(context.get("findings"), Some(ContextValue::Set(found)) if found.is_empty());
    let mut rails: Vec<String> =
        ["force", "deletion", "protected_paths"].into_iter().filter(|name| !no(name)).map(str::to_owned).collect();
    if !clean {
        rails.push("findings".to_owned());
    }
    rails
}

/// Proposes the least that would have let through what was refused, for one project or for all.
pub fn learn(refused: &[Refused], project: Option<ProjectId>) -> Proposal {
    let mut proposal = Proposal::default();
    let mut wanted: BTreeMap<&Wanted, u64> = BTreeMap::new();
    for Refused { wanted: what, forbidden_by, times } in refused {
        let why = match forbidden_by {
            Some(by) => Some(format!("{by} forbids it, whatever a rule permits")),
            None => what.unfit(),
        };
        let full = wanted.len() >= MAX_LEARNED && !wanted.contains_key(what);
        match why.or_else(|| full.then(|| format!("there are more than {MAX_LEARNED} different things"))) {
            Some(why) => left_out(&mut proposal.left_out, what.words(), why, *times),
            None => {
                let count = wanted.entry(what).or_default();
                *count = count.saturating_add(*times);
            }
        }
    }
    let mut writer = Writer::new(project);
    presets(&mut wanted, &mut writer);
    connections(&wanted, &mut writer);
    repositories(&wanted, &mut writer);
    credentials(&wanted, &mut writer);
    let (text, presets) = writer.done();
    Proposal { text, presets, ..proposal }
}

fn left_out(all: &mut Vec<LeftOut>, what: String, why: String, times: u64) {
    match all.iter_mut().find(|known| known.what == what && known.why == why) {
        Some(known) => known.times = known.times.saturating_add(times),
        None => all.push(LeftOut { what, why, times }),
    }
}

/// Takes out what presets serve: those that serve most first, and of these the smallest.
fn presets(wanted: &mut BTreeMap<&Wanted, u64>, writer: &mut Writer) {
    let mut all = Reach::of_all();
    loop {
        let served = |reach: &Reach| wanted.keys().filter(|wanted| serves(reach, wanted)).count();
        let best = all
            .iter()
            .enumerate()
            .map(|(place, reach)| (served(reach), reach.size(), place))
            .filter(|(served, ..)| *served > 0);
        let Some((_, _, place)) = best.min_by_key(|(served, size, place)| (std::cmp::Reverse(*served), *size, *place))
        else {
            return;
        };
        let reach = all.swap_remove(place);
        let seen: BTreeSet<String> =
            wanted.keys().filter(|wanted| serves(&reach, wanted)).map(|wanted| wanted.words()).collect();
        let times = wanted.iter().filter(|(wanted, _)| serves(&reach, wanted)).map(|(_, times)| *times).sum();
        wanted.retain(|wanted, _| !serves(&reach, wanted));
        writer.preset(reach.name, &seen, times);
    }
}

fn serves(reach: &Reach, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Connection { host, port, readable } => *readable && reach.opens(host, *port),
        Wanted::Request { host, port, method, path, websocket } => {
            !websocket && reach.sends(host, *port, method, path.as_deref())
        }
        Wanted::Fetch { repository } => reach.fetches(repository),
        Wanted::Push { .. } | Wanted::Credential { .. } => false,
    }
}

/// What one table about connections says besides its hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    ports: BTreeSet<i64>,
    inspected: bool,
    methods: BTreeSet<String>,
    paths: Paths,
    websocket: bool,
}

/// The paths of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Paths {
    /// They are not known.
    Any,
    These(BTreeSet<String>),
}

/// What was wanted of one port of a host: connections that can be looked into or not, and paths by method and WebSocket.
#[derive(Debug, Default)]
struct OfPort<'a> {
    readable: BTreeSet<bool>,
    requests: BTreeMap<(&'a str, bool), Paths>,
}

/// Tables about hosts for which no preset is.
fn connections(wanted: &BTreeMap<&Wanted, u64>, writer: &mut Writer) {
    let mut hosts: BTreeMap<&str, BTreeMap<i64, OfPort<'_>>> = BTreeMap::new();
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    for (wanted, count) in wanted {
        match wanted {
            Wanted::Connection { host, port, readable } => {
                hosts.entry(host).or_default().entry(*port).or_default().readable.insert(*readable);
                *times.entry(host).or_default() += count;
            }
            Wanted::Request { host, port, method, path, websocket } => {
                let requests = &mut hosts.entry(host).or_default().entry(*port).or_default().requests;
                let paths = requests.entry((method, *websocket)).or_insert_with(|| Paths::These(BTreeSet::new()));
                match (paths, path) {
                    (Paths::These(paths), Some(path)) => drop(paths.insert(path.clone())),
                    (paths, _) => *paths = Paths::Any,
                }
                *times.entry(host).or_default() += count;
            }
            _ => {}
        }
    }
    // What is the same but for its port, method or host is one table.
    let mut tables: BTreeMap<Vec<Shape>, Vec<&str>> = BTreeMap::new();
    for (host, ports) in hosts {
        let mut shapes: Vec<Shape> = Vec::new();
        for (port, OfPort { readable, requests }) in ports {
            let one = BTreeSet::from([port]);
            let opened = |inspected: bool| Shape {
                ports: one.clone(),
                inspected,
                methods: BTreeSet::new(),
                paths: Paths::Any,
                websocket: requests.keys().any(|(_, websocket)| *websocket),
            };
            // What cannot be looked into is tunnelled, which leaves nothing to say about requests.
            if readable.contains(&false) {
                shapes.push(opened(false));
                continue;
            }
            if requests.is_empty() {
                shapes.push(opened(true));
            }
            let mut same: BTreeMap<(Paths, bool), BTreeSet<String>> = BTreeMap::new();
            for ((method, websocket), paths) in requests {
                same.entry((paths, websocket)).or_default().insert(method.to_owned());
            }
            for ((paths, websocket), methods) in same {
                shapes.push(Shape { ports: one.clone(), inspected: true, methods, paths, websocket });
            }
        }
        tables.entry(merged(shapes)).or_default().push(host);
    }
    for (shapes, hosts) in tables {
        for (host, below) in below(&hosts, '.') {
            let seen = below.iter().map(|host| times.get(host).copied().unwrap_or_default()).sum();
            for shape in &shapes {
                writer.connection(&host, &below, shape, seen);
            }
        }
    }
}

/// Those that differ in their ports alone are one.
fn merged(shapes: Vec<Shape>) -> Vec<Shape> {
    let mut all: Vec<Shape> = Vec::new();
    for shape in shapes {
        let same = all.iter_mut().find(|known| Shape { ports: shape.ports.clone(), ..(*known).clone() } == shape);
        match same {
            Some(known) => known.ports.extend(shape.ports),
            None => all.push(shape),
        }
    }
    all
}

/// Each name with itself, or what is below another with the many that stand directly below it.
fn below<'a>(names: &[&'a str], border: char) -> Vec<(String, Vec<&'a str>)> {
    let above = |name: &'a str| {
        let split = if border == '.' {
            name.split_once('.').map(|(_, above)| above)
        } else {
            name.rsplit_once(border).map(|(above, _)| above)
        };
        // What is below a whole top-level domain, a host or an address is not proposed.
        split.filter(|above| {
            above.contains(border) && !name.starts_with('[') && name.parse::<core::net::Ipv4Addr>().is_err()
        })
    };
    let mut families: BTreeMap<&str, Vec<&'a str>> = BTreeMap::new();
    for name in names {
        families.entry(above(name).unwrap_or_default()).or_default().push(name);
    }
    let mut all = Vec::new();
    for (above, names) in families {
        if names.len() >= MANY && !above.is_empty() {
            let pattern = if border == '.' { format!("*.{above}") } else { format!("{above}/*") };
            all.push((pattern, names));
        } else {
            all.extend(names.into_iter().map(|name| (name.to_owned(), vec![name])));
        }
    }
    all
}

fn repositories(wanted: &BTreeMap<&Wanted, u64>, writer: &mut Writer) {
    let mut all: BTreeMap<&str, (bool, BTreeSet<&str>, u64)> = BTreeMap::new();
    for (wanted, times) in wanted {
        match wanted {
            Wanted::Fetch { repository } => {
                let one = all.entry(repository).or_default();
                one.0 = true;
                one.2 += times;
            }
            Wanted::Push { repository, full, .. } => {
                let one = all.entry(repository).or_default();
                one.1.insert(full);
                one.2 += times;
            }
            _ => {}
        }
    }
    let mut tables: BTreeMap<(bool, BTreeSet<&str>), Vec<&str>> = BTreeMap::new();
    for (repository, (fetch, refs, _)) in &all {
        tables.entry((*fetch, refs.clone())).or_default().push(repository);
    }
    for ((fetch, refs), repositories) in tables {
        for (pattern, below) in below(&repositories, '/') {
            let times = below.iter().filter_map(|repository| all.get(repository)).map(|(_, _, times)| *times).sum();
            writer.repository(&pattern, &below, fetch, &refs, times);
        }
    }
}

fn credentials(wanted: &BTreeMap<&Wanted, u64>, writer: &mut Writer) {
    let mut methods: BTreeMap<(&str, &str), BTreeSet<Option<&str>>> = BTreeMap::new();
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (wanted, times) in wanted {
        if let Wanted::Credential { credential, host, method } = wanted {
            methods.entry((credential, host)).or_default().insert(method.as_deref());
            *counts.entry((credential, host)).or_default() += times;
        }
    }
    for ((credential, host), methods) in methods {
        // One that is not known means all of them.
        let methods: Option<Vec<&str>> = methods.into_iter().collect();
        let times = counts.get(&(credential, host)).copied().unwrap_or_default();
        writer.credential(credential, host, &methods.unwrap_or_default(), times);
    }
}

/// The line for people about a deed of the way out that was refused: which name or rule was missing, and the command that
/// proposes it. Nothing for deeds of another kind.
pub fn missing(deed: &Deed, decision: &Decision, environment: &str) -> Option<String> {
    let wanted = Wanted::of(deed)?;
    if let Some(policy) = decision.policies.first() {
        return Some(format!("policy `{}` says no to {}: {}", policy.id, wanted.words(), policy.title));
    }
    let words = wanted.words();
    let served = Reach::of_all().into_iter().filter(|reach| serves(reach, &wanted)).min_by_key(Reach::size);
    Some(match served {
        Some(reach) => format!(
            "no rule permits {words}; `stockade policy preset add {}` would, `stockade environments learn {environment}` proposes \
             what was missing",
            reach.name
        ),
        None => format!("no rule permits {words}; `stockade environments learn {environment}` proposes one"),
    })
}
