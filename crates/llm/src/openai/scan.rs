//! One pass over a body: where the model's name stands, how much is read at most, and what has no price.
//!
//! No tree is made of the body: large conversations go by once. A field that stands twice on top is refused: a provider
//! might read the other one than we do. Within the conversation every copy counts.

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Range};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    CacheUse, Estimate, MAX_MODEL_NAME, RequestError, Tier,
    estimate::{REQUEST_TOKENS, TOOLS_TOKENS, most_tokens},
};

/// What a picture of any size is read as, at most: ten thousand patches of the newest models, with their factor.
pub(crate) const IMAGE_TOKENS: u64 = 15_000;
/// The same for the one model that counts pictures in tiles of thousands.
const TILED_IMAGE_TOKENS: u64 = 50_000;
/// What marks the borders of a value, and of a message.
const VALUE_TOKENS: u64 = 1;
const MESSAGE_TOKENS: u64 = 8;
/// The most fields on top of a body.
const MAX_FIELDS: usize = 200;

/// What one pass found.
#[derive(Debug, Default)]
pub(crate) struct Scan<'a> {
    /// Small fields that are acted on, as they stand.
    pub fields: BTreeMap<&'static str, &'a RawValue>,
    /// What the pass summed up.
    pub sums: Sums,
}

/// What the pass sums up.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    tokens: u64,
    images: u64,
    /// Whether only the context window bounds what is read.
    pub unbounded: bool,
    /// How many messages or items there are.
    pub messages: usize,
    /// The types of the tools.
    pub tools: Vec<String>,
    /// The first thing in the conversation that has no price.
    pub unpriced: Option<&'static str>,
    /// Whether something is to be kept for longer than usual.
    pub kept_long: bool,
}

/// Which fields a dialect has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// What the API is called in sentences.
    pub title: &'static str,
    /// The field with the conversation.
    pub conversation: &'static str,
    /// Fields that are kept as they stand. Those that the model reads are counted, too.
    pub kept: &'static [&'static str],
    /// Those of them that have no place in what the model reads.
    pub silent: &'static [&'static str],
}

impl<'a> Scan<'a> {
    /// Goes over a body once.
    pub fn of(body: &'a [u8], form: &Form) -> Result<Self, RequestError> {
        let syntax = |error: serde_json::Error| RequestError::Syntax(form.title, error.to_string());
        let mut scan = Self::default();
        scan.sums.tokens = REQUEST_TOKENS;
        let mut reader = serde_json::Deserializer::from_slice(body);
        reader.deserialize_map(Top { scan: &mut scan, form }).map_err(syntax)?;
        reader.end().map_err(syntax)?;
        Ok(scan)
    }

    /// The model's name, and where it stands with its quotes.
    pub fn model(&self, body: &[u8]) -> Result<(String, Range<usize>), RequestError> {
        let raw = self.fields.get("model").ok_or(RequestError::Missing("model"))?.get();
        let model: String = serde_json::from_str(raw).map_err(|_| RequestError::ModelName)?;
        if model.is_empty() || model.len() > MAX_MODEL_NAME || model.chars().any(char::is_control) {
            return Err(RequestError::ModelName);
        }
        Ok((model, place(body, raw)))
    }

    /// A small field, read. A field that is `null` is as good as absent.
    pub fn read<T: serde::Deserialize<'a>>(&self, form: &Form, key: &'static str) -> Result<Option<T>, RequestError> {
        let Some(raw) = self.fields.get(key) else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|error| RequestError::Syntax(form.title, format!("{key}: {error}")))
    }

    /// Whether a field is there and says something.
    pub fn says(&self, key: &str) -> bool {
        self.fields.get(key).is_some_and(|raw| !matches!(raw.get(), "null" | "false" | "{}" | "[]" | "\"\""))
    }

    /// How the request is to be served.
    pub fn tier(&self) -> Result<Tier, RequestError> {
        let Some(raw) = self.fields.get("service_tier") else { return Ok(Tier::Standard) };
        match serde_json::from_str::<Option<String>>(raw.get()).ok() {
            Some(None) => Ok(Tier::Standard),
            Some(Some(word)) => match word.as_str() {
                "auto" | "default" | "standard" => Ok(Tier::Standard),
                "flex" => Ok(Tier::Flex),
                "priority" => Ok(Tier::Priority),
                "batch" => Ok(Tier::Batch),
                _ => Err(RequestError::Unpriced("this `service_tier`".to_owned())),
            },
            None => Err(RequestError::Unpriced("this `service_tier`".to_owned())),
        }
    }

    /// What the body says of the client's session: the first of these fields that is a text.
    pub fn session(&self, keys: &[&'static str]) -> Option<String> {
        let text = |key: &&'static str| {
            let raw = self.fields.get(key)?;
            serde_json::from_str::<String>(raw.get()).ok().filter(|text| !text.is_empty())
        };
        keys.iter().find_map(text)
    }

    /// The most that is read, for a model of this name, with so many tokens to write.
    pub fn estimate(&self, model: &str, output_tokens: u64) -> Estimate {
        let image = if model.contains("4o-mini") { TILED_IMAGE_TOKENS } else { IMAGE_TOKENS };
        let tokens = self.sums.tokens.saturating_add(self.sums.images.saturating_mul(image));
        // The newest models write to a cache without being asked, and that has a price.
        let cache = if self.sums.kept_long { CacheUse::Hour } else { CacheUse::FiveMinutes };
        Estimate { input_tokens: (!self.sums.unbounded).then_some(tokens), output_tokens, cache }
    }
}

