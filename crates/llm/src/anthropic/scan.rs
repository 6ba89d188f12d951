//! One pass over a body: the few fields that are acted on, and the most that the request can use.
//!
//! No tree is made of the conversation: a body of 100 KB goes by once. What counts as a picture or a document is the same as in
//! [`crate::estimate::Walk`], which small fields still go through; a member that stands twice counts twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value, value::RawValue};

use crate::{
    CacheUse, Estimate,
    estimate::{IMAGE_TOKENS, MESSAGE_TOKENS, REQUEST_TOKENS, TOOLS_TOKENS, VALUE_TOKENS, Walk, most_tokens},
    take::Object,
};

/// Fields that are small, and acted on as they are.
const SMALL: &[&str] = &[
    "speed",
    "inference_geo",
    "context_management",
    "mcp_servers",
    "container",
    "fallbacks",
    "service_tier",
    "metadata",
];
/// Fields that may stand only once: a provider might read the other one than we do.
const ONCE: &[&str] = &["model", "max_tokens", "stream", "messages", "tools", "system"];

/// What one pass found.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    pub model: Option<&'a RawValue>,
    pub max_tokens: Option<u64>,
    pub stream: Option<bool>,
    pub messages: Option<usize>,
    /// The types of tools that have one; `?` for what is no text.
    pub tools: Vec<String>,
    /// Small fields as they are.
    pub small: Object,
    sum: Sum,
}

impl<'a> Scan<'a> {
    /// Goes over a body once.
    pub(super) fn of(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        let scan = reader.deserialize_map(Top)?;
        reader.end()?;
        Ok(scan)
    }

    /// The most that the request can use.
    pub(super) fn estimate(&self, max_tokens: u64) -> Estimate {
        let rest = Walk::request(&self.small).estimate(max_tokens);
        Estimate {
            input_tokens: rest.input_tokens.filter(|_| !self.sum.unbounded).map(|tokens| {
                // Both begin with what every request costs.
                tokens.saturating_sub(REQUEST_TOKENS).saturating_add(self.sum.tokens)
            }),
            output_tokens: max_tokens,
            cache: self.sum.cache.max(rest.cache),
        }
    }
}

struct Top;

impl<'de> Visitor<'de> for Top {
    type Value = Scan<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scan<'de>, A::Error> {
        let mut scan = Scan { sum: Sum { tokens: REQUEST_TOKENS, ..Sum::default() }, ..Scan::default() };
        let mut seen: Vec<&'static str> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(once) = SMALL.iter().chain(ONCE).copied().find(|name| *name == key) {
                if seen.contains(&once) {
                    return Err(A::Error::duplicate_field(once));
                }
                seen.push(once);
            }
            match key.as_str() {
                "model" => scan.model = map.next_value::<Option<&RawValue>>()?.filter(|raw| raw.get() != "null"),
                "max_tokens" => scan.max_tokens = map.next_value()?,
                "stream" => scan.stream = map.next_value()?,
                "temperature" | "top_p" | "top_k" => drop(map.next_value::<IgnoredAny>()?),
                "messages" => {
                    scan.sum.add(most_tokens(&key));
                    let (count, sum) = map.next_value_seed(List { types: None })?;
                    scan.messages = count;
                    scan.sum.add((count.unwrap_or(0) as u64).saturating_mul(MESSAGE_TOKENS));
                    scan.sum.with(&sum);
                }
                "tools" => {
                    scan.sum.add(TOOLS_TOKENS + most_tokens(&key));
                    let (_, sum) = map.next_value_seed(List { types: Some(&mut scan.tools) })?;
                    scan.sum.with(&sum);
                }
                name if SMALL.contains(&name) => drop(scan.small.insert(key, map.next_value::<Value>()?)),
                _ => {
                    let sum = map.next_value_seed(Any::default())?;
                    scan.sum.member(&Key { tokens: most_tokens(&key), name: Name::of(&key) }, &sum);
                }
            }
        }
        Ok(scan)
    }
}

/// A list, of which is told how long it is and, if wanted, what its elements say of their types.
struct List<'t> {
    types: Option<&'t mut Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = (Option<usize>, Sum);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = (Option<usize>, Sum);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok((None, Sum::of(VALUE_TOKENS + 1)))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut count, mut sum) = (0, Sum::of(VALUE_TOKENS));
        loop {
            let mut said = None;
            let told = self.types.is_some().then_some(&mut said);
            let Some(one) = list.next_element_seed(Any { told })? else { break };
            count += 1;
            sum.with(&one);
            if let (Some(types), Some(said)) = (&mut self.types, said) {
                types.push(said);
            }
        }
        Ok((Some(count), sum))
    }
}

/// What a name or a text means, where it means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Name {
    #[default]
    Other,
    Type,
    Source,
    CacheControl,
    Ttl,
    Image,
    Document,
    /// `base64`, `url` or `file`.
    Elsewhere,
    FiveMinutes,
}

