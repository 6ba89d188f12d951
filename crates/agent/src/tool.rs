//! The tools, and how their untrusted input is read. What the model is told about them is in `definitions`.
//!
//! *Invariant:* a [`Tool`] has been checked: paths are relative, below the workspace and without `..`; numbers are
//! within their bounds; texts within their lengths. What cannot be read is answered with a sentence that tells the
//! model what to send instead.

use serde::Serialize;
use serde_json::{Map, Value};

/// The longest path, in bytes.
pub const MAX_PATH: usize = 4096;
/// The longest text to write, or to replace, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;
/// The longest command, in bytes.
pub const MAX_COMMAND: usize = 64 * 1024;
/// The longest pattern or glob, in bytes.
pub const MAX_PATTERN: usize = 4096;
/// The longest summary or question, in bytes.
pub const MAX_WORDS: usize = 32 * 1024;
/// The longest title of a change, in characters. A longer one is cut.
pub const MAX_TITLE: usize = 72;
/// The longest time a command may ask for, in milliseconds.
pub const MAX_TIMEOUT_MS: u64 = 3_600_000;
/// The most lines a search may ask for.
pub const MAX_MATCHES: u32 = 1000;
/// The deepest listing.
pub const MAX_DEPTH: u32 = 16;

/// A tool call that could be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "tool", rename_all = "snake_case")]
pub enum Tool {
    /// Read a file.
    Read {
        /// Which.
        path: String,
        /// First line, from 1.
        from_line: Option<u64>,
        /// At most so many lines.
        max_lines: Option<u64>,
    },
    /// Write a file whole.
    Write {
        /// Which.
        path: String,
        /// Its new text.
        text: String,
    },
    /// Replace the one exact occurrence of a text.
    Edit {
        /// In which file.
        path: String,
        /// What stands there now.
        old: String,
        /// What shall stand there.
        new: String,
    },
    /// List a folder.
    List {
        /// Which; empty for the workspace.
        path: String,
        /// How deep, 1 to [`MAX_DEPTH`].
        depth: u32,
    },
    /// Search file contents.
    Search {
        /// A regular expression.
        pattern: String,
        /// Below which folder; empty for the workspace.
        path: String,
        /// Only files whose path matches.
        glob: Option<String>,
        /// At most so many lines, 1 to [`MAX_MATCHES`].
        max_matches: u32,
    },
    /// Run a command with `sh -c` in the workspace.
    Run {
        /// Which.
        command: String,
        /// At most so long, 1 to [`MAX_TIMEOUT_MS`].
        timeout_ms: u64,
    },
    /// The work is done, or cannot be done.
    Finish {
        /// A line for the change, not empty; absent if the model gave none.
        title: Option<String>,
        /// What was done and why.
        summary: String,
        /// False: it cannot be done.
        done: bool,
    },
    /// Ask a person.
    Ask {
        /// What.
        question: String,
    },
}

