//! Presets: rules about public registries and forges that ship with Stockade, and `[[preset]]`, which puts one to use.
//!
//! It owns the list of them, how a preset's file is read, and what a mirror does to its rules. A preset is data
//! (`presets/NAME.toml`): what it is, for which tools, tables as a bundle has them, and examples, which a test runs. It permits
//! reading and nothing else. A preset that nobody uses is not even read.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::{
    Effect, Head, HostPattern, PathPattern, RepositoryPattern, Table, connection::Connection, host, is_id,
    patterns::normal, repository::Repository, shown,
};
use crate::{
    bundle::{MAX_ID_BYTES, Problem, Reader},
    example::{Example, ExampleResult},
};

/// All presets, by their names.
const PRESETS: [(&str, &str); 12] = [
    ("bitbucket", include_str!("../../presets/bitbucket.toml")),
    ("codeberg", include_str!("../../presets/codeberg.toml")),
    ("debian", include_str!("../../presets/debian.toml")),
    ("github", include_str!("../../presets/github.toml")),
    ("gitlab", include_str!("../../presets/gitlab.toml")),
    ("go", include_str!("../../presets/go.toml")),
    ("maven", include_str!("../../presets/maven.toml")),
    ("npm", include_str!("../../presets/npm.toml")),
    ("python", include_str!("../../presets/python.toml")),
    ("rust", include_str!("../../presets/rust.toml")),
    ("ubuntu", include_str!("../../presets/ubuntu.toml")),
    ("yarn", include_str!("../../presets/yarn.toml")),
];

/// The longest name of a preset's use, in bytes.
const MAX_USE_BYTES: usize = 40;
/// The most hosts that one use puts mirrors in place of.
const MAX_MIRRORS: usize = 50;

const KEYS: [&str; 7] = ["use", "id", "pack", "effect", "mirror", "projects", "levels"];

/// A preset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// What it lets be read.
    pub about: String,
    /// The programs that it serves.
    pub tools: Vec<String>,
    /// The hosts and repositories that it names.
    pub hosts: Vec<String>,
    /// Its source.
    pub text: String,
}

/// A `[[preset]]` table, to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PresetUse {
    /// Which preset.
    pub name: String,
    /// What its rules are called, if not by its name.
    pub id: Option<String>,
    /// Whether a person is asked about each connection.
    pub ask: bool,
    /// The host, and perhaps the path, in place of all of its hosts.
    pub mirror: Option<String>,
    /// For these projects only, by their ids.
    pub projects: Vec<String>,
    /// For these levels only.
    pub levels: Vec<i64>,
}

impl fmt::Display for PresetUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| toml::Value::String(text.to_owned());
        writeln!(f, "[[preset]]\nuse = {}", quoted(&self.name))?;
        if let Some(id) = &self.id {
            writeln!(f, "id = {}", quoted(id))?;
        }
        if self.ask {
            writeln!(f, "effect = \"ask\"")?;
        }
        if let Some(mirror) = &self.mirror {
            writeln!(f, "mirror = {}", quoted(mirror))?;
        }
        if !self.projects.is_empty() {
            let projects: Vec<String> = self.projects.iter().map(|id| quoted(id).to_string()).collect();
            writeln!(f, "projects = [{}]", projects.join(", "))?;
        }
        if !self.levels.is_empty() {
            let levels: Vec<String> = self.levels.iter().map(ToString::to_string).collect();
            writeln!(f, "levels = [{}]", levels.join(", "))?;
        }
        Ok(())
    }
}

