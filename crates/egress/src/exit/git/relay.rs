//! A decided request on its way to the origin, and the answer on its way back.
//!
//! It owns that the records of a request are closed whatever becomes of it, with what went over. It changes nothing of an answer but the
//! advertisement for a push ([`Rewriter`]); what else it needs to know it reads from a copy.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::select_all, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use stockade_domain::{ContextValue, ids::RecordId};
use stockade_ledger::Opened;
use stockade_policy::Permit;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, Passage, answer,
    way::{Body, BodyError, Gone, NoAnswer, Way},
};
use crate::{
    exit::{Exit, open::Held},
    git::{
        advertisement::{AdvertisementError, Rewriter},
        path::Service,
        pkt,
        report::{Report, ReportReader},
    },
    relay::Carried,
};

/// Pieces of an answer that wait for a slow reader.
const WAITING: usize = 4;

/// What is done with a copy of an answer.
#[derive(Debug)]
pub(super) enum Copy {
    /// Nothing.
    Nothing,
    /// It is an advertisement for a push, and is changed on its way.
    Advertisement(Box<Rewriter>),
    /// It says what became of references.
    Report(Box<ReportReader>),
}

/// A request that was decided and recorded.
#[derive(Debug)]
pub(super) struct Errand {
    /// Its records, and for a push the reference of each.
    pub(super) records: Vec<(Opened<Permit>, Option<String>)>,
    /// What is sent.
    pub(super) request: Request<Body>,
    /// How many bytes its body has.
    pub(super) out: u64,
    /// What is done with the answer.
    pub(super) copy: Copy,
}

/// How it ended.
struct Ended {
    code: &'static str,
    status: Option<StatusCode>,
    back: u64,
    copy: Copy,
}

/// Sends, and gives the answer whose body streams. The records are closed beside it.
pub(super) async fn relay(exit: &Arc<Exit>, passage: &Passage, errand: Errand) -> Answer {
    let (head, heard) = oneshot::channel();
    let (exit, way, cut) = (exit.clone(), passage.way.clone(), passage.cut.clone());
    passage.tasks.spawn(async move { errand.go(&exit, &*way, &cut, head).await });
    match heard.await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(NoAnswer::Gone)) => Err(Gone),
        Ok(Err(NoAnswer::Told { status, text, .. })) => Ok(answer(status, &text)),
        Err(_) => Ok(answer(StatusCode::BAD_GATEWAY, "the request was cut")),
    }
}

type Head = oneshot::Sender<Result<Response<Body>, NoAnswer>>;

impl Errand {
    async fn go(self, exit: &Arc<Exit>, way: &dyn Way, cut: &CancellationToken, head: Head) {
        let Self { records, request, out, copy } = self;
        let (mut held, mut references) = (Vec::new(), Vec::new());
        for (opened, reference) in records {
            let record = opened.record();
            let permit = opened.into_permit();
            held.push(exit.hold(record, &permit));
            references.push((record, reference));
        }
        let ended = carry(way, request, copy, (&held, cut), head).await;
        // How much of it the server has heard is not known then.
        let out = if ended.status.is_none() { 0 } else { out };
        drop(held);
        close(exit, references, ended, out).await;
    }
}

/// Ends when one of them has to, and says why.
async fn stopped(held: &[Held], cut: &CancellationToken) -> &'static str {
    let all = held.iter().map(|held| held.stop().cancelled().boxed());
    select_all(all.chain([cut.cancelled().boxed()])).await;
    held.first().map_or("stopped", Held::why)
}

