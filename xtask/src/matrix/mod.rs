//! The agent matrix: every client through the gateway to every provider.
//!
//! It owns the list of cells, trying each in a network and a home of its own, and the table. What happens within a cell is
//! `stockade-cell`'s (in the testkit). It refuses to let one cell hold up another, and to end anything that it did not start.

mod clients;
mod install;
mod schemas;
mod table;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::clients::{CLIENTS, Client, NODE, Package};
use crate::sh;

/// What a cell may take.
const SECONDS: u64 = 120;

/// The providers, each with the model that the gateway asks it for.
pub const PROVIDERS: &[(&str, &str)] = &[
    ("anthropic", "claude-sonnet-4-6-20260217"),
    ("bedrock", "eu.anthropic.claude-sonnet-4-6-v1:0"),
    ("vertex-claude", "claude-sonnet-4-6@20260217"),
    ("openai", "gpt-5.2-2025-12-11"),
    ("openai-compatible", "gpt-4.1-mini"),
    ("azure", "our-deployment"),
    ("gemini", "gemini-3-pro-preview"),
    ("vertex-gemini", "gemini-3-pro-preview"),
    ("bedrock-converse", "us.amazon.nova-premier-v1:0"),
];

/// Makes sure that the agents are there which tests start inside environments.
pub fn agents() -> Result<()> {
    for package in clients::INSIDE {
        install::ensure(package)?;
    }
    Ok(())
}

/// What is asked on the command line.
#[derive(Debug, Args)]
pub struct Wish {
    /// Only clients whose name contains this.
    #[arg(long)]
    client: Option<String>,
    /// Only this provider.
    #[arg(long)]
    provider: Option<String>,
    /// No gateway: each client straight at the provider that speaks its dialect. This proves the fakes.
    #[arg(long)]
    direct: bool,
    /// One JSON document on standard output and nothing else.
    #[arg(long)]
    json: bool,
    /// Write the table into the manual.
    #[arg(long)]
    write: bool,
    /// Cells at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Keep the folders of the cells here.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What came of a cell, as `stockade-cell` says it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    pub problems: Vec<String>,
    pub refused: Option<String>,
    pub calls: BTreeMap<String, usize>,
    pub cost: i64,
    pub same: Vec<String>,
    pub seconds: f64,
    pub output: String,
}

/// A cell and its end.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    pub client: &'static str,
    pub version: &'static str,
    pub provider: &'static str,
    /// Whether the gateway wrote the provider's requests in another dialect than the client's.
    pub converted: bool,
    /// Requests that were held against what the provider publishes.
    pub looked_at: usize,
    /// What is wrong with them by that.
    pub schema: Vec<String>,
    #[serde(flatten)]
    pub report: Report,
}

/// Tries the cells and shows the table.
pub fn run(wish: &Wish) -> Result<()> {
    if !sh::has("unshare") {
        bail!("the matrix needs `unshare` (util-linux), so that no client reaches the world");
    }
    let picked: Vec<&Client> = CLIENTS
        .iter()
        .filter(|client| {
            let wanted = wish.client.as_deref().unwrap_or_default().to_lowercase();
            client.name.to_lowercase().contains(&wanted)
        })
        .collect();
    let mut cells = Vec::new();
    for client in picked {
        for (provider, upstream) in PROVIDERS {
            let same = client.dialect.home() == *provider;
            let wanted = wish.provider.as_deref().is_none_or(|wanted| wanted == *provider);
            if wanted && (!wish.direct || same) {
                cells.push((client, *provider, *upstream));
            }
        }
    }
    if cells.is_empty() {
        bail!(
            "no cell is called that: clients {}, providers {}",
            names(CLIENTS.iter().map(|c| c.name)),
            names(PROVIDERS.iter().map(|(name, _)| *name))
        );
    }
    let mut programs = BTreeMap::new();
    for (client, _, _) in &cells {
        for package in [client.package, NODE] {
            // A client that cannot be had is said in its cells, and the others are tried.
            programs
                .entry(format!("{package:?}"))
                .or_insert_with(|| install::ensure(package).map_err(|e| format!("{e:#}")));
        }
    }
    sh::run(sh::cargo().args(["build", "--quiet", "--package", "stockade-testkit", "--features", "cell", "--bins"]))?;
    let program = sh::target().join("debug/stockade-cell");
    let scratch = tempfile::tempdir()?;
    let folder = wish.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;

    let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..wish.jobs.max(1) {
            scope.spawn(|| {
                while let Some((number, (client, provider, upstream))) =
                    Some(next.fetch_add(1, Ordering::SeqCst)).and_then(|at| Some((at, cells.get(at)?)))
                {
                    let folder = folder.join(format!("cell-{number:03}"));
                    let report = attempt(client, provider, upstream, wish.direct, &folder, &program, &programs);
                    let report = report.unwrap_or_else(|error| Report {
                        problems: vec![format!("not tried: {error:#}")],
                        ..Report::default()
                    });
                    if !wish.json {
                        sh::say(&table::line(client.name, provider, &report));
                    }
                    let cell = Cell {
                        client: client.name,
                        version: client.version,
                        provider,
                        converted: !wish.direct && client.dialect.converted(provider),
                        looked_at: 0,
                        schema: Vec::new(),
                        report,
                    };
                    ended.lock().unwrap_or_else(PoisonError::into_inner).push((number, cell));
                }
            });
        }
    });
    let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by_key(|(number, _)| *number);
    schemas::check(&folder, &mut ended, wish.json)?;
    let cells: Vec<Cell> = ended.into_iter().map(|(_, cell)| cell).collect();
    if wish.json {
        sh::say(&serde_json::to_string_pretty(&cells)?);
    } else {
        sh::say(&table::markdown(&cells));
    }
    if wish.write {
        if wish.client.is_some() || wish.provider.is_some() || wish.direct {
            bail!("only the whole matrix is written into the manual");
        }
        let page = sh::root().join("docs/gateway/matrix.md");
        fs::create_dir_all(page.parent().unwrap_or(&page))?;
        fs::write(&page, table::page(&cells))?;
        sh::say(&format!("written: {}", page.display()));
    }
    Ok(())
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<&str>>().join(", ")
}

