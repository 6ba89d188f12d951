//! Bundles: policies with titles and examples, as one TOML document.
//!
//! Owns how a bundle is read and what makes it unfit: everything that is wrong is found in one go and said
//! with its line ([`check`]). It refuses, whole, a bundle with a policy that does not parse or validate
//! strictly, with an id that is there twice, without a title, or with an example that does not hold. The text
//! may come from anybody: all of it is bounded before it is parsed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cedar_policy::{Effect, Policy, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    content::{ContentAction, ContentExampleResult, read as content},
    engine::{Engine, Parts},
    example::{self, Example},
    explain::Reason,
    tables::{self, Expansion, MAX_WRITTEN_POLICIES, Written},
    vocabulary::Vocabulary,
};

/// The largest bundle, in bytes of text.
pub const MAX_BUNDLE_BYTES: usize = 1024 * 1024;
/// The most policies in a bundle.
pub const MAX_POLICIES: usize = 2_000;
/// The most examples in a bundle.
pub const MAX_EXAMPLES: usize = 5_000;
/// The longest Cedar text of one policy, in bytes.
pub const MAX_POLICY_BYTES: usize = 16 * 1024;
/// The most tokens in one policy. Cedar's parser and validator recurse: this bounds how deep.
pub const MAX_POLICY_TOKENS: usize = 1_000;
/// The stack on which bundles are read, in bytes: enough for a policy of nothing but nesting, in a debug build.
/// Only what is used of it takes memory.
pub const READER_STACK_BYTES: usize = 128 * 1024 * 1024;
/// The longest title, in bytes: a line that a person reads.
pub const MAX_TITLE_BYTES: usize = 200;
/// The longest id of a policy, in bytes.
pub const MAX_ID_BYTES: usize = 100;
/// The most problems that are reported at once.
pub const MAX_PROBLEMS: usize = 200;

/// A bundle as it is stored and travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Its number; each bundle that is put into force has the next one.
    pub number: u64,
    /// Its source.
    pub text: String,
}

impl Bundle {
    /// Reads a bundle and makes sure that it is in order.
    pub fn parse(number: u64, text: &str) -> Result<Engine, BundleError> {
        load(number, text).map_err(|problems| BundleError { number, problems })
    }

    /// This bundle, ready to decide.
    pub fn engine(&self) -> Result<Engine, BundleError> {
        Self::parse(self.number, &self.text)
    }
}

/// A bundle that is not in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy bundle {number} is not in order ({} found); first: {}; `stockade policy check` lists all",
    count(problems.len(), "problem"), first(problems))]
pub struct BundleError {
    /// Which.
    pub number: u64,
    /// All that is wrong with it.
    pub problems: Vec<Problem>,
}

fn first(problems: &[Problem]) -> String {
    problems.first().map_or_else(String::new, ToString::to_string)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// One thing that is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}{}{}{message}",
    line.map_or_else(String::new, |line| format!("line {line}: ")),
    policy.as_ref().map_or_else(String::new, |id| format!("policy `{id}`: ")),
    example.as_ref().map_or_else(String::new, |name| format!("example `{name}`: ")))]
pub struct Problem {
    /// The line of the bundle's text, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The policy's id, or `#3` for the third one if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The example's name, or `#3` for the third one if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// What is wrong, and what to try.
    pub message: String,
}

impl Problem {
    pub(crate) const fn whole(message: String) -> Self {
        Self { line: None, policy: None, example: None, message }
    }

    pub(crate) const fn at(line: usize, message: String) -> Self {
        Self { line: Some(line), policy: None, example: None, message }
    }
}

/// What is in a bundle that is in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many policies.
    pub policies: usize,
    /// How many of them permit.
    pub permits: usize,
    /// How many of them forbid.
    pub forbids: usize,
    /// How many examples; all hold.
    pub examples: usize,
    /// How many content rules.
    #[serde(default)]
    pub content_rules: usize,
    /// Packs with how many policies each has.
    pub packs: BTreeMap<String, usize>,
    /// The most policies that one kind of deed can meet.
    pub busiest: usize,
    /// What is in order but looks like a mistake.
    pub warnings: Vec<Problem>,
}

