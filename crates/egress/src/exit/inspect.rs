//! The inspected way: connections that are opened, so that every request on them is a deed of its own.
//!
//! It owns the order of questions ([`Exit::carry`]), the two ends of an inspected connection, and its record. It refuses TLS to an origin whose certificate
//! is not for the host that was dialled, and anything but HTTP inside. *Invariant:* what is spoken with the environment is what the origin has chosen, so
//! that nothing is translated; no byte of a request goes out before the request is decided and recorded ([`request`]).

mod body;
mod line;
mod request;
mod socket;
mod streams;
mod ticket;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::Ordering},
};

use hyper_util::rt::TokioIo;
use stockade_domain::ContextValue;
use stockade_ledger::Opened;
use stockade_policy::{Permit, Ruling};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Exit, Refused, Stream,
    deciding::Turned,
    open::Held,
    origin::{First, Second, Shared},
    tunnel::code_of,
};
use crate::{
    ca::{H2, HTTP1},
    name::Host,
    opening::{Misdirected, Opening, Protocol},
    origins::{Offer, server_name},
    relay::Carried,
};
use line::{Line, Spawner};
use streams::{Activity, Counted, Replayed};

/// What HTTP/1 connections hold of a body or head at most, each way.
const BUFFER_BYTES: usize = 128 * 1024;
/// How much of a stream of HTTP/2 may be under way, and of all streams of its connection.
const WINDOWS: (u32, u32) = (1 << 20, 2 << 20);
/// Requests at once on a connection of HTTP/2.
const MAX_STREAMS: u32 = 100;
/// The head of an answer.
const MAX_ANSWER_HEAD: usize = 64 * 1024;
/// Headers of an answer.
const MAX_ANSWER_HEADERS: usize = 200;

/// An answer in HTTP/1 to whoever may not even connect.
fn told(turned: &Turned) -> Vec<u8> {
    let (status, why) = match turned {
        Turned::Refused(title) => ("403 Forbidden", title.as_str()),
        Turned::Unrecorded => ("503 Service Unavailable", "it cannot be recorded now"),
    };
    let why: String = why.chars().filter(|letter| !letter.is_control()).collect();
    let body = format!("Stockade: {why}\n");
    let len = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n"
    );
    (head + &body).into_bytes()
}

/// Which way a connection goes.
enum Way {
    Tunnel(Ruling),
    Inspect(Ruling),
}

/// What stands between the exit and an origin.
struct Far {
    stream: Box<dyn Stream>,
    second: bool,
}

/// Why an inspected connection has no origin: the word for its record, and what the environment is told.
struct NoOrigin {
    code: &'static str,
    told: &'static str,
}

