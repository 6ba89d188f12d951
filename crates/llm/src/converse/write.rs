//! A neutral request becomes one for a provider of this dialect.
//!
//! It owns the order that the service wants (turns alternate, the person's first, results directly after their calls), and
//! what models behind it need that the client did not say: tools whenever calls are in the conversation, cache points. It
//! refuses what has no place here, and names what it leaves out.

use serde_json::{Value, json};

use super::{
    blocks::{Blocks, MAX_MARKS, NAMES},
    thinking::{self, Family, additional, output},
};
use crate::{
    CacheUse, Target, free,
    neutral::{ConvertError, OutputForm, Part, Request, Role, Tool, ToolChoice, ToolKind, Turn, Written},
    take::Object,
};

/// Writes a request for a provider. The model and whether it is a stream go into the path.
///
/// # Errors
/// If this dialect has nothing for something that was asked.
pub fn write_request(request: &Request, target: &Target) -> Result<Written, ConvertError> {
    let family = Family::of(&request.model);
    let mut blocks = Blocks { dropped: request.leftovers()?, caches: family.caches(), ..Blocks::default() };
    let mut body = Object::new();
    let max_tokens = request.max_output.unwrap_or(target.max_output).min(target.max_output);
    if request.max_output.is_some_and(|wanted| wanted > max_tokens) {
        blocks.drop("max_tokens", "clamped");
    }
    let mut inference = Object::new();
    inference.insert("maxTokens".to_owned(), json!(max_tokens));
    write_tools(request, family, &mut blocks, &mut body)?;
    let mut system = write_system(request, &mut blocks)?;
    let messages = write_messages(request, &mut blocks)?;
    if request.output == OutputForm::Json {
        system.push(json!({"text": "Answer with one JSON value and with nothing else."}));
        blocks.drop("response_format", "json-by-instruction");
    }
    if !system.is_empty() {
        body.insert("system".to_owned(), Value::Array(system));
    }
    body.insert("messages".to_owned(), Value::Array(messages));
    let thinks = thinking::write(request, target, family, max_tokens, &mut blocks, &mut body);
    write_sampling(request, family, thinks, &mut blocks, &mut inference, &mut body);
    write_rest(request, &mut blocks, &mut inference, &mut body);
    body.insert("inferenceConfig".to_owned(), Value::Object(inference));
    // Whoever sends tools comes back with the same words and more; for a single question a kept prompt costs more than it saves.
    let own = blocks.marks == 0 && blocks.caches && !request.tools.is_empty();
    if own {
        place_points(&mut body, family);
    }
    let cache = match (blocks.hour, own || blocks.marks > 0) {
        (true, _) => CacheUse::Hour,
        (false, true) => CacheUse::FiveMinutes,
        (false, false) => CacheUse::None,
    };
    Ok(Written {
        body: Value::Object(body).to_string().into(),
        headers: Vec::new(),
        aliases: blocks.aliases,
        dropped: blocks.dropped,
        cache,
    })
}

fn write_tools(request: &Request, family: Family, blocks: &mut Blocks, body: &mut Object) -> Result<(), ConvertError> {
    let called = called(request);
    let mut tools = Vec::new();
    // The service has no word for "none". Without tools nothing can be called; with calls in the conversation there must be some.
    if request.tool_choice == ToolChoice::None && !request.tools.is_empty() {
        blocks.drop("tool_choice", if called.is_empty() { "no-tools-instead" } else { "no-such-choice" });
    }
    if request.tool_choice != ToolChoice::None || !called.is_empty() {
        for tool in &request.tools {
            tools.push(write_tool(tool, blocks)?);
            // Nova keeps only what is in the system prompt and the messages.
            let cache = tool.cache.filter(|_| family != Family::Nova);
            tools.extend(blocks.point(cache));
        }
    }
    if tools.is_empty() {
        for name in called {
            let name = blocks.aliases.alias(name, &NAMES);
            let schema = json!({"json": {"type": "object", "properties": {}}});
            let about = "It was called earlier and is not there any more: do not call it.";
            tools.push(json!({"toolSpec": {"name": name, "description": about, "inputSchema": schema}}));
        }
    }
    if tools.is_empty() {
        return Ok(());
    }
    let mut config = json!({"tools": tools});
    match &request.tool_choice {
        ToolChoice::Auto | ToolChoice::None => {}
        ToolChoice::Any => config["toolChoice"] = json!({"any": {}}),
        ToolChoice::Named(name) => config["toolChoice"] = json!({"tool": {"name": blocks.aliases.alias(name, &NAMES)}}),
    }
    if request.parallel_tools == Some(false) {
        blocks.drop("parallel_tool_calls", "no-counterpart");
    }
    body.insert("toolConfig".to_owned(), config);
    Ok(())
}

