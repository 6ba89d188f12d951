//! A cassette as a file: its form, its limits, and errors that name file and turn.

use std::{fs, io::Read, path::Path};

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest file, in bytes.
pub const MAX_CASSETTE_BYTES: u64 = 16 * 1024 * 1024;
/// The most turns.
pub const MAX_TURNS: usize = 2_000;
/// The most content blocks of a turn.
pub const MAX_BLOCKS_PER_TURN: usize = 200;
/// The most expectations of a turn.
pub const MAX_EXPECTS_PER_TURN: usize = 50;
/// The most captures of a turn.
pub const MAX_CAPTURES_PER_TURN: usize = 50;
/// What a compiled pattern may take, in bytes.
pub const MAX_REGEX_BYTES: usize = 1024 * 1024;
/// The longest pause between two pieces.
const MAX_DELAY_MS: u64 = 60_000;
/// The longest name.
const MAX_NAME: usize = 64;
/// The largest figure of a turn's usage: what TOML can say.
pub(crate) const MAX_FIGURE: u64 = i64::MAX as u64;
/// The deepest input that is written as TOML; what lies deeper is written as JSON text. TOML's reader has a bound too.
const MAX_TOML_DEPTH: usize = 16;
/// The longest `name}}` of a template, spaces included.
const MAX_TEMPLATE: usize = 256;

/// A rehearsed conversation.
#[derive(Debug, Clone)]
pub struct Cassette {
    pub(crate) file: File,
    pub(crate) turns: Vec<Turn>,
}

/// Why a text is no cassette.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {}{what}", turn.map(|turn| format!("turn {turn}: ")).unwrap_or_default())]
pub struct CassetteError {
    /// Which file.
    pub origin: String,
    /// Which turn, from 1.
    pub turn: Option<usize>,
    /// What is wrong, and what to write instead.
    pub what: String,
}

/// As it stands in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) description: String,
    #[serde(default, alias = "turns")]
    pub(crate) turn: Vec<TurnEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TurnEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop_reason: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) delay_ms: u64,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub(crate) templates: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Figures>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) expect: Vec<ExpectEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) capture: Vec<CaptureEntry>,
    #[serde(default)]
    pub(crate) content: Vec<Block>,
}

/// What a turn says that it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figures {
    pub(crate) input: u64,
    pub(crate) output: u64,
    #[serde(default)]
    pub(crate) cache_read: u64,
    #[serde(default)]
    pub(crate) cache_write: u64,
}

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    Task,
    #[default]
    LastToolResult,
    LastMessage,
}

impl Source {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Task => "the task",
            Self::LastToolResult => "the last tool result",
            Self::LastMessage => "the last message",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectEntry {
    #[serde(default)]
    pub(crate) from: Source,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contains: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lacks: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) matches: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaptureEntry {
    pub(crate) name: String,
    pub(crate) regex: String,
    #[serde(default)]
    pub(crate) from: Source,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Block {
    Text {
        text: String,
    },
    Thinking {
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Map<String, Value>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input_json: Option<String>,
    },
}

/// A turn, checked.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) expects: Vec<Expect>,
    pub(crate) captures: Vec<Capture>,
    pub(crate) content: Vec<Said>,
    pub(crate) stop_reason: String,
    pub(crate) usage: Option<Figures>,
    pub(crate) delay_ms: u64,
    pub(crate) templates: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Expect {
    pub(crate) from: Source,
    pub(crate) contains: Option<String>,
    pub(crate) lacks: Option<String>,
    pub(crate) matches: Option<Regex>,
}

#[derive(Debug, Clone)]
pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) regex: Regex,
    pub(crate) from: Source,
}

/// A content block, with its input read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Text(String),
    Thinking { text: String, signature: Option<String> },
    RedactedThinking(String),
    ToolUse { name: String, input: Value },
}

