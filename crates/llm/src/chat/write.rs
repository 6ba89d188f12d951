//! A request, written for a provider of this dialect.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::words;
use crate::{
    CacheUse, Dialect, Target,
    neutral::{
        Aliases, ConvertError, Dropped, Media, MediaKind, NameRules, OutputForm, Part, Request, Source, Tool,
        ToolChoice, ToolKind, Written,
    },
    openai::{
        media::{self, ELSEWHERE, data_url, unsupported},
        model::{self, Kind},
        tools::{NAMES, free_arguments, free_schema, object_schema, short_name},
        turns::{self, Step},
    },
};

/// Which identifiers of calls are taken.
const IDS: NameRules = NameRules::word(40);

struct Writer<'a> {
    request: &'a Request,
    target: &'a Target,
    kind: Kind,
    aliases: Aliases,
    dropped: BTreeSet<Dropped>,
    messages: Vec<Value>,
}

/// Writes a request.
pub(super) fn request(request: &Request, target: &Target) -> Result<Written, ConvertError> {
    let mut writer = Writer {
        request,
        target,
        kind: model::kind(&request.model),
        aliases: Aliases::default(),
        dropped: request.leftovers()?.into_iter().collect(),
        messages: Vec::new(),
    };
    writer.conversation()?;
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    body.insert("messages".to_owned(), Value::Array(std::mem::take(&mut writer.messages)));
    writer.tools(&mut body)?;
    writer.settings(&mut body);
    Ok(Written {
        body: Value::Object(body).to_string().into(),
        headers: Vec::new(),
        aliases: writer.aliases,
        dropped: writer.dropped.into_iter().collect(),
        // Models of OpenAI write to their cache without a mark.
        cache: if writer.kind == Kind::Other { CacheUse::None } else { CacheUse::FiveMinutes },
    })
}

