//! A request, written for a provider of this dialect. Nothing is kept there: every request holds the whole conversation.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    tools,
    words::{SEALED, unseal},
};
use crate::{
    CacheUse, Dialect, Target,
    neutral::{
        Aliases, ConvertError, Dropped, Media, MediaKind, NameRules, OutputForm, Part, Reasoning, Request, Source,
        Tool, ToolChoice, ToolKind, Written,
    },
    openai::{
        media::{self, ELSEWHERE, data_url, unsupported},
        model::{self, Kind},
        tools::{NAMES, free_arguments, free_schema, short_name},
        turns::{self, Step},
    },
};

/// Which identifiers of calls are taken.
const IDS: NameRules = NameRules::word(64);
/// The fewest tokens that may be asked for.
const LEAST_OUTPUT: u64 = 16;

struct Writer<'a> {
    request: &'a Request,
    target: &'a Target,
    kind: Kind,
    aliases: Aliases,
    dropped: BTreeSet<Dropped>,
    input: Vec<Value>,
    /// Whether a call was one of free text: its result is another kind of item.
    free: BTreeMap<String, bool>,
}

/// Writes a request.
pub(super) fn request(request: &Request, target: &Target) -> Result<Written, ConvertError> {
    let mut writer = Writer {
        request,
        target,
        kind: model::kind(&request.model),
        aliases: Aliases::default(),
        dropped: request.leftovers()?.into_iter().collect(),
        input: Vec::new(),
        free: BTreeMap::new(),
    };
    let mut body = Map::new();
    let instructions = writer.instructions(&request.system.iter().collect::<Vec<_>>())?;
    if !instructions.is_empty() {
        body.insert("instructions".to_owned(), json!(instructions));
    }
    writer.conversation()?;
    body.insert("model".to_owned(), json!(request.model));
    body.insert("input".to_owned(), Value::Array(std::mem::take(&mut writer.input)));
    body.insert("store".to_owned(), json!(false));
    writer.tools(&mut body)?;
    writer.settings(&mut body);
    Ok(Written {
        body: Value::Object(body).to_string().into(),
        headers: Vec::new(),
        aliases: writer.aliases,
        dropped: writer.dropped.into_iter().collect(),
        cache: if writer.kind == Kind::Other { CacheUse::None } else { CacheUse::FiveMinutes },
    })
}