const fn yes() -> bool {
    true
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over by reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over by reference")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Cassette {
    /// Reads one, TOML or (if it begins with a brace) JSON. `origin` is what errors call it: the file's name.
    ///
    /// # Errors
    /// [`CassetteError`] for the first thing that is wrong.
    pub fn parse(origin: &str, text: &str) -> Result<Self, CassetteError> {
        let wrong = |what: String| CassetteError { origin: origin.to_owned(), turn: None, what };
        if text.len() as u64 > MAX_CASSETTE_BYTES {
            return Err(wrong(format!("larger than {MAX_CASSETTE_BYTES} bytes")));
        }
        let file: File = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| wrong(format!("does not read as JSON: {error}")))?
        } else {
            toml::from_str(text)
                .map_err(|error| wrong(format!("does not read as TOML: {}", error.to_string().trim())))?
        };
        Self::from_file(origin, file)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`CassetteError`].
    pub fn load(path: &Path) -> Result<Self, CassetteError> {
        let origin = path.display().to_string();
        let wrong = |what: String| CassetteError { origin: origin.clone(), turn: None, what };
        let mut text = String::new();
        fs::File::open(path)
            .and_then(|file| file.take(MAX_CASSETTE_BYTES + 1).read_to_string(&mut text))
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        Self::parse(&origin, &text)
    }

    /// Reads every `.toml` and `.json` file of a folder, sorted by file name.
    ///
    /// # Errors
    /// [`CassetteError`] for the first file that is none, or two of one name.
    pub fn load_folder(folder: &Path) -> Result<Vec<Self>, CassetteError> {
        let wrong =
            |origin: &Path, what: String| CassetteError { origin: origin.display().to_string(), turn: None, what };
        let unreadable = |error: std::io::Error| wrong(folder, format!("cannot be read: {error}"));
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "toml" || extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut cassettes: Vec<Self> = Vec::new();
        for path in paths {
            let cassette = Self::load(&path)?;
            if cassettes.iter().any(|known| known.name() == cassette.name()) {
                return Err(wrong(&path, format!("another file of this folder is called `{}` too", cassette.name())));
            }
            cassettes.push(cassette);
        }
        Ok(cassettes)
    }

    pub(crate) fn from_file(origin: &str, file: File) -> Result<Self, CassetteError> {
        let wrong = |what: &str| CassetteError { origin: origin.to_owned(), turn: None, what: what.to_owned() };
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if file.name.is_empty() || file.name.len() > MAX_NAME || !file.name.bytes().all(word) {
            return Err(wrong("`name` must be 1 to 64 characters of a-z, 0-9 and -"));
        }
        if file.turn.is_empty() {
            return Err(wrong("there is no turn: write [[turn]] with [[turn.content]]"));
        }
        if file.turn.len() > MAX_TURNS {
            return Err(wrong(&format!("more than {MAX_TURNS} turns")));
        }
        let mut known = Vec::new();
        let mut turns = Vec::new();
        for (index, entry) in file.turn.iter().enumerate() {
            let turn = entry.checked(&mut known).map_err(|what| CassetteError {
                origin: origin.to_owned(),
                turn: Some(index + 1),
                what,
            })?;
            turns.push(turn);
        }
        Ok(Self { file, turns })
    }

    /// What it is called: it is asked for as `rehearsal/NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.file.description
    }

    /// How many turns it has.
    #[must_use]
    pub const fn turns(&self) -> usize {
        self.turns.len()
    }

    /// As a file. Reads back as the same cassette.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // TOML lacks null and integers beyond 64 bits; blocks with such inputs carry them as JSON text, so that this holds.
        let mut file = self.file.clone();
        for block in file.turn.iter_mut().flat_map(|turn| &mut turn.content) {
            if let Block::ToolUse { input, input_json, .. } = block
                && let Some(given) = input.take_if(|given| !given.values().all(in_toml))
            {
                *input_json = Some(Value::Object(given).to_string());
            }
        }
        toml::to_string(&file).unwrap_or_default()
    }
}

