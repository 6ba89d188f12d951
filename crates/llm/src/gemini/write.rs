//! A neutral request becomes one for a provider of this dialect.
//!
//! Schemas are written as JSON schema (`parametersJsonSchema`). A model of the third generation refuses calls without a
//! signature; calls that another model made get the provider's own word for "there is none".

use serde_json::{Value, json};

use super::{carried, model::Model, thinking};
use crate::{
    Dialect, Target, free,
    neutral::{
        Aliases, ConvertError, Dropped, Media, MediaKind, NameRules, OutputForm, Part, Reasoning, Request, Source,
        Tool, ToolChoice, ToolKind, Written,
    },
    order::{self, Piece},
    take::Object,
};

/// The names of functions that are taken.
const NAMES: NameRules = NameRules {
    max: 64,
    allowed: |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-'),
    first: |byte| byte.is_ascii_alphabetic() || byte == b'_',
};
/// The most stop sequences that are taken.
const MAX_STOPS: usize = 5;

/// Writes a request for a provider. Model and stream stand in the path.
///
/// # Errors
/// If this dialect has nothing for something that was asked.
pub fn write_request(request: &Request, target: &Target) -> Result<Written, ConvertError> {
    let mut writer =
        Writer { model: Model::of(&request.model), aliases: Aliases::default(), dropped: request.leftovers()? };
    let mut body = Object::new();
    let mut system = Vec::new();
    for part in request.system.iter().chain(order::leading(&request.turns)) {
        let Part::Text { text, cache } = part else {
            let why = "this model takes instructions as text only: put the rest into the first message";
            return Err(unsupported("a system prompt that is not text".to_owned(), why));
        };
        writer.unmarked(cache.is_some());
        if !text.is_empty() {
            system.push(json!({"text": text}));
        }
    }
    if !system.is_empty() {
        body.insert("systemInstruction".to_owned(), json!({"parts": system}));
    }
    let contents = writer.contents(request)?;
    body.insert("contents".to_owned(), Value::Array(contents));
    writer.tools(request, &mut body)?;
    let config = writer.generation(request, target)?;
    if !config.is_empty() {
        body.insert("generationConfig".to_owned(), Value::Object(config));
    }
    for (what, rule, there) in [
        ("user", "no-counterpart", request.user.is_some()),
        ("verbosity", "no-counterpart", request.verbosity.is_some()),
        ("parallel_tool_calls", "no-counterpart", request.parallel_tools == Some(false)),
        ("prompt_cache_key", "cached-unasked", request.cache_key.is_some()),
    ] {
        if there {
            writer.drop(what, rule);
        }
    }
    Ok(Written {
        body: Value::Object(body).to_string().into(),
        aliases: writer.aliases,
        dropped: writer.dropped,
        ..Written::default()
    })
}

fn unsupported(what: String, why: &'static str) -> ConvertError {
    ConvertError::Unsupported { what, why }
}

pub(super) struct Writer {
    pub(super) model: Model,
    aliases: Aliases,
    dropped: Vec<Dropped>,
}

impl Writer {
    /// Names something that is left out, once.
    pub(super) fn drop(&mut self, what: &str, rule: &'static str) {
        let dropped = Dropped { what: what.to_owned(), rule };
        if !self.dropped.contains(&dropped) {
            self.dropped.push(dropped);
        }
    }

    fn unmarked(&mut self, marked: bool) {
        if marked {
            self.drop("cache_control", "cached-unasked");
        }
    }

    fn contents(&mut self, request: &Request) -> Result<Vec<Value>, ConvertError> {
        let mut contents: Vec<(bool, Vec<Value>)> = Vec::new();
        for turn in order::ordered(&request.turns) {
            let mut parts = Vec::new();
            for piece in &turn.pieces {
                self.piece(piece, &mut parts)?;
            }
            match contents.last_mut() {
                _ if parts.is_empty() => {}
                Some((assistant, last)) if *assistant == turn.assistant => last.extend(parts),
                None if turn.assistant => {
                    contents.extend([(false, vec![json!({"text": order::OPENING})]), (true, parts)])
                }
                _ => contents.push((turn.assistant, parts)),
            }
        }
        let content = |(assistant, mut parts): (bool, Vec<Value>)| {
            if assistant && self.model.third {
                sign(&mut parts);
            }
            json!({"role": if assistant { "model" } else { "user" }, "parts": parts})
        };
        Ok(contents.into_iter().map(content).collect())
    }

