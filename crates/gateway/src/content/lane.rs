//! One text of an answer that comes in many events: a block's text, a tool's arguments, a thought.
//!
//! Owns how the fragments of such a text are put together, looked at and cleared. Arguments of tools are JSON inside of
//! strings, so their escapes are taken away a second time, as they come.
//!
//! *Invariant:* what a lane has cleared holds no part of anything that is blocked or redacted but what it says itself.

use std::{collections::VecDeque, ops::Range};

use stockade_policy::content::{
    ContentAction, ContentRules, Place,
    detect::{CONTEXT_BYTES, ClassSet, Hit, Tracker},
};

use super::{
    Finding,
    json::escape,
    vault::{Marker, Vault, reference},
};

/// The most of one text that waits, in bytes. What would wait longer is not let through.
pub const MAX_HELD_BYTES: usize = 64 * 1024;
/// When nothing comes for a while, a beginning of at most so many bytes is let go. What it was the beginning of is found all
/// the same, and goes no further.
pub const IDLE_BYTES: usize = 12;

/// What a lane says about the fragments so far.
#[derive(Debug)]
pub enum Ruling {
    /// Go on.
    Go,
    /// Stop here, by this rule's title.
    Stop(String),
    /// More waits than may.
    TooMuch,
}

/// One text.
#[derive(Debug)]
pub struct Lane {
    place: Place,
    hold: Option<Tracker>,
    note: Option<Note>,
    inner: Option<Inner>,
    /// How long the text is so far, as the events have it.
    pub end: usize,
    /// Up to here nothing can change any more.
    pub cleared: usize,
    /// What is taken out, and what stands there instead.
    pub edits: VecDeque<(Range<usize>, String)>,
    /// How many fragments of it wait.
    pub waiting: usize,
}

impl Lane {
    /// A text in a place. `json` if it is JSON inside of strings.
    #[must_use]
    pub fn new(rules: &ContentRules, place: Place, json: bool) -> Self {
        let (hold, all) = (rules.enforced(place), rules.classes(place));
        let detectors = rules.detectors();
        let mut note = ClassSet::default();
        let classes = 0..detectors.classes().count();
        classes
            .filter_map(|n| u16::try_from(n).ok())
            .filter(|class| all.contains(*class) && !hold.contains(*class))
            .for_each(|class| note.insert(class));
        Self {
            place,
            hold: (!hold.is_empty()).then(|| Tracker::new(detectors, hold)),
            note: (!note.is_empty()).then(|| Note { classes: note, text: Vec::new(), done: 0, base: 0 }),
            inner: json.then(Inner::default),
            end: 0,
            cleared: 0,
            edits: VecDeque::new(),
            waiting: 0,
        }
    }

    /// Takes the next fragment.
    pub fn push(&mut self, fragment: &[u8]) {
        self.end += fragment.len();
        match &mut self.inner {
            None => self.feed(fragment),
            Some(inner) => {
                let text = inner.push(fragment, false);
                self.feed(&text);
            }
        }
    }

    fn feed(&mut self, text: &[u8]) {
        if let Some(hold) = &mut self.hold {
            hold.push(text);
        }
        if let Some(note) = &mut self.note {
            note.text.extend_from_slice(text);
        }
    }

    /// Decides as much as can be decided. `last` if the text has ended.
    pub fn settle(
        &mut self,
        rules: &ContentRules,
        marker: &Marker,
        last: bool,
        findings: &mut Vec<Finding>,
        vault: &mut Vault,
    ) -> Ruling {
        if last && let Some(inner) = &mut self.inner {
            let text = inner.push(b"", true);
            self.feed(&text);
        }
        if let Some(note) = &mut self.note {
            note.look(rules, marker, self.place, last, findings);
        }
        let Some(hold) = &mut self.hold else {
            self.cleared = self.end;
            return Ruling::Go;
        };
        let settled = hold.settle(rules.detectors(), last);
        let mut stop: Option<Finding> = None;
        let mut cluster: Option<(Range<usize>, String)> = None;
        let mut clusters = Vec::new();
        for hit in &settled.hits {
            let value = hold.part(hit.start, hit.end).unwrap_or_default();
            let Some(found) = finding(rules, marker, self.place, hit, value) else { continue };
            match found.action {
                ContentAction::Redact => match &mut cluster {
                    Some((range, _)) if hit.start < range.end => range.end = range.end.max(hit.end),
                    _ => clusters.extend(cluster.replace((hit.start..hit.end, found.class.clone()))),
                },
                action => {
                    if stop.as_ref().is_none_or(|stop| stop.action < action) && action > ContentAction::Redact {
                        stop = Some(found.clone());
                    }
                }
            }
            findings.push(found);
        }
        if let Some(stop) = stop {
            return Ruling::Stop(stop.title);
        }
        clusters.extend(cluster);
        for (range, class) in clusters {
            let value = hold.part(range.start, range.end).unwrap_or_default();
            let mark = reference(&class, &marker.digest(&class, value));
            vault.keep(&mark, value);
            let bare = self.inner.as_ref().is_some_and(|inner| !inner.in_string(range.start));
            let range = self.inner.as_ref().map_or(range.clone(), |inner| inner.origin(&range));
            self.edits.push_back((range, if bare { format!("\"{mark}\"") } else { mark }));
        }
        self.cleared = match &mut self.inner {
            None => settled.upto,
            Some(inner) if settled.upto == hold.end() => self.end - inner.partial.len(),
            Some(inner) => inner.origin(&(settled.upto..settled.upto)).start,
        };
        if let Some(inner) = &mut self.inner {
            inner.forget(settled.upto);
        }
        if hold.held() > MAX_HELD_BYTES { Ruling::TooMuch } else { Ruling::Go }
    }

