//! The whole ledger as a stream of JSON lines, for whoever wants to verify it without us.
//!
//! One snapshot of the database: what is appended meanwhile is in the next export. Content is included on
//! demand and stays sealed. This is the one way of reading that is always recorded.

use std::{collections::HashSet, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use stockade_api::http::Export;
use stockade_domain::{Digest, ids::RunId};
use stockade_ledger::{Checkpoint, ExportLine, Producer, Record, SignedNote};
use stockade_store::{Tx, contents, records, runs};
use tokio::sync::mpsc;

use super::ledgers;
use crate::{
    answer::{Failure, Query, chain},
    app::App,
    context::Cx,
    ledger,
};

/// How many records are read at once.
const RECORDS_AT_ONCE: u32 = 500;

/// How many lines wait for a slow reader. When they are full, reading from the database waits.
const LINES_WAITING: usize = 64;

/// The most pieces of content of one run in an export.
const MAX_CONTENTS: u32 = 100_000;

/// Exports all ledgers: header, keys, records, checkpoints, and on demand sealed content.
#[utoipa::path(get, path = "/v1/export", tag = "ledger", params(Export),
    responses((status = 200, body = String, content_type = "application/x-ndjson")))]
pub async fn stream(cx: Cx, Query(query): Query<Export>) -> Result<Response, Failure> {
    let work = cx.open(cx.write().await?, cx.on_organization()?).await?;
    work.end(Ok(())).await?;

    let tx = cx.read().await?;
    let (lines, waiting) = mpsc::channel::<Result<Bytes, std::io::Error>>(LINES_WAITING);
    let app = Arc::clone(&cx.app);
    tokio::spawn(async move {
        let mut out = Lines { lines };
        if let Err(error) = write(&app, tx, &query, &mut out).await
            && !matches!(error, Ended::Reader)
        {
            // The reader sees a connection that breaks instead of an export that looks whole.
            tracing::error!(error = %error, "an export broke off");
            let _ = out.lines.send(Err(std::io::Error::other("the export broke off"))).await;
        }
    });
    let body = Body::from_stream(futures_util::stream::unfold(waiting, |mut waiting| async move {
        waiting.recv().await.map(|line| (line, waiting))
    }));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))], body).into_response())
}

/// Why an export ends early.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the reader went away")]
    Reader,
    #[error("{0}")]
    Failed(String),
}

impl From<stockade_store::StoreError> for Ended {
    fn from(error: stockade_store::StoreError) -> Self {
        Self::Failed(chain(&error))
    }
}

struct Lines {
    lines: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

impl Lines {
    async fn say(&mut self, line: &ExportLine) -> Result<(), Ended> {
        self.lines.send(Ok(Bytes::from(line.to_line()))).await.map_err(|_| Ended::Reader)
    }
}

async fn write(app: &App, mut tx: Tx, query: &Export, out: &mut Lines) -> Result<(), Ended> {
    out.say(&ExportLine::header(app.now())).await?;
    let keys = ledgers::keys(&mut tx).await.map_err(|failure| Ended::Failed(failure.error.message))?;
    let ledgers = records::ledgers(&mut tx).await?;
    for (producer, key) in &keys {
        let (Ok(producer), Ok(key)) = (producer.parse::<Producer>(), key.parse()) else {
            return Err(Ended::Failed(format!("the key of {producer} makes no sense")));
        };
        out.say(&ExportLine::Key { name: Checkpoint::origin_of(&producer), key }).await?;
    }
    let with_content = query.content || query.content_of.is_some();
    // What the exported records cover. Content of others came with what is not signed yet, and would prove nothing.
    let mut covered = HashSet::new();
    for state in &ledgers {
        // What no checkpoint signs yet proves nothing: it is in the next export, a moment later.
        let note = checkpoint(app, &mut tx, state).await?;
        let signed = note.as_ref().map_or(0, |note| note.checkpoint().size.min(state.size));
        let mut from = 0;
        while from < signed {
            let some = records::export(&mut tx, &state.producer, from, RECORDS_AT_ONCE).await?;
            if some.is_empty() {
                return Err(Ended::Failed(format!("record {from} of {} is missing", state.producer)));
            }
            for record in some.into_iter().take(usize::try_from(signed - from).unwrap_or(usize::MAX)) {
                from += 1;
                if with_content {
                    let read = Record::parse(record.canonical.as_bytes());
                    let read = read.map_err(|error| Ended::Failed(format!("{}: {error}", record.id)))?;
                    covered.extend(read.contents().iter().map(|content| content.digest));
                }
                out.say(&ExportLine::record(record.canonical.as_bytes())).await?;
            }
        }
        let producer: Producer =
            state.producer.parse().map_err(|_| Ended::Failed(format!("{} is no producer", state.producer)))?;
        if let Some(note) = note {
            out.say(&ExportLine::Checkpoint { producer, note }).await?;
        }
    }
    if query.content {
        let mut page = stockade_store::Page { limit: stockade_store::MAX_PAGE, cursor: None };
        loop {
            let some = runs::list(&mut tx, &runs::RunFilter::default(), &page).await?;
            for run in &some.items {
                sealed(&mut tx, run.id, &covered, out).await?;
            }
            page.cursor = some.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
    } else if let Some(run) = query.content_of {
        sealed(&mut tx, run, &covered, out).await?;
    }
    Ok(())
}

/// This server's ledger is signed as it is now; others' have the last checkpoint that their producers signed.
async fn checkpoint(app: &App, tx: &mut Tx, state: &records::LedgerState) -> Result<Option<SignedNote>, Ended> {
    if state.producer == app.server.to_string() {
        return Ok(Some(ledger::checkpoint(app, tx).await?));
    }
    if state.note.is_empty() {
        return Ok(None);
    }
    let note = state.note.parse().map_err(|error| Ended::Failed(format!("a kept checkpoint: {error}")))?;
    Ok(Some(note))
}

async fn sealed(tx: &mut Tx, run: RunId, covered: &HashSet<Digest>, out: &mut Lines) -> Result<(), Ended> {
    for content in contents::list(tx, run, MAX_CONTENTS).await? {
        if !covered.contains(&content.digest) {
            continue;
        }
        let (content, bytes) = contents::get(tx, run, content.digest).await?;
        let sealed = stockade_api::base64::encode(&bytes);
        out.say(&ExportLine::Content { kind: content.kind, digest: content.digest, sealed }).await?;
    }
    Ok(())
}
