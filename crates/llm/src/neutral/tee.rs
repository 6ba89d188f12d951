//! Reads a copy of an answer in any dialect, for usage, content and the end.

use super::{Answer, Decode, Event};

/// What reads the copy. It returns nothing while it reads, so it can neither delay, change nor fail what is relayed.
#[derive(Debug)]
pub struct Tee {
    decoder: Box<dyn Decode>,
    answer: Answer,
    room: usize,
    events: Vec<Event>,
}

impl Tee {
    /// A tee that keeps at most so many bytes of content.
    #[must_use]
    pub fn new(decoder: Box<dyn Decode>, limit: usize) -> Self {
        Self { decoder, answer: Answer::default(), room: limit, events: Vec::new() }
    }

    /// Takes a copy of the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes, &mut self.events);
        self.fold();
    }

    /// At most so many tokens were seen so far.
    #[must_use]
    pub const fn output_tokens_seen(&self) -> u64 {
        self.answer.output_tokens_seen
    }

    /// What was seen. `ended` says whether the bytes came to the end that the transport promised.
    #[must_use]
    pub fn finish(mut self, ended: bool) -> Answer {
        self.decoder.finish(ended, &mut self.events);
        self.fold();
        self.answer
    }

    fn fold(&mut self) {
        for event in self.events.drain(..) {
            self.answer.take(&event, &mut self.room);
        }
    }
}
