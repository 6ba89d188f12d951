//! What happens to an answer between the provider and the client: nothing, while a copy is read; or a conversion.
//!
//! *Invariant:* where the dialects and framings agree, what comes is handed on before it is looked at, and nothing that the reader of
//! the copy does can delay, change or fail it. One thing is taken out: the chunk of usage in a Chat stream whose client did not ask for it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use stockade_llm::{
    Dialect, Framing,
    anthropic::{self, ApiError, Seen},
    chat::HideUsage,
    converse::invoke::{ToEvents, ToFrames},
    neutral::{Answer, ApiFault, Decode, Encode, Event, FaultKind, ForClient, Tee},
};

use crate::headers;

/// The most of a provider's refusal that is read when it has to be converted, in bytes.
pub(crate) const MAX_REFUSAL: usize = 1024 * 1024;

/// How the answer gets to the client.
pub(crate) enum Plumbing {
    /// As it comes.
    Same(Box<Watched>),
    /// The same events in other frames.
    Reframed(Box<Reframer>),
    /// Converted.
    Converted(Box<Converter>),
}

/// What must be known to lay it.
pub(crate) struct Ends {
    /// What the client speaks.
    pub(crate) client: Dialect,
    /// How a stream to the client is framed.
    pub(crate) client_framing: Framing,
    /// What the provider speaks.
    pub(crate) provider: Dialect,
    /// What the client's encoder must know.
    pub(crate) for_client: ForClient,
    /// Whether the caller wants the message put together (our own loop).
    pub(crate) own: bool,
    /// The most bytes of content that are put together.
    pub(crate) keep: usize,
}

impl Plumbing {
    /// Lays the pipes, once the head of the answer is there.
    pub(crate) fn lay(ends: Ends, status: StatusCode, head: &HeaderMap) -> Self {
        let framing = framing(head);
        let wanted = if ends.for_client.stream { ends.client_framing } else { Framing::Whole };
        // A refusal is one body, whatever was asked for; so is an answer of a provider that does not stream.
        let same_form =
            framing.is_none_or(|framing| framing == wanted || framing == Framing::Whole || !status.is_success());
        if ends.client == ends.provider && same_form {
            let form = if wanted == Framing::Array && status.is_success() { Some(Framing::Array) } else { framing };
            // The gateway asks for usage where the client did not: the chunk that says it is not the client's.
            let asked = ends.for_client.include_usage || !ends.for_client.stream || !status.is_success();
            let hide = ends.client == Dialect::Chat && framing == Some(Framing::Events) && !asked;
            let watched = Watched::new(ends.provider, form, ends.keep);
            return Self::Same(Box::new(Watched { hide: hide.then(HideUsage::default), ..watched }));
        }
        if ends.client == Dialect::Messages && ends.provider == Dialect::Messages && status.is_success() {
            let frames = match (framing, wanted) {
                (Some(Framing::Frames), Framing::Events) => Some(Frames::Out(ToEvents::default())),
                (Some(Framing::Events), Framing::Frames) => Some(Frames::In(ToFrames::default())),
                _ => None,
            };
            if let Some(frames) = frames {
                return Self::Reframed(Box::new(Reframer::new(frames, ends.keep)));
            }
        }
        Self::Converted(Box::new(Converter::new(ends, framing.unwrap_or(Framing::Whole), wanted, status)))
    }

    /// The head for the client.
    pub(crate) fn head(&self, status: StatusCode, provider: &HeaderMap) -> HeaderMap {
        match self {
            Self::Same(watched) => {
                let mut headers = headers::returning(provider);
                if watched.hide.is_some() {
                    headers.remove(header::CONTENT_LENGTH);
                }
                headers
            }
            Self::Reframed(reframer) => {
                let mut headers = headers::returning(provider);
                headers.remove(header::CONTENT_LENGTH);
                let framing = reframer.frames.framing();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(framing.content_type()));
                headers
            }
            Self::Converted(converter) => {
                let mut headers = HeaderMap::new();
                let framing = if status.is_success() { converter.wanted } else { Framing::Whole };
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(framing.content_type()));
                for name in [header::RETRY_AFTER.as_str(), "request-id", "x-request-id"] {
                    if let Some((name, value)) = header::HeaderName::try_from(name).ok().zip(provider.get(name)) {
                        headers.insert(name, value.clone());
                    }
                }
                if framing != Framing::Whole {
                    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                }
                headers
            }
        }
    }

    /// At most so many tokens were seen so far.
    pub(crate) fn output_tokens_seen(&self) -> u64 {
        match self {
            Self::Same(watched) => watched.output_tokens_seen(),
            Self::Reframed(reframer) => reframer.tee.output_tokens_seen(),
            Self::Converted(converter) => converter.answer.output_tokens_seen,
        }
    }
}