impl Exit {
    /// Decides which way a stream goes, and lets it go there. It is asked first whether it may go unread, unless it may hide for whom it is; then, if that
    /// is not allowed and it can be read, whether it may go read. People are asked only if neither is allowed without them, and rather about the first.
    pub(super) async fn carry<S: Stream + 'static>(
        self: &Arc<Self>,
        mut stream: S,
        host: Host,
        port: u16,
        opening: Opening,
    ) {
        let (shown, word) = (host.to_string(), opening.protocol.as_str());
        if let Err(why) = opening.is_for(&host) {
            return self.refuse(&shown, port, Some(word), &Refused::Misdirected(why.to_string())).await;
        }
        let way = match &opening.protocol {
            // Every request in the clear has to be held against its connection.
            Protocol::Http1 | Protocol::Http2 => {
                Way::Inspect(self.ruling(self.connection(&shown, port, Some(word), true)))
            }
            // In a tunnel nobody would put the credential in.
            Protocol::Tls(_) if self.parts.credentials.are_for(&line::bare(&host)) => {
                Way::Inspect(self.ruling(self.connection(&shown, port, Some(word), true)))
            }
            // In a tunnel it might go on to another host than the one that was decided about.
            Protocol::Tls(_) if opening.may_hide(&host) => {
                let read = self.ruling(self.connection(&shown, port, Some(word), true));
                let unread = || self.ruling(self.connection(&shown, port, Some(word), false));
                if matches!(read, Ruling::Deny(_)) && !matches!(unread(), Ruling::Deny(_)) {
                    let why = Refused::Misdirected(Misdirected::Hidden(shown.clone()).to_string());
                    return self.refuse(&shown, port, Some(word), &why).await;
                }
                Way::Inspect(read)
            }
            Protocol::Tls(_) => self.of_two(&shown, port, word),
            Protocol::Ssh | Protocol::Silent | Protocol::Other => {
                Way::Tunnel(self.ruling(self.connection(&shown, port, Some(word), false)))
            }
        };
        match way {
            Way::Tunnel(ruling) => match self.go(ruling).await {
                Ok(opened) => self.tunnel(stream, opened, &host, port, &opening.bytes).await,
                Err(_) => drop(stream.shutdown().await),
            },
            Way::Inspect(ruling) => {
                if let Err(why) = self.can_read(&opening) {
                    return self.refuse(&shown, port, Some(word), &why).await;
                }
                let Ok(_place) = self.inspected.try_acquire() else {
                    return self.refuse(&shown, port, Some(word), &Refused::CrowdedInspected).await;
                };
                match self.go(ruling).await {
                    Ok(opened) => self.inspect(Box::new(stream), opened, &host, port, opening).await,
                    Err(turned) => {
                        // What speaks in the clear can be told in the clear; what has gone meanwhile need not be.
                        if opening.protocol == Protocol::Http1 {
                            let _ = stream.write_all(&told(&turned)).await;
                        }
                        drop(stream.shutdown().await);
                    }
                }
            }
        }
    }

    /// Unread or read.
    fn of_two(&self, shown: &str, port: u16, word: &str) -> Way {
        let unread = self.ruling(self.connection(shown, port, Some(word), false));
        if matches!(unread, Ruling::Allow(_)) {
            return Way::Tunnel(unread);
        }
        let read = self.ruling(self.connection(shown, port, Some(word), true));
        match (&unread, &read) {
            (_, Ruling::Allow(_)) | (Ruling::Deny(_), Ruling::Ask(_)) => Way::Inspect(read),
            _ => Way::Tunnel(unread),
        }
    }

    /// Whether there is what it takes to read this.
    fn can_read(&self, opening: &Opening) -> Result<(), Refused> {
        let Protocol::Tls(hello) = &opening.protocol else { return Ok(()) };
        if self.parts.authority.is_none() || self.parts.origins.is_none() {
            return Err(Refused::NoAuthority);
        }
        if Offer::of(&hello.alpn).is_none() { Err(Refused::NotHttp) } else { Ok(()) }
    }

    /// Both ends of an inspected connection, from dialling to its closing record.
    async fn inspect(
        self: &Arc<Self>,
        stream: Box<dyn Stream>,
        opened: Opened<Permit>,
        host: &Host,
        port: u16,
        opening: Opening,
    ) {
        let record = opened.record();
        let permit = opened.into_permit();
        let held = self.hold(record, &permit);
        let activity = Arc::new(Activity::new());
        let near = Replayed::new(opening.bytes, stream, activity.clone());
        let tasks = TaskTracker::new();
        let mut facts = BTreeMap::new();
        let stop = CancellationToken::new();
        let code = {
            let _ends = stop.clone().drop_guard();
            let spawner = Spawner { tasks: tasks.clone(), stop };
            let both =
                self.both_ends(near, permit, (host, port), &opening.protocol, &held, spawner, &activity, &mut facts);
            tokio::select! {
                biased;
                () = held.stop().cancelled() => held.why(),
                () = activity.silence(self.limits.relay.idle) => "silent",
                code = both => code,
            }
        };
        // Every request of it has its closing record before the connection has.
        tasks.close();
        tasks.wait().await;
        let (out, back) = activity.counted();
        self.tally.add(Carried { out, back });
        self.close_with(record, code, Carried { out, back }, facts).await;
    }

    #[expect(clippy::too_many_arguments, reason = "the two ends of a connection and what is said of it, once")]
    async fn both_ends(
        self: &Arc<Self>,
        near: Replayed<Box<dyn Stream>>,
        permit: Permit,
        (host, port): (&Host, u16),
        protocol: &Protocol,
        held: &Held,
        spawner: Spawner,
        activity: &Arc<Activity>,
        facts: &mut BTreeMap<String, ContextValue>,
    ) -> &'static str {
        let dialled = match self.dial(permit, host, port).await {
            Ok(dialled) => {
                facts.insert("address".to_owned(), dialled.address.to_string().as_str().into());
                Ok(Counted::new(dialled.stream, activity.clone()))
            }
            Err(error) => {
                self.undialled(host, &error);
                Err(NoOrigin { code: code_of(&error), told: "the host cannot be reached from here" })
            }
        };
        let offer = match protocol {
            Protocol::Tls(hello) => Offer::of(&hello.alpn),
            _ => None,
        };
        let far = match (dialled, offer) {
            (Err(why), _) => Err(why),
            (Ok(stream), Some(offer)) => self.tls_to_origin(stream, host, offer).await,
            (Ok(stream), None) => Ok(Far { stream: Box::new(stream), second: matches!(protocol, Protocol::Http2) }),
        };
        let second = match (&far, offer) {
            (Ok(far), _) => far.second,
            (Err(_), Some(offer)) => offer == Offer::Http2,
            (Err(_), None) => matches!(protocol, Protocol::Http2),
        };
        facts.insert("spoken".to_owned(), if second { "http2" } else { "http1" }.into());
        let near: Box<dyn Stream> = match offer {
            None => Box::new(near),
            Some(offer) => match self.tls_to_environment(near, host, offer, second).await {
                Ok(near) => near,
                Err(code) => return code,
            },
        };
        let over = CancellationToken::new();
        let (origin, failed) = match far {
            Ok(far) => match speak(far, &spawner, over.clone()).await {
                Ok(origin) => (Ok(origin), ""),
                Err(_) => return "lost",
            },
            Err(why) => (Err(why.told), why.code),
        };
        let server_name = match protocol {
            Protocol::Tls(hello) => hello.server_name.clone(),
            _ => None,
        };
        let line = Line::new(self.clone(), held, host, port, offer.map(|_| server_name), origin, spawner);
        let ended = line.clone().serve(near, second, over).await;
        let requests = i64::try_from(line.requests.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        facts.insert("requests".to_owned(), requests.into());
        if failed.is_empty() { ended } else { failed }
    }

    /// TLS to the origin, whose certificate has to be for the host.
    async fn tls_to_origin(&self, stream: Counted<TcpStream>, host: &Host, offer: Offer) -> Result<Far, NoOrigin> {
        let broken = NoOrigin { code: "origin_tls", told: "the host does not speak TLS that can be understood" };
        let (Some(origins), Some(name)) = (&self.parts.origins, server_name(host)) else { return Err(broken) };
        let shaking = origins.connector(offer).connect(name, stream);
        let stream = match tokio::time::timeout(self.limits.opening.whole, shaking).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let untrusted =
                    inner(&error).is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
                tracing::info!(run = %self.who.run, host = %host, %error, "TLS to {host} was allowed and failed: {error}");
                let told = "the host's certificate is not trusted here";
                return Err(if untrusted { NoOrigin { code: "untrusted", told } } else { broken });
            }
            Err(_) => return Err(broken),
        };
        let second = stream.get_ref().1.alpn_protocol() == Some(H2);
        Ok(Far { stream: Box::new(stream), second })
    }

    /// TLS to the environment, with what its hello began, and with the protocol that the origin has chosen.
    async fn tls_to_environment(
        &self,
        near: Replayed<Box<dyn Stream>>,
        host: &Host,
        offer: Offer,
        second: bool,
    ) -> Result<Box<dyn Stream>, &'static str> {
        let alpn = match (second, offer) {
            (true, _) => H2,
            (false, Offer::Nothing) => b"",
            (false, _) => HTTP1,
        };
        let Some(authority) = &self.parts.authority else { return Err("client_tls") };
        let config = authority.server(host, alpn).map_err(|error| {
            tracing::error!(run = %self.who.run, host = %host, %error, "a connection to {host} could not be opened: {error}");
            "no_certificate"
        })?;
        let shaking = TlsAcceptor::from(config).accept(near);
        match tokio::time::timeout(self.limits.opening.whole, shaking).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => {
                let alert = inner(&error).is_some_and(|error| matches!(error, rustls::Error::AlertReceived(_)));
                Err(if alert { "client_distrusts" } else { "client_tls" })
            }
            Err(_) => Err("client_tls"),
        }
    }
}

