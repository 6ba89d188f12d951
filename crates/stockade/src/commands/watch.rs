//! Following a run: its events as lines, where it went and what was said between them as far as that may be seen, and a line of progress
//! below.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stockade_api::{
    client::{Client, SiteClient},
    domain::{
        Answer, EventKind, FailureCause, GateOutcome, Nanos, Observed, RunEvent, RunState, RunTransition, Timestamp,
        ToolOutcome, ids::RunId,
    },
    http::ListEvents,
};

use super::{
    Context,
    connections::{self, WayOut},
    is_unreadable, site, transcript,
};
use crate::{
    failure::{Failure, Outcome},
    output::printable,
};

/// How long the server holds a question for events.
const WAIT_MS: u64 = 20_000;
/// Each reading of what was said is a record: so often at most, and once more at the end.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How often an unreachable server is asked again before we give up.
const RETRIES: u32 = 30;

/// Follows a run until it ends. Gives `No` if it ended without success.
pub async fn follow(context: &Context, client: &Client, run: RunId) -> Outcome {
    let progress = progress(context);
    let outcome = Follower {
        context,
        client,
        run,
        site: Reading::NotTried,
        way_out: WayOut::of(run),
        transcript: 0,
        read_at: None,
        cost: Nanos::ZERO,
        turn: 0,
        progress: &progress,
    }
    .follow()
    .await;
    progress.finish_and_clear();
    let state = outcome?;
    if !context.output.json {
        context.output.line(&format!("run {run} {state}"))?;
    }
    if state == RunState::Succeeded { Ok(()) } else { Err(Failure::No) }
}

