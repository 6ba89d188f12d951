//! Looking at what came of a cell.

use std::{fs, process::ExitStatus};

use super::{AFTER, House, NOTES, Report, Spec};
use crate::fakes::Fake;

/// Whether the client did its work.
pub(super) fn at_client(spec: &Spec, status: Option<ExitStatus>, report: &mut Report) {
    match status {
        None => report.problems.push(format!("the client was not done after {} seconds", spec.seconds)),
        Some(status) if !status.success() => report.problems.push(format!("the client ended with {status}")),
        Some(_) => {}
    }
    let notes = fs::read_to_string(spec.work.join(NOTES)).unwrap_or_default();
    if notes != AFTER {
        report.problems.push(format!("{NOTES} was not changed: {notes:?}"));
    }
}

/// Whether the provider was content, and every turn was taken.
pub(super) fn at_provider(spec: &Spec, fake: &Fake, report: &mut Report) {
    let exchanges = fake.exchanges();
    for seen in &exchanges {
        // Some clients look which models there are by asking for one after the other. A gateway refuses those itself.
        let looks = !spec.through && seen.status == 404 && seen.model.as_deref() != Some(&spec.upstream);
        if let Some(why) = seen.refusal.as_ref().filter(|_| !looks) {
            report.problems.push(format!("the provider refused {} {}: {why}", seen.method, seen.target));
        }
    }
    report.problems.truncate(4);
    for seen in &exchanges {
        *report.calls.entry(seen.operation.to_owned()).or_default() += 1;
    }
    let turns = exchanges.iter().filter(|seen| seen.usage.is_some()).count();
    if turns < spec.turns {
        report.problems.push(format!("the provider was asked for {turns} turns instead of {}", spec.turns));
    }
}

/// Whether the gateway told the truth about it.
pub(super) fn at_gateway(_spec: &Spec, _fake: &Fake, _house: House, _report: &mut Report) {}
