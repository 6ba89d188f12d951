//! Looking at what came of a cell.

use std::{fs, process::ExitStatus};

use super::{
    AFTER, House, NOTES, Report, Spec,
    house::{PRICES, Passed},
};
use crate::fakes::{Exchange, Fake};

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

/// Whether the gateway told the truth about it, and kept all of it.
pub(super) fn at_gateway(spec: &Spec, fake: &Fake, house: &House, report: &mut Report) {
    let passed = house.passed();
    report.refused = refused(&passed, fake);
    if report.refused.is_some() {
        // What the client could not do then is no fault of its own.
        report.problems.clear();
    }
    let calls = match house.calls() {
        Ok(calls) => calls,
        Err(error) => {
            report.problems.push(format!("the books: {error:#}"));
            return;
        }
    };
    report.cost = calls.iter().map(|call| call.cost).sum();
    let asked: Vec<Exchange> = fake.exchanges().into_iter().filter(|seen| seen.method == "POST").collect();
    if calls.len() != asked.len() {
        report.problems.push(format!("{} calls reached the provider, {} have a record", asked.len(), calls.len()));
    }
    let mut left = calls;
    for seen in &asked {
        let Some(at) = left.iter().position(|call| call.request == seen.body) else {
            report.problems.push(format!("no record holds the request that the provider saw at {}", seen.target));
            continue;
        };
        let call = left.swap_remove(at);
        if call.answer != seen.answer {
            report.problems.push(format!(
                "the record of {} holds {} bytes of the answer's {}",
                seen.target,
                call.answer.len(),
                seen.answer.len()
            ));
        }
        let Some(usage) = seen.usage else { continue };
        let wanted = stockade_domain::Usage {
            input_tokens: usage.input + usage.cache_write,
            output_tokens: usage.output,
            cache_read_tokens: usage.cache_read,
            ..stockade_domain::Usage::default()
        };
        let (input, cached, output) = PRICES;
        let number = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let cost = 1_000
            * (number(wanted.input_tokens) * input
                + number(wanted.cache_read_tokens) * cached
                + number(wanted.output_tokens) * output);
        if call.usage != wanted {
            report.problems.push(format!("the record says {:?} instead of {wanted:?}", call.usage));
        } else if call.cost != cost {
            report.problems.push(format!("the record says {} nano-dollars instead of {cost}", call.cost));
        } else if call.outcome != "ok" {
            report.problems.push(format!("the record says that the call ended with {}", call.outcome));
        }
    }
    // Of a client that did not ask for the usage of a stream, the gateway asks for it and keeps it from it.
    let added = asked.iter().any(|seen| holds(&seen.body, USAGE_ASKED))
        && !passed.iter().any(|passed| holds(&passed.request, "stream_options"));
    let asked: Vec<Exchange> = if added { asked.iter().map(without_usage).collect() } else { asked };
    if spec.same_request {
        let strangers =
            asked.iter().filter(|seen| !passed.iter().any(|passed| same_but_model(spec, &passed.request, &seen.body)));
        match strangers.count() {
            0 if added => {}
            0 => report.same.push("requests".to_owned()),
            count => report.problems.push(format!("{count} requests are not the client's bytes")),
        }
    }
    if spec.same_answer {
        let strangers = asked.iter().filter(|seen| !passed.iter().any(|passed| passed.answer == seen.answer));
        match strangers.count() {
            0 if added => {}
            0 => report.same.push("answers".to_owned()),
            count => report.problems.push(format!("{count} answers are not the provider's bytes")),
        }
    }
    report.problems.dedup();
    report.problems.truncate(6);
}

/// How the gateway asks.
const USAGE_ASKED: &str = "\"stream_options\":{\"include_usage\":true},";

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// An exchange as it had been without the gateway's asking.
fn without_usage(seen: &Exchange) -> Exchange {
    let body = String::from_utf8_lossy(&seen.body).replacen(USAGE_ASKED, "", 1);
    let answer = String::from_utf8_lossy(&seen.answer).into_owned();
    let events = answer.split_inclusive("\n\n");
    let kept: String =
        events.filter(|event| !(event.contains("\"choices\":[]") && event.contains("\"usage\":{"))).collect();
    Exchange { body: body.into_bytes(), answer: kept.into_bytes(), ..seen.clone() }
}

/// What the gateway said when it refused the client's work itself.
fn refused(passed: &[Passed], fake: &Fake) -> Option<String> {
    if fake.exchanges().iter().any(|seen| seen.usage.is_some() || seen.refusal.is_some()) {
        return None;
    }
    let said = passed.iter().find(|passed| passed.status >= 400 && passed.line.starts_with("POST "))?;
    Some(format!("{} {}", said.status, String::from_utf8_lossy(&said.answer).trim()))
}

/// Whether a body is the client's, with the provider's name for the model in the place of the client's.
fn same_but_model(spec: &Spec, client: &[u8], provider: &[u8]) -> bool {
    if client == provider {
        return true;
    }
    let (Ok(client), Ok(provider)) = (std::str::from_utf8(client), std::str::from_utf8(provider)) else { return false };
    let (alias, upstream) = (format!("\"{}\"", spec.model), format!("\"{}\"", spec.upstream));
    client.match_indices(&alias).any(|(at, _)| {
        let (before, after) =
            (client.get(..at).unwrap_or_default(), client.get(at + alias.len()..).unwrap_or_default());
        provider.strip_prefix(before).and_then(|rest| rest.strip_prefix(&upstream)) == Some(after)
    })
}
