//! HTTP/1 as an exit parses it end to end: what a guard hands on is what came, up to where it was refused; however it comes; and hyper's parser finds the
//! same heads in it that the guard let through.
#![no_main]

use std::{sync::Arc, time::Duration};

use stockade_egress::guard::{Broken, Guard, Watch};
use stockade_fuzz::arrivals;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is handed on, and why it ended.
fn followed(runtime: &tokio::runtime::Runtime, pieces: &[&[u8]]) -> (Vec<u8>, Option<Broken>) {
    runtime.block_on(async {
        let watch = Arc::new(Watch::default());
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut guard = Guard::new(far, watch.clone(), Duration::from_secs(3600));
        let mut handed = Vec::new();
        let writing = async {
            for piece in pieces {
                if near.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            let _ = near.shutdown().await;
        };
        let reading = async {
            let _ = guard.read_to_end(&mut handed).await;
        };
        tokio::join!(writing, reading);
        (handed, watch.broken())
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let seen = arrivals(bytes).map(|pieces| followed(&runtime, &pieces));
    for (handed, broken) in &seen {
        assert!(bytes.starts_with(handed), "nothing is made up");
        assert_eq!(*broken, seen[0].1);
        if !matches!(broken, Some(Broken::Chunk(_))) {
            assert_eq!(*handed, seen[0].0);
        }
    }
    // The first head is whole, or nothing came.
    let handed = &seen[0].0;
    if !handed.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let parsed = httparse::Request::new(&mut headers).parse(handed);
        assert!(!matches!(parsed, Ok(httparse::Status::Partial)), "half a head was handed on");
    }
});
