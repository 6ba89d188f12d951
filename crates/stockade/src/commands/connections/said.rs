//! Connections in words: lines that fit a terminal of 100 columns, and why something was refused.
//!
//! Names of hosts, refs and repositories come from whoever is governed. *Invariant:* nothing of that is written here but through
//! [`flat`], and nothing makes a second line.

use stockade_api::{
    domain::{Answer, ids::RunId},
    http::{Connection, ConnectionSum, ConnectionSums},
};

use super::super::time;
use crate::output::printable;

/// What stands in the second column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// The end of the run's identifier.
    Runs,
    /// Nothing: all are of one run, whose hosts get the room.
    OneRun,
    /// The whole identifier, for whoever wants to look at one.
    Ids,
}

/// How many characters of a run's identifier are shown: those that are not the time.
const RUN_TAIL: usize = 6;
/// The column of hosts and repositories.
const TO: usize = 2;
/// So many hosts are named where they are summed up.
const MAX_NAMED: usize = 5;

impl Columns {
    /// The names of the columns.
    pub fn head(self) -> String {
        let second = match self {
            Self::Runs => "RUN",
            Self::OneRun => "",
            Self::Ids => "ID",
        };
        self.put(["WHEN", second, "TO", "WHAT", "ANSWER", "OUT/IN", "TOOK"].map(str::to_owned))
    }

    /// One connection.
    pub fn line(self, connection: &Connection) -> String {
        let second = match self {
            Self::Runs => {
                let run = connection.run.to_string();
                format!("…{}", run.get(run.len().saturating_sub(RUN_TAIL)..).unwrap_or_default())
            }
            Self::OneRun => String::new(),
            Self::Ids => connection.id.to_string(),
        };
        let when: String = time(connection.opened_at).chars().skip("2026-".len()).collect();
        let bytes = match (connection.bytes_out, connection.bytes_in) {
            (0, 0) => String::new(),
            (out, back) => format!("{}/{}", short(out), short(back)),
        };
        self.put([when, second, target(connection), what(connection), answer(connection), bytes, took(connection)])
    }

    fn put(self, cells: [String; 7]) -> String {
        let widths = match self {
            Self::Runs => [14, RUN_TAIL + 1, 25, 13, 12, 11, 6],
            Self::OneRun => [14, 0, 33, 14, 12, 11, 6],
            Self::Ids => [14, 30, 25, 13, 12, 11, 6],
        };
        let mut line = String::new();
        for (at, (cell, width)) in cells.iter().zip(widths).enumerate().filter(|(_, (_, width))| *width > 0) {
            let cell = fitted(cell, width, if at == TO { Keep::End } else { Keep::Beginning });
            line.push_str(&format!("{cell:<width$}  "));
        }
        line.trim_end().to_owned()
    }
}

/// Where it went, as far as it is known.
pub fn target(connection: &Connection) -> String {
    let host = &connection.host;
    match connection.port {
        _ if connection.action == "git.push" || connection.action == "git.fetch" => {
            connection.repository.clone().unwrap_or_else(|| host.clone())
        }
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host.clone(),
    }
}

/// What was spoken or done.
pub fn what(connection: &Connection) -> String {
    let some = |text: &Option<String>| text.clone().unwrap_or_default();
    match connection.action.as_str() {
        "connection.open" if connection.inspected == Some(true) => format!("{} inspected", some(&connection.protocol)),
        "connection.open" => some(&connection.protocol),
        "request.send" => match &connection.upgrade {
            Some(upgrade) => upgrade.clone(),
            None => some(&connection.method),
        },
        "credential.use" => format!("credential {}", some(&connection.credential)),
        "git.fetch" => "fetch".to_owned(),
        "git.push" => format!("push {}", some(&connection.git_ref).trim_start_matches("refs/heads/")),
        "packet_nowhere" => format!("{} packet", some(&connection.protocol)),
        "names_crowded" | "names_full" => "names".to_owned(),
        other => other.to_owned(),
    }
}

