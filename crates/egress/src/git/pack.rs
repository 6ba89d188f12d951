//! Packs: the objects of a push (gitformat-pack, "pack-*.pack Files").
//!
//! [`PackReader`] takes a pack in pieces, inflates every object once as it comes and throws the inflated bytes away; it
//! lays the pack itself, which is bounded, on a [`Shelf`]: into memory, or wherever the caller wants it. [`PackReader::finish`] then
//! puts deltas together, one chain at a time, and keeps commits and trees; [`Pack::look`] does so again for whoever looks into contents.
//!
//! *Invariant:* the bytes on the shelf are the bytes that were judged, every object in them has a name that was computed here,
//! and nothing is inflated beyond [`Limits`]. It refuses what does not add up: lengths, sums, deltas without a base.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;

use miniz_oxide::inflate::stream::{InflateState, ZeroReset, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use super::object::{Commit, Entry, ObjectError, read_commit, read_tree};
use super::refs::Ancestry;
use super::{Format, Hasher, ObjectId, delta};

/// Where the bytes of a pack lie while it is judged.
pub trait Shelf {
    /// Lays bytes behind those that are there.
    ///
    /// # Errors
    /// When there is no room.
    fn lay(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Reads bytes of the pack from an offset, as many as `into` takes.
    ///
    /// # Errors
    /// When they are not there.
    fn take(&mut self, offset: usize, into: &mut [u8]) -> io::Result<()>;
}

impl Shelf for Vec<u8> {
    fn lay(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn take(&mut self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(into.len());
        into.copy_from_slice(self.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// How much of a pack is read. The defaults are generous for what a person or an agent pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the pack itself, which are kept on the shelf.
    pub pack_bytes: usize,
    /// Objects.
    pub objects: usize,
    /// Bytes of one object, inflated.
    pub object_bytes: usize,
    /// Bytes of one commit, tree or tag, which are held.
    pub meta_bytes: usize,
    /// Bytes of all commits, trees and tags together, which are held.
    pub kept_bytes: usize,
    /// Bytes of all objects together, inflated and put together.
    pub total_bytes: u64,
    /// How many times as long as what came the inflated bytes may be, after the first [`FREE_BYTES`].
    pub ratio: u64,
    /// Deltas upon deltas.
    pub chain: usize,
    /// Bytes that are held at once while deltas are put together.
    pub working_bytes: usize,
    /// Deltas may have a base that is not in the pack; what they are is then not known.
    pub thin: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack_bytes: 128 << 20,
            objects: 1_000_000,
            object_bytes: 100 << 20,
            meta_bytes: 16 << 20,
            kept_bytes: 256 << 20,
            total_bytes: 4 << 30,
            ratio: 200,
            chain: 4_096,
            working_bytes: 512 << 20,
            thin: false,
        }
    }
}

/// What is read at once of what lies on the shelf.
const PIECE: usize = 64 << 10;

/// Inflated bytes for which the ratio is not asked: small files of one letter are nobody's bomb.
pub const FREE_BYTES: u64 = 16 << 20;

/// Why a pack is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// It does not begin as packs do.
    #[error("what was pushed is no pack: it does not begin with PACK and version 2 or 3")]
    Header,
    /// Too long.
    #[error("the pack is longer than {0} bytes: push less at once")]
    Long(usize),
    /// Too many objects.
    #[error("the pack has {said} objects, above the limit of {limit}: push less at once")]
    Objects {
        /// What the pack says.
        said: u32,
        /// What may be.
        limit: usize,
    },
    /// A type that is not known.
    #[error("object {0} of the pack has the type {1}, which does not exist")]
    Type(usize, u8),
    /// A length that cannot be.
    #[error("object {0} of the pack says a length that no object has")]
    Length(usize),
    /// One object is too large.
    #[error("object {index} of the pack has {said} bytes, above the limit of {limit}")]
    Large {
        /// Which object.
        index: usize,
        /// What it says.
        said: u64,
        /// What may be.
        limit: usize,
    },
    /// The inflated bytes are not as many as were said.
    #[error("object {0} of the pack does not have the length that it says")]
    Lies(usize),
    /// The compressed bytes are damaged.
    #[error("object {0} of the pack does not inflate")]
    Damaged(usize),
    /// All together inflates to too much.
    #[error("the pack inflates to more than {0} bytes")]
    Total(u64),
    /// It inflates to far more than it is.
    #[error("the pack inflates to more than {0} times its length, as only a bomb does")]
    Bomb(u64),
    /// The sum at the end does not fit.
    #[error("the pack's checksum does not fit its bytes")]
    Checksum,
    /// The pack ended too early.
    #[error("the pack ended too early: object {0} of {1}")]
    Truncated(usize, usize),
    /// Something follows the pack.
    #[error("something follows the pack")]
    After,
    /// An offset that points nowhere.
    #[error("object {0} of the pack builds upon an object that does not begin where it says")]
    Offset(usize),
    /// A delta's base is not in the pack.
    #[error("object {index} of the pack builds upon {base}, which is not in the pack: push with --no-thin")]
    Thin {
        /// Which object.
        index: usize,
        /// Upon what.
        base: ObjectId,
    },
    /// A delta that does not add up.
    #[error("object {0} of the pack is a delta that does not add up")]
    Delta(usize),
    /// Deltas upon deltas.
    #[error("the pack builds more than {0} deltas upon each other")]
    Chain(usize),
    /// Too many bytes at once.
    #[error("putting the pack's deltas together needs more than {0} bytes at once")]
    Working(usize),
    /// Commits and trees take too much.
    #[error("the pack's commits and trees have more than {0} bytes")]
    Kept(usize),
    /// Two things with one name.
    #[error("object {0} of the pack was made to collide with another: SHA-1 cannot name it")]
    Collision(usize),
    /// Its bytes could not be laid aside, or not be read again.
    #[error("the pack cannot be kept while it is judged: {0}")]
    Shelf(String),
    /// A commit or tree that does not read.
    #[error("{id} in the pack: {error}")]
    Object {
        /// Which.
        id: ObjectId,
        /// What is wrong.
        error: ObjectError,
    },
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A commit.
    Commit,
    /// A directory.
    Tree,
    /// A file's content.
    Blob,
    /// An annotated tag.
    Tag,
}

impl ObjectKind {
    /// The word in an object's header and in `git cat-file`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// One object of a pack, once it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its name.
    pub id: ObjectId,
    /// What it is.
    pub kind: ObjectKind,
    /// How many bytes it has.
    pub size: u64,
}

/// How an object stands in the pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole(ObjectKind),
    /// Upon the object with this index.
    Upon(usize),
    /// Upon the object with this name.
    Named(ObjectId),
}

/// What is done with each object while chains are walked.
type Visit<'a, S, B> = dyn FnMut(&mut Pack<S>, Object, &[u8]) -> Result<ControlFlow<B>, PackError> + 'a;

/// Where an object stands, and what it says.
#[derive(Debug, Clone, Copy)]
struct Slot {
    form: Form,
    offset: usize,
    /// Where its compressed bytes begin and end.
    from: usize,
    to: usize,
    /// Its inflated length: of the object or of the delta.
    length: usize,
    known: Option<Object>,
}

/// Where in the pack the reader stands.
#[derive(Debug)]
enum Stage {
    Header,
    Entry,
    Inflating { left: usize, hasher: Option<Hasher> },
    Trailer,
    Done,
}

/// Reads a pack that arrives in pieces.
#[derive(Debug)]
pub struct PackReader<S = Vec<u8>> {
    limits: Limits,
    format: Format,
    shelf: S,
    /// How many bytes came.
    came: usize,
    /// Those that are not read yet, or not added to the sum.
    window: Vec<u8>,
    /// Where in the pack the window begins.
    from: usize,
    at: usize,
    summed: usize,
    sum: Hasher,
    slots: Vec<Slot>,
    by_offset: HashMap<usize, usize>,
    expected: usize,
    inflated: u64,
    stage: Stage,
    inflater: Inflater,
    failed: Option<PackError>,
}

struct Inflater {
    state: Box<InflateState>,
    room: Vec<u8>,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inflater")
    }
}

