//! A whole answer, folded from its events.

use super::{ApiFault, Delta, Event, Part, PartHead, Reasoning, StopReason};
use crate::{Usage, estimate::most_tokens};

/// The most parts of one answer that are kept.
const MAX_PARTS: usize = 10_000;

/// An answer, as far as it came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The provider's identifier of it.
    pub id: Option<String>,
    /// The provider's exact model.
    pub model: Option<String>,
    /// What was said, thought and called, in order of their indexes.
    pub parts: Vec<Part>,
    /// The last word on what was used.
    pub usage: Option<Usage>,
    /// Why the model stopped, in our words.
    pub stop: Option<StopReason>,
    /// Why the model stopped, in the provider's word.
    pub stop_said: Option<String>,
    /// The stop sequence that was met.
    pub stop_sequence: Option<String>,
    /// What went wrong.
    pub error: Option<ApiFault>,
    /// Whether it came to its proper end.
    pub complete: bool,
    /// How many things could not be read.
    pub unreadable: u64,
    /// At most so many tokens were in what was seen.
    pub output_tokens_seen: u64,
    /// Whether something was let go because of a limit.
    pub truncated: bool,
    /// Whether anything of an answer came. What comes first may be an error, and then nothing was begun.
    pub begun: bool,
}

impl Answer {
    /// Folds one event. `room` is how many bytes of content may still be kept; what is over is counted and let go.
    pub fn take(&mut self, event: &Event, room: &mut usize) {
        match event {
            Event::Start { id, model } => {
                self.begun = true;
                self.id.clone_from(id);
                self.model.clone_from(model);
            }
            Event::PartStart { index, part } => {
                self.begun = true;
                self.begin(*index, part);
            }
            Event::Delta { index, delta } => self.more(*index, delta, room),
            Event::PartStop { .. } | Event::Ping => {}
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Stop { reason, said, sequence } => {
                self.stop = Some(*reason);
                self.stop_said = Some(said.clone());
                self.stop_sequence.clone_from(sequence);
            }
            Event::Error(fault) => self.error = Some(fault.clone()),
            Event::Unreadable => self.unreadable = self.unreadable.saturating_add(1),
            Event::End => self.complete = true,
        }
    }

    /// Whether the provider worked on the request, whatever came of it: its answer had begun, and no error says that the
    /// request was not taken at all.
    #[must_use]
    pub fn worked_on(&self) -> bool {
        self.begun && !self.error.as_ref().is_some_and(|fault| fault.kind.means_not_taken())
    }

    fn slot(&mut self, index: u32) -> Option<&mut Part> {
        let index = usize::try_from(index).ok().filter(|index| *index < MAX_PARTS)?;
        while self.parts.len() <= index {
            self.parts.push(Part::Text { text: String::new(), cache: None });
        }
        self.parts.get_mut(index)
    }

    fn begin(&mut self, index: u32, part: &PartHead) {
        let made = match part {
            PartHead::Text => Part::Text { text: String::new(), cache: None },
            PartHead::Reasoning { id } => Part::Reasoning(Reasoning { id: id.clone(), ..Reasoning::default() }),
            PartHead::Redacted { data } => {
                Part::Reasoning(Reasoning { signature: Some(data.clone()), redacted: true, ..Reasoning::default() })
            }
            PartHead::ToolCall { id, name, free_form } => {
                self.count(name);
                Part::ToolCall {
                    id: id.clone(),
                    name: name.clone(),
                    input: String::new(),
                    free_form: *free_form,
                    signature: None,
                    cache: None,
                }
            }
            PartHead::Refusal => Part::Refusal(String::new()),
            PartHead::Foreign { value } => {
                self.count(&value.to_string());
                Part::Foreign(value.clone())
            }
        };
        match self.slot(index) {
            Some(slot) => *slot = made,
            None => self.truncated = true,
        }
    }

    fn more(&mut self, index: u32, delta: &Delta, room: &mut usize) {
        let piece = match delta {
            Delta::Text(text) | Delta::Reasoning(text) | Delta::Input(text) => {
                self.count(text);
                text.as_str()
            }
            // Signatures are not tokens that anybody is charged for.
            Delta::Signature(signature) => signature.data(),
            Delta::Citation(_) => return,
        };
        if piece.len() > *room {
            self.truncated = true;
            return;
        }
        *room -= piece.len();
        let Some(part) = self.slot(index) else {
            self.truncated = true;
            return;
        };
        match (part, delta) {
            (Part::Text { text, .. } | Part::Refusal(text), Delta::Text(more)) => text.push_str(more),
            (Part::Reasoning(reasoning), Delta::Reasoning(more)) => reasoning.text.push_str(more),
            (Part::Reasoning(reasoning), Delta::Signature(signed)) => reasoning.signature = Some(signed.clone()),
            (Part::ToolCall { input, .. }, Delta::Input(more)) => input.push_str(more),
            (Part::ToolCall { signature, .. }, Delta::Signature(signed)) => *signature = Some(signed.clone()),
            // A provider that says one thing and sends another: counted above, kept nowhere.
            _ => {}
        }
    }

    fn count(&mut self, text: &str) {
        self.output_tokens_seen = self.output_tokens_seen.saturating_add(most_tokens(text));
    }
}