impl Writer<'_> {
    fn drop(&mut self, what: &str, rule: &'static str) {
        self.dropped.insert(Dropped { what: what.to_owned(), rule });
    }

    /// Tells that a cache mark is left out: the provider caches by itself.
    fn marked(&mut self, part: &Part) {
        let mark = match part {
            Part::Text { cache, .. } | Part::ToolCall { cache, .. } | Part::ToolResult { cache, .. } => *cache,
            Part::Media(media) => media.cache,
            Part::Reasoning(_) | Part::Refusal(_) | Part::Foreign(_) => None,
        };
        if mark.is_some() {
            self.drop("a cache mark", "cached-unasked");
        }
    }

    fn instructions(&mut self, parts: &[&Part]) -> Result<String, ConvertError> {
        parts.iter().for_each(|part| self.marked(part));
        turns::joined(parts.iter().copied()).ok_or(ConvertError::Unsupported {
            what: "instructions that are not text".to_owned(),
            why: "send them as text",
        })
    }

    fn conversation(&mut self) -> Result<(), ConvertError> {
        let request = self.request;
        for step in turns::steps(&request.turns) {
            match step {
                Step::System(parts) => {
                    let text = self.instructions(&parts)?;
                    self.input.push(json!({ "role": "developer", "content": text }));
                }
                Step::User(parts) => {
                    let mut content = Vec::new();
                    for part in parts {
                        self.heard(part, &mut content)?;
                    }
                    self.input.push(json!({ "role": "user", "content": content }));
                }
                Step::Assistant(parts) => self.assistant(&parts)?,
                Step::Results(found) => found.into_iter().try_for_each(|(id, part)| self.result(id, part))?,
            }
        }
        Ok(())
    }

    fn heard(&mut self, part: &Part, content: &mut Vec<Value>) -> Result<(), ConvertError> {
        self.marked(part);
        match part {
            Part::Text { text, .. } => content.push(json!({ "type": "input_text", "text": text })),
            Part::Media(media) => content.push(piece(media)?),
            Part::ToolResult { name, parts, .. } => {
                self.drop("a tool result without its call", "orphan-result");
                let text = turns::orphan(name.as_deref(), "");
                content.push(json!({ "type": "input_text", "text": text.trim_end() }));
                parts.iter().try_for_each(|part| self.heard(part, content))?;
            }
            other => return Err(foreign(other)),
        }
        Ok(())
    }

    fn assistant(&mut self, parts: &[&Part]) -> Result<(), ConvertError> {
        let mut text = String::new();
        for part in parts {
            self.marked(part);
            if let Part::Text { text: more, .. } | Part::Refusal(more) = part {
                text.push_str(more);
                continue;
            }
            self.said(&mut text);
            match part {
                Part::Reasoning(reasoning) => self.thought(reasoning),
                Part::ToolCall { .. } => self.call(part),
                other => return Err(foreign(other)),
            }
        }
        self.said(&mut text);
        Ok(())
    }

    fn said(&mut self, text: &mut String) {
        if !text.is_empty() {
            self.input.push(json!({ "role": "assistant", "content": std::mem::take(text) }));
        }
    }

    /// A thought goes back to whoever sealed it, and to nobody else.
    fn thought(&mut self, reasoning: &Reasoning) {
        let own = reasoning.signature.as_ref().and_then(|signature| signature.native(Dialect::Responses));
        let Some(own) = own.filter(|_| self.target.reasoning) else {
            let rule = if reasoning.signature.is_some() { "foreign-reasoning" } else { "unsigned-reasoning" };
            return self.drop("reasoning of an earlier turn", rule);
        };
        let (id, sealed) = unseal(own);
        let mut item = Map::new();
        item.insert("type".to_owned(), json!("reasoning"));
        if let Some(id) = id.or(reasoning.id.as_deref().filter(|id| id.starts_with("rs_"))) {
            item.insert("id".to_owned(), json!(id));
        }
        let text = &reasoning.text;
        let summary = if text.is_empty() { json!([]) } else { json!([{ "type": "summary_text", "text": text }]) };
        item.insert("summary".to_owned(), summary);
        item.insert("encrypted_content".to_owned(), json!(sealed));
        self.input.push(Value::Object(item));
    }

    fn call(&mut self, part: &Part) {
        let Part::ToolCall { id, name, input, free_form, signature, .. } = part else { return };
        if signature.is_some() {
            self.drop("the signature of a tool call", "foreign-signature");
        }
        let free = *free_form && self.kind == Kind::Thinking;
        self.free.insert(id.clone(), free);
        let (call_id, name) = (self.aliases.alias(id, &IDS), self.aliases.alias(name, &NAMES));
        self.input.push(if free {
            json!({ "type": "custom_tool_call", "call_id": call_id, "name": name, "input": input })
        } else {
            let arguments = if *free_form { free_arguments(input) } else { input.clone() };
            json!({ "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments })
        });
    }

    fn result(&mut self, id: &str, part: Option<&Part>) -> Result<(), ConvertError> {
        let free = self.free.get(id).copied().unwrap_or(false);
        let kind = if free { "custom_tool_call_output" } else { "function_call_output" };
        let call_id = self.aliases.alias(id, &IDS);
        let Some(part @ Part::ToolResult { parts, is_error, .. }) = part else {
            self.drop("a call without a result", "missing-result");
            self.input.push(json!({ "type": kind, "call_id": call_id, "output": turns::MISSING }));
            return Ok(());
        };
        self.marked(part);
        if *is_error {
            self.drop("`is_error` of a tool result", "error-flag");
        }
        let output = match turns::joined(parts) {
            Some(text) => {
                parts.iter().for_each(|part| self.marked(part));
                Value::String(text)
            }
            None => {
                let mut content = Vec::new();
                parts.iter().try_for_each(|part| self.heard(part, &mut content))?;
                Value::Array(content)
            }
        };
        self.input.push(json!({ "type": kind, "call_id": call_id, "output": output }));
        Ok(())
    }

    fn tools(&mut self, body: &mut Map<String, Value>) -> Result<(), ConvertError> {
        let request = self.request;
        if request.tools.is_empty() {
            return Ok(());
        }
        let made: Result<Vec<Value>, ConvertError> = request.tools.iter().map(|tool| self.tool(tool)).collect();
        body.insert("tools".to_owned(), Value::Array(made?));
        let choice = match &request.tool_choice {
            ToolChoice::Auto => None,
            ToolChoice::Any => Some(json!("required")),
            ToolChoice::None => Some(json!("none")),
            ToolChoice::Named(name) => {
                let free = request
                    .tools
                    .iter()
                    .any(|tool| tool.name == *name && matches!(tool.kind, ToolKind::FreeForm { .. }));
                let kind = if free && self.kind == Kind::Thinking { "custom" } else { "function" };
                Some(json!({ "type": kind, "name": self.aliases.alias(name, &NAMES) }))
            }
        };
        if let Some(choice) = choice {
            body.insert("tool_choice".to_owned(), choice);
        }
        if let Some(parallel) = request.parallel_tools {
            body.insert("parallel_tool_calls".to_owned(), json!(parallel));
        }
        Ok(())
    }

    fn tool(&mut self, tool: &Tool) -> Result<Value, ConvertError> {
        if tool.cache.is_some() {
            self.drop("a cache mark", "cached-unasked");
        }
        let name = self.aliases.alias(&tool.name, &NAMES);
        match &tool.kind {
            ToolKind::Foreign(value) => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("?");
                Err(ConvertError::Unsupported {
                    what: format!("the tool `{kind}`"),
                    why: "only the provider of its own dialect runs it: leave it out, or ask for another model",
                })
            }
            ToolKind::FreeForm { format } if self.kind != Kind::Thinking => {
                let kind = ToolKind::Function { schema: free_schema(format.as_ref()) };
                Ok(tools::write(&Tool { kind, ..tool.clone() }, &name))
            }
            _ => Ok(tools::write(tool, &name)),
        }
    }

    fn settings(&mut self, body: &mut Map<String, Value>) {
        let request = self.request;
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.to_owned(), value);
            }
        };
        if let Some(wished) = request.max_output {
            let given = wished.min(self.target.max_output).max(LEAST_OUTPUT);
            if given != wished {
                let rule = if given < wished { "most-output" } else { "clamped" };
                self.drop("max_output_tokens", rule);
            }
            set("max_output_tokens", Some(json!(given)));
        }
        let number = |value: &Option<serde_json::Number>| value.clone().map(Value::Number);
        for (key, value) in [("temperature", number(&request.temperature)), ("top_p", number(&request.top_p))] {
            match value {
                Some(value) if self.kind == Kind::Thinking && self.target.reasoning => {
                    if value != json!(1) && value != json!(1.0) {
                        self.drop(key, "not-when-thinking");
                    }
                }
                value => set(key, value),
            }
        }
        for (what, said) in [
            ("top_k", request.top_k.is_some()),
            ("seed", request.seed.is_some()),
            ("presence_penalty", request.presence_penalty.is_some()),
            ("frequency_penalty", request.frequency_penalty.is_some()),
            ("stop", !request.stop.is_empty()),
        ] {
            if said {
                self.drop(what, "no-counterpart");
            }
        }
        let mut reasoning = Map::new();
        if let Some(wish) = &request.reasoning {
            let mut dropped = Vec::new();
            if let Some(word) = model::effort_word(&request.model, wish, self.target.reasoning, &mut dropped) {
                reasoning.insert("effort".to_owned(), json!(word));
            }
            self.dropped.extend(dropped);
            if self.target.reasoning && wish.show == Some(true) {
                reasoning.insert("summary".to_owned(), json!("auto"));
            }
        }
        set("reasoning", (!reasoning.is_empty()).then_some(Value::Object(reasoning)));
        // Without it, the next turn would begin to think anew.
        set("include", self.target.reasoning.then(|| json!([SEALED])));
        set("text", self.text());
        set("safety_identifier", request.user.as_deref().map(|user| json!(short_name(user))));
        set("prompt_cache_key", request.cache_key.as_deref().map(|key| json!(short_name(key))));
        set("stream", request.stream.then_some(json!(true)));
    }

    fn text(&mut self) -> Option<Value> {
        let mut text = Map::new();
        match &self.request.output {
            OutputForm::Text => {}
            OutputForm::Json => {
                text.insert("format".to_owned(), json!({ "type": "json_object" }));
            }
            OutputForm::Schema { name, schema, strict } => {
                let name = name.as_deref().filter(|name| NAMES.takes(name)).unwrap_or("answer");
                let mut format = json!({ "type": "json_schema", "name": name, "schema": schema });
                if let (Some(strict), Some(format)) = (strict, format.as_object_mut()) {
                    format.insert("strict".to_owned(), json!(strict));
                }
                text.insert("format".to_owned(), format);
            }
        }
        match &self.request.verbosity {
            Some(word) if self.kind == Kind::Thinking => {
                text.insert("verbosity".to_owned(), json!(word));
            }
            Some(_) => self.drop("verbosity", "no-counterpart"),
            None => {}
        }
        (!text.is_empty()).then_some(Value::Object(text))
    }
}

