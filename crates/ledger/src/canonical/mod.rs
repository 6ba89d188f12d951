//! Canonical JSON (RFC 8785) for what records are made of: texts, integers, booleans, arrays and objects.
//!
//! There are no fractions and there is no null. Every program reads integers up to 2⁵³−1 exactly (RFC 7493 §2.2);
//! larger ones are written as texts, and [`wide`] reads both forms.

use serde::Serialize;

mod writer;

use writer::Writer;

/// The largest integer that is written as a number.
pub(crate) const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Writes a value. A fraction or a null becomes `null`, which no record's parser accepts; so does a value without any form.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let start = out.len();
    if value.serialize(&mut Writer { out }).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// RFC 8785 §3.2.2.2: the two-character escapes where JSON has them, `\u00xx` for other control characters,
/// everything else as it is.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    if !text.bytes().any(|byte| matches!(byte, 0x00..=0x1f | b'"' | b'\\')) {
        out.extend_from_slice(text.as_bytes());
        return out.push(b'"');
    }
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0x00..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Integers that may be too large for a JSON number: written as ever, read as a number or as a text of digits.
/// Which of the two was right is decided by writing it again.
pub(crate) mod wide {
    use std::{fmt, marker::PhantomData, str::FromStr};

    use serde::{Deserializer, de};

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr + TryFrom<i64> + TryFrom<u64>,
        D: Deserializer<'de>,
    {
        struct Integer<T>(PhantomData<T>);
        impl<T: FromStr + TryFrom<i64> + TryFrom<u64>> de::Visitor<'_> for Integer<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<T, E> {
                T::try_from(n).map_err(|_| E::custom("an integer that is too large"))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<T, E> {
                T::try_from(n).map_err(|_| E::custom("an integer that is too large"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                text.parse().map_err(|_| E::custom("a text that is no integer"))
            }
        }
        deserializer.deserialize_any(Integer(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The same by way of a tree, in the order of the rules.
    fn by_tree(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::String(text) => write_text(text, out),
            Value::Number(number) => {
                let digits = match (number.as_i64(), number.as_u64()) {
                    (Some(n), _) => n.to_string(),
                    (_, Some(n)) => n.to_string(),
                    _ => return out.extend_from_slice(b"null"),
                };
                let small = number.as_i64().is_some_and(|n| n.unsigned_abs() <= MAX_INTEGER);
                if small { out.extend_from_slice(digits.as_bytes()) } else { write_text(&digits, out) }
            }
            Value::Array(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    by_tree(item, out);
                }
                out.push(b']');
            }
            Value::Object(map) => {
                // RFC 8785 §3.2.3 sorts by UTF-16 code units, which is not the order of UTF-8 bytes.
                let mut members: Vec<_> = map.iter().collect();
                members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
                out.push(b'{');
                for (i, (key, item)) in members.into_iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    write_text(key, out);
                    out.push(b':');
                    by_tree(item, out);
                }
                out.push(b'}');
            }
            Value::Null => out.extend_from_slice(b"null"),
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-c]{0,3}", "\\PC{0,4}", any::<String>()];
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            text.clone().prop_map(Value::from),
            Just(Value::Null),
            any::<f64>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn written_at_once_and_by_way_of_a_tree_it_is_the_same(value in any_json()) {
            let mut tree = Vec::new();
            by_tree(&value, &mut tree);
            prop_assert_eq!(canonical(&value), String::from_utf8(tree).unwrap());
        }
    }

    #[test]
    fn what_has_no_form_at_all_is_null() {
        let mut out = b"before".to_vec();
        write(&BTreeMap::from([(1, [2])]), &mut out);
        assert_eq!(out, b"beforenull");
    }

    fn canonical(value: &Value) -> String {
        let mut out = Vec::new();
        write(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keys_sort_by_utf16_as_in_the_rfc() {
        // RFC 8785 §3.2.3: U+1F600 comes before U+FB33 in UTF-16, and after it in UTF-8.
        let value = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        assert_eq!(
            canonical(&value),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}"
        );
    }

    #[test]
    fn texts_escape_as_in_the_rfc() {
        let value = json!("\u{20ac}$\u{f}\nA'B\"\\\"/\u{7f}\u{2028}");
        assert_eq!(canonical(&value), "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\"/\u{7f}\u{2028}\"");
    }

    #[test]
    fn large_integers_become_texts() {
        let max = i64::try_from(MAX_INTEGER).unwrap();
        assert_eq!(
            canonical(&json!([0, -1, max, -max, max + 1, -max - 1, u64::MAX, i64::MIN])),
            "[0,-1,9007199254740991,-9007199254740991,\"9007199254740992\",\"-9007199254740992\",\
             \"18446744073709551615\",\"-9223372036854775808\"]"
        );
    }

    #[test]
    fn what_has_no_form_is_null() {
        assert_eq!(canonical(&json!([1.5, null, true, false])), "[null,null,true,false]");
    }
}
