//! Packed requests and deflated answers: whatever stands in a content, reading it back ends; and any bodies of one session, and any answer,
//! come back as they were.
#![no_main]

use bytes::Bytes;
use stockade_domain::{Digest, ids::RunId};
use stockade_gateway::capture::{Capture, CaptureLimits, MAX_BYTES, restore, shrink, unpack};

/// Pieces with their lengths (two bytes) before them.
fn pieces(mut bytes: &[u8]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let (piece, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        bytes = rest;
    }
    pieces
}

fn digest(number: usize) -> Digest {
    Digest([u8::try_from(number).unwrap_or(u8::MAX); 32])
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let pieces = pieces(bytes);
    let _ = restore(Bytes::copy_from_slice(bytes));
    let small = Bytes::from(shrink(bytes).into_owned());
    assert_eq!(restore(small).expect("what was made small can be read"), bytes);

    // As contents that refer to each other, or to themselves.
    if let Ok(body) = unpack(digest(0), |digest| pieces.get(usize::from(digest.0[0])).cloned().ok_or(())) {
        assert!(body.len() <= MAX_BYTES);
    }

    // As bodies of one session, with little memory.
    let limits = CaptureLimits { bytes: 8_192, body: 4_096, least: 1, bodies: 3, per_session: 2 };
    let (capture, run) = (Capture::new(limits), RunId::from_bytes([7; 16]));
    let mut contents: Vec<Bytes> = Vec::new();
    for body in pieces.iter().take(200) {
        let packed = capture.pack(run, None, body);
        let at = digest(contents.len());
        contents.push(packed.plain.clone());
        capture.stored(packed, at);
        let again = unpack(at, |digest| contents.get(usize::from(digest.0[0])).cloned().ok_or(()));
        assert_eq!(again.expect("what was packed can be read"), body);
    }
});
