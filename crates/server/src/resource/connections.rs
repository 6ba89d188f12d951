//! Connections of environments: where runs went, what was decided, and what went over. What was said stays sealed.

use std::collections::BTreeMap;

use stockade_api::http::{
    Connection, ConnectionSum, ConnectionSums, ListConnections, Page, ShownConnection, SumConnections,
};
use stockade_domain::ids::RecordId;
use stockade_ledger::{Body, Record};
use stockade_store::{
    Tx,
    connections::{self, ConnectionFilter, Sum},
    records, runs,
};

use super::{page, paged};
use crate::{
    answer::{Answer, Failure, Json, Path, Query},
    context::Cx,
};

/// Connections, newest first; or those that changed since a time, as they did.
#[utoipa::path(get, path = "/v1/connections", tag = "connections", params(ListConnections),
    responses((status = 200, body = Page<Connection>)))]
pub async fn list(cx: Cx, Query(query): Query<ListConnections>) -> Answer<Page<Connection>> {
    let mut tx = cx.may(cx.read().await?, cx.on_organization()?).await?;
    let filter = ConnectionFilter {
        run: query.run,
        project: query.project,
        environment: query.environment,
        // Names stand in records in small letters.
        host: query.host.map(|host| host.to_ascii_lowercase()),
        action: query.action,
        decision: query.decision,
        status: query.status,
        notable: query.notable,
        since: query.since,
        until: query.until,
    };
    let page = page(query.limit, query.cursor);
    let found = match query.changed_since {
        Some(since) => connections::changed(&mut tx, &filter, since, &page).await?,
        None => connections::list(&mut tx, &filter, &page).await?,
    };
    Ok(Json(paged(found, shown)))
}

/// What a run did on its way out, summed.
#[utoipa::path(get, path = "/v1/connections/sums", tag = "connections", params(SumConnections),
    responses((status = 200, body = ConnectionSums)))]
pub async fn sums(cx: Cx, Query(query): Query<SumConnections>) -> Answer<ConnectionSums> {
    let mut tx = cx.read().await?;
    let run = runs::get(&mut tx, query.run).await?;
    let mut tx = cx.may(tx, cx.on_run(&run)?).await?;
    let sums = connections::sums(&mut tx, run.id).await?;
    let each = |sums: Vec<Sum>| sums.into_iter().map(summed).collect();
    Ok(Json(ConnectionSums { all: each(sums.all), hosts: each(sums.hosts) }))
}

/// One connection, with what its records say besides, and the content that they cover.
#[utoipa::path(get, path = "/v1/connections/{connection}", tag = "connections", params(("connection" = String, Path)),
    responses((status = 200, body = ShownConnection)))]
pub async fn show(cx: Cx, Path(connection): Path<RecordId>) -> Answer<ShownConnection> {
    let mut tx = cx.read().await?;
    let connection = connections::get(&mut tx, connection).await?;
    let run = runs::get(&mut tx, connection.run).await?;
    let mut tx = cx.may(tx, cx.on_run(&run)?).await?;
    let opened = record(&mut tx, connection.id).await?;
    let mut contents = opened.contents().to_vec();
    let context = match opened.body {
        Body::Open { deed, .. } | Body::Refused { deed, .. } | Body::Asked { deed, .. } => deed.context,
        Body::Note { facts, .. } => facts,
        Body::Close { .. } => BTreeMap::new(),
    };
    let mut facts = BTreeMap::new();
    if let Some(closed) = connection.closed {
        let closed = record(&mut tx, closed).await?;
        contents.extend(closed.contents().iter().copied());
        if let Body::Close { facts: said, .. } = closed.body {
            facts = said;
        }
    }
    Ok(Json(ShownConnection { connection: shown(connection), context, facts, contents }))
}

async fn record(tx: &mut Tx, id: RecordId) -> Result<Record, Failure> {
    let stored = records::get(tx, id).await?;
    Record::parse(stored.canonical.as_bytes()).map_err(|error| Failure::bug("read a record", &error))
}

fn shown(connection: connections::Connection) -> Connection {
    Connection {
        id: connection.id,
        closed: connection.closed,
        parent: connection.parent,
        runner: connection.runner,
        run: connection.run,
        project: connection.project,
        environment: connection.environment,
        action: connection.action,
        host: connection.host,
        port: connection.port,
        protocol: connection.protocol,
        inspected: connection.inspected,
        method: connection.method,
        upgrade: connection.upgrade,
        repository: connection.repository,
        git_ref: connection.git_ref,
        credential: connection.credential,
        decision: connection.decision,
        policy: connection.policy,
        title: connection.title,
        approval: connection.approval,
        status: connection.status,
        code: connection.code,
        http_status: connection.http_status,
        bytes_out: connection.bytes_out,
        bytes_in: connection.bytes_in,
        address: connection.address,
        left_out: connection.left_out,
        notable: connection.notable,
        opened_at: connection.opened_at,
        closed_at: connection.closed_at,
        noted_at: connection.noted_at,
    }
}

fn summed(sum: Sum) -> ConnectionSum {
    ConnectionSum {
        action: sum.action,
        decision: sum.decision,
        host: sum.host,
        port: (sum.port != 0).then_some(sum.port),
        times: sum.times,
        left_out: sum.left_out,
        bytes_out: sum.bytes_out,
        bytes_in: sum.bytes_in,
        first_at: sum.first_at,
        last_at: sum.last_at,
    }
}
