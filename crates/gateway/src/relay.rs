//! Makes a call and passes on what comes, until its end or the client's.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use stockade_llm::{
    Framing,
    neutral::{ApiFault, FaultKind},
};

use crate::{
    PurseError,
    exchange::{Call, Client, Head, Inner, Ready},
    meter::Meter,
    outlet::Outlet,
    plumbing::{MAX_REFUSAL, Plumbing, in_band},
    settle::{Answer, Ending},
    upstream::{SendError, chain},
};

/// After so long without anything from the provider, what a guard holds back of a harmless beginning is let go.
const HELD_BACK: Duration = Duration::from_millis(250);
/// How long a refusal that is not passed on may take to come.
const REFUSAL_TIME: Duration = Duration::from_secs(5);

impl Inner {
    /// `last` says whether there is no other place to try: then the provider's refusal is the client's answer. Unless it is a token
    /// that is not taken any more, and a new one was not tried yet.
    pub(crate) async fn relay(&self, call: &Call, ready: Ready, client: &mut Client, last: bool) -> (Ending, Answer) {
        let Ready { opened, parcel, ends, guard, proof } = ready;
        let mut answer = Answer::default();
        if client.body.is_closed() {
            return (Ending::ClientGoneEarly, answer);
        }
        // A stream is cut off when its reader is gone. An answer in one piece was paid for as a whole and comes as a
        // whole: it is waited for, so that what it used is known and what it said is kept.
        let cut = call.stream;
        let _open = call.stream.then(|| self.metrics.stream());
        answer.sent = Some(self.parts.world.now());
        let sent = tokio::select! {
            sent = tokio::time::timeout(self.limits.first_byte, self.upstream.send(opened, &call.target, parcel)) => sent,
            () = client.body.closed(), if cut => return (Ending::ClientGone, answer),
        };
        let response = match sent {
            Err(_) => return (Ending::Silent, answer),
            Ok(Err(SendError::NotSent(_))) if !last => return (Ending::Passed, answer),
            Ok(Err(SendError::NotSent(why))) => return (Ending::NotSent(why), answer),
            Ok(Err(SendError::Lost(why))) => return (Ending::Lost(why), answer),
            Ok(Ok(response)) => response,
        };
        let (head, body) = response.into_parts();
        answer.status = Some(head.status.as_u16());
        answer.retry_after_ms = retry_after(&head.headers);
        answer.stale_proof = proof.is_some_and(|(number, proof)| {
            let error = head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
            let credential = call.target.provider.credential(number);
            credential.is_some_and(|one| one.refused(&proof, head.status.as_u16(), error, self.parts.world.now()))
        });
        if answer.stale_proof || !last && worth_another(head.status) {
            answer.bytes = refusal(body).await;
            let fault = ends.provider.read_error(head.status.as_u16(), &answer.bytes);
            answer.seen.error = Some(stockade_llm::anthropic::ApiError { kind: fault.code, message: fault.message });
            return (Ending::Passed, answer);
        }
        let (dialect, framing, own) = (ends.client, ends.client_framing, ends.own);
        let mut plumbing = Plumbing::lay(ends, head.status, &head.headers);
        let headers = plumbing.head(head.status, &head.headers);
        let whole = !call.stream || headers_say_whole(&headers);
        let form = if whole { Framing::Whole } else { framing };
        let head = Head { status: head.status, headers };
        let mut outlet = Outlet::open(client, self.limits.client_stall, guard, form, own, head);
        let mut ending = self.pump(call, body, &mut outlet, cut, &mut plumbing, &mut answer).await;
        let ended = matches!(ending, Ending::Whole);
        let (last, seen) = match plumbing {
            Plumbing::Same(mut watched) => {
                let rest = watched.rest();
                let told = match &ending {
                    Ending::OutOfMoney(_) => {
                        let fault = ApiFault::new(FaultKind::InvalidRequest, ending.for_client());
                        in_band(dialect, framing, call.stream, &fault)
                    }
                    _ => Bytes::new(),
                };
                answer.told = !told.is_empty();
                // An event that never became whole does not stand in front of words of ours.
                (if answer.told { told } else { rest }, watched.finish(ended))
            }
            Plumbing::Reframed(reframer) => {
                answer.told = true;
                reframer.finish(ended, &ApiFault::new(FaultKind::Api, ending.for_client()))
            }
            Plumbing::Converted(converter) => {
                answer.told = true;
                let fault = ApiFault::new(FaultKind::Api, ending.for_client());
                converter.finish(ended, (!ended).then_some(&fault))
            }
        };
        answer.seen = seen;
        if !last.is_empty() && !matches!(ending, Ending::ClientGone | Ending::Blocked(_)) {
            outlet.send(last).await;
        }
        answer.looked = outlet.close(ended).await;
        if let Some(title) = &answer.looked.blocked {
            // The guard has told the client in its own form.
            answer.told = true;
            ending = Ending::Blocked(title.clone());
        }
        (ending, answer)
    }