/// Whether a text is a bundle in order; if not, everything that is wrong with it.
pub fn check(text: &str) -> Result<Summary, Vec<Problem>> {
    load(0, text).map(|engine| engine.summary().clone())
}

/// Reads on a thread of its own, for its stack. A panic in there is a defect, and costs no more than this bundle.
fn load(number: u64, text: &str) -> Result<Engine, Vec<Problem>> {
    let failed = |why: &str| Err(vec![Problem::whole(format!("the bundle could not be read: {why}"))]);
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("policy-reader".to_owned()).stack_size(READER_STACK_BYTES);
        match reader.spawn_scoped(scope, || read(number, text)) {
            Ok(reading) => reading.join().unwrap_or_else(|_| failed("the reader broke down, which is a defect")),
            Err(error) => failed(&error.to_string()),
        }
    })
}

fn read(number: u64, text: &str) -> Result<Engine, Vec<Problem>> {
    if text.len() > MAX_BUNDLE_BYTES {
        let message = format!("the bundle has {} bytes; at most {MAX_BUNDLE_BYTES} are read", text.len());
        return Err(vec![Problem::whole(message)]);
    }
    let mut reader = Reader::new(text);
    let parts = reader.read(text);
    let engine = match parts {
        Some(parts) if reader.problems.is_empty() => {
            let engine = Engine::new(number, text, parts).map_err(|problem| vec![problem])?;
            for result in engine.test().into_iter().filter(|result| !result.holds) {
                reader.problems.push(does_not_hold(&result));
            }
            for result in engine.test_content().into_iter().filter(|result| !result.holds) {
                reader.problems.push(content_does_not_hold(&result));
            }
            Some(engine)
        }
        _ => None,
    };
    match engine {
        Some(engine) if reader.problems.is_empty() => Ok(engine),
        _ => Err(reader.into_problems()),
    }
}

fn does_not_hold(result: &crate::ExampleResult) -> Problem {
    let by: Vec<_> = result.decision.policies.iter().map(|p| format!("`{}` ({})", p.id, p.title)).collect();
    let by = if by.is_empty() { "nothing permits this".to_owned() } else { format!("by {}", by.join(", ")) };
    let wanted = result.by.as_ref().map_or_else(String::new, |id| format!(" by `{id}`"));
    let message = format!("expected {}{wanted}, but the answer is {}: {by}", result.expect, result.decision.answer);
    Problem { line: Some(result.line), policy: None, example: Some(result.name.clone()), message }
}

fn content_does_not_hold(result: &ContentExampleResult) -> Problem {
    let word = |action: Option<ContentAction>| action.map_or("nothing", ContentAction::as_str);
    let by = result.by.as_ref().map_or_else(String::new, |id| format!(" by `{id}`"));
    let found = if result.classes.is_empty() { "nothing".to_owned() } else { result.classes.join(", ") };
    let message =
        format!("expected {}, but the answer is {}{by}: {found} was found", word(result.expect), word(result.action));
    Problem { line: Some(result.line), policy: None, example: Some(result.name.clone()), message }
}

/// Where lines begin.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line of a position, from 1.
    pub(crate) fn of(&self, position: usize) -> usize {
        self.0.partition_point(|start| *start <= position)
    }
}

/// A policy as written, by a person or from a table.
struct Row {
    name: String,
    line: usize,
    /// Where its text is; nothing if a table was written out as it.
    text_line: Option<usize>,
    id: Option<String>,
    title: Option<String>,
    pack: Option<String>,
    text: Option<String>,
}

pub(crate) struct Reader {
    pub(crate) lines: Lines,
    pub(crate) problems: Vec<Problem>,
}

type Table<'i> = DeTable<'i>;

impl From<Written> for Row {
    fn from(written: Written) -> Self {
        let Written { id, title, pack, text, line } = written;
        Self { name: id.clone(), line, text_line: None, id: Some(id), title: Some(title), pack, text: Some(text) }
    }
}

impl Row {
    /// The line of the bundle on which an error in its text is.
    fn line_of(&self, error: &dyn Diagnostic) -> usize {
        self.text_line.map_or(self.line, |line| line_in(self.text.as_deref().unwrap_or_default(), line, error))
    }
}

