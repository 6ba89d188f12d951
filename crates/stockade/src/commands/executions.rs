//! What programs were started in environments. How many, the server knows; which, is content, and read from the site.

use std::collections::BTreeMap;

use serde::Serialize;
use stockade_api::{
    client::Client,
    domain::{
        ContentRef, EventKind, RunEvent,
        ids::{EnvironmentId, RunId},
    },
    http::ListEvents,
    site::{StartedProgram, StartedPrograms},
};

use super::{Context, is_unreadable, parse, site, time};
use crate::{failure::Outcome, output::table};

/// So many events are asked for at once.
const PAGE: u32 = 500;
/// So many different arguments are named with a program.
const MAX_EXAMPLES: usize = 4;
/// So much of them is in a table, in characters.
const SHOWN: usize = 60;
/// So many calls are named with a program.
const MAX_CALLS: usize = 8;

/// What is shown.
#[derive(Debug, Default, Serialize)]
struct Shown {
    /// Starts of programs, those below included.
    starts: u64,
    /// Of them, those of programs for which there was no room.
    left_out: u64,
    /// Starts that nobody could note.
    lost: u64,
    /// Whether a guest ended before all that it had noted was fetched.
    incomplete: bool,
    /// The programs, most often started first; absent where what is sealed cannot be read from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<Vec<StartedProgram>>,
}

pub async fn main(context: &Context, client: &Client, of: &str) -> Outcome {
    let (run, only): (RunId, Option<EnvironmentId>) = if of.starts_with("run_") {
        (parse("run", of)?, None)
    } else {
        let environment = client.environment(parse("environment", of)?).await?;
        (environment.run, Some(environment.id))
    };
    let mut shown = Shown::default();
    let mut contents = Vec::new();
    let mut after = 0;
    loop {
        let page = client.events(run, &ListEvents { after, limit: Some(PAGE), wait_ms: 0 }).await?;
        if page.items.is_empty() {
            break;
        }
        after = page.after;
        contents.extend(page.items.iter().filter_map(|event| shown.add(event, only)));
    }
    match read(client, run, &contents).await {
        Ok(programs) => shown.programs = Some(programs),
        Err(failure) if is_unreadable(&failure) => {
            failure.tell(context.output.json);
            context.output.remark("which programs they were stays sealed; how many, the control plane knows");
        }
        Err(failure) => return Err(failure),
    }
    context.output.show(&shown, people)
}

impl Shown {
    /// Counts what an event says, and gives what it holds of content.
    fn add(&mut self, event: &RunEvent, only: Option<EnvironmentId>) -> Option<ContentRef> {
        let EventKind::Executions { environment, starts, left_out, lost, incomplete, content, .. } = &event.event
        else {
            return None;
        };
        if only.is_some_and(|only| only != *environment) {
            return None;
        }
        self.starts = self.starts.saturating_add(*starts);
        self.left_out = self.left_out.saturating_add(*left_out);
        self.lost = self.lost.saturating_add(*lost);
        self.incomplete |= *incomplete;
        Some(*content)
    }
}

async fn read(client: &Client, run: RunId, contents: &[ContentRef]) -> Outcome<Vec<StartedProgram>> {
    let mut programs: BTreeMap<String, StartedProgram> = BTreeMap::new();
    if contents.is_empty() {
        return Ok(Vec::new());
    }
    let site = site(client, run).await?;
    for content in contents {
        let bytes = site.content(run, content).await?;
        // What was sealed is the runner's own form; what does not read is another version's.
        let Ok(told) = serde_json::from_slice::<StartedPrograms>(&bytes) else { continue };
        told.programs.into_iter().for_each(|program| merge(&mut programs, program));
    }
    let mut programs: Vec<_> = programs.into_values().collect();
    programs.sort_by(|a, b| b.starts.cmp(&a.starts).then_with(|| a.path.cmp(&b.path)));
    Ok(programs)
}

fn merge(programs: &mut BTreeMap<String, StartedProgram>, program: StartedProgram) {
    match programs.get_mut(&program.path) {
        Some(known) => {
            known.starts = known.starts.saturating_add(program.starts);
            known.first_at = known.first_at.min(program.first_at);
            known.last_at = known.last_at.max(program.last_at);
            for given in program.arguments {
                if known.arguments.len() < MAX_EXAMPLES && !known.arguments.contains(&given) {
                    known.arguments.push(given);
                }
            }
            for call in program.calls {
                if known.calls.len() < MAX_CALLS && !known.calls.contains(&call) {
                    known.calls.push(call);
                }
            }
        }
        None => {
            programs.insert(program.path.clone(), program);
        }
    }
}

fn people(shown: &Shown) -> String {
    let mut lines = Vec::new();
    if let Some(programs) = &shown.programs {
        lines.push(table(
            ["starts", "program", "for example", "first (UTC)", "last (UTC)"],
            programs.iter().map(|program| {
                let example: String = program.arguments.iter().take(1).flatten().cloned().collect::<Vec<_>>().join(" ");
                let example = example.chars().take(SHOWN).collect();
                let (first, last) = (time(program.first_at), time(program.last_at));
                [program.starts.to_string(), program.path.clone(), example, first, last]
            }),
        ));
    }
    lines.push(format!("{} starts in all", shown.starts));
    if shown.left_out > 0 {
        lines.push(format!("{} of them of further programs, which are not named", shown.left_out));
    }
    if shown.lost > 0 {
        lines.push(format!("{} more could not be noted: they came faster than they are fetched", shown.lost));
    }
    if shown.incomplete {
        lines.push(
            "an environment's guest ended before all of its notes were fetched: there may have been more".to_owned(),
        );
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use stockade_api::domain::Timestamp;

    use super::*;

    fn program(path: &str, starts: u64, at: i64) -> StartedProgram {
        let at = Timestamp(at);
        StartedProgram {
            path: path.to_owned(),
            starts,
            first_at: at,
            last_at: at,
            arguments: vec![vec!["-c".to_owned()]],
            calls: Vec::new(),
        }
    }

    #[test]
    fn what_was_told_at_different_times_is_one_list() {
        let mut programs = BTreeMap::new();
        for one in [program("/bin/sh", 2, 5), program("/bin/ls", 1, 6), program("/bin/sh", 3, 4)] {
            merge(&mut programs, one);
        }
        let sh = &programs["/bin/sh"];
        assert_eq!((programs.len(), sh.starts, sh.first_at, sh.last_at), (2, 5, Timestamp(4), Timestamp(5)));
    }

    #[test]
    fn what_is_missing_is_said() {
        let shown = Shown { starts: 9, left_out: 2, lost: 3, incomplete: true, programs: None };
        let said = people(&shown);
        for word in ["9 starts in all", "2 of them", "3 more", "there may have been more"] {
            assert!(said.contains(word), "{said}");
        }
        let hostile = Shown { programs: Some(vec![program("/tmp/\u{1b}[2J", 1, 0)]), ..Shown::default() };
        assert!(!people(&hostile).contains('\u{1b}'));
    }
}