async fn carry(
    way: &dyn Way,
    request: Request<Body>,
    mut copy: Copy,
    (held, cut): (&[Held], &CancellationToken),
    mut head: Head,
) -> Ended {
    let mut stop = std::pin::pin!(stopped(held, cut));
    let nothing = |code, copy| Ended { code, status: None, back: 0, copy };
    let response = tokio::select! {
        biased;
        why = &mut stop => {
            let text = "the request was cut: policy has changed".to_owned();
            // Whoever asked may be gone as well.
            let _ = head.send(Err(NoAnswer::Told { code: why, status: StatusCode::BAD_GATEWAY, text }));
            return nothing(why, copy);
        }
        () = head.closed() => return nothing("client_lost", copy),
        response = way.send(request) => response,
    };
    let response = match response {
        Ok(response) => response,
        Err(why) => {
            let code = match why {
                NoAnswer::Gone => "lost",
                NoAnswer::Told { code, .. } => code,
            };
            // Whoever asked may be gone as well.
            let _ = head.send(Err(why));
            return nothing(code, copy);
        }
    };
    let (mut parts, mut body) = response.into_parts();
    let status = parts.status;
    let packed = parts.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    let kind = |kind: &str| {
        !packed && status == StatusCode::OK && parts.headers.get(header::CONTENT_TYPE).is_some_and(|said| said == kind)
    };
    match &copy {
        Copy::Advertisement(_) if kind(Service::ReceivePack.advertisement_type()) => {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        Copy::Report(_) if kind(Service::ReceivePack.result_type()) => {}
        // An answer that is none passes as it is: a question for a password, a page that says no.
        _ => copy = Copy::Nothing,
    }
    let (pieces, mut waiting) = mpsc::channel(WAITING);
    let streamed = StreamBody::new(stream::poll_fn(move |cx| waiting.poll_recv(cx))).boxed_unsync();
    if head.send(Ok(Response::from_parts(parts, streamed))).is_err() {
        return Ended { code: "client_lost", status: Some(status), back: 0, copy };
    }
    let mut back = 0;
    let code = loop {
        let frame = tokio::select! {
            biased;
            why = &mut stop => {
                // It may have gone already.
                let _ = pieces.try_send(Err(BodyError::Cut(why)));
                break why;
            }
            () = pieces.closed() => break "client_lost",
            frame = body.frame() => frame,
        };
        let next = match frame {
            None => match copied(&mut copy, None) {
                Some(last) => Ok(Frame::data(last)),
                None => break "",
            },
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    back += data.len() as u64;
                    Ok(Frame::data(copied(&mut copy, Some(&data)).unwrap_or(data)))
                }
                Err(frame) => Ok(frame),
            },
            Some(Err(error)) => Err(error),
        };
        let lost = next.is_err();
        let gone = tokio::select! {
            biased;
            why = &mut stop => break why,
            sent = pieces.send(next) => sent.is_err(),
        };
        if gone {
            break "client_lost";
        }
        if lost {
            break "lost";
        }
    };
    Ended { code, status: Some(status), back, copy }
}

/// What goes on instead of a piece of an answer, or behind its end.
fn copied(copy: &mut Copy, piece: Option<&Bytes>) -> Option<Bytes> {
    match (copy, piece) {
        (Copy::Nothing, _) | (_, None) => None,
        (Copy::Report(reader), Some(piece)) => {
            reader.push(piece);
            None
        }
        (Copy::Advertisement(rewriter), Some(piece)) => {
            let (mut rest, mut shown) = (piece.as_ref(), Vec::new());
            let failed = match rewriter.read(&mut rest, &mut shown, &mut |_, _| ()) {
                Ok(_) if rest.is_empty() => None,
                Ok(_) => Some(AdvertisementError::After),
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                // Git reads this wherever it stands, says it and ends. It is short.
                let _ = pkt::write(&mut shown, format!("ERR {error}").as_bytes());
            }
            Some(shown.into())
        }
    }
}

async fn close(exit: &Exit, records: Vec<(RecordId, Option<String>)>, ended: Ended, out: u64) {
    let Ended { code, status, back, copy } = ended;
    let report = match copy {
        Copy::Report(reader) => Some(reader.report()),
        _ => None,
    };
    let mut carried = Carried { out, back };
    for (record, reference) in records {
        let mut facts = BTreeMap::new();
        if let Some(status) = status {
            facts.insert("status".to_owned(), ContextValue::Long(status.as_u16().into()));
        }
        let code = match &reference {
            Some(reference) if code.is_empty() => became(report.as_ref(), status, reference),
            _ => code,
        };
        // What went over is counted once, however many references there were.
        exit.close_with(record, code, std::mem::take(&mut carried), facts).await;
    }
}

/// What became of a reference: nothing if the server changed it.
fn became(report: Option<&Report>, status: Option<StatusCode>, reference: &str) -> &'static str {
    match report.map(|report| (report.references.get(reference), report.whole)) {
        Some((Some(true), true)) => "",
        Some((Some(false), _)) => "rejected",
        Some(_) => "unreported",
        None if status == Some(StatusCode::OK) => "unreported",
        None => "not_taken",
    }
}
