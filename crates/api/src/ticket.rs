//! Content tickets: how a person shows a site's listener who they are.
//!
//! The server signs a [`Ticket`] with its Ed25519 key; the runner knows the server's public key since it
//! enrolled. A ticket says who asks and for which run, for a few minutes; whether they may is decided by the
//! runner's policy at the moment of reading. It travels as `Authorization: Bearer stockade-ticket-1.…`.
//!
//! This file owns the text form and refuses cryptography: whoever issues signs [`Ticket::signed_bytes`],
//! whoever accepts verifies them before believing a field.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use stockade_domain::{
    Role, Timestamp,
    ids::{ProjectId, RunId, RunnerId, UserId},
};

/// What a ticket begins with. Part of the signed bytes, so that no other signature of the server is a ticket.
pub const PREFIX: &str = "stockade-ticket-1.";

/// How long a ticket holds, in milliseconds.
pub const TTL_MS: u64 = 5 * 60 * 1_000;

/// The longest ticket, in bytes of its text form.
pub const MAX_LEN: usize = 4_096;

/// Who asks, for what, until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The person.
    pub user: UserId,
    /// What the person may be, sorted.
    pub roles: Vec<Role>,
    /// The run whose content or environment is wanted.
    pub run: RunId,
    /// Its project.
    pub project: ProjectId,
    /// The person for whom the run works.
    pub owner: UserId,
    /// The runner that shall accept it.
    pub runner: RunnerId,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The run's key, wrapped to the site's, for a run that is never placed: its runners keep keys only while its token lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped_key: Option<String>,
}

/// Why a text is no ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no content ticket: {0}")]
pub struct TicketError(&'static str);

impl Ticket {
    /// The bytes to be signed: the prefix and the payload as it travels.
    pub fn signed_bytes(&self) -> Vec<u8> {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())).into_bytes()
    }

    /// The text form, from the signature over [`Self::signed_bytes`].
    pub fn encode(&self, signature: &[u8]) -> String {
        format!("{}.{}", String::from_utf8_lossy(&self.signed_bytes()), URL_SAFE_NO_PAD.encode(signature))
    }

    /// Takes a text apart: the ticket, the bytes that were signed and the signature, which is *not* verified here.
    pub fn decode(text: &str) -> Result<(Self, Vec<u8>, Vec<u8>), TicketError> {
        if text.len() > MAX_LEN {
            return Err(TicketError("it is too long"));
        }
        let body = text.strip_prefix(PREFIX).ok_or(TicketError("it does not begin with `stockade-ticket-1.`"))?;
        let (payload, signature) = body.split_once('.').ok_or(TicketError("it has no signature"))?;
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TicketError("its payload is not base64"))?;
        let ticket = serde_json::from_slice(&json).map_err(|_| TicketError("its payload is not a ticket"))?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TicketError("its signature is not base64"))?;
        Ok((ticket, format!("{PREFIX}{payload}").into_bytes(), signature))
    }
}

#[cfg(test)]
mod tests {
    use stockade_domain::Id;

    use super::*;

    #[test]
    fn what_is_encoded_reads_back_with_the_bytes_that_were_signed() {
        let ticket = Ticket {
            user: Id::from_parts(1, [1; 10]),
            roles: vec![Role::Admin],
            run: Id::from_parts(1, [2; 10]),
            project: Id::from_parts(1, [3; 10]),
            owner: Id::from_parts(1, [4; 10]),
            runner: Id::from_parts(1, [5; 10]),
            expires_at: Timestamp(7),
            wrapped_key: None,
        };
        let text = ticket.encode(&[9; 64]);
        assert_eq!(Ticket::decode(&text), Ok((ticket.clone(), ticket.signed_bytes(), vec![9; 64])));
        for wrong in ["", "stockade-ticket-1.", "stockade-ticket-1.e30.AA", &text[1..], &"x".repeat(5000)] {
            assert!(Ticket::decode(wrong).is_err(), "{wrong}");
        }
    }
}