/// A bundle with a preset put to use at its end, checked with all of its examples. Every byte that was there stays.
///
/// # Errors
/// Everything that is wrong with the bundle then.
pub fn with_preset(bundle: &str, preset: &PresetUse) -> Result<String, Vec<Problem>> {
    let gap = match bundle {
        "" => "",
        bundle if bundle.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    let text = format!("{bundle}{gap}{preset}");
    crate::check(&text).map(|_| text)
}

/// The names of all presets, sorted.
pub fn presets() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

impl Preset {
    /// The preset of a name.
    ///
    /// # Errors
    /// If there is none, with those that there are.
    pub fn find(name: &str) -> Result<Self, String> {
        let (name, text) = source(name)?;
        let Contents { about, tools, connections, repositories, .. } = contents(name, text)?;
        let hosts = connections.iter().flat_map(|connection| &connection.hosts).map(HostPattern::text);
        let repositories = repositories.iter().flat_map(|repository| &repository.repositories);
        let mut all: Vec<String> = hosts.chain(repositories.map(RepositoryPattern::text)).collect();
        all.sort();
        all.dedup();
        Ok(Self { name: name.to_owned(), about, tools, hosts: all, text: text.to_owned() })
    }

    /// What a bundle writes to put it to use, and nothing more.
    pub fn in_use(&self) -> String {
        PresetUse { name: self.name.clone(), ..PresetUse::default() }.to_string()
    }

    /// Runs its examples under itself alone.
    ///
    /// # Errors
    /// If it cannot be loaded, which is a defect.
    pub fn test(&self) -> Result<Vec<ExampleResult>, String> {
        let engine = crate::Bundle::parse(0, &self.in_use()).map_err(|error| error.to_string())?;
        let examples = contents(&self.name, &self.text)?.examples;
        Ok(examples.iter().map(|example| example.run(&engine)).collect())
    }
}

/// What a preset lets be done, as a plain reading of its tables.
#[derive(Debug)]
pub(crate) struct Reach {
    pub name: &'static str,
    contents: Contents,
}

impl Reach {
    /// That of every preset. One that cannot be read, which is a defect, is not among them.
    pub fn of_all() -> Vec<Self> {
        let all = PRESETS.iter().filter_map(|(name, text)| Some(Self { name, contents: contents(name, text).ok()? }));
        all.collect()
    }

    /// How many hosts and repositories it names.
    pub fn size(&self) -> usize {
        let hosts: usize = self.contents.connections.iter().map(|connection| connection.hosts.len()).sum();
        hosts + self.contents.repositories.iter().map(|one| one.repositories.len()).sum::<usize>()
    }

    pub fn opens(&self, host: &str, port: i64) -> bool {
        self.contents.connections.iter().any(|connection| connection.opens(host, port))
            || self.contents.repositories.iter().any(|repository| repository.opens(host, port))
    }

    pub fn sends(&self, host: &str, port: i64, method: &str, path: Option<&str>) -> bool {
        self.contents.connections.iter().any(|connection| connection.sends(host, port, method, path))
    }

    pub fn fetches(&self, repository: &str) -> bool {
        self.contents.repositories.iter().any(|one| one.fetches(repository))
    }
}

fn source(name: &str) -> Result<(&'static str, &'static str), String> {
    PRESETS.iter().find(|(known, _)| *known == name).copied().ok_or_else(|| {
        let all: Vec<&str> = presets().collect();
        format!("there is no preset `{}`; there are {}", shown(name), all.join(", "))
    })
}

/// What a preset's file holds.
#[derive(Debug, Default)]
struct Contents {
    about: String,
    tools: Vec<String>,
    connections: Vec<Connection>,
    repositories: Vec<Repository>,
    examples: Vec<Example>,
}

/// Reads a preset's file, for itself: its problems have its own lines.
fn contents(name: &str, text: &str) -> Result<Contents, String> {
    let mut reader = Reader::new(text);
    let found = reader.preset(text);
    match (found, reader.problems.first()) {
        (Some(contents), None) => Ok(contents),
        (_, problem) => {
            let why = problem.map_or_else(|| "it is not TOML".to_owned(), ToString::to_string);
            Err(format!("the preset `{name}` is broken, which is a defect: {why}"))
        }
    }
}

/// A preset in use.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) id: String,
    pub(super) connections: Vec<Connection>,
    pub(super) repositories: Vec<Repository>,
}

/// A host, and perhaps a port and a path, at which what a public host has is found too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    host: String,
    port: Option<i64>,
    /// Without a slash at its end: nothing, or `/artifactory/crates`.
    prefix: String,
}

/// What stands in place of a preset's hosts.
#[derive(Debug, Clone)]
enum Mirrors {
    None,
    All(Mirror),
    Some(BTreeMap<String, Mirror>),
}

