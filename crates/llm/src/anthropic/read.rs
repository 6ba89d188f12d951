//! A client's request in this dialect becomes neutral.
//!
//! It owns what of a Messages request has a neutral form. It refuses to lose anything in silence: what has no neutral form is a
//! [`Part::Foreign`], a [`ToolKind::Foreign`] or stands in [`neutral::Request::extra`].

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::session::session_of;
use crate::{
    Dialect,
    neutral::{
        self, CacheMark, ConvertError, Effort, Media, MediaKind, OutputForm, Part, Reasoning, ReasoningWish, Role,
        Signature, Source, Tool, ToolChoice, ToolKind, Turn,
    },
    take::{Object, Place, body, rest},
};

/// What begins a block in which a client tells the provider its version. It changes with every build and would spoil the
/// prompt cache of any other provider.
const BILLING: &str = "x-anthropic-billing-header";

/// Reads a client's request into the neutral form.
///
/// # Errors
/// If it is none.
pub fn read_request(bytes: &[u8]) -> Result<neutral::Request, ConvertError> {
    let mut fields = body("Messages", bytes)?;
    let mut reader = Reader::default();
    let top = at("");
    let mut request = neutral::Request {
        model: top.text(&mut fields, "model")?.unwrap_or_default(),
        max_output: top.count(&mut fields, "max_tokens")?,
        temperature: top.number(&mut fields, "temperature")?,
        top_p: top.number(&mut fields, "top_p")?,
        top_k: top.number(&mut fields, "top_k")?,
        stop: top.texts(&mut fields, "stop_sequences")?,
        stream: top.flag(&mut fields, "stream")?.unwrap_or(false),
        ..neutral::Request::default()
    };
    request.system = reader.system(fields.remove("system"))?;
    for turn in top.list(&mut fields, "messages")? {
        let turn = reader.turn(turn)?;
        request.turns.push(turn);
    }
    name_results(&mut request.turns);
    for tool in top.list(&mut fields, "tools")? {
        let tool = reader.tool(tool)?;
        request.tools.push(tool);
    }
    if let Some(choice) = top.object(&mut fields, "tool_choice")? {
        (request.tool_choice, request.parallel_tools) = tool_choice(choice)?;
    }
    reader.reasoning(&mut fields, &mut request)?;
    if let Some(mut metadata) = top.object(&mut fields, "metadata")? {
        let user = at("metadata").text(&mut metadata, "user_id")?;
        request.cache_key = user.as_deref().and_then(session_of);
        // What names a session names a device and an account too: that is nobody else's business.
        request.user = user.filter(|_| request.cache_key.is_none());
    }
    if let Some(mark) = cache_of(&mut fields)? {
        mark_last(&mut request, mark);
    }
    for meaningless in ["anthropic_version", "anthropic_beta", "betas", "service_tier"] {
        fields.remove(meaningless);
    }
    request.extra = reader.extra;
    rest(fields, "", &mut request.extra);
    Ok(request)
}

fn at(path: &str) -> Place<'_> {
    Place { dialect: "Messages", path }
}

#[derive(Default)]
struct Reader {
    extra: Object,
}

impl Reader {
    fn system(&mut self, system: Option<Value>) -> Result<Vec<Part>, ConvertError> {
        let mut parts = self.parts(system.unwrap_or_default(), "system")?;
        if let Some(Part::Text { text, .. }) = parts.first_mut()
            && text.trim_start().starts_with(BILLING)
        {
            let after = text.trim_start().split_once('\n').map(|(_, after)| after.trim_start().to_owned());
            match after.filter(|after| !after.is_empty()) {
                Some(after) => *text = after,
                None => drop(parts.remove(0)),
            }
        }
        Ok(parts)
    }

    fn turn(&mut self, turn: Value) -> Result<Turn, ConvertError> {
        let mut turn = at("messages").as_object(turn, "")?;
        let role = match at("messages").needed(&mut turn, "role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => return Err(at("messages").wrong("role", "user, assistant or system")),
        };
        let parts =
            neutral::join_signatures(self.parts(turn.remove("content").unwrap_or_default(), "messages.content")?);
        rest(turn, "messages", &mut self.extra);
        Ok(Turn { role, parts })
    }

    fn parts(&mut self, content: Value, path: &str) -> Result<Vec<Part>, ConvertError> {
        match content {
            Value::Null => Ok(Vec::new()),
            Value::String(text) => Ok(vec![Part::Text { text, cache: None }]),
            Value::Array(blocks) => blocks.into_iter().map(|block| self.part(block, path)).collect(),
            _ => Err(at(path).wrong("", "a string or a list of blocks")),
        }
    }