impl Reader {
    pub(crate) fn new(text: &str) -> Self {
        Self { lines: Lines::new(text), problems: Vec::new() }
    }

    fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems;
        problems.sort_by(|a, b| {
            (a.line, &a.policy, &a.example, &a.message).cmp(&(b.line, &b.policy, &b.example, &b.message))
        });
        problems.dedup();
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        if more > 0 {
            problems.truncate(MAX_PROBLEMS);
            problems.push(Problem::whole(format!("and {}", count(more, "more problem"))));
        }
        problems
    }

    /// The document, if it is one.
    pub(crate) fn document<'i>(&mut self, text: &'i str) -> Option<Table<'i>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let line = error.span().map(|span| self.lines.of(span.start));
            self.problems.push(Problem { line, ..Problem::whole(error.message().to_owned()) });
        }
        // What could be read of a document that is not TOML would only bring follow-up problems.
        errors.is_empty().then(|| document.into_inner())
    }

    fn read(&mut self, text: &str) -> Option<Parts> {
        let document = self.document(text)?;
        let others = || tables::TABLES.into_iter().chain(content::TABLES);
        let known = |key: &str| ["policy", "example", "about"].contains(&key) || others().any(|table| table == key);
        for key in document.keys().filter(|key| !known(key.get_ref().as_ref())) {
            let message = format!(
                "`{}` is not known here: a bundle has [[policy]] and [[example]], and may have a text `about` and \
                [[{}]]",
                key.get_ref().escape_debug(),
                others().collect::<Vec<_>>().join("]], [[")
            );
            self.problems.push(Problem::at(self.lines.of(key.span().start), message));
        }
        let vocabulary = Vocabulary::new().map_err(|why| self.problems.push(Problem::whole(why))).ok()?;
        let mut rows: Vec<Row> = self
            .tables(&document, "policy", MAX_POLICIES)
            .into_iter()
            .enumerate()
            .map(|(n, table)| self.policy_row(n, &table))
            .collect();
        let Expansion { policies: written, ids } = self.expansion(&document);
        rows.extend(written.into_iter().map(Row::from));
        if rows.len() > MAX_WRITTEN_POLICIES {
            let message = format!(
                "the tables and policies come to {} policies; at most {MAX_WRITTEN_POLICIES} are read: name several hosts in one table",
                rows.len()
            );
            self.problems.push(Problem::whole(message));
            return None;
        }
        let policies = self.policies(rows);
        let mut examples = self.examples(&document);
        for example in &mut examples {
            example.by_table = example.by.as_ref().is_some_and(|by| ids.contains_key(by));
        }
        self.examples_in_order(&examples, &policies);
        let content = self.content(&document);
        let warnings = self.validate(&vocabulary, &policies);
        let mut summary =
            Summary { policies: policies.len(), examples: examples.len(), warnings, ..Summary::default() };
        summary.content_rules = content.rules().len();
        for (policy, row) in &policies {
            match policy.effect() {
                Effect::Permit => summary.permits += 1,
                Effect::Forbid => summary.forbids += 1,
            }
            if let Some(pack) = &row.pack {
                *summary.packs.entry(pack.clone()).or_default() += 1;
            }
        }
        let policies = policies.into_iter().filter_map(|(policy, row)| {
            let reason = Reason {
                id: row.id?,
                title: row.title?,
                pack: row.pack,
                effect: policy.effect().to_string(),
                text: row.text?.trim().to_owned(),
            };
            Some((policy, reason))
        });
        Some(Parts { policies: policies.collect(), vocabulary, examples, content: content.into(), summary })
    }

    /// The tables of an array of tables.
    pub(crate) fn tables<'i>(&mut self, document: &Table<'i>, name: &str, most: usize) -> Vec<Spanned<Table<'i>>> {
        let Some(value) = document.get(name) else { return Vec::new() };
        let line = self.lines.of(value.span().start);
        let DeValue::Array(array) = value.get_ref() else {
            self.problems.push(Problem::at(line, format!("`{name}` must be written as [[{name}]]")));
            return Vec::new();
        };
        if array.len() > most {
            self.problems
                .push(Problem::at(line, format!("there are {} of [[{name}]]; at most {most} are read", array.len())));
            return Vec::new();
        }
        let mut tables = Vec::new();
        for member in array.iter() {
            match member.get_ref() {
                DeValue::Table(table) => tables.push(Spanned::new(member.span(), table.clone())),
                _ => self.problems.push(Problem::at(
                    self.lines.of(member.span().start),
                    format!("`{name}` must be written as [[{name}]]"),
                )),
            }
        }
        tables
    }

    /// The examples of a document.
    pub(crate) fn examples(&mut self, document: &Table<'_>) -> Vec<Example> {
        self.tables(document, "example", MAX_EXAMPLES)
            .into_iter()
            .enumerate()
            .filter_map(|(n, table)| self.example_row(n, &table))
            .collect()
    }

    fn policy_row(&mut self, n: usize, table: &Spanned<Table<'_>>) -> Row {
        let line = self.lines.of(table.span().start);
        let name = table
            .get_ref()
            .get("id")
            .and_then(|id| id.get_ref().as_str())
            .map_or_else(|| format!("#{}", n + 1), |id| id.chars().take(MAX_ID_BYTES).collect());
        let start = self.problems.len();
        self.unknown_keys(table.get_ref(), &["id", "title", "pack", "text"]);
        let id = self.text(table, "id", true).and_then(|(id, line)| {
            let fits = !id.is_empty()
                && id.len() <= MAX_ID_BYTES
                && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
            if !fits {
                let message = format!("an id is 1 to {MAX_ID_BYTES} of a-z, 0-9, `-`, `_` and `.`");
                self.problems.push(Problem::at(line, message));
            }
            fits.then_some(id)
        });
        let title = self.text(table, "title", true).and_then(|(title, line)| {
            let fits =
                !title.trim().is_empty() && title.len() <= MAX_TITLE_BYTES && !title.chars().any(char::is_control);
            if !fits {
                let message = format!("a title is one line of 1 to {MAX_TITLE_BYTES} bytes: people are shown it");
                self.problems.push(Problem::at(line, message));
            }
            fits.then_some(title)
        });
        let pack = self.text(table, "pack", false).map(|(pack, _)| pack);
        let mut text_line = None;
        let text = self.text(table, "text", true).and_then(|(text, line)| {
            text_line = Some(line);
            if let Some(message) = too_long(&text) {
                self.problems.push(Problem::at(line, format!("{message}: write several policies")));
                return None;
            }
            Some(text)
        });
        self.name_policy(start, &name);
        Row { name, line, text_line, id, title, pack, text }
    }

    fn policies(&mut self, rows: Vec<Row>) -> Vec<(Policy, Row)> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut policies = Vec::new();
        for row in rows {
            let start = self.problems.len();
            if let Some(first) = row.id.as_ref().and_then(|id| seen.get(id)) {
                self.problems.push(Problem::at(row.line, format!("this id is there twice, first on line {first}")));
            } else if let Some(id) = &row.id {
                seen.insert(id.clone(), row.line);
            }
            let id = cedar_policy::PolicyId::new(row.id.as_deref().unwrap_or(&row.name));
            let parsed = row.text.as_ref().map(|text| (text, Policy::parse(Some(id), text)));
            if let Some((_, Err(errors))) = &parsed {
                for error in errors.iter() {
                    self.problems.push(Problem::at(row.line_of(error), said(error)));
                }
            }
            self.name_policy(start, &row.name);
            if let Some((_, Ok(policy))) = parsed
                && self.problems.len() == start
                && row.id.is_some()
            {
                policies.push((policy, row));
            }
        }
        policies
    }

    /// Strict validation. Returns what is only suspicious.
    fn validate(&mut self, vocabulary: &Vocabulary, policies: &[(Policy, Row)]) -> Vec<Problem> {
        let set = match PolicySet::from_policies(policies.iter().map(|(policy, _)| policy.clone())) {
            Ok(set) => set,
            Err(error) => {
                self.problems.push(Problem::whole(error.to_string()));
                return Vec::new();
            }
        };
        let rows: HashMap<&cedar_policy::PolicyId, &Row> =
            policies.iter().map(|(policy, row)| (policy.id(), row)).collect();
        let placed = |id: &cedar_policy::PolicyId, found: &dyn Diagnostic, message: String| {
            let row = rows.get(id);
            let line = row.map(|row| row.line_of(found));
            let unnamed = || id.to_string();
            Problem { line, policy: Some(row.map_or_else(unnamed, |row| row.name.clone())), example: None, message }
        };
        let validation = Validator::new(vocabulary.schema.clone()).validate(&set, ValidationMode::Strict);
        for error in validation.validation_errors() {
            self.problems.push(placed(error.policy_id(), error, plain(&said(error), error.policy_id())));
        }
        validation
            .validation_warnings()
            .map(|warning| placed(warning.policy_id(), warning, plain(&said(warning), warning.policy_id())))
            .collect()
    }

    fn example_row(&mut self, n: usize, spanned: &Spanned<Table<'_>>) -> Option<Example> {
        let line = self.lines.of(spanned.span().start);
        let start = self.problems.len();
        let table = spanned.get_ref();
        self.unknown_keys(table, &["name", "principal", "action", "resource", "context", "expect", "by"]);
        let name = self.text(spanned, "name", true).map(|(name, _)| name);
        let action = self.text(spanned, "action", true).map(|(word, line)| (word.parse(), line));
        let expect = self.text(spanned, "expect", true).map(|(word, line)| (word.parse(), line));
        let by = self.text(spanned, "by", false).map(|(by, _)| by);
        let value = |key: &str| table.get(key).map(|value| plain_value(value.get_ref()));
        let mut found = |key: &str, required: bool| match value(key) {
            Some(Ok(value)) => Some(value),
            Some(Err(why)) => {
                self.problems.push(Problem::at(line, format!("`{key}`: {why}")));
                None
            }
            None if required => {
                self.problems.push(Problem::at(line, format!("`{key}` is missing")));
                None
            }
            None => None,
        };
        let (principal, resource, context) =
            (found("principal", true), found("resource", true), found("context", false));
        let principal = principal.map(|value| example::principal(&value));
        let resource = resource.map(|value| example::resource(&value));
        let context = example::context(context.as_ref());
        let action = self.taken(action.map(|(word, line)| word.map_err(|e: stockade_domain::UnknownWord| (e, line))));
        let expect = self.taken(expect.map(|(word, line)| word.map_err(|e: stockade_domain::UnknownWord| (e, line))));
        let principal = self.taken(principal.map(|read| read.map_err(|e| (e, line))));
        let resource = self.taken(resource.map(|read| read.map_err(|e| (e, line))));
        let context = self.taken(Some(context.map_err(|e| (e, line))));
        let shown = name.clone().unwrap_or_else(|| format!("#{}", n + 1));
        for problem in self.problems.iter_mut().skip(start) {
            problem.example = Some(shown.chars().take(MAX_TITLE_BYTES).collect());
        }
        let deed =
            stockade_domain::Deed { principal: principal?, action: action?, resource: resource?, context: context? };
        Some(Example { name: name?, line, deed, expect: expect?, by, by_table: false })
    }

    fn examples_in_order(&mut self, examples: &[Example], policies: &[(Policy, Row)]) {
        let ids: BTreeSet<&str> = policies.iter().filter_map(|(_, row)| row.id.as_deref()).collect();
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for example in examples {
            let mut say = |message: String| {
                self.problems
                    .push(Problem { example: Some(example.name.clone()), ..Problem::at(example.line, message) });
            };
            if let Some(by) = example.by.as_deref().filter(|by| !example.by_table && !ids.contains(by)) {
                say(format!("`by` names `{}`, which is no policy of this bundle", by.escape_debug()));
            }
            if let Some(first) = seen.insert(&example.name, example.line) {
                say(format!("this name is there twice, first on line {first}"));
            }
        }
    }

    fn taken<T, E: std::fmt::Display>(&mut self, read: Option<Result<T, (E, usize)>>) -> Option<T> {
        read?.map_err(|(error, line)| self.problems.push(Problem::at(line, error.to_string()))).ok()
    }

    pub(crate) fn unknown_keys(&mut self, table: &Table<'_>, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let message =
                format!("`{}` is not known here: there are {}", key.get_ref().escape_debug(), known.join(", "));
            self.problems.push(Problem::at(self.lines.of(key.span().start), message));
        }
    }

    /// A text of a table with the line on which it begins.
    pub(crate) fn text(&mut self, table: &Spanned<Table<'_>>, key: &str, required: bool) -> Option<(String, usize)> {
        let Some(value) = table.get_ref().get(key) else {
            if required {
                let line = self.lines.of(table.span().start);
                self.problems.push(Problem::at(line, format!("`{key}` is missing")));
            }
            return None;
        };
        let line = self.lines.of(value.span().start);
        let text = value.get_ref().as_str().map(|text| (text.to_owned(), line));
        if text.is_none() {
            self.problems.push(Problem::at(line, format!("`{key}` must be a text")));
        }
        text
    }

    fn name_policy(&mut self, start: usize, name: &str) {
        for problem in self.problems.iter_mut().skip(start) {
            problem.policy = Some(name.to_owned());
        }
    }
}

