//! Where a conversation stands in a cassette, and what comes next. A pure function of the request.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stockade_llm::{Estimate, likely_tokens};

use super::cassette::{Cassette, Expect, Figures, Piece, Said, Source, Turn, pieces};

/// How a tool result begins whose call was cut off by a crash.
const INTERRUPTED: &str = "[interrupted]";
/// How much of what was seen is shown in a departure, in characters.
const SHOWN: usize = 300;

/// Reality is not as in the cassette. The text is the whole message for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rehearsal: {0}")]
pub(crate) struct Departure(pub(crate) String);

/// What the provider says now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Play {
    pub(crate) id: String,
    pub(crate) model: String,
    /// Blocks as the API has them, whole.
    pub(crate) content: Vec<Value>,
    pub(crate) stop_reason: String,
    pub(crate) usage: Figures,
    pub(crate) delay_ms: u64,
    pub(crate) stream: bool,
}

/// What a message of the user says.
#[derive(Debug, Default)]
struct Scene {
    task: Option<String>,
    last_message: String,
    last_tool_result: String,
    interrupted: bool,
}

impl Scene {
    fn see(&mut self, message: &Value) {
        let blocks = match message.get("content") {
            Some(Value::Array(blocks)) => blocks.clone(),
            Some(Value::String(text)) => vec![json!({"type": "text", "text": text})],
            _ => Vec::new(),
        };
        let is_result = |block: &&Value| block.get("type").and_then(Value::as_str) == Some("tool_result");
        let results: Vec<String> = blocks.iter().filter(is_result).map(text_of).collect();
        self.interrupted = results.iter().any(|text| text.starts_with(INTERRUPTED));
        if !results.is_empty() {
            self.last_tool_result = results.join("\n");
        }
        self.last_message = blocks.iter().map(text_of).collect::<Vec<_>>().join("\n");
        self.task.get_or_insert_with(|| self.last_message.clone());
    }

    fn of(&self, source: Source) -> &str {
        match source {
            Source::Task => self.task.as_deref().unwrap_or_default(),
            Source::LastToolResult => &self.last_tool_result,
            Source::LastMessage => &self.last_message,
        }
    }
}

