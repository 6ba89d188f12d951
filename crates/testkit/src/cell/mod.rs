//! One cell of the agent matrix: a real client, a provider on loopback, between them a gateway or nothing.
//!
//! It owns the task that every client is given, running the client, and looking at what came of it. It refuses to know any
//! client: command, variables and files come in the [`Spec`], with `{words}` for what is only known here.

mod house;
mod look;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::fakes::{Fake, Kind, Script, Turn, Usage, reasoning, run, text};

pub use house::{House, KEY, TOKEN, Told};

/// The file that the client is to change, and how it looks before and after.
pub const NOTES: &str = "notes.txt";
/// Before.
pub const BEFORE: &str = "The meeting is on Monday.\n";
/// After.
pub const AFTER: &str = "The meeting is on Tuesday.\n";

/// What is to be tried.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The provider: `anthropic`, `openai`, `openai-compatible`, `azure`, `gemini`, `vertex-gemini`, `vertex-claude`,
    /// `bedrock`, `bedrock-converse`.
    pub provider: String,
    /// Whether there is a gateway in between.
    pub through: bool,
    /// The name that the client asks for.
    pub model: String,
    /// The name at the provider.
    pub upstream: String,
    /// What is run, with its arguments.
    pub command: Vec<String>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// Files that it finds, by path.
    pub files: BTreeMap<String, String>,
    /// Its home and its working folder.
    pub home: PathBuf,
    /// The working folder.
    pub work: PathBuf,
    /// Where captured requests are put, for the check against published schemas.
    pub captured: Option<PathBuf>,
    /// What is said to requests without a tool for commands.
    pub aside: Option<String>,
    /// How many turns the client must have taken.
    pub turns: usize,
    /// Whether the provider gets the client's bytes (but for the model's name), so that they are compared.
    pub same_request: bool,
    /// Whether the client gets the provider's bytes, so that they are compared.
    pub same_answer: bool,
    /// How long it may take.
    pub seconds: u64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Default)]
pub struct Report {
    /// What is wrong; nothing if it works.
    pub problems: Vec<String>,
    /// What the gateway said when it refused a call on purpose.
    pub refused: Option<String>,
    /// Calls that reached the provider, by operation.
    pub calls: BTreeMap<String, usize>,
    /// What the calls cost together, in nano-dollars.
    pub cost: i64,
    /// Which bytes were compared and are the same: `requests`, `answers`.
    pub same: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// The end of what the client said.
    pub output: String,
}

/// The task as the model works on it: three turns, the second with two calls at once.
#[must_use]
pub fn script(spec: &Spec) -> Script {
    let usage = |input, cache_read, output| Usage { input, cache_read, cache_write: 0, output, reasoning: output / 4 };
    let mut script = Script::new(vec![
        Turn::of(vec![
            reasoning("The notes name a day. I read them before I change anything."),
            text("I look at the notes first."),
            run("cat notes.txt"),
        ])
        .using(usage(1_200, 0, 80)),
        Turn::of(vec![
            reasoning("It says Monday. One command changes it, another one shows who else is told: “wc”."),
            run("sed -i 's/Monday/Tuesday/' notes.txt"),
            run("wc -c people.txt"),
        ])
        .using(usage(300, 1_100, 120)),
        Turn::of(vec![text("The meeting is on Tuesday now.")]).using(usage(200, 1_400, 40)),
    ]);
    script.models = vec![spec.upstream.clone()];
    if let Some(aside) = &spec.aside {
        script.aside.clone_from(aside);
    }
    script
}

