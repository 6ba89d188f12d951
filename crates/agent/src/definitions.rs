//! What the model is told about the tools. A change here is a new version of the prompt.

use serde_json::{Value, json};

use crate::tool::{MAX_DEPTH, MAX_MATCHES, MAX_TIMEOUT_MS};

/// What the model is told about the tools: the `tools` of a Messages request.
pub fn definitions() -> Value {
    let path = |what: &str| json!({"type": "string", "description": what});
    let number = |what: &str, max: u64| json!({"type": "integer", "minimum": 1, "maximum": max, "description": what});
    let tool = |name: &str, description: &str, required: &[&str], properties: Value| {
        json!({
            "name": name,
            "description": description,
            "input_schema": {
                "type": "object", "properties": properties, "required": required, "additionalProperties": false
            },
        })
    };
    json!([
        tool(
            "read",
            "Read a text file of the workspace. Long files are cut: ask for the part you need with from_line and max_lines.",
            &["path"],
            json!({
                "path": path("The file, relative to the workspace."),
                "from_line": {"type": "integer", "minimum": 1, "description": "First line, from 1."},
                "max_lines": {"type": "integer", "minimum": 1, "description": "At most so many lines."},
            }),
        ),
        tool(
            "write",
            "Write a text file whole; folders are made as needed. To change part of a file use edit.",
            &["path", "text"],
            json!({
                "path": path("The file, relative to the workspace."),
                "text": {"type": "string", "description": "Its new content."},
            }),
        ),
        tool(
            "edit",
            "Replace one exact piece of a text file. `old` must occur in it exactly once, white space included: take in as \
             many lines around it as make it unique.",
            &["path", "old", "new"],
            json!({
                "path": path("The file, relative to the workspace."),
                "old": {"type": "string", "description": "What stands there now."},
                "new": {"type": "string", "description": "What shall stand there."},
            }),
        ),
        tool(
            "list",
            "List files and folders, one path a line, folders with a slash.",
            &[],
            json!({
                "path": path("The folder, relative to the workspace; left out: the workspace."),
                "depth": number("How deep; 1 is the folder itself. Default 3.", MAX_DEPTH.into()),
            }),
        ),
        tool(
            "search",
            "Search the contents of files with a regular expression. Answers lines as path:line:text.",
            &["pattern"],
            json!({
                "pattern": {"type": "string", "description": "A regular expression in Rust's syntax: no look-around, no back-references."},
                "path": path("Only below this folder, relative to the workspace."),
                "glob": {"type": "string", "description": "Only files whose path matches, for example **/*.rs."},
                "max_matches": number("At most so many lines. Default 100.", MAX_MATCHES.into()),
            }),
        ),
        tool(
            "run",
            "Run a shell command (sh -c) in the workspace and get its exit status and output. No standard input, no network. \
             Every command starts in the workspace: changes of directory and variables do not last.",
            &["command"],
            json!({
                "command": {"type": "string", "description": "The command."},
                "timeout_ms": number("It is killed after so many milliseconds. Left out: a minute or two.", MAX_TIMEOUT_MS),
            }),
        ),
        tool(
            "finish",
            "Say that the work is done, or that it cannot be done. The project's checks then run; if they fail you get their \
             output and go on. Call it alone, after everything else.",
            &["summary"],
            json!({
                "title": {"type": "string", "description": "One line for the change, at most 72 characters, in the imperative."},
                "summary": {"type": "string", "description": "What you changed and why, for the person who reviews it."},
                "done": {"type": "boolean", "description": "False if you cannot do it; say why in the summary. Default true."},
            }),
        ),
        tool(
            "ask",
            "Ask the person who gave the task. Everything waits for the answer, perhaps for hours: only ask what you cannot \
             find out and cannot sensibly decide.",
            &["question"],
            json!({"question": {"type": "string", "description": "The question, with what the person needs to answer it."}}),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::{Tool, fields_of};

    #[test]
    fn the_definitions_and_the_reader_agree() {
        let definitions = definitions();
        let defined: Vec<_> = definitions.as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
        assert_eq!(defined, Tool::NAMES);
        for definition in definitions.as_array().unwrap() {
            let mut fields: Vec<_> =
                definition["input_schema"]["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            let mut known = fields_of(definition["name"].as_str().unwrap()).unwrap().to_vec();
            fields.sort_unstable();
            known.sort_unstable();
            assert_eq!(fields, known);
        }
    }
}