impl TurnEntry {
    fn checked(&self, known: &mut Vec<String>) -> Result<Turn, String> {
        let at_most = |what: &str, len: usize, max: usize| {
            if len > max { Err(format!("more than {max} {what}")) } else { Ok(()) }
        };
        at_most("content blocks", self.content.len(), MAX_BLOCKS_PER_TURN)?;
        at_most("expectations", self.expect.len(), MAX_EXPECTS_PER_TURN)?;
        at_most("captures", self.capture.len(), MAX_CAPTURES_PER_TURN)?;
        if self.content.is_empty() {
            return Err("it says nothing: write [[turn.content]]".to_owned());
        }
        if self.delay_ms > MAX_DELAY_MS {
            return Err(format!("`delay_ms` is more than {MAX_DELAY_MS}"));
        }
        let figures = self.usage.map(|usage| [usage.input, usage.output, usage.cache_read, usage.cache_write]);
        if figures.into_iter().flatten().any(|figure| figure > MAX_FIGURE) {
            return Err(format!("a figure of `usage` is more than {MAX_FIGURE}"));
        }
        let mut captures = Vec::new();
        for capture in &self.capture {
            if !is_name(&capture.name) {
                return Err(format!("the capture `{}` needs a name of a-z, 0-9 and _", capture.name));
            }
            let regex = pattern(&capture.regex)?;
            captures.push(Capture { name: capture.name.clone(), regex, from: capture.from });
            known.push(capture.name.clone());
        }
        let check = |text: &str| match self.templates.then(|| names(text).find(|name| !known.contains(name))).flatten()
        {
            Some(name) => Err(format!(
                "`{{{{{name}}}}}` is not captured in this turn or before: add [[turn.capture]], or `templates = false`"
            )),
            None => Ok(()),
        };
        let mut expects = Vec::new();
        for expect in &self.expect {
            if expect.contains.is_none() && expect.lacks.is_none() && expect.matches.is_none() {
                return Err("an expectation needs `contains`, `lacks` or `matches`".to_owned());
            }
            for text in expect.contains.iter().chain(&expect.lacks) {
                check(text)?;
            }
            expects.push(Expect {
                from: expect.from,
                contains: expect.contains.clone(),
                lacks: expect.lacks.clone(),
                matches: expect.matches.as_deref().map(pattern).transpose()?,
            });
        }
        let mut content = Vec::new();
        for block in &self.content {
            let said = block.said()?;
            said.texts(&mut |text| check(text))?;
            content.push(said);
        }
        let uses_tool = content.iter().any(|said| matches!(said, Said::ToolUse { .. }));
        let usual = if uses_tool { "tool_use" } else { "end_turn" };
        Ok(Turn {
            expects,
            captures,
            content,
            stop_reason: self.stop_reason.clone().unwrap_or_else(|| usual.to_owned()),
            usage: self.usage,
            delay_ms: self.delay_ms,
            templates: self.templates,
        })
    }
}

impl Block {
    fn said(&self) -> Result<Said, String> {
        Ok(match self {
            Self::Text { text } => Said::Text(text.clone()),
            Self::Thinking { text, signature } => Said::Thinking { text: text.clone(), signature: signature.clone() },
            Self::RedactedThinking { data } => Said::RedactedThinking(data.clone()),
            Self::ToolUse { name, input, input_json } => {
                let input = match (input, input_json) {
                    (Some(input), None) => Value::Object(input.clone()),
                    (None, Some(text)) => serde_json::from_str(text)
                        .map_err(|error| format!("the `input_json` of `{name}` does not read: {error}"))?,
                    (None, None) => Value::Object(Map::new()),
                    (Some(_), Some(_)) => return Err(format!("`{name}` has both `input` and `input_json`")),
                };
                Said::ToolUse { name: name.clone(), input }
            }
        })
    }
}

