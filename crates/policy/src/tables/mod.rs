//! Rules about the way out that people write without Cedar: `[[connection]]`, `[[repository]]`, `[[credential]]`, `[[preset]]`.
//!
//! It owns what the tables mean, by writing each out as ordinary Cedar policies when a bundle is read ([`Written`]): these are what
//! is validated, decided with, explained and recorded. Nothing is decided here. A policy has its table's title, and its table's
//! id with the deed that it is about: `crates.open`, `crates.send`, `team.fetch`, `team.push`, `forge.use`; what asks a person
//! ends with `.ask`, and what keeps a connection from being tunnelled past a rule about what goes over it is `.inspect`.
//!
//! *Invariant:* deny is stronger than ask, ask than allow. What a deed does not say is not permitted by a table, and is
//! forbidden by one that forbids; a rule about requests or repositories that forbids or asks also keeps their hosts from being
//! reached by connections that nobody looks into.

mod cedar;
mod connection;
mod credential;
mod patterns;
mod preset;
mod repository;

use std::collections::{BTreeSet, HashMap};

use stockade_domain::ids::ProjectId;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use self::{
    cedar::{Restriction, Writing, quoted},
    patterns::{one_of, shown},
};
pub use self::{
    patterns::{HostPattern, MAX_HOST_BYTES, MAX_PATTERN_TEXT_BYTES, PathPattern, RefPattern, RepositoryPattern},
    preset::{Preset, PresetUse, presets, with_preset},
};
pub(crate) use self::{
    patterns::{host, repository},
    preset::Reach,
};
use crate::bundle::{MAX_ID_BYTES, MAX_TITLE_BYTES, Problem, Reader, too_long};

/// The most tables of each kind.
pub const MAX_TABLES: usize = 2_000;
/// The most hosts, paths, methods, ports, repositories, refs, projects in one table, each.
pub const MAX_PATTERNS: usize = 100;
/// The most policies of a bundle, with those that tables are written out as.
pub const MAX_WRITTEN_POLICIES: usize = 4_000;

/// The tables that are read here.
pub(crate) const TABLES: [&str; 4] = ["connection", "repository", "credential", "preset"];

pub(crate) type Table<'i> = Spanned<DeTable<'i>>;

/// What a table does about what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Ask,
    Deny,
}

/// What all tables have.
#[derive(Debug, Clone)]
struct Head {
    id: String,
    title: String,
    pack: Option<String>,
    effect: Effect,
    projects: Vec<String>,
    levels: Vec<i64>,
}

/// One policy that a table was written out as.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub id: String,
    pub title: String,
    pub pack: Option<String>,
    pub text: String,
    /// The table's line.
    pub line: usize,
}

/// All that a bundle's tables were written out as.
#[derive(Debug, Default)]
pub(crate) struct Expansion {
    pub policies: Vec<Written>,
    /// The tables' ids, by which examples may name their policies, with their lines.
    pub ids: HashMap<String, usize>,
}

impl Head {
    fn restrictions(&self) -> Vec<Restriction> {
        let projects = one_of("resource.project", self.projects.iter().map(String::as_str).collect());
        let projects = projects.map(|is| Restriction::attribute("project", is));
        projects.into_iter().chain(one_of_numbers("level", &self.levels)).collect()
    }

    fn written(&self, deed: &str, line: usize, writing: Writing) -> Written {
        Written {
            id: format!("{}.{deed}", self.id),
            title: self.title.clone(),
            pack: self.pack.clone(),
            text: writing.done(),
            line,
        }
    }
}

/// The restriction that a circumstance is one of these numbers; none if there are none.
fn one_of_numbers(name: &str, numbers: &[i64]) -> Option<Restriction> {
    let is = match numbers {
        [] => return None,
        [only] => format!("context.{name} == {only}"),
        numbers => {
            let all: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            format!("[{}].contains(context.{name})", all.join(", "))
        }
    };
    Some(Restriction::circumstance(name, is))
}