impl Tool {
    /// Every name.
    pub const NAMES: [&'static str; 8] = ["read", "write", "edit", "list", "search", "run", "finish", "ask"];

    /// The name, as the model, policies and records have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Edit { .. } => "edit",
            Self::List { .. } => "list",
            Self::Search { .. } => "search",
            Self::Run { .. } => "run",
            Self::Finish { .. } => "finish",
            Self::Ask { .. } => "ask",
        }
    }

    /// Whether it changes nothing in the workspace.
    pub const fn read_only(&self) -> bool {
        matches!(
            self,
            Self::Read { .. } | Self::List { .. } | Self::Search { .. } | Self::Finish { .. } | Self::Ask { .. }
        )
    }

    /// The path it is about, relative to the workspace. Content.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::Edit { path, .. }
            | Self::List { path, .. }
            | Self::Search { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The command it runs. Content.
    pub fn command(&self) -> Option<&str> {
        match self {
            Self::Run { command, .. } => Some(command),
            _ => None,
        }
    }

    /// Reads a call. `run_timeout_ms` is what a command gets that does not say. The error is a sentence for the model.
    pub fn parse(name: &str, input: &Value, run_timeout_ms: u64) -> Result<Self, String> {
        let fields = Fields::new(name, input)?;
        match name {
            "read" => Ok(Self::Read {
                path: fields.file()?,
                from_line: fields.number("from_line", 1, u64::MAX)?,
                max_lines: fields.number("max_lines", 1, u64::MAX)?,
            }),
            "write" => Ok(Self::Write { path: fields.file()?, text: fields.text("text", MAX_TEXT)? }),
            "edit" => {
                let (path, old, new) = (fields.file()?, fields.text("old", MAX_TEXT)?, fields.text("new", MAX_TEXT)?);
                if old.is_empty() {
                    return Err("`edit`: `old` is empty; give the exact text to replace, or use `write`".to_owned());
                }
                if old == new {
                    return Err("`edit`: `old` and `new` are the same; nothing would change".to_owned());
                }
                Ok(Self::Edit { path, old, new })
            }
            "list" => Ok(Self::List {
                path: fields.folder()?,
                depth: fields.small("depth", MAX_DEPTH)?.unwrap_or(DEFAULT_DEPTH),
            }),
            "search" => Ok(Self::Search {
                pattern: fields.said("pattern", MAX_PATTERN)?,
                path: fields.folder()?,
                glob: fields.optional("glob", MAX_PATTERN)?.filter(|glob| !glob.is_empty()),
                max_matches: fields.small("max_matches", MAX_MATCHES)?.unwrap_or(DEFAULT_MATCHES),
            }),
            "run" => Ok(Self::Run {
                command: fields.said("command", MAX_COMMAND)?,
                timeout_ms: fields
                    .number("timeout_ms", 1, MAX_TIMEOUT_MS)?
                    .unwrap_or_else(|| run_timeout_ms.clamp(1, MAX_TIMEOUT_MS)),
            }),
            "finish" => Ok(Self::Finish {
                title: fields.optional("title", MAX_WORDS)?.and_then(|title| one_line(&title)),
                summary: fields.said("summary", MAX_WORDS)?,
                done: fields.flag("done")?.unwrap_or(true),
            }),
            "ask" => Ok(Self::Ask { question: fields.said("question", MAX_WORDS)? }),
            _ => Err(unknown(name)),
        }
    }
}

const DEFAULT_DEPTH: u32 = 3;
const DEFAULT_MATCHES: u32 = 100;

fn unknown(name: &str) -> String {
    let name = crate::text::shorten(name, 64);
    format!("there is no tool `{name}`; the tools are {}", Tool::NAMES.join(", "))
}

/// The first line of `text` that says something, at most [`MAX_TITLE`] characters, without control characters.
pub(crate) fn one_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let clean: String = line.chars().filter(|c| !c.is_control()).collect();
    if clean.chars().count() <= MAX_TITLE {
        return Some(clean).filter(|line| !line.is_empty());
    }
    let mut cut: String = clean.chars().take(MAX_TITLE - 1).collect();
    cut.push('…');
    Some(cut)
}

