//! What has a shape instead of a literal: cards, account numbers, national ids, e-mail, and the patterns of a bundle.
//!
//! A shape is a regular expression and a check. For streams it is also run as an automaton over every byte: as long as that
//! is not in its first state, a match has begun whose end has not come ([`Live`]).

use std::{fmt, ops::Range, sync::LazyLock};

use regex::bytes::Regex;
use regex_automata::{
    Anchored, Input, MatchKind,
    hybrid::{
        LazyStateID,
        dfa::{Cache, DFA},
    },
    nfa::thompson,
    util::syntax,
};

use super::checks;

/// A shape.
pub struct Shape {
    pub regex: Regex,
    /// For streams. Nothing if it could not be built: then nothing is let go before the text ends.
    pub live: DFA,
    /// What of a match counts, if it counts at all. The text is there for what stands around it.
    pub check: fn(&[u8], Range<usize>) -> Option<Range<usize>>,
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shape").field("regex", &self.regex).finish_non_exhaustive()
    }
}

/// How much an automaton may take while it is built, in bytes; one of a bundle that needs more is refused.
pub const MAX_AUTOMATON_BYTES: usize = 256 * 1024;
/// How much a stream's automaton keeps of what it has worked out, in bytes. Beyond that it works it out again.
const CACHE_BYTES: usize = 512 * 1024;

const ANCHORS: &str =
    "`^`, `$` and `\\b` are not known here: a text has no lines, and `whole_word = true` is for words";

impl Shape {
    /// A shape from an expression.
    ///
    /// # Errors
    /// What is wrong with the expression, in words.
    pub fn new(
        pattern: &str,
        unicode: bool,
        check: fn(&[u8], Range<usize>) -> Option<Range<usize>>,
    ) -> Result<Self, String> {
        let regex = regex::bytes::RegexBuilder::new(pattern)
            .unicode(unicode)
            .size_limit(MAX_AUTOMATON_BYTES)
            .build()
            .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "it needs more memory than a pattern may: use smaller repetitions, or classes such as [0-9]".to_owned()
            }
            other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        })?;
        let live = DFA::builder()
            .configure(
                DFA::config().match_kind(MatchKind::All).cache_capacity(CACHE_BYTES).skip_cache_capacity_check(true),
            )
            .syntax(syntax::Config::new().unicode(unicode).utf8(false))
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(4 * MAX_AUTOMATON_BYTES)))
            .build(pattern)
            .map_err(
                |error| if error.to_string().contains("word boundar") { ANCHORS.to_owned() } else { error.to_string() },
            )?;
        if !live.get_nfa().look_set_any().is_empty() {
            return Err(ANCHORS.to_owned());
        }
        Ok(Self { regex, live, check })
    }

    /// What of this text has the shape.
    pub fn scan(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) {
        let mut at = 0;
        while let Some(matched) = self.regex.find_at(text, at) {
            // What is no match after all may hide one that begins later.
            at = match (self.check)(text, matched.range()) {
                Some(range) => {
                    let end = range.end;
                    found(range);
                    end.max(matched.start() + 1)
                }
                None => matched.start() + 1,
            };
        }
    }
}

/// A shape that is followed through a stream.
pub struct Live {
    cache: Cache,
    state: Option<LazyStateID>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    /// Before the first byte.
    pub fn new(shape: &Shape) -> Self {
        Self { cache: shape.live.create_cache(), state: None }
    }

    /// Takes the next bytes, and says after how many of them nothing was begun for the last time.
    pub fn push(&mut self, shape: &Shape, bytes: &[u8]) -> Option<usize> {
        let dfa = &shape.live;
        let input = Input::new(b"").anchored(Anchored::No);
        let mut first = dfa.start_state_forward(&mut self.cache, &input).ok()?;
        let mut state = self.state.unwrap_or(first);
        let mut clears = self.cache.clear_count();
        let mut calm = None;
        for (n, byte) in bytes.iter().enumerate() {
            state = dfa.next_state(&mut self.cache, state, *byte).ok()?;
            if self.cache.clear_count() != clears {
                clears = self.cache.clear_count();
                first = dfa.start_state_forward(&mut self.cache, &input).ok()?;
            }
            if state == first {
                calm = Some(n + 1);
            }
        }
        self.state = Some(state);
        calm
    }
}