fn framing(headers: &HeaderMap) -> Option<Framing> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let plain = text(header::CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    // What came compressed although it was not to is not read.
    if plain { Framing::of_content_type(text(header::CONTENT_TYPE)) } else { None }
}

/// A reader of the copy that cannot fail the stream: should it ever panic, it is let go and the answer counts as not readable.
pub(crate) struct Watched {
    copy: Option<Copy>,
    /// Takes out what the client did not ask for.
    hide: Option<HideUsage>,
}

enum Copy {
    Messages(Box<anthropic::Tee>),
    Other(Box<Tee>),
}

impl Copy {
    fn messages(shape: anthropic::Shape) -> Self {
        Self::Messages(Box::new(anthropic::Tee::new(shape)))
    }
}

impl Watched {
    fn new(dialect: Dialect, framing: Option<Framing>, keep: usize) -> Self {
        let copy = match (dialect, framing) {
            (Dialect::Messages, Some(Framing::Events)) => Copy::messages(anthropic::Shape::Events),
            (Dialect::Messages, Some(Framing::Whole)) => Copy::messages(anthropic::Shape::Whole),
            (_, None) => Copy::messages(anthropic::Shape::Opaque),
            (dialect, Some(framing)) => Copy::Other(Box::new(Tee::new(dialect.decoder(framing), keep))),
        };
        Self { copy: Some(copy), hide: None }
    }

    /// What of these bytes is the client's: as they came, but for a chunk that it did not ask for.
    pub(crate) fn shown(&mut self, bytes: &Bytes) -> Bytes {
        self.hide.as_mut().map_or_else(|| bytes.clone(), |hide| hide.push(bytes))
    }

    /// What waited for the end of its event, when there are no more bytes.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.hide.as_mut().map_or_else(Bytes::new, HideUsage::finish)
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if let Some(mut copy) = self.copy.take() {
            self.copy = catch_unwind(AssertUnwindSafe(|| {
                match &mut copy {
                    Copy::Messages(tee) => tee.push(bytes),
                    Copy::Other(tee) => tee.push(bytes),
                }
                copy
            }))
            .ok();
        }
    }

    fn output_tokens_seen(&self) -> u64 {
        match &self.copy {
            Some(Copy::Messages(tee)) => tee.output_tokens_seen(),
            Some(Copy::Other(tee)) => tee.output_tokens_seen(),
            None => 0,
        }
    }

    pub(crate) fn finish(self, ended: bool) -> Seen {
        let unreadable = || Seen { unreadable: 1, ..Seen::default() };
        let Some(copy) = self.copy else { return unreadable() };
        catch_unwind(AssertUnwindSafe(|| match copy {
            Copy::Messages(tee) => tee.finish(ended),
            Copy::Other(tee) => seen(tee.finish(ended)),
        }))
        .unwrap_or_else(|_| unreadable())
    }
}

/// An answer of any dialect, as the settlement looks at it.
fn seen(answer: Answer) -> Seen {
    Seen {
        worked_on: answer.worked_on(),
        message: None,
        complete: answer.complete,
        usage: answer.usage,
        output_tokens_seen: answer.output_tokens_seen,
        stop_reason: answer.stop_said,
        error: answer.error.map(|fault| ApiError { kind: word(&fault), message: fault.message }),
        unreadable: answer.unreadable,
        truncated: answer.truncated,
    }
}

fn word(fault: &ApiFault) -> String {
    match fault.kind {
        FaultKind::Overloaded => "overloaded_error".to_owned(),
        FaultKind::RateLimit => "rate_limit_error".to_owned(),
        _ if fault.code.is_empty() => "api_error".to_owned(),
        _ => fault.code.clone(),
    }
}

/// Which way events are put into other frames.
enum Frames {
    /// Out of Amazon's frames, into server-sent events.
    Out(ToEvents),
    /// Out of server-sent events, into Amazon's frames.
    In(ToFrames),
}

impl Frames {
    const fn framing(&self) -> Framing {
        match self {
            Self::Out(_) => Framing::Events,
            Self::In(_) => Framing::Frames,
        }
    }
}

/// Puts events of the Messages API into other frames, unread, while a copy is read.
pub(crate) struct Reframer {
    frames: Frames,
    tee: anthropic::Tee,
    damaged: bool,
}

impl Reframer {
    fn new(frames: Frames, keep: usize) -> Self {
        Self { frames, tee: anthropic::Tee::with_limit(anthropic::Shape::Events, keep), damaged: false }
    }

