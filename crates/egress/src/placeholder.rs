//! Placeholders: what stands inside an environment where a credential would be.
//!
//! A [`Placeholder`] is worth nothing by itself. The way out puts the credential in its place on the last step to the
//! origin, and only where a [`Binding`] says so: this host and port, over TLS, this header, below this path. [`look`] finds every
//! placeholder of a request and either says where credentials go ([`Places`]), or refuses the whole request because one
//! stands elsewhere. Only [`fill`] touches a secret. Nothing is ever put into a URL, a header's name, a body or an
//! answer: [`Scanner`] reports what it sees in bodies and changes nothing.
//!
//! Placeholders are also found in capitals, percent-encoded (to three times) and in base64, `Authorization: Basic`
//! above all. Other disguises are not found, and need not be: a disguised placeholder is never replaced.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memmem;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::{path::PathRule, request::Wanted};

/// How each placeholder begins.
pub const PREFIX: &str = "stk_ph_";
/// How long each placeholder is, in bytes.
pub const LEN: usize = PREFIX.len() + 32;
/// So many placeholders may one request have.
pub const MAX_PLACES: usize = 16;
/// So often is a text percent-decoded to find one.
pub const MAX_DECODED: usize = 3;

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// What base64 makes of [`PREFIX`], wherever in a text it stands: the part that no neighbour changes.
const ENCODED: [&[u8]; 3] = [b"c3RrX3BoX", b"N0a19waF", b"zdGtfcGhf"];
/// As forgiving as some servers are; only the strict form is replaced.
const FORGIVING: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// A text that stands for a credential: [`PREFIX`] and 32 letters and digits that nobody guesses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Placeholder(String);

impl Placeholder {
    /// Makes one of 160 random bits.
    pub fn from_random(random: &[u8; 20]) -> Self {
        let mut text = PREFIX.to_owned();
        for five in random.chunks(5) {
            let bits = five.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            for at in (0..8).rev() {
                let letter = usize::try_from(bits >> (5 * at) & 31).unwrap_or(0);
                text.extend(LETTERS.get(letter).copied().map(char::from));
            }
        }
        Self(text)
    }

    /// Reads one in its one spelling.
    pub fn parse(text: &str) -> Option<Self> {
        let tail = text.strip_prefix(PREFIX)?;
        let good = text.len() == LEN && tail.bytes().all(|byte| LETTERS.contains(&byte));
        good.then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a credential may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// What stands for it.
    pub placeholder: Placeholder,
    /// The host, as it is dialled.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it may go out without TLS too: for servers on one's own machine.
    pub in_the_clear: bool,
    /// The header whose value it may stand in.
    pub header: HeaderName,
    /// The paths for which it may be used.
    pub path: PathRule,
}

/// What a request has of placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// None.
    Nothing,
    /// All of them stand where they are bound: [`fill`] puts the credentials there.
    Replace(Places),
    /// One stands elsewhere. The request goes nowhere; the answer is 403.
    Refuse(Misplaced),
}

/// Where credentials go in a request's headers. Only [`look`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places(Vec<Place>);

impl Places {
    /// The placeholders and the headers they stand in.
    pub fn iter(&self) -> impl Iterator<Item = (&Placeholder, &HeaderName)> {
        self.0.iter().map(|place| (&place.placeholder, &place.header))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    placeholder: Placeholder,
    header: HeaderName,
    /// Which of the values of that header.
    nth: usize,
    /// Where in the value, or in what Basic decodes to.
    at: usize,
    basic: bool,
}

/// Why a request with a placeholder goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// In the path, the query, the host or the method.
    #[error("a credential's placeholder stands in the request's first line; send it in its header")]
    Url,
    /// In the name of a header.
    #[error("a credential's placeholder stands in the name of a header")]
    Name,
    /// In another spelling than its own.
    #[error("a credential's placeholder stands in header {0} in a spelling that is not its own")]
    Disguised(HeaderName),
    /// It stands for nothing in this environment.
    #[error("header {0} has a placeholder that stands for no credential of this environment")]
    Unknown(HeaderName),
    /// Its credential is for another host or port.
    #[error("the credential in header {0} is not for this host")]
    Host(HeaderName),
    /// The request does not come over TLS, and everybody between could read the credential.
    #[error("the credential in header {0} goes out over TLS only; use https")]
    InTheClear(HeaderName),
    /// Its credential is for another header.
    #[error("the credential in header {0} belongs in another header")]
    Header(HeaderName),
    /// Its credential is for other paths.
    #[error("the credential in header {0} is not for this path")]
    Path(HeaderName),
    /// More than [`MAX_PLACES`].
    #[error("the request has more than 16 placeholders")]
    TooMany,
}

/// Why credentials were not put in. Nothing of the request may go out then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// These are not the headers that were looked at.
    #[error("header {0} is not the one that was looked at")]
    Moved(HeaderName),
    /// There is none for this placeholder any more.
    #[error("the credential for header {0} is not at hand")]
    Missing(HeaderName),
    /// It is empty or has characters that no header has.
    #[error("the credential for header {0} cannot stand in a header: it is empty or has control characters")]
    Secret(HeaderName),
}

