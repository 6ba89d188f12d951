//! The record.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use futures_util::StreamExt as _;
use serde_json::Value;
use stockade_api::{
    client::Client,
    domain::Timestamp,
    http::{Export, ListRecords, Record},
};

use super::{Context, parse, time};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::table,
};

/// How often `tail --follow` asks.
const FOLLOW: Duration = Duration::from_millis(700);

pub async fn main(context: &Context, command: args::Audit) -> Outcome {
    match command {
        args::Audit::Tail { follow, lines } => tail(context, &context.client()?, follow, lines).await,
        args::Audit::Search { run, action, principal, text, page } => {
            let query = ListRecords {
                run: run.map(|id| parse("run", &id)).transpose()?,
                action: action.map(|word| parse("action", &word)).transpose()?,
                principal,
                text,
                limit: Some(page.limit),
                cursor: page.cursor,
                ..ListRecords::default()
            };
            let page = context.client()?.records(&query).await?;
            context.output.show(&page, |page| {
                let more =
                    page.next_cursor.as_ref().map_or_else(String::new, |cursor| format!("\nmore: --cursor {cursor}"));
                list(&page.items) + &more
            })
        }
        args::Audit::Show { record, proof } => {
            let client = context.client()?;
            let id = parse("record", &record)?;
            if proof {
                let proof = client.proof(id).await?;
                let ledgers = client.ledgers().await?.items;
                let key = ledgers
                    .into_iter()
                    .find(|ledger| ledger.producer == proof.producer)
                    .and_then(|ledger| ledger.public_key);
                let checked = stockade_server::offline::verify_proof(&proof, &key.unwrap_or_default())?;
                context.output.show(&serde_json::json!({"proof": proof, "verified": checked}), |_| {
                    format!("{}\n\nproven: record {} of {}; {checked}", proof.canonical, proof.seq, proof.producer)
                })
            } else {
                let record = client.record(id).await?;
                context.output.show(&record, |record| {
                    let line = Line::of(&record.record);
                    let head = format!("{}  {} {} {}  {}", line.at, line.phase, line.who, line.deed, line.result);
                    format!("{head}\n{}", serde_json::to_string_pretty(&record.record).unwrap_or_default())
                })
            }
        }
        args::Audit::Verify { file } => verify(context, &file),
        args::Audit::Export { output, with_content } => {
            export(context, &context.client()?, output.as_deref(), with_content).await
        }
    }
}

fn list(records: &[Record]) -> String {
    // A close names the record it closes: people want to see of what.
    let deeds: BTreeMap<String, String> =
        records.iter().map(|record| (record.id.to_string(), Line::of(&record.record).deed)).collect();
    let rows = records.iter().map(|record| {
        let mut line = Line::of(&record.record);
        if let Some(deed) = line.deed.strip_prefix("of ").and_then(|id| deeds.get(id)) {
            line.deed = format!("of {deed}");
        }
        [line.at, line.phase, line.who, line.deed, line.result, record.seq.to_string(), record.id.to_string()]
    });
    table(["when (UTC)", "phase", "who", "deed", "result", "seq", "record"], rows)
}

/// What a person wants to see of a record.
struct Line {
    at: String,
    phase: String,
    who: String,
    deed: String,
    result: String,
}

impl Line {
    /// Records come from a database: every field may be missing.
    fn of(whole: &Value) -> Self {
        let record = whole.get("body").unwrap_or(whole);
        let text = |path: &str| record.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let at = whole.get("at").and_then(Value::as_i64).map_or_else(String::new, |at| time(Timestamp(at)));
        let phase = text("/phase");
        let (deed, result) = match phase.as_str() {
            "close" => {
                let cost = record.get("cost").and_then(Value::as_i64).map(stockade_api::domain::Nanos);
                let cost = cost.map_or_else(String::new, |cost| format!(" {cost}"));
                (format!("of {}", text("/of")), format!("{}{cost}", text("/outcome/status")))
            }
            "note" => (text("/code"), String::new()),
            _ => {
                let deed = format!("{} {}", text("/deed/action"), text("/deed/resource/id"));
                (deed, format!("{}: {}", text("/decision/answer"), text("/decision/policies/0/title")))
            }
        };
        let principal = text("/deed/principal/kind");
        Self { at, phase, who: principal, deed, result: result.trim_end_matches([' ', ':']).to_owned() }
    }
}

