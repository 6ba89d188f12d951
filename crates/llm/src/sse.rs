//! An incremental reader of server-sent events (WHATWG HTML, section 9.2.6), for bytes that nobody vouches for.
//!
//! *Invariant:* the events do not depend on where the bytes were split. Of an event that is larger than the limit
//! nothing is reported but that it was there; the reader is whole again after the next empty line.

/// What one reader may hold.
pub const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// One event. Comments, ids and retry hints are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The field `event`; empty if there was none.
    pub name: &'a [u8],
    /// The fields `data`, joined by line feeds.
    pub data: &'a [u8],
}

/// The reader. Give it bytes as they come.
#[derive(Debug)]
pub struct Reader {
    max: usize,
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    first_line: bool,
    after_cr: bool,
    line_cut: bool,
    spoiled: bool,
    oversized: u64,
    dropped_bytes: u64,
}

impl Default for Reader {
    fn default() -> Self {
        Self::with_limit(MAX_EVENT_BYTES)
    }
}

impl Reader {
    /// A reader that holds at most `max` bytes of a line and as many of an event.
    #[must_use]
    pub const fn with_limit(max: usize) -> Self {
        Self {
            max,
            line: Vec::new(),
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            first_line: true,
            after_cr: false,
            line_cut: false,
            spoiled: false,
            oversized: 0,
            dropped_bytes: 0,
        }
    }

    /// How many events were larger than the limit.
    #[must_use]
    pub const fn oversized(&self) -> u64 {
        self.oversized
    }

    /// How many bytes of lines were let go because of the limit.
    #[must_use]
    pub const fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Takes the next bytes and calls `each` for every event that they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Event<'_>)) {
        while let Some(first) = bytes.first() {
            if self.after_cr {
                self.after_cr = false;
                if *first == b'\n' {
                    bytes = bytes.get(1..).unwrap_or_default();
                    continue;
                }
            }
            let Some(end) = memchr::memchr2(b'\r', b'\n', bytes) else {
                self.hold(bytes);
                return;
            };
            let (part, rest) = bytes.split_at(end);
            self.hold(part);
            self.after_cr = rest.first() == Some(&b'\r');
            bytes = rest.get(1..).unwrap_or_default();
            self.end_line(&mut each);
        }
    }

    fn hold(&mut self, part: &[u8]) {
        let room = self.max.saturating_sub(self.line.len());
        let taken = part.get(..room).unwrap_or(part);
        self.line.extend_from_slice(taken);
        if taken.len() < part.len() {
            self.line_cut = true;
            self.dropped_bytes = self.dropped_bytes.saturating_add((part.len() - taken.len()) as u64);
        }
    }

    fn end_line(&mut self, each: &mut impl FnMut(Event<'_>)) {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first_line) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if std::mem::take(&mut self.line_cut) {
            self.dropped_bytes = self.dropped_bytes.saturating_add(line.len() as u64);
            self.spoiled = true;
        } else if line.is_empty() {
            self.dispatch(each);
        } else {
            self.field(&line);
        }
        line.clear();
        self.line = line;
    }

    fn field(&mut self, line: &[u8]) {
        let (field, value) = match memchr::memchr(b':', line) {
            Some(0) => return,
            Some(colon) => {
                let (field, rest) = line.split_at(colon);
                let value = rest.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        match field {
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            b"data" => {
                if self.data.len().saturating_add(value.len()) >= self.max {
                    self.dropped_bytes = self.dropped_bytes.saturating_add(value.len() as u64);
                    self.spoiled = true;
                    return;
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if std::mem::take(&mut self.spoiled) {
            self.oversized = self.oversized.saturating_add(1);
        } else if self.has_data {
            each(Event { name: &self.name, data: &self.data });
        }
        self.has_data = false;
        self.name.clear();
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = (Vec<(Vec<u8>, Vec<u8>)>, u64, u64);

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, max: usize) -> Seen {
        let mut reader = Reader::with_limit(max);
        let mut events = Vec::new();
        for chunk in chunks {
            reader.push(chunk, |event| events.push((event.name.to_vec(), event.data.to_vec())));
        }
        (events, reader.oversized(), reader.dropped_bytes())
    }

    fn texts(bytes: &[u8]) -> Vec<(String, String)> {
        let (events, ..) = read([bytes], 1_000);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        events.into_iter().map(|(name, data)| (text(name), text(data))).collect()
    }

    #[test]
    fn the_forms_of_the_specification() {
        let event = |name: &str, data: &str| (name.to_owned(), data.to_owned());
        assert_eq!(texts(b"event: a\ndata: 1\n\n"), [event("a", "1")]);
        assert_eq!(texts(b"\xEF\xBB\xBFdata:1\rdata:  2\r\r"), [event("", "1\n 2")]);
        assert_eq!(texts(b": ping\r\nid: 7\r\nevent:x\r\ndata\r\n\r\n"), [event("x", "")]);
        assert_eq!(texts(b"event: lost\n\ndata: 1\n\ndata: unfinished\n"), [event("", "1")]);
        assert_eq!(texts(b"data: x: y\nnonsense\n\n"), [event("", "x: y")]);
    }

    #[test]
    fn an_event_over_the_limit_is_counted_and_the_next_one_read() {
        let mut bytes = b"event: big\ndata: ".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 500));
        bytes.extend_from_slice(b"\n\nevent: small\ndata: 1\n\n");
        let (events, oversized, dropped) = read([&bytes[..]], 100);
        assert_eq!(events, [(b"small".to_vec(), b"1".to_vec())]);
        assert_eq!((oversized, dropped), (1, 506));
    }

    #[test]
    fn many_small_lines_stay_within_the_limit_too() {
        let bytes = b"data: 123456789\n".repeat(100);
        let mut reader = Reader::with_limit(50);
        reader.push(&bytes, |_| panic!("no event is complete"));
        assert!(reader.data.len() <= 50 && reader.spoiled);
    }

    fn wire() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"data: {\"a\":1}".to_vec()),
            Just(b"event: x".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\xEF\xBB\xBF".to_vec()),
            Just(b":".to_vec()),
            Just(b"data: a long line that passes the limit of the reader".to_vec()),
            prop::collection::vec(any::<u8>(), 0..6),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_split_makes_no_difference(
            bytes in wire(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.sort_unstable();
            let (mut chunks, mut from) = (Vec::new(), 0);
            for cut in at {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            chunks.push(&bytes[from..]);
            let whole = read([&bytes[..]], 32);
            prop_assert_eq!(read(chunks, 32), whole.clone());
            prop_assert_eq!(read(bytes.chunks(1), 32), whole);
        }
    }
}