/// Finds every placeholder of a request and says whether all of them are where they belong.
pub fn look(bindings: &[Binding], wanted: &Wanted, headers: &HeaderMap) -> Verdict {
    match places(bindings, wanted, headers) {
        Ok(places) if places.is_empty() => Verdict::Nothing,
        Ok(places) => Verdict::Replace(Places(places)),
        Err(why) => Verdict::Refuse(why),
    }
}

fn places(bindings: &[Binding], wanted: &Wanted, headers: &HeaderMap) -> Result<Vec<Place>, Misplaced> {
    for text in [wanted.raw_target.as_str(), &wanted.host, wanted.method.as_str()] {
        if !find(text.as_bytes()).is_empty() || is_disguised(text.as_bytes()) {
            return Err(Misplaced::Url);
        }
    }
    let mut all = Vec::new();
    for name in headers.keys() {
        if !find(name.as_str().as_bytes()).is_empty() {
            return Err(Misplaced::Name);
        }
        for (nth, value) in headers.get_all(name).iter().enumerate() {
            for (at, placeholder, basic) in of_value(name, value.as_bytes())? {
                bound(bindings, wanted, name, &placeholder)?;
                if all.len() == MAX_PLACES {
                    return Err(Misplaced::TooMany);
                }
                all.push(Place { placeholder, header: name.clone(), nth, at, basic });
            }
        }
    }
    Ok(all)
}

/// The placeholders of one value: where they are, and whether inside of Basic.
fn of_value(name: &HeaderName, value: &[u8]) -> Result<Vec<(usize, Placeholder, bool)>, Misplaced> {
    let disguised = || Misplaced::Disguised(name.clone());
    let basic = basic(name, value).and_then(|encoded| STANDARD.decode(encoded).ok());
    let text = basic.as_deref().unwrap_or(value);
    // What is found plainly is taken out; what is found in the rest is in disguise.
    let mut rest = text.to_vec();
    let mut found = Vec::new();
    for at in find(text) {
        let here = text.get(at..at + LEN).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let placeholder = here.and_then(Placeholder::parse).ok_or_else(disguised)?;
        rest.iter_mut().skip(at).take(LEN).for_each(|byte| *byte = b' ');
        found.push((at, placeholder, basic.is_some()));
    }
    if is_disguised(&rest) { Err(disguised()) } else { Ok(found) }
}

/// Whether a credential may go into this header of this request.
fn bound(bindings: &[Binding], wanted: &Wanted, name: &HeaderName, placeholder: &Placeholder) -> Result<(), Misplaced> {
    let own = || bindings.iter().filter(|binding| binding.placeholder == *placeholder);
    let at_host = |binding: &&Binding| binding.host.eq_ignore_ascii_case(&wanted.host) && binding.port == wanted.port;
    let in_header = |binding: &&Binding| binding.header == *name;
    let on_path = |binding: &Binding| wanted.path.as_ref().is_ok_and(|path| binding.path.matches(path));
    if own().next().is_none() {
        return Err(Misplaced::Unknown(name.clone()));
    }
    if own().find(at_host).is_none() {
        return Err(Misplaced::Host(name.clone()));
    }
    let covered = |binding: &&Binding| wanted.tls || binding.in_the_clear;
    if own().filter(at_host).find(covered).is_none() {
        return Err(Misplaced::InTheClear(name.clone()));
    }
    let near = || own().filter(at_host).filter(covered);
    if near().find(in_header).is_none() {
        return Err(Misplaced::Header(name.clone()));
    }
    let fits = near().filter(in_header).any(on_path);
    if fits { Ok(()) } else { Err(Misplaced::Path(name.clone())) }
}

