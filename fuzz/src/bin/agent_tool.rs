//! What a model says that it wants to do: a tool that reads keeps its bounds, and stays below the workspace.
#![no_main]

use serde_json::Value;
use stockade_agent::{
    Tool, tool,
    tool::{MAX_COMMAND, MAX_DEPTH, MAX_MATCHES, MAX_PATH, MAX_TIMEOUT_MS},
    tool_calls,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = serde_json::from_slice::<Value>(bytes) else { return };
    let blocks: Vec<&Value> = message.get("content").and_then(Value::as_array).into_iter().flatten().collect();
    assert!(tool_calls(&message) <= blocks.len());
    for block in blocks.into_iter().chain([&message]) {
        let name = block.get("name").and_then(Value::as_str).unwrap_or_default();
        let Ok(read) = Tool::parse(name, block.get("input").unwrap_or(&Value::Null), 5_000) else { continue };
        assert_eq!(read.name(), name);
        if let Some(path) = read.path() {
            assert!(path.len() <= MAX_PATH && !path.starts_with('/') && !path.contains('\0'), "{path}");
            assert!(path.is_empty() || path.split('/').all(|part| !["", ".", ".."].contains(&part)), "{path}");
        }
        match read {
            Tool::List { depth, .. } => assert!((1..=MAX_DEPTH).contains(&depth)),
            Tool::Search { max_matches, .. } => assert!((1..=MAX_MATCHES).contains(&max_matches)),
            Tool::Run { command, timeout_ms } => {
                assert!(command.len() <= MAX_COMMAND && (1..=MAX_TIMEOUT_MS).contains(&timeout_ms));
            }
            Tool::Finish { title: Some(title), .. } => {
                assert!((1..=tool::MAX_TITLE).contains(&title.chars().count()) && !title.contains(char::is_control));
            }
            _ => {}
        }
    }
});
