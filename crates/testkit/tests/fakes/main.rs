//! The fakes themselves: that they speak, that they are strict, that they fail as they are told to.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    missing_debug_implementations,
    reason = "helpers of tests are not inside test functions, and a test fails by panicking"
)]

mod faults;
mod speak;
mod strict;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};
use stockade_testkit::fakes::{Fake, Kind, Script, Stop, Turn, Usage, reasoning, run, text};

pub const KEY: &str = "key-of-the-test";

/// An answer as bytes.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether it came to its end.
    pub whole: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    /// The data of server-sent events.
    pub fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(self.body.clone()).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// One request on a connection of its own.
pub fn ask(fake: &Fake, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut stream = TcpStream::connect(fake.addr()).unwrap();
    let body = body.to_string();
    let mut head =
        format!("POST {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    // A reset is an end too.
    let read = stream.read_to_end(&mut bytes);
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
    let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let raw = bytes.get(at + 4..).unwrap_or_default();
    let (body, whole) = if head.contains("transfer-encoding: chunked") {
        unchunked(raw)
    } else {
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        (raw.to_vec(), raw.len() == length && status != 0)
    };
    Answer { status, head, body, whole: whole && read.is_ok() }
}

fn unchunked(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = raw.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..at]).unwrap(), 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        let Some(piece) = raw.get(at + 2..at + 2 + size) else { break };
        body.extend_from_slice(piece);
        raw = raw.get(at + 4 + size..).unwrap_or_default();
    }
    (body, false)
}

/// Reads, then runs two commands at once, then ends.
pub fn script() -> Script {
    Script::new(vec![
        Turn::of(vec![reasoning("Look first: “it”."), text("I look."), run("cat it")]),
        Turn::of(vec![run("change it"), run("count it")]),
        Turn::of(vec![text("Done.")]).stopping(Stop::MaxTokens),
    ])
}

/// A provider with that script.
pub fn fake(kind: Kind) -> Fake {
    Fake::start(kind, KEY, script()).unwrap()
}

/// What every turn counts as.
pub fn usage() -> Usage {
    Usage::default()
}

/// Where each provider takes requests, and how the key is shown there.
pub const MESSAGES: (&str, &[(&str, &str)]) =
    ("/v1/messages", &[("x-api-key", KEY), ("anthropic-version", "2023-06-01")]);
pub const BEARER: &[(&str, &str)] = &[("authorization", "Bearer key-of-the-test")];
pub const CHAT: &str = "/v1/chat/completions";
pub const RESPONSES: &str = "/v1/responses";
pub const GOOGLE: &[(&str, &str)] = &[("x-goog-api-key", KEY)];
pub const GEMINI: &str = "/v1beta/models/gemini-3-pro:generateContent";
pub const CONVERSE: &str = "/model/us.anthropic.claude%3A0/converse";

pub fn schema() -> Value {
    json!({"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]})
}

/// The first request of a conversation, in each dialect.
pub fn messages() -> Value {
    json!({"model": "m", "max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 1024},
           "tools": [{"name": "Bash", "input_schema": schema()}], "messages": [{"role": "user", "content": "go"}]})
}

pub fn chat() -> Value {
    json!({"model": "gpt-4.1", "tools": [{"type": "function", "function": {"name": "bash", "parameters": schema()}}],
           "messages": [{"role": "user", "content": "go"}]})
}

pub fn responses() -> Value {
    json!({"model": "gpt-5", "store": false, "include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"},
           "tools": [{"type": "function", "name": "shell", "parameters": schema()}], "input": [{"role": "user", "content": "go"}]})
}

pub fn gemini() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "go"}]}],
           "generationConfig": {"thinkingConfig": {"includeThoughts": true}},
           "tools": [{"functionDeclarations": [{"name": "run_shell_command", "parametersJsonSchema": schema()}]}]})
}

pub fn converse() -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": "go"}]}],
           "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
           "toolConfig": {"tools": [{"toolSpec": {"name": "bash", "inputSchema": {"json": schema()}}}]}})
}