/// Puts the credentials into the headers that [`look`] has looked at. The values that have one are marked sensitive.
///
/// # Errors
/// The headers are as before then, and the request goes nowhere.
pub fn fill<'s>(
    headers: &mut HeaderMap,
    places: &Places,
    secret: impl Fn(&Placeholder) -> Option<&'s SecretString>,
) -> Result<(), FillError> {
    let mut made: Vec<(&HeaderName, usize, HeaderValue)> = Vec::new();
    for first in &places.0 {
        let same = |place: &&Place| place.header == first.header && place.nth == first.nth;
        if made.iter().any(|(name, nth, _)| **name == first.header && *nth == first.nth) {
            continue;
        }
        let moved = || FillError::Moved(first.header.clone());
        let value = headers.get_all(&first.header).iter().nth(first.nth).ok_or_else(moved)?.as_bytes();
        let encoded = if first.basic { Some(basic(&first.header, value).ok_or_else(moved)?) } else { None };
        let old = match encoded {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| moved())?,
            None => value.to_vec(),
        };
        let (mut new, mut done) = (Zeroizing::new(Vec::new()), 0);
        for place in places.0.iter().filter(same) {
            let here = old.get(place.at..place.at + LEN);
            if here != Some(place.placeholder.0.as_bytes()) {
                return Err(moved());
            }
            let secret = secret(&place.placeholder).ok_or_else(|| FillError::Missing(first.header.clone()))?;
            let secret = secret.expose_secret().as_bytes();
            if secret.is_empty() || secret.iter().any(u8::is_ascii_control) {
                return Err(FillError::Secret(first.header.clone()));
            }
            new.extend_from_slice(old.get(done..place.at).ok_or_else(moved)?);
            new.extend_from_slice(secret);
            done = place.at + LEN;
        }
        new.extend_from_slice(old.get(done..).unwrap_or_default());
        if encoded.is_some() {
            new = Zeroizing::new(format!("Basic {}", *Zeroizing::new(STANDARD.encode(&*new))).into_bytes());
        }
        let mut value = HeaderValue::from_bytes(&new).map_err(|_| FillError::Secret(first.header.clone()))?;
        value.set_sensitive(true);
        made.push((&first.header, first.nth, value));
    }
    for (name, nth, value) in made {
        if let http::header::Entry::Occupied(mut entry) = headers.entry(name) {
            entry.iter_mut().skip(nth).take(1).for_each(|place| *place = value.clone());
        }
    }
    Ok(())
}

/// What stands behind `Basic` in a header that has credentials.
fn basic<'a>(name: &HeaderName, value: &'a [u8]) -> Option<&'a [u8]> {
    if *name != header::AUTHORIZATION && *name != header::PROXY_AUTHORIZATION {
        return None;
    }
    let (scheme, rest) = value.split_at_checked(6)?;
    scheme.eq_ignore_ascii_case(b"basic ").then(|| rest.trim_ascii())
}

/// Where placeholders stand, in small letters or capitals.
fn find(text: &[u8]) -> Vec<usize> {
    let small = text.to_ascii_lowercase();
    let whole = |at: &usize| {
        let tail = small.get(at + PREFIX.len()..at + LEN);
        tail.is_some_and(|tail| tail.iter().all(|byte| LETTERS.contains(byte)))
    };
    memmem::find_iter(&small, PREFIX).filter(whole).collect()
}

/// Whether a placeholder stands there percent-encoded or in base64.
fn is_disguised(text: &[u8]) -> bool {
    let mut text = text.to_vec();
    for _ in 0..=MAX_DECODED {
        if is_encoded(&text) || text.split(|byte| !is_base64(*byte)).any(has_inside) {
            return true;
        }
        let decoded = percent_decoded(&text);
        if decoded == text {
            return false;
        }
        if !find(&decoded).is_empty() {
            return true;
        }
        text = decoded;
    }
    false
}

/// Whether base64 of [`PREFIX`] stands there.
fn is_encoded(text: &[u8]) -> bool {
    ENCODED.iter().any(|form| memmem::find(text, form).is_some())
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

/// Whether a word is base64 of a text with a placeholder that [`is_encoded`] does not see: one in capitals.
fn has_inside(word: &[u8]) -> bool {
    if word.len() < LEN {
        return false;
    }
    [alphabet::STANDARD, alphabet::URL_SAFE]
        .iter()
        .any(|letters| GeneralPurpose::new(letters, FORGIVING).decode(word).is_ok_and(|inner| !find(&inner).is_empty()))
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high << 4 | low).unwrap_or(b'%'));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Looks for placeholders in a body that streams by, and changes nothing.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The last bytes that came: shorter than a placeholder.
    carry: Vec<u8>,
}

/// What a piece of a body completed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Placeholders in their own spelling, in their order; of one piece [`MAX_PLACES`] at most.
    pub placeholders: Vec<Placeholder>,
    /// The beginning of one in base64.
    pub encoded: bool,
}

impl Scanner {
    /// A scanner at the beginning of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece and says what ends in it.
    pub fn push(&mut self, piece: &[u8]) -> Seen {
        let mut seen = Seen::default();
        let near = piece.get(..LEN - 1).unwrap_or(piece);
        let border = [&self.carry, near].concat();
        let crossing = |at: usize, length: usize| at < self.carry.len() && at + length > self.carry.len();
        for (text, on_border) in [(border.as_slice(), true), (piece, false)] {
            for at in memmem::find_iter(text, PREFIX).filter(|at| !on_border || crossing(*at, LEN)) {
                let here = text.get(at..at + LEN).and_then(|bytes| std::str::from_utf8(bytes).ok());
                let room = seen.placeholders.len() < MAX_PLACES;
                seen.placeholders.extend(here.and_then(Placeholder::parse).filter(|_| room));
            }
            for form in ENCODED {
                seen.encoded |= memmem::find_iter(text, form).any(|at| !on_border || crossing(at, form.len()));
            }
        }
        self.carry = if piece.len() < LEN { border } else { piece.to_vec() };
        self.carry.drain(..self.carry.len().saturating_sub(LEN - 1));
        seen
    }
}

#[cfg(test)]
mod tests;
