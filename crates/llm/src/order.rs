//! The order that most providers want: turns alternate, the person's first, and results directly after their calls.
//!
//! Clients of other dialects give results where they like, leave some out, and begin with whomever they like.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::neutral::{Part, Role, Turn};

/// What stands in a turn.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// A part as it is.
    Part(&'a Part),
    /// Text of an instruction in the middle of a conversation.
    Instruction(&'a str),
    /// The result of this call, which was never given.
    Missing { id: &'a str, name: &'a str },
    /// What a result says whose call is nowhere.
    Orphan(&'a [Part]),
    /// The person's first turn, where the conversation began with the model's.
    Opening,
}

/// What is said in place of a person's first turn.
pub(crate) const OPENING: &str = "(The conversation goes on.)";
/// What is said in place of a result.
pub(crate) const MISSING: &str = "There is no result of this call.";

/// A turn of the person or of the model.
#[derive(Debug)]
pub(crate) struct Ordered<'a> {
    pub assistant: bool,
    pub pieces: Vec<Piece<'a>>,
}

/// The parts of instructions before the conversation.
pub(crate) fn leading(turns: &[Turn]) -> impl Iterator<Item = &Part> {
    turns.iter().take_while(|turn| turn.role == Role::System).flat_map(|turn| &turn.parts)
}

/// An instruction in the middle of a conversation, as the person says it.
pub(crate) fn instruction(text: &str) -> String {
    format!("<system>\n{text}\n</system>")
}

/// The conversation after the leading instructions, in order.
pub(crate) fn ordered(turns: &[Turn]) -> Vec<Ordered<'_>> {
    let mut results: BTreeMap<&str, VecDeque<&Part>> = BTreeMap::new();
    for part in turns.iter().flat_map(|turn| &turn.parts) {
        if let Part::ToolResult { id, .. } = part {
            results.entry(id).or_default().push_back(part);
        }
    }
    let mut order = Order { out: Vec::new(), open: Vec::new(), results, placed: BTreeSet::new() };
    for turn in turns.iter().skip_while(|turn| turn.role == Role::System) {
        let assistant = turn.role == Role::Assistant;
        if !assistant && !turn.parts.is_empty() {
            order.answer();
        }
        for part in &turn.parts {
            order.part(turn.role, assistant, part);
        }
    }
    order.out
}

struct Order<'a> {
    out: Vec<Ordered<'a>>,
    /// Calls of the model's last turn, which the next turn must answer first.
    open: Vec<(&'a str, &'a str)>,
    results: BTreeMap<&'a str, VecDeque<&'a Part>>,
    /// Results that stand where their calls were.
    placed: BTreeSet<*const Part>,
}

impl<'a> Order<'a> {
    fn part(&mut self, role: Role, assistant: bool, part: &'a Part) {
        let piece = match part {
            Part::ToolResult { .. } if self.placed.contains(&std::ptr::from_ref(part)) => return,
            Part::ToolResult { id, parts, .. } => {
                if let Some(left) = self.results.get_mut(id.as_str()) {
                    left.retain(|other| !std::ptr::eq(*other, part));
                }
                Piece::Orphan(parts)
            }
            Part::Text { text, .. } if role == Role::System => Piece::Instruction(text),
            part => Piece::Part(part),
        };
        if let Part::ToolCall { id, name, .. } = part {
            self.open.push((id, name));
        }
        self.add(assistant, piece);
    }

    fn add(&mut self, assistant: bool, piece: Piece<'a>) {
        if self.out.is_empty() && assistant {
            self.out.push(Ordered { assistant: false, pieces: vec![Piece::Opening] });
        }
        match self.out.last_mut() {
            Some(last) if last.assistant == assistant => last.pieces.push(piece),
            _ => self.out.push(Ordered { assistant, pieces: vec![piece] }),
        }
    }

    /// The results of the calls that are open.
    fn answer(&mut self) {
        for (id, name) in std::mem::take(&mut self.open) {
            let piece = match self.results.get_mut(id).and_then(VecDeque::pop_front) {
                Some(part) => {
                    self.placed.insert(std::ptr::from_ref(part));
                    Piece::Part(part)
                }
                None => Piece::Missing { id, name },
            };
            self.add(false, piece);
        }
    }
}
