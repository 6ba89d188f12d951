//! Running a command by whatever tool the client has.
//!
//! It owns the list of names and forms under which clients offer a shell. It refuses to guess: a request without such a tool
//! has none.

use serde_json::{Map, Value, json};

/// A tool that a request offers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    pub name: String,
    /// The JSON schema of what it takes.
    pub schema: Value,
}

/// The names of shells, in the clients that we know.
const SHELLS: &[&str] = &["bash", "run_shell_command", "exec_command", "shell_command", "shell", "local_shell", "run"];

/// The name of the tool that runs this command, and what it is called with.
pub(super) fn run(tools: &[Tool], command: &str) -> Option<(String, Value)> {
    let tool = SHELLS.iter().find_map(|shell| tools.iter().find(|tool| tool.name.eq_ignore_ascii_case(shell)))?;
    let properties = tool.schema["properties"].as_object();
    let has = |name: &str| properties.is_some_and(|properties| properties.contains_key(name));
    let mut arguments = Map::new();
    if has("cmd") {
        arguments.insert("cmd".to_owned(), command.into());
    } else if tool.schema["properties"]["command"]["type"]
        .as_str()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("array"))
    {
        arguments.insert("command".to_owned(), json!(["bash", "-lc", command]));
    } else {
        arguments.insert("command".to_owned(), command.into());
    }
    for wanted in tool.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !arguments.contains_key(wanted) {
            let value = match wanted {
                "description" => json!("Works on the notes"),
                _ => super::script::smallest(&tool.schema["properties"][wanted]),
            };
            arguments.insert(wanted.to_owned(), value);
        }
    }
    Some((tool.name.clone(), Value::Object(arguments)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, schema: Value) -> Tool {
        Tool { name: name.to_owned(), schema }
    }

    #[test]
    fn each_client_gets_its_own_form() {
        let read = tool("Read", json!({"type": "object"}));
        let bash = tool("Bash", json!({"type": "object", "properties": {"command": {"type": "string"}}}));
        assert_eq!(run(&[read.clone(), bash], "ls"), Some(("Bash".to_owned(), json!({"command": "ls"}))));
        let exec = tool("exec_command", json!({"properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}));
        assert_eq!(run(&[exec], "ls"), Some(("exec_command".to_owned(), json!({"cmd": "ls"}))));
        let list = tool("shell", json!({"properties": {"command": {"type": "array"}}, "required": ["command"]}));
        assert_eq!(run(&[list], "ls"), Some(("shell".to_owned(), json!({"command": ["bash", "-lc", "ls"]}))));
        let told = json!({"properties": {"command": {"type": "STRING"}}, "required": ["command", "description"]});
        let (_, arguments) = run(&[tool("run_shell_command", told)], "ls").unwrap();
        assert_eq!(arguments, json!({"command": "ls", "description": "Works on the notes"}));
        assert_eq!(run(&[read], "ls"), None);
    }
}