/// Where a value that borrows from `body` stands in it.
pub(crate) fn place(body: &[u8], raw: &str) -> Range<usize> {
    let at = (raw.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    at..at.saturating_add(raw.len())
}

/// A field's name, not copied if it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct Top<'s, 'a> {
    scan: &'s mut Scan<'a>,
    form: &'s Form,
}

impl<'a> Visitor<'a> for Top<'_, 'a> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let mut seen: Vec<Cow<'a, str>> = Vec::new();
        while let Some(Key(key)) = map.next_key::<Key<'a>>()? {
            if seen.contains(&key) {
                return Err(serde::de::Error::custom(format_args!("duplicate field `{}`", key.escape_debug())));
            }
            if seen.len() >= MAX_FIELDS {
                return Err(serde::de::Error::custom("more fields than any request has"));
            }
            let sums = &mut self.scan.sums;
            if let Some(known) = self.form.kept.iter().find(|known| **known == key) {
                let raw: &'a RawValue = map.next_value()?;
                if !self.form.silent.contains(known) {
                    sums.add(most_tokens(raw.get()).saturating_add(VALUE_TOKENS));
                }
                self.scan.fields.insert(known, raw);
            } else if key == self.form.conversation {
                map.next_value_seed(Walk { sums, place: Place::List })?;
            } else if key == "tools" {
                sums.add(TOOLS_TOKENS);
                map.next_value_seed(Walk { sums, place: Place::Tools })?;
            } else {
                sums.add(most_tokens(&key));
                map.next_value_seed(Walk { sums, place: Place::Text })?;
            }
            seen.push(key);
        }
        Ok(())
    }
}

impl Sums {
    const fn add(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
    }
}

/// Where in the body a value stands: decides what it is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Anything that the model reads as text.
    Text,
    /// The conversation itself.
    List,
    /// Somewhere within the conversation.
    Talk,
    /// The type of something within the conversation.
    TalkType,
    /// A picture: its address, or an object that has it.
    Image,
    /// How long something is to be kept.
    Keep,
    /// A list of tools, and a tool.
    Tools,
    /// The type of a tool.
    ToolType,
}

struct Walk<'s> {
    sums: &'s mut Sums,
    place: Place,
}

impl<'a> DeserializeSeed<'a> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<(), D::Error> {
        self.sums.add(VALUE_TOKENS);
        from.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Walk<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.sums.add(1);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.sums.add(1);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.sums.add(u64::from(number.checked_ilog10().unwrap_or(0)) + 1);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.sums.add(u64::from(number.unsigned_abs().checked_ilog10().unwrap_or(0)) + 2);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        // As many digits as a number needs at most.
        self.sums.add(24);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        match self.place {
            Place::Image => {
                self.sums.images = self.sums.images.saturating_add(1);
                if text.starts_with("data:") {
                    return Ok(());
                }
            }
            Place::List => self.sums.messages = 1,
            Place::ToolType => self.sums.tools.push(text.chars().take(64).collect()),
            Place::Keep => self.sums.kept_long |= text != "30m",
            Place::TalkType => match text {
                "input_audio" => self.sums.unpriced = self.sums.unpriced.or(Some("sound in the request")),
                "item_reference" => self.sums.unbounded = true,
                _ => {}
            },
            Place::Text | Place::Talk | Place::Tools => {}
        }
        self.sums.add(most_tokens(text));
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<(), S::Error> {
        let mut items = 0usize;
        let inner = if self.place == Place::List { Place::Talk } else { self.place };
        while seq.next_element_seed(Walk { sums: &mut *self.sums, place: inner })?.is_some() {
            items += 1;
        }
        if self.place == Place::List {
            self.sums.messages = items;
            self.sums.add((items as u64).saturating_mul(MESSAGE_TOKENS));
        }
        Ok(())
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Key(key)) = map.next_key::<Key<'a>>()? {
            self.sums.add(most_tokens(&key));
            let place = match (self.place, &*key) {
                (Place::Talk, "image_url") | (Place::Image, "url") => Place::Image,
                (Place::Talk, "type") => Place::TalkType,
                (Place::Talk, "prompt_cache_breakpoint") => Place::Keep,
                (Place::Keep, "ttl") => Place::Keep,
                // Tools that come with an item of their own.
                (Place::Talk, "tools") => Place::Tools,
                (Place::Talk, "file_id" | "file_url" | "file_data") => {
                    self.sums.unbounded = true;
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                (Place::Tools, "type") => Place::ToolType,
                // The tools of a namespace.
                (Place::Tools, "tools") => Place::Tools,
                (Place::Talk | Place::List, _) => Place::Talk,
                _ => Place::Text,
            };
            map.next_value_seed(Walk { sums: &mut *self.sums, place })?;
        }
        Ok(())
    }
}
