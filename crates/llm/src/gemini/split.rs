//! Cuts a JSON list into its elements while it comes, for bytes that nobody vouches for.
//!
//! *Invariant:* the elements do not depend on where the bytes were split. Of an element that is larger than the limit nothing is
//! reported but that it was there.

use crate::sse::MAX_EVENT_BYTES;

/// The cutter. Give it bytes as they come. An object outside of a list counts as an element.
#[derive(Debug)]
pub(super) struct Split {
    max: usize,
    held: Vec<u8>,
    depth: u32,
    text: bool,
    escaped: bool,
    spoiled: bool,
    oversized: u64,
}

impl Default for Split {
    fn default() -> Self {
        Self::with_limit(MAX_EVENT_BYTES)
    }
}

impl Split {
    pub(super) const fn with_limit(max: usize) -> Self {
        Self { max, held: Vec::new(), depth: 0, text: false, escaped: false, spoiled: false, oversized: 0 }
    }

    /// How many elements were larger than the limit.
    pub(super) const fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Takes the next bytes and calls `each` for every element that they complete.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for byte in bytes {
            if self.depth == 0 && *byte != b'{' {
                // Brackets, commas and white space between elements. Elements that are no objects say nothing.
                continue;
            }
            if self.held.len() < self.max {
                self.held.push(*byte);
            } else {
                self.spoiled = true;
            }
            if self.text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.text = true,
                b'{' => self.depth = self.depth.saturating_add(1),
                b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth == 0 {
                if std::mem::take(&mut self.spoiled) {
                    self.oversized = self.oversized.saturating_add(1);
                } else {
                    each(&self.held);
                }
                self.held.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str, max: usize) -> (Vec<String>, u64) {
        let (mut split, mut out) = (Split::with_limit(max), Vec::new());
        for byte in text.as_bytes().chunks(3) {
            split.push(byte, |element| out.push(String::from_utf8(element.to_vec()).unwrap()));
        }
        (out, split.oversized())
    }

    #[test]
    fn a_list_comes_in_its_elements() {
        let list = "[{\"a\": \"}\\\"]\"}\n,\r\n{\"b\":{\"c\":[{}]}} , 7]";
        assert_eq!(elements(list, 100).0, ["{\"a\": \"}\\\"]\"}", "{\"b\":{\"c\":[{}]}}"]);
        assert_eq!(elements("{\"error\":{}}", 100).0, ["{\"error\":{}}"]);
        assert_eq!(elements("[{\"a\":\"too long\"},{}]", 10), (vec!["{}".to_owned()], 1));
        assert_eq!(elements("[{\"a\":1", 10).0, Vec::<String>::new());
    }
}