impl Name {
    fn of(text: &str) -> Self {
        match text {
            "type" => Self::Type,
            "source" => Self::Source,
            "cache_control" => Self::CacheControl,
            "ttl" => Self::Ttl,
            "image" => Self::Image,
            "document" => Self::Document,
            "base64" | "url" | "file" => Self::Elsewhere,
            "5m" => Self::FiveMinutes,
            _ => Self::Other,
        }
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Plain,
    Text(Name),
    /// What its members `type` and `ttl` say, if they are texts.
    Object {
        says: Option<Name>,
        ttl: Option<Name>,
    },
}

/// What a value adds.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    tokens: u64,
    unbounded: bool,
    cache: CacheUse,
    kind: Kind,
}

impl Sum {
    fn of(tokens: u64) -> Self {
        Self { tokens, ..Self::default() }
    }

    const fn add(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// The value stands in this one.
    fn with(&mut self, value: &Self) {
        self.add(value.tokens);
        self.unbounded |= value.unbounded;
        self.cache = self.cache.max(value.cache);
    }

    fn member(&mut self, key: &Key, value: &Self) {
        if let (Name::CacheControl, Kind::Object { ttl, .. }) = (key.name, value.kind) {
            let hour = ttl.is_some_and(|ttl| ttl != Name::FiveMinutes);
            self.cache = self.cache.max(if hour { CacheUse::Hour } else { CacheUse::FiveMinutes });
        }
        self.add(key.tokens);
        self.with(value);
    }
}

struct Key {
    tokens: u64,
    name: Name,
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, text: &str) -> Result<Key, E> {
        Ok(Key { tokens: most_tokens(text), name: Name::of(text) })
    }
}

/// Anything. `told` is where the value of its member `type` goes.
#[derive(Default)]
struct Any<'t> {
    told: Option<&'t mut Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Sum;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Sum, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Sum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Sum, E> {
        Ok(Sum::of(VALUE_TOKENS + 1))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sum, E> {
        Ok(Sum::of(VALUE_TOKENS + 1))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Sum, E> {
        Ok(Sum::of(VALUE_TOKENS + digits(number)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Sum, E> {
        Ok(Sum::of(VALUE_TOKENS + u64::from(number < 0) + digits(number.unsigned_abs())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Sum, E> {
        let len = Number::from_f64(number).map_or(1, |number| number.to_string().len());
        Ok(Sum::of(VALUE_TOKENS + len as u64))
    }

    fn visit_str<E>(self, text: &str) -> Result<Sum, E> {
        Ok(Sum { tokens: VALUE_TOKENS + most_tokens(text), kind: Kind::Text(Name::of(text)), ..Sum::default() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sum, A::Error> {
        let mut sum = Sum::of(VALUE_TOKENS);
        while let Some(one) = list.next_element_seed(Any::default())? {
            sum.with(&one);
        }
        Ok(sum)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Sum, A::Error> {
        let mut sum = Sum::of(VALUE_TOKENS);
        let (mut says, mut ttl, mut source) = (None, None, None);
        while let Some(key) = map.next_key_seed(KeySeed)? {
            if let (Name::Type, Some(told)) = (key.name, self.told.as_deref_mut()) {
                let value: Value = map.next_value()?;
                says = value.as_str().map(Name::of);
                *told = Some(value.as_str().unwrap_or("?").to_owned());
                sum.add(key.tokens);
                // A type is short in every request that is one; what is longer is counted all the same.
                let mut walk = Walk::default();
                walk.member("", &value);
                sum.with(&Sum::of(walk.estimate(0).input_tokens.unwrap_or(u64::MAX)));
                continue;
            }
            let value = map.next_value_seed(Any::default())?;
            let text = if let Kind::Text(name) = value.kind { Some(name) } else { None };
            match key.name {
                Name::Type => says = text,
                Name::Ttl => ttl = text,
                // It counts only if it is no picture: which may be known later.
                Name::Source => {
                    if let Some((key, value)) = source.replace((key, value)) {
                        sum.member(&key, &value);
                    }
                    continue;
                }
                _ => {}
            }
            sum.member(&key, &value);
        }
        if let Some((key, value)) = source {
            let elsewhere = matches!(value.kind, Kind::Object { says: Some(Name::Elsewhere), .. });
            match says {
                Some(Name::Image) if elsewhere => sum.add(IMAGE_TOKENS),
                Some(Name::Document) if elsewhere => sum.unbounded = true,
                _ => sum.member(&key, &value),
            }
        }
        sum.kind = Kind::Object { says, ttl };
        Ok(sum)
    }
}

const fn digits(number: u64) -> u64 {
    match number.checked_ilog10() {
        Some(log) => log as u64 + 1,
        None => 1,
    }
}
