//! Finding secrets, personal data, patterns and words in bytes.
//!
//! Owns what each class of content looks like ([`Detectors`]) and how a text is watched that comes piece by piece
//! ([`Tracker`]). It refuses: knowing where the bytes come from, what is to be done about a finding, and remembering values.
//!
//! A text is looked at in two passes. The first finds candidates as fast as the machine can read: literals by vector
//! instructions, numbers by looking at every eighth byte. The second looks at the candidates alone, with checksums.
//!
//! *Invariant:* whatever was reported before more bytes came is still there afterwards, and nothing that begins before the
//! place that [`Tracker::settle`] names can still become a finding. A stream may be let go up to there.

mod checks;
mod formats;
mod shapes;
mod special;
mod tracker;

use std::{collections::BTreeMap, fmt, ops::Range, sync::LazyLock};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use memchr::{memchr_iter, memmem};

pub use shapes::MAX_AUTOMATON_BYTES;
pub use tracker::{Settled, Tracker};

use formats::{FORMATS, aws_secret};
use shapes::{SHIPPED, Shape, Trigger};
use special::There;

/// How much of what was let go is kept to see what stood before a match, in bytes.
pub const CONTEXT_BYTES: usize = 256;
/// The most classes that there can be, with those of a bundle.
pub const MAX_CLASSES: usize = 256;

/// A class of content, as a number: an index into [`Detectors::classes`].
pub type ClassId = u16;

/// Something that was found. The range is in the bytes that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// What it is.
    pub class: ClassId,
}

/// A set of classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassSet([u64; MAX_CLASSES / 64]);

impl ClassSet {
    /// Puts a class in.
    pub fn insert(&mut self, class: ClassId) {
        if let Some(word) = self.0.get_mut(usize::from(class) / 64) {
            *word |= 1 << (class % 64);
        }
    }

    /// Whether a class is in it.
    #[must_use]
    pub fn contains(&self, class: ClassId) -> bool {
        self.0.get(usize::from(class) / 64).is_some_and(|word| word & (1 << (class % 64)) != 0)
    }

    /// Puts in what is in another one.
    pub fn join(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; MAX_CLASSES / 64]
    }
}

const PRIVATE_KEY: &str = "secret.private_key";
const SERVICE_ACCOUNT: &str = "secret.gcp_service_account";
const AWS_SECRET: &str = "secret.aws_secret_key";
const DATABASE_URL: &str = "secret.database_url";
const URL_PASSWORD: &str = "secret.url_password";
const BESIDE_KEYWORD: &str = "guess.secret";

/// The classes that every installation has.
pub static BUILT_IN: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let special = [PRIVATE_KEY, SERVICE_ACCOUNT, AWS_SECRET, DATABASE_URL, URL_PASSWORD, BESIDE_KEYWORD];
    let formats = FORMATS.iter().map(|format| format.class);
    let mut all: Vec<_> = special.into_iter().chain(formats).chain(SHIPPED.iter().map(|s| s.class)).collect();
    all.sort_unstable();
    all.dedup();
    all
});

fn class(name: &str) -> ClassId {
    BUILT_IN.binary_search(&name).ok().and_then(|n| n.try_into().ok()).unwrap_or(ClassId::MAX)
}

/// What a literal announces.
#[derive(Debug, Clone)]
enum Announced {
    /// Formats, by their place in the table.
    Formats(Vec<(usize, ClassId)>),
    PrivateKey,
    AwsSecret,
    Address,
}

/// The literals of the first pass.
struct Literals {
    searchers: Vec<(AhoCorasick, Vec<Announced>)>,
    /// What a text may not end with the beginning of, sorted, for streams.
    begun: Vec<(&'static [u8], Vec<ClassId>)>,
    longest: usize,
    keywords: AhoCorasick,
    ids: Ids,
}

/// The classes that no table names.
struct Ids {
    private_key: ClassId,
    service_account: ClassId,
    aws_secret: ClassId,
    database: ClassId,
    password: ClassId,
    keyword: ClassId,
    shipped: Vec<ClassId>,
}

const AWS_WORDS: [&str; 5] = ["secret_access_key", "SECRET_ACCESS_KEY", "ecretAccessKey", "aws_secret", "AWS_SECRET"];
/// Words beside which a value of high entropy is taken for a secret.
const KEYWORDS: [&str; 16] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "accesskey",
    "auth_key",
    "private_key",
    "client_secret",
    "credential",
    "bearer",
    "x-api-key",
    "passphrase",
];
/// How much may stand between a keyword and the sign behind it: `secret_value =`.
const KEYWORD_TAIL: usize = 16;

