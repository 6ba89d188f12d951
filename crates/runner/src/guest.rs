//! The client of a guest: frames over one connection, many requests at a time.
//!
//! Owns framing, its limits, and the pairing of answers with requests. It refuses to reconnect and to repeat:
//! whoever holds a call id decides that. *Invariant:* what comes from the guest is hostile; a frame that is too
//! long or no frame ends the connection and nothing else.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stockade_api::guest::{Answer, MAX_CHUNK, MAX_FRAME, Op, Reply, Request};
use stockade_domain::ids::CallId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::{Mutex as AsyncMutex, mpsc},
    task::JoinHandle,
};

/// How many pieces of live output may wait for whoever listens; more hold the guest back.
const LIVE_QUEUE: usize = 16;
/// The longest piece of live output, in bytes. A longer one ends the connection.
pub const MAX_LIVE: usize = MAX_CHUNK;
/// How long an operation without a time-out of its own may take before the guest counts as dead.
pub const OP_TIMEOUT: Duration = Duration::from_secs(60);
/// How much longer than its own time-out a command may take before the guest counts as dead.
pub const EXEC_GRACE: Duration = Duration::from_secs(15);

/// Why a guest gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// The connection ended, or nothing came in time: the guest may be dead.
    #[error("the guest does not answer: {0}")]
    Gone(String),
    /// The request is larger than a frame may be.
    #[error("the request of {0} bytes is larger than a frame may be ({MAX_FRAME})")]
    TooLarge(usize),
}

/// A final answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The answer.
    pub reply: Reply,
    /// Whether it came from the guest's journal and nothing was done now.
    pub replayed: bool,
}

type Waiting = Arc<Mutex<Option<HashMap<u64, mpsc::Sender<Answer>>>>>;

/// A connection to a guest.
#[derive(Debug)]
pub struct Guest {
    write: AsyncMutex<OwnedWriteHalf>,
    next: AtomicU64,
    waiting: Waiting,
    reader: JoinHandle<()>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Guest {
    /// Takes over a connection.
    pub fn new(stream: UnixStream) -> Self {
        let (mut read, write) = stream.into_split();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let theirs = Arc::clone(&waiting);
        let reader = tokio::spawn(async move {
            while let Ok(answer) = read_answer(&mut read).await {
                let sender = theirs.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|map| {
                    if answer.reply.is_final() { map.remove(&answer.id) } else { map.get(&answer.id).cloned() }
                });
                if let Some(sender) = sender {
                    // Whoever asked may have stopped listening: then the answer is nobody's.
                    let _ = sender.send(answer).await;
                }
            }
            // Dropping the senders tells everyone who waits that the guest is gone.
            theirs.lock().unwrap_or_else(PoisonError::into_inner).take();
        });
        Self { write: AsyncMutex::new(write), next: AtomicU64::new(1), waiting, reader }
    }

