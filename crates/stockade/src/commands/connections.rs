//! Connections of environments: where runs went, what was refused and how to allow it; and what is sealed of them, read at the site.

mod changes;
mod said;
mod told;

use std::{collections::BTreeSet, time::Duration};

use stockade_api::{
    client::{Client, SiteClient},
    domain::{
        Answer, ContentKind, ContextValue,
        ids::{RecordId, RunId},
    },
    error::Fault,
    http::{ListConnections, ShownConnection},
};

pub use self::told::WayOut;
use self::{changes::Changes, said::Columns};
use super::{Context, calls::moment, parse, projects, time};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::facts,
};

/// How often whoever follows asks again.
pub const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often an unreachable server is asked again before we give up.
const RETRIES: u32 = 30;
/// How many of the last ones are shown before following.
const BEFORE: u32 = 10;
/// A run that ended is asked so often still: its last records are on their way.
const LAST_LOOKS: u32 = 3;

pub async fn main(context: &Context, command: args::Connections) -> Outcome {
    let client = context.client()?;
    match command {
        args::Connections::List(list) => self::list(context, &client, &list).await,
        args::Connections::Show { connection, content } => {
            show(context, &client, parse("record", &connection)?, content).await
        }
        args::Connections::Watch { run, refused } => {
            let run = run.as_deref().map(|run| parse("run", run)).transpose()?;
            tokio::select! {
                done = watch(context, &client, run, refused) => done,
                // Whoever has seen enough says so: that is no failure.
                pressed = tokio::signal::ctrl_c() => Ok(pressed?),
            }
        }
    }
}

async fn list(context: &Context, client: &Client, list: &args::ConnectionsList) -> Outcome {
    let project = match &list.project {
        Some(word) => Some(projects::find(client, word).await?.id),
        None => None,
    };
    let query = ListConnections {
        run: list.run.as_deref().map(|run| parse("run", run)).transpose()?,
        project,
        environment: list.environment.as_deref().map(|id| parse("environment", id)).transpose()?,
        host: list.host.clone(),
        decision: list.refused.then_some(Answer::Deny),
        action: list.action.clone(),
        status: list.open.then(|| "open".to_owned()),
        notable: None,
        since: list.since.as_deref().map(moment).transpose()?,
        until: list.until.as_deref().map(moment).transpose()?,
        changed_since: None,
        limit: Some(list.page.limit),
        cursor: list.page.cursor.clone(),
    };
    let columns = match (list.ids, query.run) {
        (true, _) => Columns::Ids,
        (false, Some(_)) => Columns::OneRun,
        (false, None) => Columns::Runs,
    };
    let page = client.connections(&query).await?;
    context.output.show(&page, |page| {
        if page.items.is_empty() {
            return "nothing".to_owned();
        }
        let mut lines = vec![columns.head()];
        for (at, connection) in page.items.iter().enumerate() {
            lines.push(columns.line(connection));
            // What was tried again and again is explained once, below the last of it.
            let same = page.items.get(at + 1).is_some_and(|next| said::is_same(connection, next));
            lines.extend(said::why(connection).filter(|_| !same).map(|why| format!("    {why}")));
        }
        let runs: BTreeSet<RunId> =
            page.items.iter().filter(|connection| said::can_be_learnt(connection)).map(|c| c.run).collect();
        lines.extend(runs.into_iter().map(said::propose));
        lines.extend(page.next_cursor.as_ref().map(|cursor| format!("more: --cursor {cursor}")));
        lines.join("\n")
    })
}