/// Whether this byte could go on with what stands beside it.
fn word(byte: Option<&u8>) -> bool {
    byte.is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether nothing that belongs to it stands on either side.
pub fn alone(text: &[u8], range: &Range<usize>) -> bool {
    super::begins(text, range.start) && !word(text.get(range.end))
}

/// A number stands alone if it is no part of a longer one, of a fraction or of an identifier.
fn number(text: &[u8], range: &Range<usize>) -> bool {
    let before = range.start.checked_sub(1).and_then(|at| text.get(at));
    let joined = |byte: Option<&u8>| matches!(byte, Some(b'-' | b'.' | b'_' | b'/'));
    let further = |at: usize| word(text.get(at));
    alone(text, range)
        && !(joined(before) && range.start.checked_sub(2).is_some_and(further))
        && !(joined(text.get(range.end)) && further(range.end + 1))
}

macro_rules! numbers {
    ($($name:ident: $check:path;)+) => {
        $(fn $name(text: &[u8], range: Range<usize>) -> Option<Range<usize>> {
            (number(text, &range) && $check(text.get(range.clone())?)).then_some(range)
        })+
    };
}

numbers! {
    card: checks::card;
    steuer_id: checks::steuer_id;
    nir: checks::nir;
    nino: checks::nino;
    ssn: checks::ssn;
    dni: checks::dni;
    codice_fiscale: checks::codice_fiscale;
    pesel: checks::pesel;
    ahv: checks::ahv;
}

fn iban(text: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let len = checks::iban(text.get(range.clone())?)?;
    let range = range.start..range.start + len;
    alone(text, &range).then_some(range)
}

/// Nine digits with a check that one in eleven passes: only beside a word that says what they are.
fn bsn(text: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let before = text.get(range.start.saturating_sub(60)..range.start)?;
    let said = [&b"bsn"[..], b"burgerservicenummer", b"sofi"]
        .iter()
        .any(|word| before.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)));
    (said && number(text, &range) && checks::bsn(text.get(range.clone())?)).then_some(range)
}

/// Endings of files, which are no countries.
const FILES: &[&[u8]] = &[
    b"png",
    b"jpg",
    b"jpeg",
    b"gif",
    b"svg",
    b"webp",
    b"ico",
    b"js",
    b"mjs",
    b"cjs",
    b"ts",
    b"tsx",
    b"jsx",
    b"css",
    b"scss",
    b"json",
    b"md",
    b"py",
    b"rs",
    b"go",
    b"java",
    b"c",
    b"h",
    b"cpp",
    b"rb",
    b"toml",
    b"yaml",
    b"yml",
    b"html",
    b"txt",
    b"lock",
    b"map",
    b"service",
    b"timer",
    b"socket",
    b"target",
    b"local",
    b"localhost",
    b"internal",
    b"test",
    b"invalid",
    b"example",
];

fn email(text: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let mut from = range.start;
    // The letter of an escaped line's end belongs to the escape: `\nsomebody@…`.
    if from > 0 && text.get(from - 1) == Some(&b'\\') && matches!(text.get(from), Some(b'n' | b'r' | b't')) {
        from += 1;
    }
    let found = text.get(from..range.end)?;
    let at = found.iter().position(|byte| *byte == b'@').filter(|at| *at > 0)?;
    let (local, domain) = (found.get(..at)?, found.get(at + 1..)?);
    let top = domain.rsplit(|byte| *byte == b'.').next()?;
    let machine = local.eq_ignore_ascii_case(b"git")
        || [&b"noreply"[..], b"no-reply", b"donotreply"]
            .iter()
            .any(|word| local.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word)))
        || domain.eq_ignore_ascii_case(b"users.noreply.github.com")
        || domain.starts_with(b"example.");
    let goes_on = matches!(text.get(range.end), Some(b'-' | b'_')) || word(text.get(range.end));
    if in_address(text, from) {
        return None;
    }
    let ends_in_letters = !top.is_empty() && top.iter().all(u8::is_ascii_alphabetic);
    (!machine && !goes_on && ends_in_letters && !FILES.iter().any(|end| top.eq_ignore_ascii_case(end)))
        .then_some(from..range.end)
}

/// Whether this place belongs to the user or the password of an address: `https://user:password@host`.
fn in_address(text: &[u8], at: usize) -> bool {
    let before = text.get(at.saturating_sub(200)..at).unwrap_or_default();
    let from = before.iter().rposition(|byte| !byte.is_ascii_graphic()).map_or(0, |at| at + 1);
    let before = before.get(from..).unwrap_or_default();
    memchr::memmem::rfind(before, b"://")
        .and_then(|at| before.get(at + 3..))
        .is_some_and(|user| !user.iter().any(|byte| matches!(byte, b'/' | b'?' | b'#' | b'=')))
}

/// Checks nothing.
pub fn any(_: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    (!range.is_empty()).then_some(range)
}

/// A match that no letter or digit stands beside.
pub fn whole_word(text: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    (!range.is_empty() && alone(text, &range)).then_some(range)
}

