//! The writer: serde's calls become canonical bytes at once, without a tree in between.
//!
//! Members of an object are written as they come and put into their order when it ends. It refuses what has no form in JSON:
//! bytes, and names that are no texts.

use std::{cmp::Ordering, fmt, ops::Range};

use serde::{Serialize, Serializer, ser};

use super::{MAX_INTEGER, write_text};

/// Why a value has no canonical form.
#[derive(Debug)]
pub(super) struct NoForm(String);

impl fmt::Display for NoForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoForm {}

impl ser::Error for NoForm {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Writes behind what is there already.
pub(super) struct Writer<'o> {
    pub out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    fn word(&mut self, word: &str) {
        self.out.extend_from_slice(word.as_bytes());
    }

    fn integer(&mut self, n: i128) {
        match i64::try_from(n) {
            Ok(small) if small.unsigned_abs() <= MAX_INTEGER => self.word(itoa::Buffer::new().format(small)),
            _ => write_text(&n.to_string(), self.out),
        }
    }

    /// `{"NAME":` of a variant that holds something.
    fn variant(&mut self, name: &str) {
        self.out.push(b'{');
        write_text(name, self.out);
        self.out.push(b':');
    }
}

macro_rules! integers {
    ($($name:ident: $type:ty),+) => {$(
        fn $name(self, n: $type) -> Result<(), NoForm> {
            self.integer(i128::from(n));
            Ok(())
        }
    )+};
}

