//! Questions about what goes out of an environment.
//!
//! Owns what such a question is about: the deed with all its circumstances, for one run; and that a yes holds for every deed that is the same,
//! until the question's time is over: programs open many connections to one host, and a person is asked once. It refuses to hold the run up
//! meanwhile: only the connection waits. *Invariant:* of a question that people have not been told of, nobody waits for an answer.

use std::time::Duration;

use async_trait::async_trait;
use stockade_domain::{ContentKind, ContextValue, Deed, Digest, EventKind, Principal, ids::RunId};
use stockade_egress::exit::People;
use stockade_gateway::{Unasked, Word};
use stockade_ledger::{Sealed, sha256};
use stockade_policy::{Permit, Question, Refusal};

use super::{Asking, Put, Shared};
use crate::{book::Draft, error::chain};

/// The longest path that a person is shown, in bytes.
const SHOWN_PATH: usize = 1_024;

#[async_trait]
impl People for Asking {
    async fn ask(&self, question: Question, contents: Vec<Sealed>, patience: Duration) -> Result<Permit, Refusal> {
        let Some(put) = self.about(&question, contents) else { return Err(question.refused()) };
        match self.wait(put, patience).await {
            Ok(Word::Yes { approval }) => {
                self.shared.note_yes(approval).await;
                Ok(question.granted(approval))
            }
            Ok(Word::No { .. } | Word::Silence { .. }) => Err(question.refused()),
            Err(error) => {
                if error != Unasked::Nobody {
                    tracing::warn!(error = %error, "nobody could be asked about a connection: {error}");
                }
                Err(question.refused())
            }
        }
    }
}

impl Asking {
    /// The question as it is put; nothing if it is no run's, or the run's content cannot be sealed any more.
    fn about(&self, question: &Question, contents: Vec<Sealed>) -> Option<Put> {
        let deed = question.deed();
        let (Some(run), Principal::Agent { owner, .. }) = (deed.resource.run, &deed.principal) else { return None };
        let key = self.shared.runs.get(run)?.key()?;
        let plain = shown(deed);
        let shown = key.seal(&*self.shared.desk.world, ContentKind::Question, plain.as_bytes()).ok()?;
        let subject = subject(deed)?;
        Some(Put {
            run,
            owner: *owner,
            subject,
            deed: deed.clone(),
            decision: question.decision().clone(),
            shown,
            contents,
            // Replaced by the run's own.
            valid_ms: 0,
            beside: true,
        })
    }
}

/// What exactly is asked. On which connection a request comes is no part of it: whoever comes again comes on another one, for the same.
fn subject(deed: &Deed) -> Option<Digest> {
    let mut asked = deed.clone();
    asked.context.public.remove("connection");
    Some(sha256(&[&serde_json::to_vec(&asked).ok()?]))
}

/// What a person reads.
fn shown(deed: &Deed) -> String {
    let text = |name: &str| match deed.context.public.get(name).or_else(|| deed.context.content.get(name)) {
        Some(ContextValue::Text(text)) => Some(text.clone()),
        Some(ContextValue::Long(number)) => Some(number.to_string()),
        Some(ContextValue::Bool(true)) => Some(name.replace('_', " ")),
        _ => None,
    };
    let mut said = format!("{} {}", deed.action, deed.resource.id);
    if let Some(port) = text("port") {
        said.push_str(&format!(", port {port}"));
    }
    for name in ["protocol", "method", "host", "upgrade", "ref", "new_ref", "force", "deletion"] {
        if let Some(value) = text(name) {
            said.push_str(&format!(", {value}"));
        }
    }
    if let Some(path) = text("path") {
        let cut: String = path.chars().take(SHOWN_PATH).collect();
        said.push_str(&format!("\n{cut}"));
    }
    said
}

impl Shared {
    /// A yes was used for the first time.
    async fn note_yes(&self, approval: stockade_domain::ids::ApprovalId) {
        self.note_once(approval, true).await;
    }

    /// Tells of something in a run on which somebody may be at work.
    pub(super) async fn beside(&self, run: RunId, event: EventKind) -> Result<(), Unasked> {
        let Some(slot) = self.runs.get(run) else { return Err(Unasked::Nobody) };
        let written = slot.write_beside(&self.desk, self.now(), Draft::events(vec![event])).await;
        let written = written.map_err(|error| Unasked::Unrecorded(chain(&error)))?;
        if written { Ok(()) } else { Err(Unasked::Nobody) }
    }
}

#[cfg(test)]
mod tests {
    use stockade_domain::{Action, Context, Id, Resource, ResourceKind};

    use super::*;

    #[test]
    fn a_yes_to_a_request_is_to_the_same_request_on_any_connection() {
        let deed = |connection: &str, path: &str| Deed {
            principal: Principal::Agent { run: Id::from_bytes([1; 16]), owner: Id::from_bytes([2; 16]) },
            action: Action::RequestSend,
            resource: Resource::new(ResourceKind::Host, "api.example"),
            context: Context::default()
                .with("connection", connection)
                .with("method", "POST")
                .with_content("path", path),
        };
        assert_eq!(subject(&deed("rec_1", "/a")), subject(&deed("rec_2", "/a")));
        assert_ne!(subject(&deed("rec_1", "/a")), subject(&deed("rec_1", "/b")));
    }
}
