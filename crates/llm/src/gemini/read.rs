//! A client's request in this dialect becomes neutral.
//!
//! Fields are understood in both of the spellings that the provider takes (`systemInstruction`, `system_instruction`). It
//! refuses to lose anything in silence: what has no neutral form is foreign or stands in [`Request::extra`].

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{carried::Carried, schema::json_schema};
use crate::{
    neutral::{
        ConvertError, Effort, Media, MediaKind, OutputForm, Part, Reasoning, ReasoningWish, Request, Role, Source,
        Tool, ToolChoice, ToolKind, Turn,
    },
    take::{Object, Place, body, rest},
};

/// Reads a client's request into the neutral form.
///
/// # Errors
/// If it is none.
pub fn read_request(bytes: &[u8]) -> Result<Request, ConvertError> {
    let mut fields = camel(body("Gemini", bytes)?);
    let mut reader = Reader::default();
    let mut request = Request::default();
    if let Some(system) = at("").value(&mut fields, "systemInstruction") {
        request.system = reader.system(system)?;
    }
    let contents = match fields.remove("contents") {
        Some(one @ Value::Object(_)) => vec![one],
        other => at("").list(&mut Object::from_iter(other.map(|it| ("contents".to_owned(), it))), "contents")?,
    };
    for content in contents {
        let turn = reader.turn(content)?;
        request.turns.push(turn);
    }
    for tool in at("").list(&mut fields, "tools")? {
        let tools = reader.tools(tool)?;
        request.tools.extend(tools);
    }
    reader.tool_config(&mut fields, &mut request)?;
    reader.generation(&mut fields, &mut request)?;
    for meaningless in ["model", "store"] {
        fields.remove(meaningless);
    }
    request.extra = reader.extra;
    rest(fields, "", &mut request.extra);
    Ok(request)
}

fn at(path: &str) -> Place<'_> {
    Place { dialect: "Gemini", path }
}

/// The members of this one object in the newer spelling. A member that stands in both keeps the newer.
pub(super) fn camel(fields: Object) -> Object {
    let mut out = Object::new();
    for (key, value) in fields {
        if !key.contains('_') {
            out.insert(key, value);
            continue;
        }
        let mut name = String::with_capacity(key.len());
        let mut up = false;
        for letter in key.chars() {
            match letter {
                '_' => up = true,
                letter if std::mem::take(&mut up) => name.extend(letter.to_uppercase()),
                letter => name.push(letter),
            }
        }
        out.entry(name).or_insert(value);
    }
    out
}

fn object(value: Value, path: &str) -> Result<Object, ConvertError> {
    at(path).as_object(value, "").map(camel)
}

#[derive(Default)]
struct Reader {
    extra: Object,
    /// Calls without an answer yet, by name: older clients give no identifiers.
    open: BTreeMap<String, Vec<String>>,
    /// Names of calls by their identifiers.
    names: BTreeMap<String, String>,
    made: usize,
}

impl Reader {
    fn system(&mut self, system: Value) -> Result<Vec<Part>, ConvertError> {
        if let Value::String(text) = system {
            return Ok(vec![Part::Text { text, cache: None }]);
        }
        let mut system = object(system, "systemInstruction")?;
        system.remove("role");
        self.parts(&mut system, "systemInstruction")
    }

    fn turn(&mut self, content: Value) -> Result<Turn, ConvertError> {
        let mut content = object(content, "contents")?;
        let role = match at("contents").text(&mut content, "role")?.as_deref() {
            Some("model") => Role::Assistant,
            Some("user" | "function" | "tool") | None => Role::User,
            Some("system") => Role::System,
            Some(_) => return Err(at("contents").wrong("role", "user or model")),
        };
        let parts = self.parts(&mut content, "contents")?;
        rest(content, "contents", &mut self.extra);
        Ok(Turn { role, parts })
    }