impl<'w, 'o> Serializer for &'w mut Writer<'o> {
    type Ok = ();
    type Error = NoForm;
    type SerializeSeq = List<'w, 'o>;
    type SerializeTuple = List<'w, 'o>;
    type SerializeTupleStruct = List<'w, 'o>;
    type SerializeTupleVariant = List<'w, 'o>;
    type SerializeMap = Object<'w, 'o>;
    type SerializeStruct = Object<'w, 'o>;
    type SerializeStructVariant = Object<'w, 'o>;

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    }

    fn serialize_bool(self, value: bool) -> Result<(), NoForm> {
        self.word(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), NoForm> {
        self.serialize_unit()
    }

    fn serialize_f64(self, _: f64) -> Result<(), NoForm> {
        self.serialize_unit()
    }

    fn serialize_char(self, value: char) -> Result<(), NoForm> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), NoForm> {
        write_text(text, self.out);
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), NoForm> {
        Err(ser::Error::custom("bytes have no form in JSON"))
    }

    fn serialize_none(self) -> Result<(), NoForm> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NoForm> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), NoForm> {
        self.word("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NoForm> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), NoForm> {
        self.serialize_str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NoForm> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), NoForm> {
        self.variant(name);
        value.serialize(&mut *self)?;
        self.out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'w, 'o>, NoForm> {
        Ok(List::begin(self, "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'w, 'o>, NoForm> {
        Ok(List::begin(self, "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'w, 'o>, NoForm> {
        Ok(List::begin(self, "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<List<'w, 'o>, NoForm> {
        self.variant(name);
        Ok(List::begin(self, "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Object<'w, 'o>, NoForm> {
        Ok(Object::begin(self, "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object<'w, 'o>, NoForm> {
        Ok(Object::begin(self, "}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Object<'w, 'o>, NoForm> {
        self.variant(name);
        Ok(Object::begin(self, "}}"))
    }
}

/// An array on its way.
pub(super) struct List<'w, 'o> {
    writer: &'w mut Writer<'o>,
    first: bool,
    end: &'static str,
}

impl<'w, 'o> List<'w, 'o> {
    fn begin(writer: &'w mut Writer<'o>, end: &'static str) -> Self {
        writer.out.push(b'[');
        Self { writer, first: true, end }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoForm> {
        if !std::mem::take(&mut self.first) {
            self.writer.out.push(b',');
        }
        value.serialize(&mut *self.writer)
    }

    fn finish(self) {
        self.writer.word(self.end);
    }
}

macro_rules! lists {
    ($($of:ident $item:ident),+) => {$(
        impl ser::$of for List<'_, '_> {
            type Ok = ();
            type Error = NoForm;
            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoForm> {
                self.item(value)
            }
            fn end(self) -> Result<(), NoForm> {
                self.finish();
                Ok(())
            }
        }
    )+};
}

lists! {
    SerializeSeq serialize_element, SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field
}

/// A member: where it stands in what is written, and how long its name is, with its quotes.
struct Member {
    at: Range<usize>,
    name: usize,
}

/// An object on its way.
pub(super) struct Object<'w, 'o> {
    writer: &'w mut Writer<'o>,
    /// Where its first member stands.
    start: usize,
    members: Vec<Member>,
    end: &'static str,
}

impl<'w, 'o> Object<'w, 'o> {
    fn begin(writer: &'w mut Writer<'o>, end: &'static str) -> Self {
        writer.out.push(b'{');
        let start = writer.out.len();
        Self { writer, start, members: Vec::with_capacity(8), end }
    }

    fn name<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), NoForm> {
        if !self.members.is_empty() {
            self.writer.out.push(b',');
        }
        let at = self.writer.out.len();
        name.serialize(&mut *self.writer)?;
        let end = self.writer.out.len();
        // An integer, for example, is no name here: every map of a record has texts for names.
        if self.writer.out.get(at) != Some(&b'"') {
            return Err(ser::Error::custom("a member's name must be a text"));
        }
        self.writer.out.push(b':');
        self.members.push(Member { at: at..end, name: end - at });
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoForm> {
        value.serialize(&mut *self.writer)?;
        let end = self.writer.out.len();
        if let Some(member) = self.members.last_mut() {
            member.at.end = end;
        }
        Ok(())
    }

    fn finish(mut self) {
        let out = &mut *self.writer.out;
        let name = |member: &Member| out.get(member.at.start..member.at.start + member.name).unwrap_or_default();
        let order = |a: &Member, b: &Member| by_units(name(a), name(b));
        if !self.members.is_sorted_by(|a, b| order(a, b) != Ordering::Greater) {
            self.members.sort_by(order);
            let written = out.split_off(self.start);
            for (i, member) in self.members.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                let at = member.at.start - self.start..member.at.end - self.start;
                out.extend_from_slice(written.get(at).unwrap_or_default());
            }
        }
        self.writer.word(self.end);
    }
}

/// RFC 8785 §3.2.3 sorts names by their UTF-16 code units. For plain ASCII, that is the order of the bytes.
fn by_units(a: &[u8], b: &[u8]) -> Ordering {
    let plain = |name: &[u8]| name.iter().all(|byte| matches!(byte, 0x20..=0x7e) && *byte != b'\\');
    if plain(a) && plain(b) {
        // Without their quotes, so that a name comes before a longer one that begins with it.
        let inner = |name: &'_ [u8]| name.len().saturating_sub(1).max(1);
        return a.get(1..inner(a)).unwrap_or_default().cmp(b.get(1..inner(b)).unwrap_or_default());
    }
    let text = |name: &[u8]| serde_json::from_slice::<String>(name).unwrap_or_default();
    text(a).encode_utf16().cmp(text(b).encode_utf16())
}

impl ser::SerializeMap for Object<'_, '_> {
    type Ok = ();
    type Error = NoForm;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NoForm> {
        self.name(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoForm> {
        self.value(value)
    }

    fn end(self) -> Result<(), NoForm> {
        self.finish();
        Ok(())
    }
}

macro_rules! objects {
    ($($of:ident),+) => {$(
        impl ser::$of for Object<'_, '_> {
            type Ok = ();
            type Error = NoForm;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), NoForm> {
                self.name(key)?;
                self.value(value)
            }
            fn end(self) -> Result<(), NoForm> {
                self.finish();
                Ok(())
            }
        }
    )+};
}

objects! { SerializeStruct, SerializeStructVariant }