async fn tail(context: &Context, client: &Client, follow: bool, lines: u32) -> Outcome {
    let query = ListRecords { limit: Some(lines), ..ListRecords::default() };
    let mut newest = client.records(&query).await?.items;
    newest.reverse();
    if !follow {
        return context.output.show(&newest, |records| list(records));
    }
    let mut seen = BTreeSet::new();
    let mut since = Timestamp(0);
    loop {
        for record in newest.iter().filter(|record| seen.insert(record.id)) {
            since = since.max(Timestamp(record.record.get("at").and_then(Value::as_i64).unwrap_or(0)));
            if context.output.json {
                context.output.json(record)?;
            } else {
                let line = Line::of(&record.record);
                context
                    .output
                    .line(&format!("{}  {:<7} {:<7} {}  {}", line.at, line.phase, line.who, line.deed, line.result))?;
            }
        }
        tokio::time::sleep(FOLLOW).await;
        // Records of several producers arrive a little out of order: the last minute is asked for again.
        let since = Timestamp(since.0.saturating_sub(60_000_000));
        let query = ListRecords { since: Some(since), limit: Some(500), ..ListRecords::default() };
        newest = client.records(&query).await?.items;
        newest.reverse();
    }
}

fn verify(context: &Context, file: &Path) -> Outcome {
    let report = if file == Path::new("-") {
        stockade_server::offline::verify_export(&mut std::io::stdin().lock())
    } else {
        let opened = fs::File::open(file).map_err(|error| {
            Failure::user(
                "export_file",
                format!("{} cannot be read: {error}", file.display()),
                "make one with `stockade audit export --output FILE`",
            )
        })?;
        stockade_server::offline::verify_export(&mut BufReader::new(opened))
    };
    match report {
        Ok(report) => context.output.show(&report, |report| {
            let rows = report.ledgers.iter().map(|ledger| {
                [
                    ledger.producer.clone(),
                    ledger.records.to_string(),
                    ledger.signed.to_string(),
                    ledger.unclosed.len().to_string(),
                    ledger.signed_by.join(" "),
                    ledger.root.clone(),
                ]
            });
            let table = table(["producer", "records", "signed", "unclosed", "signed by", "root"], rows);
            format!("verified: nothing was changed, removed, inserted, reordered or cut off\n{table}")
        }),
        Err(why) => {
            if context.output.json {
                context.output.json(&serde_json::json!({"verified": false, "why": why.to_string()}))?;
            } else {
                context.output.line(&format!("NOT verified: {why}"))?;
            }
            Err(Failure::No)
        }
    }
}

/// How long `export` waits for the last records to be signed.
const SIGNING: Duration = Duration::from_secs(5);

/// What no checkpoint signs yet is in no export: waits a moment until everything recorded so far is signed, or says what is not.
async fn signed(context: &Context, client: &Client) -> Outcome {
    let sizes: Vec<(String, u64)> =
        client.ledgers().await?.items.into_iter().map(|ledger| (ledger.producer, ledger.size)).collect();
    let begun = std::time::Instant::now();
    loop {
        let now = client.ledgers().await?.items;
        let is_signed = |producer: &str, size: u64| {
            let note =
                now.iter().find(|ledger| ledger.producer == producer).and_then(|ledger| ledger.checkpoint.as_ref());
            // The second line of a checkpoint is the size of the tree (C2SP tlog-checkpoint).
            let signed = note.and_then(|note| note.lines().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
            producer.starts_with("srv_") || signed >= size
        };
        let open: Vec<&str> = sizes
            .iter()
            .filter(|(producer, size)| !is_signed(producer, *size))
            .map(|(producer, _)| producer.as_str())
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > SIGNING {
            context
                .output
                .remark(&format!("the newest records of {} are not signed yet and left out", open.join(", ")));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn export(context: &Context, client: &Client, output: Option<&Path>, content: bool) -> Outcome {
    signed(context, client).await?;
    let mut stream = client.export(&Export { content_of: None, content }).await?;
    let Some(path) = output else {
        while let Some(bytes) = stream.next().await {
            std::io::stdout().lock().write_all(&bytes?)?;
        }
        return Ok(());
    };
    // Whole or not at all: half an export would look like a truncated ledger.
    let fresh = path.with_extension("partial");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(|error| {
            Failure::user(
                "output_file",
                format!("{} cannot be written: {error}", fresh.display()),
                "name a file in a folder that exists",
            )
        })?;
    let mut size: u64 = 0;
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        size = size.saturating_add(bytes.len() as u64);
        file.write_all(&bytes)?;
    }
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let told = serde_json::json!({"file": path, "bytes": size});
    context
        .output
        .show(&told, |_| format!("{size} bytes in {}; check with `stockade audit verify {0}`", path.display()))
}
