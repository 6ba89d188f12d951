//! Requests, answers and carriers of this dialect.

mod answers;
mod carriers;
mod requests;

use serde_json::Value;

use crate::{
    Dialect, Framing,
    eventstream::{Reader, event},
    neutral::{Answer, Event},
};

/// Frames of a stream: each event with its type.
fn frames(events: &[(&str, Value)]) -> Vec<u8> {
    events.iter().flat_map(|(kind, payload)| event(kind, payload.to_string().as_bytes())).collect()
}

/// What a client reads: the types and payloads.
fn unframed(bytes: &[u8]) -> Vec<(String, Value)> {
    let (mut reader, mut seen) = (Reader::default(), Vec::new());
    reader
        .push(bytes, |frame| {
            let kind = frame.text(":event-type").or(frame.text(":exception-type")).unwrap().to_owned();
            seen.push((kind, serde_json::from_slice(&frame.payload).unwrap()));
        })
        .unwrap();
    reader.finish().unwrap();
    seen
}

fn decoded<'a>(framing: Framing, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut decoder, mut events) = (Dialect::Converse.decoder(framing), Vec::new());
    for chunk in chunks {
        decoder.push(chunk, &mut events);
    }
    decoder.finish(true, &mut events);
    events
}

fn answer(events: &[Event]) -> Answer {
    let (mut answer, mut room) = (Answer::default(), 1_000_000);
    events.iter().for_each(|event| answer.take(event, &mut room));
    answer
}
