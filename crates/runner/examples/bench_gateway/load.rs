//! The load: connections that are kept, one request after the other on each, every latency noted. It writes and reads plain
//! bytes, so that as little as possible of the machine goes into it.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bodies::{Body, NONCE};

/// Whom to ask, and how.
#[derive(Clone)]
pub struct Aim {
    pub addr: String,
    pub path: String,
    /// More headers, each with its line's end.
    pub headers: String,
}

impl Aim {
    /// A request, and where in it the nonce is.
    pub fn request(&self, body: &Body) -> (Vec<u8>, usize) {
        let mut bytes = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{}content-length: {}\r\n\r\n",
            self.path,
            self.addr,
            self.headers,
            body.bytes.len()
        )
        .into_bytes();
        let nonce = bytes.len() + body.nonce;
        bytes.extend_from_slice(&body.bytes);
        (bytes, nonce)
    }
}

/// What was measured.
#[derive(Default, Clone)]
pub struct Found {
    pub seconds: f64,
    /// Of whole answers, in nanoseconds.
    pub whole: Vec<u64>,
    /// Until the first byte of the answer's body.
    pub first: Vec<u64>,
    pub errors: u64,
    pub error: Option<String>,
}

impl Found {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub fn per_second(&self) -> f64 {
        self.whole.len() as f64 / self.seconds.max(1e-9)
    }
}

/// The value below which this share lies, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn at(times: &[u64], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(place).copied().unwrap_or(0) as f64 / 1_000.0
}

/// A connection and what came over it.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub async fn open(addr: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request and reads its answer; gives the time of the first byte of its body. With `hold`, reads only that far.
    pub async fn ask(&mut self, request: &[u8], hold: bool) -> Result<Instant> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (mut head, mut first) = (None, None);
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection was closed: {}", String::from_utf8_lossy(&self.buffer));
            }
            if head.is_none()
                && let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n")
            {
                let text = String::from_utf8_lossy(self.buffer.get(..end).unwrap_or_default()).to_ascii_lowercase();
                let length = text
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"))
                    .and_then(|length| length.trim().parse::<usize>().ok());
                head = Some((end + 4, length, text));
            }
            let Some((start, length, text)) = &head else { continue };
            if self.buffer.len() > *start && first.is_none() {
                first = Some(Instant::now());
            }
            let over = match length {
                Some(length) => self.buffer.len() >= start + length,
                None => self.buffer.ends_with(b"0\r\n\r\n") && first.is_some(),
            };
            if over || (hold && first.is_some()) {
                if !text.starts_with("http/1.1 200") {
                    bail!("{}", String::from_utf8_lossy(&self.buffer));
                }
                return first.context("an answer without a body");
            }
        }
    }
}

fn stamp(request: &mut [u8], nonce: usize, number: u64) {
    if let Some(place) = request.get_mut(nonce..nonce + NONCE) {
        place.copy_from_slice(format!("{number:0width$}", width = NONCE).as_bytes());
    }
}

/// Loads for a while, after a while that does not count. Runs in a `LocalSet`.
pub async fn run(aim: &Aim, body: &Body, connections: usize, warm: Duration, time: Duration) -> Result<Found> {
    let found = Rc::new(RefCell::new(Found::default()));
    let numbers = Rc::new(RefCell::new(random()));
    let (begin, mut tasks) = (Instant::now() + warm, Vec::new());
    let end = begin + time;
    for _ in 0..connections {
        let mut wire = Wire::open(&aim.addr).await?;
        let (mut request, nonce) = aim.request(body);
        let (aim, found, numbers) = (aim.clone(), Rc::clone(&found), Rc::clone(&numbers));
        tasks.push(tokio::task::spawn_local(async move {
            loop {
                let number = {
                    let mut numbers = numbers.borrow_mut();
                    *numbers += 1;
                    *numbers
                };
                stamp(&mut request, nonce, number);
                let started = Instant::now();
                if started >= end {
                    return;
                }
                let asked = wire.ask(&request, false).await;
                let over = Instant::now();
                if asked.is_err() {
                    let Ok(again) = Wire::open(&aim.addr).await else { return };
                    wire = again;
                }
                let mut found = found.borrow_mut();
                match asked {
                    Ok(first) if started >= begin && over <= end => {
                        found.whole.push(nanos(over - started));
                        found.first.push(nanos(first - started));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        found.errors += 1;
                        found.error.get_or_insert_with(|| format!("{error:#}"));
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await?;
    }
    let mut found = found.take();
    found.seconds = time.as_secs_f64();
    Ok(found)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the numbers begin: another place each time, so that no two loads repeat each other's.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % 1_000_000_000_000_000
}