    async fn pump(
        &self,
        call: &Call,
        mut body: Incoming,
        outlet: &mut Outlet<'_>,
        cut: bool,
        plumbing: &mut Plumbing,
        answer: &mut Answer,
    ) -> Ending {
        let mut gone = false;
        let mut meter = call.meter.clone();
        let mut last_sent = tokio::time::Instant::now();
        loop {
            let next = match body.frame().now_or_never() {
                Some(_) if cut && outlet.client.body.is_closed() => return Ending::ClientGone,
                Some(next) => Ok(next),
                None => {
                    outlet.begin();
                    let waits = outlet.waits();
                    tokio::select! {
                        next = tokio::time::timeout(self.limits.idle, body.frame()) => next,
                        () = outlet.client.body.closed(), if cut => return Ending::ClientGone,
                        () = tokio::time::sleep(HELD_BACK), if waits => {
                            outlet.idle().await;
                            continue;
                        }
                    }
                }
            };
            let data = match next {
                Err(_) => return Ending::Silent,
                Ok(None) => return Ending::Whole,
                Ok(Some(Err(error))) => return Ending::Lost(chain(&error)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
            };
            if answer.first_byte.is_none() {
                answer.first_byte = Some(self.parts.world.now());
            }
            // No token is shorter than a byte: what this piece can hold is paid for before it is passed on.
            if call.stream {
                let seen = plumbing.output_tokens_seen().saturating_add(data.len() as u64);
                if let Err(ending) = self.feed(call, &mut meter, seen, answer).await {
                    return ending;
                }
            }
            let room = self.limits.capture_bytes.saturating_sub(answer.bytes.len());
            let kept = data.get(..room).unwrap_or(&data).len();
            match plumbing {
                Plumbing::Same(watched) => {
                    // The client first, the copy afterwards: the reader cannot delay what is relayed.
                    let shown = watched.shown(&data);
                    if !shown.is_empty() {
                        gone = gone || !outlet.send(shown).await;
                    }
                    watched.push(&data);
                }
                Plumbing::Reframed(reframer) => {
                    let out = reframer.push(&data);
                    if !out.is_empty() {
                        gone = gone || !outlet.send(out).await;
                    }
                }
                Plumbing::Converted(converter) => {
                    let mut out = converter.push(&data);
                    if out.is_empty() && last_sent.elapsed() >= self.limits.keep_alive {
                        out = converter.keep_alive();
                    }
                    if !out.is_empty() {
                        last_sent = tokio::time::Instant::now();
                        gone = gone || !outlet.send(out).await;
                    }
                }
            }
            answer.bytes.extend_from_slice(data.get(..kept).unwrap_or_default());
            answer.bytes_cut |= kept < data.len();
            if let Some(title) = outlet.stopped() {
                return Ending::Blocked(title);
            }
            if gone && cut {
                return Ending::ClientGone;
            }
        }
    }

    /// Takes more money if what the stream holds is nearly used up.
    async fn feed(&self, call: &Call, meter: &mut Meter, seen: u64, answer: &mut Answer) -> Result<(), Ending> {
        let Some((next, more)) = meter.more(seen) else { return Ok(()) };
        match self.parts.purse.top_up(call.id, more).await {
            Ok(()) => {
                self.metrics.topped_up();
                answer.topped_up = answer.topped_up.saturating_add(more);
                *meter = next;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(call = %call.id, run = %call.caller.run, %error, "a stream is cut off: there is no more money");
                let scope = match error {
                    PurseError::Exhausted { scope } => Some(scope),
                    PurseError::Unavailable(_) => None,
                };
                Err(Ending::OutOfMoney(scope))
            }
        }
    }
}

/// Whether a client that asked for a stream gets an answer in one piece all the same.
fn headers_say_whole(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    said.is_some_and(|text| Framing::of_content_type(Some(text)) == Some(Framing::Whole))
}

/// Whether another place may do better.
fn worth_another(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 408 | 429 | 500 | 502 | 503 | 504 | 529)
}

async fn refusal(mut body: Incoming) -> Vec<u8> {
    let mut out = Vec::new();
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                let room = MAX_REFUSAL.saturating_sub(out.len());
                out.extend_from_slice(data.get(..room).unwrap_or(&data));
                if out.len() >= MAX_REFUSAL {
                    break;
                }
            }
        }
    };
    // What has come until then is kept.
    let _ = tokio::time::timeout(REFUSAL_TIME, read).await;
    out
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}
