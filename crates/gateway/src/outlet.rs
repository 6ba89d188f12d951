//! The client's end of an answer, behind the content rules.
//!
//! Where no rule applies, what comes is handed on. A stream goes through its guard; an answer in one piece is held until it is
//! complete and was looked through, because its status is its first byte.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use stockade_llm::{Framing, anthropic};

use crate::{
    content::{Finding, Guard, MAX_WHOLE_BYTES, StreamGuard, Verdict},
    exchange::{Client, Head},
};

/// Where an answer goes.
pub(crate) struct Outlet<'a> {
    pub(crate) client: &'a mut Client,
    stall: Duration,
    /// The head, until the first piece takes it along or nothing comes: so both go out as one.
    head: Option<Head>,
    way: Way,
    /// Puts the message together as the client gets it, for our own loop.
    own: Option<anthropic::Tee>,
    gone: bool,
}

enum Way {
    Straight,
    /// What is found is only noted: the client first, the guard afterwards.
    Noted(Box<Noting>),
    Stream(Box<StreamGuard>),
    Whole {
        guard: Box<Guard>,
        bytes: Vec<u8>,
        over: bool,
    },
}

enum Noting {
    Stream(StreamGuard),
    Whole { guard: Guard, bytes: Vec<u8> },
}

/// What the rules made of an answer.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub(crate) findings: Vec<Finding>,
    /// The rule's title, if the answer was stopped.
    pub(crate) blocked: Option<String>,
    /// The message as the client got it, if it was put together and is not the provider's.
    pub(crate) message: Option<Value>,
}

impl<'a> Outlet<'a> {
    /// Opens it with the head of the answer. `framing` is that of the client.
    pub(crate) fn open(
        client: &'a mut Client,
        stall: Duration,
        guard: Option<Guard>,
        framing: Framing,
        own: bool,
        mut head: Head,
    ) -> Self {
        let guard = guard.filter(|guard| !guard.skips_response() && head.status.is_success());
        let way = match guard {
            None => Way::Straight,
            Some(guard) if guard.only_notes_response() => Way::Noted(Box::new(match framing {
                Framing::Whole => Noting::Whole { guard, bytes: Vec::new() },
                framing => Noting::Stream(guard.stream(framing)),
            })),
            Some(guard) if framing == Framing::Whole => {
                head.headers.remove(header::CONTENT_LENGTH);
                Way::Whole { guard: Box::new(guard), bytes: Vec::new(), over: false }
            }
            Some(guard) => {
                head.headers.remove(header::CONTENT_LENGTH);
                Way::Stream(Box::new(guard.stream(framing)))
            }
        };
        let shape = if framing == Framing::Whole { anthropic::Shape::Whole } else { anthropic::Shape::Events };
        let own = (own && matches!(way, Way::Stream(_) | Way::Whole { .. })).then(|| anthropic::Tee::new(shape));
        Self { client, stall, head: Some(head), way, own, gone: false }
    }

    /// Nothing comes at the moment: what is known of the answer goes to the client.
    pub(crate) fn begin(&mut self) {
        if !matches!(self.way, Way::Whole { .. })
            && let Some(head) = self.head.take()
        {
            self.client.begin(Ok(Some(head)));
        }
    }

    /// Hands on what came. False if the client is gone, or does not read.
    pub(crate) async fn send(&mut self, bytes: Bytes) -> bool {
        match &mut self.way {
            Way::Straight => self.hand(bytes).await,
            Way::Noted(_) => {
                self.hand(bytes.clone()).await;
                self.note(&bytes);
            }
            Way::Stream(guard) => {
                let pieces = guard.push(&bytes);
                for piece in pieces {
                    self.hand(piece).await;
                }
            }
            Way::Whole { bytes: held, over, .. } => {
                *over |= held.len().saturating_add(bytes.len()) > MAX_WHOLE_BYTES;
                if !*over {
                    held.extend_from_slice(&bytes);
                }
            }
        }
        !self.gone
    }