    fn part(&mut self, block: Value, path: &str) -> Result<Part, ConvertError> {
        if is_foreign(&block) {
            return Ok(Part::Foreign(block));
        }
        let mut block = at(path).as_object(block, "")?;
        let kind = at(path).needed(&mut block, "type")?;
        let cache = cache_of(&mut block)?;
        let part = match kind.as_str() {
            "text" => Part::Text { text: at(path).needed(&mut block, "text")?, cache },
            "image" | "document" => Part::Media(self.media(&kind, &mut block, cache, path)?),
            "thinking" => Part::Reasoning(Reasoning {
                text: at(path).text(&mut block, "thinking")?.unwrap_or_default(),
                signature: signature(at(path).text(&mut block, "signature")?),
                ..Reasoning::default()
            }),
            "redacted_thinking" => Part::Reasoning(Reasoning {
                signature: signature(at(path).text(&mut block, "data")?),
                redacted: true,
                ..Reasoning::default()
            }),
            "tool_use" => {
                block.remove("caller");
                let input = block.remove("input").filter(|input| !input.is_null()).unwrap_or_else(|| json!({}));
                Part::ToolCall {
                    id: at(path).needed(&mut block, "id")?,
                    name: at(path).needed(&mut block, "name")?,
                    input: input.to_string(),
                    free_form: false,
                    signature: None,
                    cache,
                }
            }
            // The only other one that is not foreign.
            _ => Part::ToolResult {
                id: at(path).needed(&mut block, "tool_use_id")?,
                name: None,
                parts: self.parts(block.remove("content").unwrap_or_default(), "messages.content.content")?,
                is_error: at(path).flag(&mut block, "is_error")?.unwrap_or(false),
                cache,
            },
        };
        rest(block, path, &mut self.extra);
        Ok(part)
    }

    fn media(
        &mut self,
        kind: &str,
        block: &mut Object,
        cache: Option<CacheMark>,
        path: &str,
    ) -> Result<Media, ConvertError> {
        let here = at(path);
        let mut source = here.object(block, "source")?.ok_or_else(|| here.wrong("source", "an object"))?;
        let from = match here.needed(&mut source, "type")?.as_str() {
            "base64" => Source::Base64 {
                media_type: here.needed(&mut source, "media_type")?,
                data: here.needed(&mut source, "data")?,
            },
            "url" => Source::Url(here.needed(&mut source, "url")?),
            "file" => Source::File(here.needed(&mut source, "file_id")?),
            _ => {
                source.remove("media_type");
                Source::Text(here.needed(&mut source, "data")?)
            }
        };
        rest(source, "messages.content.source", &mut self.extra);
        let kind = if kind == "image" { MediaKind::Image } else { MediaKind::Document };
        Ok(Media { kind, source: from, name: here.text(block, "title")?, detail: None, cache })
    }

    fn tool(&mut self, tool: Value) -> Result<Tool, ConvertError> {
        let here = at("tools");
        let word = |key: &str| tool.get(key).and_then(Value::as_str);
        if let Some(kind) = word("type").filter(|kind| *kind != "custom") {
            let name = word("name").unwrap_or(kind).to_owned();
            return Ok(Tool { name, description: None, kind: ToolKind::Foreign(tool), strict: None, cache: None });
        }
        let mut tool = here.as_object(tool, "")?;
        tool.remove("type");
        let cache = cache_of(&mut tool)?;
        let made = Tool {
            name: here.needed(&mut tool, "name")?,
            description: here.text(&mut tool, "description")?,
            kind: ToolKind::Function {
                schema: here.value(&mut tool, "input_schema").unwrap_or_else(|| json!({"type": "object"})),
            },
            strict: here.flag(&mut tool, "strict")?,
            cache,
        };
        rest(tool, "tools", &mut self.extra);
        Ok(made)
    }

