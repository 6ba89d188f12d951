//! Runs.

use serde::Serialize;
use stockade_api::{
    client::Client,
    domain::{ContentKind, Nanos, ids::RunId},
    http::{ListEvents, ListRuns, Page, Run},
    site::{Seal, TranscriptLine},
};

use super::{
    Context, calls, classes, confirm, connections, is_unreadable, parse, projects, site, text_or_stdin, time,
    transcript, watch,
};
use crate::{
    args,
    failure::Outcome,
    output::{facts, table},
};

pub async fn main(context: &Context, command: args::Runs) -> Outcome {
    let client = context.client()?;
    match command {
        args::Runs::List { project, state, personal, user, page } => {
            let user = match user {
                None if personal => calls::mine(&client).await?,
                said => said,
            };
            let project = match project {
                Some(word) => Some(projects::find(&client, &word).await?.id),
                None => None,
            };
            let state = state.map(|word| parse("run state", &word)).transpose()?;
            let query = ListRuns { project, state, personal, user, limit: Some(page.limit), cursor: page.cursor };
            context.output.show(&client.runs(&query).await?, list)
        }
        args::Runs::Show { run, transcript, diff } => {
            show(context, &client, parse("run", &run)?, transcript, diff).await
        }
        args::Runs::Watch { run } => watch::follow(context, &client, parse("run", &run)?).await,
        args::Runs::Cancel { run } => {
            let run = client.cancel(parse("run", &run)?).await?;
            context.output.show(&run, |run| format!("{} is being cancelled (it was {})", run.id, run.state))
        }
        args::Runs::Resume { run } => {
            let run = client.resume(parse("run", &run)?).await?;
            context.output.show(&run, |run| format!("{} goes on from where it stopped ({})", run.id, run.state))
        }
        args::Runs::Reply { run, text } => {
            let run: RunId = parse("run", &run)?;
            let seal = Seal { kind: ContentKind::Reply, text: text_or_stdin(&text)? };
            let sealed = site(&client, run).await?.seal(run, &seal).await?;
            let done = client.reply(run, &sealed).await?;
            context.output.show(&done, |_| format!("{run} has your answer"))
        }
        args::Runs::Erase { run, yes } => {
            let id = parse("run", &run)?;
            confirm(context, yes, &format!("Destroy the key of everything that was said in {run}?"))?;
            let run = client.erase(id).await?;
            context.output.show(&run, |run| format!("{}: its content can never be read again", run.id))
        }
    }
}

fn list(page: &Page<Run>) -> String {
    let rows = page.items.iter().map(|run| {
        [
            run.id.to_string(),
            run.state.to_string(),
            run.project_name.clone(),
            run.model.clone(),
            run.cost.to_string(),
            time(run.created_at),
            run.change.as_ref().map_or_else(String::new, |change| change.branch.clone()),
        ]
    });
    table(["id", "state", "project", "model", "cost", "since (UTC)", "change"], rows)
}

/// What `show --json` prints: the run, and in plain text what was asked for with flags.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    run: Run,
    #[serde(skip_serializing_if = "Option::is_none")]
    transcript: Option<Vec<TranscriptLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

async fn show(context: &Context, client: &Client, id: RunId, transcript: bool, diff: bool) -> Outcome {
    let run = client.run(id).await?;
    let mut shown = Shown { transcript: None, diff: None, run };
    let mut gates = Vec::new();
    if !context.output.json {
        gates = watch::gates(&client.events(id, &ListEvents { after: 0, limit: Some(500), wait_ms: 0 }).await?.items);
    }
    if transcript || diff {
        let read = async {
            let site = site(client, id).await?;
            if transcript {
                shown.transcript = Some(site.transcript(id, 0).await?);
            }
            if let Some(change) = shown.run.change.as_ref().filter(|_| diff) {
                let bytes = site.content(id, &change.diff).await?;
                shown.diff = Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            Ok(())
        };
        match read.await {
            Err(failure) if !is_unreadable(&failure) || context.output.json => return Err(failure),
            Err(failure) => {
                failure.tell(false);
                context.output.remark("its content stays sealed; what follows is what the control plane knows");
            }
            Ok(()) => {}
        }
    }
    let way_out = if context.output.json { Vec::new() } else { connections::summary(client, id).await? };
    context.output.show(&shown, |shown| people(shown, &gates, &way_out))
}

fn people(shown: &Shown, gates: &[String], way_out: &[(&'static str, String)]) -> String {
    let run = &shown.run;
    let mut lines = vec![
        ("run", run.id.to_string()),
        ("state", run.cause.map_or_else(|| run.state.to_string(), |cause| format!("{} ({cause})", run.state))),
        ("project", run.project_name.clone()),
        ("model", run.model.clone()),
        ("agent", run.harness.to_string()),
        ("level", run.level.to_string()),
        ("began", time(run.created_at)),
        ("class", run.class.clone().unwrap_or_else(|| "the site's own".to_owned())),
        ("cost", format!("{} of {}", run.cost, run.max_cost)),
        (
            "tokens",
            format!(
                "{} in, {} out, {} from cache, {} to cache",
                run.usage.input_tokens,
                run.usage.output_tokens,
                run.usage.cache_read_tokens,
                run.usage.cache_write_5m_tokens.saturating_add(run.usage.cache_write_1h_tokens)
            ),
        ),
    ];
    if run.environment_cost > Nanos::ZERO {
        let sum = run.cost.saturating_add(run.environment_cost);
        lines.push(("with environment", format!("{sum}, of which {} for the environment", run.environment_cost)));
    }
    lines.extend(run.environment_usage.iter().flat_map(classes::used));
    lines.extend(way_out.iter().cloned());
    for gate in gates {
        lines.push(("gate", gate.clone()));
    }
    if let Some(change) = &run.change {
        lines.push(("branch", change.branch.clone()));
        lines.push(("commit", change.commit.clone()));
        let files = format!("{} files, +{} -{}", change.files, change.insertions, change.deletions);
        lines.push(("change", files));
    }
    if run.erased {
        lines.push(("erased", "its content can never be read again".to_owned()));
    }
    let mut text = facts(&lines);
    for line in shown.transcript.iter().flatten() {
        for part in transcript::lines(line) {
            text.push('\n');
            text.push_str(&part);
        }
    }
    if let Some(diff) = &shown.diff {
        text.push_str("\n\n");
        text.push_str(diff.trim_end());
    }
    text
}
