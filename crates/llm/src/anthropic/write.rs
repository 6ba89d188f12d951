//! A neutral request becomes one for a provider of this dialect.
//!
//! It owns the order that this dialect wants (turns alternate, the person's first, results directly after their calls) and
//! where cache marks stand. It refuses what has no place here, and names what it leaves out.

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{blocks::Blocks, model::Model, thinking};
use crate::{
    CacheUse, Target, free,
    neutral::{self, ConvertError, Dropped, NameRules, OutputForm, Part, Tool, ToolChoice, ToolKind, Written},
    order::{self, Piece},
    take::Object,
};

/// The version of the API that is written.
const VERSION: &str = "2023-06-01";
/// The names of tools that are taken.
pub(super) const NAMES: NameRules = NameRules::word(128);
/// The most marks that a request may have.
const MAX_MARKS: usize = 4;

/// Writes a request for a provider.
///
/// # Errors
/// If this dialect has nothing for something that was asked.
pub fn write_request(request: &neutral::Request, target: &Target) -> Result<Written, ConvertError> {
    let mut blocks = Blocks { dropped: request.leftovers()?, ..Blocks::default() };
    let model = Model::of(&request.model);
    let mut body = Object::new();
    body.insert("model".to_owned(), json!(request.model));
    let max_tokens = request.max_output.unwrap_or(target.max_output).min(target.max_output);
    if request.max_output.is_some_and(|wanted| wanted > max_tokens) {
        blocks.drop("max_tokens", "most-output");
    }
    body.insert("max_tokens".to_owned(), json!(max_tokens));
    if request.stream {
        body.insert("stream".to_owned(), json!(true));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| write_tool(tool, &mut blocks));
        body.insert("tools".to_owned(), Value::Array(tools.collect::<Result<_, _>>()?));
        write_choice(request, &mut blocks, &mut body);
    }
    let mut system = write_system(request, &mut blocks)?;
    let messages = write_messages(request, &mut blocks)?;
    if request.output == OutputForm::Json {
        system.push(json!({"type": "text", "text": "Answer with one JSON value and with nothing else."}));
        blocks.drop("response_format", "json-by-instruction");
    }
    if !system.is_empty() {
        body.insert("system".to_owned(), Value::Array(system));
    }
    body.insert("messages".to_owned(), Value::Array(messages));
    thinking::write(request, target, model, max_tokens, &mut blocks, &mut body);
    write_rest(request, model, &mut blocks, &mut body);
    if blocks.marks == 0 {
        place_marks(&mut body);
    }
    let cache = if blocks.hour { CacheUse::Hour } else { CacheUse::FiveMinutes };
    let headers = vec![(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(VERSION))];
    Ok(Written {
        body: Value::Object(body).to_string().into(),
        headers,
        aliases: blocks.aliases,
        dropped: blocks.dropped,
        cache,
    })
}

fn write_tool(tool: &Tool, blocks: &mut Blocks) -> Result<Value, ConvertError> {
    let (schema, description) = match &tool.kind {
        ToolKind::Function { schema } => (object_schema(schema), tool.description.clone()),
        ToolKind::FreeForm { format } => {
            (free::schema(), free::description(tool.description.as_deref(), format.as_ref()))
        }
        ToolKind::Foreign(value) => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or(&tool.name);
            return Err(ConvertError::Unsupported {
                what: format!("the tool `{kind}`"),
                why: "only the provider that it belongs to runs it: leave it out",
            });
        }
    };
    let mut out = json!({"name": blocks.aliases.alias(&tool.name, &NAMES), "input_schema": schema});
    if let Some(description) = description {
        out["description"] = json!(description);
    }
    if tool.strict == Some(true) {
        out["strict"] = json!(true);
    }
    blocks.mark(&mut out, tool.cache);
    Ok(out)
}

/// The provider wants an object with a type.
fn object_schema(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Object(members) => members.clone(),
        _ => Object::new(),
    };
    schema.entry("type").or_insert_with(|| json!("object"));
    Value::Object(schema)
}

fn write_choice(request: &neutral::Request, blocks: &mut Blocks, body: &mut Object) {
    let mut choice = match &request.tool_choice {
        ToolChoice::Auto if request.parallel_tools.is_none() => return,
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::Any => json!({"type": "any"}),
        ToolChoice::None => json!({"type": "none"}),
        ToolChoice::Named(name) => json!({"type": "tool", "name": blocks.aliases.alias(name, &NAMES)}),
    };
    if let (Some(parallel), true) = (request.parallel_tools, request.tool_choice != ToolChoice::None) {
        choice["disable_parallel_tool_use"] = json!(!parallel);
    }
    body.insert("tool_choice".to_owned(), choice);
}

fn write_system(request: &neutral::Request, blocks: &mut Blocks) -> Result<Vec<Value>, ConvertError> {
    let mut system = Vec::new();
    for part in request.system.iter().chain(order::leading(&request.turns)) {
        match part {
            Part::Text { .. } => system.extend(blocks.block(part)?),
            _ => {
                return Err(ConvertError::Unsupported {
                    what: "a system prompt that is not text".to_owned(),
                    why: "this model takes instructions as text only: put the rest into the first message",
                });
            }
        }
    }
    Ok(system)
}

