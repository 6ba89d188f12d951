//! The one thread that writes. It takes every batch that waits, writes them as one frame, makes it durable with
//! one `fdatasync`, and answers all of them.
//!
//! *Invariants.* A batch is answered with success only after its frame is on the disk. If a write fails, the file is cut back
//! to its last good byte and everybody in the group is told. If the disk's state is not known (a failed `fdatasync`, or a file that cannot be cut
//! back), nothing more is accepted until the log is opened again: the kernel may have dropped the pages, and trying again would lie.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use stockade_domain::World;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    LogEntry, LogError, Shared,
    frame::{self, ENTRY_HEAD, GROUP_BYTES, SegmentHead},
    segment,
};
use crate::SystemWorld;

/// Where a batch stands once it is durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Durable {
    /// The position of its first entry; that of the next entry if it had none.
    pub first: u64,
    /// The position after the last entry of the group.
    pub end: u64,
}

/// A batch on its way.
pub(crate) trait Staged: Send {
    /// What to write, in the order of writing: called by the writer's thread just before. May be nothing.
    fn build(&mut self) -> Vec<LogEntry>;
    /// How it went. After a failure, nothing of the whole group is in the log.
    fn finish(self: Box<Self>, result: Result<Durable, LogError>);
}

/// A batch in the queue, holding its share of the queue's memory.
pub(super) struct Queued {
    pub batch: Box<dyn Staged>,
    pub bytes: usize,
    pub _room: OwnedSemaphorePermit,
}

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub file: File,
    pub segment_bytes: u64,
    pub broken: Option<LogError>,
}

impl Writer {
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Queued>) {
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.bytes;
            let mut group = vec![first];
            while bytes < GROUP_BYTES
                && let Ok(next) = queue.try_recv()
            {
                bytes = bytes.saturating_add(next.bytes);
                group.push(next);
            }
            self.commit(group);
        }
    }

    fn commit(&mut self, mut group: Vec<Queued>) {
        let mut entries = Vec::new();
        let mut counts = Vec::with_capacity(group.len());
        if self.broken.is_none() {
            for queued in &mut group {
                let built = queued.batch.build();
                counts.push(built.len() as u64);
                entries.extend(built);
            }
        }
        let result = match &self.broken {
            Some(e) => Err(e.clone()),
            None if entries.is_empty() => Ok(self.shared.end()),
            None => self.write(&entries),
        };
        let end = *self.shared.end.borrow();
        let mut first = result.as_ref().copied().unwrap_or(end);
        for (i, queued) in group.into_iter().enumerate() {
            queued.batch.finish(result.clone().map(|_| Durable { first, end }));
            first += counts.get(i).copied().unwrap_or(0);
        }
    }

    /// Writes one frame and makes it durable; the answer is the position of its first entry.
    fn write(&mut self, entries: &[LogEntry]) -> Result<u64, LogError> {
        self.rotate()?;
        let Some((path, salt, first, offset)) = self.shared.with_last(|s| (s.path.clone(), s.head.salt, s.end, s.len))
        else {
            return Err(LogError::Closed);
        };
        let bytes = frame::frame(salt, first, entries).ok_or(LogError::BatchTooLarge)?;
        if let Err(e) = self.file.write_all_at(&bytes, offset) {
            // What was written of it must not stay: the next frame goes to the same place.
            if let Err(cut) = self.file.set_len(offset) {
                return Err(self.break_down(LogError::broken("cut back", &path, cut)));
            }
            return Err(LogError::io("write", &path, e));
        }
        if let Err(e) = self.file.sync_data() {
            return Err(self.break_down(LogError::broken("make durable", &path, e)));
        }
        let count = entries.len() as u64;
        self.shared.with_last(|segment| segment.grew(count, bytes.len() as u64));
        self.shared.end.send_replace(first + count);
        Ok(first)
    }

    fn rotate(&mut self) -> Result<(), LogError> {
        let full = self.shared.with_last(|s| (s.len >= self.segment_bytes && s.end > s.head.first).then_some(s.end));
        if let Some(Some(first)) = full {
            let head = SegmentHead { first, salt: salt() };
            let (file, segment) =
                segment::create(&self.shared.dir, head).map_err(|e| LogError::io("create", &self.shared.dir, e))?;
            self.file = file;
            self.shared.segments().push_back(segment);
        }
        Ok(())
    }

    fn break_down(&mut self, error: LogError) -> LogError {
        tracing::error!(error = %error, "the log accepts nothing more until it is opened again");
        self.broken = Some(error.clone());
        error
    }
}

/// A number that nobody outside knows.
pub(super) fn salt() -> u64 {
    let mut bytes = [0; 8];
    SystemWorld.random(&mut bytes);
    u64::from_be_bytes(bytes)
}

/// The queue's share of a batch.
pub(super) fn weight(entries: &[LogEntry]) -> usize {
    entries.iter().map(|entry| ENTRY_HEAD + entry.payload.len()).sum()
}

/// Whether an error says that there is no room.
pub(super) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}
