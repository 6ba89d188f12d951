//! Messages as Bedrock and Vertex carry them: bodies there and back read as the same request; events in frames and out of them
//! do not depend on where the bytes were split; nothing comes after the end. Usage that nobody asked for is hidden alike.
#![no_main]

use bytes::{Bytes, BytesMut};
use stockade_fuzz::arrivals;
use stockade_llm::{
    Dialect,
    chat::HideUsage,
    converse::{
        invoke::{ToEvents, ToFrames, carry, uncarry},
        refused::Upstream,
    },
    eventstream::Reader,
    neutral::{ApiFault, FaultKind},
};

fn events(pieces: &[&[u8]]) -> (BytesMut, bool) {
    let (mut to, mut out) = (ToEvents::default(), BytesMut::new());
    let damaged = pieces.iter().any(|piece| to.push(piece, &mut out).is_err());
    (out, damaged)
}

fn frames(pieces: &[&[u8]]) -> BytesMut {
    let (mut to, mut out) = (ToFrames::default(), BytesMut::new());
    pieces.iter().for_each(|piece| to.push(piece, &mut out));
    to.broken(&ApiFault::new(FaultKind::Api, "it broke off"), &mut out);
    let len = out.len();
    to.push(b"\n\ndata: {\"type\":\"ping\"}\n\n", &mut out);
    to.broken(&ApiFault::new(FaultKind::Api, "it broke off"), &mut out);
    assert_eq!(out.len(), len, "nothing comes after the end");
    out
}

fn hidden(pieces: &[&[u8]]) -> Vec<u8> {
    let mut filter = HideUsage::default();
    let mut out: Vec<u8> = pieces.iter().flat_map(|piece| filter.push(piece)).collect();
    out.extend_from_slice(&filter.finish());
    out
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let ways = arrivals(bytes);
    let [once, single, uneven] = [events(&ways[0]), events(&ways[1]), events(&ways[2])];
    assert_eq!(once, single);
    assert_eq!(once, uneven);

    let [once, single, uneven] = [frames(&ways[0]), frames(&ways[1]), frames(&ways[2])];
    assert_eq!(once, single);
    assert_eq!(once, uneven);
    let mut reader = Reader::default();
    reader.push(&once, |_| {}).expect("what was written are frames");
    reader.finish().expect("what was written is whole");
    let (_, damaged) = events(&[&once]);
    assert!(!damaged);

    let [once, single, uneven] = [hidden(&ways[0]), hidden(&ways[1]), hidden(&ways[2])];
    assert_eq!(once, single);
    assert_eq!(once, uneven);

    let Ok(view) = Dialect::Messages.view(bytes) else { return };
    let body = Bytes::copy_from_slice(bytes);
    for upstream in [Upstream::Invoke, Upstream::Vertex, Upstream::Foundry] {
        let carried = carry(&body, ["interleaved-thinking-2025-05-14"], upstream).expect("it is an object");
        let model = view.model.as_deref().unwrap_or_default();
        let again = uncarry(&carried.body, model, view.stream).expect("it is still an object").body;
        let again = Dialect::Messages
            .view(&again)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&carried.body)));
        assert_eq!((again.model.as_deref(), again.stream), (view.model.as_deref(), view.stream));
        assert_eq!((again.messages, again.max_output), (view.messages, view.max_output));
    }
});