/// How the gates ended, one line each, for `runs show`.
pub fn gates(events: &[RunEvent]) -> Vec<String> {
    let of = |event: &RunEvent| match &event.event {
        EventKind::Gate { index, attempt, outcome, duration_ms, .. } => {
            Some(format!("{index} attempt {attempt}: {outcome} in {}", seconds(*duration_ms)))
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// Whether what was said can be read from here.
enum Reading {
    NotTried,
    Yes(SiteClient),
    No,
}

struct Follower<'a> {
    context: &'a Context,
    client: &'a Client,
    run: RunId,
    site: Reading,
    way_out: WayOut,
    transcript: u64,
    read_at: Option<Instant>,
    cost: Nanos,
    turn: u32,
    progress: &'a ProgressBar,
}

impl Follower<'_> {
    async fn follow(&mut self) -> Outcome<RunState> {
        let (client, run) = (self.client, self.run);
        let (mut after, mut failures, mut wait_ms) = (0, 0, WAIT_MS);
        let mut unread = false;
        loop {
            let query = ListEvents { after, limit: Some(200), wait_ms };
            let mut asked = std::pin::pin!(client.events(run, &query));
            let answer = loop {
                tokio::select! {
                    answer = &mut asked => break answer,
                    () = tokio::time::sleep(connections::ASK_EVERY) => self.connections().await?,
                }
            };
            let page = match answer {
                Ok(page) => page,
                Err(error) if error.fault == stockade_api::error::Fault::Outside && failures < RETRIES => {
                    failures += 1;
                    self.progress.set_message(format!("the server does not answer; trying again ({failures})"));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            failures = 0;
            after = page.after;
            let spoken = page.items.iter().any(|line| {
                matches!(line.event, EventKind::ModelCall { .. } | EventKind::ToolCall { .. } | EventKind::Gate { .. })
            });
            let ended = page.state.is_final();
            // How it ended may have been said without an event of its own: a model that cannot be reached, for example.
            unread |= spoken || (ended && !page.items.is_empty());
            if unread
                && !self.context.output.json
                && (ended || self.read_at.is_none_or(|at| at.elapsed() >= READ_EVERY))
            {
                self.read().await?;
                self.read_at = Some(Instant::now());
                unread = false;
            }
            // What was said and held back is read a moment later, also when nothing else happens.
            wait_ms = match (ended, unread) {
                (true, _) => 0,
                (false, true) => READ_EVERY.as_millis().try_into().unwrap_or(WAIT_MS),
                (false, false) => WAIT_MS,
            };
            let nothing_new = page.items.is_empty();
            if !self.context.output.json {
                self.way_out.look(client).await?;
            }
            for line in page.items {
                self.connections_until(Some(line.at))?;
                self.event(&line)?;
            }
            if ended && nothing_new {
                self.connections_until(None)?;
                return Ok(page.state);
            }
        }
    }

    /// What was said since the last time. Reading is a record each time, so it is done once for a batch of events.
    async fn read(&mut self) -> Outcome {
        for _ in 0..2 {
            if matches!(self.site, Reading::NotTried) {
                self.site = match site(self.client, self.run).await {
                    Ok(site) => Reading::Yes(site),
                    Err(failure) if is_unreadable(&failure) => Reading::No,
                    Err(failure) => return Err(failure),
                };
            }
            let Reading::Yes(site) = &self.site else { return Ok(()) };
            match site.transcript(self.run, self.transcript).await {
                Ok(lines) => {
                    for line in lines {
                        self.transcript = self.transcript.max(line.line);
                        for text in transcript::lines(&line) {
                            self.say(&text)?;
                        }
                    }
                    return Ok(());
                }
                // A ticket holds for minutes only: one fresh one is worth a try.
                Err(error) if error.fault == stockade_api::error::Fault::Refused => self.site = Reading::NotTried,
                Err(_) => return Ok(()),
            }
        }
        self.site = Reading::No;
        self.say("(what is said stays sealed: it cannot be read from here)")
    }

    /// Where it went since the last time. Programs ask `connections watch`.
    async fn connections(&mut self) -> Outcome {
        if self.context.output.json {
            return Ok(());
        }
        self.way_out.look(self.client).await?;
        self.connections_until(None)
    }

    fn connections_until(&mut self, until: Option<Timestamp>) -> Outcome {
        for text in self.way_out.tell(until) {
            self.say(&text)?;
        }
        Ok(())
    }

    fn event(&mut self, line: &RunEvent) -> Outcome {
        if self.context.output.json {
            return self.context.output.json(line);
        }
        match &line.event {
            EventKind::Turn { turn } => self.turn = *turn,
            EventKind::ModelCall { cost, .. } => self.cost = self.cost.saturating_add(*cost),
            EventKind::Spent { cost, .. } => self.cost = *cost,
            _ => {}
        }
        self.progress.set_message(format!("turn {}, {} spent", self.turn, self.cost));
        match text(&line.event) {
            Some(text) => self.say(&text),
            None => Ok(()),
        }
    }

    fn say(&self, text: &str) -> Outcome {
        if self.progress.is_hidden() {
            return self.context.output.line(text);
        }
        self.progress.println(printable(text));
        Ok(())
    }
}

fn progress(context: &Context) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if context.output.json {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.set_message("waiting for a runner");
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// One line for people, or nothing where the transcript says it better.
fn text(event: &EventKind) -> Option<String> {
    Some(match event {
        EventKind::State { transition } => match transition {
            RunTransition::Fail { cause } => {
                format!("● failed: {}\n  try: {}", cause.as_str().replace('_', " "), what_to_try(*cause))
            }
            RunTransition::Prepare => "● preparing".to_owned(),
            RunTransition::Work => "● working".to_owned(),
            RunTransition::Wait { .. } => "● waiting for a person".to_owned(),
            RunTransition::Succeed => "● succeeded".to_owned(),
            RunTransition::Cancel => "● cancelled".to_owned(),
            RunTransition::Expire => "● expired".to_owned(),
            RunTransition::Requeue => "● queued again".to_owned(),
        },
        EventKind::Environment { observed: Observed::Running, duration_ms: Some(ms), .. } => {
            format!("● environment ready in {ms} ms")
        }
        EventKind::Environment { observed, .. } => format!("● environment {observed}"),
        // Who wants these asks `environments executions` and `runs show`.
        EventKind::Turn { .. }
        | EventKind::Spent { .. }
        | EventKind::EnvironmentUsage { .. }
        | EventKind::Executions { .. } => return None,
        EventKind::ModelCall { model, usage, cost, stop_reason, ok, duration_ms, .. } => format!(
            "  model {model}: {stop_reason}{}, {} tokens, {cost}, {}",
            if *ok { "" } else { " (failed)" },
            usage.total(),
            seconds(*duration_ms)
        ),
        EventKind::ToolCall { tool, outcome: ToolOutcome::Ok, answer: Answer::Allow, duration_ms, .. } => {
            format!("  tool {tool}: allowed, {}", seconds(*duration_ms))
        }
        EventKind::ToolCall { tool, answer, outcome, .. } => format!("  tool {tool}: {answer}, {outcome}"),
        EventKind::ApprovalRequested { approval, action, policy, .. } => {
            format!("● {action} waits for a person: {policy}\n  stockade approvals show {approval}")
        }
        EventKind::ApprovalAnswered { granted, .. } => {
            format!("● a person said {}", if *granted { "yes" } else { "no" })
        }
        EventKind::InputRequested { .. } => "● the agent asks something: answer with `stockade runs reply`".to_owned(),
        EventKind::InputReceived {} => "● the agent has the answer".to_owned(),
        EventKind::Gate { index, attempt, outcome, duration_ms, .. } => {
            let mark = if *outcome == GateOutcome::Passed { "✓" } else { "✗" };
            format!("{mark} gate {index}: {outcome} (attempt {attempt}, {})", seconds(*duration_ms))
        }
        EventKind::Change { branch, files, insertions, deletions, .. } => {
            format!("✓ change on {branch}: {files} files, +{insertions} -{deletions}")
        }
        EventKind::Compacted { before_tokens, after_tokens } => {
            format!("● context shortened from {before_tokens} to {after_tokens} tokens")
        }
        EventKind::Notice { code } if code == "harness_missing" => {
            "● the agent's program is not on the runner's machine, or environments do not see it\n  try: `stockade doctor`, \
             which says what is found where; docs/agents.md says how to install it"
                .to_owned()
        }
        EventKind::Notice { code } if code == "environment_woken" => {
            "● the environment is started again: it was stopped while nothing happened there".to_owned()
        }
        EventKind::Notice { code } => format!("● notice: {code}"),
    })
}

/// What helps after a run failed of this.
const fn what_to_try(cause: FailureCause) -> &'static str {
    match cause {
        FailureCause::Model => "`stockade doctor` says whether the provider is set up; then `stockade runs resume`",
        FailureCause::Rehearsal => {
            "the transcript says what the cassette expected and what was there: `stockade runs show --transcript`"
        }
        FailureCause::Budget => {
            "`stockade budget show`; raise the limit or the run's `--budget`, then `stockade runs resume`"
        }
        FailureCause::Turns | FailureCause::Time | FailureCause::Tokens => {
            "`stockade runs resume` goes on with fresh limits; or ask for less at once"
        }
        FailureCause::Policy => "`stockade audit search --run` says which policy refused what",
        FailureCause::Gates => "`stockade runs show --transcript` has what the gates printed",
        FailureCause::Repository => {
            "is the repository there, and may the runner read and write it? Then `stockade runs resume`"
        }
        FailureCause::Environment | FailureCause::Internal => "`stockade doctor`, and the runner's log",
        FailureCause::Lifetime => {
            "`stockade runs resume` goes on in a new environment, with the work as far as it was kept; `stockade classes list` \
             says how long each class lives"
        }
        FailureCause::NoChange | FailureCause::GaveUp => {
            "say more exactly what you want; the transcript has the agent's reasons"
        }
        FailureCause::Erased => "start a new run: this one's key is gone",
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}
