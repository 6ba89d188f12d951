//! Where the texts of a JSON document stand.
//!
//! Owns one pass over the bytes that finds every string, key and long number with the object that it belongs to ([`Document`]), and
//! taking escapes away so that places map back ([`Unescaped`]). It refuses: values, and documents that are not whole JSON.
//!
//! *Invariant:* nothing that any reader of JSON would take for a string is missing. Keys that stand twice are both there.

use std::ops::Range;

use memchr::memchr2;

/// How deep values may be nested.
pub const MAX_DEPTH: usize = 128;
/// The most strings, and the most objects and arrays, of one document.
pub const MAX_PARTS: usize = 1_000_000;
/// How many numbers of the outermost object are remembered.
const MAX_NUMBERS: usize = 64;

/// Why bytes are no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not read as JSON: {what} at byte {at}")]
pub struct Unreadable {
    /// What is wrong.
    pub what: &'static str,
    /// Where.
    pub at: usize,
}

/// An object or array.
#[derive(Debug, Clone, Copy, Default)]
pub struct Node {
    parent: Option<u32>,
    /// The key under which it stands in its parent, without quotes; empty in an array.
    key: (u32, u32),
    /// The value of `type`, `role` in it, without quotes.
    kind: (u32, u32),
    role: (u32, u32),
    /// Whether `thought` in it is true.
    thought: bool,
    /// The value of `index` in it.
    index: Option<u32>,
}

/// What a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A string's content.
    Text,
    /// A key.
    Key,
    /// A number of eight digits or more: it may be a card's.
    Number,
}

/// A string, key or number.
#[derive(Debug, Clone)]
pub struct Span {
    /// The object or array that it stands in.
    pub node: u32,
    /// Its key there, as bytes of the document; empty in an array.
    pub key: Range<usize>,
    /// Its content, without quotes, as bytes of the document.
    pub range: Range<usize>,
    /// What it is.
    pub kind: SpanKind,
    /// Whether it has escapes.
    pub escaped: bool,
    /// Whether it has escapes that may stand for letters (`\u0041`, `\/`).
    pub hidden: bool,
}

/// A document, taken apart.
#[derive(Debug)]
pub struct Document<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    /// All strings, keys and long numbers, in their order.
    pub spans: Vec<Span>,
    /// The numbers of the outermost object, with their keys.
    numbers: Vec<(Range<usize>, Range<usize>)>,
}

impl<'a> Document<'a> {
    /// Takes a document apart.
    ///
    /// # Errors
    /// If it is not one whole value of JSON in UTF-8, or nested too deep.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        if let Err(error) = std::str::from_utf8(bytes) {
            return Err(Unreadable { what: "a byte that is no UTF-8", at: error.valid_up_to() });
        }
        if u32::try_from(bytes.len()).is_err() {
            return Err(Unreadable { what: "too many bytes", at: bytes.len() });
        }
        let document = Self { bytes, nodes: Vec::new(), spans: Vec::with_capacity(64), numbers: Vec::new() };
        let mut reader = Reader { document, at: 0, open: Vec::new() };
        reader.read()?;
        Ok(reader.document)
    }

    /// The bytes that it was read from.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn cut(&self, (from, to): (u32, u32)) -> &'a [u8] {
        self.bytes.get(from as usize..to as usize).unwrap_or_default()
    }

    /// The key of a span.
    #[must_use]
    pub fn key(&self, span: &Span) -> &'a [u8] {
        self.bytes.get(span.key.clone()).unwrap_or_default()
    }

    /// The content of a span, as it stands.
    #[must_use]
    pub fn raw(&self, span: &Span) -> &'a [u8] {
        self.bytes.get(span.range.clone()).unwrap_or_default()
    }

    /// The objects and arrays around a span, from the innermost out.
    pub fn around(&self, span: &Span) -> impl Iterator<Item = Around<'a>> + '_ {
        let mut next = Some(span.node);
        std::iter::from_fn(move || {
            let node = self.nodes.get(next? as usize)?;
            next = node.parent;
            Some(Around {
                key: self.cut(node.key),
                kind: self.cut(node.kind),
                role: self.cut(node.role),
                thought: node.thought,
                root: node.parent.is_none(),
            })
        })
    }

    /// A whole number of the outermost object.
    #[must_use]
    pub fn number(&self, key: &[u8]) -> Option<u32> {
        let (_, range) = self.numbers.iter().find(|(name, _)| self.bytes.get(name.clone()) == Some(key))?;
        self.whole(range)
    }

    fn whole(&self, range: &Range<usize>) -> Option<u32> {
        std::str::from_utf8(self.bytes.get(range.clone())?).ok()?.parse().ok()
    }

    /// What `index` says around a node: of all that say it the innermost and the outermost.
    #[must_use]
    pub fn index(&self, from: u32) -> Option<(u32, u32)> {
        let (mut next, mut found) = (Some(from), None);
        while let Some(node) = next.and_then(|at| self.nodes.get(at as usize)) {
            found = match (node.index, found) {
                (Some(here), Some((inner, _))) => Some((inner, here)),
                (Some(here), None) => Some((here, here)),
                (None, found) => found,
            };
            next = node.parent;
        }
        found
    }

    /// The text of a key of the outermost object, if it has no escapes.
    #[must_use]
    pub fn top(&self, key: &[u8]) -> Option<&'a str> {
        let span =
            self.spans.iter().find(|span| span.node == 0 && span.kind == SpanKind::Text && self.key(span) == key)?;
        std::str::from_utf8(self.raw(span)).ok()
    }
}

