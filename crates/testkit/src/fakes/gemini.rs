//! Gemini's `generateContent`, as the Gemini API and Vertex take and give it.
//!
//! It owns what the real one demands of a request (unknown names are refused as protobuf refuses them), and the response and
//! chunks of an answer. It refuses what the real one refuses: calls that are not answered one by one, and a first call of a
//! step whose signature does not come back.

use serde_json::{Map, Value, json};

use super::{
    check::{Checked, Node, Refused, runs},
    script::{Given, IdForm, Said, Script, Step, Stop, pieces, smallest, word},
    tools::Tool,
};

/// Calls have no ids here; what the script makes is not shown.
const IDS: IdForm = IdForm { prefix: "gemini_", length: 12 };

/// A request that was found good.
#[derive(Debug)]
pub(super) struct Asked {
    pub model: String,
    thoughts: bool,
    tools: Vec<Tool>,
    past: usize,
    format: Option<Value>,
    json: bool,
}

const FIELDS: &[&str] = &[
    "model",
    "contents",
    "tools",
    "toolConfig",
    "safetySettings",
    "systemInstruction",
    "generationConfig",
    "cachedContent",
    "serviceTier",
    "store",
];
const GENERATION: &[&str] = &[
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "_responseJsonSchema",
    "responseJsonSchema",
    "responseModalities",
    "candidateCount",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "enableEnhancedCivicAnswers",
    "speechConfig",
    "thinkingConfig",
    "imageConfig",
    "mediaResolution",
];
/// What a schema of this dialect's own kind may have.
const SCHEMA: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "propertyOrdering",
    "default",
    "items",
    "minimum",
    "maximum",
];

/// `snake_case` names are taken too: they are made the usual ones first, as protobuf does it.
fn usual(value: &Value, inside: bool) -> Value {
    match value {
        Value::Object(fields) => {
            let mut all = Map::new();
            for (name, value) in fields {
                // What a schema, a call or an answer is made of is the caller's, and keeps its names.
                let own =
                    ["args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"];
                let camel = if inside { camel(name) } else { name.clone() };
                let value = if own.contains(&camel.as_str()) { value.clone() } else { usual(value, inside) };
                all.insert(camel, value);
            }
            Value::Object(all)
        }
        Value::Array(list) => list.iter().map(|value| usual(value, inside)).collect(),
        other => other.clone(),
    }
}

fn camel(name: &str) -> String {
    let mut up = false;
    let mut camel = String::new();
    for (at, letter) in name.char_indices() {
        match letter {
            '_' if at > 0 => up = true,
            _ if up => {
                camel.push(letter.to_ascii_uppercase());
                up = false;
            }
            _ => camel.push(letter),
        }
    }
    camel
}

/// Looks at a request for this model.
pub(super) fn check(body: &Value, model: &str, vertex: bool, given: &Given) -> Checked<Asked> {
    let body = usual(body, true);
    let root = Node::root(&body, false);
    let mut fields = FIELDS.to_vec();
    if vertex {
        fields.extend(["labels", "modelArmorConfig"]);
    }
    only(&root, &fields)?;
    if let Some(system) = root.maybe("systemInstruction") {
        only(&system, &["role", "parts"])?;
        parts(&system, given)?;
    }
    let tools = tools(&root)?;
    if let Some(config) = root.maybe("toolConfig") {
        only(&config, &["functionCallingConfig", "retrievalConfig", "includeServerSideToolInvocations"])?;
        if let Some(calling) = config.maybe("functionCallingConfig") {
            only(&calling, &["mode", "allowedFunctionNames", "streamFunctionCallArguments"])?;
            if let Some(mode) = calling.maybe("mode") {
                mode.one_of(&["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"])?;
            }
        }
    }
    let (mut thoughts, mut format, mut is_json) = (false, None, false);
    if let Some(config) = root.maybe("generationConfig") {
        only(&config, GENERATION)?;
        config.between("temperature", 0.0, 2.0)?;
        config.at_least("maxOutputTokens", 1)?;
        if let Some(thinking) = config.maybe("thinkingConfig") {
            only(&thinking, &["includeThoughts", "thinkingBudget", "thinkingLevel"])?;
            thoughts = thinking.maybe_flag("includeThoughts")?;
        }
        if let Some(schema) = config.maybe("responseSchema") {
            self::schema(&schema)?;
        }
        let schemas = ["responseSchema", "responseJsonSchema", "_responseJsonSchema"];
        format = schemas.iter().find_map(|name| config.maybe(name)).map(|node| node.value.clone());
        is_json = config.maybe("responseMimeType").is_some_and(|node| node.value == "application/json");
    }
    let contents = root
        .field("contents")
        .map_err(|_| Refused::bad("* GenerateContentRequest.contents: contents is not specified"))?
        .list()?;
    conversation(&contents, model, given)?;
    Ok(Asked {
        model: model.to_owned(),
        thoughts,
        tools,
        past: runs(contents.iter().map(|content| content.value["role"] == "model")),
        format,
        json: is_json,
    })
}