/// Begins HTTP with an origin. `over` is cancelled when it is over.
async fn speak(far: Far, spawner: &Spawner, over: CancellationToken) -> hyper::Result<Shared> {
    use hyper::{
        client::conn::{http1, http2},
        rt::Executor as _,
    };
    let io = TokioIo::new(far.stream);
    if far.second {
        let (sender, connection) = http2::Builder::new(spawner.clone())
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .max_header_list_size(u32::try_from(MAX_ANSWER_HEAD).unwrap_or(u32::MAX))
            .max_send_buf_size(BUFFER_BYTES)
            .handshake(io)
            .await?;
        spawner.execute(async move {
            // How it ended is told to each request that was on it.
            drop(connection.await);
            over.cancel();
        });
        return Ok(Arc::new(Second::new(sender)));
    }
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(BUFFER_BYTES)
        .max_header_size(MAX_ANSWER_HEAD)
        .max_headers(MAX_ANSWER_HEADERS)
        .handshake(io)
        .await?;
    spawner.execute(async move {
        drop(connection.with_upgrades().await);
        over.cancel();
    });
    Ok(Arc::new(First::new(sender)))
}

/// What TLS says went wrong, behind what the stream says.
fn inner(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|error| error.downcast_ref())
}

#[cfg(test)]
mod tests;