static LITERALS: LazyLock<Option<Literals>> = LazyLock::new(Literals::new);

impl Literals {
    /// *Invariant:* a test makes sure that it comes.
    fn new() -> Option<Self> {
        let mut table: BTreeMap<&'static str, Announced> = BTreeMap::new();
        let mut begun: BTreeMap<&'static [u8], Vec<ClassId>> = BTreeMap::new();
        for (n, format) in FORMATS.iter().enumerate() {
            let entry = table.entry(format.literal).or_insert_with(|| Announced::Formats(Vec::new()));
            if let Announced::Formats(formats) = entry {
                formats.push((n, class(format.class)));
            }
            begun.entry(format.literal.as_bytes()).or_default().push(class(format.class));
        }
        table.insert("PRIVATE KEY", Announced::PrivateKey);
        table.extend(AWS_WORDS.map(|word| (word, Announced::AwsSecret)));
        table.insert("://", Announced::Address);
        begun.insert(special::BEGIN, vec![class(PRIVATE_KEY), class(SERVICE_ACCOUNT)]);
        // Vector instructions look at up to four bytes at once: short literals by themselves keep the others quick.
        let (long, short): (Vec<_>, Vec<_>) = table.into_iter().partition(|(literal, _)| literal.len() >= 4);
        let searcher = |table: Vec<(&'static str, Announced)>| {
            let literals = table.iter().map(|(literal, _)| literal);
            let searcher = AhoCorasickBuilder::new().match_kind(MatchKind::LeftmostLongest).build(literals).ok()?;
            Some((searcher, table.into_iter().map(|(_, announced)| announced).collect::<Vec<_>>()))
        };
        Some(Self {
            searchers: vec![searcher(long)?, searcher(short)?],
            longest: begun.keys().map(|literal| literal.len()).max().unwrap_or_default(),
            begun: begun.into_iter().collect(),
            keywords: AhoCorasickBuilder::new().ascii_case_insensitive(true).build(KEYWORDS).ok()?,
            ids: Ids {
                private_key: class(PRIVATE_KEY),
                service_account: class(SERVICE_ACCOUNT),
                aws_secret: class(AWS_SECRET),
                database: class(DATABASE_URL),
                password: class(URL_PASSWORD),
                keyword: class(BESIDE_KEYWORD),
                shipped: SHIPPED.iter().map(|shipped| class(shipped.class)).collect(),
            },
        })
    }
}

/// Whether a token may begin here: no letter or digit stands before it, but for that of an escape (`\n`, `\u0022`, `%3D`).
pub(super) fn begins(text: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).and_then(|at| text.get(at));
    match before(1) {
        Some(byte) if byte.is_ascii_alphanumeric() => {
            (matches!(byte, b'n' | b'r' | b't' | b'b' | b'f') && before(2) == Some(&b'\\'))
                || (before(3) == Some(&b'%')
                    && before(2).is_some_and(u8::is_ascii_hexdigit)
                    && byte.is_ascii_hexdigit())
                || (before(5) == Some(&b'u') && before(6) == Some(&b'\\'))
        }
        _ => true,
    }
}

/// A pattern of a bundle.
#[derive(Debug)]
struct Custom {
    class: ClassId,
    shape: Shape,
    keyword: Option<memmem::Finder<'static>>,
}

/// The word lists of a bundle.
struct Words {
    searcher: AhoCorasick,
    /// The class of each word, in the searcher's order.
    classes: Vec<ClassId>,
    /// Every word in small letters, sorted, for streams.
    sorted: Vec<(Vec<u8>, ClassId)>,
    longest: usize,
}

/// Everything that a bundle looks for. Immutable; one for all streams.
#[derive(Default)]
pub struct Detectors {
    custom_classes: Vec<String>,
    customs: Vec<Custom>,
    words: Option<Words>,
}

impl fmt::Debug for Detectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detectors").field("custom_classes", &self.custom_classes).finish_non_exhaustive()
    }
}