fn only(node: &Node<'_>, names: &[&str]) -> Checked<()> {
    match node.object()?.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(Refused::bad(format!(
            "Invalid JSON payload received. Unknown name \"{name}\" at '{}': Cannot find field.",
            node.at
        ))),
        None => Ok(()),
    }
}

fn schema(node: &Node<'_>) -> Checked<()> {
    only(node, SCHEMA)?;
    if let Some(kind) = node.maybe("type") {
        let kind = kind.text()?.to_ascii_uppercase();
        if !["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"].contains(&kind.as_str()) {
            return Err(node.wrong(&format!("Invalid value at 'type': \"{kind}\"")));
        }
        if kind == "ARRAY" {
            node.field("items").map_err(|_| node.wrong("items: missing field."))?;
        }
    }
    if let Some(properties) = node.maybe("properties") {
        for (name, value) in properties.object()? {
            let mut inner = Node::root(value, false);
            inner.at = format!("{}.{name}", properties.at);
            schema(&inner)?;
        }
    }
    if let Some(items) = node.maybe("items") {
        schema(&items)?;
    }
    if let Some(any) = node.maybe("anyOf") {
        any.list()?.iter().try_for_each(schema)?;
    }
    if let Some(required) = node.maybe("required") {
        for name in required.list()? {
            let known = node.value["properties"].get(name.text()?).is_some();
            if !known {
                return Err(node.wrong(&format!("required[{}]: property is not defined", name.text()?)));
            }
        }
    }
    Ok(())
}

fn tools(root: &Node<'_>) -> Checked<Vec<Tool>> {
    let mut tools: Vec<Tool> = Vec::new();
    for tool in root.maybe("tools").map_or(Ok(Vec::new()), |node| node.list())? {
        only(
            &tool,
            &[
                "functionDeclarations",
                "googleSearch",
                "googleSearchRetrieval",
                "codeExecution",
                "urlContext",
                "computerUse",
                "fileSearch",
                "googleMaps",
                "mcpServers",
                "enterpriseWebSearch",
                "retrieval",
            ],
        )?;
        for function in tool.maybe("functionDeclarations").map_or(Ok(Vec::new()), |node| node.list())? {
            only(
                &function,
                &[
                    "name",
                    "description",
                    "behavior",
                    "parameters",
                    "parametersJsonSchema",
                    "response",
                    "responseJsonSchema",
                ],
            )?;
            let name = function.field("name")?;
            let text = name.name(64, ".:")?;
            if !text.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') {
                return Err(name.wrong("Invalid function name. Must start with a letter or an underscore."));
            }
            if tools.iter().any(|tool| tool.name == text) {
                return Err(name.wrong(&format!("Duplicate function declaration found: {text}")));
            }
            function.texts(&["description"])?;
            let mut taken = json!({});
            if let Some(parameters) = function.maybe("parameters") {
                schema(&parameters)?;
                taken = parameters.value.clone();
            }
            if let Some(parameters) = function.maybe("parametersJsonSchema") {
                parameters.object()?;
                taken = parameters.value.clone();
            }
            tools.push(Tool { name: text.to_owned(), schema: taken });
        }
    }
    Ok(tools)
}

