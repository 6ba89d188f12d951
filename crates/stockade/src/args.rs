//! The command line's words. It owns names, flags and their help; what they do is in [`crate::commands`].

mod environments;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};
use stockade_server::offline::presets;

pub use environments::{Classes, Environments};

/// Coding agents that work inside your walls.
#[derive(Debug, Parser)]
#[command(name = "stockade", version, propagate_version = true, max_term_width = 110, after_help = AFTER)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Who may do the work of a run: the words of the domain's `Harness`.
const AGENTS: [&str; 5] = ["stockade", "claude-code", "codex", "gemini", "opencode"];

/// How long a budget counts before it begins anew.
const PERIODS: [&str; 4] = ["total", "day", "week", "month"];

const AFTER: &str = "Begin with `stockade up`, then `stockade run --project PATH_OR_URL \"fix the failing test\"`.\n\
Exit status: 0 done, 1 the thing asked about failed, 2 the request is wrong, 3 the installation is set up wrongly,\n\
4 refused by policy or not signed in, 5 something outside did not answer, 70 a defect of ours.";

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Machine-readable output: one JSON value on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// Where `up`, `server` and `runner` keep everything, and where other commands find the address and the token of
    /// an installation on this machine.
    #[arg(long, global = true, env = "STOCKADE_DATA", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The server to talk to; normally found in the data directory.
    #[arg(long, global = true, env = "STOCKADE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// A file with an access token; normally found in the data directory.
    #[arg(long, global = true, env = "STOCKADE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: server, runner, gateway, on embedded defaults.
    Up(Up),
    /// Run the control plane alone.
    Server(Server),
    /// Run a site's runner alone: it enrols with a one-time token and dials out.
    Runner(RunnerArgs),
    /// Projects: repositories with their rules.
    #[command(subcommand, visible_alias = "projects")]
    Project(Project),
    /// Ask for something: starts a task and its first run, and watches it.
    Run(Run),
    /// Runs: attempts at a task.
    #[command(subcommand)]
    Runs(Runs),
    /// Approvals: deeds that wait for a person's yes or no.
    #[command(subcommand)]
    Approvals(Approvals),
    /// Environments: isolated, disposable places to work.
    #[command(subcommand)]
    Environments(Environments),
    /// Classes of environments: how large they are, how long they live, where they may go, what they cost.
    #[command(subcommand)]
    Classes(Classes),
    /// The policy: what is allowed, asked and denied.
    #[command(subcommand)]
    Policy(Policy),
    /// Budgets: hard limits on spending.
    #[command(subcommand)]
    Budget(Budget),
    /// Sign in: keep a server's address and your access token for all other commands.
    Login {
        /// The server's address, for example https://stockade.example.
        #[arg(long, value_name = "URL")]
        server: Option<String>,
    },
    /// Forget what `login` kept.
    Logout,
    /// Tokens by which your own tools call models through the gateway.
    #[command(subcommand, visible_alias = "tokens")]
    Token(Token),
    /// Point a tool of yours at the gateway, and prove it with a first call.
    Connect(Connect),
    /// Model calls: who used which model on which repository when, and what it cost.
    #[command(subcommand)]
    Calls(Calls),
    /// Connections of environments: where runs went, what was refused, and what went over.
    #[command(subcommand)]
    Connections(Connections),
    /// People: let somebody in, with an access token to sign in with.
    #[command(subcommand, visible_alias = "people")]
    Person(Person),
    /// Groups of people, so that a budget can be theirs.
    #[command(subcommand, visible_alias = "groups")]
    Group(Group),
    /// The record: what was decided and done.
    #[command(subcommand)]
    Audit(Audit),
    /// Runners: the processes that work inside your sites.
    #[command(subcommand)]
    Runners(Runners),
    /// Cassettes: rehearsed answers instead of a model's.
    #[command(subcommand)]
    Rehearsal(Rehearsal),
    /// Providers of models: whether each can be used from here, and what is wrong if not.
    #[command(subcommand)]
    Provider(Provider),
    /// What this machine allows and what is missing, in words.
    Doctor(Doctor),
    /// Shell completions, to standard output.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// What a runner needs, alone or within `up`.
