//! Tools: schemas as OpenAI wants them, and free text for models that know functions only.

use serde_json::{Value, json};

use crate::neutral::NameRules;

/// The one argument of a function that stands for a tool of free text.
pub(crate) const FREE_ARGUMENT: &str = "input";

/// Which names of tools are taken.
pub(crate) const NAMES: NameRules = NameRules::word(64);

/// A schema for a function's arguments: always that of an object.
pub(crate) fn object_schema(schema: &Value) -> Value {
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    schema.entry("type").or_insert_with(|| json!("object"));
    if schema.get("type").and_then(Value::as_str) == Some("object") {
        schema.entry("properties").or_insert_with(|| json!({}));
    }
    Value::Object(schema)
}

/// The schema of a function that stands for a tool of free text. The grammar, if there is one, is told in words.
pub(crate) fn free_schema(format: Option<&Value>) -> Value {
    let grammar = format.and_then(|format| format.get("definition")).and_then(Value::as_str);
    let told = grammar.map_or_else(
        || "The input, as plain text.".to_owned(),
        |grammar| format!("The input, as plain text that this grammar allows:\n{grammar}"),
    );
    json!({
        "type": "object",
        "properties": { FREE_ARGUMENT: { "type": "string", "description": told } },
        "required": [FREE_ARGUMENT],
        "additionalProperties": false,
    })
}

/// Arguments of a function that stands for a tool of free text.
pub(crate) fn free_arguments(input: &str) -> String {
    json!({ FREE_ARGUMENT: input }).to_string()
}

/// The free text in such arguments. Arguments of another form are the text themselves.
pub(crate) fn free_input(arguments: &str) -> String {
    serde_json::from_str::<Value>(arguments)
        .ok()
        .and_then(|value| value.get(FREE_ARGUMENT).and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_else(|| arguments.to_owned())
}

/// An opaque name of an end user or a session, as short as OpenAI wants it: what is longer becomes its digest.
pub(crate) fn short_name(name: &str) -> String {
    use sha2::{Digest as _, Sha256};
    if name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return name.to_owned();
    }
    Sha256::digest(name.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn free_text_comes_back(text in ".{0,80}") {
            prop_assert_eq!(free_input(&free_arguments(&text)), text);
        }

        #[test]
        fn an_opaque_name_is_short(name in ".{0,200}") {
            let short = short_name(&name);
            prop_assert!(short.len() <= 64);
            prop_assert_eq!(short_name(&name), short);
        }
    }

    #[test]
    fn a_schema_is_that_of_an_object() {
        assert_eq!(object_schema(&Value::Null), json!({"type": "object", "properties": {}}));
        let own = json!({"type": "object", "properties": {"a": {}}, "required": ["a"]});
        assert_eq!(object_schema(&own), own);
        assert_eq!(free_input("not json"), "not json");
        assert!(free_schema(Some(&json!({"definition": "start: X"}))).to_string().contains("start: X"));
    }
}