/// Looks at the parts of a content. Gives the names of its calls and of its answers.
fn parts<'a>(content: &Node<'a>, given: &Given) -> Checked<(Vec<&'a str>, Vec<&'a str>)> {
    let (mut calls, mut answers) = (Vec::new(), Vec::new());
    let list = content.field("parts")?.list()?;
    if list.is_empty() {
        return Err(content.wrong("contents.parts must not be empty."));
    }
    let data = [
        "text",
        "inlineData",
        "fileData",
        "functionCall",
        "functionResponse",
        "executableCode",
        "codeExecutionResult",
        "toolCall",
        "toolResponse",
    ];
    for part in list {
        let mut fields = data.to_vec();
        fields.extend(["thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"]);
        only(&part, &fields)?;
        part.flags(&["thought"])?;
        let count = data.iter().filter(|name| part.maybe(name).is_some()).count();
        if count != 1 && part.maybe("thoughtSignature").is_none() {
            return Err(part.wrong("required oneof field 'data' must have one initialized field"));
        }
        part.texts(&["text"])?;
        if let Some(call) = part.maybe("functionCall") {
            only(&call, &["id", "name", "args"])?;
            call.objects(&["args"])?;
            calls.push(call.field("name")?.name(64, ".:")?);
        }
        if let Some(answer) = part.maybe("functionResponse") {
            only(&answer, &["id", "name", "response", "willContinue", "scheduling", "parts"])?;
            answer.field("response")?.object()?;
            answers.push(answer.field("name")?.name(64, ".:")?);
        }
        if let Some(inline) = part.maybe("inlineData") {
            only(&inline, &["mimeType", "data", "displayName"])?;
            inline.field("mimeType")?.text()?;
        }
        if let Some(signature) = part.maybe("thoughtSignature") {
            came_back(&part, signature.text()?, given)?;
        }
    }
    Ok((calls, answers))
}

fn came_back(part: &Node<'_>, signature: &str, given: &Given) -> Checked<()> {
    let call = part.maybe("functionCall");
    if ["skip_thought_signature_validator", "context_engineering_is_the_way_to_go"].contains(&signature) {
        return Ok(());
    }
    // Both alphabets of base64 are the same bytes, as protobuf reads them.
    let signature = &signature.replace('-', "+").replace('_', "/");
    match (given.call_signatures.get(signature), call) {
        (Some((name, arguments)), Some(call)) => {
            let same = call.value["name"] == *name && call.value.get("args").unwrap_or(&json!({})) == arguments;
            if same { Ok(()) } else { Err(part.wrong("Thought signature is not valid: it belongs to another call.")) }
        }
        _ if given.signatures.contains_key(signature) => Ok(()),
        _ => Err(part.wrong("Thought signature is not valid")),
    }
}

fn conversation(contents: &[Node<'_>], model: &str, given: &Given) -> Checked<()> {
    if contents.is_empty() {
        return Err(Refused::bad("* GenerateContentRequest.contents: contents is not specified"));
    }
    let mut open: Vec<&str> = Vec::new();
    // Signatures are demanded in the current turn: behind the last thing that a person said.
    let person = |content: &Node<'_>| {
        content.value["role"] != "model"
            && content.value["parts"].as_array().into_iter().flatten().any(|part| part.get("text").is_some())
    };
    let current = contents.iter().rposition(person).unwrap_or(0);
    for (at, content) in contents.iter().enumerate() {
        only(content, &["role", "parts"])?;
        let role = content.maybe("role").map_or(Ok("user"), |role| role.text())?;
        if !["user", "model", "function"].contains(&role) {
            return Err(content.wrong("Please use a valid role: user, model."));
        }
        let (calls, answers) = parts(content, given)?;
        if role == "model" {
            if !open.is_empty() || (at == 0 && !calls.is_empty()) {
                return Err(order(at));
            }
            let first =
                content.value["parts"].as_array().into_iter().flatten().find(|part| part.get("functionCall").is_some());
            if at > current
                && model.starts_with("gemini-3")
                && let Some(first) = first
                && first["thoughtSignature"].as_str().is_none_or(str::is_empty)
            {
                return Err(Refused::bad(format!(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools to work \
                     correctly. Additional data, function call `{}`, position {at}.",
                    first["functionCall"]["name"].as_str().unwrap_or_default()
                )));
            }
            if !answers.is_empty() {
                return Err(content.wrong("function responses are not of the model"));
            }
            open = calls;
        } else {
            if !calls.is_empty() {
                return Err(content.wrong("function calls are of the model"));
            }
            if open.is_empty() && !answers.is_empty() {
                return Err(Refused::bad(
                    "Please ensure that function response turn comes immediately after a function call turn.",
                ));
            }
            if !open.is_empty() {
                if answers.len() != open.len() {
                    return Err(Refused::bad(format!(
                        "Please ensure that the number of function response parts is equal to the number of function call \
                         parts of the function call turn ({} of {}, at {at}).",
                        answers.len(),
                        open.len()
                    )));
                }
                let (mut asked, mut said) = (std::mem::take(&mut open), answers);
                asked.sort_unstable();
                said.sort_unstable();
                if asked != said {
                    return Err(Refused::bad(format!("function responses {said:?} do not answer the calls {asked:?}")));
                }
            }
        }
    }
    if open.is_empty() { Ok(()) } else { Err(order(contents.len())) }
}