    fn parts(&mut self, content: &mut Object, path: &str) -> Result<Vec<Part>, ConvertError> {
        let mut parts = Vec::new();
        let list = match content.remove("parts") {
            Some(one @ Value::Object(_)) => vec![one],
            Some(Value::Array(list)) => list,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err(at(path).wrong("parts", "a list")),
        };
        for part in list {
            match part {
                Value::String(text) => parts.push(Part::Text { text, cache: None }),
                part => self.part(object(part, "contents.parts")?, &mut parts)?,
            }
        }
        Ok(parts)
    }

    fn part(&mut self, mut part: Object, parts: &mut Vec<Part>) -> Result<(), ConvertError> {
        let here = at("contents.parts");
        let carried = here.text(&mut part, "thoughtSignature")?.map(|text| Carried::read(&text)).unwrap_or_default();
        parts.extend(carried.thoughts.into_iter().map(Part::Reasoning));
        let (signature, thought) = (carried.own, here.flag(&mut part, "thought")?.unwrap_or(false));
        if let Some(call) = here.value(&mut part, "functionCall") {
            let (id, name, input) = self.call(call)?;
            parts.push(Part::ToolCall { id, name, input, free_form: false, signature, cache: None });
        } else if let Some(response) = here.value(&mut part, "functionResponse") {
            parts.push(self.response(response)?);
        } else if let Some(text) = here.text(&mut part, "text")? {
            if thought {
                parts.push(Part::Reasoning(Reasoning { text, signature, ..Reasoning::default() }));
            } else {
                if !text.is_empty() {
                    parts.push(Part::Text { text, cache: None });
                }
                // Where signatures do not belong to a call, the neutral form has them as thoughts without text.
                if signature.is_some() {
                    parts.push(Part::Reasoning(Reasoning { signature, ..Reasoning::default() }));
                }
            }
        } else if let Some(media) = self.media(&mut part)? {
            parts.push(Part::Media(media));
        } else if let Some(key) = part.keys().next().cloned() {
            part.insert("type".to_owned(), json!(key));
            parts.push(Part::Foreign(Value::Object(part)));
            return Ok(());
        }
        rest(part, "contents.parts", &mut self.extra);
        Ok(())
    }

    fn call(&mut self, call: Value) -> Result<(String, String, String), ConvertError> {
        let here = at("contents.parts.functionCall");
        let mut call = object(call, here.path)?;
        let name = here.needed(&mut call, "name")?;
        let id = match here.text(&mut call, "id")? {
            Some(id) => id,
            None => {
                self.made += 1;
                format!("call_{}", self.made)
            }
        };
        let args = here.object(&mut call, "args")?.unwrap_or_default();
        rest(call, here.path, &mut self.extra);
        self.open.entry(name.clone()).or_default().push(id.clone());
        self.names.insert(id.clone(), name.clone());
        Ok((id, name, Value::Object(args).to_string()))
    }

    fn response(&mut self, response: Value) -> Result<Part, ConvertError> {
        let here = at("contents.parts.functionResponse");
        let mut response = object(response, here.path)?;
        let name = here.text(&mut response, "name")?.unwrap_or_default();
        let id = here.text(&mut response, "id")?;
        let open = self.open.entry(name.clone()).or_default();
        let id = match id {
            Some(id) => {
                open.retain(|other| *other != id);
                id
            }
            None if open.is_empty() => name.clone(),
            None => open.remove(0),
        };
        let name = self.names.get(&id).cloned().or(Some(name));
        let (text, is_error) = said(here.value(&mut response, "response"));
        let mut parts = vec![Part::Text { text, cache: None }];
        for part in here.list(&mut response, "parts")? {
            let mut part = object(part, here.path)?;
            if let Some(media) = self.media(&mut part)? {
                parts.push(Part::Media(media));
            }
            rest(part, here.path, &mut self.extra);
        }
        rest(response, here.path, &mut self.extra);
        Ok(Part::ToolResult { id, name, parts, is_error, cache: None })
    }

