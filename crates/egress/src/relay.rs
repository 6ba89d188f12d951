//! Joins two byte streams: what one says, the other hears, until both have said all, or it must end.
//!
//! It owns counting, half-closed streams, silence and the order to stop; it refuses to hold more than a buffer for each direction, so
//! whoever reads slowly slows down whoever writes. *Invariant:* what is counted was handed to the other side; nothing is handed over
//! after the end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use tokio_util::sync::CancellationToken;

/// The buffer of each direction at first, in bytes: two of them for each connection, from its first byte on.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// What it grows to while more comes than it holds, in bytes.
pub const MAX_BUFFER_BYTES: usize = 256 * 1024;

/// How long a connection may be silent, and for how long one side may go on after the other has said all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Nothing either way.
    pub idle: Duration,
    /// Nothing from the side that is left.
    pub half_open: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { idle: Duration::from_secs(15 * 60), half_open: Duration::from_secs(60) }
    }
}

/// What went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Bytes from the first to the second.
    pub out: u64,
    /// Bytes from the second to the first.
    pub back: u64,
}

/// Why it ended.
#[derive(Debug)]
pub enum End {
    /// Both have said all.
    Whole,
    /// Silence.
    Silent,
    /// It was told to stop.
    Stopped,
    /// The first broke off.
    First(io::Error),
    /// The second broke off.
    Second(io::Error),
}

/// Joins them. Neither is closed afterwards: whoever holds them drops them.
pub async fn join<A, B>(first: &mut A, second: &mut B, patience: Patience, stop: &CancellationToken) -> (Carried, End)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut out, mut back) = (Way::default(), Way::default());
    let mut silence = std::pin::pin!(tokio::time::sleep(patience.idle));
    let carrying = std::future::poll_fn(|context| {
        // Both ways are looked at each time: a way that waits has left word with whom it waits for.
        let moved = (out.carried, back.carried, out.state, back.state);
        let ended = match (out.carry(context, first, second), back.carry(context, second, first)) {
            (Poll::Ready(Err(Fault::Reading(error))), _) | (_, Poll::Ready(Err(Fault::Writing(error)))) => {
                Some(End::First(error))
            }
            (Poll::Ready(Err(Fault::Writing(error))), _) | (_, Poll::Ready(Err(Fault::Reading(error)))) => {
                Some(End::Second(error))
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Some(End::Whole),
            (Poll::Ready(Ok(())), Poll::Pending)
            | (Poll::Pending, Poll::Ready(Ok(())))
            | (Poll::Pending, Poll::Pending) => None,
        };
        if let Some(end) = ended {
            return Poll::Ready(end);
        }
        if moved != (out.carried, back.carried, out.state, back.state) {
            let half = out.state == State::Over || back.state == State::Over;
            silence.as_mut().reset(Instant::now() + if half { patience.half_open } else { patience.idle });
        }
        quiet(silence.as_mut(), context)
    });
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => End::Stopped,
        end = carrying => end,
    };
    (Carried { out: out.carried, back: back.carried }, end)
}

fn quiet(silence: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<End> {
    ready!(std::future::Future::poll(silence, context));
    Poll::Ready(End::Silent)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Open,
    /// The reader has said all; that is still to be told.
    Ending,
    Over,
}

enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    buffer: Vec<u8>,
    /// What of the buffer is still to be written.
    begin: usize,
    end: usize,
    carried: u64,
    state: State,
    /// Something was written that may lie in a buffer below.
    dirty: bool,
}