/// The fields of one call's input, with the tool's name for the sentences.
struct Fields<'a> {
    tool: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn new(tool: &'a str, input: &'a Value) -> Result<Self, String> {
        let known = fields_of(tool).ok_or_else(|| unknown(tool))?;
        let map = input
            .as_object()
            .ok_or_else(|| format!("`{tool}`: the input must be a JSON object with {}", list(known)))?;
        if let Some(extra) = map.keys().find(|key| !known.contains(&key.as_str())) {
            let extra = crate::text::shorten(extra, 64);
            return Err(format!("`{tool}`: there is no field `{extra}`; the fields are {}", list(known)));
        }
        Ok(Self { tool, map })
    }

    fn wrong(&self, field: &str, rest: impl std::fmt::Display) -> String {
        format!("`{}`: `{field}` {rest}", self.tool)
    }

    /// Null counts as absent: models send it for what they leave out.
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn optional(&self, field: &str, max: usize) -> Result<Option<String>, String> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| self.wrong(field, "must be a string"))?;
        if text.len() > max {
            return Err(self.wrong(field, format_args!("has {} bytes; at most {max} are possible", text.len())));
        }
        if text.contains('\0') {
            return Err(self.wrong(field, "contains a NUL character"));
        }
        Ok(Some(text.to_owned()))
    }

    fn text(&self, field: &str, max: usize) -> Result<String, String> {
        self.optional(field, max)?.ok_or_else(|| self.wrong(field, "is missing; it must be a string"))
    }

    /// A text that is more than white space.
    fn said(&self, field: &str, max: usize) -> Result<String, String> {
        let text = self.text(field, max)?;
        if text.trim().is_empty() { Err(self.wrong(field, "is empty")) } else { Ok(text) }
    }

    /// Digits in a string count as a number: models write that often, and it cannot mean anything else.
    fn number(&self, field: &str, min: u64, max: u64) -> Result<Option<u64>, String> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let bounds = || {
            if max == u64::MAX {
                self.wrong(field, format_args!("must be a whole number from {min}"))
            } else {
                self.wrong(field, format_args!("must be a whole number from {min} to {max}"))
            }
        };
        let digits = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        value
            .as_u64()
            .or_else(|| value.as_str().and_then(digits))
            .filter(|n| (min..=max).contains(n))
            .map(Some)
            .ok_or_else(bounds)
    }

    fn small(&self, field: &str, max: u32) -> Result<Option<u32>, String> {
        Ok(self.number(field, 1, u64::from(max))?.and_then(|n| u32::try_from(n).ok()))
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, String> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(field, "must be true or false"))
    }

    fn file(&self) -> Result<String, String> {
        let path = self.path(self.text("path", MAX_PATH)?)?;
        if path.is_empty() {
            Err(self.wrong("path", "names no file; give one relative to the workspace"))
        } else {
            Ok(path)
        }
    }

    fn folder(&self) -> Result<String, String> {
        self.path(self.optional("path", MAX_PATH)?.unwrap_or_default())
    }

    /// Makes a path relative to the workspace, whose absolute name models like to use, and refuses every way out of it.
    fn path(&self, path: String) -> Result<String, String> {
        let inside = match path.strip_prefix(WORKSPACE) {
            Some("") => "",
            Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/'),
            _ => path.as_str(),
        };
        if inside.starts_with('/') {
            return Err(self.wrong("path", "is outside the workspace; give one relative to it"));
        }
        let mut parts = vec![];
        for part in inside.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(self.wrong("path", "contains `..`; give one relative to the workspace")),
                part => parts.push(part),
            }
        }
        Ok(parts.join("/"))
    }
}

/// Where the workspace is inside an environment.
const WORKSPACE: &str = "/workspace";

fn list(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ")
}

