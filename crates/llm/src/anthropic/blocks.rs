//! Parts as content blocks, in a request and in an answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::write::NAMES;
use crate::{
    Dialect, free,
    neutral::{Aliases, ConvertError, Dropped, Media, MediaKind, NameRules, Part, Reasoning, Source},
    order::{self, Piece},
};

/// The identifiers of calls that are taken. The provider names no limit; this is ours.
const IDS: NameRules = NameRules::word(256);

/// What is found out while blocks are written.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Other names.
    pub aliases: Aliases,
    /// What was left out.
    pub dropped: Vec<Dropped>,
    /// How many cache marks there are.
    pub marks: usize,
    /// Whether one of them is for an hour.
    pub hour: bool,
}

impl Blocks {
    /// The identifier of a call, as the provider takes it.
    pub(super) fn id(&mut self, id: &str) -> String {
        self.aliases.alias(id, &IDS)
    }

    /// The blocks of a piece of a turn.
    pub(super) fn piece(&mut self, piece: &Piece<'_>) -> Result<Vec<Value>, ConvertError> {
        let text = |text: &str| vec![json!({"type": "text", "text": text})];
        Ok(match piece {
            Piece::Part(part) => self.block(part)?,
            Piece::Instruction(said) => text(&order::instruction(said)),
            Piece::Opening => text(order::OPENING),
            Piece::Missing { id, .. } => {
                self.drop("tool_use", "missing-result");
                let content = text(order::MISSING);
                vec![json!({"type": "tool_result", "tool_use_id": self.id(id), "is_error": true, "content": content})]
            }
            Piece::Orphan(parts) => {
                self.drop("tool_result", "orphan-result");
                let mut out = Vec::new();
                for part in *parts {
                    out.extend(self.block(part)?);
                }
                out
            }
        })
    }

    /// The blocks of a part of a request: none if it is left out or empty.
    pub(super) fn block(&mut self, part: &Part) -> Result<Vec<Value>, ConvertError> {
        let (mut block, cache) = match part {
            Part::Text { text, .. } | Part::Refusal(text) if text.is_empty() => return Ok(Vec::new()),
            Part::Text { text, cache } => (json!({"type": "text", "text": text}), *cache),
            Part::Refusal(text) => (json!({"type": "text", "text": text}), None),
            Part::Media(media) => {
                if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.drop("detail", "no-counterpart");
                }
                (write_media(media)?, media.cache)
            }
            Part::Reasoning(reasoning) => return Ok(self.thought(reasoning).into_iter().collect()),
            Part::ToolCall { id, name, input, free_form, signature, cache } => {
                if signature.is_some() {
                    self.drop("thought_signature", "foreign-signature");
                }
                let name = self.aliases.alias(name, &NAMES);
                let input = free::object(input, *free_form);
                (json!({"type": "tool_use", "id": self.id(id), "name": name, "input": input}), *cache)
            }
            Part::ToolResult { id, parts, is_error, cache, .. } => {
                let mut content = Vec::new();
                for part in parts {
                    content.extend(self.block(part)?);
                }
                let mut block = json!({"type": "tool_result", "tool_use_id": self.id(id), "content": content});
                if *is_error {
                    block["is_error"] = json!(true);
                }
                (block, *cache)
            }
            Part::Foreign(value) => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("?");
                return Err(ConvertError::Unsupported {
                    what: format!("`{kind}`"),
                    why: "only the provider that made it understands it: leave it out of the conversation",
                });
            }
        };
        self.mark(&mut block, cache);
        Ok(vec![block])
    }

    /// Only what this dialect's providers have signed may come back to them.
    fn thought(&mut self, reasoning: &Reasoning) -> Option<Value> {
        let native = reasoning.signature.as_ref().and_then(|signature| signature.native(Dialect::Messages));
        match native {
            Some(data) if reasoning.redacted => Some(json!({"type": "redacted_thinking", "data": data})),
            Some(data) => Some(json!({"type": "thinking", "thinking": reasoning.text, "signature": data})),
            None => {
                let signed = reasoning.signature.is_some();
                self.drop("reasoning", if signed { "foreign-reasoning" } else { "unsigned-reasoning" });
                None
            }
        }
    }
}

fn unsupported(what: String, why: &'static str) -> ConvertError {
    ConvertError::Unsupported { what, why }
}

fn write_media(media: &Media) -> Result<Value, ConvertError> {
    let kind = match media.kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        MediaKind::Audio => return Err(unsupported("sound".to_owned(), "this model does not hear: send a transcript")),
        MediaKind::Video => return Err(unsupported("a film".to_owned(), "this model sees pictures only: send some")),
    };
    let source = match &media.source {
        Source::Base64 { media_type, data } if kind == "document" && media_type.starts_with("text/") => {
            let text = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or_else(|| {
                unsupported(format!("a document of type {media_type}"), "it does not read as text in base64")
            })?;
            json!({"type": "text", "media_type": "text/plain", "data": text})
        }
        Source::Base64 { media_type, .. } if kind == "document" && media_type != "application/pdf" => {
            let why = "this model reads PDF and plain text: send one of these";
            return Err(unsupported(format!("a document of type {media_type}"), why));
        }
        Source::Base64 { media_type, data } => json!({"type": "base64", "media_type": media_type, "data": data}),
        Source::Text(text) => json!({"type": "text", "media_type": "text/plain", "data": text}),
        Source::Url(url) if url.starts_with("https://") || url.starts_with("http://") => {
            json!({"type": "url", "url": url})
        }
        Source::Url(_) => {
            let why = "the provider fetches http addresses only: send the content itself";
            return Err(unsupported(format!("a {kind} by this address"), why));
        }
        Source::File(_) => {
            let why = "it is kept at another provider: send the content itself";
            return Err(unsupported(format!("a {kind} by its name at the provider"), why));
        }
    };
    let mut block = json!({"type": kind, "source": source});
    if let (Some(name), MediaKind::Document) = (&media.name, media.kind) {
        block["title"] = json!(name);
    }
    Ok(block)
}