type Programs = BTreeMap<String, Result<PathBuf, String>>;

/// Tries one cell in a network, a home and a process space of its own. All that it starts ends with it.
fn attempt(
    client: &Client,
    provider: &str,
    upstream: &str,
    direct: bool,
    folder: &Path,
    program: &Path,
    programs: &Programs,
) -> Result<Report> {
    let found = |package: Package| -> Result<PathBuf> {
        let found = programs.get(&format!("{package:?}")).context("not installed")?;
        found.clone().map_err(|why| anyhow::anyhow!(why))
    };
    let (package, node) = (found(client.package)?, found(NODE)?);
    let words = [
        ("{package}", package.display().to_string()),
        ("{python}", package.join("python").display().to_string()),
        ("{node}", node.join("node").display().to_string()),
    ];
    let fill = |text: &str| words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value));
    let (home, work) = (folder.join("home"), folder.join("work"));
    fs::create_dir_all(&home)?;
    fs::create_dir_all(&work)?;
    let path = std::env::join_paths([
        node.as_path(),
        package.as_path(),
        Path::new("/usr/local/bin"),
        Path::new("/usr/bin"),
        Path::new("/bin"),
    ])?;
    let mut env: BTreeMap<String, String> =
        client.env.iter().map(|(name, value)| ((*name).to_owned(), fill(value))).collect();
    let base = [
        ("PATH", path.to_string_lossy().into_owned()),
        ("HOME", "{home}".to_owned()),
        ("TMPDIR", "{home}".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TERM", "dumb".to_owned()),
        ("NO_COLOR", "1".to_owned()),
        ("SHELL", "/bin/bash".to_owned()),
        ("CI", "1".to_owned()),
    ];
    env.extend(base.map(|(name, value)| (name.to_owned(), value)));
    let (same_request, same_answer) = client.dialect.same(provider);
    // The names differ, so that one that should have been changed and was not is found out.
    let upstream = match (direct, provider, client.model) {
        (true, ..) => client.model,
        // What a client sends to a model that does not reason, one that does would refuse: its bytes are not touched.
        (false, "openai", "gpt-4.1") => "gpt-4.1-2025-04-14",
        _ => upstream,
    };
    let spec = json!({
        "provider": provider, "through": !direct, "model": client.model, "upstream": upstream,
        "command": client.command.iter().map(|part| fill(part)).collect::<Vec<String>>(), "env": env,
        "files": client.files.iter().map(|(path, text)| (fill(path), fill(text))).collect::<BTreeMap<String, String>>(),
        "home": home, "work": work, "captured": folder.join("captured"), "aside": client.aside, "turns": client.turns,
        "same_request": same_request, "same_answer": same_answer, "seconds": SECONDS,
    });
    let file = folder.join("cell.json");
    fs::write(&file, serde_json::to_vec_pretty(&spec)?)?;
    let mut command = Command::new("unshare");
    if !fs::read_to_string("/proc/self/status")?.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
    command.arg("ip link set lo up && exec \"$0\" \"$1\"").arg(program).arg(&file);
    let said = sh::output(&mut command)?;
    serde_json::from_str(&said).with_context(|| format!("the cell said {said:?}"))
}
