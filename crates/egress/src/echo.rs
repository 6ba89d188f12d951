//! Looks for a credential in the answer to the request that it was put into.
//!
//! It owns that an origin which repeats what it was sent does not tell the environment its credential: headers and bodies are searched for it as it was
//! sent, and the answer ends before it. It holds back the last bytes in which it may begin. It refuses nothing else, and finds no disguise: an origin that
//! means to give a credential away can, and a credential is bound only to origins that have it anyway.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use memchr::memmem::Finder;
use secrecy::{ExposeSecret, SecretSlice};

/// A shorter one would be found in everything.
pub const MIN_BYTES: usize = 8;

/// See the module.
pub struct Echo {
    forms: Vec<SecretSlice<u8>>,
    /// What may be the beginning of one.
    held: BytesMut,
}

impl std::fmt::Debug for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Echo").field("forms", &self.forms.len()).finish_non_exhaustive()
    }
}

impl Echo {
    /// Looks for these. Nothing, if none of them is long enough.
    pub fn new<'a>(forms: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let long = forms.into_iter().filter(|form| form.len() >= MIN_BYTES);
        let forms: Vec<_> = long.map(|form| SecretSlice::from(form.to_vec())).collect();
        (!forms.is_empty()).then_some(Self { forms, held: BytesMut::new() })
    }

    /// Whether one of them stands in headers, in a value or in what is only a name.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.values().any(|value| self.finds(value.as_bytes()))
            || headers.keys().any(|name| self.names(name.as_str()))
    }

    /// Whether one of them stands in the head of an answer: in its headers, or in the phrase behind its status (RFC 9112 §4).
    pub fn is_in_head<B>(&self, answer: &http::Response<B>) -> bool {
        let phrase = answer.extensions().get::<hyper::ext::ReasonPhrase>();
        self.is_in(answer.headers()) || phrase.is_some_and(|phrase| self.finds(phrase.as_bytes()))
    }

    /// Whether one of them stands in a name, which has small letters here and goes on with those that it came with.
    fn names(&self, name: &str) -> bool {
        let small = |form: &SecretSlice<u8>| zeroize::Zeroizing::new(form.expose_secret().to_ascii_lowercase());
        self.forms.iter().any(|form| Finder::new(&*small(form)).find(name.as_bytes()).is_some())
    }

    /// Takes the next piece of a body, and gives what may be handed on. Nothing, if one of them is there.
    pub fn push(&mut self, piece: Bytes) -> Option<Bytes> {
        let whole = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            std::mem::take(&mut self.held).freeze()
        };
        if self.finds(&whole) {
            return None;
        }
        let border = whole.len() - self.begun(&whole);
        self.held.extend_from_slice(whole.get(border..).unwrap_or_default());
        Some(whole.slice(..border))
    }

    /// What was held back, at the end.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    /// How much is held back.
    pub fn held(&self) -> u64 {
        self.held.len() as u64
    }

    /// Whether nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn finds(&self, text: &[u8]) -> bool {
        self.forms.iter().any(|form| Finder::new(form.expose_secret()).find(text).is_some())
    }

    /// How many bytes at the end may be the beginning of one of them.
    fn begun(&self, text: &[u8]) -> usize {
        let of = |form: &SecretSlice<u8>| {
            let form = form.expose_secret();
            let most = (form.len() - 1).min(text.len());
            (1..=most).rev().find(|length| text.ends_with(form.get(..*length).unwrap_or_default())).unwrap_or(0)
        };
        self.forms.iter().map(of).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &[u8] = b"aabaaab-secret";

    fn through(pieces: &[&[u8]]) -> Option<Vec<u8>> {
        let mut echo = Echo::new([SECRET]).unwrap();
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&echo.push(Bytes::copy_from_slice(piece))?);
        }
        out.extend_from_slice(&echo.rest());
        Some(out)
    }

    #[test]
    fn s1_an_answer_ends_before_a_credential_that_it_repeats() {
        for cut in 0..SECRET.len() {
            let (one, other) = SECRET.split_at(cut);
            assert_eq!(through(&[b"you said ", one, other]), None, "cut at {cut}");
            // Nothing of it was handed on before the rest of it came.
            let mut echo = Echo::new([SECRET]).unwrap();
            assert_eq!(echo.push(Bytes::from_static(b"x")).unwrap(), "x");
            assert_eq!(echo.push(Bytes::copy_from_slice(one)).unwrap(), "");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-you-said", "Bearer aabaaab-secret".parse().unwrap());
        assert!(Echo::new([SECRET]).unwrap().is_in(&headers));
        assert!(Echo::new([&b"short"[..]]).is_none());
        assert!(!format!("{:?}", Echo::new([SECRET])).contains("secret"));
    }

    proptest! {
        #[test]
        fn what_is_no_credential_goes_through_whole_however_it_is_cut(
            text in "[ab-]{0,60}", cuts in prop::collection::vec(0_usize..60, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &text.as_bytes()[ends[0]..ends[1]]).collect();
            prop_assert_eq!(through(&pieces), Some(text.into_bytes()));
        }
    }
}
