//! Cassettes.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _};

use stockade_api::{
    domain::{ContentKind, ContentRef, ids::RunId},
    http::ListRecords,
};
use stockade_runner::offline;

use super::{Context, parse, site};
use crate::{
    args,
    failure::{Failure, Outcome},
};

/// The largest cassette that is read, in bytes.
const MAX_CASSETTE: u64 = 16 * 1024 * 1024;

pub async fn main(context: &Context, command: args::Rehearsal) -> Outcome {
    match command {
        args::Rehearsal::Check { file } => {
            let wrong = |why: String| {
                Failure::user("cassette", format!("{}: {why}", file.display()), "docs/rehearsal.md shows the form")
            };
            let size = fs::metadata(&file).map_err(|error| wrong(error.to_string()))?.len();
            if size > MAX_CASSETTE {
                return Err(wrong(format!("is larger than {MAX_CASSETTE} bytes")));
            }
            let text = fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
            let turns = offline::check_cassette(&text).map_err(wrong)?;
            context.output.show(&serde_json::json!({"ok": true, "turns": turns}), |_| {
                format!("the cassette loads: {turns} turns")
            })
        }
        args::Rehearsal::Record { run, output } => {
            let run: RunId = parse("run", &run)?;
            let exchanges = exchanges(context, run).await?;
            let name =
                output.file_stem().map_or_else(|| "recorded".to_owned(), |stem| stem.to_string_lossy().into_owned());
            let text = offline::record_cassette(&name, &exchanges).map_err(|why| {
                Failure::user(
                    "not_recordable",
                    format!("{run} makes no cassette: {why}"),
                    "record a run whose model calls succeeded",
                )
            })?;
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&output);
            let mut file = file.map_err(|error| {
                Failure::user(
                    "output_file",
                    format!("{} cannot be made: {error}", output.display()),
                    "name a file that does not exist yet",
                )
            })?;
            file.write_all(text.as_bytes())?;
            let told = serde_json::json!({"file": output, "calls": exchanges.len()});
            context.output.show(&told, |_| {
                format!(
                    "{} model calls are in {}: play it as model rehearsal/{name}",
                    exchanges.len(),
                    output.display()
                )
            })
        }
    }
}

/// The bodies of the run's model calls that gave an answer, in order, in plain text.
async fn exchanges(context: &Context, run: RunId) -> Outcome<Vec<(Vec<u8>, Vec<u8>)>> {
    let client = context.client()?;
    let site = site(&client, run).await?;
    let mut query = ListRecords { run: Some(run), limit: Some(500), ..ListRecords::default() };
    let mut records = Vec::new();
    loop {
        let page = client.records(&query).await?;
        records.extend(page.items);
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    records.sort_by_key(|record| record.seq);
    let content = |record: &serde_json::Value, kind: ContentKind| -> Option<ContentRef> {
        let contents: Vec<ContentRef> = serde_json::from_value(record.pointer("/body/contents")?.clone()).ok()?;
        contents.into_iter().find(|content| content.kind == kind)
    };
    let mut exchanges = Vec::new();
    for close in records.iter().filter(|record| {
        record.record["body"]["phase"] == "close" && record.record["body"]["outcome"]["status"] == "ok"
    }) {
        let Some(response) = content(&close.record, ContentKind::ModelResponse) else { continue };
        let open = records.iter().find(|open| close.record["body"]["of"] == open.id.to_string());
        let Some(request) = open.and_then(|open| content(&open.record, ContentKind::ModelRequest)) else { continue };
        let (request, response) = (site.content(run, &request).await?, site.content(run, &response).await?);
        exchanges.push((request.to_vec(), response.to_vec()));
    }
    Ok(exchanges)
}
