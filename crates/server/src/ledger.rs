//! This server's own ledger: what is appended in the transaction of the thing itself, and its checkpoints.

use std::collections::BTreeMap;

use stockade_domain::{
    ContextValue, Decision, Deed,
    ids::{ProjectId, RecordId, RunId},
};
use stockade_ledger::{Body, Checkpoint, DeedFacts, Outcome, Producer, SignedNote, Status};
use stockade_store::{StoreError, Tx, records};

use crate::app::App;

/// Appends one record. *Invariant:* in the caller's transaction, so that it is there if and only if what it
/// speaks about is.
async fn append(
    app: &App,
    tx: &mut Tx,
    run: Option<RunId>,
    project: Option<ProjectId>,
    body: Body,
) -> Result<RecordId, StoreError> {
    let new = records::NewRecord { id: (*app.world).id(), at: app.now(), run, project, body };
    let id = new.id;
    records::append(tx, app.server, new).await?;
    Ok(id)
}

/// A deed begins.
pub async fn open(app: &App, tx: &mut Tx, deed: &Deed, decision: &Decision) -> Result<RecordId, StoreError> {
    let body = Body::Open { deed: DeedFacts::from(deed), decision: decision.clone(), contents: Vec::new() };
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
    let body = Body::Close { of, outcome, usage: None, cost: None, contents: Vec::new() };
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