impl Inflater {
    fn new() -> Self {
        Self { state: InflateState::new_boxed(DataFormat::Zlib), room: vec![0; 64 << 10] }
    }

    /// Inflates a bit: how much was taken, what came, and whether that was all. `None` when the bytes are damaged.
    fn step(&mut self, input: &[u8]) -> Option<(usize, &[u8], bool)> {
        let result = inflate(&mut self.state, input, &mut self.room, MZFlush::None);
        let ended = match result.status {
            Ok(MZStatus::StreamEnd) => true,
            Ok(MZStatus::Ok) | Err(MZError::Buf) => false,
            _ => return None,
        };
        Some((result.bytes_consumed, self.room.get(..result.bytes_written).unwrap_or_default(), ended))
    }

    fn reset(&mut self) {
        self.state.reset_as(ZeroReset);
    }

    /// All of a stream that was inflated before: `Ok(None)` when it is damaged.
    fn whole(&mut self, shelf: &mut impl Shelf, slot: Slot) -> io::Result<Option<Vec<u8>>> {
        self.reset();
        let mut out = Vec::with_capacity(slot.length);
        let mut room = vec![0; PIECE.min(slot.to.saturating_sub(slot.from))];
        let mut at = slot.from;
        while at < slot.to {
            let len = room.len().min(slot.to - at);
            let Some(room) = room.get_mut(..len) else { return Ok(None) };
            shelf.take(at, room)?;
            at += len;
            let mut input: &[u8] = room;
            loop {
                let Some((taken, piece, ended)) = self.step(input) else { return Ok(None) };
                if out.len() + piece.len() > slot.length {
                    return Ok(None);
                }
                out.extend_from_slice(piece);
                let still = taken == 0 && piece.is_empty();
                input = input.get(taken..).unwrap_or_default();
                if ended {
                    return Ok((out.len() == slot.length).then_some(out));
                }
                if still {
                    break;
                }
            }
        }
        Ok(None)
    }
}

