//! The conversation: messages in turn, and the request that is made of them.
//!
//! *Invariant:* roles alternate beginning with the user's, no content is empty, and each tool call of an assistant's
//! message has its result in the message directly after it, results first.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{Config, definitions, prompt::SYSTEM};

/// The last so many user messages carry a cache mark; with the one on the system prompt that is one below the
/// provider's bound of four.
const MARKED_MESSAGES: usize = 2;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    User,
    Assistant,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub role: Role,
    /// Not empty.
    pub blocks: Vec<Value>,
    /// Length as JSON.
    pub bytes: u64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Conversation {
    messages: Vec<Message>,
    /// Every identifier of a tool call in it.
    ids: BTreeSet<String>,
    /// What the provider measured: its tokens for so many of our bytes.
    measured: Option<(u64, u64)>,
}

impl Conversation {
    /// Adds to the user's message: the last one if it is the user's.
    pub fn push_user(&mut self, blocks: Vec<Value>) {
        self.push(Role::User, blocks);
    }

    /// Adds what the model said. Nothing if that is nothing.
    pub fn push_assistant(&mut self, blocks: Vec<Value>) {
        for block in &blocks {
            if let (Some("tool_use"), Some(id)) = (text_of(block, "type"), text_of(block, "id")) {
                self.ids.insert(id.to_owned());
            }
        }
        self.push(Role::Assistant, blocks);
    }

    fn push(&mut self, role: Role, blocks: Vec<Value>) {
        if blocks.is_empty() {
            return;
        }
        match self.messages.last_mut() {
            Some(last) if last.role == role => last.blocks.extend(blocks),
            _ => self.messages.push(Message { role, blocks, bytes: 0 }),
        }
        if let Some(last) = self.messages.last_mut() {
            last.weigh();
        }
    }

    /// The identifiers of tool calls that are taken.
    pub const fn ids(&self) -> &BTreeSet<String> {
        &self.ids
    }

    /// For shortening; whoever changes a message weighs it again.
    pub fn messages_mut(&mut self) -> &mut [Message] {
        &mut self.messages
    }

    /// The length of a request in bytes, nearly.
    pub fn bytes(&self) -> u64 {
        let fixed = SYSTEM.len() as u64 + 5000;
        self.messages.iter().fold(fixed, |sum, message| sum.saturating_add(message.bytes))
    }

    /// The provider counted so many tokens in the request that was just answered.
    pub fn measure(&mut self, tokens: u64) {
        if tokens > 0 {
            self.measured = Some((tokens, self.bytes()));
        }
    }

    /// How many tokens `bytes` of a request are, estimated by what the provider measured last, within reason: from an eighth of
    /// a token to one token a byte. Unmeasured, a third.
    pub fn tokens(&self, bytes: u64) -> u64 {
        let (tokens, per) = self.measured.unwrap_or((1, 3));
        let estimate = u128::from(bytes) * u128::from(tokens) / u128::from(per.max(1));
        u64::try_from(estimate).unwrap_or(u64::MAX).clamp(bytes / 8, bytes)
    }

    /// The `messages` of a request, without cache marks.
    pub fn messages(&self) -> Vec<Value> {
        self.messages
            .iter()
            .map(|message| {
                let role = match message.role {
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                json!({"role": role, "content": message.blocks})
            })
            .collect()
    }

    /// A Messages request.
    pub fn request(&self, config: &Config) -> Value {
        let mark = || json!({"type": "ephemeral"});
        let mut messages = self.messages();
        let users = messages.iter_mut().rev().filter(|message| text_of(message, "role") == Some("user"));
        for message in users.take(MARKED_MESSAGES) {
            let last = message.get_mut("content").and_then(Value::as_array_mut).and_then(|blocks| blocks.last_mut());
            if let Some(block) = last.and_then(Value::as_object_mut) {
                block.insert("cache_control".to_owned(), mark());
            }
        }
        let mut body = json!({
            "model": config.model,
            "max_tokens": config.max_output_tokens,
            "stream": true,
            "system": [{"type": "text", "text": SYSTEM, "cache_control": mark()}],
            "tools": definitions(),
            "messages": messages,
        });
        // The provider refuses anything else.
        let thinking = config.thinking_tokens.filter(|tokens| (1024..config.max_output_tokens).contains(tokens));
        if let (Some(tokens), Some(body)) = (thinking, body.as_object_mut()) {
            body.insert("thinking".to_owned(), json!({"type": "enabled", "budget_tokens": tokens}));
        }
        body
    }
}

impl Message {
    /// Measures it again.
    pub fn weigh(&mut self) {
        self.bytes = self.blocks.iter().map(|block| json_len(block).saturating_add(1)).sum::<u64>().saturating_add(40);
    }
}

/// The length of a value as JSON, without making it.
fn json_len(value: &Value) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and a value that could not be written would weigh what was written of it.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// The text in a field.
pub(crate) fn text_of<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}