    fn note(&mut self, bytes: &Bytes) {
        let Way::Noted(noting) = &mut self.way else { return };
        match &mut **noting {
            Noting::Stream(guard) => drop(guard.push(bytes)),
            Noting::Whole { bytes: held, .. } => {
                if held.len().saturating_add(bytes.len()) <= MAX_WHOLE_BYTES {
                    held.extend_from_slice(bytes);
                }
            }
        }
    }

    async fn hand(&mut self, bytes: Bytes) {
        if let Some(own) = &mut self.own {
            own.push(&bytes);
        }
        if !bytes.is_empty() && !self.gone {
            self.gone = !self.client.chunk(bytes, self.stall).await;
        }
        self.begin();
    }

    /// Whether something is held that may be let go when nothing comes.
    pub(crate) fn waits(&self) -> bool {
        matches!(&self.way, Way::Stream(guard) if guard.waits())
    }

    /// Nothing has come for a while.
    pub(crate) async fn idle(&mut self) {
        if let Way::Stream(guard) = &mut self.way {
            let pieces = guard.idle();
            for piece in pieces {
                self.hand(piece).await;
            }
        }
    }

    /// The title of the rule that stopped the stream, if one did.
    pub(crate) fn stopped(&self) -> Option<String> {
        match &self.way {
            Way::Stream(guard) => guard.stopped().map(str::to_owned),
            _ => None,
        }
    }

    /// The end of the answer. `ended` says whether it came whole: what was held of one that did not is not handed on.
    pub(crate) async fn close(mut self, ended: bool) -> Looked {
        let mut looked = Looked::default();
        self.begin();
        match std::mem::replace(&mut self.way, Way::Straight) {
            Way::Straight => return looked,
            Way::Noted(noting) => {
                looked.findings = match *noting {
                    Noting::Stream(mut guard) => {
                        drop(guard.finish());
                        guard.findings().to_vec()
                    }
                    Noting::Whole { guard, bytes } => {
                        guard.answer(&Bytes::from(bytes)).map(|verdict| verdict.findings().to_vec()).unwrap_or_default()
                    }
                };
                return looked;
            }
            Way::Whole { .. } if !ended => return looked,
            Way::Stream(mut guard) => {
                for piece in guard.finish() {
                    self.hand(piece).await;
                }
                looked.blocked = guard.stopped().map(str::to_owned);
                looked.findings = guard.findings().to_vec();
            }
            Way::Whole { guard, bytes, over } => {
                let bytes = Bytes::from(bytes);
                let verdict = if over { Ok(too_large()) } else { guard.answer(&bytes) };
                let (out, refused) = match verdict {
                    Ok(Verdict::Clean) => (bytes, None),
                    Ok(Verdict::Report(findings)) => {
                        looked.findings = findings;
                        (bytes, None)
                    }
                    Ok(Verdict::Redact { bytes, findings, .. }) => {
                        looked.findings = findings;
                        (bytes, None)
                    }
                    Ok(Verdict::Ask { title, findings, .. } | Verdict::Block { title, findings }) => {
                        looked.findings = findings;
                        (guard.refusal(&title), Some(title))
                    }
                    Err(_) => {
                        let title = "the answer could not be looked through".to_owned();
                        (guard.refusal(&title), Some(title))
                    }
                };
                let head = match &refused {
                    None => self.head.take(),
                    Some(_) => Some(refusal()),
                };
                looked.blocked = refused;
                self.client.begin(Ok(head));
                self.hand(out).await;
            }
        }
        looked.message = self.own.take().and_then(|own| own.finish(true).message);
        looked
    }
}

fn too_large() -> Verdict {
    Verdict::Block { title: "the answer is too large to be looked through".to_owned(), findings: Vec::new() }
}

fn refusal() -> Head {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Head { status: StatusCode::BAD_REQUEST, headers }
}
