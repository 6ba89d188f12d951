//! Model calls: who used which model on which repository when, and what it cost; and what was said, read at the site.

use std::io::Write as _;

use stockade_api::{
    client::{Client, SiteClient},
    domain::{ContentKind, Nanos, Role, Timestamp, ids::ModelCallId},
    http::{CallSum, ListCalls, ListSessions, ModelCall, Session, ShownCall, SumCalls},
};

use super::{Context, parse, projects, run, time, words};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::{facts, table},
};

pub async fn main(context: &Context, command: args::Calls) -> Outcome {
    let client = context.client()?;
    match command {
        args::Calls::List(mut list) => {
            list.user = match list.user {
                None => mine(&client).await?,
                said => said,
            };
            match list.by.as_deref() {
                None => calls(context, &client, &list).await,
                Some("session") => sessions(context, &client, &list).await,
                Some(by) => sums(context, &client, &list, by).await,
            }
        }
        args::Calls::Show { call, content } => show(context, &client, parse("call", &call)?, content).await,
    }
}

/// Whoever may not see everybody's calls means their own.
pub async fn mine(client: &Client) -> Outcome<Option<String>> {
    let sees_all = client.me().await?.roles.iter().any(|role| matches!(role, Role::Admin | Role::Auditor));
    Ok((!sees_all).then(|| "me".to_owned()))
}

async fn calls(context: &Context, client: &Client, list: &args::CallsList) -> Outcome {
    let query = ListCalls {
        user: list.user.clone(),
        project: project(client, list).await?,
        model: list.model.clone(),
        provider: list.provider.clone(),
        session: list.session.clone(),
        run: list.run.as_deref().map(|run| parse("run", run)).transpose()?,
        client: list.client.clone(),
        status: list.status.clone(),
        since: list.since.as_deref().map(moment).transpose()?,
        until: list.until.as_deref().map(moment).transpose()?,
        limit: Some(list.page.limit),
        cursor: list.page.cursor.clone(),
    };
    let page = client.calls(&query).await?;
    context.output.show(&page, |page| {
        let mut text = table(
            ["when", "model", "status", "in", "out", "cost", "ms", "client", "session", "call"],
            page.items.iter().map(row),
        );
        if !page.items.is_empty() {
            let tokens = |call: &ModelCall| input(call).saturating_add(call.output_tokens);
            let cost: Nanos = page.items.iter().map(|call| call.cost).sum();
            let tokens: u64 = page.items.iter().map(tokens).sum();
            text.push_str(&format!("\n{} calls, {tokens} tokens, {cost}", page.items.len()));
        }
        if let Some(cursor) = &page.next_cursor {
            text.push_str(&format!("\nmore: --cursor {cursor}"));
        }
        text
    })
}

async fn sessions(context: &Context, client: &Client, list: &args::CallsList) -> Outcome {
    if list.model.is_some() || list.provider.is_some() || list.status.is_some() {
        return Err(Failure::user(
            "bad_filter",
            "a session has calls of several models, providers and ends, so sessions are not looked for by them",
            "leave --model, --provider and --status out, or --by; `calls list --session SESSION --model NAME` has one session's",
        ));
    }
    let query = ListSessions {
        user: list.user.clone(),
        project: project(client, list).await?,
        session: list.session.clone(),
        run: list.run.as_deref().map(|run| parse("run", run)).transpose()?,
        client: list.client.clone(),
        since: list.since.as_deref().map(moment).transpose()?,
        until: list.until.as_deref().map(moment).transpose()?,
        limit: Some(list.page.limit),
        cursor: list.page.cursor.clone(),
    };
    let page = client.sessions(&query).await?;
    context.output.show(&page, |page| {
        let row = |session: &Session| {
            [
                time(session.first_at),
                time(session.last_at),
                session.session.clone(),
                session.client.clone(),
                session.calls.to_string(),
                session.turns.to_string(),
                session.tokens.to_string(),
                session.cost.to_string(),
                session.run.to_string(),
            ]
        };
        table(
            ["first", "last", "session", "client", "calls", "turns", "tokens", "cost", "run"],
            page.items.iter().map(row),
        )
    })
}

async fn sums(context: &Context, client: &Client, list: &args::CallsList, by: &str) -> Outcome {
    if list.session.is_some() || list.run.is_some() || list.status.is_some() {
        return Err(Failure::user(
            "bad_filter",
            "sums are kept by day, person, project, model, provider and client, for calls that are over",
            "leave --session, --run and --status out, or --by; `--by session` knows --session and --run",
        ));
    }
    let query = SumCalls {
        by: by.to_owned(),
        user: list.user.clone(),
        project: project(client, list).await?,
        model: list.model.clone(),
        provider: list.provider.clone(),
        client: list.client.clone(),
        since: list.since.as_deref().map(moment).transpose()?,
        until: list.until.as_deref().map(moment).transpose()?,
    };
    let page = client.sum_calls(&query).await?;
    context.output.show(&page, |page| {
        let mut sums: Vec<CallSum> = page.items.clone();
        sums.push(CallSum {
            what: "all".to_owned(),
            name: None,
            calls: sums.iter().map(|sum| sum.calls).sum(),
            input_tokens: sums.iter().map(|sum| sum.input_tokens).sum(),
            output_tokens: sums.iter().map(|sum| sum.output_tokens).sum(),
            cost: sums.iter().map(|sum| sum.cost).sum(),
        });
        let row = |sum: &CallSum| {
            let day = (by == "day").then(|| sum.what.parse().ok().map(|us| time(Timestamp(us)))).flatten();
            let day = day.map(|day| day.chars().take(10).collect());
            [
                sum.name.clone().or(day).unwrap_or_else(|| sum.what.clone()),
                sum.calls.to_string(),
                sum.input_tokens.to_string(),
                sum.output_tokens.to_string(),
                sum.cost.to_string(),
            ]
        };
        table([by, "calls", "in", "out", "cost"], sums.iter().map(row))
    })
}