/// A pattern as a bundle has it.
#[derive(Debug, Clone)]
pub struct PatternSource {
    /// Its name; the class is `pattern.NAME`.
    pub name: String,
    /// The regular expression.
    pub regex: String,
    /// It is only looked for in a text that has this word in it, in these letters.
    pub keyword: Option<String>,
    /// No letter or digit may stand beside a match.
    pub whole_word: bool,
    /// Whether classes such as `\w` mean the letters of all scripts.
    pub unicode: bool,
}

impl PatternSource {
    fn shape(&self) -> Result<Shape, String> {
        let shape =
            Shape::new(&self.regex, self.unicode, if self.whole_word { shapes::whole_word } else { shapes::any })?;
        if shape.regex.is_match(b"") {
            return Err("it matches nothing at all, which is everywhere".into());
        }
        Ok(shape)
    }
}

impl Detectors {
    /// Detectors with the patterns and word lists of a bundle.
    ///
    /// # Errors
    /// For each one that does not work: its name and why.
    pub fn new(patterns: &[PatternSource], lists: &[(String, Vec<String>)]) -> Result<Self, Vec<(String, String)>> {
        let mut this = Self::default();
        let mut wrong = Vec::new();
        for pattern in patterns {
            let class = this.add_class(format!("pattern.{}", pattern.name));
            let keyword = pattern.keyword.as_ref().map(|word| memmem::Finder::new(word.as_bytes()).into_owned());
            match pattern.shape() {
                Ok(shape) => this.customs.push(Custom { class, shape, keyword }),
                Err(why) => wrong.push((pattern.name.clone(), why)),
            }
        }
        let mut words = Vec::new();
        for (name, list) in lists {
            let class = this.add_class(format!("words.{name}"));
            words.extend(list.iter().map(|word| (word.to_ascii_lowercase().into_bytes(), class)));
        }
        words.sort();
        words.dedup();
        if !words.is_empty() {
            let searcher =
                AhoCorasickBuilder::new().ascii_case_insensitive(true).build(words.iter().map(|(word, _)| word));
            match searcher {
                Ok(searcher) => {
                    this.words = Some(Words {
                        searcher,
                        classes: words.iter().map(|(_, class)| *class).collect(),
                        longest: words.iter().map(|(word, _)| word.len()).max().unwrap_or_default(),
                        sorted: words,
                    });
                }
                Err(error) => wrong.push(("words".to_owned(), error.to_string())),
            }
        }
        if wrong.is_empty() { Ok(this) } else { Err(wrong) }
    }

    fn add_class(&mut self, name: String) -> ClassId {
        self.custom_classes.push(name);
        ClassId::try_from(BUILT_IN.len() + self.custom_classes.len() - 1).unwrap_or(ClassId::MAX)
    }