fn order(at: usize) -> Refused {
    Refused::bad(format!(
        "Please ensure that function call turn comes immediately after a user turn or after a function response turn. ({at})"
    ))
}

/// The turn that answers this request.
pub(super) fn step(script: &Script, asked: &Asked) -> Checked<Step> {
    let mut step = script.step(asked.past, &asked.tools, IDS).map_err(Refused::bad)?;
    if asked.format.is_some() || asked.json {
        let schema = asked.format.clone().unwrap_or_else(|| json!({"type": "object"}));
        step.parts = vec![Said::Text(smallest(&schema).to_string())];
    }
    // Without thoughts the calls are still signed.
    Ok(if asked.thoughts { step } else { step.without_reasoning() })
}

fn part(said: &Said, signed: &mut bool) -> Value {
    match said {
        Said::Text(text) => json!({"text": text}),
        Said::Reasoning { text, .. } => json!({"text": text, "thought": true}),
        Said::Call { name, arguments, signature, .. } => {
            let mut part = json!({"functionCall": {"name": name, "args": arguments}});
            // The first of parallel calls is signed, the others are not.
            if !std::mem::replace(signed, true) {
                part["thoughtSignature"] = signature.as_str().into();
            }
            part
        }
    }
}

fn usage(step: &Step, written: u64) -> Value {
    let usage = step.usage;
    json!({
        "promptTokenCount": usage.all_input(), "candidatesTokenCount": written, "thoughtsTokenCount": usage.reasoning,
        "cachedContentTokenCount": usage.cache_read, "totalTokenCount": usage.all_input() + written + usage.reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.all_input()}],
    })
}

fn finish(step: &Step) -> &'static str {
    match step.stop {
        Stop::End => "STOP",
        Stop::MaxTokens => "MAX_TOKENS",
        Stop::Refusal => "SAFETY",
    }
}

fn whole(step: &Step, asked: &Asked, parts: Value, last: bool, written: u64) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if last {
        candidate["finishReason"] = finish(step).into();
    }
    json!({
        "candidates": [candidate], "usageMetadata": usage(step, written), "modelVersion": asked.model,
        "responseId": word(&format!("response {}", step.number), 22),
    })
}

/// The response of a turn.
pub(super) fn response(step: &Step, asked: &Asked) -> Value {
    let mut signed = false;
    let parts = step.parts.iter().map(|said| part(said, &mut signed)).collect();
    whole(step, asked, parts, true, step.usage.output - step.usage.reasoning)
}

/// The same in chunks. Usage grows from one to the next.
pub(super) fn chunks(step: &Step, asked: &Asked) -> Vec<Value> {
    let mut signed = false;
    let mut parts = Vec::new();
    for said in &step.parts {
        match said {
            Said::Text(text) => parts.extend(pieces(text, 3).iter().map(|piece| json!({"text": piece}))),
            Said::Reasoning { text, .. } => {
                parts.extend(pieces(text, 2).iter().map(|piece| json!({"text": piece, "thought": true})));
            }
            Said::Call { .. } => parts.push(part(said, &mut signed)),
        }
    }
    let all = step.usage.output - step.usage.reasoning;
    let count = parts.len() as u64;
    let mut chunks = Vec::new();
    for (at, part) in parts.into_iter().enumerate() {
        let at = at as u64 + 1;
        chunks.push(whole(step, asked, json!([part]), at == count, all * at / count.max(1)));
    }
    chunks
}

/// The body of a refusal.
pub(super) fn error(status: u16, text: &str) -> Value {
    let word = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    json!({"error": {"code": status, "message": text, "status": word}})
}
