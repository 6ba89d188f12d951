//! What a fake says, told once for all dialects.
//!
//! It owns turns and what they are made of, and the choice of the turn that follows a conversation: as many turns as the
//! model has taken in the request, so many are past. It refuses to know a wire.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::tools::{self, Tool};

/// What a model says in a conversation, turn after turn.
#[derive(Debug, Clone)]
pub struct Script {
    /// The turns.
    pub turns: Vec<Turn>,
    /// What is said where a command should be run and the request offers no tool for it: titles and summaries that clients
    /// ask for beside their work, and clients that work without tools.
    pub aside: String,
    /// The models that are there. Empty: every name is.
    pub models: Vec<String>,
}

/// One turn of the model.
#[derive(Debug, Clone)]
pub struct Turn {
    /// What it is made of, in this order.
    pub parts: Vec<Part>,
    /// Why it ends, unless it ends with tool calls.
    pub stop: Stop,
    /// What it counts as.
    pub usage: Usage,
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text for people.
    Text(String),
    /// Reasoning. A signature is made for it, and must come back where the real provider demands it.
    Reasoning(String),
    /// A shell command: by whatever tool the client has for it, in that tool's form.
    Run(String),
    /// A call of exactly this tool.
    Call {
        /// Its name.
        name: String,
        /// What it is called with.
        arguments: Value,
    },
}

/// Why a turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The model had said all.
    End,
    /// So many tokens and no more.
    MaxTokens,
    /// The model or its provider refused.
    Refusal,
}

/// Tokens of one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Read at the full price.
    pub input: u64,
    /// Read from the cache.
    pub cache_read: u64,
    /// Written to the cache, where the dialect can tell.
    pub cache_write: u64,
    /// Written by the model, reasoning included.
    pub output: u64,
    /// So many of `output` were reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// All that was read.
    #[must_use]
    pub const fn all_input(&self) -> u64 {
        self.input + self.cache_read + self.cache_write
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self { input: 1_000, cache_read: 400, cache_write: 200, output: 100, reasoning: 30 }
    }
}

impl Turn {
    /// A turn of these parts, with the usual usage.
    #[must_use]
    pub fn of(parts: Vec<Part>) -> Self {
        Self { parts, stop: Stop::End, usage: Usage::default() }
    }

    /// The same with another usage.
    #[must_use]
    pub const fn using(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// The same, ending otherwise.
    #[must_use]
    pub const fn stopping(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }
}

/// Text for people.
#[must_use]
pub fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

/// Reasoning.
#[must_use]
pub fn reasoning(text: &str) -> Part {
    Part::Reasoning(text.to_owned())
}

/// A shell command.
#[must_use]
pub fn run(command: &str) -> Part {
    Part::Run(command.to_owned())
}

impl Script {
    /// A script of these turns, for every model.
    #[must_use]
    pub fn new(turns: Vec<Turn>) -> Self {
        Self { turns, aside: "A small task".to_owned(), models: Vec::new() }
    }

    /// The turn after so many. `form` is how ids look at this provider.
    pub(super) fn step(&self, past: usize, tools: &[Tool], form: IdForm) -> Result<Step, String> {
        // Whoever has no tool for commands is not at work on the script: a title is wanted, or the client has its own ways.
        let runs = self.turns.iter().flat_map(|turn| &turn.parts).any(|part| matches!(part, Part::Run(_)));
        if runs && tools::run(tools, "").is_none() {
            let usage = self.turns.first().map_or_else(Usage::default, |turn| turn.usage);
            return Ok(Step { number: past, parts: vec![Said::Text(self.aside.clone())], stop: Stop::End, usage });
        }
        let turn = self.turns.get(past).ok_or_else(|| format!("no turn is left after {past}"))?;
        let mut parts = Vec::new();
        for (at, part) in turn.parts.iter().enumerate() {
            let id = || form.id(past, at);
            let signature = || signature(past, at);
            parts.push(match part {
                Part::Text(text) => Said::Text(text.clone()),
                Part::Reasoning(text) => Said::Reasoning { text: text.clone(), signature: signature() },
                Part::Call { name, arguments } => {
                    if !tools.iter().any(|tool| tool.name == *name) {
                        return Err(format!("the script calls `{name}`, and the request offers no such tool"));
                    }
                    Said::Call { id: id(), name: name.clone(), arguments: arguments.clone(), signature: signature() }
                }
                Part::Run(command) => {
                    let (name, arguments) = tools::run(tools, command).ok_or("there is no tool for commands")?;
                    Said::Call { id: id(), name, arguments, signature: signature() }
                }
            });
        }
        Ok(Step { number: past, parts, stop: turn.stop, usage: turn.usage })
    }
}

/// How the ids of tool calls look.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdForm {
    pub prefix: &'static str,
    pub length: usize,
}