/// What stands around a span.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The key of this object or array in the one around it.
    pub key: &'a [u8],
    /// Its `type`.
    pub kind: &'a [u8],
    /// Its `role`.
    pub role: &'a [u8],
    /// Whether it says that it is a thought.
    pub thought: bool,
    /// Whether it is the outermost one.
    pub root: bool,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// A value or the array's end.
    ValueOrEnd,
    Key,
    /// A key or the object's end.
    KeyOrEnd,
    Comma,
    Nothing,
}

struct Reader<'a> {
    document: Document<'a>,
    at: usize,
    /// What is open: the node, and whether it is an object.
    open: Vec<(u32, bool)>,
}

/// Offsets were checked to fit.
fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl<'a> Reader<'a> {
    const fn wrong(&self, what: &'static str) -> Unreadable {
        Unreadable { what, at: self.at }
    }

    fn peek(&mut self) -> Option<u8> {
        let rest = self.document.bytes.get(self.at..)?;
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
        self.document.bytes.get(self.at).copied()
    }

    fn read(&mut self) -> Result<(), Unreadable> {
        let mut next = Next::Value;
        let mut key = 0..0;
        loop {
            let byte = self.peek();
            if self.document.spans.len().max(self.document.nodes.len()) > MAX_PARTS {
                return Err(self.wrong("too many values"));
            }
            next = match (next, byte) {
                (Next::Nothing, None) => return Ok(()),
                (Next::Nothing, Some(_)) => return Err(self.wrong("something behind the value")),
                (_, None) => return Err(self.wrong("the end too early")),
                (Next::KeyOrEnd, Some(b'}')) | (Next::ValueOrEnd, Some(b']')) => self.close(),
                (Next::Key | Next::KeyOrEnd, Some(b'"')) => {
                    key = self.string(None)?;
                    if self.peek() != Some(b':') {
                        return Err(self.wrong("no colon behind a key"));
                    }
                    self.at += 1;
                    Next::Value
                }
                (Next::Key | Next::KeyOrEnd, Some(_)) => return Err(self.wrong("no key where one should be")),
                (Next::Comma, Some(b',')) => {
                    self.at += 1;
                    if self.open.last().is_some_and(|(_, object)| *object) { Next::Key } else { Next::Value }
                }
                (Next::Comma, Some(b'}')) if self.open.last().is_some_and(|(_, object)| *object) => self.close(),
                (Next::Comma, Some(b']')) if self.open.last().is_some_and(|(_, object)| !*object) => self.close(),
                (Next::Comma, Some(_)) => return Err(self.wrong("no comma between values")),
                (Next::Value | Next::ValueOrEnd, Some(byte)) => self.value(byte, std::mem::take(&mut key))?,
            };
        }
    }

    fn close(&mut self) -> Next {
        self.at += 1;
        self.open.pop();
        self.after()
    }

    fn after(&self) -> Next {
        if self.open.is_empty() { Next::Nothing } else { Next::Comma }
    }

    fn value(&mut self, byte: u8, key: Range<usize>) -> Result<Next, Unreadable> {
        match byte {
            b'{' | b'[' => {
                if self.open.len() >= MAX_DEPTH {
                    return Err(self.wrong("values nested too deep"));
                }
                let node = Node {
                    parent: self.open.last().map(|(node, _)| *node),
                    key: (short(key.start), short(key.end)),
                    ..Node::default()
                };
                self.open.push((short(self.document.nodes.len()), byte == b'{'));
                self.document.nodes.push(node);
                self.at += 1;
                return Ok(if byte == b'{' { Next::KeyOrEnd } else { Next::ValueOrEnd });
            }
            b'"' => {
                let name = self.document.bytes.get(key.clone()).unwrap_or_default();
                let range = self.string(Some(key))?;
                let place = (short(range.start), short(range.end));
                if let Some(node) = self.innermost() {
                    match name {
                        b"type" => node.kind = place,
                        b"role" => node.role = place,
                        _ => {}
                    }
                }
            }
            b'-' | b'0'..=b'9' => self.number(key),
            b't' => {
                self.word(b"true")?;
                if self.document.bytes.get(key) == Some(b"thought")
                    && let Some(node) = self.innermost()
                {
                    node.thought = true;
                }
            }
            b'f' => self.word(b"false")?,
            b'n' => self.word(b"null")?,
            _ => return Err(self.wrong("no value where one should be")),
        }
        Ok(self.after())
    }

    fn innermost(&mut self) -> Option<&mut Node> {
        let (node, _) = self.open.last()?;
        self.document.nodes.get_mut(*node as usize)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Unreadable> {
        if self.document.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.wrong("no value where one should be"))
    }

    fn number(&mut self, key: Range<usize>) {
        let rest = self.document.bytes.get(self.at..).unwrap_or_default();
        let part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        let len = rest.iter().take_while(|byte| part(byte)).count();
        let range = self.at..self.at + len;
        let node = self.open.last().map_or(0, |(node, _)| *node);
        if len >= 8 {
            let (kind, range) = (SpanKind::Number, range.clone());
            self.document.spans.push(Span { node, key: key.clone(), range, kind, escaped: false, hidden: false });
        }
        if self.document.bytes.get(key.clone()) == Some(b"index") {
            let value = self.document.whole(&range);
            if let Some(node) = self.innermost() {
                node.index = value;
            }
        }
        if self.open.len() == 1 && self.document.numbers.len() < MAX_NUMBERS {
            self.document.numbers.push((key, range));
        }
        self.at += len;
    }

    /// Reads a string whose quote is next: a key, or the value of a key.
    fn string(&mut self, key: Option<Range<usize>>) -> Result<Range<usize>, Unreadable> {
        let from = self.at + 1;
        let (mut escaped, mut hidden) = (false, false);
        let mut at = from;
        let bytes = self.document.bytes;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', rest) else { return Err(self.wrong("a string without an end")) };
            at += found;
            if bytes.get(at) == Some(&b'"') {
                break;
            }
            escaped = true;
            match bytes.get(at + 1) {
                Some(b'u') => {
                    let digits = bytes.get(at + 2..at + 6).unwrap_or_default();
                    if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                        return Err(Unreadable { what: "an escape that is none", at });
                    }
                    hidden = true;
                    at += 6;
                }
                // An escaped backslash may be the beginning of an escape within an escape.
                Some(b'\\') => {
                    hidden |= matches!(bytes.get(at + 2), Some(b'u' | b'/'));
                    at += 2;
                }
                Some(b'/') => {
                    hidden = true;
                    at += 2;
                }
                Some(b'"' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                _ => return Err(Unreadable { what: "an escape that is none", at }),
            }
        }
        let range = from..at;
        self.at = at + 1;
        let node = self.open.last().map_or(0, |(node, _)| *node);
        let kind = if key.is_some() { SpanKind::Text } else { SpanKind::Key };
        // One letter may be a fragment of a stream; a short key is none that anybody looks for.
        if range.len() >= if kind == SpanKind::Text { 1 } else { 12 } {
            let key = key.unwrap_or(range.clone());
            self.document.spans.push(Span { node, key, range: range.clone(), kind, escaped, hidden });
        }
        Ok(range)
    }
}

