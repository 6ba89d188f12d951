//! What the runner sends into an environment: frames do not depend on how they arrive, and a request that reads is
//! written and reads again as the same.
#![no_main]

use std::io::Read;

use stockade_api::guest::MAX_FRAME;
use stockade_fuzz::arrivals;
use stockade_guest::{parse_request, read_frame};

/// Gives one piece with each reading.
struct Pieces<'a>(Vec<&'a [u8]>);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let Some(piece) = self.0.last_mut() else { return Ok(0) };
        let taken = piece.len().min(out.len());
        out[..taken].copy_from_slice(&piece[..taken]);
        *piece = &piece[taken..];
        if piece.is_empty() {
            self.0.pop();
        }
        Ok(taken)
    }
}

fn request(bytes: &[u8]) {
    if let Ok(request) = parse_request(bytes) {
        let written = serde_json::to_vec(&request).expect("a request can be written");
        assert_eq!(parse_request(&written).expect("what is written reads"), request);
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    request(bytes);
    let frames = arrivals(bytes).map(|mut pieces| {
        pieces.retain(|piece| !piece.is_empty());
        pieces.reverse();
        let (mut from, mut frames) = (Pieces(pieces), Vec::new());
        while let Ok(Some(frame)) = read_frame(&mut from) {
            assert!(frame.len() <= MAX_FRAME);
            frames.push(frame);
        }
        frames
    });
    assert_eq!(frames[0], frames[1]);
    assert_eq!(frames[0], frames[2]);
    frames[0].iter().for_each(|frame| request(frame));
});