impl Mirror {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("the mirror `{}`: {why}", shown(text));
        let (place, prefix) = text.find('/').map_or((text, ""), |at| text.split_at(at));
        let (name, port) = match place.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (place, None),
        };
        if text.contains("://") {
            return Err(wrong("this is a URL; write host and path, as in `artifactory.example/artifactory/crates`"));
        }
        host(name).map_err(|why| wrong(&why))?;
        let port = port.map(|port| {
            let number = port.parse().ok().filter(|number: &u16| *number > 0 && port == number.to_string());
            number.map(i64::from).ok_or_else(|| wrong("a port is a number from 1 to 65535"))
        });
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.contains('*') {
            return Err(wrong("everything below it is meant; write it without `*`"));
        }
        if !prefix.is_empty() {
            normal(prefix).map_err(wrong)?;
            if prefix.contains("%2F") {
                return Err(wrong("a mirror's path has no encoded slashes; write `/`"));
            }
        }
        Ok(Self { host: name.to_owned(), port: port.transpose()?, prefix: prefix.to_owned() })
    }

    /// The rule about what is here instead of there.
    fn connection(&self, from: &Connection) -> Connection {
        let mut there = from.clone();
        there.hosts = vec![HostPattern::Exact(self.host.clone())];
        if let Some(port) = self.port {
            there.ports = vec![port];
        }
        if !self.prefix.is_empty() {
            there.paths = if from.paths.is_empty() {
                vec![PathPattern::Below(format!("{}/", self.prefix))]
            } else {
                from.paths.iter().map(|path| path.moved_below(&self.prefix)).collect()
            };
        }
        there
    }

    fn repository(&self, from: &RepositoryPattern) -> RepositoryPattern {
        let prefix = self.prefix.trim_start_matches('/');
        let slash = if prefix.is_empty() || from.path.is_empty() { "" } else { "/" };
        let path = format!("{prefix}{slash}{}", from.path);
        RepositoryPattern { host: self.host.clone(), path, below: from.below }
    }
}

impl Mirrors {
    fn of(&self, host: &str) -> Option<&Mirror> {
        match self {
            Self::None => None,
            Self::All(mirror) => Some(mirror),
            Self::Some(all) => all.get(host),
        }
    }

    /// One rule, or one for each mirror that takes the place of some of its hosts.
    fn connections(&self, from: Connection) -> Vec<Connection> {
        let mut kept = Vec::new();
        let mut moved: Vec<&Mirror> = Vec::new();
        for pattern in &from.hosts {
            match self.of(&pattern.text()) {
                None => kept.push(pattern.clone()),
                Some(mirror) if moved.contains(&mirror) => {}
                Some(mirror) => moved.push(mirror),
            }
        }
        let mut all: Vec<Connection> = moved.iter().map(|mirror| mirror.connection(&from)).collect();
        if !kept.is_empty() {
            let mut rest = from;
            rest.hosts = kept;
            all.insert(0, rest);
        }
        numbered(all, |connection| &mut connection.head)
    }

    fn repositories(&self, from: Repository) -> Vec<Repository> {
        let (mut kept, mut moved) = (Vec::new(), Vec::new());
        for pattern in &from.repositories {
            match self.of(&pattern.host) {
                None => kept.push(pattern.clone()),
                Some(mirror) => {
                    let mut there = from.clone();
                    there.repositories = vec![mirror.repository(pattern)];
                    there.ports = mirror.port.map_or(there.ports, |port| vec![port]);
                    moved.push(there);
                }
            }
        }
        if !kept.is_empty() {
            let mut rest = from;
            rest.repositories = kept;
            moved.insert(0, rest);
        }
        numbered(moved, |repository| &mut repository.head)
    }
}

/// The second and further ones of one table have a number after its id.
fn numbered<T>(mut all: Vec<T>, head: impl Fn(&mut T) -> &mut Head) -> Vec<T> {
    for (at, one) in all.iter_mut().enumerate().skip(1) {
        let head = head(one);
        head.id = format!("{}.{}", head.id, at + 1);
    }
    all
}

impl Reader {
    /// Reads a preset's file.
    fn preset(&mut self, text: &str) -> Option<Contents> {
        let document = self.document(text)?;
        self.unknown_keys(&document, &["about", "tools", "connection", "repository", "example"]);
        let whole = toml::Spanned::new(0..text.len(), document.clone());
        let about = self.text(&whole, "about", true).map(|(about, _)| about);
        let tools = self.patterns(&whole, "tools", |tool| Ok(tool.to_owned()));
        let mut contents = Contents { about: about?, tools, ..Contents::default() };
        for table in self.tables(&document, "connection", MAX_ID_BYTES) {
            contents.connections.extend(self.connection(&table));
        }
        for table in self.tables(&document, "repository", MAX_ID_BYTES) {
            contents.repositories.extend(self.repository(&table));
        }
        contents.examples = self.examples(&document);
        for example in &mut contents.examples {
            example.by_table = true;
        }
        Some(contents)
    }