/// Whether a name of a preset, table or policy is well formed.
fn is_id(id: &str, most: usize) -> bool {
    (1..=most).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// The longest id of a table: the policies that it is written out as have longer ones.
const MAX_TABLE_ID_BYTES: usize = MAX_ID_BYTES - 30;

impl Reader {
    /// Reads all tables and writes them out. What is wrong is among the problems.
    pub(crate) fn expansion(&mut self, document: &DeTable<'_>) -> Expansion {
        let mut expansion = Expansion::default();
        for table in self.tables(document, "connection", MAX_TABLES) {
            let line = self.line(&table);
            if let Some(connection) = self.one(&table, Self::connection) {
                self.add(&mut expansion, connection.id(), connection.written(line), line);
            }
        }
        for table in self.tables(document, "repository", MAX_TABLES) {
            let line = self.line(&table);
            if let Some(repository) = self.one(&table, Self::repository) {
                self.add(&mut expansion, repository.id(), repository.written(line), line);
            }
        }
        for table in self.tables(document, "credential", MAX_TABLES) {
            let line = self.line(&table);
            if let Some(credential) = self.one(&table, Self::credential) {
                self.add(&mut expansion, credential.id(), credential.written(line), line);
            }
        }
        for table in self.tables(document, "preset", MAX_TABLES) {
            let line = self.line(&table);
            if let Some(used) = self.one(&table, Self::used_preset) {
                self.add(&mut expansion, &used.id, Vec::new(), line);
                for connection in &used.connections {
                    self.add(&mut expansion, connection.id(), connection.written(line), line);
                }
                for repository in &used.repositories {
                    self.add(&mut expansion, repository.id(), repository.written(line), line);
                }
            }
        }
        expansion
    }

    fn line(&self, table: &Table<'_>) -> usize {
        self.lines.of(table.span().start)
    }

    /// Reads one table; its problems have its name. Nothing if there are any.
    fn one<T>(&mut self, table: &Table<'_>, read: impl FnOnce(&mut Self, &Table<'_>) -> Option<T>) -> Option<T> {
        let start = self.problems.len();
        let found = read(self, table);
        let name = ["id", "use"].iter().find_map(|key| table.get_ref().get(*key)?.get_ref().as_str());
        for problem in self.problems.iter_mut().skip(start) {
            problem.policy = name.map(|name| name.chars().take(MAX_ID_BYTES).collect());
        }
        found.filter(|_| self.problems.len() == start)
    }

    fn add(&mut self, expansion: &mut Expansion, id: &str, policies: Vec<Written>, line: usize) {
        if let Some(first) = expansion.ids.insert(id.to_owned(), line) {
            let message = format!("a table of this id is there twice, first on line {first}; give it another `id`");
            self.problems.push(Problem { policy: Some(id.to_owned()), ..Problem::at(line, message) });
            return;
        }
        if policies.iter().any(|policy| too_long(&policy.text).is_some()) {
            let message = "this names so much that one policy cannot hold it; write several tables".to_owned();
            self.problems.push(Problem { policy: Some(id.to_owned()), ..Problem::at(line, message) });
            return;
        }
        expansion.policies.extend(policies);
    }

    /// What all tables have. `prefix` stands before the id.
    fn head(&mut self, table: &Table<'_>) -> Option<Head> {
        let id = self.text(table, "id", true).and_then(|(id, line)| {
            if !is_id(&id, MAX_TABLE_ID_BYTES) {
                let message = format!("an id is 1 to {MAX_TABLE_ID_BYTES} of a-z, 0-9, `-`, `_` and `.`");
                self.problems.push(Problem::at(line, message));
                return None;
            }
            Some(id)
        });
        let title = self.title(table, true);
        let pack = self.text(table, "pack", false).map(|(pack, _)| pack);
        let effect = self.effect(table);
        let (projects, levels) = self.scope(table);
        Some(Head { id: id?, title: title?, pack, effect: effect?, projects, levels })
    }

    fn title(&mut self, table: &Table<'_>, required: bool) -> Option<String> {
        let (title, line) = self.text(table, "title", required)?;
        if title.trim().is_empty() || title.len() > MAX_TITLE_BYTES || title.chars().any(char::is_control) {
            let message = format!("a title is one line of 1 to {MAX_TITLE_BYTES} bytes: people are shown it");
            self.problems.push(Problem::at(line, message));
            return None;
        }
        Some(title)
    }

    fn effect(&mut self, table: &Table<'_>) -> Option<Effect> {
        match self.text(table, "effect", false) {
            None if table.get_ref().contains_key("effect") => None,
            None => Some(Effect::Allow),
            Some((word, line)) => match word.as_str() {
                "allow" => Some(Effect::Allow),
                "ask" => Some(Effect::Ask),
                "deny" => Some(Effect::Deny),
                other => {
                    let message = format!("`effect` is allow, ask or deny, not `{}`", shown(other));
                    self.problems.push(Problem::at(line, message));
                    None
                }
            },
        }
    }

    /// The projects and levels for which a table is.
    fn scope(&mut self, table: &Table<'_>) -> (Vec<String>, Vec<i64>) {
        let projects = self.patterns(table, "projects", |text| match text.parse::<ProjectId>() {
            Ok(id) => Ok(id.to_string()),
            Err(error) => Err(format!("`projects` are ids, as `stockade project list` shows them: {error}")),
        });
        (projects, self.numbers(table, "levels", 1, 4))
    }

    /// A list of texts, each read; one text alone counts as a list. Problems have the line of their text.
    fn patterns<T: Ord + Clone>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(value) = table.get_ref().get(key) else { return Vec::new() };
        let place = |value: &Spanned<DeValue<'_>>, lines: &crate::bundle::Lines| lines.of(value.span().start);
        let members: Vec<(Option<String>, usize)> = match value.get_ref() {
            DeValue::String(text) => vec![(Some(text.to_string()), place(value, &self.lines))],
            DeValue::Array(members) => members
                .iter()
                .map(|member| (member.get_ref().as_str().map(str::to_owned), place(member, &self.lines)))
                .collect(),
            _ => vec![(None, place(value, &self.lines))],
        };
        let line = place(value, &self.lines);
        if members.is_empty() {
            // An empty list would mean everything, or nothing: it is not guessed.
            self.problems.push(Problem::at(
                line,
                format!("`{key}` is empty, which would mean everything or nothing; write what is meant"),
            ));
        }
        if members.len() > MAX_PATTERNS {
            let message =
                format!("`{key}` has {} members; at most {MAX_PATTERNS} are read: write several tables", members.len());
            self.problems.push(Problem::at(line, message));
            return Vec::new();
        }
        let mut all = BTreeSet::new();
        for (text, line) in members {
            match text.map(|text| parse(&text)) {
                Some(Ok(pattern)) => drop(all.insert(pattern)),
                Some(Err(why)) => self.problems.push(Problem::at(line, why)),
                None => self.problems.push(Problem::at(line, format!("`{key}` must be a list of texts"))),
            }
        }
        all.into_iter().collect()
    }

    /// A list of whole numbers within bounds; one number alone counts as a list.
    fn numbers(&mut self, table: &Table<'_>, key: &str, least: i64, most: i64) -> Vec<i64> {
        let Some(value) = table.get_ref().get(key) else { return Vec::new() };
        let line = self.lines.of(value.span().start);
        let number = |value: &DeValue<'_>| match value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let numbers: Option<BTreeSet<i64>> = match value.get_ref() {
            DeValue::Array(members) if (1..=MAX_PATTERNS).contains(&members.len()) => {
                members.iter().map(|member| number(member.get_ref())).collect()
            }
            DeValue::Array(_) => None,
            one => number(one).map(|number| BTreeSet::from([number])),
        };
        match numbers.filter(|numbers| numbers.iter().all(|number| (least..=most).contains(number))) {
            Some(numbers) => numbers.into_iter().collect(),
            None => {
                let message = format!("`{key}` is a list of 1 to {MAX_PATTERNS} whole numbers from {least} to {most}");
                self.problems.push(Problem::at(line, message));
                Vec::new()
            }
        }
    }

    /// The ports; those that a deed needs say which, what forbids is for all.
    fn ports(&mut self, table: &Table<'_>, effect: Option<Effect>) -> Vec<i64> {
        if table.get_ref().contains_key("ports") {
            self.numbers(table, "ports", 1, 65_535)
        } else if effect == Some(Effect::Deny) {
            Vec::new()
        } else {
            vec![443]
        }
    }

    /// True, false, or nothing said.
    fn said(&mut self, table: &Table<'_>, key: &str) -> Option<bool> {
        match table.get_ref().get(key).map(|value| (value.get_ref(), value.span())) {
            None => None,
            Some((DeValue::Boolean(yes), _)) => Some(*yes),
            Some((_, span)) => {
                let line = self.lines.of(span.start);
                self.problems.push(Problem::at(line, format!("`{key}` must be true or false")));
                None
            }
        }
    }

    /// The methods, which are large letters.
    fn methods(&mut self, table: &Table<'_>) -> Vec<String> {
        self.patterns(table, "methods", |text| {
            let fits = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
            if fits { Ok(text.to_owned()) } else { Err(format!("`{}` is no method, as in `GET`", shown(text))) }
        })
    }
}

/// The restriction about methods, and that about paths.
fn requests(methods: &[String], paths: &[PathPattern]) -> Vec<Restriction> {
    let methods = one_of("context.method", methods.iter().map(String::as_str).collect());
    let methods = methods.map(|is| Restriction::circumstance("method", is));
    let paths = (!paths.is_empty()).then(|| PathPattern::condition(paths, "context.path"));
    methods.into_iter().chain(paths.map(|is| Restriction::circumstance("path", is))).collect()
}

/// That a text of the context is this one.
fn is_text(name: &str, text: &str) -> String {
    format!("context has {name} && context.{name} == {}", quoted(text))
}
