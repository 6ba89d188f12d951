//! Looking through a whole JSON body, and taking things out of it.
//!
//! *Invariant:* a body that is redacted differs from what came in the places of the findings and nowhere else, byte for byte,
//! and is still JSON.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use stockade_policy::content::{
    ContentAction, ContentRules, Place,
    detect::{ClassSet, Hit},
};

use super::{
    Finding,
    json::{Document, Span, SpanKind, Unescaped, Unreadable},
    place::{media, opaque, what},
    vault::{Marker, Vault, reference},
};

/// The largest text in base64 that is opened to look into it, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;

/// The most findings of one body or stream that are told.
pub const MAX_FINDINGS: usize = 10_000;
/// The most findings of one body about which something is done. A body with more is refused.
pub const MAX_ACTIONS: usize = 100_000;

/// What a body has in it.
#[derive(Debug, Default)]
pub struct Scanned {
    /// What was found, in the order of the bytes; not more than [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// The strongest of all.
    top: Option<Finding>,
    /// More was found than can be handled.
    pub overflow: bool,
    /// What to put where, sorted, apart from each other.
    pub edits: Vec<(Range<usize>, Vec<u8>)>,
    /// What the edits take out.
    pub vault: Vault,
}

impl Scanned {
    /// The strongest finding.
    #[must_use]
    pub const fn strongest(&self) -> Option<&Finding> {
        self.top.as_ref()
    }

    /// The body with everything taken out that is to be.
    #[must_use]
    pub fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        splice(bytes, &self.edits)
    }
}

