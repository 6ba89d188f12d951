//! This dialect's older form of schemas (a part of OpenAPI) as JSON schema.

use serde_json::{Map, Value, json};

/// The same schema as JSON schema.
pub(super) fn json_schema(schema: &Value) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in members {
        let (key, value) = match (key.as_str(), value) {
            ("type", Value::String(word)) => ("type", Value::from(word.to_ascii_lowercase())),
            ("properties", Value::Object(members)) => {
                let members = members.iter().map(|(name, value)| (name.clone(), json_schema(value)));
                ("properties", Value::Object(members.collect()))
            }
            ("items" | "additionalProperties", value) => (key.as_str(), json_schema(value)),
            ("anyOf" | "any_of", Value::Array(items)) => ("anyOf", items.iter().map(json_schema).collect()),
            ("nullable" | "propertyOrdering" | "property_ordering", _) => continue,
            // Counts come as text, for they may be 64 bits long.
            (
                "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties",
                Value::String(text),
            ) => (key.as_str(), text.parse::<u64>().map_or_else(|_| value.clone(), Value::from)),
            (key, value) => (key, value.clone()),
        };
        out.insert(key.to_owned(), value);
    }
    if members.get("nullable").and_then(Value::as_bool) == Some(true)
        && let Some(kind @ Value::String(_)) = out.get("type").cloned()
    {
        out.insert("type".to_owned(), json!([kind, "null"]));
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_becomes_json_schema() {
        let older = json!({"type": "OBJECT", "properties": {
            "type": {"type": "STRING", "nullable": true, "maxLength": "9"},
            "list": {"type": "ARRAY", "items": {"anyOf": [{"type": "INTEGER"}, {"type": "NUMBER"}]}},
        }, "required": ["type"], "propertyOrdering": ["type"]});
        let newer = json!({"type": "object", "properties": {
            "type": {"type": ["string", "null"], "maxLength": 9},
            "list": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "number"}]}},
        }, "required": ["type"]});
        assert_eq!(json_schema(&older), newer);
        assert_eq!(json_schema(&newer), newer);
    }
}