async fn project(client: &Client, list: &args::CallsList) -> Outcome<Option<stockade_api::domain::ids::ProjectId>> {
    match &list.project {
        Some(word) => Ok(Some(projects::find(client, word).await?.id)),
        None => Ok(None),
    }
}

async fn show(context: &Context, client: &Client, id: ModelCallId, content: bool) -> Outcome {
    let call = client.call(id).await?;
    let read = if content { read(client, &call).await? } else { Vec::new() };
    if context.output.json {
        let mut value = serde_json::to_value(&call).map_err(std::io::Error::from)?;
        if let (true, Some(map)) = (content, value.as_object_mut()) {
            let plain = read.iter().map(|(kind, bytes)| {
                let text = String::from_utf8_lossy(bytes);
                let body = serde_json::from_str(&text).unwrap_or_else(|_| serde_json::Value::from(text.into_owned()));
                serde_json::json!({"kind": kind, "body": body})
            });
            map.insert("plain".to_owned(), plain.collect());
        }
        return context.output.json(&value);
    }
    context.output.line(&about(&call.call))?;
    for (kind, bytes) in &read {
        match words::of(*kind, bytes) {
            Some(lines) => context.output.line(&format!("\n{kind}:\n{}", lines.join("\n")))?,
            None => {
                context.output.line(&format!("\n{kind}, {} bytes as they were sent:", bytes.len()))?;
                context.output.line(&String::from_utf8_lossy(bytes))?;
            }
        }
    }
    Ok(std::io::stdout().flush()?)
}

/// What was said, in plain text from the site. Reading it is a deed of its own, decided and recorded there.
async fn read(client: &Client, call: &ShownCall) -> Outcome<Vec<(ContentKind, Vec<u8>)>> {
    let site = SiteClient::new(&client.ticket_at(call.call.run, Some(call.call.runner)).await?)?;
    let mut read = Vec::new();
    for content in &call.contents {
        if matches!(content.kind, ContentKind::ModelRequest | ContentKind::ModelResponse) {
            read.push((content.kind, site.content(call.call.run, content).await?.to_vec()));
        }
    }
    Ok(read)
}

/// A day, a moment, or how long ago.
pub fn moment(text: &str) -> Outcome<Timestamp> {
    let day =
        || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp());
    if let Some(at) = text.parse::<jiff::Timestamp>().ok().or_else(day) {
        return Ok(Timestamp(at.as_microsecond()));
    }
    let ago = run::duration_ms(text).map_err(|_| {
        Failure::user(
            "moment",
            format!("`{text}` is no time"),
            "write 2026-11-21, 2026-11-21T08:00:00Z, or 7d for a week ago",
        )
    })?;
    let now = jiff::Timestamp::now().as_microsecond();
    Ok(Timestamp(now.saturating_sub(i64::try_from(ago.saturating_mul(1_000)).unwrap_or(i64::MAX))))
}

const fn input(call: &ModelCall) -> u64 {
    call.input_tokens.saturating_add(call.cache_read_tokens).saturating_add(call.cache_write_tokens)
}

fn row(call: &ModelCall) -> [String; 10] {
    [
        time(call.started_at),
        call.model.clone(),
        call.code.as_ref().map_or_else(|| call.status.clone(), |code| format!("{} {code}", call.status)),
        input(call).to_string(),
        call.output_tokens.to_string(),
        call.cost.to_string(),
        call.duration_ms.map(|ms| ms.to_string()).unwrap_or_default(),
        call.client.clone(),
        call.session.clone(),
        call.id.to_string(),
    ]
}

fn about(call: &ModelCall) -> String {
    let some = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    facts(&[
        ("call", call.id.to_string()),
        ("when", time(call.started_at)),
        ("person", call.person.map(|id| id.to_string()).unwrap_or_default()),
        ("project", call.project.map(|id| id.to_string()).unwrap_or_default()),
        ("repository", some(&call.repository)),
        (
            "model",
            if call.upstream.is_empty() { call.model.clone() } else { format!("{} ({})", call.model, call.upstream) },
        ),
        ("provider", some(&call.provider)),
        ("client", format!("{} over {}", some(&call.client), some(&call.dialect))),
        ("session", format!("{}, {} messages", some(&call.session), call.turn)),
        ("status", call.code.as_ref().map_or_else(|| call.status.clone(), |code| format!("{} ({code})", call.status))),
        (
            "tokens",
            format!(
                "{} in, {} out, {} read from cache, {} written",
                call.input_tokens, call.output_tokens, call.cache_read_tokens, call.cache_write_tokens
            ),
        ),
        ("cost", call.cost.to_string()),
        ("took", call.duration_ms.map(|ms| format!("{ms} ms")).unwrap_or_default()),
        ("run", call.run.to_string()),
        ("records", format!("{} {}", call.opened, call.closed.map(|id| id.to_string()).unwrap_or_default())),
    ])
}
