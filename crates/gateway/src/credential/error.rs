//! Why we cannot prove who we are. *Invariant:* no text in here holds a secret: what an authority says is shown only after
//! everything that was sent in confidence has been taken out of it.

use std::{path::PathBuf, sync::Arc};

use super::key::KeyError;

/// The longest text of an authority that is shown, in characters.
const SHOWN: usize = 300;

/// Why there is no credential. It can be cloned, because everybody who waited for one renewal gets the same answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialError {
    /// The key is not there.
    #[error("the provider's key is not there")]
    Key(#[source] Arc<KeyError>),
    /// Something is not configured.
    #[error("{what} is not configured: {hint}")]
    Missing {
        /// What.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A file cannot be read.
    #[error("the file {path} cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// Something that we were given does not read.
    #[error("{what} does not read: {why}")]
    Format {
        /// What.
        what: String,
        /// Why, without its content.
        why: String,
    },
    /// An address that no secret may be sent to.
    #[error("{what} cannot be at `{address}`: {why}")]
    Address {
        /// Of what.
        what: &'static str,
        /// Which.
        address: String,
        /// Why not.
        why: &'static str,
    },
    /// An authority does not answer.
    #[error("{who} at {at} does not answer: {why}")]
    Unreachable {
        /// Who.
        who: &'static str,
        /// Where.
        at: String,
        /// Why.
        why: String,
    },
    /// An authority said no.
    #[error("{who} at {at} refused with {status} {text}; {hint}")]
    Refused {
        /// Who.
        who: &'static str,
        /// Where.
        at: String,
        /// The HTTP status.
        status: u16,
        /// Its own words, with what we sent in confidence taken out.
        text: String,
        /// What to look at.
        hint: &'static str,
    },
    /// An authority's answer is not understood.
    #[error("{who} at {at} sent an answer that is not understood: {why}")]
    Answer {
        /// Who.
        who: &'static str,
        /// Where.
        at: String,
        /// Why, without its content.
        why: &'static str,
    },
    /// A command that should print a secret did not.
    #[error("the command `{program}` printed no secret: {why}")]
    Command {
        /// Its first word.
        program: String,
        /// What went wrong.
        why: String,
    },
    /// The request cannot carry the credential.
    #[error("the request cannot be signed: {0}")]
    Request(&'static str),
}

impl From<KeyError> for CredentialError {
    fn from(error: KeyError) -> Self {
        Self::Key(Arc::new(error))
    }
}

/// An authority's own words as they may be shown: one line, no longer than [`SHOWN`], none of `secrets` in it.
pub(crate) fn shown(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "[secret]");
    }
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut short: String = line.trim().chars().take(SHOWN).collect();
    if short.len() < line.trim().len() {
        short.push('…');
    }
    short
}
