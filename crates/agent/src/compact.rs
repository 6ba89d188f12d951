//! Shortening the context, deterministically.
//!
//! What is oldest and most easily had again goes first: results of earlier calls, then the texts that earlier calls wrote,
//! then long texts between. Only when that is not enough are recent results cut in their middle. *Invariant:* no block is
//! removed but thinking of earlier turns, so every call keeps its result; the first message (the task) and the
//! thinking of the present turn stay byte for byte.

use serde_json::Value;

use crate::{
    conversation::{Conversation, Message, Role, text_of},
    text::shorten,
};

/// The last so many messages of each role are recent.
const RECENT: usize = 4;
/// Results and texts up to this length are left alone: there is nothing to win.
const SMALL: usize = 256;
/// What a recent result is cut to, in bytes.
const RECENT_RESULT: usize = 4096;
/// The same when the provider has said that the context is too long.
const RECENT_RESULT_HARD: usize = 1024;

/// How much has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// Stop as soon as the context is small enough.
    Target(u64),
    /// The provider refused it: everything that can go.
    Hard,
}

/// What one stage does to one message.
type Stage<'a> = dyn Fn(&mut Message, Place) + 'a;

/// Shortens. Whether anything became shorter.
pub(crate) fn compact(conversation: &mut Conversation, pressure: Pressure) -> bool {
    let before = conversation.bytes();
    let (target, recent_result) = match pressure {
        Pressure::Target(bytes) => (bytes, RECENT_RESULT),
        Pressure::Hard => (0, RECENT_RESULT_HARD),
    };
    let enough = |conversation: &Conversation| conversation.bytes() <= target;
    let stages: [&Stage<'_>; 5] = [
        &|message, place| {
            if place.old {
                each(message, "tool_result", elide_result)
            }
        },
        &|message, place| {
            if place.old {
                each(message, "tool_use", elide_input)
            }
        },
        &|message, place| {
            if place.old {
                each(message, "text", |block| cut(block, "text", RECENT_RESULT_HARD))
            }
        },
        &|message, _| each(message, "tool_result", |block| cut(block, "content", recent_result)),
        &|message, place| {
            if place.earlier_turn {
                message.blocks.retain(|b| !matches!(text_of(b, "type"), Some("thinking" | "redacted_thinking")));
            }
        },
    ];
    for stage in stages {
        for index in 1..conversation.messages_mut().len() {
            if enough(conversation) {
                return conversation.bytes() < before;
            }
            let place = Place::of(conversation.messages_mut(), index);
            if let Some(message) = conversation.messages_mut().get_mut(index) {
                stage(message, place);
                message.weigh();
            }
        }
    }
    conversation.bytes() < before
}

/// Where a message stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Not among the recent ones of its role.
    old: bool,
    /// Before the last message in which the user did more than give results.
    earlier_turn: bool,
}

impl Place {
    fn of(messages: &[Message], index: usize) -> Self {
        let later = messages.get(index + 1..).unwrap_or(&[]);
        let role = messages.get(index).map(|message| message.role);
        Self {
            old: later.iter().filter(|message| Some(message.role) == role).count() >= RECENT,
            earlier_turn: later.iter().any(|message| {
                message.role == Role::User
                    && !message.blocks.iter().any(|block| text_of(block, "type") == Some("tool_result"))
            }),
        }
    }
}

fn each(message: &mut Message, kind: &str, change: impl Fn(&mut Value)) {
    message.blocks.iter_mut().filter(|block| text_of(block, "type") == Some(kind)).for_each(change);
}

fn elide_result(block: &mut Value) {
    if let Some(Value::String(content)) = block.get_mut("content")
        && content.len() > SMALL
    {
        *content = format!("[elided] {} bytes were left out to save room.", content.len());
    }
}

fn elide_input(block: &mut Value) {
    let Some(input) = block.get_mut("input").and_then(Value::as_object_mut) else { return };
    for (_, value) in input.iter_mut() {
        match value {
            Value::String(text) if text.len() <= SMALL => {}
            Value::String(text) => *text = format!("[elided] {} bytes", text.len()),
            // An input that no tool of ours has: hostile or mistaken, and of no use to anybody.
            Value::Array(_) | Value::Object(_) => *value = Value::Null,
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn cut(block: &mut Value, field: &str, max: usize) {
    // The mark that shortening leaves is longer than nothing: what is hardly above the bound stays.
    if let Some(Value::String(text)) = block.get_mut(field)
        && text.len() > max + SMALL
    {
        *text = shorten(text, max);
    }
}
