//! Event streams: the events do not depend on where the bytes were split, and no limit is passed.
#![no_main]

use stockade_fuzz::arrivals;
use stockade_llm::sse::Reader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for max in [16, 1024] {
        let seen = arrivals(bytes).map(|pieces| {
            let (mut reader, mut events) = (Reader::with_limit(max), Vec::new());
            for piece in pieces {
                reader.push(piece, |event| {
                    assert!(event.name.len() <= max && event.data.len() <= max);
                    events.push((event.name.to_vec(), event.data.to_vec()));
                });
            }
            (events, reader.oversized(), reader.dropped_bytes())
        });
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[2]);
        assert!(seen[0].2 <= bytes.len() as u64);
    }
});
