//! Segment files: making them, checking them when the log is opened, reading entries back.
//!
//! *What a crash can leave.* One group commit is one write of one frame, and the next one begins only when it is on the
//! disk. So a crash can leave one incomplete frame after the last good one, with any of its pages missing, or a last segment without
//! a header. Both are cut. Zeros after the last good frame are a segment that was made ready: they are cut from the last segment
//! without a word. Anything else that does not check is damage, and the log refuses to open: what was acknowledged is missing.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    LogEntry, LogError, Recovered,
    frame::{self, FRAME_HEAD, FRAME_MAGIC, FrameHead, SEGMENT_HEAD, SegmentHead},
};

/// There is one index point for about so many bytes of a segment.
const INDEX_BYTES: u64 = 64 * 1024;

/// A segment as far as it is durable.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub path: PathBuf,
    pub head: SegmentHead,
    /// The position after its last entry.
    pub end: u64,
    /// Its bytes that count.
    pub len: u64,
    /// Up to this byte the file is there, with zeros behind those that count. Nothing if it grows with each frame.
    pub ready: u64,
    /// Some frames: the position of their first entry and where they begin.
    index: Vec<(u64, u64)>,
}

pub(super) fn path_of(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// Makes a segment, durably.
pub(super) fn create(dir: &Path, head: SegmentHead) -> io::Result<(File, Segment)> {
    let path = path_of(dir, head.first);
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).and_then(|file| {
        file.write_all_at(&head.to_bytes(), 0)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(file)
    });
    match made {
        Ok(file) => {
            let len = SEGMENT_HEAD as u64;
            Ok((file, Segment { path, head, end: head.first, len, ready: 0, index: Vec::new() }))
        }
        Err(e) => {
            // A half-made segment would be cut at the next start; it is better not there at all.
            let _ = fs::remove_file(&path);
            Err(e)
        }
    }
}

/// Makes a segment of a file of zeros, durably. Until it has its name it is none, so a crash leaves it whole or not at all.
pub(super) fn adopt(
    dir: &Path,
    head: SegmentHead,
    (file, from, ready): (File, PathBuf, u64),
) -> io::Result<(File, Segment)> {
    let path = path_of(dir, head.first);
    let made = file.write_all_at(&head.to_bytes(), 0).and_then(|()| file.sync_data()).and_then(|()| {
        fs::rename(&from, &path)?;
        File::open(dir)?.sync_all()
    });
    match made {
        Ok(()) => {
            let len = SEGMENT_HEAD as u64;
            Ok((file, Segment { path, head, end: head.first, len, ready, index: Vec::new() }))
        }
        Err(e) => {
            let _ = fs::remove_file(&from);
            let _ = fs::remove_file(&path);
            Err(e)
        }
    }
}

impl Segment {
    /// Notes a frame that is durable now.
    pub(super) fn grew(&mut self, count: u64, bytes: u64) {
        if self.index.last().is_none_or(|(_, offset)| self.len - offset >= INDEX_BYTES) {
            self.index.push((self.end, self.len));
        }
        self.end += count;
        self.len += bytes;
    }

    fn corrupt(&self, offset: u64, why: &'static str) -> LogError {
        LogError::Corrupt { segment: self.path.clone(), offset, why }
    }

    /// Entries from position `from` on, until `take` says no.
    pub(super) fn read(
        &self,
        from: u64,
        mut take: impl FnMut(u64, LogEntry) -> std::ops::ControlFlow<()>,
    ) -> Result<std::ops::ControlFlow<()>, LogError> {
        let file = File::open(&self.path).map_err(|e| LogError::io("read", &self.path, e))?;
        let before = self.index.partition_point(|(position, _)| *position <= from);
        let start = before.checked_sub(1).and_then(|i| self.index.get(i)).copied();
        let (mut position, mut offset) = start.unwrap_or((self.head.first, SEGMENT_HEAD as u64));
        while offset < self.len {
            let head = read_head(&file, self.head.salt, offset)
                .map_err(|e| LogError::io("read", &self.path, e))?
                .filter(|head| head.first == position)
                .ok_or_else(|| self.corrupt(offset, "a frame's header does not check"))?;
            if head.end() > from {
                let body = read_body(&file, &head, offset)
                    .map_err(|e| LogError::io("read", &self.path, e))?
                    .and_then(|body| frame::entries(&head, body))
                    .ok_or_else(|| self.corrupt(offset, "a frame's checksum does not hold"))?;
                for (entry, at) in body.into_iter().zip(head.first..) {
                    if at >= from && take(at, entry).is_break() {
                        return Ok(std::ops::ControlFlow::Break(()));
                    }
                }
            }
            position = head.end();
            offset += FRAME_HEAD as u64 + u64::from(head.len);
        }
        Ok(std::ops::ControlFlow::Continue(()))
    }
}