/// Runs a cell.
///
/// # Errors
/// If it could not even be tried.
pub fn try_out(spec: &Spec) -> Result<Report> {
    let kind = kind(&spec.provider)?;
    let fake = Fake::start(kind, KEY, script(spec))?;
    let house = spec.through.then(|| House::start(&fake, spec)).transpose()?;
    let mut words: BTreeMap<&str, String> = BTreeMap::new();
    for (door, direct) in
        [("anthropic", ""), ("openai", "/v1"), ("gemini", ""), ("vertex", ""), ("bedrock", ""), ("azure", "")]
    {
        let url = match &house {
            Some(house) => format!("{}/gateway/{door}{direct}", house.url()),
            None => format!("{}{direct}", fake.url()),
        };
        words.insert(door, url);
    }
    words.insert("key", if spec.through { TOKEN } else { KEY }.to_owned());
    words.insert("auth", if spec.through { "bearer" } else { "signed" }.to_owned());
    words.insert("model", spec.model.clone());
    words.insert("home", spec.home.display().to_string());
    words.insert("work", spec.work.display().to_string());

    for (path, content) in &spec.files {
        write(Path::new(&filled(path, &words)), &filled(content, &words))?;
    }
    write(&spec.work.join(NOTES), BEFORE)?;
    write(&spec.work.join("people.txt"), "Ada\nGrace\n")?;
    let ran = run_client(spec, &words)?;
    let mut report = Report { seconds: ran.seconds, output: ran.output, ..Report::default() };
    look::at_client(spec, ran.status, &mut report);
    look::at_provider(spec, &fake, &mut report);
    if let Some(house) = house {
        look::at_gateway(spec, &fake, &house, &mut report);
    }
    if let Some(folder) = &spec.captured {
        keep(&fake, folder)?;
    }
    Ok(report)
}

/// Which fake plays a provider of the matrix.
///
/// # Errors
/// If none is called that.
pub fn kind(provider: &str) -> Result<Kind> {
    Ok(match provider {
        "anthropic" => Kind::Anthropic,
        "openai" | "openai-compatible" => Kind::OpenAi,
        "azure" => Kind::Azure,
        "gemini" => Kind::Gemini,
        "vertex-gemini" | "vertex-claude" => Kind::Vertex,
        "bedrock" | "bedrock-converse" => Kind::Bedrock,
        other => anyhow::bail!("no provider is called {other}"),
    })
}

fn write(path: &Path, content: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content).with_context(|| format!("{} cannot be written", path.display()))
}

/// A text with its words filled in.
fn filled(text: &str, words: &BTreeMap<&str, String>) -> String {
    words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(&format!("{{{word}}}"), value))
}

struct Ran {
    status: Option<ExitStatus>,
    seconds: f64,
    output: String,
}

/// Runs the client to its end, or for as long as it may.
fn run_client(spec: &Spec, words: &BTreeMap<&str, String>) -> Result<Ran> {
    let mut command = spec.command.iter().map(|part| filled(part, words));
    let program = command.next().context("no command")?;
    let log = spec.home.join("client.log");
    let out = fs::File::create(&log)?;
    let began = Instant::now();
    let mut child = Command::new(&program)
        .args(command)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, filled(value, words))))
        .current_dir(&spec.work)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .process_group(0)
        .spawn()
        .with_context(|| format!("{program} does not start"))?;
    let until = began + Duration::from_secs(spec.seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        loop {
            if let Some(status) = child.try_wait()? {
                return anyhow::Ok(Some(status));
            }
            if Instant::now() > until {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let output = said.chars().rev().take(2_000).collect::<Vec<char>>().into_iter().rev().collect();
    Ok(Ran { status, seconds: began.elapsed().as_secs_f64(), output })
}

/// Puts the requests that the provider saw into files: what it was, and the body as it came.
fn keep(fake: &Fake, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (number, seen) in fake.exchanges().iter().filter(|seen| !seen.body.is_empty()).enumerate() {
        let base = folder.join(format!("{number:03}-{}", seen.operation));
        fs::write(base.with_extension("json"), &seen.body)?;
        fs::write(base.with_extension("answer"), &seen.answer)?;
        let headers: String = seen.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        fs::write(base.with_extension("head"), format!("{} {}\n{headers}", seen.method, seen.target))?;
    }
    ensure!(folder.is_dir(), "nothing was kept");
    Ok(())
}