/// Puts something else in some places.
pub fn splice(bytes: &[u8], edits: &[(Range<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut at = 0;
    for (range, new) in edits {
        out.extend_from_slice(bytes.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(new);
        at = range.end;
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
    out
}

/// Something that was found in a span of the document.
struct Raw {
    span: usize,
    /// In the document's bytes.
    range: Range<usize>,
    class: u16,
    place: Place,
    /// Text that came in base64: the whole of it is replaced.
    opened: Option<Vec<u8>>,
}

/// Looks through a body.
///
/// # Errors
/// If it is not JSON: then nobody knows what is in it.
pub fn scan(rules: &ContentRules, marker: &Marker, bytes: &[u8]) -> Result<Scanned, Unreadable> {
    let document = Document::read(bytes)?;
    let spans: Vec<usize> = (0..document.spans.len()).collect();
    let scanned = scan_spans(rules, marker, &document, &spans);
    if scanned.overflow {
        return Err(Unreadable { what: "more findings than can be handled", at: 0 });
    }
    Ok(scanned)
}

/// Looks through some spans of a document.
pub fn scan_spans(rules: &ContentRules, marker: &Marker, document: &Document<'_>, which: &[usize]) -> Scanned {
    let mut found: Vec<Raw> = Vec::new();
    let classes = rules.all_classes();
    let whole = which.len() == document.spans.len();
    if !classes.is_empty() {
        let look = Look { rules, classes, document, patterns: rules.detectors().has_patterns(&classes) };
        // Everything between what is looked at by itself goes through the detectors in one piece.
        let mut from = 0;
        for n in which {
            let Some(span) = document.spans.get(*n) else { continue };
            let passed = opaque(document, span);
            let body = if passed { None } else { media(document, span) };
            if passed || body.is_some() || span.hidden || !whole {
                if whole {
                    look.bytes(from..span.range.start, &mut found);
                    from = span.range.end;
                }
                match body {
                    _ if passed => {}
                    Some(body) => look.opened(*n, span, body, &mut found),
                    None => look.text(*n, span, true, &mut found),
                }
            } else if look.patterns {
                look.text(*n, span, false, &mut found);
            }
        }
        if whole {
            look.bytes(from..document.bytes().len(), &mut found);
        }
    }
    judge(rules, marker, document, found)
}

struct Look<'a> {
    rules: &'a ContentRules,
    classes: ClassSet,
    document: &'a Document<'a>,
    patterns: bool,
}

impl Look<'_> {
    /// Looks at bytes as they stand, escapes and all.
    fn bytes(&self, part: Range<usize>, found: &mut Vec<Raw>) {
        let mut hits = Vec::new();
        let bytes = self.document.bytes().get(part.clone()).unwrap_or_default();
        self.rules.detectors().scan(bytes, &self.classes, &mut hits);
        for hit in hits {
            let range = part.start + hit.start..part.start + hit.end;
            let after = self.document.spans.partition_point(|span| span.range.start <= range.start);
            // A finding that is not within one string is none: the bytes between strings are nobody's text.
            let Some(n) = after.checked_sub(1) else { continue };
            if self.document.spans.get(n).is_some_and(|span| range.end <= span.range.end) {
                self.take(n, range, hit.class, None, found);
            }
        }
    }

    fn take(&self, n: usize, range: Range<usize>, class: u16, opened: Option<Vec<u8>>, found: &mut Vec<Raw>) {
        let Some(span) = self.document.spans.get(n) else { return };
        let place = what(self.document, span).place;
        // A number is a value only where values are handed over: elsewhere it is a setting or a count.
        if span.kind == SpanKind::Number && !matches!(place, Place::ToolArgument | Place::ToolResult) {
            return;
        }
        let Some(rule) = self.rules.decide(class, place) else { return };
        if found.len() < if rule.action == ContentAction::Report { MAX_FINDINGS } else { MAX_ACTIONS + 1 } {
            found.push(Raw { span: n, range, class, place, opened });
        }
    }

    /// Looks at one text without its escapes: for everything, or only for the bundle's patterns.
    fn text(&self, n: usize, span: &Span, everything: bool, found: &mut Vec<Raw>) {
        let raw = self.document.raw(span);
        let json = what(self.document, span).json;
        let outer = if span.escaped { Some(Unescaped::new(raw)) } else { None };
        let text = outer.as_ref().map_or(raw, |outer| outer.text.as_slice());
        let inner = if json && memchr::memchr(b'\\', text).is_some() { Some(Unescaped::new(text)) } else { None };
        let text = inner.as_ref().map_or(text, |inner| inner.text.as_slice());
        let mut hits: Vec<Hit> = Vec::new();
        if everything {
            self.rules.detectors().scan(text, &self.classes, &mut hits);
        }
        self.rules.detectors().scan_patterns(text, &self.classes, &mut hits);
        for hit in hits {
            let mut range = hit.start..hit.end;
            for level in [&inner, &outer].into_iter().flatten() {
                range = level.origin(&range);
            }
            self.take(n, span.range.start + range.start..span.range.start + range.end, hit.class, None, found);
        }
    }

    /// Opens what is in base64, and looks at it if it is text.
    fn opened(&self, n: usize, span: &Span, body: &[u8], found: &mut Vec<Raw>) {
        if body.len() > MAX_DOCUMENT_BYTES {
            return;
        }
        // Pictures and sounds show within the first bytes that they are no text.
        let text = |bytes: &[u8]| !bytes.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace());
        let head = body.get(..body.len().min(96)).unwrap_or_default();
        if STANDARD
            .decode(head)
            .is_ok_and(|head| !text(&head) || std::str::from_utf8(&head).is_err_and(|e| e.error_len().is_some()))
        {
            return;
        }
        let Ok(bytes) = STANDARD.decode(body) else { return };
        if !text(&bytes) || std::str::from_utf8(&bytes).is_err() {
            return;
        }
        let mut hits = Vec::new();
        self.rules.detectors().scan(&bytes, &self.classes, &mut hits);
        self.rules.detectors().scan_patterns(&bytes, &self.classes, &mut hits);
        let range = span.range.end - body.len()..span.range.end;
        for hit in hits {
            let value = bytes.get(hit.start..hit.end).unwrap_or_default().to_vec();
            self.take(n, range.clone(), hit.class, Some(value), found);
        }
    }
}

/// Decides about everything that was found, and says what has to be put where.
fn judge(rules: &ContentRules, marker: &Marker, document: &Document<'_>, mut found: Vec<Raw>) -> Scanned {
    let mut scanned = Scanned { overflow: found.len() > MAX_ACTIONS, ..Scanned::default() };
    found.sort_by_key(|raw| (raw.range.start, raw.range.end, raw.class));
    found.dedup_by(|a, b| a.range == b.range && a.class == b.class && a.opened == b.opened);
    let mut cluster: Option<Cluster> = None;
    for raw in found {
        let Some(rule) = rules.decide(raw.class, raw.place) else { continue };
        let value = match &raw.opened {
            Some(value) => value.as_slice(),
            None => document.bytes().get(raw.range.clone()).unwrap_or_default(),
        };
        let class = rules.detectors().name(raw.class);
        let finding = Finding {
            class: class.to_owned(),
            place: raw.place,
            action: rule.action,
            rule: rule.id.clone(),
            title: rule.title.clone(),
            range: raw.range.clone(),
            digest: marker.digest(class, value),
        };
        if scanned.top.as_ref().is_none_or(|top| top.action < finding.action) {
            scanned.top = Some(finding.clone());
        }
        if scanned.findings.len() < MAX_FINDINGS {
            scanned.findings.push(finding);
        }
        if rule.action != ContentAction::Redact {
            continue;
        }
        match &mut cluster {
            Some(cluster) if raw.range.start < cluster.range.end => {
                cluster.range.end = cluster.range.end.max(raw.range.end);
                cluster.values.push(value.to_vec());
            }
            _ => {
                scanned.close(cluster.take(), document, marker);
                cluster = Some(Cluster {
                    range: raw.range,
                    span: raw.span,
                    class: class.to_owned(),
                    opened: raw.opened.is_some(),
                    values: vec![value.to_vec()],
                });
            }
        }
    }
    scanned.close(cluster, document, marker);
    scanned
}

/// Findings that overlap are taken out as one.
struct Cluster {
    range: Range<usize>,
    span: usize,
    class: String,
    opened: bool,
    values: Vec<Vec<u8>>,
}

impl Scanned {
    fn close(&mut self, cluster: Option<Cluster>, document: &Document<'_>, marker: &Marker) {
        let Some(cluster) = cluster else { return };
        let Some(span) = document.spans.get(cluster.span) else { return };
        if cluster.opened {
            // A document in base64 is opened, cleaned and closed again.
            let raw = document.bytes().get(cluster.range.clone()).unwrap_or_default();
            let Ok(mut text) = STANDARD.decode(raw) else { return };
            for value in cluster.values {
                let mark = reference(&cluster.class, &marker.digest(&cluster.class, &value));
                self.vault.keep(&mark, &value);
                text = replace(&text, &value, mark.as_bytes());
            }
            self.edits.push((cluster.range, STANDARD.encode(text).into_bytes()));
            return;
        }
        let value = document.bytes().get(cluster.range.clone()).unwrap_or_default();
        let mark = reference(&cluster.class, &marker.digest(&cluster.class, value));
        self.vault.keep(&mark, value);
        let new = match span.kind {
            SpanKind::Number => format!("\"{mark}\""),
            SpanKind::Text if what(document, span).json && bare(document, span, &cluster.range) => {
                format!("\\\"{mark}\\\"")
            }
            SpanKind::Text | SpanKind::Key => mark,
        };
        let range = if span.kind == SpanKind::Number { span.range.clone() } else { cluster.range };
        self.edits.push((range, new.into_bytes()));
    }
}

/// Whether a place in JSON inside a string stands outside of that JSON's own strings.
fn bare(document: &Document<'_>, span: &Span, range: &Range<usize>) -> bool {
    let before = document.bytes().get(span.range.start..range.start).unwrap_or_default();
    !in_string(&Unescaped::new(before).text)
}

/// Whether a piece of JSON ends within a string.
pub fn in_string(json: &[u8]) -> bool {
    let (mut inside, mut at) = (false, 0);
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if json.get(at) == Some(&b'"') {
            inside = !inside;
            at += 1;
        } else {
            at += 2;
        }
    }
    inside
}

fn replace(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let edits: Vec<_> = memchr::memmem::find_iter(text, old).map(|at| (at..at + old.len(), new.to_vec())).collect();
    splice(text, &edits)
}
