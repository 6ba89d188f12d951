//! What was said in a model call, in words, whatever the dialect. Of what cannot be read it says nothing, and the bytes are shown
//! as they are.

use stockade_api::domain::ContentKind;
use stockade_runner::told::{self, Told};

/// The longest text of one piece, in characters.
const MAX_CHARS: usize = 2_000;

/// The lines of a request or an answer; nothing if it cannot be read.
pub fn of(kind: ContentKind, bytes: &[u8]) -> Option<Vec<String>> {
    let told = match kind {
        ContentKind::ModelRequest => told::request(bytes),
        ContentKind::ModelResponse => told::answer(bytes),
        _ => None,
    };
    Some(told?.iter().map(said).collect())
}

fn said(told: &Told) -> String {
    let mut shown: String = told.text.chars().take(MAX_CHARS).collect();
    if shown.len() < told.text.len() {
        shown.push('…');
    }
    format!("  {}: {}", told.who, shown.trim_end().replace('\n', "\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_a_streamed_answer_are_read_out() {
        let request = br#"{"model":"m","input":[{"role":"user","content":"hello\nyou"}]}"#;
        assert_eq!(of(ContentKind::ModelRequest, request).unwrap(), ["  user: hello\n    you"]);
        let long = "x".repeat(MAX_CHARS + 1);
        let answer = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{long}\"}}}}]}}\n\n");
        let lines = of(ContentKind::ModelResponse, answer.as_bytes()).unwrap();
        assert!(lines.len() == 1 && lines[0].ends_with("x…") && lines[0].chars().count() < MAX_CHARS + 20);
        assert!(of(ContentKind::ModelRequest, b"\xff").is_none() && of(ContentKind::ModelResponse, b"?").is_none());
    }
}