impl PackReader {
    /// At the beginning of a pack that is held in memory.
    #[must_use]
    pub fn new(format: Format, limits: Limits) -> Self {
        Self::on(Vec::new(), format, limits)
    }
}

impl<S: Shelf> PackReader<S> {
    /// At the beginning of a pack that is laid on a shelf. What the shelf holds already is none of it.
    #[must_use]
    pub fn on(shelf: S, format: Format, limits: Limits) -> Self {
        Self {
            limits,
            format,
            shelf,
            came: 0,
            window: Vec::new(),
            from: 0,
            at: 0,
            summed: 0,
            sum: Hasher::plain(format),
            slots: Vec::new(),
            by_offset: HashMap::new(),
            expected: 0,
            inflated: 0,
            stage: Stage::Header,
            inflater: Inflater::new(),
            failed: None,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As soon as the pack must be refused; then always.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = if self.came.saturating_add(bytes.len()) > self.limits.pack_bytes {
            Err(PackError::Long(self.limits.pack_bytes))
        } else {
            self.more(bytes)
        };
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn more(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.shelf.lay(bytes).map_err(|error| PackError::Shelf(error.to_string()))?;
        self.came += bytes.len();
        self.window.extend_from_slice(bytes);
        self.go_on()?;
        let done = self.summed.saturating_sub(self.from).min(self.window.len());
        self.window.drain(..done);
        self.from += done;
        Ok(())
    }

    /// What was not read yet.
    fn rest(&self) -> &[u8] {
        self.window.get(self.at.saturating_sub(self.from)..).unwrap_or_default()
    }

    /// All of the pack has come: what was pushed counts from here.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    fn go_on(&mut self) -> Result<(), PackError> {
        loop {
            let before = self.at;
            match &mut self.stage {
                Stage::Header => {
                    let Some(header) = self.rest().get(..12) else { return Ok(()) };
                    let (Some(b"PACK\0\0\0\x02" | b"PACK\0\0\0\x03"), Some(Ok(count))) =
                        (header.get(..8), header.get(8..12).map(<[u8; 4]>::try_from))
                    else {
                        return Err(PackError::Header);
                    };
                    let said = u32::from_be_bytes(count);
                    self.expected = usize::try_from(said).unwrap_or(usize::MAX);
                    if self.expected > self.limits.objects {
                        return Err(PackError::Objects { said, limit: self.limits.objects });
                    }
                    self.at = 12;
                    self.stage = if self.expected == 0 { Stage::Trailer } else { Stage::Entry };
                }
                Stage::Entry => {
                    if !self.entry()? {
                        return Ok(());
                    }
                }
                Stage::Inflating { .. } => {
                    if !self.inflate()? {
                        return Ok(());
                    }
                }
                Stage::Trailer => {
                    let Some(trailer) = self.rest().get(..self.format.bytes()) else { return Ok(()) };
                    let trailer = ObjectId::from_bytes(self.format, trailer);
                    self.sum_up();
                    let sum = std::mem::replace(&mut self.sum, Hasher::plain(self.format)).finish().ok();
                    if sum != trailer {
                        return Err(PackError::Checksum);
                    }
                    self.at += self.format.bytes();
                    self.stage = Stage::Done;
                }
                Stage::Done => return if self.at == self.came { Ok(()) } else { Err(PackError::After) },
            }
            debug_assert!(self.at >= before);
        }
    }

    /// Adds what was read to the sum.
    fn sum_up(&mut self) {
        let (from, to) = (self.summed.saturating_sub(self.from), self.at.saturating_sub(self.from));
        self.sum.update(self.window.get(from..to).unwrap_or_default());
        self.summed = self.at;
    }

    /// The head of an object: type, length, base. `false` when more bytes are needed.
    fn entry(&mut self) -> Result<bool, PackError> {
        let index = self.slots.len();
        let mut input = self.rest();
        let all = input.len();
        let Some((kind, length)) = type_and_length(&mut input).map_err(|()| PackError::Length(index))? else {
            return Ok(false);
        };
        let form = match kind {
            1 => Form::Whole(ObjectKind::Commit),
            2 => Form::Whole(ObjectKind::Tree),
            3 => Form::Whole(ObjectKind::Blob),
            4 => Form::Whole(ObjectKind::Tag),
            6 => {
                let Some(back) = offset(&mut input).map_err(|()| PackError::Offset(index))? else { return Ok(false) };
                let base =
                    usize::try_from(back).ok().filter(|back| *back > 0).and_then(|back| self.at.checked_sub(back));
                Form::Upon(base.and_then(|base| self.by_offset.get(&base).copied()).ok_or(PackError::Offset(index))?)
            }
            7 => {
                let Some((base, rest)) = input.split_at_checked(self.format.bytes()) else { return Ok(false) };
                input = rest;
                Form::Named(ObjectId::from_bytes(self.format, base).ok_or(PackError::Offset(index))?)
            }
            other => return Err(PackError::Type(index, other)),
        };
        let limit = match form {
            Form::Whole(ObjectKind::Commit | ObjectKind::Tree | ObjectKind::Tag) => {
                self.limits.meta_bytes.min(self.limits.object_bytes)
            }
            _ => self.limits.object_bytes,
        };
        let length = match usize::try_from(length) {
            Ok(length) if length <= limit => length,
            _ => return Err(PackError::Large { index, said: length, limit }),
        };
        let offset = self.at;
        self.at += all - input.len();
        self.by_offset.insert(offset, index);
        self.slots.push(Slot { form, offset, from: self.at, to: self.at, length, known: None });
        let hasher = match form {
            Form::Whole(kind) => Some(hasher(self.format, kind, length)),
            _ => None,
        };
        self.inflater.reset();
        self.stage = Stage::Inflating { left: length, hasher };
        Ok(true)
    }

    /// Goes on inflating. `false` when more bytes are needed.
    fn inflate(&mut self) -> Result<bool, PackError> {
        let index = self.slots.len().saturating_sub(1);
        let Stage::Inflating { left, hasher } = &mut self.stage else { return Ok(true) };
        loop {
            let input = self.window.get(self.at.saturating_sub(self.from)..).unwrap_or_default();
            let (taken, piece, ended) = self.inflater.step(input).ok_or(PackError::Damaged(index))?;
            *left = left.checked_sub(piece.len()).ok_or(PackError::Lies(index))?;
            if let Some(hasher) = hasher {
                hasher.update(piece);
            }
            self.inflated += piece.len() as u64;
            let still = taken == 0 && piece.is_empty();
            self.at += taken;
            if self.inflated > self.limits.total_bytes {
                return Err(PackError::Total(self.limits.total_bytes));
            }
            if ended {
                break;
            }
            if still {
                self.sum_up();
                return Ok(false);
            }
        }
        if *left > 0 {
            return Err(PackError::Lies(index));
        }
        // Asked where an object ends, so that it does not depend on how the bytes were split; one object has its own limit.
        if self.inflated.saturating_sub(FREE_BYTES) > (self.at as u64).saturating_mul(self.limits.ratio) {
            return Err(PackError::Bomb(self.limits.ratio));
        }
        let id = hasher.take().map(Hasher::finish).transpose().map_err(|_| PackError::Collision(index))?;
        if let Some(slot) = self.slots.last_mut() {
            slot.to = self.at;
            if let (Form::Whole(kind), Some(id)) = (slot.form, id) {
                slot.known = Some(Object { id, kind, size: slot.length as u64 });
            }
        }
        self.sum_up();
        self.stage = if self.slots.len() == self.expected { Stage::Trailer } else { Stage::Entry };
        Ok(true)
    }

    /// Says that no more bytes come, gives every object its name, and reads commits and trees.
    ///
    /// # Errors
    /// When the pack is not whole, or must be refused for what is in it.
    pub fn finish(self) -> Result<Pack<S>, PackError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !matches!(self.stage, Stage::Done) {
            return Err(PackError::Truncated(self.slots.len(), self.expected));
        }
        let mut upon: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut named: HashMap<ObjectId, Vec<usize>> = HashMap::new();
        for (index, slot) in self.slots.iter().enumerate() {
            match slot.form {
                Form::Whole(_) => {}
                Form::Upon(base) => upon.entry(base).or_default().push(index),
                Form::Named(base) => named.entry(base).or_default().push(index),
            }
        }
        let mut pack = Pack {
            limits: self.limits,
            format: self.format,
            shelf: self.shelf,
            length: self.came,
            slots: self.slots,
            upon,
            named,
            inflated: self.inflated,
            kept: 0,
            inflater: self.inflater,
            commits: HashMap::new(),
            trees: HashMap::new(),
            tags: 0,
        };
        pack.put_together()?;
        Ok(pack)
    }
}