fn write_messages(request: &neutral::Request, blocks: &mut Blocks) -> Result<Vec<Value>, ConvertError> {
    let mut messages: Vec<(bool, Vec<Value>)> = Vec::new();
    for turn in order::ordered(&request.turns) {
        let mut content = Vec::new();
        for piece in turn.pieces {
            content.extend(blocks.piece(&piece)?);
        }
        // A turn may be empty because its thoughts were left out: then its neighbours are one.
        match messages.last_mut() {
            _ if content.is_empty() => {}
            Some((assistant, last)) if *assistant == turn.assistant => last.extend(content),
            None if turn.assistant => {
                messages.push((false, blocks.piece(&Piece::Opening)?));
                messages.push((true, content));
            }
            _ => messages.push((turn.assistant, content)),
        }
    }
    // The provider refuses an answer to go on with that ends in white space.
    if let Some((true, content)) = messages.last_mut()
        && let Some(Value::String(text)) = content.last_mut().and_then(|block| block.get_mut("text"))
    {
        text.truncate(text.trim_end().len());
        if text.is_empty() {
            content.pop();
        }
    }
    let message = |(assistant, content): (bool, Vec<Value>)| {
        let role = if assistant { "assistant" } else { "user" };
        (!content.is_empty()).then(|| json!({"role": role, "content": content}))
    };
    Ok(messages.into_iter().filter_map(message).collect())
}

fn write_rest(request: &neutral::Request, model: Model, blocks: &mut Blocks, body: &mut Object) {
    write_sampling(request, model, blocks, body);
    let (blank, stop): (Vec<&String>, Vec<&String>) = request.stop.iter().partition(|text| text.trim().is_empty());
    if !blank.is_empty() {
        blocks.drop("stop", "blank-stop");
    }
    if !stop.is_empty() {
        body.insert("stop_sequences".to_owned(), json!(stop));
    }
    if let OutputForm::Schema { schema, .. } = &request.output {
        let format = json!({"type": "json_schema", "schema": closed(schema)});
        if let Value::Object(config) = body.entry("output_config").or_insert_with(|| json!({})) {
            config.insert("format".to_owned(), format);
        }
    }
    if let Some(user) = &request.user {
        body.insert("metadata".to_owned(), json!({"user_id": user}));
    }
    for (what, there) in [
        ("seed", request.seed.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("verbosity", request.verbosity.is_some()),
    ] {
        if there {
            blocks.drop(what, "no-counterpart");
        }
    }
    if request.cache_key.is_some() {
        blocks.drop("prompt_cache_key", "marks-instead");
    }
}

fn write_sampling(request: &neutral::Request, model: Model, blocks: &mut Blocks, body: &mut Object) {
    let thinks = body.get("thinking").and_then(|thinking| thinking.get("type")).is_some_and(|word| word != "disabled");
    let mut temperature = request.temperature.clone();
    if temperature.as_ref().and_then(serde_json::Number::as_f64).is_some_and(|value| value > 1.0) {
        temperature = Some(1.into());
        blocks.drop("temperature", "clamped");
    }
    let one_too_many = !model.both && temperature.is_some();
    for (key, value) in [("temperature", &temperature), ("top_p", &request.top_p), ("top_k", &request.top_k)] {
        let Some(value) = value else { continue };
        let rule = match key {
            _ if !model.sampling => Some("no-sampling"),
            "temperature" if thinks && value.as_f64() != Some(1.0) => Some("not-when-thinking"),
            "top_p" if thinks && value.as_f64().is_some_and(|value| value < 0.95) => Some("not-when-thinking"),
            "top_k" if thinks => Some("not-when-thinking"),
            "top_p" if one_too_many => Some("one-of-temperature-and-top-p"),
            _ => None,
        };
        match rule {
            Some(rule) => blocks.drop(key, rule),
            None => drop(body.insert(key.to_owned(), json!(value))),
        }
    }
}

/// The provider wants to hear of every object that nothing else may stand in it.
fn closed(schema: &Value) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(closed).collect(),
        Value::Object(members) => {
            let mut out: Object = members.iter().map(|(key, value)| (key.clone(), closed(value))).collect();
            if out.get("type").and_then(Value::as_str) == Some("object") && out.contains_key("properties") {
                out.entry("additionalProperties").or_insert(json!(false));
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

/// A client whose dialect has no marks wants its prompts cached all the same: at the end of what does not change (tools, system)
/// and of the last two turns of the person, so that the next turn finds this one.
fn place_marks(body: &mut Object) {
    let mut places: Vec<&mut Value> = Vec::new();
    for (key, value) in body.iter_mut() {
        let Value::Array(items) = value else { continue };
        match key.as_str() {
            "tools" | "system" => places.extend(items.last_mut()),
            "messages" => {
                let person = |message: &&mut Value| message.get("role").and_then(Value::as_str) == Some("user");
                places.extend(items.iter_mut().rev().filter(person).take(2).filter_map(last_block));
            }
            _ => {}
        }
    }
    for place in places.into_iter().take(MAX_MARKS) {
        place["cache_control"] = json!({"type": "ephemeral"});
    }
}

fn last_block(message: &mut Value) -> Option<&mut Value> {
    message.get_mut("content")?.as_array_mut()?.last_mut()
}

impl Blocks {
    /// Names something that is left out, once.
    pub(super) fn drop(&mut self, what: &str, rule: &'static str) {
        let dropped = Dropped { what: what.to_owned(), rule };
        if !self.dropped.contains(&dropped) {
            self.dropped.push(dropped);
        }
    }

    /// Puts a mark on a block.
    pub(super) fn mark(&mut self, block: &mut Value, cache: Option<neutral::CacheMark>) {
        let Some(cache) = cache else { return };
        if self.marks == MAX_MARKS {
            return self.drop("cache_control", "too-many-marks");
        }
        self.marks += 1;
        block["cache_control"] = match cache {
            neutral::CacheMark::Short => json!({"type": "ephemeral"}),
            neutral::CacheMark::Hour => json!({"type": "ephemeral", "ttl": "1h"}),
        };
        self.hour |= cache == neutral::CacheMark::Hour;
    }
}
