//! What looking for content costs: clean text of an agent's conversation, the default classes, 100 KB. Prints one JSON object.

#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::{error::Error, hint::black_box, time::Instant};

use serde_json::json;
use stockade_policy::content::detect::{BUILT_IN, ClassId, ClassSet, Detectors, Tracker};

const ROUNDS: usize = 2_000;

fn main() -> Result<(), Box<dyn Error>> {
    let detectors = Detectors::new(&[], &[]).map_err(|wrong| format!("{wrong:?}"))?;
    let text = prose(100_000);
    let mut figures = serde_json::Map::new();
    let select = |want: &dyn Fn(&str) -> bool| {
        let mut set = ClassSet::default();
        for (n, _) in BUILT_IN.iter().enumerate().filter(|(_, name)| want(name)) {
            set.insert(ClassId::try_from(n).unwrap_or_default());
        }
        set
    };
    let secrets = |name: &str| name.starts_with("secret.") && name != "guess.secret";
    let money = |name: &str| ["personal.card", "personal.iban"].contains(&name);
    for (what, set) in [
        ("secrets", select(&secrets)),
        ("cards_and_ibans", select(&money)),
        ("email", select(&|name| name == "personal.email")),
        ("national_ids", select(&|name| name.starts_with("personal.national_id"))),
        ("beside_keywords", select(&|name| name == "guess.secret")),
        ("default_classes", select(&|name| secrets(name) || money(name) || name == "personal.email")),
    ] {
        let mut hits = Vec::new();
        let mut times: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                hits.clear();
                detectors.scan(black_box(text.as_bytes()), &set, &mut hits);
                begun.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        figures.insert(format!("{what}_median_us"), json!(times.get(ROUNDS / 2)));
        figures.insert(format!("{what}_hits"), json!(hits.len()));
    }
    // A stream: twenty bytes at a time, as tokens come.
    let set = select(&|name| secrets(name) || money(name));
    let begun = Instant::now();
    let mut tracker = Tracker::new(&detectors, set);
    let mut pieces = 0_u32;
    for piece in text.as_bytes().chunks(20) {
        tracker.push(piece);
        black_box(tracker.settle(&detectors, false));
        pieces += 1;
    }
    figures.insert("stream_piece_us".into(), json!(begun.elapsed().as_secs_f64() * 1e6 / f64::from(pieces)));
    println!("{}", json!({ "name": "content", "bytes": text.len(), "rounds": ROUNDS, "figures": figures }));
    Ok(())
}

/// Something like what agents send: sentences, code with line numbers, paths, JSON, hashes.
fn prose(len: usize) -> String {
    const PARTS: [&str; 8] = [
        "Let me look at how the configuration is read and what happens when a task is started again.\\n",
        "     142→    pub fn settle(&mut self, detectors: &Detectors, last: bool) -> Settled {\\n",
        "     143→        let mut hits = Vec::with_capacity(16); // at most that many\\n",
        "crates/gateway/src/exchange.rs:204:            Ruling::Deny(refusal) => {\\n",
        "{\\\"type\\\":\\\"tool_use\\\",\\\"name\\\":\\\"Read\\\",\\\"input\\\":{\\\"file_path\\\":\\\"/srv/app/Cargo.toml\\\"}}",
        "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 (2026-03-14 09:26:53 +0100), 12 files, +340 -28\\n",
        "  \\\"dependencies\\\": { \\\"@types/node\\\": \\\"^22.7.4\\\", \\\"react\\\": \\\"18.2.0\\\" },\\n",
        "The risk is small: task-scheduling, disk-usage and password handling stay as they are.\\n",
    ];
    let mut out = String::with_capacity(len + 200);
    let mut n = 0_usize;
    while out.len() < len {
        out.push_str(PARTS.get(n * 7 % 8).copied().unwrap_or_default());
        n += 1 + out.len() % 3;
    }
    out.truncate(out.char_indices().map(|(at, _)| at).take_while(|at| *at <= len).last().unwrap_or_default());
    out
}