/// Text without its escapes, and where each byte of it came from.
#[derive(Debug, Clone, Default)]
pub struct Unescaped {
    /// The text.
    pub text: Vec<u8>,
    /// Every escape: where what it stands for begins and how long that is, where it stood and how long it was.
    escapes: Vec<Escape>,
}

#[derive(Debug, Clone, Copy)]
struct Escape {
    at: usize,
    len: usize,
    from: usize,
    from_len: usize,
}

impl Unescaped {
    /// Takes the escapes of JSON strings away. What is no escape stays as it is.
    #[must_use]
    pub fn new(raw: &[u8]) -> Self {
        let mut this = Self { text: Vec::with_capacity(raw.len()), escapes: Vec::new() };
        let mut at = 0;
        while let Some(found) = raw.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
            this.text.extend_from_slice(raw.get(at..at + found).unwrap_or_default());
            at += found;
            let Some((value, len)) = escape(raw.get(at..).unwrap_or_default()) else {
                this.text.push(b'\\');
                at += 1;
                continue;
            };
            let (begin, mut buffer) = (this.text.len(), [0; 4]);
            this.text.extend_from_slice(value.encode_utf8(&mut buffer).as_bytes());
            this.escapes.push(Escape { at: begin, len: this.text.len() - begin, from: at, from_len: len });
            at += len;
        }
        this.text.extend_from_slice(raw.get(at..).unwrap_or_default());
        this
    }

    /// Where a range of the text stood.
    #[must_use]
    pub fn origin(&self, range: &Range<usize>) -> Range<usize> {
        self.place(range.start, false)..self.place(range.end, true)
    }

    fn place(&self, at: usize, end: bool) -> usize {
        let known = self.escapes.partition_point(|escape| if end { escape.at < at } else { escape.at <= at });
        let Some(last) = known.checked_sub(1).and_then(|n| self.escapes.get(n)) else { return at };
        if at >= last.at + last.len {
            return last.from + last.from_len + (at - last.at - last.len);
        }
        if end { last.from + last.from_len } else { last.from }
    }
}

