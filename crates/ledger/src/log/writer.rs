//! The one thread that writes. It takes every batch that waits, writes them as one frame, makes it durable with
//! one `fdatasync`, and answers all of them.
//!
//! A segment that is ready ([`super::spare`]) holds zeros up to its end, and a frame is written over them.
//!
//! *Invariants.* A batch is answered with success only after its frame is on the disk. If a write fails, the file is cut back
//! to its last good byte and everybody in the group is told. If the disk's state is not known (a failed `fdatasync`, or a file that cannot be cut
//! back), nothing more is accepted until the log is opened again: the kernel may have dropped the pages, and trying again would lie.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use stockade_domain::World;

use super::{
    LogEntry, LogError, Shared,
    frame::{self, ENTRY_HEAD, SegmentHead},
    queue::{Queue, Queued},
    segment,
    spare::{PAGE, Spare},
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

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub file: File,
    pub segment_bytes: u64,
    /// A segment is made ready once the last one has so many bytes.
    pub ready_after: u64,
    pub spare: Spare,
    pub broken: Option<LogError>,
}

impl Writer {
    pub(super) fn run(mut self, queue: &Queue) {
        while let Some(group) = queue.take() {
            self.commit(group);
            // Everybody was answered: this is the time for what is only convenient.
            self.look_ahead();
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
        let weight = frame::FRAME_HEAD + weight(entries);
        self.rotate(weight as u64)?;
        let about = self.shared.with_last(|s| (s.path.clone(), s.head.salt, s.end, s.len, s.ready));
        let Some((path, salt, first, offset, ready)) = about else { return Err(LogError::Closed) };
        let mut bytes = frame::frame(salt, first, entries).ok_or(LogError::BatchTooLarge)?;
        let len = bytes.len() as u64;
        // Zeros over zeros up to the end of the page: then no page has to be read before it is written.
        let padded = (offset + len).next_multiple_of(PAGE);
        if padded <= ready {
            bytes.resize(bytes.len() + usize::try_from(padded - offset - len).unwrap_or(0), 0);
        }
        if let Err(e) = self.file.write_all_at(&bytes, offset) {
            // What was written of it must not stay: the next frame goes to the same place.
            if let Err(cut) = self.file.set_len(offset) {
                return Err(self.break_down(LogError::broken("cut back", &path, cut)));
            }
            self.shared.with_last(|segment| segment.ready = 0);
            return Err(LogError::io("write", &path, e));
        }
        if let Err(e) = self.file.sync_data() {
            return Err(self.break_down(LogError::broken("make durable", &path, e)));
        }
        let count = entries.len() as u64;
        self.shared.with_last(|segment| segment.grew(count, len));
        self.shared.end.send_replace(first + count);
        Ok(first)
    }

    /// Begins a new segment if the last one is full, or if one is ready and the last one has no room that is.
    fn rotate(&mut self, next: u64) -> Result<(), LogError> {
        let about = self.shared.with_last(|s| {
            let (full, room) = (s.len >= self.segment_bytes, s.len + next <= s.ready);
            (s.end > s.head.first).then_some((s.end, full, room))
        });
        let Some(Some((first, full, room))) = about else { return Ok(()) };
        if full || (!room && self.spare.is_ready()) {
            let (dir, head) = (&self.shared.dir, SegmentHead { first, salt: salt() });
            let made = match self.spare.take() {
                Some(spare) => segment::adopt(dir, head, spare),
                None => segment::create(dir, head),
            };
            let (file, segment) = made.map_err(|e| LogError::io("create", dir, e))?;
            self.file = file;
            self.shared.segments().push_back(segment);
        }
        Ok(())
    }

    /// Has the next segment made ready, if there is enough to do that it pays.
    fn look_ahead(&mut self) {
        let due = self.shared.with_last(|s| s.len >= self.ready_after && (s.ready == 0 || s.len >= s.ready / 2));
        if due == Some(true) {
            self.spare.make();
        }
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
