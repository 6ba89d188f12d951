//! A client's request becomes neutral.

use serde_json::{Value, json};

use super::{
    NAME,
    blocks::{MEDIA, media_type, redacted},
};
use crate::{
    Dialect,
    neutral::{
        CacheMark, ConvertError, Effort, Media, MediaKind, OutputForm, Part, Reasoning, ReasoningWish, Request, Role,
        Signature, Source, Tool, ToolChoice, ToolKind, Turn, join_signatures,
    },
    take::{self, Object, Place},
};

/// Reads a client's request. The model and whether it is a stream stand in the path.
///
/// # Errors
/// If it is none, or asks for something that only this service has and that must not be left out.
pub fn read_request(body: &[u8]) -> Result<Request, ConvertError> {
    let mut body = take::body(NAME, body)?;
    let here = Place { dialect: NAME, path: "" };
    for (key, why) in [
        ("guardrailConfig", "guardrails are Bedrock's own: ask for a model of Bedrock, or leave it out"),
        ("promptVariables", "the prompt is kept at Bedrock: send the messages themselves"),
    ] {
        if here.value(&mut body, key).is_some() {
            return Err(ConvertError::Unsupported { what: format!("`{key}`"), why });
        }
    }
    let mut request = Request::default();
    let mut system = Parts::default();
    for block in here.list(&mut body, "system")? {
        system.block(here.as_object(block, "system[]")?, "system[]")?;
    }
    request.system = system.parts;
    let mut extra = system.extra;
    for message in here.list(&mut body, "messages")? {
        let mut message = here.as_object(message, "messages[]")?;
        let there = Place { path: "messages[]", ..here };
        let role = match there.needed(&mut message, "role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => return Err(there.wrong("role", "`user` or `assistant`")),
        };
        let mut turn = Parts::default();
        for block in there.list(&mut message, "content")? {
            turn.block(there.as_object(block, "content[]")?, "messages[].content[]")?;
        }
        extra.extend(turn.extra);
        request.turns.push(Turn { role, parts: join_signatures(turn.parts) });
    }
    crate::anthropic::name_results(&mut request.turns);
    if let Some(mut config) = here.object(&mut body, "inferenceConfig")? {
        let there = Place { path: "inferenceConfig", ..here };
        request.max_output = there.count(&mut config, "maxTokens")?;
        request.temperature = there.number(&mut config, "temperature")?;
        request.top_p = there.number(&mut config, "topP")?;
        request.stop = there.texts(&mut config, "stopSequences")?;
        take::rest(config, "inferenceConfig", &mut extra);
    }
    if let Some(config) = here.object(&mut body, "toolConfig")? {
        read_tools(config, &mut request, &mut extra)?;
    }
    if let Some(more) = here.object(&mut body, "additionalModelRequestFields")? {
        read_additional(more, &mut request, &mut extra)?;
    }
    if let Some(config) = here.object(&mut body, "outputConfig")? {
        read_output(config, &mut request, &mut extra)?;
    }
    // What is said about the request and not to the model.
    for key in ["requestMetadata", "serviceTier", "performanceConfig", "modelId"] {
        body.remove(key);
    }
    take::rest(body, "", &mut extra);
    request.extra = extra;
    Ok(request)
}

/// Blocks as parts, with points as marks on what is before them.
#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    extra: Object,
}

impl Parts {
    fn block(&mut self, block: Object, path: &str) -> Result<(), ConvertError> {
        let here = Place { dialect: NAME, path };
        for (kind, value) in block.into_iter().filter(|(_, value)| !value.is_null()) {
            let media = MEDIA.iter().find(|(_, word)| *word == kind);
            match (kind.as_str(), media) {
                ("text", _) => {
                    let Value::String(text) = value else { return Err(here.wrong("text", "a string")) };
                    self.parts.push(Part::Text { text, cache: None });
                }
                ("cachePoint", _) => {
                    let hour = value.get("ttl").and_then(Value::as_str) == Some("1h");
                    self.mark(if hour { CacheMark::Hour } else { CacheMark::Short });
                }
                (_, Some((kind, word))) => self.media(*kind, here.as_object(value, word)?, path)?,
                ("toolUse", _) => self.call(here.as_object(value, "toolUse")?, path)?,
                ("toolResult", _) => self.result(here.as_object(value, "toolResult")?, path)?,
                ("reasoningContent", _) => {
                    self.parts.push(Part::Reasoning(reasoning(here.as_object(value, "reasoningContent")?, path)?));
                }
                // Said in an earlier answer; its sources have no place elsewhere.
                ("citationsContent", _) => {
                    let pieces = value.get("content").and_then(Value::as_array);
                    let texts = pieces.into_iter().flatten().filter_map(|piece| piece.get("text")?.as_str());
                    let text: String = texts.collect();
                    self.parts.push(Part::Text { text, cache: None });
                    self.extra.insert("citationsContent.citations".to_owned(), json!(true));
                }
                _ => self.parts.push(Part::Foreign(json!({"type": kind, kind: value}))),
            }
        }
        Ok(())
    }

