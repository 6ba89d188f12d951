//! This server's own ledger: what is appended in the transaction of the thing itself, and its checkpoints.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use stockade_domain::{
    ContentRef, ContextValue, Decision, Deed, World,
    ids::{ProjectId, RecordId, RunId},
};
use stockade_ledger::{Body, Checkpoint, DeedFacts, Outcome, Producer, SignedNote, Status};
use stockade_store::{StoreError, Tx, records};

use crate::app::App;

/// Gives this server's records identifiers that sort as they were made, also within a millisecond and when the
/// clock goes back: people read a deed's closing after its opening.
#[derive(Debug, Default)]
pub struct RecordIds {
    last: Mutex<u128>,
}

impl RecordIds {
    fn next(&self, world: &dyn World) -> RecordId {
        let fresh: RecordId = world.id();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Counting up from random bits (RFC 9562 §6.2, method 2) leaves the identifier as hard to meet twice.
        *last = u128::from_be_bytes(*fresh.as_bytes()).max(last.saturating_add(1));
        RecordId::from_bytes(last.to_be_bytes())
    }
}

/// Appends one record. *Invariant:* in the caller's transaction, so that it is there if and only if what it
/// speaks about is.
async fn append(
    app: &App,
    tx: &mut Tx,
    run: Option<RunId>,
    project: Option<ProjectId>,
    body: Body,
) -> Result<RecordId, StoreError> {
    let new = records::NewRecord { id: app.records.next(&*app.world), at: app.now(), run, project, body };
    let id = new.id;
    records::append(tx, app.server, new).await?;
    Ok(id)
}

/// A deed begins, with the sealed content that comes along.
pub async fn open(
    app: &App,
    tx: &mut Tx,
    deed: &Deed,
    decision: &Decision,
    contents: Vec<ContentRef>,
) -> Result<RecordId, StoreError> {
    let body = Body::Open { deed: DeedFacts::from(deed), decision: decision.clone(), contents };
    append(app, tx, deed.resource.run, deed.resource.project, body).await
}

/// A deed was refused.
pub async fn refused(app: &App, tx: &mut Tx, deed: &Deed, decision: &Decision) -> Result<RecordId, StoreError> {
    let body = Body::Refused { deed: DeedFacts::from(deed), decision: decision.clone(), contents: Vec::new() };
    append(app, tx, deed.resource.run, deed.resource.project, body).await
}

/// A deed has ended: well, or with this code.
pub async fn close(
    app: &App,
    tx: &mut Tx,
    deed: &Deed,
    of: RecordId,
    failed: Option<&str>,
) -> Result<RecordId, StoreError> {
    let status = if failed.is_some() { Status::Error } else { Status::Ok };
    let outcome = Outcome { status, code: failed.map(str::to_owned) };
    let body = Body::Close { of, outcome, usage: None, cost: None, facts: BTreeMap::new(), contents: Vec::new() };
    append(app, tx, deed.resource.run, deed.resource.project, body).await
}

/// Something worth remembering that nobody decided.
pub async fn note(
    app: &App,
    tx: &mut Tx,
    code: &str,
    run: Option<RunId>,
    facts: impl IntoIterator<Item = (&str, String)>,
) -> Result<RecordId, StoreError> {
    let facts: BTreeMap<_, _> =
        facts.into_iter().map(|(name, value)| (name.to_owned(), ContextValue::Text(value))).collect();
    append(app, tx, run, None, Body::Note { code: code.to_owned(), facts, contents: Vec::new() }).await
}

/// The name of this server's key under checkpoints.
pub fn key_name(app: &App) -> String {
    Checkpoint::origin_of(&Producer::Server(app.server))
}

/// A checkpoint of this server's ledger as it is in this transaction, signed.
pub async fn checkpoint(app: &App, tx: &mut Tx) -> Result<SignedNote, StoreError> {
    let state = records::ledger(tx, &app.server.to_string()).await?;
    let name = key_name(app);
    Ok(Checkpoint { origin: name.clone(), size: state.size, root: state.root }.sign(&name, &app.key))
}

#[cfg(test)]
mod tests {
    use stockade_domain::Timestamp;

    use super::*;

    /// A clock that stands still, and then goes back; randomness that does not help.
    #[derive(Debug)]
    struct Still(Timestamp);

    impl World for Still {
        fn now(&self) -> Timestamp {
            self.0
        }
        fn random(&self, out: &mut [u8]) {
            out.fill(7);
        }
    }

    #[test]
    fn records_sort_as_they_were_made() {
        let ids = RecordIds::default();
        let made: Vec<_> = [5_000, 5_000, 9_000, 3_000, 3_000].map(|now| ids.next(&Still(Timestamp(now)))).to_vec();
        assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
    }
}
