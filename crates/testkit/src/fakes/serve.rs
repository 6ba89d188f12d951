//! HTTP/1.1 on a socket of our own, so that an answer can be slow, silent, cut off or reset at any piece.
//!
//! It owns reading requests, writing answers and what goes wrong with them. It refuses to know what is answered.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{Fault, Shared, frames::Framing};

/// A request, as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }
}

/// An answer, before anything goes wrong with it.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Sent,
}

#[derive(Debug)]
pub(super) enum Sent {
    Whole(Vec<u8>),
    Pieces {
        pieces: Vec<Vec<u8>>,
        framing: Framing,
        /// What says in the stream that it went wrong.
        error: Vec<u8>,
    },
}

/// Takes connections until the runtime ends.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let (mut stream, mut left) = (stream, Vec::new());
            // It only matters for speed, and whoever is gone does not mind.
            let _ = stream.set_nodelay(true);
            // An error is a client that went: nobody is left to tell.
            while serve(&mut stream, &mut left, &shared).await.is_ok_and(|goes_on| goes_on) {}
        });
    }
}

/// One request; whether another may follow on the same connection.
async fn serve(stream: &mut TcpStream, left: &mut Vec<u8>, shared: &Shared) -> io::Result<bool> {
    let Some(request) = read(stream, left).await? else { return Ok(false) };
    let head_only = request.method == "HEAD";
    let close = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let (number, fault, reply) = shared.answer(request);
    let mut head = format!("HTTP/1.1 {} {}\r\n", reply.status, phrase(reply.status));
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match reply.body {
        Sent::Whole(body) => {
            head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
            match fault {
                Fault::Silence { .. } => return hold(stream).await,
                Fault::Reset { .. } => {
                    stream.set_zero_linger()?;
                    return Ok(false);
                }
                Fault::Slow(pause) => tokio::time::sleep(pause).await,
                _ => {}
            }
            stream.write_all(head.as_bytes()).await?;
            if head_only {
                return Ok(!close);
            }
            if let Fault::Cut { .. } = fault {
                let half = body.get(..body.len() / 2).unwrap_or_default();
                shared.sent(number, half, false);
                stream.write_all(half).await?;
                return Ok(false);
            }
            shared.sent(number, &body, true);
            stream.write_all(&body).await?;
            Ok(!close)
        }
        Sent::Pieces { pieces, framing, error } => {
            head.push_str("transfer-encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            for at in 0..=pieces.len() {
                match fault {
                    Fault::Slow(pause) => tokio::time::sleep(pause).await,
                    Fault::Silence { after } if after == at => return hold(stream).await,
                    Fault::Reset { after } if after == at => {
                        stream.set_zero_linger()?;
                        return Ok(false);
                    }
                    Fault::Cut { after } if after == at => return Ok(false),
                    Fault::ErrorEvent { after } if after == at => {
                        chunk(stream, shared, number, &error).await?;
                        break;
                    }
                    Fault::Malformed { after } if after == at => {
                        chunk(stream, shared, number, &framing.malformed()).await?;
                    }
                    Fault::Gigantic { after, bytes } if after == at => {
                        chunk(stream, shared, number, &framing.gigantic(bytes)).await?;
                    }
                    _ => {}
                }
                if let Some(piece) = pieces.get(at) {
                    chunk(stream, shared, number, piece).await?;
                }
            }
            shared.sent(number, &[], true);
            stream.write_all(b"0\r\n\r\n").await?;
            Ok(!close)
        }
    }
}

async fn chunk(stream: &mut TcpStream, shared: &Shared, number: usize, piece: &[u8]) -> io::Result<()> {
    let mut bytes = format!("{:x}\r\n", piece.len()).into_bytes();
    bytes.extend_from_slice(piece);
    bytes.extend_from_slice(b"\r\n");
    shared.sent(number, piece, false);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Says nothing until the client goes.
async fn hold(stream: &mut TcpStream) -> io::Result<bool> {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(false)
}

/// The next request; nothing at the end of the connection. `bytes` is what came and is not used yet.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let at = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if !more(stream, bytes).await? {
            return Ok(None);
        }
    };
    let head: Vec<u8> = bytes.drain(..at + 4).collect();
    let head = String::from_utf8(head).map_err(|_| wrong("the head is not text"))?;
    let mut lines = head.lines();
    let mut line = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (line.next().unwrap_or_default().to_owned(), line.next().unwrap_or_default().to_owned());
    let pair = |line: &str| line.split_once(':').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    let mut request = Request { method, target, headers: lines.filter_map(pair).collect(), body: Vec::new() };
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = loop {
                if let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") {
                    break bytes.drain(..at + 2).collect::<Vec<u8>>();
                }
                if !more(stream, bytes).await? {
                    return Ok(None);
                }
            };
            let line = String::from_utf8_lossy(&line);
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| wrong("the size of a chunk is no number"))?;
            while bytes.len() < size + 2 {
                if !more(stream, bytes).await? {
                    return Ok(None);
                }
            }
            request.body.extend(bytes.drain(..size));
            bytes.drain(..2);
            if size == 0 {
                return Ok(Some(request));
            }
        }
    }
    let length = request.header("content-length").map_or(Ok(0), str::parse).map_err(|_| wrong("content-length"))?;
    while bytes.len() < length {
        if !more(stream, bytes).await? {
            return Ok(None);
        }
    }
    request.body = bytes.drain(..length).collect();
    Ok(Some(request))
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    let count = stream.read(&mut buffer).await?;
    bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
    Ok(count > 0)
}

const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        529 => "Overloaded",
        _ => "Answer",
    }
}
