//! What a text in a request or an answer is, by where it stands.
//!
//! The dialects name things alike enough for one table. Whatever the table does not know is text, and looked at: a block of a
//! kind that was invented yesterday hides nothing. Only what is opaque by its nature is passed over.

use stockade_policy::content::Place;

use super::json::{Document, Span, SpanKind};

/// What a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct What {
    /// Where it belongs.
    pub place: Place,
    /// Whether it is JSON, or a part of it, inside a string.
    pub json: bool,
}

/// Keys whose values only the provider can read: signatures and encrypted reasoning, padding.
const OPAQUE: [&[u8]; 8] = [
    b"signature",
    b"thoughtSignature",
    b"thought_signature",
    b"encrypted_content",
    b"encryptedContent",
    b"redactedContent",
    b"obfuscation",
    b"p",
];
/// Keys whose values may be bytes in base64.
const MEDIA: [&[u8]; 7] = [b"data", b"bytes", b"file_data", b"fileData", b"url", b"image_url", b"b64_json"];

/// Whether a span is something that nobody here can read.
#[must_use]
pub fn opaque(document: &Document<'_>, span: &Span) -> bool {
    let key = document.key(span);
    OPAQUE.contains(&key) && (key != b"p" || span.node == 0)
        || (key == b"data" && document.around(span).next().is_some_and(|around| around.kind == b"redacted_thinking"))
}

/// The part of a span that is base64, if it is bytes in base64.
#[must_use]
pub fn media<'a>(document: &Document<'a>, span: &Span) -> Option<&'a [u8]> {
    const LEAST: usize = 96;
    if span.kind != SpanKind::Text || span.range.len() < LEAST || !MEDIA.contains(&document.key(span)) {
        return None;
    }
    let raw = document.raw(span);
    let body = match raw.strip_prefix(b"data:") {
        Some(rest) => {
            let head = rest.get(..rest.len().min(200))?;
            let comma = memchr::memmem::find(head, b";base64,")?;
            rest.get(comma + 8..)?
        }
        None => raw,
    };
    let letters = |part: &[u8]| {
        part.iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'\\' | b'n'))
    };
    letters(body.get(..LEAST.min(body.len()))?).then_some(body)
}

/// What a span is.
#[must_use]
pub fn what(document: &Document<'_>, span: &Span) -> What {
    let key = document.key(span);
    let json = span.kind == SpanKind::Text && matches!(key, b"arguments" | b"partial_json");
    let is = |place| What { place, json };
    if json {
        return is(Place::ToolArgument);
    }
    match key {
        b"reasoning_content" | b"reasoning" | b"thinking" => return is(Place::Reasoning),
        b"instructions" | b"system" if span.node == 0 => return is(Place::System),
        // An answer of the Responses API repeats the request's.
        b"instructions" if document.around(span).next().is_some_and(|around| around.key == b"response") => {
            return is(Place::System);
        }
        b"input" if document.around(span).next().is_some_and(|around| !around.root) => return is(Place::ToolArgument),
        _ => {}
    }
    for around in document.around(span) {
        if around.kind.ends_with(b"_result")
            || around.kind.ends_with(b"_output")
            || around.kind.ends_with(b"_call_output")
        {
            return is(Place::ToolResult);
        }
        if around.thought || around.kind == b"thinking" || around.kind == b"reasoning" {
            return is(Place::Reasoning);
        }
        match around.key {
            b"functionResponse" | b"function_response" | b"toolResult" => return is(Place::ToolResult),
            b"reasoningContent" | b"reasoning_details" | b"reasoning" => return is(Place::Reasoning),
            b"args" | b"arguments" | b"functionCall" | b"function_call" | b"toolUse" => return is(Place::ToolArgument),
            b"system" | b"systemInstruction" | b"system_instruction" | b"tools" | b"toolConfig" | b"functions" => {
                return is(Place::System);
            }
            // The conversation of a request of Responses is called `input` too, but stands outermost and is an array.
            b"input" if around_is_call(around.key, document, span) => return is(Place::ToolArgument),
            _ => {}
        }
        match around.role {
            b"tool" | b"function" => return is(Place::ToolResult),
            b"system" | b"developer" => return is(Place::System),
            _ => {}
        }
    }
    is(Place::Text)
}

