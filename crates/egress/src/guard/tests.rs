//! What is let through, whatever the pieces are that it comes in.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Gives pieces, one at a time, and keeps what is written.
#[derive(Debug, Default)]
struct Pieces {
    left: std::collections::VecDeque<Vec<u8>>,
    written: Vec<u8>,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.left.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.left.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What is handed on of these pieces, why it ended, and what was said at the end.
fn followed(pieces: &[&[u8]]) -> (Vec<u8>, Option<Broken>, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let watch = Arc::new(Watch::default());
        let left = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect();
        let inner = Pieces { left, written: Vec::new() };
        let mut guard = Guard::new(inner, watch.clone(), Duration::from_secs(10));
        let mut handed = Vec::new();
        // A body that is refused is an error there, and what came before it counts.
        let _ = guard.read_to_end(&mut handed).await;
        guard.shutdown().await.unwrap();
        (handed, watch.broken(), String::from_utf8(guard.inner.written).unwrap())
    })
}

const GOOD: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST / HTTP/1.1\r\n\
Host: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /last HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn what_has_one_reading_goes_through_as_it_is() {
    assert_eq!(followed(&[GOOD]), (GOOD.to_vec(), None, String::new()));
    let single: Vec<&[u8]> = GOOD.chunks(1).collect();
    assert_eq!(followed(&single), (GOOD.to_vec(), None, String::new()));
    // Half a head is held back for ever.
    let half = &GOOD[..GOOD.len() - 3];
    let last = half.windows(9).rposition(|bytes| bytes == b"GET /last").unwrap();
    assert_eq!(followed(&[half]), (GOOD[..last].to_vec(), None, String::new()));
}

#[test]
fn n13_nothing_goes_through_behind_what_is_read_in_two_ways() {
    for (bad, status) in [
        (&b"GET / HTTP/1.1\nHost: a\n\n"[..], "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported"),
    ] {
        let (handed, broken, said) = followed(&[GOOD, bad, GOOD]);
        assert_eq!(handed, GOOD);
        assert!(matches!(broken, Some(Broken::Head(_))), "{broken:?}");
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status}\r\n")) && said.contains("connection: close\r\n"),
            "{said}"
        );
    }
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (handed, broken, said) = followed(&[chunked, b"5;a\r\nhello\r\n0\r\n\r\n", GOOD]);
    assert_eq!((handed.as_slice(), said.as_str()), (&chunked[..], ""), "its request has begun, and is told");
    assert!(matches!(broken, Some(Broken::Chunk(_))));
}

#[tokio::test(start_paused = true)]
async fn n29_a_head_that_drips_is_given_up_and_one_that_has_not_begun_is_not() {
    let (near, far) = tokio::io::duplex(1024);
    let watch = Arc::new(Watch::default());
    let mut guard = Guard::new(far, watch.clone(), Duration::from_secs(10));
    let (mut reading, mut writing) = tokio::io::split(near);
    let mut room = [0; 64];
    // Idle between requests, for longer than a head may take.
    let idle = tokio::time::timeout(Duration::from_secs(60), guard.read(&mut room)).await;
    assert!(idle.is_err() && watch.broken().is_none());
    writing.write_all(b"GET / HT").await.unwrap();
    assert_eq!(guard.read(&mut room).await.unwrap(), 0);
    assert_eq!(watch.broken(), Some(Broken::Slow(10)));
    guard.shutdown().await.unwrap();
    let mut said = [0; 28];
    reading.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 408 Request Timeout");
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_until_what_came_before_is_answered_and_is_silent_if_that_broke_off() {
    for whole in [true, false] {
        let watch = Arc::new(Watch::default());
        let inner = Pieces { left: [b"bad\r\n\r\n".to_vec()].into(), written: Vec::new() };
        let mut guard = Guard::new(inner, watch.clone(), Duration::from_secs(10));
        let mut busy = watch.busy();
        let mut room = [0; 64];
        let waiting = tokio::time::timeout(Duration::from_secs(60), guard.read(&mut room)).await;
        assert!(waiting.is_err(), "a request is still being answered");
        if whole {
            busy.whole();
        }
        drop(busy);
        assert_eq!(guard.read(&mut room).await.unwrap(), 0);
        guard.shutdown().await.unwrap();
        assert_eq!(guard.inner.written.is_empty(), !whole);
    }
}

#[tokio::test]
async fn after_an_upgrade_everything_goes_through() {
    let watch = Arc::new(Watch::default());
    let inner = Pieces { left: [b"\x81\x02hi".to_vec(), b"\n\n".to_vec()].into(), written: Vec::new() };
    let mut guard = Guard::new(inner, watch.clone(), Duration::from_secs(10));
    watch.set_free();
    let mut handed = Vec::new();
    guard.read_to_end(&mut handed).await.unwrap();
    assert_eq!((handed.as_slice(), watch.broken()), (&b"\x81\x02hi\n\n"[..], None));
}

proptest! {
    #[test]
    fn any_cuts_give_the_same(
        flips in prop::collection::vec((0..GOOD.len(), prop::sample::select(b"\r\n: a0;".to_vec())), 0..3),
        cuts in prop::collection::vec(0..GOOD.len(), 0..8),
    ) {
        let mut bytes = GOOD.to_vec();
        for (at, byte) in flips {
            bytes[at] = byte;
        }
        let mut ends: Vec<_> = cuts.into_iter().chain([0, bytes.len()]).collect();
        ends.sort_unstable();
        let pieces: Vec<&[u8]> = ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        let (whole, cut) = (followed(&[&bytes]), followed(&pieces));
        prop_assert_eq!(whole.1, cut.1);
        prop_assert!(bytes.starts_with(&whole.0) && bytes.starts_with(&cut.0));
        if whole.1.is_none() || matches!(whole.1, Some(Broken::Head(_))) {
            prop_assert_eq!(whole, cut);
        }
    }
}