    fn piece(&mut self, piece: &Piece<'_>, out: &mut Vec<Value>) -> Result<(), ConvertError> {
        match piece {
            Piece::Part(part) => self.part(part, out)?,
            Piece::Instruction(text) => out.push(json!({"text": order::instruction(text)})),
            Piece::Opening => out.push(json!({"text": order::OPENING})),
            Piece::Missing { id, name } => {
                self.drop("tool_use", "missing-result");
                let name = self.aliases.alias(name, &NAMES);
                let response = json!({"error": order::MISSING});
                out.push(json!({"functionResponse": {"id": id, "name": name, "response": response}}));
            }
            Piece::Orphan(parts) => {
                self.drop("tool_result", "orphan-result");
                for part in *parts {
                    self.part(part, out)?;
                }
            }
        }
        Ok(())
    }

    fn part(&mut self, part: &Part, out: &mut Vec<Value>) -> Result<(), ConvertError> {
        match part {
            Part::Text { text, cache } => {
                self.unmarked(cache.is_some());
                if !text.is_empty() {
                    out.push(json!({"text": text}));
                }
            }
            Part::Refusal(text) if text.is_empty() => {}
            Part::Refusal(text) => out.push(json!({"text": text})),
            Part::Media(media) => out.push(self.media(media)?),
            Part::Reasoning(reasoning) => self.thought(reasoning, out),
            Part::ToolCall { id, name, input, free_form, signature, cache } => {
                self.unmarked(cache.is_some());
                let name = self.aliases.alias(name, &NAMES);
                let args = free::object(input, *free_form);
                let mut part = json!({"functionCall": {"id": id, "name": name, "args": args}});
                match signature.as_ref().map(|signature| signature.native(Dialect::Gemini)) {
                    Some(Some(native)) => part["thoughtSignature"] = json!(native),
                    Some(None) => self.drop("signature", "foreign-signature"),
                    None => {}
                }
                out.push(part);
            }
            Part::ToolResult { id, name, parts, is_error, cache } => {
                self.unmarked(cache.is_some());
                self.result(id, name.as_deref().unwrap_or("unknown"), parts, *is_error, out)?;
            }
            Part::Foreign(value) => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("?");
                let why = "only the provider that made it understands it: leave it out of the conversation";
                return Err(unsupported(format!("`{kind}`"), why));
            }
        }
        Ok(())
    }

    /// Only what this dialect's providers have signed may come back to them.
    fn thought(&mut self, reasoning: &Reasoning, out: &mut Vec<Value>) {
        let Some(signature) = &reasoning.signature else { return self.drop("reasoning", "unsigned-reasoning") };
        let Some(native) = signature.native(Dialect::Gemini) else {
            return self.drop("reasoning", "foreign-reasoning");
        };
        if reasoning.text.is_empty() {
            // It stood on the text before it.
            match out.last_mut() {
                Some(Value::Object(part)) if part.contains_key("text") && !part.contains_key("thoughtSignature") => {
                    part.insert("thoughtSignature".to_owned(), json!(native));
                }
                _ => out.push(json!({"text": "", "thoughtSignature": native})),
            }
        } else {
            out.push(json!({"text": reasoning.text, "thought": true, "thoughtSignature": native}));
        }
    }

    fn result(
        &mut self,
        id: &str,
        name: &str,
        parts: &[Part],
        is_error: bool,
        out: &mut Vec<Value>,
    ) -> Result<(), ConvertError> {
        let (mut texts, mut media) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Part::Text { text, .. } | Part::Refusal(text) => texts.push(text.as_str()),
                Part::Media(Media { source: Source::Text(text), .. }) => texts.push(text),
                other => self.part(other, &mut media)?,
            }
        }
        let key = if is_error { "error" } else { "output" };
        let name = self.aliases.alias(name, &NAMES);
        let mut response = json!({"id": id, "name": name, "response": {key: texts.join("\n")}});
        if self.model.third && !media.is_empty() {
            response["parts"] = Value::Array(std::mem::take(&mut media));
        }
        out.push(json!({"functionResponse": response}));
        // Older models take pictures only beside the result.
        out.extend(media);
        Ok(())
    }

    fn media(&mut self, media: &Media) -> Result<Value, ConvertError> {
        self.unmarked(media.cache.is_some());
        if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.drop("detail", "no-counterpart");
        }
        match &media.source {
            Source::Base64 { media_type, data } => Ok(json!({"inlineData": {"mimeType": media_type, "data": data}})),
            Source::Text(text) => Ok(json!({"text": text})),
            Source::Url(url) if url.starts_with("https://") || url.starts_with("http://") => {
                Ok(json!({"fileData": {"mimeType": guess(url, media.kind), "fileUri": url}}))
            }
            Source::Url(_) => {
                let why = "the provider fetches http addresses only: send the content itself";
                Err(unsupported("a piece by this address".to_owned(), why))
            }
            Source::File(_) => {
                let why = "it is kept at another provider: send the content itself";
                Err(unsupported("a piece by its name at the provider".to_owned(), why))
            }
        }
    }

    fn tools(&mut self, request: &Request, body: &mut Object) -> Result<(), ConvertError> {
        if request.tools.is_empty() {
            return Ok(());
        }
        let mut functions = Vec::new();
        for tool in &request.tools {
            functions.push(self.function(tool)?);
        }
        body.insert("tools".to_owned(), json!([{"functionDeclarations": functions}]));
        let calling = match &request.tool_choice {
            ToolChoice::Auto => return Ok(()),
            ToolChoice::Any => json!({"mode": "ANY"}),
            ToolChoice::None => json!({"mode": "NONE"}),
            ToolChoice::Named(name) => {
                json!({"mode": "ANY", "allowedFunctionNames": [self.aliases.alias(name, &NAMES)]})
            }
        };
        body.insert("toolConfig".to_owned(), json!({"functionCallingConfig": calling}));
        Ok(())
    }

    fn function(&mut self, tool: &Tool) -> Result<Value, ConvertError> {
        self.unmarked(tool.cache.is_some());
        let (schema, description) = match &tool.kind {
            ToolKind::Function { schema } => (schema.clone(), tool.description.clone()),
            ToolKind::FreeForm { format } => {
                (free::schema(), free::description(tool.description.as_deref(), format.as_ref()))
            }
            ToolKind::Foreign(value) => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or(&tool.name);
                let why = "only the provider that it belongs to runs it: leave it out";
                return Err(unsupported(format!("the tool `{kind}`"), why));
            }
        };
        if tool.strict == Some(true) {
            self.drop("strict", "no-counterpart");
        }
        let name = self.aliases.alias(&tool.name, &NAMES);
        // The provider wants a description.
        let description = description.unwrap_or_default();
        Ok(json!({"name": name, "description": description, "parametersJsonSchema": schema}))
    }

    fn generation(&mut self, request: &Request, target: &Target) -> Result<Object, ConvertError> {
        let mut config = Object::new();
        if let Some(wanted) = request.max_output {
            if wanted > target.max_output {
                self.drop("max_tokens", "most-output");
            }
            config.insert("maxOutputTokens".to_owned(), json!(wanted.min(target.max_output)));
        }
        for (key, value) in [
            ("temperature", &request.temperature),
            ("topP", &request.top_p),
            ("topK", &request.top_k),
            ("seed", &request.seed),
            ("presencePenalty", &request.presence_penalty),
            ("frequencyPenalty", &request.frequency_penalty),
        ] {
            if let Some(value) = value {
                config.insert(key.to_owned(), json!(value));
            }
        }
        if request.stop.len() > MAX_STOPS {
            let why = "this model takes five at most: send fewer";
            return Err(unsupported("so many stop sequences".to_owned(), why));
        }
        if !request.stop.is_empty() {
            config.insert("stopSequences".to_owned(), json!(request.stop));
        }
        if request.output != OutputForm::Text {
            config.insert("responseMimeType".to_owned(), json!("application/json"));
        }
        if let OutputForm::Schema { schema, .. } = &request.output {
            config.insert("responseJsonSchema".to_owned(), schema.clone());
        }
        if let Some(thinking) = thinking::write(request, target, self) {
            config.insert("thinkingConfig".to_owned(), thinking);
        }
        Ok(config)
    }
}

/// The first call of a turn must have a signature; those beside it have none of their own.
fn sign(parts: &mut [Value]) {
    let first = parts.iter_mut().find(|part| part.get("functionCall").is_some());
    if let Some(Value::Object(part)) = first {
        part.entry("thoughtSignature").or_insert(json!(carried::NONE));
    }
}

/// The media type of something that is elsewhere. The provider wants one.
fn guess(url: &str, kind: MediaKind) -> &'static str {
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    match (extension, kind) {
        ("png", _) => "image/png",
        ("gif", _) => "image/gif",
        ("webp", _) => "image/webp",
        ("wav", _) => "audio/wav",
        ("txt", _) => "text/plain",
        (_, MediaKind::Image) => "image/jpeg",
        (_, MediaKind::Document) => "application/pdf",
        (_, MediaKind::Audio) => "audio/mpeg",
        (_, MediaKind::Video) => "video/mp4",
    }
}
