//! The matrix as people read it.

use std::collections::BTreeSet;

use super::{Cell, PROVIDERS, Report};

/// How a cell ended, in a word.
fn word(report: &Report) -> &'static str {
    match (report.problems.is_empty(), &report.refused) {
        (_, Some(_)) => "refused",
        (true, None) => "works",
        (false, None) => "broken",
    }
}

/// A cell in one line, for whoever waits.
pub fn line(client: &str, provider: &str, report: &Report) -> String {
    let why = report.refused.iter().chain(&report.problems).cloned().collect::<Vec<String>>().join(" | ");
    format!("{:8} {client:30} {provider:18} {:5.1} s  {}", word(report), report.seconds, short(&why, 240))
}

fn short(text: &str, most: usize) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= most { line } else { line.chars().take(most).chain("…".chars()).collect() }
}

/// The table, and below it why cells are not green.
pub fn markdown(cells: &[Cell]) -> String {
    let tried: BTreeSet<&str> = cells.iter().map(|cell| cell.provider).collect();
    let providers: Vec<&str> = PROVIDERS.iter().map(|(name, _)| *name).filter(|name| tried.contains(name)).collect();
    let mut clients: Vec<(&str, &str)> = Vec::new();
    for cell in cells {
        if !clients.contains(&(cell.client, cell.version)) {
            clients.push((cell.client, cell.version));
        }
    }
    let mut text = format!("| client | {} |\n|---|{}\n", providers.join(" | "), "---|".repeat(providers.len()));
    let mut notes: Vec<String> = Vec::new();
    for (client, version) in clients {
        let mut row = format!("| {client} {version} |");
        for provider in &providers {
            let Some(cell) = cells.iter().find(|cell| cell.client == client && cell.provider == *provider) else {
                row.push_str(" – |");
                continue;
            };
            let why: Vec<&str> = cell.report.refused.iter().chain(&cell.report.problems).map(String::as_str).collect();
            let same = match cell.report.same.len() {
                2 => ", same bytes",
                1 => ", same answers",
                _ => "",
            };
            if why.is_empty() {
                row.push_str(&format!(" works{same} |"));
                continue;
            }
            let note = short(&why.join("; "), 300);
            let number = notes.iter().position(|known| *known == note).unwrap_or_else(|| {
                notes.push(note);
                notes.len() - 1
            });
            row.push_str(&format!(" {} ({}) |", word(&cell.report), number + 1));
        }
        text.push_str(&row);
        text.push('\n');
    }
    let count = |wanted: &str| cells.iter().filter(|cell| word(&cell.report) == wanted).count();
    let (works, refused, broken) = (count("works"), count("refused"), count("broken"));
    text.push_str(&format!("\n{} cells: {works} work, {refused} are refused, {broken} are broken.\n", cells.len()));
    let looked: usize = cells.iter().map(|cell| cell.looked_at).sum();
    let ours: usize = cells.iter().filter(|cell| cell.converted).map(|cell| cell.looked_at).sum();
    text.push_str(&format!(
        "{looked} requests were held against the providers' published schemas, {ours} of them written by the gateway.\n"
    ));
    for (number, note) in notes.iter().enumerate() {
        text.push_str(&format!("{}{}. {note}\n", if number == 0 { "\n" } else { "" }, number + 1));
    }
    text
}

/// The page of the manual.
pub fn page(cells: &[Cell]) -> String {
    format!(
        "# The agent matrix\n\n\
         This page is written by `cargo xtask matrix --write`.\n\n\
         Each row is a real client, installed from its package. Each column is a provider, played by a fake that speaks its real \
         protocol and refuses what the real one refuses. Between them is the gateway. Every client does the same task: read a \
         file, change it with a command while another command runs beside it, and say so. A cell *works* if the file was \
         changed, the provider refused nothing, every call has its record with the right usage and cost, and what was captured \
         is what the provider saw. *Same bytes* says that client and provider speak the same dialect and that the bytes were \
         compared in both directions: they differ in the model's name at most. Requests that the gateway wrote in another dialect than the client's are \
         also held against what the providers publish: the typed parameters in the SDKs of Anthropic and OpenAI, Google's models of \
         the wire, and AWS's service model. *Refused* is a refusal in the client's own error \
         shape, with the reason below.\n\n{}\n\
         ## To repeat it\n\n\
         ```sh\n\
         cargo xtask matrix                                      # all of it\n\
         cargo xtask matrix --client codex --provider gemini     # one cell\n\
         cargo xtask matrix --direct                             # the clients at the fakes, without a gateway\n\
         cargo xtask matrix --json                               # for programs\n\
         ```\n\n\
         The clients are installed once into `~/.cache/stockade-matrix` (or `STOCKADE_MATRIX_CACHE`) and used again from there \
         without a network. Each cell runs in a network of its own that holds loopback and nothing else, in a fresh home and \
         working folder, and with everything that it started it ends.\n",
        markdown(cells)
    )
}