impl Said {
    /// Every text in it that may hold templates.
    fn texts(&self, each: &mut impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
        fn walk(value: &Value, each: &mut impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
            match value {
                Value::String(text) => each(text),
                Value::Array(items) => items.iter().try_for_each(|item| walk(item, each)),
                Value::Object(members) => members.values().try_for_each(|item| walk(item, each)),
                _ => Ok(()),
            }
        }
        match self {
            Self::Text(text) | Self::Thinking { text, .. } => each(text),
            Self::RedactedThinking(_) => Ok(()),
            Self::ToolUse { input, .. } => walk(input, each),
        }
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(MAX_REGEX_BYTES)
        .dfa_size_limit(MAX_REGEX_BYTES)
        .multi_line(true)
        .build()
        .map_err(|error| format!("the pattern `{text}` does not read: {error}"))
}

fn is_name(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(word)
}

/// One step through a text with templates.
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// A text in pieces: `{{name}}` (spaces inside allowed) is a name, everything else is text.
pub(crate) fn pieces(mut text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut from = 0;
    while let Some(open) = text.get(from..).and_then(|rest| rest.find("{{")).map(|at| at + from) {
        let rest = text.get(open + 2..).unwrap_or_default();
        // Not further than a name can reach: else a text of nothing but braces would be searched through for each of them.
        let near = rest.get(..rest.floor_char_boundary(MAX_TEMPLATE)).unwrap_or_default();
        let name = near.find("}}").and_then(|close| near.get(..close)).filter(|name| is_name(name.trim()));
        match name {
            Some(name) => {
                pieces.push(Piece::Text(text.get(..open).unwrap_or_default()));
                pieces.push(Piece::Name(name.trim()));
                text = rest.get(name.len() + 2..).unwrap_or_default();
                from = 0;
            }
            None => from = open + 1,
        }
    }
    pieces.push(Piece::Text(text));
    pieces
}

pub(crate) fn names(text: &str) -> impl Iterator<Item = String> + use<'_> {
    pieces(text).into_iter().filter_map(|piece| match piece {
        Piece::Name(name) => Some(name.to_owned()),
        Piece::Text(_) => None,
    })
}

/// Whether TOML can say it.
pub(crate) fn in_toml(value: &Value) -> bool {
    fn within(value: &Value, depth: usize) -> bool {
        match value {
            Value::Null => false,
            Value::Number(number) => number.is_i64(),
            Value::Array(items) => depth > 0 && items.iter().all(|item| within(item, depth - 1)),
            Value::Object(members) => depth > 0 && members.values().all(|item| within(item, depth - 1)),
            Value::Bool(_) | Value::String(_) => true,
        }
    }
    within(value, MAX_TOML_DEPTH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_json_says_is_written_as_toml_that_reads() {
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        for input in [json!({"a": null}), json!({"a": u64::MAX, "b": [1.5]}), json!({"deep": deep})] {
            let text = json!({"name": "x", "turn": [{"content": [{"type": "tool_use", "name": "t", "input": input}]}]});
            let cassette = Cassette::parse("x.json", &text.to_string()).unwrap();
            let again = Cassette::parse("x.toml", &cassette.to_toml()).unwrap();
            assert_eq!(again.turns.first().unwrap().content, cassette.turns.first().unwrap().content);
        }
    }

    #[test]
    fn a_figure_that_toml_cannot_say_is_refused() {
        let text = |figure: u64| {
            let usage = json!({"input": 1, "output": figure});
            json!({"name": "x", "turn": [{"usage": usage, "content": [{"type": "text", "text": "t"}]}]}).to_string()
        };
        let cassette = Cassette::parse("x.json", &text(MAX_FIGURE)).unwrap();
        assert!(Cassette::parse("x.toml", &cassette.to_toml()).is_ok());
        let error = Cassette::parse("x.json", &text(MAX_FIGURE + 1)).unwrap_err();
        assert_eq!(error.to_string(), format!("x.json: turn 1: a figure of `usage` is more than {MAX_FIGURE}"));
    }

    #[test]
    fn a_name_is_looked_for_no_further_than_it_can_reach() {
        let within = format!("{{{{{}x}}}}", " ".repeat(MAX_TEMPLATE - 3));
        assert_eq!(names(&within).collect::<Vec<_>>(), ["x"]);
        assert_eq!(names(&within.replacen(' ', "  ", 1)).count(), 0);
        assert_eq!(names(&"{".repeat(1024 * 1024)).count(), 0, "and this comes to an end");
    }
}