/// How candidates of a shape are found quickly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A run of capitals, digits, single spaces, dashes and dots with five digits in it.
    Number,
    /// An at sign.
    At,
}

/// A shape that every bundle may use.
#[derive(Debug)]
pub struct Shipped {
    pub class: &'static str,
    pub trigger: Trigger,
    pub shape: LazyLock<Option<Shape>>,
}

macro_rules! shipped {
    ($($class:literal, $trigger:ident, $pattern:literal, $check:path;)+) => {
        [$(Shipped {
            class: $class,
            trigger: Trigger::$trigger,
            // *Invariant:* a test builds every one of them.
            shape: LazyLock::new(|| Shape::new($pattern, false, $check).ok()),
        }),+]
    };
}

/// All of them.
pub static SHIPPED: [Shipped; 12] = shipped! {
    "personal.card", Number, r"[2-6](?:[0-9]{12,18}|[0-9]{3}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}(?:[ -][0-9]{3})?|[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5})", card;
    "personal.iban", Number, r"[A-Z]{2}[0-9]{2}(?:[A-Z0-9]{11,28}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)", iban;
    "personal.email", At, r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}", email;
    "personal.national_id.DE", Number, r"[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}", steuer_id;
    "personal.national_id.FR", Number, r"[1278] ?[0-9]{2} ?(?:0[1-9]|[1-9][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}", nir;
    "personal.national_id.GB", Number, r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]", nino;
    "personal.national_id.US", Number, r"[0-8][0-9]{2}(?:-[0-9]{2}-| [0-9]{2} )[0-9]{4}", ssn;
    "personal.national_id.ES", Number, r"(?:[0-9]{8}|[XYZ][0-9]{7})-?[A-HJ-NP-TV-Z]", dni;
    "personal.national_id.NL", Number, r"[0-9]{9}", bsn;
    "personal.national_id.IT", Number, r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]", codice_fiscale;
    "personal.national_id.PL", Number, r"[0-9]{11}", pesel;
    "personal.national_id.CH", Number, r"756\.?[0-9]{4}\.?[0-9]{4}\.?[0-9]{2}", ahv;
};

/// Runs in which a number of some kind may stand, with room around them.
pub fn number_runs(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    const STEP: usize = 8;
    let part = |at: usize| {
        text.get(at).is_some_and(|byte| {
            byte.is_ascii_digit() || byte.is_ascii_uppercase() || matches!(byte, b' ' | b'-' | b'.')
        })
    };
    let blank = |at: usize| matches!(text.get(at), Some(b' ' | b'-' | b'.'));
    // Two separators in a row end a run: the spaces before a line of code are none.
    let goes_on = |at: usize, before: usize| part(at) && !(blank(at) && blank(before));
    let mut at = STEP - 1;
    while at < text.len() {
        if !part(at) || (blank(at) && blank(at + 1)) {
            at += STEP;
            continue;
        }
        let mut from = at;
        while from > 0 && goes_on(from - 1, from) {
            from -= 1;
        }
        let mut to = at + 1;
        while goes_on(to, to - 1) {
            to += 1;
        }
        if to - from >= STEP {
            let digits = text.get(from..to).unwrap_or_default().iter().filter(|byte| byte.is_ascii_digit()).count();
            if digits >= 5 {
                found(from..to);
            }
        }
        at = to + STEP - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_shape_builds() {
        for shipped in &SHIPPED {
            assert!(shipped.shape.is_some(), "{}", shipped.class);
        }
    }

    #[test]
    fn a_live_shape_is_calm_between_words() {
        let shape = SHIPPED.iter().find(|s| s.class == "personal.card").and_then(|s| s.shape.as_ref()).unwrap();
        let mut live = Live::new(shape);
        assert_eq!(live.push(shape, b"hello "), Some(6));
        assert_eq!(live.push(shape, b"4111 1111"), None);
        assert_eq!(live.push(shape, b" 1111 x"), Some(7));
    }

    #[test]
    fn runs_of_numbers_are_seen_wherever_they_stand() {
        for pad in 0..40 {
            let text = format!("{}4111 1111 1111 1111 is it", "x".repeat(pad));
            let mut runs = Vec::new();
            number_runs(text.as_bytes(), |run| runs.push(run));
            assert_eq!(runs.iter().filter(|run| run.start <= pad && run.end >= pad + 19).count(), 1, "{pad}: {runs:?}");
        }
        let mut runs = Vec::new();
        number_runs(b"        let x = 1;\n        let y = 22;\n", |run| runs.push(run));
        assert!(runs.is_empty(), "{runs:?}");
    }
}