/// A TOML value without spans.
fn plain_value(value: &DeValue<'_>) -> Result<toml::Value, String> {
    Ok(match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Boolean(yes) => toml::Value::Boolean(*yes),
        DeValue::Integer(number) => toml::Value::Integer(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| "a whole number must fit into 64 bits".to_owned())?,
        ),
        DeValue::Array(members) => {
            toml::Value::Array(members.iter().map(|m| plain_value(m.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => toml::Value::Table(
            table
                .iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), plain_value(value.get_ref())?)))
                .collect::<Result<_, String>>()?,
        ),
        DeValue::Float(_) | DeValue::Datetime(_) => return Err("numbers with a point and times are not known".into()),
    })
}

/// What Cedar says, with its advice.
fn said(error: &dyn Diagnostic) -> String {
    let mut message = error.to_string();
    if let Some(label) = error.labels().and_then(|mut labels| labels.next()).and_then(|l| l.label().map(str::to_owned))
    {
        message = format!("{message} ({label})");
    }
    if let Some(help) = error.help() {
        message = format!("{message}; {help}");
    }
    message
}

/// Cedar begins with the policy's id, which is already said, and says the same thing again for every action:
/// without the action's name it is said once.
fn plain(message: &str, id: &cedar_policy::PolicyId) -> String {
    let prefix = format!("for policy `{id}`, ");
    let message = message.strip_prefix(&prefix).unwrap_or(message);
    match message.split_once(" in context for Action::\"").map(|(before, rest)| (before, rest.split_once('"'))) {
        Some((before, Some((_, after)))) => format!("{before} in context{after}"),
        _ => message.to_owned(),
    }
}