    fn media(&mut self, part: &mut Object) -> Result<Option<Media>, ConvertError> {
        let here = at("contents.parts");
        let made = |kind, source, name| Media { kind, source, name, detail: None, cache: None };
        if let Some(data) = here.value(part, "inlineData") {
            let mut data = object(data, "contents.parts.inlineData")?;
            let media_type = here.needed(&mut data, "mimeType")?;
            // The provider takes both alphabets of base64, others only this one.
            let mut text = here.needed(&mut data, "data")?;
            if text.contains(['-', '_']) {
                text = text.replace('-', "+").replace('_', "/");
            }
            let name = here.text(&mut data, "displayName")?;
            rest(data, "contents.parts.inlineData", &mut self.extra);
            return Ok(Some(made(kind_of(&media_type), Source::Base64 { media_type, data: text }, name)));
        }
        let Some(data) = here.value(part, "fileData") else { return Ok(None) };
        let mut data = object(data, "contents.parts.fileData")?;
        let kind = here.text(&mut data, "mimeType")?.map_or(MediaKind::Image, |media_type| kind_of(&media_type));
        let uri = here.needed(&mut data, "fileUri")?;
        let name = here.text(&mut data, "displayName")?;
        rest(data, "contents.parts.fileData", &mut self.extra);
        let elsewhere = uri.starts_with("https://") || uri.starts_with("http://");
        let ours = uri.starts_with("https://generativelanguage.googleapis.com/");
        let source = if elsewhere && !ours { Source::Url(uri) } else { Source::File(uri) };
        Ok(Some(made(kind, source, name)))
    }

