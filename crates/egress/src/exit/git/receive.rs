//! A push as it comes in: laid down, unpacked, read, and nothing believed.
//!
//! It runs beside the runtime, because unpacking takes the processor. It refuses a push at the first byte that cannot be; what comes after that byte is
//! taken and thrown away, up to a bound, so that the client hears why.

use std::{io, path::PathBuf};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::{Limits, fetch::is_packed, spill::Spill, way::Body};
use crate::git::{
    gzip::{Gunzip, GzipError},
    pack::{self, Pack, PackError, PackReader},
    push::{Push, PushError, PushReader},
};

/// Pieces of a push that wait to be read.
const WAITING: usize = 8;

/// A push that was read.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) push: Push,
    pub(super) sent: Sent,
}

/// What the client has sent.
#[derive(Debug)]
pub(super) enum Sent {
    /// Commands, and no pack.
    Commands(Spill),
    /// Commands and a pack.
    Pack(Box<Pack<Spill>>),
}

impl Sent {
    /// The bytes that were read.
    pub(super) fn into_spill(self) -> Spill {
        match self {
            Self::Commands(spill) => spill,
            Self::Pack(pack) => pack.into_shelf(),
        }
    }
}

/// A push that cannot be read, and what is known of it.
#[derive(Debug)]
pub(super) struct Unreceived {
    pub(super) push: Option<Box<Push>>,
    pub(super) why: Unread,
}

/// Why a push cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("the body is packed in a way that git does not use: `{0}`")]
    Coding(String),
    #[error(transparent)]
    Packed(#[from] GzipError),
    #[error(transparent)]
    Push(#[from] PushError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("the push has more than {0} references: push fewer at once")]
    References(usize),
    #[error("push options are not let out: push without `-o`")]
    Options,
    #[error("something follows the push")]
    After,
    #[error("the push is not whole")]
    Truncated,
    #[error("the push cannot be kept while it is judged")]
    Disk(#[from] io::Error),
    #[error("the push broke off")]
    Lost,
    #[error("the push could not be read")]
    Defect,
}

enum Piece {
    Data(Bytes),
    End,
}

/// Takes all of a push.
pub(super) async fn receive(limits: &Limits, headers: &HeaderMap, mut body: Body) -> Result<Received, Unreceived> {
    let unread = |why| Unreceived { push: None, why };
    let packed = is_packed(headers).map_err(|coding| unread(Unread::Coding(coding)))?;
    let (pieces, waiting) = mpsc::channel(WAITING);
    let mut reader = Reader {
        packed: packed.then(Gunzip::new),
        folder: limits.folder.clone(),
        references: limits.references,
        limits: limits.pack,
        commands: PushReader::new(),
        before: Vec::new(),
        stage: Stage::Commands,
    };
    let reading = tokio::task::spawn_blocking(move || {
        let read = reader.all(waiting);
        reader.finish(read)
    });
    let (mut refused, mut left) = (false, limits.rest);
    let lost = loop {
        match body.frame().await {
            None => break false,
            Some(Err(_)) => break true,
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if refused {
                    left = left.saturating_sub(data.len() as u64);
                    if left == 0 {
                        break false;
                    }
                } else {
                    refused = pieces.send(Piece::Data(data)).await.is_err();
                }
            }
        }
    };
    if !lost {
        // Nobody takes it where the push is refused already.
        let _ = pieces.send(Piece::End).await;
    }
    drop(pieces);
    reading.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a push could not be read: {error}");
        Err(unread(Unread::Defect))
    })
}

struct Reader {
    packed: Option<Gunzip>,
    folder: PathBuf,
    references: usize,
    limits: pack::Limits,
    commands: PushReader,
    /// What came of the commands.
    before: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Commands,
    Pack(Box<Push>, Box<PackReader<Spill>>),
    /// Nothing may follow.
    Over(Box<Push>, Spill),
    Failed(Option<Box<Push>>),
}

impl Reader {
    fn all(&mut self, mut waiting: mpsc::Receiver<Piece>) -> Result<(), Unread> {
        loop {
            match waiting.blocking_recv() {
                Some(Piece::Data(piece)) => self.piece(&piece)?,
                Some(Piece::End) => return Ok(()),
                None => return Err(Unread::Lost),
            }
        }
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Unread> {
        match self.packed.take() {
            None => self.read(piece),
            Some(mut gunzip) => {
                let read = gunzip.push(piece, &mut |piece| self.read(piece));
                self.packed = Some(gunzip);
                read
            }
        }
    }

    fn read(&mut self, mut piece: &[u8]) -> Result<(), Unread> {
        if let Stage::Commands = self.stage {
            let all = piece;
            let push = self.commands.read(&mut piece)?.cloned();
            let taken = all.len() - piece.len();
            self.before.extend_from_slice(all.get(..taken).unwrap_or_default());
            let Some(push) = push else { return Ok(()) };
            self.stage = self.begin(push)?;
        }
        match &mut self.stage {
            Stage::Pack(_, pack) if !piece.is_empty() => Ok(pack.push(piece)?),
            Stage::Over(..) if !piece.is_empty() => Err(Unread::After),
            _ => Ok(()),
        }
    }

    /// The commands are known, and something else is to come, or nothing.
    fn begin(&mut self, push: Push) -> Result<Stage, Unread> {
        let wrong = if push.commands.len() > self.references {
            Some(Unread::References(self.references))
        } else if push.options.is_empty() {
            None
        } else {
            Some(Unread::Options)
        };
        if let Some(why) = wrong {
            self.stage = Stage::Failed(Some(Box::new(push)));
            return Err(why);
        }
        let mut spill = Spill::new(&self.folder)?;
        spill.before(&std::mem::take(&mut self.before))?;
        Ok(match push.has_pack() {
            true => {
                let pack = PackReader::on(spill, push.format, self.limits);
                Stage::Pack(Box::new(push), Box::new(pack))
            }
            false => Stage::Over(Box::new(push), spill),
        })
    }

    fn finish(mut self, read: Result<(), Unread>) -> Result<Received, Unreceived> {
        let read = read.and_then(|()| match &self.packed {
            Some(gunzip) => Ok(gunzip.finish()?),
            None => Ok(()),
        });
        let stage = std::mem::replace(&mut self.stage, Stage::Failed(None));
        match (read, stage) {
            (Ok(()), Stage::Over(push, spill)) => Ok(Received { push: *push, sent: Sent::Commands(spill) }),
            (Ok(()), Stage::Pack(push, pack)) => match pack.finish() {
                Ok(pack) => Ok(Received { push: *push, sent: Sent::Pack(Box::new(pack)) }),
                Err(why) => Err(Unreceived { push: Some(push), why: why.into() }),
            },
            (Ok(()), _) => Err(Unreceived { push: None, why: Unread::Truncated }),
            (Err(why), Stage::Pack(push, _) | Stage::Over(push, _) | Stage::Failed(Some(push))) => {
                Err(Unreceived { push: Some(push), why })
            }
            (Err(why), _) => Err(Unreceived { push: None, why }),
        }
    }
}
