//! Git on an inspected connection: fetch and push, decided by repository and reference.
//!
//! It owns the deeds `git.fetch` and `git.push`, what they are told of a push ([`look`]), and the words in which git is told no. It refuses what it
//! cannot read: nothing of a push goes to the server before all of it was read, every reference of it allowed, and the records of that are durable.
//! *Invariant:* the bytes that go to the server are the bytes that were judged.

mod base;
mod fetch;
mod look;
mod push;
mod receive;
mod relay;
mod spill;
pub(crate) mod way;

use std::{path::PathBuf, sync::Arc};

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use stockade_domain::{Action, Deed, ResourceKind, ids::RecordId};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Exit, deciding::Turned};
use crate::{
    git::{
        gate::GitRequest,
        pack,
        path::{Service, Step},
        report::plain,
    },
    request::Wanted,
};
pub use fetch::MAX_BODY;
use way::{Body, Gone, Way, full};

/// The word by which a request of git's is refused that no policy was asked about.
const WORD: &str = "egress:git";

/// Bounds of one environment's pushes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Where pushes lie while they are judged. The files have no names.
    pub folder: PathBuf,
    /// Pushes that are judged at once. One more waits.
    pub at_once: usize,
    /// References of one push.
    pub references: usize,
    /// How much of a pack is read.
    pub pack: pack::Limits,
    /// How much of what a push builds upon is read.
    pub base: pack::Limits,
    /// How much more is taken of a push that is refused already, in bytes, so that its client hears why.
    pub rest: u64,
    /// How many bytes the changed paths of a push may have together.
    pub paths: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let pack = pack::Limits {
            pack_bytes: 256 << 20,
            objects: 250_000,
            object_bytes: 64 << 20,
            meta_bytes: 8 << 20,
            kept_bytes: 64 << 20,
            total_bytes: 2 << 30,
            working_bytes: 192 << 20,
            ..pack::Limits::default()
        };
        Self {
            folder: std::env::temp_dir(),
            at_once: 2,
            references: 64,
            pack,
            base: pack::Limits { pack_bytes: 64 << 20, ..pack },
            rest: 64 << 20,
            paths: 200 << 10,
        }
    }
}

/// What an exit has for git.
#[derive(Debug)]
pub(super) struct Desk {
    limits: Limits,
    places: Semaphore,
}

impl Desk {
    pub(super) fn new(limits: Limits) -> Self {
        Self { places: Semaphore::new(limits.at_once), limits }
    }
}

/// A request of git's on its way.
#[derive(Debug)]
pub(crate) struct Passage {
    /// What it is to git.
    pub(crate) asked: GitRequest,
    /// What it is to HTTP.
    pub(crate) wanted: Wanted,
    /// The record of the connection on which it came.
    pub(crate) connection: RecordId,
    /// The way to the server.
    pub(crate) way: Arc<dyn Way>,
    /// What is done beside the connection, until it ends.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the whole connection has to end.
    pub(crate) cut: CancellationToken,
}

impl Exit {
    /// With other bounds for git than the usual ones.
    #[must_use]
    pub fn with_git(mut self, limits: Limits) -> Self {
        self.git = Desk::new(limits);
        self
    }

    /// Decides a request of git's and does it, or answers it with a no. `head` has the headers that go to the server.
    ///
    /// # Errors
    /// When the server had closed its connection before the request went out.
    pub(crate) async fn git(
        self: &Arc<Self>,
        passage: Passage,
        head: Parts,
        body: Body,
    ) -> Result<Response<Body>, Gone> {
        match (passage.asked.service, passage.asked.step) {
            (_, Step::Advertisement) => self.git_advertisement(&passage, head).await,
            (Service::UploadPack, _) => self.git_fetch(&passage, head, body).await,
            (Service::ReceivePack, _) => self.git_push(&passage, head, body).await,
        }
    }

    /// A deed on the repository that is asked for.
    fn git_deed(&self, action: Action, passage: &Passage) -> Deed {
        let Passage { asked, wanted, connection, .. } = passage;
        let mut deed = self.deed(action, ResourceKind::Repository, &asked.id, wanted.port);
        deed.context = deed
            .context
            .with("host", wanted.host.as_str())
            .with("method", wanted.method.as_str())
            .with("inspected", true)
            .with("connection", connection.to_string());
        deed
    }

    /// Refuses what cannot be read.
    async fn git_unread(
        &self,
        passage: &Passage,
        action: Action,
        why: &(dyn std::error::Error + Send + Sync),
    ) -> Response<Body> {
        let title = plain(&why.to_string());
        self.refuse_deed(self.git_deed(action, passage), WORD, &title).await;
        answer(StatusCode::BAD_REQUEST, &title)
    }
}

/// What a request comes to.
type Answer = Result<Response<Body>, Gone>;

/// The answer to what policy, or a person, does not allow.
fn turned_away(why: Turned) -> Response<Body> {
    let status = if why == Turned::Unrecorded { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::FORBIDDEN };
    answer(status, &turned(why))
}

/// What is told of a refusal.
fn turned(why: Turned) -> String {
    match why {
        Turned::Refused(title) => title,
        Turned::Unrecorded => "it cannot be recorded now; try again".to_owned(),
    }
}

/// An answer of ours. Git shows plain text behind `remote:`.
fn answer(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(format!("stockade: {}\n", plain(text))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests;