fn read_head(file: &File, salt: u64, offset: u64) -> io::Result<Option<FrameHead>> {
    let mut bytes = [0; FRAME_HEAD];
    match file.read_exact_at(&mut bytes, offset) {
        Ok(()) => Ok(FrameHead::parse(&bytes, salt)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

fn read_body(file: &File, head: &FrameHead, offset: u64) -> io::Result<Option<Vec<u8>>> {
    let mut body = vec![0; head.len as usize];
    match file.read_exact_at(&mut body, offset + FRAME_HEAD as u64) {
        Ok(()) => Ok((crc32fast::hash(&body) == head.crc).then_some(body)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// Checks all segments of a directory and cuts what a crash left at the end.
pub(super) fn recover(dir: &Path) -> Result<(Vec<Segment>, Option<Recovered>), LogError> {
    let mut recovered = None;
    let mut found = list(dir)?;
    if let Some((_, path)) = found.last().cloned()
        && let Some(cut) = unborn(&path)?
    {
        fs::remove_file(&path).map_err(|e| LogError::io("remove", &path, e))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| LogError::io("sync", dir, e))?;
        recovered = Some(cut);
        found.pop();
    }
    let mut segments: Vec<Segment> = Vec::with_capacity(found.len());
    let count = found.len();
    for (i, (first, path)) in found.into_iter().enumerate() {
        let expected = segments.last().map_or(first, |before| before.end);
        if first != expected {
            return Err(LogError::Gap { segment: path, expected, found: first });
        }
        let (segment, cut) = check(first, path, i + 1 == count)?;
        recovered = recovered.or(cut);
        segments.push(segment);
    }
    Ok((segments, recovered))
}

fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| LogError::io("read", dir, e))? {
        let path = entry.map_err(|e| LogError::io("read", dir, e))?.path();
        if path.extension().is_some_and(|end| end == "log") {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| stem.len() == 20);
            let first = stem.and_then(|stem| stem.parse().ok());
            let first = first.ok_or_else(|| LogError::Corrupt {
                segment: path.clone(),
                offset: 0,
                why: "the file's name is no position: it is not of this log, move it away",
            })?;
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a crash left this last segment before its header was on the disk: too short, or nothing but zeros.
fn unborn(path: &Path) -> Result<Option<Recovered>, LogError> {
    let io = |e| LogError::io("read", path, e);
    let file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut bytes = [0; SEGMENT_HEAD];
    let whole = len >= SEGMENT_HEAD as u64;
    if whole {
        file.read_exact_at(&mut bytes, 0).map_err(io)?;
    }
    let blank = len == SEGMENT_HEAD as u64 && bytes == [0; SEGMENT_HEAD];
    Ok((!whole || blank).then(|| Recovered { segment: path.to_owned(), offset: 0, bytes: len }))
}

fn check(first: u64, path: PathBuf, last: bool) -> Result<(Segment, Option<Recovered>), LogError> {
    let io = |e| LogError::io("read", &path, e);
    let corrupt = |offset, why| LogError::Corrupt { segment: path.clone(), offset, why };
    let file = OpenOptions::new().read(true).write(last).open(&path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut bytes = [0; SEGMENT_HEAD];
    file.read_exact_at(&mut bytes, 0).map_err(|_| corrupt(0, "the header is cut short"))?;
    let head = SegmentHead::parse(&bytes).filter(|head| head.first == first);
    let head = head.ok_or_else(|| corrupt(0, "the header does not check"))?;
    let mut segment =
        Segment { path: path.clone(), head, end: first, len: SEGMENT_HEAD as u64, ready: 0, index: Vec::new() };
    let mut cut = None;
    while segment.len < len {
        let offset = segment.len;
        let frame = match read_head(&file, head.salt, offset).map_err(io)? {
            Some(frame) if frame.first == segment.end => {
                let body = read_body(&file, &frame, offset).map_err(io)?;
                body.and_then(|body| frame::entries(&frame, body)).map(|_| frame)
            }
            _ => None,
        };
        if let Some(frame) = frame {
            segment.grew(u64::from(frame.count), FRAME_HEAD as u64 + u64::from(frame.len));
            continue;
        }
        let written = written_to(&file, offset, len).map_err(io)?;
        if written > offset {
            if !last {
                return Err(corrupt(offset, "a frame does not check, and a later segment follows"));
            }
            if frame_follows(&file, head.salt, offset, len, segment.end).map_err(io)? {
                return Err(corrupt(offset, "a frame does not check, and good ones follow"));
            }
            cut = Some(Recovered { segment: path.clone(), offset, bytes: written - offset });
        }
        if last {
            file.set_len(offset).and_then(|()| file.sync_all()).map_err(|e| LogError::io("cut", &path, e))?;
        }
        break;
    }
    Ok((segment, cut))
}

/// Up to which byte there is something else than zeros, from `offset` on: `offset` if there is nothing.
fn written_to(file: &File, offset: u64, len: u64) -> io::Result<u64> {
    const STEP: usize = 1024 * 1024;
    let mut window = vec![0; STEP];
    let (mut at, mut written) = (offset, offset);
    while at < len {
        let want = usize::try_from(len - at).unwrap_or(STEP).min(STEP);
        let part = window.get_mut(..want).unwrap_or_default();
        file.read_exact_at(part, at)?;
        if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
            written = at + last as u64 + 1;
        }
        at += want as u64;
    }
    Ok(written)
}

/// Whether a good frame header of a later position stands anywhere after a bad frame.
fn frame_follows(file: &File, salt: u64, bad: u64, len: u64, position: u64) -> io::Result<bool> {
    const STEP: usize = 1024 * 1024;
    let mut window = vec![0; STEP + FRAME_HEAD];
    let mut offset = bad + 1;
    while offset < len {
        let want = usize::try_from(len - offset).unwrap_or(usize::MAX).min(window.len());
        let part = window.get_mut(..want).unwrap_or_default();
        file.read_exact_at(part, offset)?;
        let hit = part.windows(FRAME_HEAD).filter(|bytes| bytes.starts_with(FRAME_MAGIC)).any(|bytes| {
            let head = bytes.first_chunk().and_then(|bytes| FrameHead::parse(bytes, salt));
            head.is_some_and(|head| head.first > position)
        });
        if hit {
            return Ok(true);
        }
        offset += STEP as u64;
    }
    Ok(false)
}