    /// The names of all classes; a [`ClassId`] is a place in here.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        BUILT_IN.iter().copied().chain(self.custom_classes.iter().map(String::as_str))
    }

    /// The name of a class.
    #[must_use]
    pub fn name(&self, class: ClassId) -> &str {
        let n = usize::from(class);
        let custom = || n.checked_sub(BUILT_IN.len()).and_then(|n| self.custom_classes.get(n)).map(String::as_str);
        BUILT_IN.get(n).copied().or_else(custom).unwrap_or("unknown")
    }

    /// Whether any of these classes is a bundle's own pattern. Those want a text without escapes.
    #[must_use]
    pub fn has_patterns(&self, classes: &ClassSet) -> bool {
        self.customs.iter().any(|custom| classes.contains(custom.class))
    }

    /// Looks through a whole text for everything but patterns. Escapes such as `\n` in it do not hide anything, escapes of
    /// letters (`\u0041`) do.
    pub fn scan(&self, text: &[u8], classes: &ClassSet, hits: &mut Vec<Hit>) {
        self.literals(text, classes, true, hits);
        Self::numbers_and_mail(text, classes, hits);
    }

    /// Looks through a whole text without escapes for the patterns.
    pub fn scan_patterns(&self, text: &[u8], classes: &ClassSet, hits: &mut Vec<Hit>) {
        for custom in self.customs.iter().filter(|custom| classes.contains(custom.class)) {
            if custom.keyword.as_ref().is_none_or(|keyword| keyword.find(text).is_some()) {
                custom.shape.scan(text, |range| hits.push(hit(range, custom.class)));
            }
        }
    }

    fn numbers_and_mail(text: &[u8], classes: &ClassSet, hits: &mut Vec<Hit>) {
        let Some(literals) = LITERALS.as_ref() else { return };
        let wanted = |trigger: Trigger| {
            SHIPPED
                .iter()
                .zip(&literals.ids.shipped)
                .filter(move |(shipped, class)| shipped.trigger == trigger && classes.contains(**class))
                .filter_map(|(shipped, class)| Some((shipped.shape.as_ref()?, *class)))
        };
        let numbers: Vec<(&Shape, ClassId)> = wanted(Trigger::Number).collect();
        if !numbers.is_empty() {
            shapes::number_runs(text, |run| {
                let part = text.get(..run.end).unwrap_or(text);
                for (shape, class) in &numbers {
                    let mut at = run.start;
                    while let Some(found) = shape.regex.find_at(part, at) {
                        at = match (shape.check)(text, found.range()) {
                            Some(range) => {
                                hits.push(hit(range.clone(), *class));
                                range.end
                            }
                            None => found.start() + 1,
                        };
                    }
                }
            });
        }
        for (shape, class) in wanted(Trigger::At) {
            let mut done = 0;
            for at in memchr_iter(b'@', text).collect::<Vec<_>>() {
                let local = |byte: &u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte);
                let before = text.get(at.saturating_sub(64).max(done)..at).unwrap_or_default();
                let from = at - before.iter().rev().take_while(|byte| local(byte)).count();
                if from == at {
                    continue;
                }
                let part = text.get(..(at + 330).min(text.len())).unwrap_or(text);
                let Some(found) = shape.regex.find_at(part, from).filter(|found| found.start() < at) else { continue };
                if let Some(range) = (shape.check)(text, found.range()) {
                    done = range.end;
                    hits.push(hit(range, class));
                }
            }
        }
    }

    /// Looks for what literals announce, and for words. Returns before which place nothing can come any more: the text's
    /// length if it was the last of it.
    fn literals(&self, text: &[u8], classes: &ClassSet, last: bool, hits: &mut Vec<Hit>) -> usize {
        let Some(literals) = LITERALS.as_ref() else { return 0 };
        let mut open = text.len();
        let ids = &literals.ids;
        let mut see = |there: There, class: ClassId| match there {
            There::Nothing => {}
            There::Found(range) => hits.push(hit(range, class)),
            There::Open(at) => open = open.min(at),
        };
        for (searcher, announced) in &literals.searchers {
            let mut at = 0;
            while let Some(found) = searcher.find(aho_corasick::Input::new(text).span(at..text.len())) {
                at = found.start() + 1;
                match announced.get(found.pattern().as_usize()) {
                    Some(Announced::Formats(formats)) if begins(text, found.start()) => {
                        for (n, class) in formats.iter().filter(|(_, class)| classes.contains(*class)) {
                            if let Some(format) = FORMATS.get(*n) {
                                see(token(text, found.start(), format, last), *class);
                            }
                        }
                    }
                    Some(Announced::PrivateKey) if last => {
                        let from = found.start().saturating_sub(40);
                        let before = text.get(from..found.start()).unwrap_or_default();
                        if let Some(begin) = memmem::rfind(before, special::BEGIN) {
                            let begin = from + begin;
                            if let Some(class) = key_class(text, begin, classes, ids) {
                                see(special::private_key(text, begin, last), class);
                            }
                        }
                    }
                    Some(Announced::AwsSecret) if classes.contains(ids.aws_secret) => {
                        let rest = text.get(found.end()..).unwrap_or_default();
                        let tail = rest.iter().take(8).take_while(|b| b.is_ascii_alphabetic() || **b == b'_').count();
                        let real = |value: &[u8]| aws_secret(value).is_some();
                        let there = special::beside(text, found.end() + tail, last, base64, real);
                        see(there, ids.aws_secret);
                    }
                    Some(Announced::Address) if classes.contains(ids.database) || classes.contains(ids.password) => {
                        let (there, database) = special::url_password(text, found.start(), last);
                        let class = if database { ids.database } else { ids.password };
                        if classes.contains(class) {
                            see(there, class);
                        }
                    }
                    _ => {}
                }
            }
        }
        if !last && (classes.contains(ids.private_key) || classes.contains(ids.service_account)) {
            // A stream is watched from the first line on, not from the words in it.
            for begin in memmem::find_iter(text, special::BEGIN) {
                if let Some(class) = key_class(text, begin, classes, ids) {
                    see(special::private_key(text, begin, last), class);
                }
            }
        }
        if classes.contains(ids.keyword) {
            for found in literals.keywords.find_overlapping_iter(text) {
                let rest = text.get(found.end()..).unwrap_or_default();
                let tail =
                    rest.iter().take(KEYWORD_TAIL).take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                see(special::beside(text, found.end() + tail, last, url64_base64, special::generated), ids.keyword);
            }
        }
        if let Some(words) = &self.words {
            open = open.min(words.scan(text, classes, last, hits));
        }
        if !last {
            open = open.min(literals.begun(text, classes));
        }
        open
    }
}

