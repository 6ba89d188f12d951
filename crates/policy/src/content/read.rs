//! Reading content rules from a bundle.
//!
//! Everything that is wrong is said with its line, as for policies. What is bounded here is what costs something later:
//! how many rules, patterns and words there are, how long they are, and how much memory a pattern's automaton takes.

use std::collections::{BTreeSet, HashMap};

use stockade_domain::ids::ProjectId;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    detect::{BUILT_IN, ClassId, ClassSet, Detectors, MAX_CLASSES, PatternSource},
    rules::{ContentAction, ContentExample, ContentRule, ContentSet, Direction, Place},
};
use crate::bundle::{MAX_EXAMPLES, MAX_ID_BYTES, MAX_TITLE_BYTES, Problem, Reader};

/// The most content rules in a bundle.
pub const MAX_CONTENT_RULES: usize = 200;
/// The most patterns, and the most word lists.
pub const MAX_CONTENT_PATTERNS: usize = 50;
/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1_000;
/// The most words in all lists together.
pub const MAX_WORDS: usize = 10_000;
/// The longest word or phrase, in bytes.
pub const MAX_WORD_BYTES: usize = 100;

/// The tables that are read here.
pub(crate) const TABLES: [&str; 4] = ["content", "content_pattern", "content_words", "content_example"];

type Row<'i> = Spanned<DeTable<'i>>;

impl Reader {
    /// Reads all of it. Nothing if something is wrong, which is then among the problems.
    pub(crate) fn content(&mut self, document: &DeTable<'_>) -> ContentSet {
        let before = self.problems.len();
        let mut names: HashMap<String, usize> = HashMap::new();
        let patterns: Vec<(PatternSource, usize)> = self
            .tables(document, "content_pattern", MAX_CONTENT_PATTERNS)
            .iter()
            .filter_map(|row| self.pattern(row, &mut names))
            .collect();
        let lists: Vec<(String, Vec<String>)> = self
            .tables(document, "content_words", MAX_CONTENT_PATTERNS)
            .iter()
            .filter_map(|row| self.words(row, &mut names))
            .collect();
        if lists.iter().map(|(_, words)| words.len()).sum::<usize>() > MAX_WORDS {
            self.problems
                .push(Problem::whole(format!("there are more than {MAX_WORDS} words in all [[content_words]]")));
        }
        if self.problems.len() > before {
            return ContentSet::default();
        }
        let sources: Vec<PatternSource> = patterns.iter().map(|(source, _)| source.clone()).collect();
        let detectors = match Detectors::new(&sources, &lists) {
            Ok(detectors) => detectors,
            Err(wrong) => {
                for (name, why) in wrong {
                    let line = patterns.iter().find(|(source, _)| source.name == name).map_or(1, |(_, line)| *line);
                    self.problems.push(Problem::at(line, format!("the pattern `{name}`: {why}")));
                }
                return ContentSet::default();
            }
        };
        let classes: Vec<String> = detectors.classes().map(str::to_owned).collect();
        let rules: Vec<ContentRule> = self
            .tables(document, "content", MAX_CONTENT_RULES)
            .iter()
            .filter_map(|row| self.rule(row, &classes))
            .collect();
        let mut ids = BTreeSet::new();
        for rule in &rules {
            if !ids.insert(rule.id.as_str()) {
                self.problems.push(Problem::whole(format!("the content rule `{}` is there twice", rule.id)));
            }
        }
        let examples: Vec<ContentExample> = self
            .tables(document, "content_example", MAX_EXAMPLES)
            .iter()
            .filter_map(|row| self.content_example(row, &ids))
            .collect();
        ContentSet { detectors, rules, examples }
    }

    /// A table's name: unique, because it becomes the name of a class.
    fn content_name(&mut self, row: &Row<'_>, names: &mut HashMap<String, usize>) -> Option<String> {
        let (name, line) = self.text(row, "name", true)?;
        self.well_formed(&name, line)?;
        if let Some(first) = names.insert(name.clone(), line) {
            self.problems.push(Problem::at(line, format!("`{name}` is there twice, first on line {first}")));
            return None;
        }
        Some(name)
    }

