//! The OpenAPI document: the same operations as the table, and locked.

use std::collections::BTreeSet;

use stockade_server::{OPERATIONS, operation::Rule};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

/// If you are here because this failed: an operation is in the table and not in `openapi.rs`, or the other
/// way round, or its annotation has another path or method.
#[test]
fn the_document_has_the_operations_of_the_table() {
    let document = serde_json::to_value(stockade_server::document()).unwrap();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("responses").is_some() {
                described.insert(format!("{} {path}", method.to_uppercase()));
                assert!(
                    operation.get("x-action").or(operation.get("x-public")).is_some(),
                    "{method} {path} is not in the table"
                );
            }
        }
    }
    let table: BTreeSet<_> = OPERATIONS
        .iter()
        .filter(|operation| !matches!(operation.rule, Rule::Runner(_)))
        .map(|operation| format!("{} {}", operation.method.as_str(), operation.path))
        .collect();
    assert_eq!(described, table);
}

/// If you are here because this failed: you changed the public API. Is that meant, and can those who use it
/// go on? Then `UPDATE_SNAPSHOTS=1 cargo test -p stockade-server openapi` and commit the file.
#[test]
fn the_document_is_the_one_that_was_agreed() {
    let text = format!("{}\n", stockade_server::document().to_pretty_json().unwrap());
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(SNAPSHOT, &text).unwrap();
    }
    let agreed = std::fs::read_to_string(SNAPSHOT).unwrap_or_default();
    assert!(text == agreed, "the OpenAPI document differs from crates/server/openapi.json");
}

/// Identifiers are strings everywhere: no schema knows another form of them.
#[test]
fn identifiers_are_strings() {
    let document = serde_json::to_value(stockade_server::document()).unwrap();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let Some(properties) = schema["properties"].as_object() else { continue };
        for field in ["id", "run", "project", "task", "owner", "user", "runner", "site", "environment", "approval"] {
            if let Some(property) = properties.get(field) {
                let text = property["type"].to_string();
                assert!(text.contains("string"), "{name}.{field} is {property}");
            }
        }
    }
}