const fn base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/' || byte == b'='
}

const fn url64_base64(byte: u8) -> bool {
    base64(byte) || matches!(byte, b'_' | b'-' | b'.' | b'~' | b'(')
}

/// Of which class a private key is, if anybody wants to know.
fn key_class(text: &[u8], at: usize, classes: &ClassSet, ids: &Ids) -> Option<ClassId> {
    if classes.contains(ids.service_account) && special::in_service_account(text, at) {
        return Some(ids.service_account);
    }
    classes.contains(ids.private_key).then_some(ids.private_key)
}

/// A token of one format, whose literal stands at `at`.
fn token(text: &[u8], at: usize, format: &formats::Format, last: bool) -> There {
    let from = at + format.literal.len();
    let rest = text.get(from..).unwrap_or_default();
    let len = rest.iter().take(format.max + 1).take_while(|byte| (format.alphabet)(**byte)).count();
    if len > format.max {
        return There::Nothing;
    }
    if len == rest.len() && !last {
        return There::Open(at);
    }
    let run = rest.get(..len).unwrap_or_default();
    (format.check)(run).map_or(There::Nothing, |len| There::Found(at..from + len))
}

const fn hit(range: Range<usize>, class: ClassId) -> Hit {
    Hit { start: range.start, end: range.end, class }
}

impl Literals {
    /// Where a text ends with the beginning of a literal.
    fn begun(&self, text: &[u8], classes: &ClassSet) -> usize {
        let first = text.len().saturating_sub(self.longest);
        (first..text.len())
            .find(|at| {
                let tail = text.get(*at..).unwrap_or_default();
                let from = self.begun.partition_point(|(literal, _)| *literal < tail);
                let mut near = self.begun.get(from..).unwrap_or_default().iter();
                begins(text, *at)
                    && near
                        .by_ref()
                        .take_while(|(literal, _)| literal.starts_with(tail))
                        .any(|(_, of)| of.iter().any(|class| classes.contains(*class)))
            })
            .unwrap_or(text.len())
    }
}

impl Words {
    fn scan(&self, text: &[u8], classes: &ClassSet, last: bool, hits: &mut Vec<Hit>) -> usize {
        if !self.classes.iter().any(|class| classes.contains(*class)) {
            return text.len();
        }
        let mut open = text.len();
        for found in self.searcher.find_overlapping_iter(text) {
            let Some(class) = self.classes.get(found.pattern().as_usize()).copied() else { continue };
            if !classes.contains(class) || !begins(text, found.start()) {
                continue;
            }
            if found.end() == text.len() && !last {
                open = open.min(found.start());
            } else if shapes::alone(text, &found.range()) {
                hits.push(hit(found.range(), class));
            }
        }
        if !last {
            let tail = text.get(text.len().saturating_sub(self.longest)..).unwrap_or_default().to_ascii_lowercase();
            let base = text.len() - tail.len();
            let begun = (0..tail.len()).find(|at| {
                let part = tail.get(*at..).unwrap_or_default();
                let from = self.sorted.partition_point(|(word, _)| word.as_slice() < part);
                begins(text, base + at)
                    && self
                        .sorted
                        .get(from..)
                        .unwrap_or_default()
                        .iter()
                        .take_while(|(word, _)| word.starts_with(part))
                        .any(|(_, class)| classes.contains(*class))
            });
            open = open.min(begun.map_or(text.len(), |at| base + at));
        }
        open
    }
}

#[cfg(test)]
mod tests;