impl Writer<'_> {
    fn drop(&mut self, what: &str, rule: &'static str) {
        self.dropped.insert(Dropped { what: what.to_owned(), rule });
    }

    const fn openai(&self) -> bool {
        !matches!(self.kind, Kind::Other)
    }

    fn conversation(&mut self) -> Result<(), ConvertError> {
        let request = self.request;
        let role = if self.kind == Kind::Thinking { "developer" } else { "system" };
        let note = |parts: &[&Part], this: &mut Self| -> Result<(), ConvertError> {
            parts.iter().for_each(|part| this.marked(part));
            let text = turns::joined(parts.iter().copied()).ok_or(ConvertError::Unsupported {
                what: "instructions that are not text".to_owned(),
                why: "send them as text",
            })?;
            if !text.is_empty() {
                this.messages.push(json!({ "role": role, "content": text }));
            }
            Ok(())
        };
        note(&request.system.iter().collect::<Vec<_>>(), self)?;
        for step in turns::steps(&request.turns) {
            match step {
                Step::System(parts) => note(&parts, self)?,
                Step::User(parts) => {
                    let content = self.content(&parts)?;
                    self.messages.push(json!({ "role": "user", "content": content }));
                }
                Step::Assistant(parts) => self.assistant(&parts)?,
                Step::Results(found) => self.results(&found)?,
            }
        }
        Ok(())
    }

    /// Tells that a cache mark is left out: the provider caches by itself.
    fn marked(&mut self, part: &Part) {
        if words::mark_of(part).is_some() {
            self.drop("a cache mark", "cached-unasked");
        }
    }

    /// What a person said: text, if it is nothing else, or parts.
    fn content(&mut self, parts: &[&Part]) -> Result<Value, ConvertError> {
        parts.iter().for_each(|part| self.marked(part));
        if let Some(text) = turns::joined(parts.iter().copied()) {
            return Ok(Value::String(text));
        }
        let mut items = Vec::new();
        for part in parts {
            match part {
                Part::Text { text, .. } => items.push(json!({ "type": "text", "text": text })),
                Part::Media(media) => items.push(piece(media)?),
                Part::ToolResult { name, parts, .. } => {
                    self.drop("a tool result without its call", "orphan-result");
                    let (text, pieces) = self.result(parts)?;
                    items.push(json!({ "type": "text", "text": turns::orphan(name.as_deref(), &text) }));
                    items.extend(pieces);
                }
                other => return Err(foreign(other)),
            }
        }
        if items.iter().all(|item| item.get("type").is_some_and(|kind| kind == "text")) {
            let texts: Vec<&str> = items.iter().filter_map(|item| item.get("text").and_then(Value::as_str)).collect();
            return Ok(Value::String(texts.join("\n\n")));
        }
        Ok(Value::Array(items))
    }

    fn assistant(&mut self, parts: &[&Part]) -> Result<(), ConvertError> {
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        let mut text = turns::said(parts);
        let (mut calls, mut thought, mut refusal) = (Vec::new(), String::new(), String::new());
        for part in parts {
            self.marked(part);
            match part {
                Part::Text { .. } => {}
                Part::Reasoning(reasoning) => {
                    let signed = reasoning.signature.is_some();
                    if !signed && self.kind == Kind::Other && self.target.reasoning {
                        thought.push_str(&reasoning.text);
                    } else {
                        let rule = if signed { "foreign-reasoning" } else { "unsigned-reasoning" };
                        self.drop("reasoning of an earlier turn", rule);
                    }
                }
                Part::ToolCall { .. } => calls.push(self.call(part)),
                Part::Refusal(words) if self.openai() => refusal.push_str(words),
                Part::Refusal(words) => text.push_str(words),
                other => return Err(foreign(other)),
            }
        }
        if text.is_empty() && calls.is_empty() && refusal.is_empty() {
            return Ok(());
        }
        message.insert("content".to_owned(), if text.is_empty() { Value::Null } else { json!(text) });
        for (key, text) in [("reasoning_content", thought), ("refusal", refusal)] {
            if !text.is_empty() {
                message.insert(key.to_owned(), json!(text));
            }
        }
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        self.messages.push(Value::Object(message));
        Ok(())
    }

    fn call(&mut self, part: &Part) -> Value {
        let Part::ToolCall { id, name, input, free_form, signature, .. } = part else { return Value::Null };
        let (id, name) = (self.aliases.alias(id, &IDS), self.aliases.alias(name, &NAMES));
        let mut call = match (free_form, self.kind) {
            (true, Kind::Thinking) => json!({ "id": id, "type": "custom", "custom": { "name": name, "input": input } }),
            (true, _) => {
                json!({ "id": id, "type": "function", "function": { "name": name, "arguments": free_arguments(input) } })
            }
            (false, _) => json!({ "id": id, "type": "function", "function": { "name": name, "arguments": input } }),
        };
        match signature.as_ref().map(|signed| signed.native(Dialect::Chat)) {
            Some(Some(own)) => {
                if let Some(call) = call.as_object_mut() {
                    call.insert("extra_content".to_owned(), json!({ "google": { "thought_signature": own } }));
                }
            }
            Some(None) => self.drop("the signature of a tool call", "foreign-signature"),
            None => {}
        }
        call
    }

    /// Results of tools: text stands in their own messages, pictures in one of the person's that follows them.
    fn results(&mut self, found: &[(&str, Option<&Part>)]) -> Result<(), ConvertError> {
        let mut pieces = Vec::new();
        for (id, part) in found {
            let id = self.aliases.alias(id, &IDS);
            let Some(part @ Part::ToolResult { name, parts, is_error, .. }) = part else {
                self.drop("a call without a result", "missing-result");
                self.messages.push(json!({ "role": "tool", "tool_call_id": id, "content": turns::MISSING }));
                continue;
            };
            self.marked(part);
            if *is_error {
                self.drop("`is_error` of a tool result", "error-flag");
            }
            let (mut text, found) = self.result(parts)?;
            if !found.is_empty() {
                let name = name.as_deref().unwrap_or("the tool");
                pieces.push(json!({ "type": "text", "text": format!("What {name} gave:") }));
                pieces.extend(found);
                if text.is_empty() {
                    "It follows.".clone_into(&mut text);
                }
            }
            self.messages.push(json!({ "role": "tool", "tool_call_id": id, "content": text }));
        }
        if !pieces.is_empty() {
            self.messages.push(json!({ "role": "user", "content": pieces }));
        }
        Ok(())
    }

    fn result(&mut self, parts: &[Part]) -> Result<(String, Vec<Value>), ConvertError> {
        let (mut text, mut pieces) = (Vec::new(), Vec::new());
        for part in parts {
            self.marked(part);
            match part {
                Part::Text { text: more, .. } => text.push(more.as_str()),
                Part::Media(media) => pieces.push(piece(media)?),
                other => return Err(foreign(other)),
            }
        }
        Ok((text.join("\n\n"), pieces))
    }

    fn tools(&mut self, body: &mut Map<String, Value>) -> Result<(), ConvertError> {
        let request = self.request;
        if request.tools.is_empty() {
            return Ok(());
        }
        let tools: Result<Vec<Value>, ConvertError> = request.tools.iter().map(|tool| self.tool(tool)).collect();
        body.insert("tools".to_owned(), Value::Array(tools?));
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
                Some(json!({ "type": kind, kind: { "name": self.aliases.alias(name, &NAMES) } }))
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
        let mut inner = Map::new();
        inner.insert("name".to_owned(), json!(self.aliases.alias(&tool.name, &NAMES)));
        if let Some(description) = &tool.description {
            inner.insert("description".to_owned(), json!(description));
        }
        let kind = match &tool.kind {
            ToolKind::Function { schema } => {
                inner.insert("parameters".to_owned(), object_schema(schema));
                if let Some(strict) = tool.strict {
                    inner.insert("strict".to_owned(), json!(strict));
                }
                "function"
            }
            ToolKind::FreeForm { format } if self.kind == Kind::Thinking => {
                if let Some(format) = format {
                    inner.insert("format".to_owned(), words::format(format));
                }
                "custom"
            }
            ToolKind::FreeForm { format } => {
                inner.insert("parameters".to_owned(), free_schema(format.as_ref()));
                "function"
            }
            ToolKind::Foreign(value) => return Err(foreign_tool(value)),
        };
        Ok(json!({ "type": kind, kind: inner }))
    }

    fn settings(&mut self, body: &mut Map<String, Value>) {
        let request = self.request;
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.to_owned(), value);
            }
        };
        let most = if self.kind == Kind::Thinking { "max_completion_tokens" } else { "max_tokens" };
        let wished = request.max_output;
        if wished.is_some_and(|wished| wished > self.target.max_output) {
            self.dropped.insert(Dropped { what: most.to_owned(), rule: "most-output" });
        }
        set(most, wished.map(|wished| wished.min(self.target.max_output).into()));
        let number = |value: &Option<serde_json::Number>| value.clone().map(Value::Number);
        set("seed", number(&request.seed));
        // Models that think take none of these, and refuse the request that has them.
        for (key, value) in [
            ("temperature", number(&request.temperature)),
            ("top_p", number(&request.top_p)),
            ("presence_penalty", number(&request.presence_penalty)),
            ("frequency_penalty", number(&request.frequency_penalty)),
            ("stop", (!request.stop.is_empty()).then(|| json!(request.stop))),
        ] {
            match value {
                Some(value) if self.kind == Kind::Thinking && self.target.reasoning => {
                    if value != json!(1) && value != json!(1.0) {
                        self.dropped.insert(Dropped { what: key.to_owned(), rule: "not-when-thinking" });
                    }
                }
                value => set(key, value),
            }
        }
        match number(&request.top_k) {
            Some(_) if self.openai() => self.drop("top_k", "no-counterpart"),
            value => set("top_k", value),
        }
        if let Some(wish) = &request.reasoning {
            let mut dropped = Vec::new();
            set(
                "reasoning_effort",
                model::effort_word(&request.model, wish, self.target.reasoning, &mut dropped).map(Value::from),
            );
            self.dropped.extend(dropped);
            if self.target.reasoning && self.openai() && wish.show == Some(true) {
                self.drop("readable thoughts", "thoughts-hidden");
            }
            if self.target.reasoning && wish.sealed {
                self.drop("sealed thoughts", "thoughts-hidden");
            }
        }
        set("response_format", response_format(&request.output));
        match &request.verbosity {
            Some(word) if self.kind == Kind::Thinking => set("verbosity", Some(json!(word))),
            Some(_) => self.drop("verbosity", "no-counterpart"),
            None => {}
        }
        if let Some(user) = &request.user {
            set(if self.openai() { "safety_identifier" } else { "user" }, Some(json!(short_name(user))));
        }
        match &request.cache_key {
            Some(key) if self.openai() => set("prompt_cache_key", Some(json!(short_name(key)))),
            _ => {}
        }
        if request.stream {
            set("stream", Some(json!(true)));
            set("stream_options", Some(json!({ "include_usage": true })));
        }
    }
}