/// The names that were called in the conversation, each once, in their order.
fn called(request: &Request) -> Vec<&str> {
    let mut names = Vec::new();
    for part in request.turns.iter().flat_map(|turn| &turn.parts) {
        if let Part::ToolCall { name, .. } = part
            && !names.contains(&name.as_str())
        {
            names.push(name.as_str());
        }
    }
    names
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
    let mut spec = json!({"name": blocks.aliases.alias(&tool.name, &NAMES), "inputSchema": {"json": schema}});
    if let Some(description) = description.filter(|text| !text.trim().is_empty()) {
        spec["description"] = json!(description);
    }
    if tool.strict == Some(true) {
        spec["strict"] = json!(true);
    }
    Ok(json!({"toolSpec": spec}))
}

/// The service wants an object with a type.
fn object_schema(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Object(members) => members.clone(),
        _ => Object::new(),
    };
    schema.entry("type").or_insert_with(|| json!("object"));
    Value::Object(schema)
}

fn write_system(request: &Request, blocks: &mut Blocks) -> Result<Vec<Value>, ConvertError> {
    let leading = request.turns.iter().take_while(|turn| turn.role == Role::System);
    let mut system = Vec::new();
    for part in request.system.iter().chain(leading.flat_map(|turn| &turn.parts)) {
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

/// Turns that alternate, with results where their calls were.
struct Messages {
    out: Vec<(Role, Vec<Value>)>,
    /// Calls of the model's last turn, which the next turn must answer first.
    open: Vec<String>,
}

fn write_messages(request: &Request, blocks: &mut Blocks) -> Result<Vec<Value>, ConvertError> {
    let turns: Vec<&Turn> = request.turns.iter().skip_while(|turn| turn.role == Role::System).collect();
    let mut results: Vec<(&str, Option<&Part>)> = Vec::new();
    for part in turns.iter().flat_map(|turn| &turn.parts) {
        if let Part::ToolResult { id, .. } = part
            && !results.iter().any(|(known, _)| known == id)
        {
            results.push((id, Some(part)));
        }
    }
    let mut messages = Messages { out: Vec::new(), open: Vec::new() };
    for turn in turns {
        let role = if turn.role == Role::Assistant { Role::Assistant } else { Role::User };
        if role == Role::User && !turn.parts.is_empty() {
            messages.answer(&mut results, blocks)?;
        }
        for part in &turn.parts {
            let made = match part {
                Part::ToolResult { id, parts, .. } => match results.iter().find(|(known, _)| known == id) {
                    // It stands where its call was.
                    Some((_, None)) => continue,
                    _ => orphan(parts, blocks)?,
                },
                Part::Text { text, .. } if turn.role == Role::System => {
                    vec![json!({"text": format!("<system>\n{text}\n</system>")})]
                }
                part => blocks.block(part)?,
            };
            if let Part::ToolCall { id, .. } = part {
                messages.open.push(id.clone());
            }
            messages.add(role, made);
        }
    }
    // Calls that nobody has answered at the end: the service wants a result of each.
    messages.answer(&mut results, blocks)?;
    Ok(messages.finish())
}

/// A result whose call is nowhere: its text, as something that the person said.
fn orphan(parts: &[Part], blocks: &mut Blocks) -> Result<Vec<Value>, ConvertError> {
    blocks.drop("tool_result", "orphan-result");
    let mut out = Vec::new();
    for part in parts {
        out.extend(blocks.block(part)?);
    }
    Ok(out)
}

impl Messages {
    fn add(&mut self, role: Role, made: Vec<Value>) {
        if made.is_empty() {
            return;
        }
        if self.out.is_empty() && role == Role::Assistant {
            self.out.push((Role::User, vec![json!({"text": "(The conversation goes on.)"})]));
        }
        match self.out.last_mut() {
            Some((last, blocks)) if *last == role => blocks.extend(made),
            _ => self.out.push((role, made)),
        }
    }

    /// The results of the calls that are open.
    fn answer(&mut self, results: &mut [(&str, Option<&Part>)], blocks: &mut Blocks) -> Result<(), ConvertError> {
        for id in std::mem::take(&mut self.open) {
            let found = results.iter_mut().find(|(known, _)| *known == id).and_then(|(_, part)| part.take());
            let made = match found {
                Some(part) => blocks.block(part)?,
                None => {
                    blocks.drop("tool_use", "missing-result");
                    vec![json!({"toolResult": {"toolUseId": blocks.aliases.alias(&id, &NAMES), "status": "error",
                        "content": [{"text": "There is no result of this call."}]}})]
                }
            };
            self.add(Role::User, made);
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<Value> {
        // Models refuse an answer to go on with that ends in white space.
        if let Some((Role::Assistant, blocks)) = self.out.last_mut()
            && let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text"))
        {
            text.truncate(text.trim_end().len());
        }
        let message = |(role, mut blocks): (Role, Vec<Value>)| {
            let has = |blocks: &[Value], key: &str| blocks.iter().any(|block| block.get(key).is_some());
            // The service wants words beside a document.
            if has(&blocks, "document") && !has(&blocks, "text") {
                blocks.push(json!({"text": "(See the document.)"}));
            }
            json!({"role": if role == Role::Assistant { "assistant" } else { "user" }, "content": blocks})
        };
        self.out.into_iter().map(message).collect()
    }
}

fn write_sampling(
    request: &Request,
    family: Family,
    thinks: bool,
    blocks: &mut Blocks,
    inference: &mut Object,
    body: &mut Object,
) {
    let number = |value: &Option<serde_json::Number>| value.as_ref().and_then(serde_json::Number::as_f64);
    let mut temperature = request.temperature.clone();
    if number(&temperature).is_some_and(|value| value > 1.0) {
        temperature = Some(1.into());
        blocks.drop("temperature", "clamped");
    }
    let (sampling, both) = match family {
        Family::Claude(model) => (model.sampling, model.both),
        _ => (true, true),
    };
    let one_too_many = !both && temperature.is_some();
    let temperature_bends = thinks && number(&temperature).is_some_and(|value| value < 1.0);
    for (key, name, value) in [
        ("temperature", "temperature", &temperature),
        ("topP", "top_p", &request.top_p),
        ("top_k", "top_k", &request.top_k),
    ] {
        let Some(value) = value else { continue };
        let rule = match key {
            _ if !sampling => Some("no-sampling"),
            "temperature" if temperature_bends => Some("not-when-thinking"),
            "topP" if thinks && value.as_f64().is_some_and(|value| value < 0.95) => Some("not-when-thinking"),
            "top_k" if thinks => Some("not-when-thinking"),
            "topP" if one_too_many => Some("one-of-temperature-and-top-p"),
            "top_k" if matches!(family, Family::GptOss | Family::Other) => Some("no-counterpart"),
            _ => None,
        };
        match (rule, key, family) {
            (Some(rule), ..) => blocks.drop(name, rule),
            (None, "top_k", Family::Nova) => additional(body, "inferenceConfig", json!({"topK": value})),
            (None, "top_k", _) => additional(body, "top_k", json!(value)),
            (None, ..) => drop(inference.insert(key.to_owned(), json!(value))),
        }
    }
}

fn write_rest(request: &Request, blocks: &mut Blocks, inference: &mut Object, body: &mut Object) {
    let (blank, stop): (Vec<&String>, Vec<&String>) = request.stop.iter().partition(|text| text.trim().is_empty());
    if !blank.is_empty() {
        blocks.drop("stop", "blank-stop");
    }
    if !stop.is_empty() {
        inference.insert("stopSequences".to_owned(), json!(stop));
    }
    if let OutputForm::Schema { name, schema, .. } = &request.output {
        // The service takes the schema as text.
        let mut form = json!({"schema": schema.to_string()});
        if let Some(name) = name {
            form["name"] = json!(name);
        }
        output(body, "textFormat", json!({"type": "json_schema", "structure": {"jsonSchema": form}}));
    }
    for (what, there) in [
        ("seed", request.seed.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("verbosity", request.verbosity.is_some()),
        ("user", request.user.is_some()),
    ] {
        if there {
            blocks.drop(what, "no-counterpart");
        }
    }
    if request.cache_key.is_some() {
        blocks.drop("prompt_cache_key", "marks-instead");
    }
}

/// A client whose dialect has no marks wants its prompts cached all the same: at the end of what does not change (tools, system)
/// and of the last two turns of the person, so that the next turn finds this one.
fn place_points(body: &mut Object, family: Family) {
    let mut left = MAX_MARKS;
    let mut put = |items: &mut Vec<Value>| {
        if left > 0 && !items.is_empty() {
            left -= 1;
            items.push(json!({"cachePoint": {"type": "default"}}));
        }
    };
    let tools = body.get_mut("toolConfig").and_then(|config| config.get_mut("tools")).and_then(Value::as_array_mut);
    if let (Some(tools), true) = (tools, family != Family::Nova) {
        put(tools);
    }
    if let Some(Value::Array(system)) = body.get_mut("system") {
        put(system);
    }
    let messages = body.get_mut("messages").and_then(Value::as_array_mut);
    let person = |message: &&mut Value| message.get("role").and_then(Value::as_str) == Some("user");
    for message in messages.into_iter().flat_map(|messages| messages.iter_mut().rev()).filter(person).take(2) {
        if let Some(Value::Array(content)) = message.get_mut("content") {
            put(content);
        }
    }
}
