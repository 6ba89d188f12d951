//! What may stand in prompts and answers, enforced.
//!
//! Owns where the texts of requests and answers are ([`json`], [`place`]), taking things out of them so that everything else stays as it
//! was sent, and streams that wait exactly as long as something forbidden could still be completed ([`StreamGuard`]).
//! What is looked for and what is done about it is the policy's ([`stockade_policy::content`]).
//!
//! It refuses: IO, clocks, deciding, and letting anything through that it cannot read while a rule does more than report.
//!
//! ```text
//! let guard = Guard::for_call(engine.content(&scope, Request), engine.content(&scope, Response), dialect, marker);
//! guard.request(&body) ──▶ Clean | Report | Redact { bytes, vault } | Ask | Block
//! guard.stream(framing) ── push(chunk) ──▶ bytes for the client … finish()
//! ```

mod cut;
pub mod json;
mod lane;
pub mod place;
mod refusal;
mod scan;
mod stream;
mod vault;

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;
use stockade_llm::{Dialect, Framing};
use stockade_policy::content::{ContentAction, ContentRules, Place};

pub use cut::MAX_EVENT_BYTES;
pub use json::Unreadable;
pub use lane::{IDLE_BYTES, MAX_HELD_BYTES};
pub use scan::{MAX_ACTIONS, MAX_DOCUMENT_BYTES, MAX_FINDINGS};
pub use stream::{MAX_QUEUED_BYTES, StreamGuard};
pub use vault::{MAX_VALUES, Marker, Vault};

/// The largest answer in one piece that is looked through, in bytes.
pub const MAX_WHOLE_BYTES: usize = 32 * 1024 * 1024;

/// Something that was found. It does not say what exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its class, for example `secret.github_token`.
    pub class: String,
    /// In what it stood.
    pub place: Place,
    /// What is done about it.
    pub action: ContentAction,
    /// The rule that says so.
    pub rule: String,
    /// That rule's title.
    pub title: String,
    /// Where it stood: in the bytes of a request, or of the text of a stream.
    pub range: Range<usize>,
    /// A keyed digest of it: the same value in the same run has the same.
    pub digest: String,
}

/// The classes of some findings, as they stand in the record of a call.
#[must_use]
pub fn classes(findings: &[Finding]) -> BTreeSet<String> {
    findings.iter().map(|finding| finding.class.clone()).collect()
}

/// What is to be done with a body.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing was found: the bytes go on as they are.
    Clean,
    /// The bytes go on as they are, and the record says what was found.
    Report(Vec<Finding>),
    /// Other bytes go on. The vault is sealed with the call.
    Redact {
        /// What goes on.
        bytes: Bytes,
        /// What was taken out.
        vault: Vault,
        /// All that was found.
        findings: Vec<Finding>,
    },
    /// A person decides. If it is yes, these bytes go on.
    Ask {
        /// What a rule says, for the person.
        title: String,
        /// What would go on.
        bytes: Bytes,
        /// What was taken out.
        vault: Vault,
        /// All that was found.
        findings: Vec<Finding>,
    },
    /// It goes no further.
    Block {
        /// What a rule says, for the client.
        title: String,
        /// All that was found.
        findings: Vec<Finding>,
    },
}

impl Verdict {
    /// All that was found.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Clean => &[],
            Self::Report(findings)
            | Self::Redact { findings, .. }
            | Self::Ask { findings, .. }
            | Self::Block { findings, .. } => findings,
        }
    }
}

/// The content rules of one call.
#[derive(Debug, Clone)]
pub struct Guard {
    request: ContentRules,
    response: ContentRules,
    dialect: Dialect,
    marker: Marker,
}

impl Guard {
    /// The guard of a call whose client speaks `dialect`. The rules are those of the policy for each direction.
    #[must_use]
    pub const fn for_call(request: ContentRules, response: ContentRules, dialect: Dialect, marker: Marker) -> Self {
        Self { request, response, dialect, marker }
    }

    /// Whether requests need not be looked at.
    #[must_use]
    pub fn skips_request(&self) -> bool {
        self.request.is_empty()
    }

    /// Whether answers need not be looked at.
    #[must_use]
    pub fn skips_response(&self) -> bool {
        self.response.is_empty()
    }

    /// Whether what is found in an answer changes nothing: then it need not be held for a moment.
    #[must_use]
    pub fn only_notes_response(&self) -> bool {
        !self.response.enforce()
    }

    /// The client's dialect.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Looks through a request.
    ///
    /// # Errors
    /// If it does not read as JSON: it is refused, whatever the rules say.
    pub fn request(&self, body: &Bytes) -> Result<Verdict, Unreadable> {
        verdict(&self.request, &self.marker, body)
    }

    /// Guards an answer that the client gets in this framing.
    #[must_use]
    pub fn stream(&self, framing: Framing) -> StreamGuard {
        StreamGuard::new(self.response.clone(), self.marker.clone(), self.dialect, framing)
    }

    /// The body of the error with which an answer in one piece is refused. The status is 400.
    #[must_use]
    pub fn refusal(&self, title: &str) -> Bytes {
        refusal::body(self.dialect, title)
    }

    /// Looks through an answer in one piece. An `ask` counts as a block: an answer cannot wait for a person.
    ///
    /// # Errors
    /// If it does not read as JSON although a rule does more than report.
    pub fn answer(&self, body: &Bytes) -> Result<Verdict, Unreadable> {
        match verdict(&self.response, &self.marker, body) {
            Ok(Verdict::Ask { title, findings, .. }) => Ok(Verdict::Block { title, findings }),
            Err(_) if !self.response.enforce() => Ok(Verdict::Clean),
            other => other,
        }
    }
}

fn verdict(rules: &ContentRules, marker: &Marker, body: &Bytes) -> Result<Verdict, Unreadable> {
    if rules.is_empty() {
        return Ok(Verdict::Clean);
    }
    let scanned = scan::scan(rules, marker, body)?;
    let Some((action, title)) = scanned.strongest().map(|finding| (finding.action, finding.title.clone())) else {
        return Ok(Verdict::Clean);
    };
    let changed = || if scanned.edits.is_empty() { body.clone() } else { Bytes::from(scanned.apply(body)) };
    Ok(match action {
        ContentAction::Report => Verdict::Report(scanned.findings),
        ContentAction::Redact => Verdict::Redact { bytes: changed(), vault: scanned.vault, findings: scanned.findings },
        ContentAction::Ask => {
            Verdict::Ask { title, bytes: changed(), vault: scanned.vault, findings: scanned.findings }
        }
        ContentAction::Block => Verdict::Block { title, findings: scanned.findings },
    })
}

#[cfg(test)]
mod tests;
