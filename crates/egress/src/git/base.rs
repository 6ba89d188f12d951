//! What a push builds upon: the trees of commits that the server has, asked of the server itself.
//!
//! A pack shows what is new, not what was there before, so that a push alone does not say which paths it changes. The second version of the
//! protocol gives commits with their trees and without files (gitprotocol-v2, "fetch"; `filter blob:none`, `deepen 1`). This module writes
//! the request and reads the answer, and gives the answer as [`Known`]. It refuses answers that are none, and never says what they hold.

use super::object::{Commit, Entry};
use super::pack::{Limits, Pack, PackError, PackReader, Shelf};
use super::pkt::{self, Band, Kind, PacketReader, PktError};
use super::review::Known;
use super::{Format, ObjectId};

/// The most commits upon which a push may build and be shown to change what it says.
pub const MAX_COMMITS: usize = 64;

/// Why there is no base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// The bytes are no packets.
    #[error(transparent)]
    Packets(#[from] PktError),
    /// The server says that it will not.
    #[error("the git server answers: {0}")]
    Server(String),
    /// Something else than an answer to a fetch.
    #[error("the git server's answer is none to a fetch")]
    Answer,
    /// The pack.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// Asks for these commits with their trees. Without `filter` the files come too, for servers that cannot leave them out.
///
/// # Errors
/// Never for names of objects.
pub fn request(format: Format, commits: &[ObjectId], filter: bool) -> Result<Vec<u8>, PktError> {
    let mut out = Vec::new();
    pkt::write(&mut out, b"command=fetch\n")?;
    pkt::write(&mut out, format!("object-format={}\n", format.as_str()).as_bytes())?;
    pkt::write_delim(&mut out);
    for word in ["no-progress\n", "ofs-delta\n", "deepen 1\n"] {
        pkt::write(&mut out, word.as_bytes())?;
    }
    if filter {
        pkt::write(&mut out, b"filter blob:none\n")?;
    }
    for commit in commits {
        pkt::write(&mut out, format!("want {commit}\n").as_bytes())?;
    }
    pkt::write(&mut out, b"done\n")?;
    pkt::write_flush(&mut out);
    Ok(out)
}

/// Reads the answer as it arrives in pieces.
#[derive(Debug)]
pub struct BaseReader<S = Vec<u8>> {
    packets: PacketReader,
    pack: PackReader<S>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Sections before the pack: `shallow-info` and the like.
    Sections,
    Pack,
    Done,
}

impl<S: Shelf> BaseReader<S> {
    /// At the beginning of an answer.
    #[must_use]
    pub fn on(shelf: S, format: Format, limits: Limits) -> Self {
        Self { packets: PacketReader::new(), pack: PackReader::on(shelf, format, limits), stage: Stage::Sections }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When there is no base.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), BaseError> {
        while let Some(packet) = self.packets.read(&mut bytes)? {
            if packet.kind == Kind::Data
                && let Some(said) = packet.error()
            {
                return Err(BaseError::Server(super::shown(said)));
            }
            self.stage = match (self.stage, packet.kind) {
                (Stage::Sections, Kind::Data) if packet.line() == b"packfile" => Stage::Pack,
                (Stage::Sections, Kind::Data | Kind::Delim) => Stage::Sections,
                (Stage::Pack, Kind::Data) => {
                    match pkt::side_band(packet.payload)? {
                        (Band::Data, piece) => self.pack.push(piece)?,
                        (Band::Progress, _) => {}
                        (Band::Error, said) => return Err(BaseError::Server(super::shown(said))),
                    }
                    Stage::Pack
                }
                (Stage::Pack, Kind::Flush) => Stage::Done,
                _ => return Err(BaseError::Answer),
            };
        }
        Ok(())
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// When the answer is not whole, or its pack must be refused.
    pub fn finish(self) -> Result<Pack<S>, BaseError> {
        if self.stage == Stage::Done { Ok(self.pack.finish()?) } else { Err(BaseError::Answer) }
    }
}

impl<S: Shelf> Known for Pack<S> {
    fn commit(&self, id: &ObjectId) -> Option<Commit> {
        self.commits().get(id).cloned()
    }

    fn tree(&self, id: &ObjectId) -> Option<Vec<Entry>> {
        self.trees().get(id).cloned()
    }
}

/// The commits upon which a pack builds and which it does not have: what there is to ask for. `None` if they are too many.
#[must_use]
pub fn missing<S: Shelf>(pack: &Pack<S>) -> Option<Vec<ObjectId>> {
    let parents = pack.commits().values().flat_map(|commit| commit.parents.iter().copied());
    let mut missing: Vec<ObjectId> = parents.filter(|parent| !pack.commits().contains_key(parent)).collect();
    missing.sort_unstable();
    missing.dedup();
    (missing.len() <= MAX_COMMITS).then_some(missing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pkt::packets;
    use super::*;

    fn read(bytes: &[u8], cut: usize) -> Result<Pack, BaseError> {
        let mut reader = BaseReader::on(Vec::new(), Format::Sha1, Limits::default());
        bytes.chunks(cut).try_for_each(|piece| reader.push(piece))?;
        reader.finish()
    }

    #[test]
    fn an_answer_that_is_none_gives_no_base() {
        let refused = packets(&["ERR upload-pack: not our ref\n"]);
        assert!(matches!(read(&refused, 9), Err(BaseError::Server(_))));
        assert!(matches!(read(&packets(&["packfile\n", "\u{3}no\n"]), 9), Err(BaseError::Server(_))));
        assert!(matches!(
            read(&packets(&["packfile\n", "\u{1}PUCK........"]), 9),
            Err(BaseError::Pack(PackError::Header))
        ));
        assert!(matches!(read(&packets(&["packfile\n", ""]), 9), Err(BaseError::Pack(PackError::Truncated(..)))));
        assert!(matches!(read(&packets(&["shallow-info\n"]), 9), Err(BaseError::Answer)));
        assert!(matches!(read(b"", 9), Err(BaseError::Answer)));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1usize..20) {
            let _ = read(&bytes, cut);
            let _ = read(&[packets(&["packfile\n"]), bytes].concat(), cut);
        }
    }
}