    /// Whether the connection has not ended yet, as far as is known.
    pub fn is_open(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Asks, and waits for the final answer.
    pub async fn ask(&self, call: Option<CallId>, op: Op) -> Result<Answered, GuestError> {
        self.ask_live(call, op, None).await
    }

    /// The same; `live` is sent pieces of output as they come, and holds the guest back while it is full.
    pub async fn ask_live(
        &self,
        call: Option<CallId>,
        op: Op,
        live: Option<mpsc::Sender<(stockade_api::guest::Stream, String)>>,
    ) -> Result<Answered, GuestError> {
        let limit = match &op {
            Op::Exec(exec) => Duration::from_millis(exec.timeout_ms) + EXEC_GRACE,
            _ => OP_TIMEOUT,
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = serde_json::to_vec(&Request { id, call, op }).map_err(|e| GuestError::Gone(e.to_string()))?;
        let len = u32::try_from(body.len()).ok().filter(|len| *len as usize <= MAX_FRAME);
        let len = len.ok_or(GuestError::TooLarge(body.len()))?;
        let (sender, mut answers) = mpsc::channel(LIVE_QUEUE);
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .ok_or_else(|| GuestError::Gone("the connection has ended".to_owned()))?
            .insert(id, sender);
        let asked = async {
            {
                let mut write = self.write.lock().await;
                let mut frame = Vec::with_capacity(body.len() + 4);
                frame.extend_from_slice(&len.to_be_bytes());
                frame.extend_from_slice(&body);
                write.write_all(&frame).await.map_err(|e| GuestError::Gone(e.to_string()))?;
            }
            while let Some(Answer { reply, replayed, .. }) = answers.recv().await {
                match reply {
                    Reply::Output { stream, text } => {
                        if let Some(live) = &live {
                            // Whoever listened may have gone away: the command goes on.
                            let _ = live.send((stream, text)).await;
                        }
                    }
                    reply => return Ok(Answered { reply, replayed }),
                }
            }
            Err(GuestError::Gone("the connection has ended".to_owned()))
        };
        let answered = tokio::time::timeout(limit, asked)
            .await
            .unwrap_or_else(|_| Err(GuestError::Gone(format!("no answer within {} ms", limit.as_millis()))));
        if let Some(map) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            map.remove(&id);
        }
        answered
    }
}

async fn read_answer(read: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Answer> {
    let len = read.read_u32().await? as usize;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is too long"));
    }
    let mut body = vec![0; len];
    read.read_exact(&mut body).await?;
    let answer = parse_answer(&body)?;
    match &answer.reply {
        Reply::Output { text, .. } if text.len() > MAX_LIVE => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a piece of output is too long"))
        }
        _ => Ok(answer),
    }
}

/// Reads the body of one frame of a guest. Public for fuzzing: no input makes it panic.
pub fn parse_answer(body: &[u8]) -> io::Result<Answer> {
    serde_json::from_slice(body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn reply(stream: &mut UnixStream, answer: &Answer) {
        let body = serde_json::to_vec(answer).unwrap();
        stream.write_u32(u32::try_from(body.len()).unwrap()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    }

    async fn request(stream: &mut UnixStream) -> Request {
        let len = stream.read_u32().await.unwrap();
        let mut body = vec![0; len as usize];
        stream.read_exact(&mut body).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn answers_find_their_requests_in_any_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let guest = Arc::new(Guest::new(ours));
        let second = Arc::clone(&guest);
        let a = tokio::spawn(async move { guest.ask(None, Op::Ping {}).await });
        let first = request(&mut theirs).await;
        let b = tokio::spawn(async move { second.ask(None, Op::Get { name: "x".into(), offset: 0 }).await });
        let other = request(&mut theirs).await;
        reply(&mut theirs, &Answer { id: 99, replayed: false, reply: Reply::Done {} }).await;
        reply(&mut theirs, &Answer { id: other.id, replayed: true, reply: Reply::Interrupted {} }).await;
        reply(&mut theirs, &Answer { id: first.id, replayed: false, reply: Reply::Done {} }).await;
        assert_eq!(a.await.unwrap(), Ok(Answered { reply: Reply::Done {}, replayed: false }));
        assert_eq!(b.await.unwrap(), Ok(Answered { reply: Reply::Interrupted {}, replayed: true }));
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_ends_the_connection_and_wakes_everyone() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let guest = Arc::new(Guest::new(ours));
        let asking = Arc::clone(&guest);
        let a = tokio::spawn(async move { asking.ask(None, Op::Ping {}).await });
        request(&mut theirs).await;
        theirs.write_u32(u32::MAX).await.unwrap();
        assert!(matches!(a.await.unwrap(), Err(GuestError::Gone(_))));
        assert!(!guest.is_open());
        assert!(matches!(guest.ask(None, Op::Ping {}).await, Err(GuestError::Gone(_))));
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_answer(&body);
        }
    }
}
