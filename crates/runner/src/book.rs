//! The book of one run: its journal and what is told about it, kept in step.
//!
//! Owns the one way in which anything happens to a run: an [`Entry`] is durable in the journal first, then its events, sealed
//! contents and the closing of a record go into the spool in one batch. Because an entry says which number its first event has,
//! a restart knows whether the batch of the last entry was written, and writes it if not: events have no gaps and no doubles.
//! It refuses to write on while a batch is missing.

use std::{path::Path, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use stockade_agent::Input;
use stockade_domain::{ContentKind, EventKind, RunEvent, Timestamp, World, ids::RunId};
use stockade_ledger::{Closing, Ledger, LedgerError, LogEntry, Outcome, RunKey, Sealed, Status};

use crate::{
    journal::{Close, EndStatus, Entry, Held, Journal, JournalError, Step},
    spool::{Spool, SpoolError, event_entry},
};

/// Why a book cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Spool and journal do not belong together.
    #[error(
        "the journal of {run} ends with event {journal} and the spool knows {spool}: one of them was restored without the other"
    )]
    Apart {
        /// Which run.
        run: RunId,
        /// What the journal says.
        journal: u64,
        /// What the spool says.
        spool: u64,
    },
    /// The run's key is gone.
    #[error("{0} was erased")]
    Erased(RunId),
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct Draft {
    /// What the agent is told.
    pub input: Option<Input>,
    /// What the runner remembers.
    pub step: Option<Step>,
    /// What is told.
    pub events: Vec<EventKind>,
    /// The record that ends with it.
    pub close: Option<Close>,
    /// What goes with it.
    pub contents: Vec<Held>,
}

impl Draft {
    /// Only events.
    pub fn events(events: Vec<EventKind>) -> Self {
        Self { events, ..Self::default() }
    }

    /// A step with events.
    pub fn step(step: Step, events: Vec<EventKind>) -> Self {
        Self { step: Some(step), events, ..Self::default() }
    }

    /// What the agent is told, with events.
    pub fn input(input: Input, events: Vec<EventKind>) -> Self {
        Self { input: Some(input), events, ..Self::default() }
    }
}

/// What a book writes to.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The spool.
    pub spool: Arc<Spool>,
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// Time and randomness.
    pub world: Arc<dyn World>,
}

/// The book of one run.
#[derive(Debug)]
pub struct Book {
    run: RunId,
    journal: Option<Journal>,
    desk: Desk,
    /// An entry that is in the journal and whose batch is not in the spool.
    owed: Option<Entry>,
    /// Under which lease is written.
    pub fence: u64,
}

impl Book {
    /// Opens the book of a run, makes up for what a crash left undone, and gives what it holds.
    pub async fn open(
        run: RunId,
        path: &Path,
        key: Arc<RunKey>,
        fence: u64,
        desk: Desk,
    ) -> Result<(Self, Vec<Entry>), BookError> {
        let (journal, entries) = Journal::open(path, key)?;
        let mut book = Self { run, journal: Some(journal), desk, owed: None, fence };
        if let Some(last) = entries.last() {
            let next = book.desk.spool.next_seq(run);
            let after = last.first_seq + last.events.len() as u64;
            // Fewer were told than the journal knows of: the spool is an older one. More: the journal is, and what was done since
            // would be done again.
            if next < last.first_seq || next > after {
                return Err(BookError::Apart { run, journal: after - 1, spool: next - 1 });
            }
            let told = next > last.first_seq || last.events.is_empty();
            let closed = last
                .close
                .as_ref()
                .is_none_or(|close| !book.desk.ledger.unclosed().iter().any(|(id, ..)| *id == close.record));
            if !told || !closed {
                book.owed = Some(last.clone());
                book.settle().await?;
            }
        }
        Ok((book, entries))
    }