impl IdForm {
    fn id(self, turn: usize, part: usize) -> String {
        format!("{}{}", self.prefix, word(&format!("{} {turn} {part}", self.prefix), self.length))
    }
}

/// A turn for one request: tools chosen, ids and signatures made.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub number: usize,
    pub parts: Vec<Said>,
    pub stop: Stop,
    pub usage: Usage,
}

/// A part of a [`Step`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Text(String),
    Reasoning { text: String, signature: String },
    Call { id: String, name: String, arguments: Value, signature: String },
}

impl Step {
    pub(super) fn calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Said::Call { .. }))
    }

    /// The reasoning in it, with its signature.
    pub(super) fn reasoning(&self) -> Option<(&str, &str)> {
        self.parts.iter().find_map(|part| match part {
            Said::Reasoning { text, signature } => Some((text.as_str(), signature.as_str())),
            _ => None,
        })
    }

    pub(super) fn without_reasoning(mut self) -> Self {
        self.parts.retain(|part| !matches!(part, Said::Reasoning { .. }));
        self
    }
}

/// What was given out and must come back as it was.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Signatures, and the reasoning that each stands for.
    pub signatures: BTreeMap<String, String>,
    /// Ids of calls that were given out behind signed reasoning, and its signature.
    pub calls: BTreeMap<String, String>,
    /// Signatures that were given out as encrypted reasoning.
    pub encrypted: BTreeSet<String>,
    /// Signatures of calls themselves, and the call's name and arguments.
    pub call_signatures: BTreeMap<String, (String, Value)>,
}

impl Given {
    /// Keeps what this step gives out.
    pub(super) fn note(&mut self, step: &Step) {
        let reasoning = step.reasoning().map(|(text, signature)| (text.to_owned(), signature.to_owned()));
        if let Some((text, signature)) = &reasoning {
            self.signatures.insert(signature.clone(), text.clone());
        }
        for part in &step.parts {
            let Said::Call { id, name, arguments, signature } = part else { continue };
            self.call_signatures.insert(signature.clone(), (name.clone(), arguments.clone()));
            if let Some((_, signature)) = &reasoning {
                self.calls.insert(id.clone(), signature.clone());
            }
        }
    }
}

/// A signature: long, and with all characters that base64 has, so that whoever mangles it is found out.
fn signature(turn: usize, part: usize) -> String {
    let mut bytes = vec![0xfb, 0xef, 0xbe, 0xff];
    bytes.extend(noise(&format!("signature {turn} {part}")).take(192));
    STANDARD.encode(bytes)
}

/// Letters and digits that are always the same for the same seed.
pub(super) fn word(seed: &str, length: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz0123456789";
    noise(seed)
        .take(length)
        .filter_map(|byte| LETTERS.get(usize::from(byte) % LETTERS.len()))
        .map(|b| *b as char)
        .collect()
}

fn noise(seed: &str) -> impl Iterator<Item = u8> {
    let mut state = seed
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
}

/// A text in about so many pieces, cut between characters.
pub(super) fn pieces(text: &str, count: usize) -> Vec<String> {
    let size = text.chars().count().div_ceil(count).max(1);
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(size).map(|piece| piece.iter().collect()).collect()
}

/// The smallest value that a JSON schema allows, for clients that ask for structured output beside their work.
pub(super) fn smallest(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match schema["type"].as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("object") => {
            let wanted: Vec<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields = fields.filter(|(name, _)| wanted.contains(&name.as_str()));
            Value::Object(fields.map(|(name, schema)| (name.clone(), smallest(schema))).collect())
        }
        Some("array") => json!([]),
        Some("number" | "integer") => json!(1),
        Some("boolean") => json!(false),
        _ => json!("x"),
    }
}