    fn mark(&mut self, mark: CacheMark) {
        match self.parts.last_mut() {
            Some(
                Part::Text { cache, .. }
                | Part::Media(Media { cache, .. })
                | Part::ToolCall { cache, .. }
                | Part::ToolResult { cache, .. },
            ) => *cache = Some(mark),
            _ => drop(self.extra.insert("cachePoint".to_owned(), json!(true))),
        }
    }

    fn media(&mut self, kind: MediaKind, mut value: Object, path: &str) -> Result<(), ConvertError> {
        let here = Place { dialect: NAME, path };
        let format = here.text(&mut value, "format")?.unwrap_or_else(|| "txt".to_owned());
        let name = here.text(&mut value, "name")?;
        if let Some(context) = here.text(&mut value, "context")?.filter(|text| !text.trim().is_empty()) {
            self.parts.push(Part::Text { text: context, cache: None });
        }
        if value.get("citations").and_then(|citations| citations.get("enabled")) == Some(&json!(true)) {
            self.extra.insert("document.citations".to_owned(), json!(true));
        }
        let mut source = here.object(&mut value, "source")?.ok_or_else(|| here.wrong("source", "an object"))?;
        let pieces = here.list(&mut source, "content")?;
        let source = if let Some(data) = here.text(&mut source, "bytes")? {
            Source::Base64 { media_type: media_type(kind, &format), data }
        } else if let Some(mut at) = here.object(&mut source, "s3Location")? {
            Source::File(here.needed(&mut at, "uri")?)
        } else if let Some(text) = here.text(&mut source, "text")? {
            Source::Text(text)
        } else {
            let texts: Vec<&str> = pieces.iter().filter_map(|piece| piece.get("text")?.as_str()).collect();
            Source::Text(texts.join("\n"))
        };
        self.parts.push(Part::Media(Media { kind, source, name, detail: None, cache: None }));
        Ok(())
    }

    fn call(&mut self, mut value: Object, path: &str) -> Result<(), ConvertError> {
        let here = Place { dialect: NAME, path };
        if value.get("type").is_some_and(|kind| !kind.is_null()) {
            self.parts.push(Part::Foreign(json!({"type": "server_tool_use", "toolUse": value})));
            return Ok(());
        }
        self.parts.push(Part::ToolCall {
            id: here.needed(&mut value, "toolUseId")?,
            name: here.needed(&mut value, "name")?,
            input: value
                .get("input")
                .filter(|input| !input.is_null())
                .map_or_else(|| "{}".to_owned(), Value::to_string),
            free_form: false,
            signature: None,
            cache: None,
        });
        Ok(())
    }

    fn result(&mut self, mut value: Object, path: &str) -> Result<(), ConvertError> {
        let here = Place { dialect: NAME, path };
        let id = here.needed(&mut value, "toolUseId")?;
        let is_error = here.text(&mut value, "status")?.as_deref() == Some("error");
        let mut inner = Self::default();
        for block in here.list(&mut value, "content")? {
            let mut block = here.as_object(block, "toolResult.content[]")?;
            if let Some(json) = here.value(&mut block, "json") {
                inner.parts.push(Part::Text { text: json.to_string(), cache: None });
            }
            inner.block(block, path)?;
        }
        self.extra.extend(inner.extra);
        self.parts.push(Part::ToolResult { id, name: None, parts: inner.parts, is_error, cache: None });
        Ok(())
    }
}

fn reasoning(mut value: Object, path: &str) -> Result<Reasoning, ConvertError> {
    let here = Place { dialect: NAME, path };
    if let Some(data) = here.text(&mut value, "redactedContent")? {
        return Ok(Reasoning { signature: redacted(&data), redacted: true, ..Reasoning::default() });
    }
    let mut text = here.object(&mut value, "reasoningText")?.unwrap_or_default();
    let signature = here.text(&mut text, "signature")?.and_then(|data| Signature::read(Dialect::Converse, &data));
    Ok(Reasoning { text: here.text(&mut text, "text")?.unwrap_or_default(), signature, ..Reasoning::default() })
}

