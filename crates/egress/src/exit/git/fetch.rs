//! Fetches: what there is, and objects.
//!
//! It owns `git.fetch`: the advertisement for both services and every request of upload-pack. It refuses commands that are not known, and bodies that
//! do not read; what goes to the server is what was read here, unpacked.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, header, request::Parts};
use http_body_util::BodyExt as _;
use stockade_domain::Action;

use super::{
    Answer, Passage,
    relay::{Copy, Errand, relay},
    turned_away,
    way::{Body, full},
};
use crate::{
    exit::Exit,
    git::{
        advertisement::Rewriter,
        fetch::{FetchError, FetchReader, RequestReader, Round},
        gate,
        gzip::{Gunzip, GzipError},
        path::Service,
    },
};

/// The longest body of a fetch, unpacked.
pub const MAX_BODY: usize = 8 << 20;

/// Why the body of a fetch is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("the header Git-Protocol says a version that is not known, or says it twice")]
    Version,
    #[error("the body is packed in a way that git does not use: `{0}`")]
    Coding(String),
    #[error("the body has more than {MAX_BODY} bytes: fetch fewer references at once")]
    Long,
    #[error("the body broke off")]
    Lost,
    #[error(transparent)]
    Packed(#[from] GzipError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("something follows the fetch, or it is not whole")]
    Rest,
}

impl Exit {
    /// What there is: the same deed for both services, because what is told is the same.
    pub(super) async fn git_advertisement(self: &Arc<Self>, passage: &Passage, mut head: Parts) -> Answer {
        let pushing = passage.asked.service == Service::ReceivePack;
        let Some(version) = gate::version(&head.headers) else {
            return Ok(self.git_unread(passage, Action::GitFetch, &Unread::Version).await);
        };
        let opened = match self.go(self.ruling(self.git_deed(Action::GitFetch, passage))).await {
            Ok(opened) => opened,
            Err(why) => return Ok(turned_away(why)),
        };
        say_version(&mut head.headers, if pushing { 0 } else { version });
        plain(&mut head.headers);
        let copy = match pushing {
            true => {
                // It is read and changed, so it has to come as it is.
                head.headers.remove(header::ACCEPT_ENCODING);
                Copy::Advertisement(Box::new(Rewriter::http(Service::ReceivePack)))
            }
            false => Copy::Nothing,
        };
        let request = Request::from_parts(head, full(Bytes::new()));
        relay(self, passage, Errand { records: vec![(opened, None)], request, out: 0, copy }).await
    }

    /// A request of upload-pack.
    pub(super) async fn git_fetch(self: &Arc<Self>, passage: &Passage, mut head: Parts, body: Body) -> Answer {
        let Some(version) = gate::version(&head.headers) else {
            return Ok(self.git_unread(passage, Action::GitFetch, &Unread::Version).await);
        };
        let asked = match whole(&head.headers, body).await.and_then(|asked| read(version, &asked).map(|()| asked)) {
            Ok(asked) => asked,
            Err(why) => return Ok(self.git_unread(passage, Action::GitFetch, &why).await),
        };
        let opened = match self.go(self.ruling(self.git_deed(Action::GitFetch, passage))).await {
            Ok(opened) => opened,
            Err(why) => return Ok(turned_away(why)),
        };
        say_version(&mut head.headers, version);
        plain(&mut head.headers);
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(asked.len()));
        let out = asked.len() as u64;
        let request = Request::from_parts(head, full(asked));
        relay(self, passage, Errand { records: vec![(opened, None)], request, out, copy: Copy::Nothing }).await
    }
}

/// What a request of git's says of its body when it goes on: how long it is, and no more.
pub(super) fn plain(headers: &mut HeaderMap) {
    for name in [header::CONTENT_ENCODING, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::EXPECT] {
        headers.remove(name);
    }
}

/// The version that was read is the version that is asked for.
pub(super) fn say_version(headers: &mut HeaderMap, version: u8) {
    headers.remove("git-protocol");
    let word = match version {
        1 => HeaderValue::from_static("version=1"),
        2 => HeaderValue::from_static("version=2"),
        _ => return,
    };
    headers.insert("git-protocol", word);
}

/// Whether a body is packed.
pub(super) fn is_packed(headers: &HeaderMap) -> Result<bool, String> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    match (codings.next().map(HeaderValue::as_bytes), codings.next()) {
        (None | Some(b"identity"), None) => Ok(false),
        (Some(b"gzip" | b"x-gzip"), None) => Ok(true),
        (Some(other), _) => Err(String::from_utf8_lossy(other).chars().take(40).collect()),
        (None, Some(_)) => Ok(false),
    }
}

/// All of a body, unpacked.
async fn whole(headers: &HeaderMap, mut body: Body) -> Result<Bytes, Unread> {
    let mut gunzip = is_packed(headers).map_err(Unread::Coding)?.then(Gunzip::new);
    let mut whole = BytesMut::new();
    let mut keep = |piece: &[u8]| {
        if whole.len() + piece.len() > MAX_BODY {
            return Err(Unread::Long);
        }
        whole.extend_from_slice(piece);
        Ok(())
    };
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unread::Lost)?.into_data() else { continue };
        match &mut gunzip {
            Some(gunzip) => gunzip.push(&data, &mut keep)?,
            None => keep(&data)?,
        }
    }
    if let Some(gunzip) = gunzip {
        gunzip.finish()?;
    }
    Ok(whole.freeze())
}

/// Reads all of it, so that nothing goes on that is not known.
pub(super) fn read(version: u8, asked: &[u8]) -> Result<(), Unread> {
    let mut rest = asked;
    if version == 2 {
        let mut reader = RequestReader::new();
        while reader.read(&mut rest)?.is_some() {}
        return if reader.is_between() { Ok(()) } else { Err(Unread::Rest) };
    }
    let mut reader = FetchReader::new();
    while let Some(round) = reader.read(&mut rest)? {
        if matches!(round, Round::Done | Round::Nothing) {
            return if rest.is_empty() { Ok(()) } else { Err(Unread::Rest) };
        }
    }
    if reader.is_between() { Ok(()) } else { Err(Unread::Rest) }
}