/// The letter that an escape stands for, and how long the escape is. Nothing if it is none, or not whole.
pub fn escape(raw: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = raw.get(at..at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let letter = match raw.get(1)? {
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'u' => {
            let first = unit(2)?;
            if (0xD800..0xDC00).contains(&first)
                && raw.get(6..8) == Some(b"\\u")
                && let Some(second @ 0xDC00..0xE000) = unit(8)
            {
                let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12));
            }
            return Some((char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6));
        }
        _ => return None,
    };
    Some((letter, 2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn texts(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::String(text) => out.push(text.clone()),
            Value::Array(members) => members.iter().for_each(|member| texts(member, out)),
            Value::Object(members) => members.values().for_each(|member| texts(member, out)),
            _ => {}
        }
    }

    /// All texts but empty ones.
    fn seen(bytes: &[u8]) -> Vec<String> {
        let document = Document::read(bytes).unwrap();
        let texts = document.spans.iter().filter(|span| span.kind == SpanKind::Text);
        texts.map(|span| String::from_utf8(Unescaped::new(document.raw(span)).text).unwrap()).collect()
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":1,}",
            "[1,]",
            "[1 2]",
            "{} {}",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "tru",
            "{\"a\":}",
            "[}",
            "{]",
            "nul",
            "'a'",
            "\"a\"b",
        ] {
            assert!(Document::read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Document::read(b"\"\xff\"").is_err());
        let many = |n: usize| format!("[{}1]", "\"aa\",".repeat(n));
        assert!(Document::read(many(MAX_PARTS).as_bytes()).is_ok());
        assert_eq!(Document::read(many(MAX_PARTS + 1).as_bytes()).unwrap_err().what, "too many values");
        assert!(Document::read("[".repeat(MAX_DEPTH + 1).as_bytes()).is_err());
        let deep = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(Document::read(deep.as_bytes()).is_ok());
    }

    #[test]
    fn escapes_map_back() {
        let raw = br#"a\n\u00e9\ud83d\ude00b\"c"#;
        let text = Unescaped::new(raw);
        assert_eq!(std::str::from_utf8(&text.text).unwrap(), "a\né😀b\"c");
        let origin = |from: usize, to: usize| &raw[text.origin(&(from..to))];
        assert_eq!(origin(0, 1), b"a");
        assert_eq!(origin(1, 2), b"\\n");
        assert_eq!(origin(2, 4), b"\\u00e9");
        assert_eq!(origin(4, 8), b"\\ud83d\\ude00");
        assert_eq!(origin(8, 11), br#"b\"c"#);
    }

    proptest! {
            #[test]
            fn every_text_is_seen(value in value(), pretty in any::<bool>()) {
                let bytes = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
                let mut expected = Vec::new();
                texts(&serde_json::from_slice(&bytes).unwrap(), &mut expected);
    expected.retain(|text| !text.is_empty());
                prop_assert_eq!(seen(&bytes), expected);
            }

            #[test]
            fn what_serde_reads_is_read(bytes in "[\\[\\]{}:,\"a1\\\\nu0 ]{0,20}") {
                if serde_json::from_str::<Value>(&bytes).is_ok() {
                    prop_assert!(Document::read(bytes.as_bytes()).is_ok(), "{}", bytes);
                }
            }

            #[test]
            fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
                let _ = Document::read(&bytes);
                let text = Unescaped::new(&bytes);
                let _ = text.origin(&(0..text.text.len()));
            }
        }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[\\x00-\\x7f]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
