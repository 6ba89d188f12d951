//! A look at a request: the bounds of what it can use, and what has no price here.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};

use super::NAME;
use crate::{
    CacheUse, Estimate, RequestError, View, anthropic,
    estimate::{IMAGE_TOKENS, REQUEST_TOKENS, TOOLS_TOKENS, most_tokens},
};

/// What marks the borders of a message and of a block.
const BORDER_TOKENS: u64 = 8;

/// A field that stands twice is refused: the provider might read the other one than we do.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    messages: Option<Vec<IgnoredAny>>,
    inference_config: Option<Inference>,
    #[serde(default, rename = "system")]
    _system: Option<IgnoredAny>,
    #[serde(default, rename = "toolConfig")]
    _tool_config: Option<IgnoredAny>,
    #[serde(default, rename = "additionalModelRequestFields")]
    _additional: Option<IgnoredAny>,
    #[serde(default, rename = "serviceTier")]
    _service_tier: Option<IgnoredAny>,
    #[serde(default, rename = "performanceConfig")]
    _performance: Option<IgnoredAny>,
    #[serde(default, rename = "guardrailConfig")]
    _guardrail: Option<IgnoredAny>,
    #[serde(default, rename = "promptVariables")]
    _prompt: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inference {
    max_tokens: Option<u64>,
}

/// Looks at a request.
///
/// # Errors
/// [`RequestError`], with a text for the client.
pub fn view(body: &[u8]) -> Result<View, RequestError> {
    let syntax = |error: serde_json::Error| RequestError::Syntax(NAME, error.to_string());
    let fields: Fields = serde_json::from_slice(body).map_err(syntax)?;
    let whole: Map<String, Value> = serde_json::from_slice(body).map_err(syntax)?;
    let messages = fields.messages.ok_or(RequestError::Missing("messages"))?.len();
    let max_output = fields.inference_config.and_then(|config| config.max_tokens);
    refuse_unbounded(&whole)?;
    let mut walk = Walk { tokens: REQUEST_TOKENS, ..Walk::default() };
    walk.request(&whole);
    let estimate = Estimate {
        input_tokens: (!walk.unbounded).then_some(walk.tokens),
        output_tokens: max_output.unwrap_or(0),
        cache: walk.cache,
    };
    Ok(View { messages, max_output, answers: 1, estimate, ..View::default() })
}

/// The first thing in the request whose cost nothing here bounds.
fn refuse_unbounded(body: &Map<String, Value>) -> Result<(), RequestError> {
    let there = |key: &str| body.get(key).filter(|value| !value.is_null());
    let unpriced = |what: &str| Err(RequestError::Unpriced(what.to_owned()));
    let word = |key: &str, field: &str| there(key).map(|value| value.get(field).and_then(Value::as_str).unwrap_or("?"));
    if word("serviceTier", "type").is_some_and(|tier| tier != "default") {
        return unpriced("`serviceTier` other than `default`");
    }
    if word("performanceConfig", "latency").is_some_and(|latency| latency != "standard") {
        return unpriced("`performanceConfig.latency` other than `standard`");
    }
    if there("guardrailConfig").is_some() {
        return unpriced("`guardrailConfig`");
    }
    if there("promptVariables").is_some() {
        let why = "a prompt that the provider keeps cannot be read here: send the messages themselves";
        return Err(RequestError::Unsupported("`promptVariables`".to_owned(), why));
    }
    let tools = there("toolConfig").and_then(|config| config.get("tools")).and_then(Value::as_array);
    if tools.into_iter().flatten().any(|tool| tool.get("systemTool").is_some()) {
        return unpriced("a `systemTool`, which the provider runs,");
    }
    let Some(additional) = there("additionalModelRequestFields") else { return Ok(()) };
    let additional = additional.as_object().cloned().unwrap_or_default();
    for key in ["max_tokens", "max_tokens_to_sample", "max_completion_tokens", "max_gen_len", "maxTokens", "n"] {
        if additional.contains_key(key) {
            let why = "say the most tokens in `inferenceConfig.maxTokens`";
            return Err(RequestError::Unsupported(format!("`additionalModelRequestFields.{key}`"), why));
        }
    }
    // What goes on to the model is a request of the Messages API: what has no price there has none here.
    let mut like = additional;
    like.insert("model".to_owned(), json!("m"));
    like.insert("max_tokens".to_owned(), json!(1));
    like.insert("messages".to_owned(), json!([]));
    match anthropic::view(Value::Object(like).to_string().as_bytes()) {
        Err(RequestError::Unpriced(what)) => {
            Err(RequestError::Unpriced(format!("{what} in `additionalModelRequestFields`")))
        }
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Walk {
    tokens: u64,
    unbounded: bool,
    cache: CacheUse,
}

impl Walk {
    const fn add(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
    }

    fn request(&mut self, body: &Map<String, Value>) {
        for (key, value) in body {
            match (key.as_str(), value) {
                ("messages", Value::Array(messages)) => {
                    for message in messages {
                        self.add(BORDER_TOKENS);
                        match message.get("content") {
                            Some(Value::Array(content)) => content.iter().for_each(|block| self.block(block)),
                            _ => self.any(message),
                        }
                    }
                }
                ("system", Value::Array(blocks)) => blocks.iter().for_each(|block| self.block(block)),
                ("toolConfig", Value::Object(config)) => {
                    self.add(TOOLS_TOKENS);
                    let tools = config.get("tools").and_then(Value::as_array);
                    tools.into_iter().flatten().for_each(|tool| self.block(tool));
                }
                // Without a place in what the model reads.
                ("inferenceConfig" | "requestMetadata" | "serviceTier" | "performanceConfig", _) => {}
                _ => self.any(value),
            }
        }
    }

    /// A block of content, a tool: an object with one member, named by what it is.
    fn block(&mut self, block: &Value) {
        self.add(BORDER_TOKENS);
        let Value::Object(members) = block else { return self.any(block) };
        for (kind, value) in members {
            match kind.as_str() {
                "image" => self.add(IMAGE_TOKENS),
                "document" => self.document(value),
                "video" | "audio" => self.unbounded = true,
                "toolResult" => {
                    let content = value.get("content").and_then(Value::as_array);
                    content.into_iter().flatten().for_each(|block| self.block(block));
                    self.any(value.get("toolUseId").unwrap_or(&Value::Null));
                }
                "cachePoint" => {
                    let hour = value.get("ttl").and_then(Value::as_str).is_some_and(|ttl| ttl != "5m");
                    self.cache = self.cache.max(if hour { CacheUse::Hour } else { CacheUse::FiveMinutes });
                }
                _ => self.any(value),
            }
        }
    }

    fn document(&mut self, document: &Value) {
        for (key, value) in document.as_object().into_iter().flatten() {
            let text = value.get("text").or_else(|| value.get("content"));
            match (key.as_str(), text) {
                ("source", Some(text)) => self.any(text),
                ("source", None) => self.unbounded = true,
                _ => self.any(value),
            }
        }
    }

    /// Anything else is counted as the text that it is.
    fn any(&mut self, value: &Value) {
        self.add(1);
        match value {
            Value::Null | Value::Bool(_) => self.add(1),
            Value::Number(number) => self.add(number.to_string().len() as u64),
            Value::String(text) => self.add(most_tokens(text)),
            Value::Array(items) => items.iter().for_each(|item| self.any(item)),
            Value::Object(members) => {
                for (key, value) in members {
                    self.add(most_tokens(key));
                    self.any(value);
                }
            }
        }
    }
}
