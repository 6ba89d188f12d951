//! How entries lie in a segment file.
//!
//! A segment begins with a header: `STKLOG1\n`, the position of its first entry (u64), a random salt (u64) and the
//! CRC-32 of these. Frames follow. A frame is what one group commit wrote: `STKF`, the length of its body (u32), the position of its
//! first entry (u64), the number of entries (u32), the CRC-32 of the body, and the CRC-32 of the salt and of all this. The body is the
//! entries, each its kind (u8), its length (u32) and its payload. All numbers are big endian.
//!
//! The salt makes a frame header that stands inside somebody's payload worthless: nobody outside knows it.

use bytes::Bytes;

use super::{EntryKind, LogEntry, MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, QUEUE_BATCHES};
use crate::MAX_RECORD_BYTES;

pub(super) const SEGMENT_MAGIC: &[u8; 8] = b"STKLOG1\n";
pub(super) const SEGMENT_HEAD: usize = 28;
pub(super) const FRAME_MAGIC: &[u8; 4] = b"STKF";
pub(super) const FRAME_HEAD: usize = 28;
pub(super) const ENTRY_HEAD: usize = 5;

/// A group commit takes no further batch once it has so many bytes.
pub(super) const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// The largest body: one batch of the largest size on top of a group that had still room, and a record of the largest size
/// for every batch that can wait, because a record is only made when it is written.
pub(super) const MAX_BODY: usize = GROUP_BYTES
    + MAX_BATCH_BYTES
    + MAX_BATCH_ENTRIES * ENTRY_HEAD
    + (QUEUE_BATCHES + 1) * (MAX_RECORD_BYTES + ENTRY_HEAD);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub first: u64,
    pub salt: u64,
}

impl SegmentHead {
    pub(super) fn to_bytes(self) -> [u8; SEGMENT_HEAD] {
        let mut bytes = [0; SEGMENT_HEAD];
        let (body, crc) = bytes.split_at_mut(24);
        body.copy_from_slice(&[SEGMENT_MAGIC.as_slice(), &self.first.to_be_bytes(), &self.salt.to_be_bytes()].concat());
        crc.copy_from_slice(&crc32fast::hash(body).to_be_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; SEGMENT_HEAD]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let rest = body.strip_prefix(SEGMENT_MAGIC.as_slice())?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let salt = rest.first_chunk::<8>()?;
        Some(Self { first: u64::from_be_bytes(*first), salt: u64::from_be_bytes(*salt) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub len: u32,
    pub first: u64,
    pub count: u32,
    pub crc: u32,
}

impl FrameHead {
    pub(super) fn to_bytes(self, salt: u64) -> [u8; FRAME_HEAD] {
        let mut bytes = [0; FRAME_HEAD];
        let (body, crc) = bytes.split_at_mut(24);
        body.copy_from_slice(
            &[
                FRAME_MAGIC.as_slice(),
                &self.len.to_be_bytes(),
                &self.first.to_be_bytes(),
                &self.count.to_be_bytes(),
                &self.crc.to_be_bytes(),
            ]
            .concat(),
        );
        crc.copy_from_slice(&head_crc(body, salt).to_be_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; FRAME_HEAD], salt: u64) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let rest = body.strip_prefix(FRAME_MAGIC.as_slice())?;
        if head_crc(body, salt) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let crc = rest.first_chunk::<4>()?;
        let head = Self {
            len: u32::from_be_bytes(*len),
            first: u64::from_be_bytes(*first),
            count: u32::from_be_bytes(*count),
            crc: u32::from_be_bytes(*crc),
        };
        (head.len as usize <= MAX_BODY && head.count > 0).then_some(head)
    }

    pub(super) const fn end(&self) -> u64 {
        self.first.saturating_add(self.count as u64)
    }
}

fn head_crc(body: &[u8], salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// One frame with all these entries, ready to be written. Nothing if they are too many.
pub(super) fn frame(salt: u64, first: u64, entries: &[LogEntry]) -> Option<Vec<u8>> {
    let len: usize = entries.iter().map(|entry| ENTRY_HEAD + entry.payload.len()).sum();
    if len > MAX_BODY {
        return None;
    }
    let mut bytes = Vec::with_capacity(FRAME_HEAD + len);
    bytes.resize(FRAME_HEAD, 0);
    for entry in entries {
        bytes.push(entry.kind as u8);
        bytes.extend_from_slice(&u32::try_from(entry.payload.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(&entry.payload);
    }
    let (head, body) = bytes.split_at_mut(FRAME_HEAD);
    let about = FrameHead {
        len: u32::try_from(len).ok()?,
        first,
        count: u32::try_from(entries.len()).ok()?,
        crc: crc32fast::hash(body),
    };
    head.copy_from_slice(&about.to_bytes(salt));
    Some(bytes)
}

/// The entries of a body whose checksum held. Nothing if they are not what the header says.
pub(super) fn entries(head: &FrameHead, body: Vec<u8>) -> Option<Vec<LogEntry>> {
    let mut rest = Bytes::from(body);
    let mut entries = Vec::new();
    while let Some((about, _)) = rest.split_first_chunk::<ENTRY_HEAD>() {
        let [kind, len @ ..] = *about;
        let kind = EntryKind::from_byte(kind)?;
        let len = u32::from_be_bytes(len) as usize;
        if rest.len() - ENTRY_HEAD < len {
            return None;
        }
        let mut entry = rest.split_to(ENTRY_HEAD + len);
        let payload = entry.split_off(ENTRY_HEAD);
        entries.push(LogEntry { kind, payload });
    }
    (rest.is_empty() && entries.len() as u64 == u64::from(head.count)).then_some(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_framed_reads_back(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..10), salt: u64, first: u64
        ) {
            let all: Vec<_> =
                payloads.into_iter().map(|payload| LogEntry::new(EntryKind::Event, payload)).collect();
            let bytes = frame(salt, first, &all).unwrap();
            let (head, body) = bytes.split_first_chunk::<FRAME_HEAD>().unwrap();
            let head = FrameHead::parse(head, salt).unwrap();
            prop_assert_eq!((head.first, head.count as usize), (first, all.len()));
            prop_assert_eq!(crc32fast::hash(body), head.crc);
            prop_assert_eq!(entries(&head, body.to_vec()), Some(all));
            prop_assert_eq!(FrameHead::parse(bytes.first_chunk().unwrap(), salt ^ 1), None);
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), count: u32) {
            let head = FrameHead { len: 0, first: 0, count, crc: 0 };
            let _ = entries(&head, body.clone());
            if let Some(head) = body.first_chunk() {
                prop_assert_eq!(FrameHead::parse(head, 0), None);
                prop_assert_eq!(SegmentHead::parse(head), None);
            }
        }
    }
}