    /// Lets a short beginning go.
    pub fn idle(&mut self) {
        if let Some(hold) = &mut self.hold
            && hold.held() <= IDLE_BYTES
            && self.inner.as_ref().is_none_or(|inner| inner.partial.is_empty())
        {
            hold.let_go();
            self.cleared = self.end;
        }
    }

    /// A fragment of this text, with everything taken out that is to be. Nothing if nothing is.
    #[must_use]
    pub fn rewritten(&self, from: usize, fragment: &[u8]) -> Option<Vec<u8>> {
        let to = from + fragment.len();
        let mut out = Vec::new();
        let mut at = from;
        for (range, new) in self.edits.iter().filter(|(range, _)| range.start < to && range.end > from) {
            out.extend_from_slice(fragment.get(at - from..range.start.max(from) - from).unwrap_or_default());
            if range.start >= from {
                out.extend_from_slice(new.as_bytes());
            }
            at = range.end.min(to);
        }
        if at == from && out.is_empty() {
            return None;
        }
        out.extend_from_slice(fragment.get(at - from..).unwrap_or_default());
        Some(out)
    }

    /// Forgets what was taken out before a place that is gone.
    pub fn gone(&mut self, upto: usize) {
        while self.edits.front().is_some_and(|(range, _)| range.end <= upto) {
            self.edits.pop_front();
        }
    }
}

/// What is only reported is looked for a piece at a time: nobody waits for it, and a thousand streams keep little.
#[derive(Debug)]
struct Note {
    classes: ClassSet,
    text: Vec<u8>,
    /// Told up to here, as a place in `text`.
    done: usize,
    /// How much of the text is gone.
    base: usize,
}

impl Note {
    /// How much is looked at at once, in bytes.
    const PIECE: usize = 8 * 1024;
    /// What begins in the last part of a piece is told with the next one.
    const OVERLAP: usize = 2 * 1024;

    fn look(&mut self, rules: &ContentRules, marker: &Marker, place: Place, last: bool, findings: &mut Vec<Finding>) {
        if !last && self.text.len() < Self::PIECE {
            return;
        }
        let upto = if last { self.text.len() } else { self.text.len() - Self::OVERLAP };
        let mut hits = Vec::new();
        rules.detectors().scan(&self.text, &self.classes, &mut hits);
        rules.detectors().scan_patterns(&self.text, &self.classes, &mut hits);
        hits.sort_unstable();
        for hit in hits.iter().filter(|hit| hit.start >= self.done && hit.start < upto) {
            let value = self.text.get(hit.start..hit.end).unwrap_or_default();
            let found = finding(rules, marker, place, hit, value);
            let at = self.base;
            findings.extend(found.map(|found| Finding { range: hit.start + at..hit.end + at, ..found }));
        }
        let gone = upto.saturating_sub(CONTEXT_BYTES);
        self.text.drain(..gone);
        self.base += gone;
        self.done = upto - gone;
    }
}

fn finding(rules: &ContentRules, marker: &Marker, place: Place, hit: &Hit, value: &[u8]) -> Option<Finding> {
    let rule = rules.decide(hit.class, place)?;
    let class = rules.detectors().name(hit.class).to_owned();
    Some(Finding {
        digest: marker.digest(&class, value),
        class,
        place,
        action: rule.action,
        rule: rule.id.clone(),
        title: rule.title.clone(),
        range: hit.start..hit.end,
    })
}