    fn reasoning(&mut self, fields: &mut Object, request: &mut neutral::Request) -> Result<(), ConvertError> {
        let mut wish = None;
        if let Some(mut thinking) = at("").object(fields, "thinking")? {
            let here = at("thinking");
            let made = ReasoningWish {
                budget_tokens: here.count(&mut thinking, "budget_tokens")?,
                show: here.text(&mut thinking, "display")?.map(|word| word != "omitted"),
                ..ReasoningWish::default()
            };
            match here.text(&mut thinking, "type")?.as_deref() {
                Some("enabled" | "adaptive") => wish = Some(ReasoningWish { enabled: Some(true), ..made }),
                Some("disabled") => wish = Some(ReasoningWish { enabled: Some(false), ..made }),
                Some(other) => drop(self.extra.insert("thinking.type".to_owned(), json!(other))),
                None => return Err(here.wrong("type", "a string")),
            }
            rest(thinking, "thinking", &mut self.extra);
        }
        let mut output = at("").object(fields, "output_config")?.unwrap_or_default();
        if let Some(word) = at("output_config").text(&mut output, "effort")? {
            match Effort::of_word(&word) {
                Some(effort) => wish.get_or_insert_default().effort = Some(effort),
                None => drop(self.extra.insert("output_config.effort".to_owned(), json!(word))),
            }
        }
        let format = at("output_config").object(&mut output, "format")?;
        rest(output, "output_config", &mut self.extra);
        if let Some(mut format) = format.or(at("").object(fields, "output_format")?) {
            let here = at("output_config.format");
            if here.text(&mut format, "type")?.as_deref() != Some("json_schema") {
                return Err(here.wrong("type", "json_schema"));
            }
            let schema = here.value(&mut format, "schema").ok_or_else(|| here.wrong("schema", "a JSON schema"))?;
            let name = here.text(&mut format, "name")?;
            rest(format, "output_config.format", &mut self.extra);
            request.output = OutputForm::Schema { name, schema, strict: None };
        }
        request.reasoning = wish;
        Ok(())
    }
}

/// Whether only this dialect knows such a block.
fn is_foreign(block: &Value) -> bool {
    fn word(value: &Value) -> Option<&str> {
        value.get("type").and_then(Value::as_str)
    }
    match word(block) {
        None | Some("text" | "thinking" | "redacted_thinking" | "tool_use" | "tool_result") => false,
        Some("image" | "document") => {
            !matches!(block.get("source").and_then(word), None | Some("base64" | "url" | "file" | "text"))
        }
        Some(_) => true,
    }
}

fn signature(text: Option<String>) -> Option<Signature> {
    text.filter(|text| !text.is_empty()).and_then(|text| Signature::read(Dialect::Messages, &text))
}

fn cache_of(block: &mut Object) -> Result<Option<CacheMark>, ConvertError> {
    let Some(mut mark) = at("").object(block, "cache_control")? else { return Ok(None) };
    let hour = at("cache_control").text(&mut mark, "ttl")?.is_some_and(|ttl| ttl != "5m");
    Ok(Some(if hour { CacheMark::Hour } else { CacheMark::Short }))
}

/// A mark for the whole request stands at its last piece.
fn mark_last(request: &mut neutral::Request, mark: CacheMark) {
    let last = request.turns.iter_mut().rev().flat_map(|turn| turn.parts.iter_mut().rev()).find_map(cache_slot);
    if let Some(slot) = last {
        slot.get_or_insert(mark);
    }
}

/// Where a part's cache mark stands, if it can have one.
pub(super) fn cache_slot(part: &mut Part) -> Option<&mut Option<CacheMark>> {
    match part {
        Part::Text { cache, .. } | Part::ToolCall { cache, .. } | Part::ToolResult { cache, .. } => Some(cache),
        Part::Media(media) => Some(&mut media.cache),
        Part::Reasoning(_) | Part::Refusal(_) | Part::Foreign(_) => None,
    }
}

fn tool_choice(mut choice: Object) -> Result<(ToolChoice, Option<bool>), ConvertError> {
    let here = at("tool_choice");
    let parallel = here.flag(&mut choice, "disable_parallel_tool_use")?.map(|off| !off);
    let choice = match here.needed(&mut choice, "type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Any,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(here.needed(&mut choice, "name")?),
        _ => return Err(here.wrong("type", "auto, any, none or tool")),
    };
    Ok((choice, parallel))
}

/// Gives results the names of their tools.
pub(crate) fn name_results(turns: &mut [Turn]) {
    let mut names = BTreeMap::new();
    for part in turns.iter_mut().flat_map(|turn| turn.parts.iter_mut()) {
        match part {
            Part::ToolCall { id, name, .. } => drop(names.insert(id.clone(), name.clone())),
            Part::ToolResult { id, name, .. } => *name = names.get(id).cloned(),
            _ => {}
        }
    }
}