async fn watch(context: &Context, client: &Client, run: Option<RunId>, refused: bool) -> Outcome {
    let query = ListConnections { run, decision: refused.then_some(Answer::Deny), ..ListConnections::default() };
    let mut last = client.connections(&ListConnections { limit: Some(BEFORE), ..query.clone() }).await?.items;
    last.reverse();
    let columns = if run.is_some() { Columns::OneRun } else { Columns::Runs };
    if !context.output.json {
        context.output.line(&columns.head())?;
    }
    let mut changes = Changes::after(query, &last);
    let mut proposed = BTreeSet::new();
    let mut new = last;
    let (mut failures, mut looks) = (0, 0);
    loop {
        for connection in &new {
            if context.output.json {
                context.output.json(connection)?;
                continue;
            }
            context.output.line(&columns.line(connection))?;
            if let Some(why) = said::why(connection) {
                context.output.line(&format!("    {why}"))?;
            }
            if said::can_be_learnt(connection) && proposed.insert(connection.run) {
                context.output.line(&said::propose(connection.run))?;
            }
        }
        if let Some(run) = run
            && new.is_empty()
            && failures == 0
        {
            let run = client.run(run).await?;
            looks = if run.state.is_final() { looks + 1 } else { 0 };
            if looks >= LAST_LOOKS {
                context.output.remark(&format!("run {} {}", run.id, run.state));
                return Ok(());
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
        new = match changes.next(client).await {
            Err(Failure::Error(error)) if error.fault == Fault::Outside && failures < RETRIES => {
                failures += 1;
                Vec::new()
            }
            found => {
                failures = 0;
                found?
            }
        };
    }
}

async fn show(context: &Context, client: &Client, id: RecordId, content: bool) -> Outcome {
    let shown = client.connection(id).await?;
    let read = if content { read(client, &shown).await? } else { Vec::new() };
    if context.output.json {
        let mut value = serde_json::to_value(&shown).map_err(std::io::Error::from)?;
        if let (true, Some(map)) = (content, value.as_object_mut()) {
            map.insert("plain".to_owned(), read.into());
        }
        return context.output.json(&value);
    }
    context.output.line(&about(&shown))?;
    for plain in &read {
        let serde_json::Value::Object(facts) = plain else { continue };
        for (name, value) in facts {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            context.output.line(&format!("{name:<12}  {}", said::flat(&text)))?;
        }
    }
    if said::can_be_learnt(&shown.connection) {
        context.output.line(&said::propose(shown.connection.run))?;
    }
    Ok(())
}

/// What is sealed, in plain text from the site. Reading it is a deed of its own, decided and recorded there.
async fn read(client: &Client, shown: &ShownConnection) -> Outcome<Vec<serde_json::Value>> {
    let connection = &shown.connection;
    let site = SiteClient::new(&client.ticket_at(connection.run, Some(connection.runner)).await?)?;
    let mut read = Vec::new();
    for content in shown.contents.iter().filter(|content| content.kind == ContentKind::DeedContext) {
        let bytes = site.content(connection.run, content).await?;
        read.push(serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()));
    }
    Ok(read)
}

fn about(shown: &ShownConnection) -> String {
    let connection = &shown.connection;
    let some = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut lines = vec![
        ("connection", connection.id.to_string()),
        ("when", time(connection.opened_at)),
        ("what", format!("{} {}", connection.action, said::what(connection))),
        ("to", said::target(connection)),
        ("address", some(&connection.address)),
        ("repository", some(&connection.repository)),
        ("ref", some(&connection.git_ref)),
        ("decision", said::decided(connection)),
        ("approval", connection.approval.map(|id| id.to_string()).unwrap_or_default()),
        ("status", said::answer(connection)),
        ("bytes", format!("{} out, {} in", connection.bytes_out, connection.bytes_in)),
        ("took", said::took(connection)),
    ];
    if connection.left_out > 0 {
        lines.push(("left out", format!("{} refusals before this one have no record", connection.left_out)));
    }
    for (name, value) in shown.context.iter().chain(&shown.facts) {
        // What has a line already is not said twice.
        if !["port", "method", "ref", "bytes_out", "bytes_in", "address", "left_out", "connection"].contains(&&**name) {
            lines.push((name, value_of(value)));
        }
    }
    lines.extend([
        ("on", connection.parent.map(|id| id.to_string()).unwrap_or_default()),
        ("run", connection.run.to_string()),
        ("project", connection.project.map(|id| id.to_string()).unwrap_or_default()),
        ("environment", connection.environment.to_string()),
        ("records", format!("{} {}", connection.id, connection.closed.map(|id| id.to_string()).unwrap_or_default())),
    ]);
    lines.retain(|(_, value)| !value.is_empty());
    for (_, value) in &mut lines {
        *value = said::flat(value);
    }
    facts(&lines)
}

fn value_of(value: &ContextValue) -> String {
    match value {
        ContextValue::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        ContextValue::Long(number) => number.to_string(),
        ContextValue::Text(text) => text.clone(),
        ContextValue::Set(all) => all.join(", "),
    }
}

/// What a run did on its way out, for `runs show`; nothing if it did nothing, or if that is not for us to see.
pub async fn summary(client: &Client, run: RunId) -> Outcome<Vec<(&'static str, String)>> {
    match client.sum_connections(run).await {
        Ok(sums) => Ok(said::summary(&sums, run)),
        Err(error) if matches!(error.fault, Fault::Refused | Fault::User) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