    /// Puts a preset to use.
    pub(super) fn used_preset(&mut self, table: &Table<'_>) -> Option<Used> {
        self.unknown_keys(table.get_ref(), &KEYS);
        let (name, line) = self.text(table, "use", true)?;
        let contents = source(&name).and_then(|(name, text)| contents(name, text));
        let id = match self.text(table, "id", false) {
            None => name,
            Some((id, _)) if is_id(&id, MAX_USE_BYTES) => id,
            Some((_, line)) => {
                let message = format!("an id is 1 to {MAX_USE_BYTES} of a-z, 0-9, `-`, `_` and `.`");
                self.problems.push(Problem::at(line, message));
                return None;
            }
        };
        let pack = self.text(table, "pack", false).map(|(pack, _)| pack);
        let effect = self.effect(table);
        if effect == Some(Effect::Deny) {
            let message = "a preset is for what may be done: `effect` is allow or ask".to_owned();
            self.problems.push(Problem::at(self.line(table), message));
        }
        let (projects, levels) = self.scope(table);
        let contents = contents.map_err(|why| self.problems.push(Problem::at(line, why))).ok()?;
        let mirrors = self.mirrors(table.get_ref(), &contents)?;
        let effect = effect?;
        let scoped = |head: &mut Head| {
            head.id = format!("{id}.{}", head.id);
            head.pack.clone_from(&pack);
            head.effect = effect;
            head.projects.clone_from(&projects);
            head.levels.clone_from(&levels);
        };
        let mut used = Used { id: id.clone(), connections: Vec::new(), repositories: Vec::new() };
        for mut connection in contents.connections {
            scoped(&mut connection.head);
            connection.asks_once = true;
            used.connections.extend(mirrors.connections(connection));
        }
        for mut repository in contents.repositories {
            scoped(&mut repository.head);
            used.repositories.extend(mirrors.repositories(repository));
        }
        Some(used)
    }

    /// What stands in place of the preset's hosts: one mirror for all, or a table of some.
    fn mirrors(&mut self, table: &DeTable<'_>, contents: &Contents) -> Option<Mirrors> {
        let Some(value) = table.get("mirror") else { return Some(Mirrors::None) };
        let line = self.lines.of(value.span().start);
        let known: Vec<String> = contents
            .connections
            .iter()
            .flat_map(|connection| connection.hosts.iter().map(HostPattern::text))
            .chain(contents.repositories.iter().flat_map(|one| one.repositories.iter().map(|at| at.host.clone())))
            .collect();
        match value.get_ref() {
            DeValue::String(text) => {
                Mirror::parse(text).map(Mirrors::All).map_err(|why| self.problems.push(Problem::at(line, why))).ok()
            }
            DeValue::Table(table) if (1..=MAX_MIRRORS).contains(&table.len()) => {
                let mut all = BTreeMap::new();
                let mut whole = true;
                for (from, to) in table {
                    let line = self.lines.of(from.span().start);
                    let name = from.get_ref().to_string();
                    if !known.contains(&name) {
                        let mut known = known.clone();
                        known.sort();
                        known.dedup();
                        let message =
                            format!("`{}` is no host of this preset: it has {}", shown(&name), known.join(", "));
                        self.problems.push(Problem::at(line, message));
                        whole = false;
                        continue;
                    }
                    let to = to
                        .get_ref()
                        .as_str()
                        .ok_or_else(|| "a mirror is a text: a host, and perhaps a path".to_owned());
                    match to.and_then(Mirror::parse) {
                        Ok(mirror) => drop(all.insert(name, mirror)),
                        Err(why) => {
                            self.problems.push(Problem::at(line, why));
                            whole = false;
                        }
                    }
                }
                whole.then_some(Mirrors::Some(all))
            }
            _ => {
                let message = format!(
                    "`mirror` is the host that is in place of all hosts of the preset, or a table of 1 to {MAX_MIRRORS}: \
                     `{{ \"index.crates.example\" = \"artifactory.example/artifactory/crates\" }}`"
                );
                self.problems.push(Problem::at(line, message));
                None
            }
        }
    }
}