    fn tools(&mut self, tool: Value) -> Result<Vec<Tool>, ConvertError> {
        let mut fields = object(tool, "tools")?;
        let mut tools = Vec::new();
        for function in at("tools").list(&mut fields, "functionDeclarations")? {
            tools.push(self.function(function)?);
        }
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
            let kind = ToolKind::Foreign(json!({"type": name, name.as_str(): value}));
            tools.push(Tool { name, description: None, kind, strict: None, cache: None });
        }
        Ok(tools)
    }

    fn function(&mut self, function: Value) -> Result<Tool, ConvertError> {
        let here = at("tools.functionDeclarations");
        let mut function = object(function, here.path)?;
        let schema = here.value(&mut function, "parametersJsonSchema");
        let older = here.value(&mut function, "parameters").map(|schema| json_schema(&schema));
        let tool = Tool {
            name: here.needed(&mut function, "name")?,
            description: here.text(&mut function, "description")?.filter(|text| !text.is_empty()),
            kind: ToolKind::Function {
                schema: schema.or(older).unwrap_or_else(|| json!({"type": "object", "properties": {}})),
            },
            strict: None,
            cache: None,
        };
        rest(function, here.path, &mut self.extra);
        Ok(tool)
    }

    fn tool_config(&mut self, fields: &mut Object, request: &mut Request) -> Result<(), ConvertError> {
        let Some(config) = at("").value(fields, "toolConfig") else { return Ok(()) };
        let mut config = object(config, "toolConfig")?;
        if let Some(calling) = at("toolConfig").value(&mut config, "functionCallingConfig") {
            let here = at("toolConfig.functionCallingConfig");
            let mut calling = object(calling, here.path)?;
            let allowed = here.texts(&mut calling, "allowedFunctionNames")?;
            let mode = here.text(&mut calling, "mode")?.unwrap_or_default().to_ascii_uppercase();
            request.tool_choice = match (mode.as_str(), allowed.as_slice()) {
                ("ANY", [name]) => ToolChoice::Named(name.clone()),
                ("ANY", _) => ToolChoice::Any,
                ("NONE", _) => ToolChoice::None,
                _ => ToolChoice::Auto,
            };
            // Of several that are allowed, the others are not there.
            if allowed.len() > 1 {
                request.tools.retain(|tool| allowed.contains(&tool.name));
            }
            rest(calling, here.path, &mut self.extra);
        }
        rest(config, "toolConfig", &mut self.extra);
        Ok(())
    }

    fn generation(&mut self, fields: &mut Object, request: &mut Request) -> Result<(), ConvertError> {
        let Some(config) = at("").value(fields, "generationConfig") else { return Ok(()) };
        let here = at("generationConfig");
        let mut config = object(config, here.path)?;
        request.max_output = here.count(&mut config, "maxOutputTokens")?;
        request.temperature = here.number(&mut config, "temperature")?;
        request.top_p = here.number(&mut config, "topP")?;
        request.top_k = here.number(&mut config, "topK")?;
        request.seed = here.number(&mut config, "seed")?;
        request.presence_penalty = here.number(&mut config, "presencePenalty")?;
        request.frequency_penalty = here.number(&mut config, "frequencyPenalty")?;
        request.stop = here.texts(&mut config, "stopSequences")?;
        if let Some(thinking) = here.value(&mut config, "thinkingConfig") {
            request.reasoning = Some(self.thinking(thinking)?);
        }
        let schema = here.value(&mut config, "responseSchema").map(|schema| json_schema(&schema));
        let schema = here.value(&mut config, "responseJsonSchema").or(schema);
        let form = here.text(&mut config, "responseMimeType")?;
        request.output = match (form.as_deref(), schema) {
            (_, Some(schema)) => OutputForm::Schema { name: None, schema, strict: None },
            (Some("application/json"), None) => OutputForm::Json,
            (None | Some("text/plain" | ""), None) => OutputForm::Text,
            (Some(_), None) => return Err(here.wrong("responseMimeType", "text/plain or application/json")),
        };
        if config.get("candidateCount").and_then(Value::as_u64) == Some(1) {
            config.remove("candidateCount");
        }
        let modes = config.get("responseModalities").and_then(Value::as_array);
        if modes
            .is_some_and(|modes| modes.iter().all(|mode| mode.as_str().is_some_and(|m| m.eq_ignore_ascii_case("TEXT"))))
        {
            config.remove("responseModalities");
        }
        rest(config, here.path, &mut self.extra);
        Ok(())
    }

    fn thinking(&mut self, thinking: Value) -> Result<ReasoningWish, ConvertError> {
        let here = at("generationConfig.thinkingConfig");
        let mut thinking = object(thinking, here.path)?;
        let mut wish = ReasoningWish {
            show: here.flag(&mut thinking, "includeThoughts")?,
            effort: here.text(&mut thinking, "thinkingLevel")?.as_deref().and_then(Effort::of_word),
            ..ReasoningWish::default()
        };
        match here.number(&mut thinking, "thinkingBudget")?.and_then(|number| number.as_i64()) {
            Some(0) => wish.enabled = Some(false),
            Some(budget) => {
                wish.enabled = Some(true);
                // Less than nothing: as much as the model likes.
                wish.budget_tokens = u64::try_from(budget).ok();
            }
            None if wish.effort.is_some() => wish.enabled = Some(true),
            None => {}
        }
        rest(thinking, here.path, &mut self.extra);
        Ok(wish)
    }
}

/// What a function answered: the text of one member `output`, `result` or `error`, or else all of it as JSON.
fn said(response: Option<Value>) -> (String, bool) {
    let Some(Value::Object(members)) = response else {
        return (response.map(|value| value.to_string()).unwrap_or_default(), false);
    };
    let only = (members.len() == 1).then(|| members.iter().next()).flatten();
    match only {
        Some((key, Value::String(text))) if matches!(key.as_str(), "output" | "result" | "error") => {
            (text.clone(), key == "error")
        }
        _ => {
            let failed = members.contains_key("error") && !members.contains_key("output");
            (Value::Object(members).to_string(), failed)
        }
    }
}

/// What a media type says.
pub(super) fn kind_of(media_type: &str) -> MediaKind {
    match media_type.split('/').next() {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => MediaKind::Document,
    }
}
