//! The client of a site's listener.

use std::fmt;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use secrecy::SecretString;
use serde::Serialize;
use stockade_domain::{
    ContentKind, ContentRef,
    ids::{EnvironmentId, RunId},
};

use super::{ByteStream, transport::Transport};
use crate::{
    error::{ApiError, Fault},
    http::{IssuedTicket, SealedContent},
    site::{ExecFrame, ExecRequest, Seal, TranscriptLine},
};

/// The longest line of a stream of frames, in bytes. A longer one ends the stream with an error.
pub const MAX_LINE: usize = 8 * 1024 * 1024;

/// A client of one site's listener, for one run, with a content ticket.
#[derive(Debug, Clone)]
pub struct SiteClient {
    transport: Transport,
}

#[derive(Serialize)]
struct Kind {
    kind: ContentKind,
}

#[derive(Serialize)]
struct After {
    after: u64,
}

impl SiteClient {
    /// A client with the ticket that the server issued.
    pub fn new(ticket: &IssuedTicket) -> Result<Self, ApiError> {
        let token = SecretString::from(ticket.ticket.clone());
        Ok(Self { transport: Transport::new(&ticket.listener, Some(token), "the site's listener")? })
    }

    /// `GET /content/{run}/{digest}`: a piece of content in plain text.
    pub async fn content(&self, run: RunId, content: &ContentRef) -> Result<Bytes, ApiError> {
        let call = self.transport.get(&["content", &run.to_string(), &content.digest.to_string()]);
        call.query(&Kind { kind: content.kind }).bytes().await
    }

    /// `GET /transcript/{run}`: the run's journal in plain text, what came after line `after`.
    pub async fn transcript(&self, run: RunId, after: u64) -> Result<Vec<TranscriptLine>, ApiError> {
        let body = self.transport.get(&["transcript", &run.to_string()]).query(&After { after }).bytes().await?;
        body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
    }

    /// `POST /seal/{run}`: seals a reply for the run.
    pub async fn seal(&self, run: RunId, body: &Seal) -> Result<SealedContent, ApiError> {
        self.transport.post(&["seal", &run.to_string()]).body(body).json().await
    }

    /// `POST /exec/{environment}`: runs a command; what comes of it is read from the stream.
    pub async fn exec(&self, environment: EnvironmentId, body: &ExecRequest) -> Result<ExecStream, ApiError> {
        let bytes = self.transport.post(&["exec", &environment.to_string()]).body(body).stream().await?;
        Ok(ExecStream { bytes, buffer: BytesMut::new() })
    }
}

/// The frames of a running command.
pub struct ExecStream {
    bytes: ByteStream,
    buffer: BytesMut,
}

impl fmt::Debug for ExecStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecStream").finish_non_exhaustive()
    }
}

impl ExecStream {
    /// The next frame; nothing once the stream is over.
    pub async fn next(&mut self) -> Option<Result<ExecFrame, ApiError>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let line = line.trim_ascii();
                if line.is_empty() {
                    continue;
                }
                return Some(parse(line));
            }
            if self.buffer.len() > MAX_LINE {
                return Some(Err(nonsense("a line that is too long")));
            }
            match self.bytes.next().await? {
                Ok(chunk) => self.buffer.extend_from_slice(&chunk),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(line: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(line).map_err(|error| nonsense(&error.to_string()))
}

fn nonsense(what: &str) -> ApiError {
    ApiError::new(Fault::Outside, "unexpected_answer", format!("the site's listener sent nonsense: {what}"))
        .hint("Is that really a Stockade of this version?")
}