/// Whether an `input` around this span belongs to a call of a tool: it does unless it stands in the outermost object.
fn around_is_call(key: &[u8], document: &Document<'_>, span: &Span) -> bool {
    let path: Vec<_> = document.around(span).collect();
    let depth = path.iter().position(|around| around.key == key).unwrap_or_default();
    path.get(depth + 1).is_some_and(|outer| !outer.root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of the text that says `X`.
    fn place(body: &str) -> Place {
        let document = Document::read(body.as_bytes()).unwrap();
        let span = document.spans.iter().find(|span| document.raw(span).starts_with(b"X")).unwrap();
        assert!(!opaque(&document, span));
        what(&document, span).place
    }

    #[test]
    fn messages() {
        use Place::{Reasoning, System, Text, ToolArgument, ToolResult};
        let block = |block: &str| format!(r#"{{"messages":[{{"role":"user","content":[{block}]}}]}}"#);
        for (body, expected) in [
            (r#"{"system":"X"}"#.to_owned(), System),
            (r#"{"system":[{"type":"text","text":"X"}]}"#.to_owned(), System),
            (r#"{"tools":[{"name":"a","description":"X"}]}"#.to_owned(), System),
            (r#"{"messages":[{"role":"user","content":"X"}]}"#.to_owned(), Text),
            (block(r#"{"type":"text","text":"X"}"#), Text),
            (block(r#"{"type":"tool_use","input":{"a":{"b":["X"]}}}"#), ToolArgument),
            (block(r#"{"content":"X","type":"tool_result"}"#), ToolResult),
            (block(r#"{"type":"tool_result","content":[{"type":"text","text":"X"}]}"#), ToolResult),
            (block(r#"{"type":"thinking","thinking":"X"}"#), Reasoning),
            (block(r#"{"type":"document","source":{"type":"text","data":"X"}}"#), Text),
            (block(r#"{"type":"something_new","whatever":"X"}"#), Text),
        ] {
            assert_eq!(place(&body), expected, "{body}");
        }
    }

    #[test]
    fn the_other_dialects() {
        use Place::{Reasoning, System, Text, ToolArgument, ToolResult};
        for (body, expected) in [
            (r#"{"messages":[{"content":"X","role":"system"}]}"#, System),
            (r#"{"messages":[{"role":"tool","content":"X"}]}"#, ToolResult),
            (r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":"X"}}]}]}"#, ToolArgument),
            (r#"{"messages":[{"role":"assistant","reasoning_content":"X"}]}"#, Reasoning),
            (r#"{"instructions":"X"}"#, System),
            (r#"{"type":"response.created","response":{"instructions":"X"}}"#, System),
            (r#"{"input":[{"type":"tool_use","input":{"instructions":"X"}}]}"#, ToolArgument),
            (r#"{"input":"X"}"#, Text),
            (r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"X"}]}]}"#, Text),
            (r#"{"input":[{"type":"function_call","arguments":"X"}]}"#, ToolArgument),
            (r#"{"input":[{"type":"custom_tool_call","input":"X"}]}"#, ToolArgument),
            (r#"{"input":[{"type":"function_call_output","output":"X"}]}"#, ToolResult),
            (r#"{"input":[{"type":"reasoning","summary":[{"type":"summary_text","text":"X"}]}]}"#, Reasoning),
            (r#"{"systemInstruction":{"parts":[{"text":"X"}]}}"#, System),
            (r#"{"contents":[{"role":"user","parts":[{"text":"X"}]}]}"#, Text),
            (r#"{"contents":[{"parts":[{"text":"X","thought":true}]}]}"#, Reasoning),
            (r#"{"contents":[{"parts":[{"functionCall":{"name":"a","args":{"b":"X"}}}]}]}"#, ToolArgument),
            (r#"{"contents":[{"parts":[{"functionResponse":{"response":{"b":"X"}}}]}]}"#, ToolResult),
            (r#"{"messages":[{"role":"user","content":[{"toolResult":{"content":[{"text":"X"}]}}]}]}"#, ToolResult),
            (r#"{"messages":[{"role":"user","content":[{"toolUse":{"input":{"a":"X"}}}]}]}"#, ToolArgument),
            (r#"{"messages":[{"content":[{"reasoningContent":{"reasoningText":{"text":"X"}}}]}]}"#, Reasoning),
        ] {
            assert_eq!(place(body), expected, "{body}");
        }
    }
}