/// Why a policy's text is not read, if it is too long.
pub(crate) fn too_long(text: &str) -> Option<String> {
    let tokens = tokens(text);
    (text.len() > MAX_POLICY_BYTES || tokens > MAX_POLICY_TOKENS).then(|| {
        format!(
            "the text has {} bytes and {tokens} tokens; at most {MAX_POLICY_BYTES} bytes and {MAX_POLICY_TOKENS} tokens \
             are read",
            text.len()
        )
    })
}

/// The line of the bundle on which an error in a policy's text is. A text in triple quotes begins on the line
/// after them.
fn line_in(text: &str, text_line: usize, error: &dyn Diagnostic) -> usize {
    let offset = error.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset());
    let before = text.get(..offset.min(text.len())).unwrap_or("");
    let shift = usize::from(text.contains('\n'));
    text_line + shift + before.matches('\n').count()
}

/// How many tokens a Cedar text has, roughly: runs of letters and digits, strings, and every other character.
/// Never fewer than Cedar's own parser sees.
fn tokens(text: &str) -> usize {
    let mut count = 0_usize;
    let mut in_word = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let word = letter.is_alphanumeric() || letter == '_';
        if letter == '/' && letters.peek() == Some(&'/') {
            // A comment; a quote in it begins no string.
            while letters.next().is_some_and(|inner| !matches!(inner, '\n' | '\r')) {}
        } else if letter == '"' {
            while let Some(inner) = letters.next() {
                match inner {
                    '\\' => drop(letters.next()),
                    '"' => break,
                    _ => {}
                }
            }
            count += 1;
        } else if (word && !in_word) || (!word && !letter.is_whitespace()) {
            count += 1;
        }
        in_word = word;
    }
    count
}
