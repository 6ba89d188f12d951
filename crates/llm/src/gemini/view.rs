//! A look at a request: what it may use at most, and whether anything in it has no price.
//!
//! Model and stream stand in the path of this dialect, so the view has neither.

use serde_json::Value;

use super::read::camel;
use crate::{
    RequestError, View,
    estimate::{IMAGE_TOKENS, Walk},
    take::Object,
};

/// Tools that the client runs. Whatever else is in `tools` is run by the provider, for a price of its own.
const OURS: &[&str] = &["functionDeclarations", "computerUse"];
/// Fields of `generationConfig` in which the model reads nothing.
const CONFIG: &[&str] = &["responseSchema", "responseJsonSchema", "stopSequences"];

/// Looks at a request.
///
/// # Errors
/// [`RequestError`], with a text for the client.
pub fn view(body: &[u8]) -> Result<View, RequestError> {
    let syntax = |why: String| RequestError::Syntax("Gemini", why);
    let fields: Object = serde_json::from_slice(body).map_err(|error| syntax(error.to_string()))?;
    let spelled = fields.len();
    let fields = camel(fields);
    if fields.len() != spelled {
        // A provider might read the other one than we do.
        return Err(syntax("a field stands twice, in two spellings".to_owned()));
    }
    let Some(Value::Array(contents)) = fields.get("contents") else { return Err(RequestError::Missing("contents")) };
    let config = match fields.get("generationConfig") {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(config)) => camel(config.clone()),
        Some(_) => return Err(syntax("generationConfig: expected an object".to_owned())),
    };
    unpriced(&fields, &config)?;
    let count = |key: &'static str| match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| syntax(format!("{key}: expected a whole number"))),
    };
    let max_output = count("maxOutputTokens")?;
    let answers = count("candidateCount")?.unwrap_or(1).max(1);
    let mut walk = Walk::empty();
    for (key, value) in &fields {
        match key.as_str() {
            "contents" | "systemInstruction" => contents_of(value, &mut walk)?,
            "generationConfig" => {
                CONFIG.iter().filter_map(|key| config.get(*key)).for_each(|value| walk.value(value));
            }
            // Words for the provider, not for the model.
            "safetySettings" | "labels" | "model" => {}
            // What is kept there was counted when it was made, and is read again.
            "cachedContent" => walk.unbound(),
            "tools" => {
                walk.tools();
                walk.member(key, value);
            }
            _ => walk.member(key, value),
        }
    }
    walk.messages(contents.len());
    Ok(View {
        messages: contents.len(),
        max_output,
        answers,
        estimate: walk.estimate(max_output.unwrap_or(0).saturating_mul(answers)),
        ..View::default()
    })
}

/// Sums up contents, in which pieces that are not text have a price of their own.
fn contents_of(value: &Value, walk: &mut Walk) -> Result<(), RequestError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| contents_of(item, walk)),
        Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), value) {
                    ("parts", Value::Array(parts)) => parts.iter().try_for_each(|part| part_of(part, walk))?,
                    ("parts", part) => part_of(part, walk)?,
                    (key, value) => walk.member(key, value),
                }
            }
            Ok(())
        }
        other => {
            walk.value(other);
            Ok(())
        }
    }
}

fn part_of(part: &Value, walk: &mut Walk) -> Result<(), RequestError> {
    let Value::Object(members) = part else {
        walk.value(part);
        return Ok(());
    };
    for (key, value) in members {
        match (key.as_str(), value) {
            ("inlineData" | "inline_data" | "fileData" | "file_data", Value::Object(data)) => media_of(data, walk)?,
            ("functionResponse" | "function_response", Value::Object(response)) => {
                for (key, value) in response {
                    match (key.as_str(), value) {
                        ("parts", Value::Array(parts)) => parts.iter().try_for_each(|part| part_of(part, walk))?,
                        (key, value) => walk.member(key, value),
                    }
                }
            }
            // Its length says nothing of the thoughts that it stands for, but it bounds them in practice.
            (key, value) => walk.member(key, value),
        }
    }
    Ok(())
}

fn media_of(data: &Object, walk: &mut Walk) -> Result<(), RequestError> {
    let data = camel(data.clone());
    let media_type = data.get("mimeType").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    match media_type.split('/').next() {
        Some("image") => {
            // A picture is cut into tiles; a long one into more of them than a square one.
            walk.add(2 * IMAGE_TOKENS);
            Ok(())
        }
        // Sound costs more than text with some models, and the table has one price.
        Some("audio") => Err(RequestError::Unpriced("sound".to_owned())),
        _ => {
            walk.unbound();
            Ok(())
        }
    }
}

/// The first thing in the request that costs more than its tokens at the listed prices.
fn unpriced(fields: &Object, config: &Object) -> Result<(), RequestError> {
    let refused = |what: String| Err(RequestError::Unpriced(what));
    let one;
    let tools = match fields.get("tools") {
        Some(Value::Array(tools)) => tools.as_slice(),
        None | Some(Value::Null) => &[],
        Some(other) => {
            one = [other.clone()];
            &one
        }
    };
    for tool in tools.iter().filter_map(Value::as_object) {
        let tool = camel(tool.clone());
        if let Some((name, _)) = tool.iter().find(|(name, value)| !OURS.contains(&name.as_str()) && !value.is_null()) {
            return refused(format!("the tool `{name}`, which the provider runs,"));
        }
    }
    let modes = config.get("responseModalities").and_then(Value::as_array);
    let mode = |mode: &&Value| !mode.as_str().is_some_and(|mode| mode.eq_ignore_ascii_case("TEXT"));
    if let Some(mode) = modes.into_iter().flatten().find(mode) {
        return refused(format!("an answer as {mode}"));
    }
    if config.get("speechConfig").is_some_and(|value| !value.is_null()) {
        return refused("`speechConfig`".to_owned());
    }
    let tier = fields.get("serviceTier").filter(|tier| !tier.is_null());
    let ordinary = |tier: &&Value| {
        !tier
            .as_str()
            .is_some_and(|word| ["standard", "flex", "unspecified", ""].contains(&word.to_ascii_lowercase().as_str()))
    };
    if tier.filter(ordinary).is_some() {
        return refused("`serviceTier` other than `standard`".to_owned());
    }
    Ok(())
}
