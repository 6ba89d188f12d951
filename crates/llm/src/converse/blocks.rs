//! Parts as blocks of content, in requests and in answers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    Dialect, free,
    neutral::{
        Aliases, CacheMark, ConvertError, Dropped, Media, MediaKind, NameRules, Part, Reasoning, Signature, Source,
    },
};

/// The names of tools and the identifiers of calls that every model behind the service takes.
pub(super) const NAMES: NameRules = NameRules::word(64);
/// The most cache points that a request may have.
pub(super) const MAX_MARKS: usize = 4;

/// Media types by the service's words. The first type of a word is the one that is told.
const FORMATS: &[(MediaKind, &str, &str)] = &[
    (MediaKind::Image, "png", "image/png"),
    (MediaKind::Image, "jpeg", "image/jpeg"),
    (MediaKind::Image, "jpeg", "image/jpg"),
    (MediaKind::Image, "gif", "image/gif"),
    (MediaKind::Image, "webp", "image/webp"),
    (MediaKind::Document, "pdf", "application/pdf"),
    (MediaKind::Document, "csv", "text/csv"),
    (MediaKind::Document, "doc", "application/msword"),
    (MediaKind::Document, "docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (MediaKind::Document, "xls", "application/vnd.ms-excel"),
    (MediaKind::Document, "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (MediaKind::Document, "html", "text/html"),
    (MediaKind::Document, "txt", "text/plain"),
    (MediaKind::Document, "md", "text/markdown"),
    (MediaKind::Video, "mp4", "video/mp4"),
    (MediaKind::Video, "mkv", "video/x-matroska"),
    (MediaKind::Video, "mov", "video/quicktime"),
    (MediaKind::Video, "webm", "video/webm"),
    (MediaKind::Video, "flv", "video/x-flv"),
    (MediaKind::Video, "mpeg", "video/mpeg"),
    (MediaKind::Video, "wmv", "video/x-ms-wmv"),
    (MediaKind::Video, "three_gp", "video/3gpp"),
    (MediaKind::Audio, "mp3", "audio/mpeg"),
    (MediaKind::Audio, "mp3", "audio/mp3"),
    (MediaKind::Audio, "wav", "audio/wav"),
    (MediaKind::Audio, "wav", "audio/x-wav"),
    (MediaKind::Audio, "opus", "audio/opus"),
    (MediaKind::Audio, "aac", "audio/aac"),
    (MediaKind::Audio, "flac", "audio/flac"),
    (MediaKind::Audio, "ogg", "audio/ogg"),
    (MediaKind::Audio, "m4a", "audio/m4a"),
    (MediaKind::Audio, "webm", "audio/webm"),
];

/// The members of the union by kind.
pub(super) const MEDIA: &[(MediaKind, &str)] = &[
    (MediaKind::Image, "image"),
    (MediaKind::Document, "document"),
    (MediaKind::Video, "video"),
    (MediaKind::Audio, "audio"),
];

/// The media type of the service's word for a format.
pub(super) fn media_type(kind: MediaKind, format: &str) -> String {
    let known = FORMATS.iter().find(|(known, word, _)| *known == kind && *word == format);
    known.map_or_else(|| format!("application/{format}"), |(_, _, media_type)| (*media_type).to_owned())
}

/// What is found out while blocks are written.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Other names.
    pub aliases: Aliases,
    /// What was left out.
    pub dropped: Vec<Dropped>,
    /// Whether the model keeps what it read, so that points are understood.
    pub caches: bool,
    /// How many points there are.
    pub marks: usize,
    /// Whether one of them is for an hour.
    pub hour: bool,
    /// The names of documents so far: no two may be alike.
    pub documents: Vec<String>,
}

impl Blocks {
    /// Names something that is left out, once.
    pub(super) fn drop(&mut self, what: &str, rule: &'static str) {
        let dropped = Dropped { what: what.to_owned(), rule };
        if !self.dropped.contains(&dropped) {
            self.dropped.push(dropped);
        }
    }

    /// The point after something that is to be kept.
    pub(super) fn point(&mut self, cache: Option<CacheMark>) -> Option<Value> {
        let cache = cache?;
        if !self.caches {
            self.drop("cache_control", "no-prompt-cache");
            return None;
        }
        if self.marks == MAX_MARKS {
            self.drop("cache_control", "too-many-marks");
            return None;
        }
        self.marks += 1;
        self.hour |= cache == CacheMark::Hour;
        Some(match cache {
            CacheMark::Short => json!({"cachePoint": {"type": "default"}}),
            CacheMark::Hour => json!({"cachePoint": {"type": "default", "ttl": "1h"}}),
        })
    }

    /// The blocks of a part: none if it is left out or blank, two if a point follows.
    pub(super) fn block(&mut self, part: &Part) -> Result<Vec<Value>, ConvertError> {
        let (block, cache) = match part {
            Part::Text { text, cache } if text.trim().is_empty() => {
                // A point after nothing would be one at the beginning; what is before it carries it as well.
                if cache.is_some() {
                    self.drop("cache_control", "mark-on-nothing");
                }
                return Ok(Vec::new());
            }
            Part::Refusal(text) if text.trim().is_empty() => return Ok(Vec::new()),
            Part::Text { text, cache } => (json!({"text": text}), *cache),
            Part::Refusal(text) => (json!({"text": text}), None),
            Part::Media(media) => {
                if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.drop("detail", "no-counterpart");
                }
                (self.media(media)?, media.cache)
            }
            Part::Reasoning(reasoning) => return Ok(self.thought(reasoning).into_iter().collect()),
            Part::ToolCall { id, name, input, free_form, signature, cache } => {
                if signature.is_some() {
                    self.drop("reasoning", "foreign-reasoning");
                }
                let (id, name) = (self.aliases.alias(id, &NAMES), self.aliases.alias(name, &NAMES));
                let input = free::object(input, *free_form);
                (json!({"toolUse": {"toolUseId": id, "name": name, "input": input}}), *cache)
            }
            Part::ToolResult { id, parts, is_error, cache, .. } => (self.result(id, parts, *is_error)?, *cache),
            Part::Foreign(value) => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("?");
                return Err(ConvertError::Unsupported {
                    what: format!("`{kind}`"),
                    why: "only the provider that made it understands it: leave it out of the conversation",
                });
            }
        };
        Ok(std::iter::once(block).chain(self.point(cache)).collect())
    }

    fn result(&mut self, id: &str, parts: &[Part], is_error: bool) -> Result<Value, ConvertError> {
        let mut content = Vec::new();
        for part in parts {
            // Points stand after the whole result.
            content.extend(self.block(part)?.into_iter().filter(|block| block.get("cachePoint").is_none()));
        }
        if content.is_empty() {
            content.push(json!({"text": "(no output)"}));
        }
        let mut result = json!({"toolUseId": self.aliases.alias(id, &NAMES), "content": content});
        if is_error {
            result["status"] = json!("error");
        }
        Ok(json!({"toolResult": result}))
    }

    /// Only what this dialect's providers have signed may come back to them.
    fn thought(&mut self, reasoning: &Reasoning) -> Option<Value> {
        let native = reasoning.signature.as_ref().and_then(|signature| signature.native(Dialect::Converse));
        match native {
            Some(data) if reasoning.redacted => Some(json!({"reasoningContent": {"redactedContent": data}})),
            Some(data) => {
                Some(json!({"reasoningContent": {"reasoningText": {"text": reasoning.text, "signature": data}}}))
            }
            None => {
                let signed = reasoning.signature.is_some();
                self.drop("reasoning", if signed { "foreign-reasoning" } else { "unsigned-reasoning" });
                None
            }
        }
    }

    fn media(&mut self, media: &Media) -> Result<Value, ConvertError> {
        let kind = MEDIA.iter().find(|(kind, _)| *kind == media.kind).map_or("image", |(_, word)| word);
        let (format, source) = match &media.source {
            Source::Base64 { media_type, data } => {
                let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
                let known = FORMATS.iter().find(|(of, _, known)| *of == media.kind && *known == essence);
                let Some((_, format, _)) = known else {
                    let why = "this service has no word for that form: send another";
                    return Err(unsupported(format!("{kind} of the type {media_type}"), why));
                };
                (*format, json!({"bytes": data}))
            }
            Source::Text(text) => ("txt", json!({"bytes": STANDARD.encode(text)})),
            Source::Url(at) | Source::File(at) if at.starts_with("s3://") => {
                let ending = at.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
                let known = FORMATS.iter().find(|(of, word, _)| *of == media.kind && (*word == ending));
                let format = known.map(|(_, word, _)| *word).or((ending == "jpg").then_some("jpeg"));
                let why = "its name must end with its form, such as `.png` or `.pdf`";
                let format = format.ok_or_else(|| unsupported(format!("{kind} by this address"), why))?;
                (format, json!({"s3Location": {"uri": at}}))
            }
            Source::Url(_) => {
                let why = "this service fetches nothing but s3:// addresses: send the content itself";
                return Err(unsupported(format!("{kind} by address"), why));
            }
            Source::File(_) => {
                let why = "it is kept at another provider: send the content itself";
                return Err(unsupported(format!("{kind} by its name at the provider"), why));
            }
        };
        let mut value = json!({"format": format, "source": source});
        if media.kind == MediaKind::Document {
            value["name"] = json!(self.document(media.name.as_deref()));
        }
        Ok(json!({ kind: value }))
    }

    /// A document's name as the service takes it: letters, digits, single spaces, `-`, `(`, `)`, `[` and `]`, none twice.
    fn document(&mut self, name: Option<&str>) -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-()[]".contains(c);
        let plain: String = name.unwrap_or_default().chars().map(|c| if allowed(c) { c } else { ' ' }).collect();
        let plain: Vec<&str> = plain.split_whitespace().collect();
        let plain: String = plain.join(" ").chars().take(150).collect();
        let base = if plain.is_empty() { "document".to_owned() } else { plain };
        let mut name = base.clone();
        let mut count = 2_u32;
        while self.documents.contains(&name) {
            name = format!("{base} ({count})");
            count = count.saturating_add(1);
        }
        self.documents.push(name.clone());
        name
    }
}

/// The signature of a redacted thought as the wire carries it: base64, which for one of ours holds the packed text.
pub(super) fn redacted(data: &str) -> Option<Signature> {
    let decoded = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.filter(|text| text.starts_with("stk1-")) {
        Some(packed) => Signature::read(Dialect::Converse, &packed),
        None => Some(Signature::new(Dialect::Converse, data)),
    }
}

/// A redacted thought for a client: as it came, or packed and in base64.
pub(super) fn redacted_for_client(signature: &Signature) -> String {
    signature.native(Dialect::Converse).map_or_else(|| STANDARD.encode(signature.packed()), str::to_owned)
}

fn unsupported(what: String, why: &'static str) -> ConvertError {
    ConvertError::Unsupported { what, why }
}
