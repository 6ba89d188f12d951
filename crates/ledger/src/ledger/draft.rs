//! A record on its way: it gets its number and its bytes in the writer's thread, in the order of writing, so that a failed
//! write leaves no gap and two records never race for a number.

use std::sync::Arc;

use stockade_domain::{
    ContentRef,
    ids::{ProjectId, RecordId, RunId},
};
use tokio::sync::oneshot;

use super::{Core, LedgerError, state::OpenDeed};
use crate::{
    Body, EntryKind, LogEntry, LogError, Record, leaf_hash,
    log::{Durable, Staged},
};

/// What the ledger's own memory must take back if the write fails.
enum Effect {
    Nothing,
    Opened(RecordId),
    Closed(Box<OpenDeed>),
}

pub(super) struct Draft {
    pub core: Arc<Core>,
    pub run: Option<RunId>,
    pub project: Option<ProjectId>,
    /// Taken when the record is built.
    pub body: Option<Body>,
    pub contents: Vec<LogEntry>,
    pub extra: Vec<LogEntry>,
    pub reply: oneshot::Sender<Result<RecordId, LedgerError>>,
    built: Result<(RecordId, Effect), LedgerError>,
}

impl Draft {
    pub(super) fn new(
        core: Arc<Core>,
        about: (Option<RunId>, Option<ProjectId>),
        body: Body,
        entries: (Vec<LogEntry>, Vec<LogEntry>),
        reply: oneshot::Sender<Result<RecordId, LedgerError>>,
    ) -> Self {
        let ((run, project), (contents, extra)) = (about, entries);
        // Until it is built, it has not been written: the log has ended.
        let built = Err(LogError::Closed.into());
        Self { core, run, project, body: Some(body), contents, extra, reply, built }
    }

    fn try_build(&mut self) -> Result<(RecordId, Effect, Vec<u8>), LedgerError> {
        let Some(body) = self.body.take() else { return Err(LogError::Closed.into()) };
        let core = Arc::clone(&self.core);
        let mut state = core.state();
        let id = core.world.id();
        let (mut run, mut project) = (self.run, self.project);
        if let Body::Close { of, .. } = &body {
            let open = state.open.get(of).ok_or(LedgerError::AlreadyClosed { of: *of })?;
            (run, project) = (open.run, open.project);
        }
        let seq = state.pending.size();
        let record = Record { producer: core.producer, seq, at: core.world.now(), id, run, project, body };
        let canonical = record.checked_canonical()?;
        state.pending.append(leaf_hash(&canonical));
        let effect = match record.body {
            Body::Open { deed, .. } => {
                state.open.insert(id, OpenDeed { record: id, seq, run, project, deed });
                Effect::Opened(id)
            }
            Body::Close { of, .. } => {
                state.open.remove(&of).map_or(Effect::Nothing, |open| Effect::Closed(Box::new(open)))
            }
            _ => Effect::Nothing,
        };
        Ok((id, effect, canonical))
    }
}

impl Staged for Draft {
    fn build(&mut self) -> Vec<LogEntry> {
        match self.try_build() {
            Ok((id, effect, canonical)) => {
                self.built = Ok((id, effect));
                let mut entries = std::mem::take(&mut self.contents);
                entries.push(LogEntry::new(EntryKind::Record, canonical));
                entries.append(&mut self.extra);
                entries
            }
            Err(e) => {
                self.built = Err(e);
                Vec::new()
            }
        }
    }

    fn finish(self: Box<Self>, result: Result<Durable, LogError>) {
        let answer = match (result, self.built) {
            (Ok(durable), Ok((id, _))) => {
                self.core.advance(durable.end, 1);
                Ok(id)
            }
            (Ok(_), Err(e)) => Err(e),
            (Err(e), built) => {
                let mut state = self.core.state();
                state.pending = state.tree.clone();
                match built {
                    Ok((_, Effect::Opened(id))) => drop(state.open.remove(&id)),
                    Ok((_, Effect::Closed(open))) => drop(state.open.insert(open.record, *open)),
                    Ok((_, Effect::Nothing)) | Err(_) => {}
                }
                Err(e.into())
            }
        };
        // Whoever asked may have gone; the record stands all the same.
        let _ = self.reply.send(answer);
    }
}

/// Asks the writer's thread to make the ledger's state durable between two groups.
pub(super) struct SaveState {
    pub core: Arc<Core>,
    pub reply: oneshot::Sender<Result<(), LedgerError>>,
}

impl Staged for SaveState {
    fn build(&mut self) -> Vec<LogEntry> {
        Vec::new()
    }

    fn finish(self: Box<Self>, result: Result<Durable, LogError>) {
        let saved = result.map_err(LedgerError::from).and_then(|durable| {
            self.core.advance(durable.end, 0);
            self.core.save()
        });
        let _ = self.reply.send(saved);
    }
}

/// The references to some content, in its order.
pub(super) fn references(contents: &[crate::Sealed]) -> Vec<ContentRef> {
    contents.iter().map(|sealed| sealed.content).collect()
}
