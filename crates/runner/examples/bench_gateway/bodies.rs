//! The bytes that travel: requests of two sizes and the provider's prepared answers, in two dialects.

/// What the provider is asked for.
pub const MODEL: &str = "claude-sonnet-4-6";
/// In each request's last message: so many digits that are never the same twice.
pub const NONCE: usize = 16;
/// Events of a stream that carry text.
pub const EVENTS: usize = 16;
/// The header that keeps a stream open after its first event.
pub const HOLD: &str = "x-bench-hold";

/// A body and where its nonce is. As in a conversation, all but the end repeats.
pub struct Body {
    pub bytes: Vec<u8>,
    pub nonce: usize,
}

/// A request of about `size` bytes, good for both dialects.
pub fn request(model: &str, size: usize, stream: bool) -> Body {
    let mut text = format!("{{\"model\":\"{model}\",\"stream\":{stream},\"max_tokens\":64,\"messages\":[");
    let line = "The quick brown fox reads \\\"main.rs\\\" and says what it found in line after line of it. ";
    let turn = |text: &mut String, role: &str, size: usize| {
        text.push_str(&format!("{{\"role\":\"{role}\",\"content\":\""));
        while size > text.len() {
            text.push_str(line);
        }
        text.push_str("\"}");
    };
    let turns = (size / 4_096).max(1);
    for at in 0..turns {
        let reach = (size - 150) * (at + 1) / turns;
        turn(&mut text, if at % 2 == 0 { "user" } else { "assistant" }, reach);
        text.push(',');
    }
    text.push_str("{\"role\":\"user\",\"content\":\"call ");
    let nonce = text.len();
    text.push_str(&"0".repeat(NONCE));
    text.push_str("\"}]}");
    Body { bytes: text.into_bytes(), nonce }
}

/// A whole answer of the Messages API.
pub fn messages_whole() -> String {
    format!(
        "{{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"{MODEL}\",\"content\":[{{\"type\":\"text\",\
         \"text\":\"{}\"}}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{{\"input_tokens\":12,\
         \"output_tokens\":16}}}}",
        "one two three four ".repeat(16)
    )
}

/// The events of a stream of the Messages API.
pub fn messages_stream() -> Vec<String> {
    let event = |kind: &str, data: String| format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{data}}}\n\n");
    let mut events = vec![
        event(
            "message_start",
            format!(
                "\"message\":{{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"{MODEL}\",\"content\":[],\
                 \"stop_reason\":null,\"stop_sequence\":null,\"usage\":{{\"input_tokens\":12,\"output_tokens\":1}}}}"
            ),
        ),
        event("content_block_start", "\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}".into()),
    ];
    for _ in 0..EVENTS {
        let delta = "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"one two three four \"}";
        events.push(event("content_block_delta", delta.into()));
    }
    events.push(event("content_block_stop", "\"index\":0".into()));
    let delta = "\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":16}";
    events.push(event("message_delta", delta.into()));
    events.push("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".into());
    events
}

/// A whole answer of the Chat Completions API.
pub fn chat_whole() -> String {
    format!(
        "{{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"{MODEL}\",\"choices\":[{{\
         \"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{}\"}},\"finish_reason\":\"stop\"}}],\
         \"usage\":{{\"prompt_tokens\":12,\"completion_tokens\":16,\"total_tokens\":28}}}}",
        "one two three four ".repeat(16)
    )
}

/// The events of a stream of the Chat Completions API.
pub fn chat_stream() -> Vec<String> {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"{MODEL}\",\
             \"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let mut events = vec![chunk("{\"role\":\"assistant\",\"content\":\"\"}", "null")];
    events.extend((0..EVENTS).map(|_| chunk("{\"content\":\"one two three four \"}", "null")));
    events.push(chunk("{}", "\"stop\""));
    events.push("data: [DONE]\n\n".into());
    events
}
