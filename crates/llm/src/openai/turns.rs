//! A conversation in the order that OpenAI wants: what came of a call directly after the message that made it.

use std::collections::{HashMap, VecDeque};

use crate::neutral::{Part, Role, Turn};

/// A piece of the conversation.
#[derive(Debug, PartialEq)]
pub(crate) enum Step<'a> {
    /// Instructions.
    System(Vec<&'a Part>),
    /// What the person said. Results of calls that are not in the conversation (any more) are among it.
    User(Vec<&'a Part>),
    /// What the model said and called.
    Assistant(Vec<&'a Part>),
    /// What came of its calls, in their order: the call's identifier, and the result if there is one.
    Results(Vec<(&'a str, Option<&'a Part>)>),
}

/// What is said of a call whose result is not in the conversation: providers refuse a call without one.
pub(crate) const MISSING: &str = "There is no result of this call.";

/// The conversation: turns of one role are one step, results follow their calls.
pub(crate) fn steps(turns: &[Turn]) -> Vec<Step<'_>> {
    let mut results: HashMap<&str, VecDeque<(usize, &Part)>> = HashMap::new();
    for (at, turn) in turns.iter().enumerate().filter(|(_, turn)| turn.role != Role::Assistant) {
        for part in &turn.parts {
            if let Part::ToolResult { id, .. } = part {
                results.entry(id).or_default().push_back((at, part));
            }
        }
    }
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut at = 0;
    while let Some(first) = turns.get(at) {
        let group: &[Turn] = turns.get(at..).unwrap_or_default();
        let len = group.iter().take_while(|turn| turn.role == first.role).count();
        let parts = || group.iter().take(len).flat_map(|turn| &turn.parts);
        match first.role {
            Role::System => steps.push(Step::System(parts().collect())),
            Role::Assistant => {
                steps.push(Step::Assistant(parts().collect()));
                let called = parts().filter_map(call);
                let found: Vec<_> = called.map(|id| (id, answer(id, at + len, &mut results))).collect();
                if !found.is_empty() {
                    steps.push(Step::Results(found));
                }
            }
            Role::User => {
                let left: Vec<&Part> = parts().filter(|part| !taken(part, &mut results)).collect();
                match steps.last_mut() {
                    _ if left.is_empty() => {}
                    Some(Step::User(parts)) => parts.extend(left),
                    _ => steps.push(Step::User(left)),
                }
            }
        }
        at += len;
    }
    steps
}

type Waiting<'a> = HashMap<&'a str, VecDeque<(usize, &'a Part)>>;

fn call(part: &Part) -> Option<&str> {
    match part {
        Part::ToolCall { id, .. } => Some(id),
        _ => None,
    }
}

/// The first result of this call that stands after it.
fn answer<'a>(id: &str, after: usize, results: &mut Waiting<'a>) -> Option<&'a Part> {
    let waiting = results.get_mut(id)?;
    while waiting.front().is_some_and(|(at, _)| *at < after) {
        waiting.pop_front();
    }
    waiting.pop_front().map(|(_, part)| part)
}

/// Whether this is a result that stands after its call already. One that is not, is not waited for any more.
fn taken(part: &Part, results: &mut Waiting<'_>) -> bool {
    let Part::ToolResult { id, .. } = part else { return false };
    let Some(waiting) = results.get_mut(id.as_str()) else { return true };
    let Some(at) = waiting.iter().position(|(_, other)| std::ptr::eq(*other, part)) else { return true };
    waiting.remove(at);
    false
}

/// The text of these parts, if there is nothing else among them; pieces are paragraphs.
pub(crate) fn joined<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Option<String> {
    let mut text = String::new();
    for part in parts {
        let Part::Text { text: more, .. } = part else { return None };
        if !text.is_empty() && !more.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(more);
    }
    Some(text)
}

/// What the model said, as one text: pieces that followed each other directly belong together.
pub(crate) fn said(parts: &[&Part]) -> String {
    let (mut text, mut apart) = (String::new(), false);
    for part in parts {
        let Part::Text { text: more, .. } = part else {
            apart = true;
            continue;
        };
        if apart && !text.is_empty() && !more.is_empty() {
            text.push_str("\n\n");
        }
        apart = false;
        text.push_str(more);
    }
    text
}

/// How a result of a call that is not there is told.
pub(crate) fn orphan(name: Option<&str>, text: &str) -> String {
    format!("[What the tool {} gave earlier]\n{text}", name.unwrap_or("that was called"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text { text: text.to_owned(), cache: None }
    }

    fn call(id: &str) -> Part {
        Part::ToolCall {
            id: id.to_owned(),
            name: "f".to_owned(),
            input: "{}".to_owned(),
            free_form: false,
            signature: None,
            cache: None,
        }
    }

    fn result(id: &str, said: &str) -> Part {
        Part::ToolResult { id: id.to_owned(), name: None, parts: vec![text(said)], is_error: false, cache: None }
    }

    fn told(turns: &[Turn]) -> Vec<String> {
        let word = |part: &&Part| match part {
            Part::Text { text, .. } => text.clone(),
            Part::ToolCall { id, .. } => format!("call {id}"),
            Part::ToolResult { id, parts, .. } => format!("{id}={}", joined(parts).unwrap()),
            _ => "?".to_owned(),
        };
        let words = |parts: &[&Part]| parts.iter().map(word).collect::<Vec<_>>().join(",");
        steps(turns)
            .iter()
            .map(|step| match step {
                Step::System(parts) => format!("system {}", words(parts)),
                Step::User(parts) => format!("user {}", words(parts)),
                Step::Assistant(parts) => format!("assistant {}", words(parts)),
                Step::Results(found) => {
                    let words = |(id, part): &(&str, Option<&Part>)| part.map_or(format!("{id}?"), |part| word(&part));
                    format!("results {}", found.iter().map(words).collect::<Vec<_>>().join(","))
                }
            })
            .collect()
    }

    fn turn(role: Role, parts: Vec<Part>) -> Turn {
        Turn { role, parts }
    }

    #[test]
    fn row_18_results_of_parallel_calls_follow_them_in_their_order() {
        use Role::{Assistant, User};
        let turns = [
            turn(User, vec![text("go")]),
            turn(Assistant, vec![text("both"), call("a")]),
            turn(Assistant, vec![call("b")]),
            turn(User, vec![text("by the way"), result("b", "2")]),
            turn(User, vec![result("a", "1"), text("and?")]),
        ];
        assert_eq!(
            told(&turns),
            ["user go", "assistant both,call a,call b", "results a=1,b=2", "user by the way,and?"]
        );
    }

    #[test]
    fn identifiers_that_come_again_and_results_without_calls_find_their_place() {
        use Role::{Assistant, System, User};
        let turns = [
            turn(User, vec![result("x", "old"), text("go")]),
            turn(Assistant, vec![call("x")]),
            turn(User, vec![result("x", "1")]),
            turn(Assistant, vec![call("x")]),
            turn(System, vec![text("note")]),
            turn(User, vec![result("x", "2")]),
            turn(Assistant, vec![call("lost")]),
        ];
        assert_eq!(
            told(&turns),
            [
                "user x=old,go",
                "assistant call x",
                "results x=1",
                "assistant call x",
                "results x=2",
                "system note",
                "assistant call lost",
                "results lost?"
            ]
        );
    }
}