    /// Takes what came and gives what is to be sent.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        match &mut self.frames {
            Frames::Out(frames) => {
                self.damaged |= frames.push(bytes, &mut out).is_err();
                self.tee.push(&out);
            }
            Frames::In(frames) => {
                frames.push(bytes, &mut out);
                self.tee.push(bytes);
            }
        }
        out.freeze()
    }

    /// The end: what is still to be sent, and what the answer was.
    pub(crate) fn finish(mut self, ended: bool, fault: &ApiFault) -> (Bytes, Seen) {
        let mut out = BytesMut::new();
        let whole = match &self.frames {
            Frames::Out(frames) => ended && !self.damaged && frames.finish().is_ok(),
            Frames::In(_) => ended,
        };
        let seen = self.tee.finish(whole);
        if !seen.complete && seen.error.is_none() {
            match &mut self.frames {
                Frames::Out(_) => out.extend_from_slice(&in_band(Dialect::Messages, Framing::Events, true, fault)),
                Frames::In(frames) => frames.broken(fault, &mut out),
            }
        }
        (out.freeze(), seen)
    }
}

/// Reads one dialect and writes another.
pub(crate) struct Converter {
    decoder: Box<dyn Decode>,
    encoder: Option<Box<dyn Encode>>,
    answer: Answer,
    room: usize,
    events: Vec<Event>,
    wanted: Framing,
    client: Dialect,
    provider: Dialect,
    /// Nothing for an answer; for a refusal, its status and what came of its body.
    refusal: Option<(u16, Vec<u8>)>,
    /// Puts the message together for our own loop, which speaks Messages.
    own: Option<anthropic::Tee>,
}

impl Converter {
    fn new(ends: Ends, framing: Framing, wanted: Framing, status: StatusCode) -> Self {
        let own = ends.own.then(|| {
            let shape = if wanted == Framing::Whole { anthropic::Shape::Whole } else { anthropic::Shape::Events };
            anthropic::Tee::new(shape)
        });
        Self {
            decoder: ends.provider.decoder(framing),
            encoder: ends.client.encoder(wanted, ends.for_client),
            answer: Answer::default(),
            room: ends.keep,
            events: Vec::new(),
            wanted,
            client: ends.client,
            provider: ends.provider,
            refusal: (!status.is_success()).then(|| (status.as_u16(), Vec::new())),
            own,
        }
    }

    /// Takes what came and gives what is to be sent.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Bytes {
        if let Some((_, body)) = &mut self.refusal {
            let room = MAX_REFUSAL.saturating_sub(body.len());
            body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            return Bytes::new();
        }
        self.decoder.push(bytes, &mut self.events);
        self.encoded()
    }

    /// A sign of life, for when something came and nothing followed from it.
    pub(crate) fn keep_alive(&self) -> Bytes {
        let encoder = self.encoder.as_ref().filter(|_| self.refusal.is_none());
        Bytes::from_static(encoder.map_or(&b""[..], |encoder| encoder.keep_alive()))
    }

    fn encoded(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        for event in self.events.drain(..) {
            self.answer.take(&event, &mut self.room);
            if let Some(encoder) = &mut self.encoder {
                encoder.push(&event, &mut out);
            }
        }
        self.noted(out)
    }

    fn noted(&mut self, out: BytesMut) -> Bytes {
        if let Some(own) = &mut self.own {
            own.push(&out);
        }
        out.freeze()
    }

    /// The end: what is still to be sent, and what the answer was. `fault` says why, if it is not its own end.
    pub(crate) fn finish(mut self, ended: bool, fault: Option<&ApiFault>) -> (Bytes, Seen) {
        if let Some((status, body)) = self.refusal.take() {
            let fault = self.provider.read_error(status, &body);
            let out = self.client.error_body(&fault);
            let error = Some(ApiError { kind: word(&fault), message: fault.message });
            return (out, Seen { error, ..Seen::default() });
        }
        self.decoder.finish(ended, &mut self.events);
        let mut out = BytesMut::from(&self.encoded()[..]);
        if !self.answer.complete && self.answer.error.is_none() {
            let cut_off = ApiFault::new(FaultKind::Api, "the provider's answer was cut off");
            let mut more = BytesMut::new();
            if let Some(encoder) = &mut self.encoder {
                encoder.broken(fault.unwrap_or(&cut_off), &mut more);
            }
            out.extend_from_slice(&self.noted(more));
        }
        let own = self.own.take().map(|own| own.finish(true));
        let mut seen = seen(std::mem::take(&mut self.answer));
        if let Some(own) = own {
            seen.message = own.message;
            seen.stop_reason = own.stop_reason;
        }
        (out.freeze(), seen)
    }
}

/// What a client's encoder must know, when nothing is converted: enough to say that something broke off.
pub(crate) fn in_band(client: Dialect, framing: Framing, stream: bool, fault: &ApiFault) -> Bytes {
    let mut out = BytesMut::new();
    if stream && let Some(mut encoder) = client.encoder(framing, ForClient { stream, ..ForClient::default() }) {
        encoder.broken(fault, &mut out);
    }
    out.freeze()
}

/// The neutral request of a call that is converted, kept for encoders that repeat parts of it.
pub(crate) type Kept = Arc<stockade_llm::neutral::Request>;