/// A piece that is not text.
fn piece(media: &Media) -> Result<Value, ConvertError> {
    let detail = || media.detail.as_deref().unwrap_or("auto");
    match (media.kind, &media.source) {
        (_, Source::File(_)) => Err(unsupported(media, ELSEWHERE)),
        (_, Source::Text(text)) => Ok(json!({ "type": "input_text", "text": media::text_document(media, text) })),
        (MediaKind::Image, Source::Base64 { media_type, data }) => {
            Ok(json!({ "type": "input_image", "image_url": data_url(media_type, data), "detail": detail() }))
        }
        (MediaKind::Image, Source::Url(url)) => {
            Ok(json!({ "type": "input_image", "image_url": url, "detail": detail() }))
        }
        (MediaKind::Document, Source::Base64 { media_type, data }) => {
            let (filename, data) = (media::file_name(media), data_url(media_type, data));
            Ok(json!({ "type": "input_file", "filename": filename, "file_data": data }))
        }
        (MediaKind::Document, Source::Url(url)) => Ok(json!({ "type": "input_file", "file_url": url })),
        (MediaKind::Audio, _) => Ok(json!({ "type": "input_audio", "input_audio": media::sound(media)? })),
        (MediaKind::Video, _) => Err(unsupported(media, "this model does not watch films: send pictures")),
    }
}

/// Why a part cannot be written.
fn foreign(part: &Part) -> ConvertError {
    let what = match part {
        Part::Foreign(value) => value.get("type").and_then(Value::as_str).unwrap_or("a part").to_owned(),
        _ => "a part at this place".to_owned(),
    };
    ConvertError::Unsupported { what, why: "Responses has nothing like it: leave it out, or ask for another model" }
}