    fn well_formed(&mut self, name: &str, line: usize) -> Option<()> {
        let fits = (1..=MAX_ID_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        if !fits {
            self.problems
                .push(Problem::at(line, format!("a name is 1 to {MAX_ID_BYTES} of a-z, 0-9, `-`, `_` and `.`")));
        }
        fits.then_some(())
    }

    fn pattern(&mut self, row: &Row<'_>, names: &mut HashMap<String, usize>) -> Option<(PatternSource, usize)> {
        let line = self.lines.of(row.span().start);
        self.unknown_keys(row.get_ref(), &["name", "regex", "keyword", "whole_word", "unicode"]);
        let name = self.content_name(row, names);
        let (regex, regex_line) = self.text(row, "regex", true)?;
        if regex.is_empty() || regex.len() > MAX_PATTERN_BYTES {
            let message = format!("a pattern has 1 to {MAX_PATTERN_BYTES} bytes");
            self.problems.push(Problem::at(regex_line, message));
            return None;
        }
        let keyword = self.text(row, "keyword", false).map(|(keyword, _)| keyword);
        let whole_word = self.flag(row, "whole_word", true);
        let unicode = self.flag(row, "unicode", false);
        Some((PatternSource { name: name?, regex, keyword, whole_word, unicode }, line))
    }

    fn flag(&mut self, row: &Row<'_>, key: &str, otherwise: bool) -> bool {
        match row.get_ref().get(key).map(|value| (value.get_ref(), value.span())) {
            None => otherwise,
            Some((DeValue::Boolean(yes), _)) => *yes,
            Some((_, span)) => {
                self.problems.push(Problem::at(self.lines.of(span.start), format!("`{key}` must be true or false")));
                otherwise
            }
        }
    }

    fn words(&mut self, row: &Row<'_>, names: &mut HashMap<String, usize>) -> Option<(String, Vec<String>)> {
        self.unknown_keys(row.get_ref(), &["name", "words"]);
        let name = self.content_name(row, names);
        let words = self.list(row, "words", true)?;
        let line = self.lines.of(row.span().start);
        for word in &words {
            let fits = (2..=MAX_WORD_BYTES).contains(&word.len())
                && word.chars().all(|letter| !letter.is_control() && letter != '"' && letter != '\\');
            if !fits {
                let shown: String = word.chars().take(30).collect();
                self.problems.push(Problem::at(
                    line,
                    format!(
                        "`{}`: a word has 2 to {MAX_WORD_BYTES} bytes without quotes, backslashes and line ends",
                        shown.escape_debug()
                    ),
                ));
            }
        }
        Some((name?, words))
    }

    /// A list of texts; one text alone counts as a list.
    fn list(&mut self, row: &Row<'_>, key: &str, required: bool) -> Option<Vec<String>> {
        let line = self.lines.of(row.span().start);
        let texts = match row.get_ref().get(key).map(Spanned::get_ref) {
            None if required => {
                self.problems.push(Problem::at(line, format!("`{key}` is missing")));
                return None;
            }
            None => return Some(Vec::new()),
            Some(DeValue::String(text)) => Some(vec![text.to_string()]),
            Some(DeValue::Array(members)) => {
                members.iter().map(|member| member.get_ref().as_str().map(str::to_owned)).collect()
            }
            Some(_) => None,
        };
        if texts.is_none() {
            self.problems.push(Problem::at(line, format!("`{key}` must be a list of texts")));
        }
        texts
    }

    /// A list of words of which all must be known; none means all.
    fn known<T: std::str::FromStr<Err = String> + Copy>(&mut self, row: &Row<'_>, key: &str, all: &[T]) -> Vec<T> {
        let line = self.lines.of(row.span().start);
        let words = self.list(row, key, false).unwrap_or_default();
        if words.is_empty() {
            return all.to_vec();
        }
        words
            .iter()
            .filter_map(|word| word.parse().map_err(|why| self.problems.push(Problem::at(line, why))).ok())
            .collect()
    }

    fn rule(&mut self, row: &Row<'_>, known: &[String]) -> Option<ContentRule> {
        let line = self.lines.of(row.span().start);
        self.unknown_keys(
            row.get_ref(),
            &["id", "title", "classes", "direction", "places", "projects", "providers", "models", "action"],
        );
        let id = self.text(row, "id", true);
        let id = id.and_then(|(id, line)| self.well_formed(&id, line).map(|()| id));
        let title = self.text(row, "title", true).map(|(title, line)| {
            if title.is_empty() || title.len() > MAX_TITLE_BYTES {
                self.problems.push(Problem::at(line, format!("a title has 1 to {MAX_TITLE_BYTES} bytes")));
            }
            title
        });
        let action = self.text(row, "action", true).and_then(|(word, line)| {
            word.parse::<ContentAction>().map_err(|why| self.problems.push(Problem::at(line, why))).ok()
        });
        let mut classes = ClassSet::default();
        for wanted in self.list(row, "classes", true)? {
            let found: Vec<usize> =
                known.iter().enumerate().filter(|(_, class)| matches(&wanted, class)).map(|(n, _)| n).collect();
            if found.is_empty() {
                self.problems.push(Problem::at(line, unknown_class(&wanted)));
            }
            found.into_iter().filter_map(|n| ClassId::try_from(n).ok()).for_each(|class| classes.insert(class));
        }
        let projects: Vec<String> = self.list(row, "projects", false).unwrap_or_default();
        let projects = projects
            .iter()
            .filter(|project| *project != "all")
            .filter_map(|project| match project.parse::<ProjectId>() {
                Ok(id) => Some(id),
                Err(error) => {
                    self.problems.push(Problem::at(line, format!("`projects`: {error}")));
                    None
                }
            })
            .collect();
        Some(ContentRule {
            directions: self.known(row, "direction", Direction::ALL),
            places: self.known(row, "places", Place::ALL),
            providers: self.list(row, "providers", false).unwrap_or_default(),
            models: self.list(row, "models", false).unwrap_or_default(),
            projects,
            classes,
            id: id?,
            title: title?,
            action: action?,
        })
    }

    fn content_example(&mut self, row: &Row<'_>, rules: &BTreeSet<&str>) -> Option<ContentExample> {
        let line = self.lines.of(row.span().start);
        self.unknown_keys(
            row.get_ref(),
            &["name", "text", "direction", "place", "project", "provider", "model", "expect", "by"],
        );
        let name = self.text(row, "name", true).map(|(name, _)| name);
        let text = self.list(row, "text", true).map(|parts| parts.concat());
        let direction = self.known(row, "direction", &[Direction::Request]).first().copied();
        let place = self.known(row, "place", &[Place::Text]).first().copied();
        let by = self.text(row, "by", false).map(|(by, _)| by);
        if let Some(by) = by.as_deref().filter(|by| !rules.contains(by)) {
            let message = format!("`by` names `{}`, which is no content rule of this bundle", by.escape_debug());
            self.problems.push(Problem::at(line, message));
        }
        let expect = match self.text(row, "expect", true)? {
            (word, _) if word == "nothing" => None,
            (word, line) => match word.parse::<ContentAction>() {
                Ok(action) => Some(action),
                Err(why) => {
                    self.problems.push(Problem::at(line, format!("{why}, or nothing")));
                    return None;
                }
            },
        };
        let project = match self.text(row, "project", false).map(|(id, line)| (id.parse::<ProjectId>(), line)) {
            None => ProjectId::from_bytes([0; 16]),
            Some((Ok(id), _)) => id,
            Some((Err(error), line)) => {
                self.problems.push(Problem::at(line, format!("`project`: {error}")));
                return None;
            }
        };
        let mut word = |key: &str| self.text(row, key, false).map(|(word, _)| word).unwrap_or_default();
        let scope = (project, word("provider"), word("model"));
        Some(ContentExample { name: name?, line, text: text?, direction: direction?, place: place?, scope, expect, by })
    }
}

/// Whether a class is meant: itself, or everything below it with `.*`.
fn matches(wanted: &str, class: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(head) => head.ends_with('.') && class.starts_with(head),
        None => wanted == class,
    }
}

fn unknown_class(wanted: &str) -> String {
    let kinds: BTreeSet<&str> = BUILT_IN.iter().copied().filter(|class| similar(wanted, class)).collect();
    let near = if kinds.is_empty() {
        "there are secret.*, personal.*, guess.secret, pattern.NAME and words.NAME; docs/gateway/content.md lists them"
            .to_owned()
    } else {
        format!("near to it are {}", kinds.into_iter().collect::<Vec<_>>().join(", "))
    };
    format!("`{}` is no class of content: {near}", wanted.chars().take(60).collect::<String>().escape_debug())
}

fn similar(wanted: &str, class: &str) -> bool {
    let last =
        |name: &str| name.rsplit('.').next().unwrap_or_default().split('_').next().unwrap_or_default().to_owned();
    wanted.contains('.') && last(wanted).len() > 2 && last(wanted) == last(class)
}

/// *Invariant:* all classes have a place in a [`ClassSet`].
const _: () = assert!(2 * MAX_CONTENT_PATTERNS + 100 <= MAX_CLASSES);