impl Way {
    fn carry<A, B>(&mut self, context: &mut Context<'_>, from: &mut A, to: &mut B) -> Poll<Result<(), Fault>>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        loop {
            if self.state == State::Over {
                return Poll::Ready(Ok(()));
            }
            while let Some(waiting) = self.buffer.get(self.begin..self.end).filter(|waiting| !waiting.is_empty()) {
                let written = match ready!(Pin::new(&mut *to).poll_write(context, waiting)) {
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    other => other,
                };
                let written = written.map_err(Fault::Writing)?;
                self.begin += written;
                self.carried = self.carried.saturating_add(written as u64);
                self.dirty = true;
            }
            if self.state == State::Ending {
                ready!(Pin::new(&mut *to).poll_shutdown(context)).map_err(Fault::Writing)?;
                self.state = State::Over;
                continue;
            }
            // No memory before the first byte can come, and more only for what fills it.
            if self.end == self.buffer.len() {
                let next = (self.end * 4).clamp(BUFFER_BYTES, MAX_BUFFER_BYTES);
                self.buffer.resize(next, 0);
            }
            let mut room = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *from).poll_read(context, &mut room) {
                Poll::Ready(read) => read.map_err(Fault::Reading)?,
                Poll::Pending => {
                    if self.dirty {
                        ready!(Pin::new(&mut *to).poll_flush(context)).map_err(Fault::Writing)?;
                        self.dirty = false;
                    }
                    return Poll::Pending;
                }
            }
            (self.begin, self.end) = (0, room.filled().len());
            if self.end == 0 {
                self.state = State::Ending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn patience() -> Patience {
        Patience { idle: Duration::from_secs(60), half_open: Duration::from_secs(5) }
    }

    #[tokio::test(start_paused = true)]
    async fn both_say_all_and_hear_all_however_small_the_pipes_are() {
        let (mut near, mut first) = duplex(7);
        let (mut far, mut second) = duplex(3);
        let joined =
            tokio::spawn(async move { join(&mut first, &mut second, patience(), &CancellationToken::new()).await });
        let asks = async {
            near.write_all(&[1; 10_000]).await.unwrap();
            near.shutdown().await.unwrap();
            let mut heard = Vec::new();
            near.read_to_end(&mut heard).await.unwrap();
            heard
        };
        let answers = async {
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.unwrap();
            // The other has ended: it hears the answer all the same.
            far.write_all(&heard.iter().map(|byte| byte + 1).collect::<Vec<_>>()).await.unwrap();
            far.shutdown().await.unwrap();
            heard
        };
        let (back, out) = tokio::join!(asks, answers);
        assert_eq!((back, out), (vec![2; 10_000], vec![1; 10_000]));
        let (carried, end) = joined.await.unwrap();
        assert!(matches!(end, End::Whole), "{end:?}");
        assert_eq!(carried, Carried { out: 10_000, back: 10_000 });
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_sooner_once_one_side_has_said_all() {
        let (mut near, mut first) = duplex(64);
        let (_far, mut second) = duplex(64);
        let stop = CancellationToken::new();
        let begun = Instant::now();
        let (_, end) = join(&mut first, &mut second, patience(), &stop).await;
        assert!(matches!(end, End::Silent) && begun.elapsed().as_secs() == 60, "{end:?}");
        near.shutdown().await.unwrap();
        let begun = Instant::now();
        let (_, end) = join(&mut first, &mut second, patience(), &stop).await;
        assert!(matches!(end, End::Silent) && begun.elapsed().as_secs() == 5, "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_slows_down_who_writes_and_a_drip_is_no_silence() {
        let (mut near, mut first) = duplex(64);
        let (mut far, mut second) = duplex(64);
        let joined =
            tokio::spawn(async move { join(&mut first, &mut second, patience(), &CancellationToken::new()).await });
        let mut written = 0;
        // Nobody reads: what the pipes and one reading hold is taken, and no more.
        while let Ok(taken) = tokio::time::timeout(Duration::from_millis(10), near.write(&[0; 64])).await {
            written += taken.unwrap();
        }
        assert_eq!(written, 3 * 64);
        // A few bytes now and then, for much longer than a silence may be.
        for _ in 0..7 {
            tokio::time::advance(Duration::from_secs(30)).await;
            far.read_exact(&mut [0; 16]).await.unwrap();
        }
        assert!(!joined.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_when_it_is_told_to_and_says_what_went_over() {
        let (mut near, mut first) = duplex(64);
        let (mut far, mut second) = duplex(64);
        let stop = CancellationToken::new();
        let order = stop.clone();
        let joined = tokio::spawn(async move { join(&mut first, &mut second, patience(), &order).await });
        near.write_all(b"a word").await.unwrap();
        far.read_exact(&mut [0; 6]).await.unwrap();
        stop.cancel();
        let (carried, end) = joined.await.unwrap();
        assert!(matches!(end, End::Stopped), "{end:?}");
        assert_eq!(carried, Carried { out: 6, back: 0 });
        assert_eq!(far.read(&mut [0; 9]).await.unwrap(), 0, "both are let go");
    }

    #[tokio::test]
    async fn it_is_told_who_broke_off() {
        let (near, mut first) = duplex(64);
        let (mut far, mut second) = duplex(64);
        drop(near);
        far.write_all(b"nobody hears this").await.unwrap();
        let (_, end) = join(&mut first, &mut second, patience(), &CancellationToken::new()).await;
        assert!(matches!(end, End::First(_)), "{end:?}");
    }
}