fn read_tools(mut config: Object, request: &mut Request, extra: &mut Object) -> Result<(), ConvertError> {
    let here = Place { dialect: NAME, path: "toolConfig" };
    for tool in here.list(&mut config, "tools")? {
        let mut tool = here.as_object(tool, "tools[]")?;
        if let Some(point) = here.value(&mut tool, "cachePoint") {
            let hour = point.get("ttl").and_then(Value::as_str) == Some("1h");
            if let Some(last) = request.tools.last_mut() {
                last.cache = Some(if hour { CacheMark::Hour } else { CacheMark::Short });
            }
            continue;
        }
        let Some(mut spec) = here.object(&mut tool, "toolSpec")? else {
            let name = tool.keys().next().cloned().unwrap_or_default();
            let kind = ToolKind::Foreign(json!({"type": name, "tool": tool}));
            request.tools.push(Tool { name, description: None, kind, strict: None, cache: None });
            continue;
        };
        let there = Place { path: "toolConfig.tools[].toolSpec", ..here };
        let mut schema = there.object(&mut spec, "inputSchema")?.unwrap_or_default();
        let schema = there.value(&mut schema, "json").unwrap_or_else(|| json!({"type": "object"}));
        request.tools.push(Tool {
            name: there.needed(&mut spec, "name")?,
            description: there.text(&mut spec, "description")?,
            kind: ToolKind::Function { schema },
            strict: there.flag(&mut spec, "strict")?,
            cache: None,
        });
    }
    if let Some(mut choice) = here.object(&mut config, "toolChoice")? {
        request.tool_choice = if let Some(mut tool) = here.object(&mut choice, "tool")? {
            ToolChoice::Named(here.needed(&mut tool, "name")?)
        } else if choice.get("any").is_some_and(|any| !any.is_null()) {
            ToolChoice::Any
        } else {
            ToolChoice::Auto
        };
    }
    take::rest(config, "toolConfig", extra);
    Ok(())
}

/// What clients send on to Claude beside the service's own fields.
fn read_additional(mut more: Object, request: &mut Request, extra: &mut Object) -> Result<(), ConvertError> {
    let here = Place { dialect: NAME, path: "additionalModelRequestFields" };
    request.top_k = here.number(&mut more, "top_k")?;
    let older = here.object(&mut more, "reasoning_config")?;
    if let Some(mut thinking) = here.object(&mut more, "thinking")?.or(older) {
        let kind = here.text(&mut thinking, "type")?;
        let wish = request.reasoning.get_or_insert_with(ReasoningWish::default);
        wish.enabled = Some(kind.as_deref() != Some("disabled"));
        wish.budget_tokens = here.count(&mut thinking, "budget_tokens")?;
        wish.show = here.text(&mut thinking, "display")?.map(|display| display != "omitted");
    }
    let config = here.object(&mut more, "output_config")?.and_then(|mut config| config.remove("effort"));
    let effort = config.or_else(|| here.value(&mut more, "reasoning_effort"));
    if let Some(effort) = effort.as_ref().and_then(Value::as_str).and_then(Effort::of_word) {
        request.reasoning.get_or_insert_with(ReasoningWish::default).effort = Some(effort);
    }
    // Flags for the provider alone.
    more.remove("anthropic_beta");
    take::rest(more, "additionalModelRequestFields", extra);
    Ok(())
}

fn read_output(mut config: Object, request: &mut Request, extra: &mut Object) -> Result<(), ConvertError> {
    let here = Place { dialect: NAME, path: "outputConfig" };
    if let Some(effort) = here.text(&mut config, "effort")?.as_deref().and_then(Effort::of_word) {
        request.reasoning.get_or_insert_with(ReasoningWish::default).effort = Some(effort);
    }
    if let Some(mut format) = here.object(&mut config, "textFormat")? {
        let there = Place { path: "outputConfig.textFormat", ..here };
        let mut structure = there.object(&mut format, "structure")?.unwrap_or_default();
        let mut form = there.object(&mut structure, "jsonSchema")?.unwrap_or_default();
        let text = there.needed(&mut form, "schema")?;
        let schema = serde_json::from_str(&text).map_err(|_| there.wrong("schema", "JSON in a string"))?;
        request.output = OutputForm::Schema { name: there.text(&mut form, "name")?, schema, strict: None };
    }
    take::rest(config, "outputConfig", extra);
    Ok(())
}