/// A pack whose commits, trees and tags are known.
#[derive(Debug)]
pub struct Pack<S = Vec<u8>> {
    limits: Limits,
    format: Format,
    shelf: S,
    length: usize,
    slots: Vec<Slot>,
    upon: HashMap<usize, Vec<usize>>,
    named: HashMap<ObjectId, Vec<usize>>,
    inflated: u64,
    kept: usize,
    inflater: Inflater,
    commits: HashMap<ObjectId, Commit>,
    trees: HashMap<ObjectId, Vec<Entry>>,
    tags: usize,
}

impl<S> Ancestry for Pack<S> {
    fn parents(&self, commit: &ObjectId) -> Option<&[ObjectId]> {
        self.commits.get(commit).map(|commit| commit.parents.as_slice())
    }
}

impl Pack {
    /// The pack itself, as it was judged: these bytes and no others are sent on.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.shelf
    }
}

impl<S: Shelf> Pack<S> {
    /// What the pack lies on: the bytes that were judged, and no others are sent on.
    #[must_use]
    pub fn into_shelf(self) -> S {
        self.shelf
    }

    /// How many bytes the pack has.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// How objects are named.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// There are none: what was pushed is on the server already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The objects: all, but for deltas whose base is not in a thin pack.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        self.slots.iter().filter_map(|slot| slot.known)
    }

    /// How many objects are not known because their base is not in a thin pack.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.slots.iter().filter(|slot| slot.known.is_none()).count()
    }

    /// The commits.
    #[must_use]
    pub const fn commits(&self) -> &HashMap<ObjectId, Commit> {
        &self.commits
    }

    /// The trees.
    #[must_use]
    pub const fn trees(&self) -> &HashMap<ObjectId, Vec<Entry>> {
        &self.trees
    }

    /// How many annotated tags there are.
    #[must_use]
    pub const fn tags(&self) -> usize {
        self.tags
    }

    /// Gives names to all deltas, and reads commits and trees.
    fn put_together(&mut self) -> Result<(), PackError> {
        let flow: ControlFlow<()> = self.walk(false, &mut |pack, object, content| {
            if object.kind != ObjectKind::Blob {
                pack.keep(object, content)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        debug_assert!(flow.is_continue());
        let missing = self.named.iter().flat_map(|(base, slots)| slots.iter().map(move |index| (*index, *base))).min();
        match missing {
            Some((index, base)) if !self.limits.thin => Err(PackError::Thin { index, base }),
            _ => Ok(()),
        }
    }

    /// Reads and keeps a commit or a tree.
    fn keep(&mut self, object: Object, content: &[u8]) -> Result<(), PackError> {
        let wrong = |error| PackError::Object { id: object.id, error };
        self.kept = self.kept.saturating_add(content.len());
        if self.kept > self.limits.kept_bytes {
            return Err(PackError::Kept(self.limits.kept_bytes));
        }
        match object.kind {
            ObjectKind::Commit => {
                self.commits.insert(object.id, read_commit(self.format, content).map_err(wrong)?);
            }
            ObjectKind::Tree => {
                self.trees.insert(object.id, read_tree(self.format, content).map_err(wrong)?);
            }
            ObjectKind::Tag => self.tags += 1,
            ObjectKind::Blob => {}
        }
        Ok(())
    }

    /// Gives each object with its content to `look`, until it breaks.
    ///
    /// # Errors
    /// When the pack must be refused for what is in it.
    pub fn look<B>(
        &mut self,
        look: &mut dyn FnMut(Object, &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, PackError> {
        self.walk(true, &mut |_, object, content| Ok(look(object, content)))
    }

    /// Goes from every whole object along the deltas that build upon it. Without `every`, blobs upon which nothing builds are left out.
    fn walk<B>(&mut self, every: bool, visit: &mut Visit<'_, S, B>) -> Result<ControlFlow<B>, PackError> {
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get(index).copied() else { continue };
            let (Form::Whole(kind), Some(object)) = (slot.form, slot.known) else { continue };
            let alone = !self.upon.contains_key(&index) && !self.named.contains_key(&object.id);
            if !every && kind == ObjectKind::Blob && alone {
                continue;
            }
            let content = Rc::new(self.inflated(index, slot)?);
            let flow = self.chain(index, object, content, visit)?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// One whole object and all that builds upon it.
    fn chain<B>(
        &mut self,
        index: usize,
        object: Object,
        content: Rc<Vec<u8>>,
        visit: &mut Visit<'_, S, B>,
    ) -> Result<ControlFlow<B>, PackError> {
        // What waits to be put together: which object, upon what, how deep.
        let mut open: Vec<(usize, Rc<Vec<u8>>, usize)> = Vec::new();
        let mut held = 0usize;
        let mut next = Some((index, object, content, 0usize));
        loop {
            if let Some((index, object, content, depth)) = next.take() {
                if let ControlFlow::Break(broken) = visit(self, object, &content)? {
                    return Ok(ControlFlow::Break(broken));
                }
                if let Some(named) = self.named.remove(&object.id) {
                    self.upon.entry(index).or_default().extend(named);
                }
                let before = open.len();
                let children = self.upon.get(&index).map(Vec::as_slice).unwrap_or_default();
                open.extend(children.iter().map(|child| (*child, Rc::clone(&content), depth + 1)));
                if open.len() > before {
                    held = held.saturating_add(content.len());
                    if depth >= self.limits.chain {
                        return Err(PackError::Chain(self.limits.chain));
                    }
                    if held > self.limits.working_bytes {
                        return Err(PackError::Working(self.limits.working_bytes));
                    }
                }
            }
            let Some((child, base, depth)) = open.pop() else { return Ok(ControlFlow::Continue(())) };
            let Some(slot) = self.slots.get(child).copied() else { continue };
            let delta = self.inflated(child, slot)?;
            let limit = if object.kind == ObjectKind::Blob { self.limits.object_bytes } else { self.limits.meta_bytes };
            let (said, _) = delta::lengths(&delta).ok_or(PackError::Delta(child))?;
            if said.1 > limit as u64 {
                return Err(PackError::Large { index: child, said: said.1, limit });
            }
            // What has a name was counted when it got it.
            if slot.known.is_none() {
                self.inflated = self.inflated.saturating_add(said.1);
                if self.inflated > self.limits.total_bytes {
                    return Err(PackError::Total(self.limits.total_bytes));
                }
            }
            let content = delta::apply(&base, &delta).ok_or(PackError::Delta(child))?;
            if Rc::strong_count(&base) == 1 {
                held = held.saturating_sub(base.len());
            }
            drop(base);
            let known = match slot.known {
                Some(known) => known,
                None => self.name(child, object.kind, &content)?,
            };
            next = Some((child, known, Rc::new(content), depth));
        }
    }

    /// Gives a delta's result its name.
    fn name(&mut self, index: usize, kind: ObjectKind, content: &[u8]) -> Result<Object, PackError> {
        let mut hasher = hasher(self.format, kind, content.len());
        hasher.update(content);
        let id = hasher.finish().map_err(|_| PackError::Collision(index))?;
        let known = Object { id, kind, size: content.len() as u64 };
        if let Some(slot) = self.slots.get_mut(index) {
            slot.known = Some(known);
        }
        Ok(known)
    }

    /// The inflated bytes of an object or of its delta.
    fn inflated(&mut self, index: usize, slot: Slot) -> Result<Vec<u8>, PackError> {
        debug_assert!(slot.offset < slot.from);
        let whole = self.inflater.whole(&mut self.shelf, slot).map_err(|error| PackError::Shelf(error.to_string()))?;
        whole.ok_or(PackError::Damaged(index))
    }
}

/// A hasher that has been given the head of an object: `blob 12` and NUL.
fn hasher(format: Format, kind: ObjectKind, length: usize) -> Hasher {
    let mut hasher = Hasher::new(format);
    hasher.update(format!("{} {length}\0", kind.as_str()).as_bytes());
    hasher
}

/// Type and length: three bits and four, then seven a byte. `None` when more bytes are needed.
fn type_and_length(input: &mut &[u8]) -> Result<Option<(u8, u64)>, ()> {
    let Some((first, mut rest)) = input.split_first() else { return Ok(None) };
    let mut length = u64::from(first & 0x0f);
    let mut shift = 4u32;
    let mut more = first & 0x80 != 0;
    while more {
        let Some((byte, after)) = rest.split_first() else { return Ok(None) };
        // Nine bytes are more than any object has.
        if shift > 60 {
            return Err(());
        }
        length |= u64::from(byte & 0x7f)
            .checked_shl(shift)
            .filter(|part| part >> shift == u64::from(byte & 0x7f))
            .ok_or(())?;
        shift += 7;
        more = byte & 0x80 != 0;
        rest = after;
    }
    *input = rest;
    Ok(Some((first >> 4 & 7, length)))
}

/// How far back the base is: seven bits a byte, highest first, one added for every byte that follows.
fn offset(input: &mut &[u8]) -> Result<Option<u64>, ()> {
    let mut rest = *input;
    let mut back = 0u64;
    for count in 0..10 {
        let Some((byte, after)) = rest.split_first() else { return Ok(None) };
        rest = after;
        if count > 0 {
            back = back.checked_add(1).ok_or(())?;
        }
        back = back.checked_mul(128).ok_or(())? | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            *input = rest;
            return Ok(Some(back));
        }
    }
    Err(())
}

#[cfg(test)]
mod tests;
