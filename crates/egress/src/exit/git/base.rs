//! What a push builds upon, fetched from the server that it goes to.
//!
//! It is a `git.fetch` of its own, decided and recorded like the environment's, with the environment's own credentials. It refuses to hold a push up for
//! long: what the server does not give, or policy does not let it give, is not known, and a push is then judged without.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use stockade_domain::Action;
use stockade_policy::Ruling;

use super::{
    Passage,
    fetch::{plain, say_version},
    relay::{Copy, Errand, relay},
    spill::Spill,
    way::full,
};
use crate::{
    exit::Exit,
    git::{Format, ObjectId, base, base::BaseReader, pack::Pack, path::Service},
};

/// So long a push waits for what it builds upon.
const PATIENCE: Duration = Duration::from_secs(30);

impl Exit {
    /// The commits with their trees, or nothing.
    pub(super) async fn git_base(
        self: &Arc<Self>,
        passage: &Passage,
        head: &http::request::Parts,
        format: Format,
        commits: &[ObjectId],
    ) -> Option<Pack<Spill>> {
        let all = async {
            // A server that cannot leave files out says no to the first.
            match self.git_base_once(passage, head, format, commits, true).await {
                Some(base) => Some(base),
                None => self.git_base_once(passage, head, format, commits, false).await,
            }
        };
        tokio::time::timeout(PATIENCE, all).await.ok().flatten()
    }

    async fn git_base_once(
        self: &Arc<Self>,
        passage: &Passage,
        head: &http::request::Parts,
        format: Format,
        commits: &[ObjectId],
        filter: bool,
    ) -> Option<Pack<Spill>> {
        let asked = base::request(format, commits, filter).ok()?;
        // Nobody is asked: the push can go on without.
        let ruling @ Ruling::Allow(_) = self.ruling(self.git_deed(Action::GitFetch, passage)) else { return None };
        let opened = self.go(ruling).await.ok()?;
        let target = format!("{}/{}", passage.asked.base, Service::UploadPack);
        let mut request = Request::builder().method(Method::POST).uri(target);
        if head.version == Version::HTTP_2 {
            request = request.version(head.version).uri(uri(head, &passage.asked.base)?);
        }
        let mut request = request.body(full(asked.clone())).ok()?;
        *request.headers_mut() = head.headers.clone();
        let headers = request.headers_mut();
        plain(headers);
        say_version(headers, 2);
        headers.remove(header::ACCEPT_ENCODING);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Service::UploadPack.request_type()));
        headers.insert(header::ACCEPT, HeaderValue::from_static(Service::UploadPack.result_type()));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(asked.len()));
        let out = asked.len() as u64;
        let errand = Errand { records: vec![(opened, None)], request, out, copy: Copy::Nothing };
        let answer = relay(self, passage, errand).await.ok()?;
        let said = answer.headers().get(header::CONTENT_TYPE);
        if answer.status() != StatusCode::OK || said.is_none_or(|said| said != Service::UploadPack.result_type()) {
            return None;
        }
        let limits = self.git.limits.base;
        let spill = Spill::new(&self.git.limits.folder).ok()?;
        let mut reader = BaseReader::on(spill, format, limits);
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.ok()?.into_data() else { continue };
            // Unpacking takes the processor; a piece is small.
            tokio::task::yield_now().await;
            reader.push(&data).ok()?;
        }
        tokio::task::spawn_blocking(move || reader.finish().ok()).await.ok().flatten()
    }
}

/// The whole address, as HTTP/2 has it.
fn uri(head: &http::request::Parts, base: &str) -> Option<http::Uri> {
    let mut parts = head.uri.clone().into_parts();
    parts.path_and_query = Some(format!("{base}/{}", Service::UploadPack).parse().ok()?);
    http::Uri::from_parts(parts).ok()
}
