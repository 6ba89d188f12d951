//! Environments.

use std::{io::Write as _, time::Duration};

use stockade_api::{
    guest::Stream,
    http::{Environment, ListEnvironments},
    site::{ExecFrame, ExecRequest},
};

use super::{Context, classes, confirm, executions, learn, parse, site, time};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::{facts, printable, table},
};

pub async fn main(context: &Context, command: args::Environments) -> Outcome {
    let client = context.client()?;
    match command {
        args::Environments::List { all, page } => {
            let query = ListEnvironments { run: None, deleted: all, limit: Some(page.limit), cursor: page.cursor };
            context.output.show(&client.environments(&query).await?, |page| {
                let rows = page.items.iter().map(|environment| {
                    [
                        environment.id.to_string(),
                        environment.observed.to_string(),
                        environment.desired.to_string(),
                        environment.class.clone().unwrap_or_default(),
                        time(environment.created_at),
                        environment.run.to_string(),
                    ]
                });
                table(["id", "is", "should be", "class", "since (UTC)", "run"], rows)
            })
        }
        args::Environments::Show { environment } => {
            context.output.show(&client.environment(parse("environment", &environment)?).await?, show)
        }
        args::Environments::Delete { environment, yes } => {
            let id = parse("environment", &environment)?;
            confirm(context, yes, &format!("Delete {environment} with everything in it?"))?;
            let environment = client.delete_environment(id).await?;
            context.output.show(&environment, |environment| format!("{} is being deleted", environment.id))
        }
        args::Environments::Learn { of, all_projects } => learn::main(context, &client, &of, all_projects).await,
        args::Environments::Executions { of } => executions::main(context, &client, &of).await,
        args::Environments::Exec { environment, timeout, command } => {
            let environment = client.environment(parse("environment", &environment)?).await?;
            let timeout_ms = u64::try_from(Duration::from_secs(timeout).as_millis()).unwrap_or(u64::MAX);
            let request = ExecRequest { argv: command, cwd: String::new(), stdin: None, timeout_ms };
            let mut frames = site(&client, environment.run).await?.exec(environment.id, &request).await?;
            while let Some(frame) = frames.next().await {
                let frame = frame?;
                if context.output.json {
                    context.output.json(&frame)?;
                }
                match frame {
                    ExecFrame::Output { stream, text } if !context.output.json => {
                        // What an environment prints may contain escape sequences: it is shown, not done.
                        let text = printable(&text);
                        match stream {
                            Stream::Stdout => std::io::stdout().lock().write_all(text.as_bytes())?,
                            Stream::Stderr => std::io::stderr().lock().write_all(text.as_bytes())?,
                        }
                    }
                    ExecFrame::Output { .. } => {}
                    ExecFrame::Exited { status: 0, timed_out: false, .. } => return Ok(()),
                    ExecFrame::Exited { status, timed_out, .. } => {
                        let why = if timed_out { "was ended by its time-out" } else { "failed" };
                        context.output.remark(&format!("the command {why} (exit status {status})"));
                        return Err(Failure::No);
                    }
                    ExecFrame::Failed { error } => return Err(error.into()),
                }
            }
            Err(Failure::outside("cut_off", "the site ended the stream in the middle", "look at the runner's log"))
        }
    }
}

fn show(environment: &Environment) -> String {
    let mut lines = vec![
        ("id", environment.id.to_string()),
        ("is", format!("{} (generation {})", environment.observed, environment.observed_generation)),
        ("should be", format!("{} (generation {})", environment.desired, environment.generation)),
        ("run", environment.run.to_string()),
        ("project", environment.project.to_string()),
        ("runner", environment.runner.to_string()),
        ("class", environment.class.clone().unwrap_or_default()),
        ("created", time(environment.created_at)),
        ("changed", time(environment.updated_at)),
    ];
    if let Some(usage) = &environment.usage {
        lines.extend(classes::used(usage));
        lines.push(("cost", environment.cost.to_string()));
    }
    facts(&lines)
}
