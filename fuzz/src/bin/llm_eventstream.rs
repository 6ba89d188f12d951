//! Frames of Amazon's event stream: the same however they arrive, none after an error, and what is read is written alike.
#![no_main]

use stockade_fuzz::arrivals;
use stockade_llm::eventstream::Reader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for max in [64, 4096] {
        let seen = arrivals(bytes).map(|pieces| {
            let (mut reader, mut frames) = (Reader::with_limit(max), Vec::new());
            let failed = pieces.into_iter().find_map(|piece| reader.push(piece, |frame| frames.push(frame)).err());
            (frames, failed, reader.finish())
        });
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[2]);
        let (frames, failed, _) = &seen[0];
        let again: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().expect("it was read")).collect();
        assert!(bytes.starts_with(&again));
        assert!(failed.is_some() || bytes.len() - again.len() < max);
    }
});