    /// The book of a run whose key is gone: events can still be told, nothing is journalled.
    pub const fn keyless(run: RunId, fence: u64, desk: Desk) -> Self {
        Self { run, journal: None, desk, owed: None, fence }
    }

    /// Writes an entry: durable and told when this returns. Gives the entry as it stands in the journal.
    pub async fn write(&mut self, at: Timestamp, draft: Draft) -> Result<Entry, BookError> {
        self.settle().await?;
        let entry = Entry {
            number: self.journal.as_ref().map_or(0, Journal::next),
            at,
            input: draft.input,
            step: draft.step,
            first_seq: self.desk.spool.next_seq(self.run),
            events: draft.events,
            close: draft.close,
            contents: draft.contents,
        };
        match &mut self.journal {
            Some(journal) => journal.append(&*self.desk.world, &entry).await?,
            None if entry.input.is_some() => return Err(BookError::Erased(self.run)),
            None => {}
        }
        self.owed = Some(entry.clone());
        self.settle().await?;
        Ok(entry)
    }

    /// Brings what is owed into the spool.
    async fn settle(&mut self) -> Result<(), BookError> {
        let Some(entry) = &self.owed else { return Ok(()) };
        let (run, spool) = (self.run, &self.desk.spool);
        let told = spool.next_seq(run) > entry.first_seq;
        let mut batch: Vec<LogEntry> = Vec::new();
        if !told {
            for (seq, event) in (entry.first_seq..).zip(&entry.events) {
                batch.push(event_entry(self.fence, RunEvent { run, seq, at: entry.at, event: event.clone() }));
            }
        }
        let sealed: Vec<Sealed> = entry.contents.iter().filter_map(unhold).collect();
        match &entry.close {
            Some(close) => {
                let contents = sealed.iter().map(LogEntry::content).collect::<Vec<_>>();
                let outcome = Outcome { status: status(close.status), code: close.code.clone() };
                let (usage, cost) = (close.usage, close.cost);
                let closing = Closing {
                    usage: (usage != stockade_domain::Usage::default()).then_some(usage),
                    cost: (cost != stockade_domain::Nanos::ZERO).then_some(cost),
                    contents: sealed,
                    ..Closing::new(outcome)
                };
                match self.desk.ledger.close_with(close.record, closing, batch.clone()).await {
                    Ok(_) => {}
                    // Somebody closed it before: what is to be told is still to be told.
                    Err(LedgerError::AlreadyClosed { .. }) => {
                        batch.splice(0..0, contents);
                        if !batch.is_empty() {
                            spool.log().append(batch).await.map_err(SpoolError::from)?;
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            None => {
                batch.splice(0..0, sealed.iter().map(LogEntry::content));
                if !batch.is_empty() {
                    spool.append(batch).await?;
                }
            }
        }
        if !entry.events.is_empty() {
            spool.told(run, entry.first_seq + entry.events.len() as u64 - 1);
        }
        self.owed = None;
        Ok(())
    }
}

/// A sealed piece of content, as an entry holds it.
pub fn hold(sealed: &Sealed) -> Held {
    Held { content: sealed.content, sealed: BASE64_STANDARD.encode(&sealed.bytes) }
}

/// The sealed piece of content that an entry holds.
pub fn unhold(held: &Held) -> Option<Sealed> {
    let bytes = BASE64_STANDARD.decode(&held.sealed).ok()?;
    Some(Sealed { content: held.content, bytes: bytes.into() })
}

/// Seals a text.
pub fn seal(key: &RunKey, world: &dyn World, kind: ContentKind, plain: &[u8]) -> Result<Sealed, BookError> {
    key.seal(world, kind, plain).map_err(|e| BookError::Journal(JournalError::Seal(e.to_string())))
}

const fn status(status: EndStatus) -> Status {
    match status {
        EndStatus::Ok => Status::Ok,
        EndStatus::Error => Status::Error,
        EndStatus::Unknown => Status::Unknown,
        EndStatus::Cancelled => Status::Cancelled,
    }
}