/// How it ended, or that it has not.
pub fn answer(connection: &Connection) -> String {
    match (connection.http_status, &connection.code) {
        (Some(status), _) => format!("{} {status}", connection.status),
        (None, Some(code)) => format!("{} {code}", connection.status),
        (None, None) => connection.status.clone(),
    }
}

/// How long it took, once it is over.
pub fn took(connection: &Connection) -> String {
    let Some(closed) = connection.closed_at.filter(|_| connection.closed.is_some()) else { return String::new() };
    match closed.ms_since(connection.opened_at) {
        ms @ 0..1_000 => format!("{ms}ms"),
        ms @ 1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        ms => format!("{}m{}s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// The answer of the policy, and which part of it.
pub fn decided(connection: &Connection) -> String {
    match (&connection.policy, &connection.title) {
        (Some(policy), Some(title)) => format!("{} by {policy}: {title}", connection.decision),
        _ if connection.decision == Answer::Deny => format!("{}: {}", connection.decision, missing(connection)),
        _ => connection.decision.to_string(),
    }
}

/// Why it was not done: which rule refuses it, or which is missing. Nothing if it was done.
pub fn why(connection: &Connection) -> Option<String> {
    let why = match (connection.decision, &connection.policy, connection.approval) {
        (Answer::Allow, ..) => return None,
        (Answer::Ask, _, Some(approval)) if connection.status == "asked" => {
            format!("waits for a person: stockade approvals show {approval}")
        }
        (Answer::Ask, ..) => return None,
        (Answer::Deny, Some(policy), _) => {
            let title = connection.title.as_deref().unwrap_or(policy);
            // What we refuse ourselves no policy can allow: our words have a colon.
            if policy.contains(':') { format!("refused: {title}") } else { format!("refused by {policy}: {title}") }
        }
        (Answer::Deny, None, _) => missing(connection),
    };
    let left_out = match connection.left_out {
        0 => String::new(),
        count => format!(" (and {count} before it)"),
    };
    Some(flat(&format!("{why}{left_out}")))
}

fn missing(connection: &Connection) -> String {
    let to = target(connection);
    match connection.action.as_str() {
        "packet_nowhere" => "no such packet goes anywhere, only streams and questions for names".to_owned(),
        "names_crowded" => format!("too many names below {to} were asked for: no more of them are given an address"),
        "names_full" => "too many names were asked for: no more of them are given an address".to_owned(),
        "request.send" => format!("no rule allows {} to {to}", what(connection)),
        "credential.use" => format!("no rule allows to put in {} for {to}", what(connection)),
        "git.fetch" => format!("no rule allows to fetch from {to}"),
        "git.push" => format!("no rule allows to {} in {to}", what(connection)),
        _ => format!("no rule names {to}"),
    }
}

/// Whether a rule that can be proposed would allow it.
pub fn can_be_learnt(connection: &Connection) -> bool {
    connection.decision == Answer::Deny && connection.policy.is_none() && !connection.action.contains('_')
}

/// The command that proposes rules for what was refused.
pub fn propose(run: RunId) -> String {
    format!("propose rules for what was refused: stockade environments learn {run}")
}

/// Whether two say the same but for the time.
pub fn is_same(one: &Connection, other: &Connection) -> bool {
    let key = |c: &Connection| (c.run, c.decision, c.status.clone(), why(c));
    key(one) == key(other)
}

/// What whoever follows a run is told of it, in one line; nothing where the run's events say it already.
pub fn happened(connection: &Connection) -> Option<String> {
    Some(flat(&match (connection.action.as_str(), connection.status.as_str()) {
        // The question, and its answer, are events of the run.
        (_, "asked" | "granted") => return None,
        (_, "refused") if connection.decision == Answer::Ask => return None,
        ("packet_nowhere", _) => format!("✗ {}: {}", deed(connection), why(connection)?),
        // It has the name already.
        (_, "refused") if connection.policy.is_none() => format!("✗ {}", why(connection)?),
        (_, "refused") => format!("✗ {}: {}", deed(connection), why(connection)?),
        // A push is told when it is over.
        ("git.push", "open") => return None,
        ("git.push", "ok") => format!("→ {}: ok", deed(connection)),
        ("git.push", _) => format!("✗ {}: {}", deed(connection), answer(connection)),
        // It was allowed, and nobody was reached. How a conversation ends is for whoever looks.
        (_, "error") if connection.address.is_none() => format!("✗ {}: {}", deed(connection), answer(connection)),
        _ => format!("→ {}", deed(connection)),
    }))
}

/// What was done, in a few words.
fn deed(connection: &Connection) -> String {
    let (what, to) = (what(connection), target(connection));
    match connection.action.as_str() {
        "connection.open" if what.is_empty() => format!("connection to {to}"),
        "connection.open" => format!("connection to {to}, {what}"),
        "request.send" | "git.push" | "packet_nowhere" => format!("{what} to {to}"),
        "git.fetch" => format!("{what} from {to}"),
        "credential.use" => format!("{what} put in for {to}"),
        _ => format!("{what} {to}"),
    }
}

/// What a run did, for a look at the run.
pub fn summary(sums: &ConnectionSums, run: RunId) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let of = |action: &str, decision| {
        sums.all.iter().filter(move |sum| sum.action == action && sum.decision == decision).collect::<Vec<_>>()
    };
    let opened = of("connection.open", Answer::Allow);
    let hosts = sums.hosts.iter().filter(|sum| sum.action == "connection.open" && sum.decision == Answer::Allow);
    if !opened.is_empty() {
        let total = |of: fn(&ConnectionSum) -> u64| opened.iter().map(|sum| of(sum)).sum::<u64>();
        lines.push((
            "way out",
            format!(
                "{} to {}, {} out, {} in",
                counted(total(|sum| sum.times), "connection"),
                counted(hosts.count() as u64, "host"),
                short(total(|sum| sum.bytes_out)),
                short(total(|sum| sum.bytes_in))
            ),
        ));
    }
    for push in of("git.push", Answer::Allow) {
        lines.push(("pushes", push.times.to_string()));
    }
    let refused: u64 = sums
        .all
        .iter()
        .filter(|sum| sum.decision == Answer::Deny)
        .map(|sum| sum.times.saturating_add(sum.left_out))
        .sum();
    if refused > 0 {
        let denied: Vec<&ConnectionSum> = sums.hosts.iter().filter(|sum| sum.decision == Answer::Deny).collect();
        let mut names: Vec<String> = Vec::new();
        for sum in &denied {
            let name = match sum.port {
                Some(port) => format!("{}:{port}", sum.host),
                None => sum.host.clone(),
            };
            if !name.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        let more = names.len().saturating_sub(MAX_NAMED);
        names.truncate(MAX_NAMED);
        let mut line = format!("{refused}: {}", names.join(", "));
        if more > 0 {
            line.push_str(&format!(" and {more} more"));
        }
        lines.push(("refused", flat(&line)));
        lines.push(("", format!("stockade connections list --refused --run {run}")));
    }
    lines
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// On one line, with nothing that a terminal would do.
pub fn flat(text: &str) -> String {
    printable(text).replace('\n', "\\n").replace('\t', " ")
}

/// Bytes, to about two digits.
fn short(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    if bytes < 1_000 {
        return bytes.to_string();
    }
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1_000, unit + 1);
    }
    let unit = UNITS.get(unit).copied().unwrap_or_default();
    if tenths < 100 { format!("{}.{}{unit}", tenths / 10, tenths % 10) } else { format!("{}{unit}", tenths / 10) }
}

/// What stays of a text that is too wide.
#[derive(Debug, Clone, Copy)]
enum Keep {
    Beginning,
    /// It tells hosts and repositories apart.
    End,
}

/// At most so wide.
fn fitted(text: &str, width: usize, keep: Keep) -> String {
    let text = flat(text);
    let over = text.chars().count().saturating_sub(width);
    match keep {
        _ if over == 0 => text,
        Keep::Beginning => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        Keep::End => ['…'].into_iter().chain(text.chars().skip(over + 1)).collect(),
    }
}

#[cfg(test)]
mod tests;