/// JSON that comes in pieces, without its escapes.
#[derive(Debug, Default)]
struct Inner {
    /// The beginning of an escape whose end has not come.
    partial: Vec<u8>,
    /// How much came, without `partial`, and how much it was without escapes.
    outer: usize,
    inner: usize,
    /// The escapes: where in the text, how long there, where in what came, how long there.
    escapes: VecDeque<(usize, usize, usize, usize)>,
    /// What is true before the first of them: how much longer what came is than the text.
    shift: usize,
    /// Where strings begin and end in the text, and whether one was open before.
    quotes: VecDeque<usize>,
    open: bool,
}

impl Inner {
    fn push(&mut self, more: &[u8], last: bool) -> Vec<u8> {
        let mut raw = std::mem::take(&mut self.partial);
        raw.extend_from_slice(more);
        let mut out = Vec::with_capacity(raw.len());
        let mut at = 0;
        while let Some(byte) = raw.get(at) {
            let rest = raw.get(at..).unwrap_or_default();
            if *byte != b'\\' {
                if *byte == b'"' {
                    self.quotes.push_back(self.inner + out.len());
                }
                out.push(*byte);
                at += 1;
                continue;
            }
            if !last && unfinished(rest) {
                break;
            }
            match escape(rest) {
                Some((letter, len)) => {
                    let mut buffer = [0; 4];
                    let bytes = letter.encode_utf8(&mut buffer).as_bytes();
                    self.escapes.push_back((self.inner + out.len(), bytes.len(), self.outer + at, len));
                    out.extend_from_slice(bytes);
                    at += len;
                }
                None => {
                    out.push(b'\\');
                    at += 1;
                }
            }
        }
        self.partial = raw.get(at..).unwrap_or_default().to_vec();
        self.outer += at;
        self.inner += out.len();
        out
    }

    /// Where a range of the text stood in what came.
    fn origin(&self, range: &Range<usize>) -> Range<usize> {
        self.place(range.start, false)..self.place(range.end, true)
    }

    fn place(&self, at: usize, end: bool) -> usize {
        let known = self.escapes.partition_point(|escape| if end { escape.0 < at } else { escape.0 <= at });
        let Some((begin, len, from, from_len)) = known.checked_sub(1).and_then(|n| self.escapes.get(n)).copied() else {
            return at + self.shift;
        };
        match at.checked_sub(begin + len) {
            Some(more) => from + from_len + more,
            None if end => from + from_len,
            None => from,
        }
    }

    fn in_string(&self, at: usize) -> bool {
        self.open ^ (self.quotes.partition_point(|quote| *quote < at) % 2 == 1)
    }

    /// Forgets what is only needed before a place.
    fn forget(&mut self, upto: usize) {
        while let Some((at, len, from, from_len)) = self.escapes.front().copied().filter(|e| e.0 + e.1 < upto) {
            self.shift = from + from_len - (at + len);
            self.escapes.pop_front();
        }
        while self.quotes.front().is_some_and(|quote| *quote < upto) {
            self.quotes.pop_front();
            self.open = !self.open;
        }
    }
}

/// Whether more bytes could make this another escape.
fn unfinished(rest: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
    match rest {
        [_] => true,
        [_, b'u', digits @ ..] if digits.len() < 4 => hex(digits),
        [_, b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'A' | b'b' | b'B', a, b, more @ ..] if hex(&[*a, *b]) => {
            more.len() < 6
                && match more {
                    [] | [b'\\'] => true,
                    [b'\\', b'u', digits @ ..] => hex(digits),
                    _ => false,
                }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escapes_in_pieces_are_escapes(text in "\\PC{0,12}", ascii in any::<bool>(), size in 1_usize..6) {
            let mut json = serde_json::to_string(&serde_json::json!({ "a": text })).unwrap();
            if ascii {
                json = json.chars().map(|letter| {
                    let mut units = [0; 2];
                    if letter.is_ascii() { letter.to_string() } else {
                        letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
                    }
                }).collect();
            }
            let whole = Inner::default().push(json.as_bytes(), true);
            let mut inner = Inner::default();
            let mut pieces = Vec::new();
            for piece in json.as_bytes().chunks(size) {
                pieces.extend(inner.push(piece, false));
            }
            pieces.extend(inner.push(b"", true));
            prop_assert_eq!(&pieces, &whole);
            prop_assert_eq!(inner.origin(&(0..whole.len())), 0..json.len());
            let expected = super::super::json::Unescaped::new(json.as_bytes());
            prop_assert_eq!(&expected.text, &whole);
            for at in 0..whole.len() {
                prop_assert_eq!(inner.origin(&(at..at + 1)), expected.origin(&(at..at + 1)));
            }
        }
    }
}