/// All text of a block, its own or that of the blocks in it.
fn text_of(block: &Value) -> String {
    match (block.get("text"), block.get("content")) {
        (Some(Value::String(text)), _) | (None, Some(Value::String(text))) => text.clone(),
        (None, Some(Value::Array(blocks))) => blocks.iter().map(text_of).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

impl Cassette {
    /// What comes next in this conversation.
    pub(crate) fn play(&self, body: &[u8]) -> Result<Play, Departure> {
        let request = stockade_llm::anthropic::Request::parse(body).map_err(|error| Departure(error.to_string()))?;
        let value: Value = serde_json::from_slice(body).map_err(|error| Departure(error.to_string()))?;
        let empty = Vec::new();
        let messages = value.get("messages").and_then(Value::as_array).unwrap_or(&empty);

        let mut scene = Scene::default();
        let mut captured = BTreeMap::new();
        // The turn that is due, how many answers there were, and whether the due turn was played already.
        let (mut due, mut answers, mut again, mut answered) = (0, 0, false, false);
        for message in messages {
            if message.get("role").and_then(Value::as_str) == Some("assistant") {
                if answered {
                    (due, again) = (due + 1, false);
                }
                let turn = self.turn(due, &scene)?;
                if !again {
                    self.capture(due, turn, &scene, &mut captured)?;
                }
                self.same(due, turn, &captured, message)?;
                (answered, answers) = (true, answers + 1);
            } else {
                scene.see(message);
                if std::mem::take(&mut answered) {
                    again = scene.interrupted;
                    due += usize::from(!again);
                }
            }
        }
        if answered || messages.is_empty() {
            return Err(self.departure(due, "a message of the user at the end of the conversation", "none"));
        }
        let turn = self.turn(due, &scene)?;
        if !again {
            self.capture(due, turn, &scene, &mut captured)?;
            for expect in &turn.expects {
                self.holds(due, expect, turn, &scene, &captured)?;
            }
        }
        self.offered(due, turn, &value)?;
        let content = self.content(due, turn, &captured, answers);
        let usage = self.usage(due, turn, &content, body.len(), &request.estimate)?;
        Ok(Play {
            id: format!("msg_rehearsal_{}_{}", self.name(), answers + 1),
            model: format!("rehearsal/{}", self.name()),
            content,
            stop_reason: turn.stop_reason.clone(),
            usage,
            delay_ms: turn.delay_ms,
            stream: request.stream,
        })
    }

    fn departure(&self, turn: usize, expected: &str, saw: &str) -> Departure {
        Departure(format!("turn {} of {} expected {expected} but saw {saw}", turn + 1, self.name()))
    }

    fn turn(&self, index: usize, scene: &Scene) -> Result<&Turn, Departure> {
        self.turns.get(index).ok_or_else(|| {
            Departure(format!(
                "{} has {} turns, but turn {} was asked for; the last message was {}",
                self.name(),
                self.turns.len(),
                index + 1,
                shown(&scene.last_message)
            ))
        })
    }

    fn capture(
        &self,
        index: usize,
        turn: &Turn,
        scene: &Scene,
        captured: &mut BTreeMap<String, String>,
    ) -> Result<(), Departure> {
        for capture in &turn.captures {
            let text = scene.of(capture.from);
            let found = capture.regex.captures(text).and_then(|found| found.get(1).or_else(|| found.get(0)));
            let found = found.ok_or_else(|| {
                let expected =
                    format!("`{}` to be found in {} for {}", capture.regex, capture.from.words(), capture.name);
                self.departure(index, &expected, &shown(text))
            })?;
            captured.insert(capture.name.clone(), found.as_str().to_owned());
        }
        Ok(())
    }

    fn holds(
        &self,
        index: usize,
        expect: &Expect,
        turn: &Turn,
        scene: &Scene,
        captured: &BTreeMap<String, String>,
    ) -> Result<(), Departure> {
        let (text, place) = (scene.of(expect.from), expect.from.words());
        let departed = |expected: String| Err(self.departure(index, &expected, &shown(text)));
        if let Some(part) = expect.contains.as_deref().map(|part| filled(turn, part, captured))
            && !text.contains(&part)
        {
            return departed(format!("{place} to contain `{part}`"));
        }
        if let Some(part) = expect.lacks.as_deref().map(|part| filled(turn, part, captured))
            && text.contains(&part)
        {
            return departed(format!("{place} not to contain `{part}`"));
        }
        match &expect.matches {
            Some(regex) if !regex.is_match(text) => departed(format!("{place} to match `{regex}`")),
            _ => Ok(()),
        }
    }

    /// Whether an earlier answer in the conversation is what this turn played.
    fn same(
        &self,
        index: usize,
        turn: &Turn,
        captured: &BTreeMap<String, String>,
        message: &Value,
    ) -> Result<(), Departure> {
        let said = turn.content.iter().filter_map(|said| match said {
            Said::ToolUse { name, input } => Some(json!({"name": name, "input": filled_value(turn, input, captured)})),
            _ => None,
        });
        let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is_use = |block: &&Value| block.get("type").and_then(Value::as_str) == Some("tool_use");
        let seen =
            blocks.iter().filter(is_use).map(|block| json!({"name": block.get("name"), "input": block.get("input")}));
        let (said, seen): (Vec<Value>, Vec<Value>) = (said.collect(), seen.collect());
        if said == seen {
            return Ok(());
        }
        let list = |uses: Vec<Value>| shown(&Value::Array(uses).to_string());
        let expected = format!("its own tool calls {} in the conversation", list(said));
        Err(self.departure(index, &expected, &list(seen)))
    }

    fn offered(&self, index: usize, turn: &Turn, request: &Value) -> Result<(), Departure> {
        let tools = request.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let offered: Vec<&str> = tools.iter().filter_map(|tool| tool.get("name").and_then(Value::as_str)).collect();
        for said in &turn.content {
            if let Said::ToolUse { name, .. } = said
                && !offered.contains(&name.as_str())
            {
                let saw = if offered.is_empty() { "no tools".to_owned() } else { offered.join(", ") };
                return Err(self.departure(index, &format!("the request to offer the tool `{name}`"), &saw));
            }
        }
        Ok(())
    }

    fn content(&self, index: usize, turn: &Turn, captured: &BTreeMap<String, String>, answers: usize) -> Vec<Value> {
        let block = |(place, said): (usize, &Said)| match said {
            Said::Text(text) => json!({"type": "text", "text": filled(turn, text, captured)}),
            Said::Thinking { text, signature } => {
                let signature = signature.clone().unwrap_or_else(|| {
                    use base64::Engine as _;
                    let text = format!("rehearsal, not a signature: {} {} {place}", self.name(), index + 1);
                    base64::engine::general_purpose::STANDARD.encode(text)
                });
                json!({"type": "thinking", "thinking": filled(turn, text, captured), "signature": signature})
            }
            Said::RedactedThinking(data) => json!({"type": "redacted_thinking", "data": data}),
            Said::ToolUse { name, input } => json!({
                "type": "tool_use",
                // Counted over answers, not turns: a turn that is played again asks anew.
                "id": format!("toolu_rehearsal_{}_{}_{}", self.name(), answers + 1, place + 1),
                "name": name,
                "input": filled_value(turn, input, captured),
            }),
        };
        turn.content.iter().enumerate().map(block).collect()
    }

    fn usage(
        &self,
        index: usize,
        turn: &Turn,
        content: &[Value],
        request_bytes: usize,
        estimate: &Estimate,
    ) -> Result<Figures, Departure> {
        let Some(usage) = turn.usage else {
            let said: usize = content.iter().map(|block| block.to_string().len()).sum();
            let input = likely_tokens(request_bytes).min(estimate.input_tokens.unwrap_or(u64::MAX));
            return Ok(Figures {
                input,
                output: likely_tokens(said).clamp(1, estimate.output_tokens.max(1)),
                ..Figures::default()
            });
        };
        let read = usage.input.saturating_add(usage.cache_read).saturating_add(usage.cache_write);
        let most = estimate.input_tokens.unwrap_or(u64::MAX);
        if read > most {
            let expected = format!("a request of at least {read} tokens, as its usage says,");
            return Err(self.departure(index, &expected, &format!("one of at most {most}")));
        }
        if usage.output > estimate.output_tokens {
            let expected = format!("max_tokens of at least {}, as its usage says,", usage.output);
            return Err(self.departure(index, &expected, &estimate.output_tokens.to_string()));
        }
        Ok(usage)
    }
}

fn filled(turn: &Turn, text: &str, captured: &BTreeMap<String, String>) -> String {
    if !turn.templates {
        return text.to_owned();
    }
    let piece = |piece: Piece<'_>| match piece {
        Piece::Text(text) => text.to_owned(),
        // That it was captured was checked when the cassette was read.
        Piece::Name(name) => captured.get(name).cloned().unwrap_or_default(),
    };
    pieces(text).into_iter().map(piece).collect()
}

fn filled_value(turn: &Turn, value: &Value, captured: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(filled(turn, text, captured)),
        Value::Array(items) => items.iter().map(|item| filled_value(turn, item, captured)).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, item)| (key.clone(), filled_value(turn, item, captured))).collect()
        }
        other => other.clone(),
    }
}

/// A text, short enough to be shown.
fn shown(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "nothing".to_owned();
    }
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { " …" } else { "" };
    format!("`{cut}`{more}")
}