#[derive(Debug, Clone, Args)]
pub struct Site {
    /// Configuration in TOML: models, providers, limits of environments. Default: stockade.toml in the data directory.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder with cassettes that the rehearsal provider plays, as model `rehearsal/NAME`.
    #[arg(long, value_name = "DIR", env = "STOCKADE_CASSETTES")]
    pub cassettes: Option<PathBuf>,
    /// Go on although this machine lacks the named protection (see `stockade doctor`). Repeat for more.
    #[arg(long, value_name = "CAPABILITY")]
    pub allow_degraded: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Up {
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:7080", value_name = "ADDRESS")]
    pub listen: String,
    /// Where the site's gateway and content listener listens.
    #[arg(long, default_value = "127.0.0.1:7081", value_name = "ADDRESS")]
    pub site_listen: String,
    /// Another database than the embedded one: sqlite:PATH or postgres://….
    #[arg(long, value_name = "URL", env = "STOCKADE_DATABASE")]
    pub database: Option<String>,
    #[command(flatten)]
    pub site: Site,
}

#[derive(Debug, Args)]
pub struct Server {
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:7080", value_name = "ADDRESS")]
    pub listen: String,
    /// Another database than the embedded one: sqlite:PATH or postgres://….
    #[arg(long, value_name = "URL", env = "STOCKADE_DATABASE")]
    pub database: Option<String>,
}

#[derive(Debug, Args)]
pub struct RunnerArgs {
    /// The server to dial.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// A file with the one-time token of `stockade runners token`; needed the first time only.
    #[arg(long, value_name = "FILE")]
    pub enroll_token_file: Option<PathBuf>,
    /// What people call this runner.
    #[arg(long, default_value = "runner", value_name = "NAME")]
    pub name: String,
    /// Where the site's gateway and content listener listens.
    #[arg(long, default_value = "127.0.0.1:7081", value_name = "ADDRESS")]
    pub listen: String,
    #[command(flatten)]
    pub site: Site,
}

#[derive(Debug, Subcommand)]
pub enum Project {
    /// Add a project.
    Add(ProjectAdd),
    /// All projects.
    List,
    /// One project.
    Show {
        /// Its name or id.
        project: String,
    },
}

#[derive(Debug, Args)]
pub struct ProjectAdd {
    /// What people call it.
    pub name: String,
    /// Where its repository is: a path on the runner's machine, or a URL that git understands.
    #[arg(long, value_name = "PATH_OR_URL")]
    pub repository: String,
    /// The branch to stand on; the repository's own default otherwise.
    #[arg(long, value_name = "BRANCH")]
    pub base_branch: Option<String>,
    /// A command that must succeed before a change is opened. Repeat for more.
    #[arg(long = "gate", value_name = "COMMAND")]
    pub gates: Vec<String>,
    /// How often the agent may try to make the gates pass.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub gate_attempts: u32,
    /// How far agents may go here without a person: 1 to 4.
    #[arg(long, default_value_t = 2, value_name = "LEVEL")]
    pub level: u8,
    /// The class of its environments (`stockade classes list`); the site's own if absent.
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
}

#[derive(Debug, Args)]
pub struct Run {
    /// What you want done. `-` reads it from standard input.
    pub task: String,
    /// A project's name or id; or a path or URL of a git repository, which becomes a project.
    #[arg(long, short, value_name = "PROJECT_OR_PATH_OR_URL")]
    pub project: String,
    /// The model's name: one of the site's configuration, one that has a price (claude-sonnet-5-5 if absent), or
    /// rehearsal/CASSETTE.
    #[arg(long, value_name = "NAME", env = "STOCKADE_MODEL")]
    pub model: Option<String>,
    /// Who does the work: our own loop (stockade), or that program inside the environment. It must be installed on the runner's machine.
    #[arg(long, value_name = "AGENT", env = "STOCKADE_AGENT", value_parser = AGENTS)]
    pub agent: Option<String>,
    /// At most this autonomy level: 1 in the loop, 2 on the loop, 3 orchestrator, 4 outside the loop. It can lower the project's, not raise it.
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<u8>,
    /// The class of its environment (`stockade classes list`); the project's, or else the site's own, if absent.
    #[arg(long, value_name = "CLASS", env = "STOCKADE_CLASS")]
    pub class: Option<String>,
    /// The run may spend so many dollars.
    #[arg(long, value_name = "DOLLARS")]
    pub budget: Option<String>,
    /// At most so many turns of the agent.
    #[arg(long, value_name = "N")]
    pub max_turns: Option<u32>,
    /// At most so much time of work, waiting for people not counted, for example 30m or 2h.
    #[arg(long, value_name = "DURATION")]
    pub max_time: Option<String>,
    /// How long an approval waits before silence becomes a no, for example 90s, 30m or 2d.
    #[arg(long, value_name = "DURATION")]
    pub approval_timeout: Option<String>,
    /// Watch it until it ends (the default on a terminal).
    #[arg(long, conflicts_with = "detach")]
    pub watch: bool,
    /// Print the run's id and return at once.
    #[arg(long)]
    pub detach: bool,
}

/// How much of a list.
#[derive(Debug, Clone, Args)]
pub struct Page {
    /// At most so many.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: u32,
    /// Go on where the last answer ended.
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Runs {
    /// Runs, newest first.
    List {
        /// Only this project's.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Only those in this state.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Those of tokens for the gateway instead: your own, or everybody's if you may see them.
        #[arg(long)]
        personal: bool,
        /// Only of this person: a name, an id, or `me`.
        #[arg(long, value_name = "WHO")]
        user: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One run: state, cost, change, and what it said where you may read that.
    Show {
        /// Its id.
        run: String,
        /// Also the whole transcript, in plain text from the site.
        #[arg(long)]
        transcript: bool,
        /// Also the change as a diff, in plain text from the site.
        #[arg(long)]
        diff: bool,
    },
    /// Follow a run until it ends.
    Watch {
        /// Its id.
        run: String,
    },
    /// End a run early.
    Cancel {
        /// Its id.
        run: String,
    },
    /// Try a failed or expired run again from where it stopped.
    Resume {
        /// Its id.
        run: String,
    },
    /// Answer the question that a run is waiting with.
    Reply {
        /// Its id.
        run: String,
        /// The answer. `-` reads it from standard input.
        text: String,
    },
    /// Destroy the key of a run's content: it can never be read again, and the record still verifies.
    Erase {
        /// Its id.
        run: String,
        /// Do not ask back.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Approvals {
    /// What waits for a yes or no.
    List {
        /// The answered ones as well.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        page: Page,
    },
    /// One approval, with exactly what is asked where you may read that.
    Show {
        /// Its id.
        approval: String,
    },
    /// Say yes.
    Grant {
        /// Its id.
        approval: String,
    },
    /// Say no.
    Deny {
        /// Its id.
        approval: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Does a bundle load? Every problem at once; needs no server.
    Check {
        /// The bundle.
        file: PathBuf,
    },
    /// Do a bundle's examples hold? Needs no server with a file; without, the bundle in force.
    Test {
        /// The bundle.
        file: Option<PathBuf>,
    },
    /// The bundle in force.
    Show {
        /// Every policy in Cedar instead, those that tables are written out as too.
        #[arg(long)]
        cedar: bool,
    },
    /// Presets: rules for public registries and forges that ship with Stockade.
    #[command(subcommand)]
    Preset(Preset),
    /// Which policies decide about a deed, and why.
    Explain(Explain),
    /// Put a new bundle into force.
    Apply {
        /// The bundle.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Preset {
    /// All presets. Needs no server.
    List,
    /// What a preset permits, with its examples. Needs no server.
    Show {
        /// Its name.
        #[arg(value_parser = PossibleValuesParser::new(presets()))]
        name: String,
    },
    /// Put a preset to use: at the end of the bundle in force, once all of its examples hold with it.
    Add(PresetAdd),
}

#[derive(Debug, Args)]
pub struct PresetAdd {
    /// Its name.
    #[arg(value_parser = PossibleValuesParser::new(presets()))]
    pub name: String,
    /// A person is asked about each connection.
    #[arg(long)]
    pub ask: bool,
    /// A company's mirror in place of all of its hosts: `artifactory.example/artifactory/crates`.
    #[arg(long, value_name = "HOST/PATH")]
    pub mirror: Option<String>,
    /// For this project only: its name or id. Repeat for more.
    #[arg(long = "project", value_name = "PROJECT")]
    pub projects: Vec<String>,
    /// For this autonomy level only. Repeat for more.
    #[arg(long = "level", value_name = "LEVEL", value_parser = clap::value_parser!(i64).range(1..=4))]
    pub levels: Vec<i64>,
    /// What its rules are called, if not by its name: needed to use one twice.
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Write this bundle instead of the one in force; needs no server, but for a project's name.
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// For example `tool.call`.
    pub action: String,
    /// For example `tool:run`, `model:claude-sonnet`, `project:NAME`.
    pub resource: String,
    /// `agent`, `me`, or a role: admin, developer, approver, auditor.
    #[arg(long, default_value = "agent", value_name = "WHO")]
    pub principal: String,
    /// A circumstance, for example level=2 or command="git push". Repeat for more.
    #[arg(long = "with", value_name = "NAME=VALUE")]
    pub with: Vec<String>,
    /// Ask this bundle instead of the one in force; needs no server.
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Budget {
    /// Set a limit.
    Set {
        /// `organization`, `project:NAME`, `user:me`, `user:ID`, `group:NAME`, `key:TOKEN_ID` or `model:NAME`.
        scope: String,
        /// In dollars.
        #[arg(allow_negative_numbers = true)]
        limit: String,
        /// total, day, week or month (UTC).
        #[arg(long, default_value = "month", value_name = "PERIOD", value_parser = PERIODS)]
        period: String,
    },
    /// Limits and what is spent of them.
    Show,
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make one. It is shown once.
    Create(TokenCreate),
    /// Yours, newest first.
    List {
        /// Everybody's.
        #[arg(long)]
        all: bool,
    },
    /// End one: the gateway does not know it any more within a second.
    Revoke {
        /// Its id, or its name.
        token: String,
    },
}

#[derive(Debug, Clone, Args)]
pub struct TokenCreate {
    /// What you call it, for example the machine and the tool that use it.
    pub name: String,
    /// For work on which project: its name or id.
    #[arg(long, short, value_name = "PROJECT")]
    pub project: String,
    /// At most so many dollars in a period; 50 if absent.
    #[arg(long, value_name = "DOLLARS", allow_negative_numbers = true)]
    pub budget: Option<String>,
    /// That period: total, day, week or month (UTC); a month if absent.
    #[arg(long, value_name = "PERIOD", value_parser = PERIODS)]
    pub period: Option<String>,
    /// When it ends, for example 12h or 30d; 90 days if absent.
    #[arg(long, value_name = "DURATION")]
    pub expires: Option<String>,
    /// Models that it may ask for, by their names; all that policy allows if absent.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub models: Vec<String>,
    /// Write it into this new file, which only you can read, instead of showing it.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A tool that can be pointed at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tool {
    /// Claude Code.
    Claude,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// OpenCode.
    Opencode,
    /// Aider.
    Aider,
    /// Copilot CLI.
    Copilot,
}

impl Tool {
    /// Its word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Opencode => "opencode",
            Self::Aider => "aider",
            Self::Copilot => "copilot",
        }
    }
}

#[derive(Debug, Args)]
pub struct Connect {
    /// Which tool.
    pub tool: Tool,
    /// Only print what to set (the default).
    #[arg(long, conflicts_with = "write")]
    pub print: bool,
    /// Write it into the tool's own configuration, merged with what is there; the files as they were are kept.
    #[arg(long)]
    pub write: bool,
    /// Put the files back as they were before.
    #[arg(long, conflicts_with_all = ["write", "print"])]
    pub undo: bool,
    /// The model's name; claude-sonnet-5-5 if absent.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Make a token for work on this project. The token that was made before is used if absent.
    #[arg(long, short, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Use the token in this file.
    #[arg(long, value_name = "FILE")]
    pub gateway_token_file: Option<PathBuf>,
    /// Where the site's listener is; known if the token is made here.
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// Make no call to prove it.
    #[arg(long)]
    pub no_check: bool,
}

#[derive(Debug, Subcommand)]
pub enum Calls {
    /// Calls, newest first; or sums of them.
    List(Box<CallsList>),
    /// One call.
    Show {
        /// Its id.
        call: String,
        /// Also what was said, in plain text from the site.
        #[arg(long)]
        content: bool,
    },
}

#[derive(Debug, Args)]
pub struct CallsList {
    /// Only of this person: a name, an id, or `me`.
    #[arg(long, value_name = "WHO")]
    pub user: Option<String>,
    /// Only for this project.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Only with this name of a model.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Only by this provider.
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Only of this session.
    #[arg(long, value_name = "SESSION")]
    pub session: Option<String>,
    /// Only for this run.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Only from this client, for example claude-code/2.1.197.
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,
    /// Only those that ended so: ok, error, cancelled, unknown, refused, open.
    #[arg(long, value_name = "STATUS", value_parser = ["ok", "error", "cancelled", "unknown", "refused", "open"])]
    pub status: Option<String>,
    /// Not before this day, moment, or so long ago (2026-11-21, 7d).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before it.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Sums instead of calls: user, project, model, provider, client, session or day.
    #[arg(long, value_name = "WHAT", value_parser = ["user", "project", "model", "provider", "client", "session", "day"])]
    pub by: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Debug, Subcommand)]
pub enum Connections {
    /// Connections, requests, fetches and pushes, newest first.
    List(Box<ConnectionsList>),
    /// One of them.
    Show {
        /// Its id (`connections list --ids`).
        connection: String,
        /// Also what is sealed of it, for example the path of a request, in plain text from the site.
        #[arg(long)]
        content: bool,
    },
    /// Follow them as they come and end, until the run ends or you press Ctrl-C.
    Watch {
        /// Only of this run.
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// Only what was refused.
        #[arg(long)]
        refused: bool,
    },
}

#[derive(Debug, Args)]
pub struct ConnectionsList {
    /// Only of this run.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Only of this project.
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Only out of this environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub environment: Option<String>,
    /// Only to this host: its whole name, or its address.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only this: connection.open, request.send, credential.use, git.fetch, git.push, packet_nowhere, names_crowded, names_full.
    #[arg(long, value_name = "ACTION", value_parser = [
        "connection.open", "request.send", "credential.use", "git.fetch", "git.push", "packet_nowhere", "names_crowded", "names_full",
    ])]
    pub action: Option<String>,
    /// Only what was refused.
    #[arg(long, conflicts_with = "open")]
    pub refused: bool,
    /// Only what is open.
    #[arg(long)]
    pub open: bool,
    /// Not before this day, moment, or so long ago (2026-11-21, 7d).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before it.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// With ids instead of runs: `connections show` wants one.
    #[arg(long)]
    pub ids: bool,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Debug, Subcommand)]