pub(crate) fn fields_of(tool: &str) -> Option<&'static [&'static str]> {
    Some(match tool {
        "read" => &["path", "from_line", "max_lines"],
        "write" => &["path", "text"],
        "edit" => &["path", "old", "new"],
        "list" => &["path", "depth"],
        "search" => &["pattern", "path", "glob", "max_matches"],
        "run" => &["command", "timeout_ms"],
        "finish" => &["title", "summary", "done"],
        "ask" => &["question"],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(name: &str, input: Value) -> Result<Tool, String> {
        Tool::parse(name, &input, 5000)
    }

    #[test]
    fn a_good_call_is_read() {
        assert_eq!(
            parse("read", json!({"path": "/workspace/./src//a.rs", "from_line": 3, "max_lines": null})),
            Ok(Tool::Read { path: "src/a.rs".into(), from_line: Some(3), max_lines: None })
        );
        assert_eq!(parse("list", json!({"depth": "2"})), Ok(Tool::List { path: String::new(), depth: 2 }));
        assert_eq!(parse("list", json!({})), Ok(Tool::List { path: String::new(), depth: 3 }));
        assert_eq!(parse("list", json!({"path": "/workspace"})), Ok(Tool::List { path: String::new(), depth: 3 }));
        assert_eq!(
            parse("run", json!({"command": "make test"})),
            Ok(Tool::Run { command: "make test".into(), timeout_ms: 5000 })
        );
        assert_eq!(
            parse("finish", json!({"title": "\n  Fix it \n more", "summary": "s"})),
            Ok(Tool::Finish { title: Some("Fix it".into()), summary: "s".into(), done: true })
        );
    }

    #[test]
    fn a_bad_call_is_told_what_to_send_instead() {
        for (name, input, sentence) in [
            (
                "shell",
                json!({}),
                "there is no tool `shell`; the tools are read, write, edit, list, search, run, finish, ask",
            ),
            ("read", json!([]), "`read`: the input must be a JSON object with `path`, `from_line`, `max_lines`"),
            ("read", json!({}), "`path` is missing; it must be a string"),
            ("read", json!({"path": 1}), "`path` must be a string"),
            ("read", json!({"path": "."}), "`path` names no file"),
            ("read", json!({"path": "a/../../b"}), "`path` contains `..`"),
            ("read", json!({"path": "/etc/passwd"}), "`path` is outside the workspace"),
            ("read", json!({"path": "/workspaces/x"}), "`path` is outside the workspace"),
            ("read", json!({"path": "a\0b"}), "`path` contains a NUL"),
            ("read", json!({"path": "a", "lines": 2}), "there is no field `lines`"),
            ("read", json!({"path": "a", "from_line": 0}), "`from_line` must be a whole number from 1"),
            ("list", json!({"depth": "+2"}), "`depth` must be a whole number from 1 to 16"),
            ("list", json!({"depth": 17}), "`depth` must be a whole number from 1 to 16"),
            ("edit", json!({"path": "a", "old": "", "new": "x"}), "`old` is empty"),
            ("edit", json!({"path": "a", "old": "x", "new": "x"}), "the same"),
            ("run", json!({"command": "  "}), "`command` is empty"),
            ("run", json!({"command": "x", "timeout_ms": 3_600_001}), "from 1 to 3600000"),
            ("run", json!({"command": "x".repeat(MAX_COMMAND + 1)}), "at most 65536 are possible"),
            ("write", json!({"path": "a", "text": "x".repeat(MAX_TEXT + 1)}), "at most 1048576 are possible"),
            ("write", json!({"path": "a".repeat(MAX_PATH + 1), "text": ""}), "at most 4096 are possible"),
            ("search", json!({"pattern": "x".repeat(MAX_PATTERN + 1)}), "at most 4096 are possible"),
            ("search", json!({"pattern": "x", "max_matches": 1001}), "from 1 to 1000"),
            ("finish", json!({"summary": "x".repeat(MAX_WORDS + 1)}), "at most 32768 are possible"),
            ("finish", json!({"summary": "x", "done": "yes"}), "`done` must be true or false"),
        ] {
            let said = parse(name, input).unwrap_err();
            assert!(said.contains(sentence), "{said}");
        }
    }

    #[test]
    fn what_stands_at_the_bound_is_read() {
        assert!(parse("run", json!({"command": "x".repeat(MAX_COMMAND), "timeout_ms": MAX_TIMEOUT_MS})).is_ok());
        assert!(parse("write", json!({"path": "a".repeat(MAX_PATH), "text": "x".repeat(MAX_TEXT)})).is_ok());
        assert!(parse("list", json!({"depth": MAX_DEPTH})).is_ok());
        let title = one_line(&"é".repeat(MAX_TITLE + 1)).unwrap();
        assert_eq!(title.chars().count(), MAX_TITLE);
    }

    proptest! {
        #[test]
        fn no_path_leads_out(path in "[./a-c]{0,20}") {
            if let Ok(tool) = parse("read", json!({"path": path})) {
                let path = tool.path().unwrap();
                prop_assert!(!path.is_empty() && !path.starts_with('/'));
                prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }

        #[test]
        fn no_input_makes_it_panic(name in prop::sample::select(Tool::NAMES.to_vec()), input in crate::message::any_json()) {
            let _ = parse(name, input);
        }
    }
}
