//! References in the place of what was taken out.
//!
//! A reference is `[stockade:redacted:CLASS:REF]`. REF is a keyed digest: the same value in the same run has the same one, so
//! conversations and prompt caches stay as they are, and nobody without the run's key can tell values by trying. The values are
//! kept for whoever may read the call's content ([`Vault`]); no model and no log sees them.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::json::{Unescaped, escape};

/// How many hexadecimal digits of the digest are in a reference.
const REF_DIGITS: usize = 12;
/// How many values one call keeps. What is above is taken out all the same and can be found in no vault.
pub const MAX_VALUES: usize = 1_000;

/// What makes references of one run.
#[derive(Clone)]
pub struct Marker(hmac::Key);

impl fmt::Debug for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marker")
    }
}

impl Marker {
    /// From a key that is the run's own, or was derived from it.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The digest of a value. It does not depend on how often the value is escaped.
    #[must_use]
    pub fn digest(&self, class: &str, value: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(class.as_bytes());
        context.update(&[0]);
        context.update(&plain(value));
        let tag = context.sign();
        let mut digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        digits.truncate(REF_DIGITS);
        digits
    }
}

/// What stands in the place of a value.
#[must_use]
pub fn reference(class: &str, digest: &str) -> String {
    format!("[stockade:redacted:{class}:{digest}]")
}

/// A value without any escapes.
fn plain(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    for _ in 0..4 {
        let escaped =
            memchr::memchr_iter(b'\\', &value).any(|at| escape(value.get(at..).unwrap_or_default()).is_some());
        if !escaped {
            break;
        }
        value = Unescaped::new(&value).text;
    }
    value
}

/// What was taken out of one request or answer. It is sealed with the call's content and never logged.
#[derive(Default)]
pub struct Vault {
    entries: BTreeMap<String, SecretString>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("references", &self.entries.keys().collect::<Vec<_>>()).finish()
    }
}

impl Vault {
    /// Keeps a value under its reference.
    pub(super) fn keep(&mut self, reference: &str, value: &[u8]) {
        if self.entries.len() < MAX_VALUES && !self.entries.contains_key(reference) {
            let value = String::from_utf8_lossy(&plain(value)).into_owned();
            self.entries.insert(reference.to_owned(), value.into());
        }
    }

    pub(super) fn join(&mut self, other: Self) {
        for (reference, value) in other.entries {
            self.keep(&reference, value.expose_secret().as_bytes());
        }
    }

    /// Whether nothing was taken out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The references in it.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The value of a reference.
    #[must_use]
    pub fn value(&self, reference: &str) -> Option<&SecretString> {
        self.entries.get(reference)
    }

    /// What is to be sealed: a JSON object of references and values.
    #[must_use]
    pub fn to_sealed_json(&self) -> Vec<u8> {
        let entries: serde_json::Map<_, _> =
            self.entries.iter().map(|(reference, value)| (reference.clone(), json!(value.expose_secret()))).collect();
        json!({ "redacted": entries }).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_reference_in_a_run_and_another_one_in_another() {
        let (a, b) = (Marker::new(b"a"), Marker::new(b"b"));
        let digest = a.digest("secret.x", b"line\nline");
        assert_eq!(digest.len(), REF_DIGITS);
        assert_eq!(a.digest("secret.x", b"line\\nline"), digest);
        assert_eq!(a.digest("secret.x", b"line\\\\nline"), digest);
        assert_ne!(a.digest("secret.y", b"line\nline"), digest);
        assert_ne!(b.digest("secret.x", b"line\nline"), digest);
    }

    #[test]
    fn a_vault_says_what_it_holds_and_not_what_that_is() {
        let mut vault = Vault::default();
        vault.keep("[r1]", b"hush");
        vault.keep("[r1]", b"hush");
        assert_eq!(vault.references().collect::<Vec<_>>(), ["[r1]"]);
        assert!(!format!("{vault:?}").contains("hush"));
        assert_eq!(vault.to_sealed_json(), br#"{"redacted":{"[r1]":"hush"}}"#);
    }
}