pub enum Person {
    /// Make an access token for a person, and the person if there is none of that name.
    Add {
        /// The person's name.
        name: String,
        /// What a new person may be. Repeat for more; without any, a new person may do nothing. Left out for somebody who is there already.
        #[arg(long = "role", value_name = "ROLE", value_parser = ["admin", "developer", "approver", "auditor"])]
        roles: Vec<String>,
        /// What the token is for, in a few words.
        #[arg(long, default_value = "sign in", value_name = "TEXT")]
        label: String,
        /// When it ends, for example 12h or 90d; never if absent.
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
        /// Write it into this new file, which only you can read, instead of showing it.
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Group {
    /// Make one with nobody in it.
    Create {
        /// Its name.
        name: String,
    },
    /// Put a person into one.
    Add {
        /// Its name or id.
        group: String,
        /// The person's name or id.
        user: String,
    },
    /// Take a person out of one.
    Remove {
        /// Its name or id.
        group: String,
        /// The person's name or id.
        user: String,
    },
    /// All of them.
    List,
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The newest records, and with --follow those to come.
    Tail {
        /// Go on until interrupted.
        #[arg(long, short)]
        follow: bool,
        /// Begin with so many.
        #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
        lines: u32,
    },
    /// Records that match.
    Search {
        /// Only of this run.
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// Only this action.
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// Only by this principal (an id).
        #[arg(long, value_name = "ID")]
        principal: Option<String>,
        /// Only those in whose public part this stands, for example a tool's name or `deny`.
        #[arg(long, value_name = "TEXT")]
        text: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One record, with its inclusion proof on demand.
    Show {
        /// Its id.
        record: String,
        /// Also prove that the ledger contains it.
        #[arg(long)]
        proof: bool,
    },
    /// Verify an export, offline: nothing changed, removed, inserted, reordered or cut off.
    Verify {
        /// The export. `-` reads standard input.
        file: PathBuf,
    },
    /// The whole record as JSON lines that `verify` understands.
    Export {
        /// Where to; standard output otherwise.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Also the sealed content (ciphertext).
        #[arg(long)]
        with_content: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Runners {
    /// All runners.
    List,
    /// A one-time token with which a runner may enrol, into a file.
    Token {
        /// Where to; it must not exist.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Rehearsal {
    /// Make a cassette from a run with a real model.
    Record {
        /// The run.
        run: String,
        /// Where to; it must not exist.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Does a cassette load?
    Check {
        /// The cassette.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Provider {
    /// Look, step by step: the name, the connection, TLS, the credential, the models. Nothing here is billed.
    Check {
        /// Only this one. Default: every provider of the configuration.
        name: Option<String>,
        #[command(flatten)]
        site: Site,
    },
}

#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub site: Site,
}

#[cfg(test)]
mod tests {
    use stockade_api::domain::Harness;

    /// If you are here because this failed, the domain has another harness: name it in `AGENTS` too, and in the manual.
    #[test]
    fn every_agent_can_be_named() {
        assert_eq!(
            super::AGENTS.map(str::to_owned).to_vec(),
            Harness::ALL.iter().map(ToString::to_string).collect::<Vec<_>>()
        );
    }
}
