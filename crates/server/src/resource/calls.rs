//! Model calls: who used which model on which repository when, and what it cost. What was said stays sealed.

use stockade_api::http::{CallSum, ListCalls, ListSessions, ModelCall, Page, Session, ShownCall, SumCalls};
use stockade_domain::{
    ContentRef,
    ids::{ModelCallId, RecordId},
};
use stockade_ledger::Record;
use stockade_store::{
    Tx,
    calls::{self, CallFilter, TotalsBy},
    people, projects, records, runs,
};

use super::{page, paged, whole};
use crate::{
    answer::{Answer, Failure, Json, Path, Query},
    context::Cx,
};

/// Calls, newest first.
#[utoipa::path(get, path = "/v1/calls", tag = "calls", params(ListCalls),
    responses((status = 200, body = Page<ModelCall>)))]
pub async fn list(cx: Cx, Query(query): Query<ListCalls>) -> Answer<Page<ModelCall>> {
    let (mut tx, person) = cx.for_whom(query.user.as_deref(), false).await?;
    let filter = CallFilter {
        person,
        project: query.project,
        model: query.model,
        provider: query.provider,
        session: query.session,
        run: query.run,
        client: query.client,
        status: query.status,
        since: query.since,
        until: query.until,
    };
    let found = calls::list(&mut tx, &filter, &page(query.limit, query.cursor)).await?;
    Ok(Json(paged(found, shown)))
}

/// One call, with the content that its records cover.
#[utoipa::path(get, path = "/v1/calls/{call}", tag = "calls", params(("call" = String, Path)),
    responses((status = 200, body = ShownCall)))]
pub async fn show(cx: Cx, Path(call): Path<ModelCallId>) -> Answer<ShownCall> {
    let mut tx = cx.read().await?;
    let call = calls::get(&mut tx, call).await?;
    let run = runs::get(&mut tx, call.run).await?;
    let mut tx = cx.may(tx, cx.on_run(&run)?).await?;
    let mut contents = Vec::new();
    for record in [Some(call.opened), call.closed].into_iter().flatten() {
        contents.extend(covered(&mut tx, record).await?);
    }
    Ok(Json(ShownCall { call: shown(call), contents }))
}

/// Calls that are over, summed, the most expensive first.
#[utoipa::path(get, path = "/v1/calls/sums", tag = "calls", params(SumCalls),
    responses((status = 200, body = Page<CallSum>)))]
pub async fn sums(cx: Cx, Query(query): Query<SumCalls>) -> Answer<Page<CallSum>> {
    let by = match query.by.as_str() {
        "user" => TotalsBy::Person,
        "project" => TotalsBy::Project,
        "model" => TotalsBy::Model,
        "provider" => TotalsBy::Provider,
        "client" => TotalsBy::Client,
        "day" => TotalsBy::Day,
        _ => return Err(Failure::invalid("bad_by", "`by` must be user, project, model, provider, client or day")),
    };
    let (mut tx, person) = cx.for_whom(query.user.as_deref(), false).await?;
    let filter = CallFilter {
        person,
        project: query.project,
        model: query.model,
        provider: query.provider,
        client: query.client,
        since: query.since,
        until: query.until,
        ..CallFilter::default()
    };
    let mut sums = Vec::new();
    for total in calls::totals(&mut tx, by, &filter).await? {
        sums.push(CallSum {
            name: name_of(&mut tx, by, &total.what).await,
            what: total.what,
            calls: total.calls,
            input_tokens: total.input_tokens,
            output_tokens: total.output_tokens,
            cost: total.cost,
        });
    }
    Ok(Json(whole(sums)))
}

/// Sessions of people's tools, the one that began last first.
#[utoipa::path(get, path = "/v1/sessions", tag = "calls", params(ListSessions),
    responses((status = 200, body = Page<Session>)))]
pub async fn sessions(cx: Cx, Query(query): Query<ListSessions>) -> Answer<Page<Session>> {
    let (mut tx, person) = cx.for_whom(query.user.as_deref(), false).await?;
    let filter = CallFilter {
        person,
        project: query.project,
        session: query.session,
        run: query.run,
        client: query.client,
        since: query.since,
        until: query.until,
        ..CallFilter::default()
    };
    let found = calls::sessions(&mut tx, &filter, &page(query.limit, query.cursor)).await?;
    Ok(Json(paged(found, |session| Session {
        session: session.session,
        run: session.run,
        project: session.project,
        person: session.person,
        client: session.client,
        calls: session.calls,
        turns: session.turns,
        tokens: session.tokens,
        cost: session.cost,
        first_at: session.first_at,
        last_at: session.last_at,
    })))
}

async fn covered(tx: &mut Tx, record: RecordId) -> Result<Vec<ContentRef>, Failure> {
    let stored = records::get(tx, record).await?;
    let record = Record::parse(stored.canonical.as_bytes()).map_err(|error| Failure::bug("read a record", &error))?;
    Ok(record.contents().to_vec())
}

/// What people call what a sum is about.
async fn name_of(tx: &mut Tx, by: TotalsBy, what: &str) -> Option<String> {
    match by {
        TotalsBy::Person => people::user(tx, what.parse().ok()?).await.ok().map(|user| user.name),
        TotalsBy::Project => projects::get(tx, what.parse().ok()?).await.ok().map(|project| project.name),
        TotalsBy::Day | TotalsBy::Model | TotalsBy::Provider | TotalsBy::Client => None,
    }
}

fn shown(call: calls::Call) -> ModelCall {
    ModelCall {
        id: call.id,
        opened: call.opened,
        closed: call.closed,
        runner: call.runner,
        run: call.run,
        project: call.project,
        repository: call.repository,
        person: call.person,
        model: call.model,
        upstream: call.upstream,
        provider: call.provider,
        dialect: call.dialect,
        client: call.client,
        session: call.session,
        turn: call.turn,
        status: call.status,
        code: call.code,
        input_tokens: call.input_tokens,
        output_tokens: call.output_tokens,
        cache_read_tokens: call.cache_read_tokens,
        cache_write_tokens: call.cache_write_tokens,
        cost: call.cost,
        started_at: call.started_at,
        duration_ms: call.duration_ms,
    }
}
