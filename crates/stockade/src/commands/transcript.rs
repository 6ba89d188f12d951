//! The transcript for people: what was said, a few lines each. Everything here is untrusted text.

use serde_json::Value;
use stockade_api::site::TranscriptLine;

/// At most so many lines of one answer or output are shown.
const MAX_LINES: usize = 12;
/// At most so many characters of one line are shown.
const MAX_CHARS: usize = 160;

/// What one journal line says, for people.
pub fn lines(line: &TranscriptLine) -> Vec<String> {
    let text = |name: &str| line.input.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("kind") {
        "began" => head("task", text("task")),
        "model" => model(&line.input),
        "model_failed" => head("model error", text("text")),
        "tool" => head(if text("outcome") == "ok" { "   " } else { text("outcome") }, text("text")),
        "harness_ended" if text("outcome") == "done" => head("agent", text("said")),
        "harness_ended" => head(&format!("agent: {}", text("outcome")), text("said")),
        "gates" if line.input.get("passed") == Some(&Value::Bool(true)) => vec!["gates: passed".to_owned()],
        "gates" => head("gates", text("text")),
        "reply" => head("person", text("text")),
        "change_denied" => head("the change was refused", text("title")),
        _ => Vec::new(),
    }
}

fn model(input: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let blocks = input.pointer("/message/content").and_then(Value::as_array);
    for block in blocks.into_iter().flatten() {
        let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("type") {
            "text" => lines.extend(head("agent", text("text"))),
            "thinking" => lines.extend(head("thinks", text("thinking"))),
            "tool_use" => lines.extend(head(&format!("→ {}", text("name")), &input_of(block))),
            _ => {}
        }
    }
    lines
}

/// The one argument that says most, or all of them.
fn input_of(block: &Value) -> String {
    let input = block.get("input").unwrap_or(&Value::Null);
    for name in ["command", "path", "pattern", "question", "summary"] {
        if let Some(text) = input.get(name).and_then(Value::as_str) {
            return text.to_owned();
        }
    }
    input.to_string()
}

/// A word before the first line, the rest indented to it.
fn head(word: &str, text: &str) -> Vec<String> {
    let all: Vec<&str> = text.trim_end().lines().collect();
    let mut lines: Vec<String> = all.iter().take(MAX_LINES).map(|line| cut(line)).collect();
    if all.len() > MAX_LINES {
        lines.push(format!("… {} more lines", all.len() - MAX_LINES));
    }
    let separator = if word.trim().is_empty() { " " } else { ": " };
    for (number, line) in lines.iter_mut().enumerate() {
        *line = if number == 0 { format!("{word}{separator}{line}") } else { format!("    {line}") };
    }
    lines
}

fn cut(line: &str) -> String {
    if line.chars().count() <= MAX_CHARS {
        return line.to_owned();
    }
    line.chars().take(MAX_CHARS).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use stockade_api::domain::Timestamp;

    use super::*;

    fn line(input: Value) -> TranscriptLine {
        TranscriptLine { line: 1, at: Timestamp(0), input }
    }

    #[test]
    fn a_model_s_answer_is_shown_by_its_blocks() {
        let input = serde_json::json!({"kind": "model", "message": {"content": [
            {"type": "text", "text": "I look.\nAnd see."},
            {"type": "tool_use", "name": "run", "input": {"command": "make test"}},
            {"type": "unheard_of"},
        ]}});
        assert_eq!(lines(&line(input)), ["agent: I look.", "    And see.", "→ run: make test"]);
    }

    #[test]
    fn a_long_output_is_cut() {
        let input = serde_json::json!({"kind": "tool", "outcome": "ok", "text": "x\n".repeat(40)});
        let shown = lines(&line(input));
        assert_eq!(shown.len(), MAX_LINES + 1);
        assert_eq!(shown.last().map(String::as_str), Some("    … 28 more lines"));
    }

    #[test]
    fn nonsense_is_no_reason_to_fail() {
        assert!(lines(&line(Value::Null)).is_empty());
        assert!(lines(&line(serde_json::json!({"kind": "model", "message": 5}))).is_empty());
    }
}