fn response_format(form: &OutputForm) -> Option<Value> {
    match form {
        OutputForm::Text => None,
        OutputForm::Json => Some(json!({ "type": "json_object" })),
        OutputForm::Schema { name, schema, strict } => {
            let mut inner = Map::new();
            let name = name.as_deref().filter(|name| NAMES.takes(name)).unwrap_or("answer");
            inner.insert("name".to_owned(), json!(name));
            inner.insert("schema".to_owned(), schema.clone());
            if let Some(strict) = strict {
                inner.insert("strict".to_owned(), json!(strict));
            }
            Some(json!({ "type": "json_schema", "json_schema": inner }))
        }
    }
}

/// A piece that is not text.
fn piece(media: &Media) -> Result<Value, ConvertError> {
    match (media.kind, &media.source) {
        (_, Source::File(_)) => Err(unsupported(media, ELSEWHERE)),
        (MediaKind::Image, Source::Base64 { media_type, data }) => Ok(image(media, &data_url(media_type, data))),
        (MediaKind::Image, Source::Url(url)) => Ok(image(media, url)),
        (MediaKind::Document, Source::Base64 { media_type, data }) => Ok(json!({
            "type": "file",
            "file": { "filename": media::file_name(media), "file_data": data_url(media_type, data) },
        })),
        (_, Source::Text(text)) => Ok(json!({ "type": "text", "text": media::text_document(media, text) })),
        (MediaKind::Document, Source::Url(_)) => {
            Err(unsupported(media, "this model does not fetch documents: send the content itself"))
        }
        (MediaKind::Audio, _) => Ok(json!({ "type": "input_audio", "input_audio": media::sound(media)? })),
        (MediaKind::Video, _) => Err(unsupported(media, "this model does not watch films: send pictures")),
    }
}

fn image(media: &Media, url: &str) -> Value {
    match &media.detail {
        Some(detail) => json!({ "type": "image_url", "image_url": { "url": url, "detail": detail } }),
        None => json!({ "type": "image_url", "image_url": { "url": url } }),
    }
}

/// Why a part cannot be written.
fn foreign(part: &Part) -> ConvertError {
    let what = match part {
        Part::Foreign(value) => value.get("type").and_then(Value::as_str).unwrap_or("a part").to_owned(),
        Part::Media(_) => "a picture at this place".to_owned(),
        _ => "a part at this place".to_owned(),
    };
    ConvertError::Unsupported {
        what,
        why: "Chat Completions has nothing like it: leave it out, or ask for another model",
    }
}

fn foreign_tool(value: &Value) -> ConvertError {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("?");
    ConvertError::Unsupported {
        what: format!("the tool `{kind}`"),
        why: "only the provider of its own dialect runs it: leave it out, or ask for another model",
    }
}
