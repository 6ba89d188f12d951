//! Answers of every dialect: the events do not depend on where the bytes were split, what is kept stays within the limit, and every
//! encoder takes them. The first byte says which dialect and which framing the rest is in.
#![no_main]

use bytes::BytesMut;
use stockade_fuzz::arrivals;
use stockade_llm::{
    Dialect, Framing,
    neutral::{ApiFault, FaultKind, ForClient, Tee},
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let framings = [Framing::Whole, Framing::Events, Framing::Array, Framing::Frames];
    let dialect = Dialect::ALL[usize::from(*first) % Dialect::ALL.len()];
    let framing = framings[usize::from(*first) / Dialect::ALL.len() % framings.len()];
    for ended in [true, false] {
        let seen = arrivals(body).map(|pieces| {
            let (mut decoder, mut events) = (dialect.decoder(framing), Vec::new());
            pieces.into_iter().for_each(|piece| decoder.push(piece, &mut events));
            decoder.finish(ended, &mut events);
            events
        });
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[2]);
        let mut tee = Tee::new(dialect.decoder(framing), 256);
        tee.push(body);
        let _ = tee.finish(ended);
        let [events, ..] = seen;
        for (to, framing) in Dialect::ALL.iter().flat_map(|to| framings.map(|framing| (to, framing))) {
            let Some(mut encoder) = to.encoder(framing, ForClient::default()) else { continue };
            let mut out = BytesMut::new();
            events.iter().for_each(|event| encoder.push(event, &mut out));
            encoder.broken(&ApiFault::new(FaultKind::Api, "it broke off"), &mut out);
            let len = out.len();
            encoder.broken(&ApiFault::new(FaultKind::Api, "it broke off"), &mut out);
            assert_eq!(out.len(), len, "nothing comes after the end");
        }
    }
});
