//! Frames between runner and server: JSON over HTTP, always begun by the runner.
//!
//! Every request but [`Enroll`] is signed with the runner's Ed25519 key: header `stockade-runner` names
//! it, `stockade-time` is the time in microseconds, `stockade-signature` is base64 of the signature over
//! [`signed_bytes`]. The server refuses a time more than five minutes away from its own clock, and checks
//! that the body's digest is the one that was signed.
//!
//! | request | path |
//! |---|---|
//! | [`Enroll`] → [`Enrolled`] | `POST /v1/runner/enroll` |
//! | [`Poll`] → [`Polled`] | `POST /v1/runner/poll` (waits up to `wait_ms`) |
//! | [`TakeLease`] → [`Lease`] | `POST /v1/runner/lease` |
//! | [`Heartbeat`] → [`Heartbeaten`] | `POST /v1/runner/heartbeat` |
//! | [`Ship`] → [`Shipped`] | `POST /v1/runner/ship` |
//! | [`LeaseSlice`] → [`Slice`] | `POST /v1/runner/slice` |
//! | [`Countersign`] → [`Countersigned`] | `POST /v1/runner/checkpoint` |

use serde::{Deserialize, Serialize};
use stockade_domain::{
    ContentRef, Desired, Digest, EnvironmentClass, Harness, Level, Nanos, Role, RunState, Timestamp,
    ids::{
        ApprovalId, EnvironmentId, GatewayTokenId, ModelCallId, ProjectId, RunId, RunnerId, SiteId, SliceId, TaskId,
        UserId,
    },
};

/// The bytes that a runner signs: `METHOD\nPATH\nTIME_US\nSHA256_HEX_OF_BODY`.
pub fn signed_bytes(method: &str, path: &str, time_us: i64, body_sha256_hex: &str) -> Vec<u8> {
    format!("{method}\n{path}\n{time_us}\n{body_sha256_hex}").into_bytes()
}

/// A runner introduces itself, once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enroll {
    /// The one-time token.
    pub token: String,
    /// What people call it.
    pub name: String,
    /// Its Ed25519 public key, base64.
    pub public_key: String,
    /// The site's HPKE public key, as `SitePublicKey` shows it.
    pub site_public_key: String,
    /// Where people inside the site reach its listener, for example `http://127.0.0.1:7081`.
    pub listener: String,
}

/// Who it is from now on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// Itself.
    pub runner: RunnerId,
    /// Its site.
    pub site: SiteId,
    /// The server's Ed25519 public key, base64: signs content tickets and counter-signs checkpoints.
    pub server_public_key: String,
}

/// What is new? Sent all the time; the server holds it until something is, or `wait_ms` has passed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Poll {
    /// The revision of the last answer, 0 at first. A reply comes at once if the present one is another.
    pub revision: u64,
    /// How long to hold it, at most 25,000.
    pub wait_ms: u64,
    /// Where people inside the site reach its listener.
    pub listener: String,
    /// The number of the policy bundle it has in force, 0 for none.
    pub bundle: u64,
    /// The classes of environments that it makes, the one that is used where nobody names one first.
    #[serde(default)]
    pub classes: Vec<EnvironmentClass>,
}

/// The whole desired state of this runner. *Invariant:* whole, never a difference, so that a runner that
/// missed an answer missed nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Polled {
    /// To be sent back with the next poll.
    pub revision: u64,
    /// The bundle in force, where the runner has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleText>,
    /// What this runner should work on.
    pub assignments: Vec<Assignment>,
    /// Every token that opens the gateway of this site.
    #[serde(default)]
    pub tokens: Vec<SiteToken>,
    /// Personal runs whose key was destroyed lately: nothing of them is opened any more.
    #[serde(default)]
    pub erased: Vec<RunId>,
    /// Answers to questions about calls of personal runs that no runner has taken note of.
    #[serde(default)]
    pub answers: Vec<ApprovalAnswer>,
}

/// A person's token for the gateway, as its site knows it: never the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteToken {
    /// Its row.
    pub token: GatewayTokenId,
    /// The SHA-256 of the token.
    pub hash: Digest,
    /// Its run.
    pub run: RunId,
    /// Whose.
    pub owner: UserId,
    /// What that person may be, sorted.
    pub roles: Vec<Role>,
    /// For work on which project.
    pub project: ProjectId,
    /// The autonomy level of its run.
    pub level: Level,
    /// Models it may ask for; all that policy allows if empty.
    pub models: Vec<String>,
    /// When it stops working by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The run's data key, wrapped to the site's key, base64.
    pub wrapped_key: String,
}

/// A policy bundle as text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BundleText {
    /// Its number.
    pub number: u64,
    /// Its source, as `stockade policy show` prints it.
    pub text: String,
}

/// One run with its environment, as this runner should have it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// Who asked.
    pub owner: UserId,
    /// Where the server believes the run to be.
    pub state: RunState,
    /// What the run should come to, from people: nothing, or an early end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Its environment.
    pub environment: EnvironmentId,
    /// What the environment should be.
    pub desired: Desired,
    /// Which generation that is.
    pub generation: u64,
    /// The name of its class; the runner's first if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The project, as it was when the run began.
    pub project: ProjectSpec,
    /// How the agent works.
    pub agent: AgentSpec,
    /// The run's data key, wrapped to the site's key, base64. Absent once erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped_key: Option<String>,
    /// What the person asked for, sealed; the bytes come as `task_sealed`.
    pub task_content: ContentRef,
    /// The sealed bytes, base64.
    pub task_sealed: String,
    /// Answers that people have given: the runner takes note of those it waits for.
    #[serde(default)]
    pub approvals: Vec<ApprovalAnswer>,
    /// Replies to questions, in the order in which they were given.
    #[serde(default)]
    pub replies: Vec<Reply>,
}

/// An early end, wanted by a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// End it.
    Cancel,
    /// Destroy its key and whatever plain text is left of it.
    Erase,
    /// Try again from where it stopped.
    Resume,
}

/// A project as a runner needs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProjectSpec {
    /// Which.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// Where its repository is: a path on the runner's machine, or a URL that `git` understands.
    pub repository: String,
    /// The branch to stand on; empty for the repository's own default.
    pub base_branch: String,
    /// The commands that must succeed before a change is opened, each for `sh -c`.
    pub gates: Vec<String>,
    /// How often the agent may try to make the gates pass.
    pub gate_attempts: u32,
    /// The autonomy level of this run.
    pub level: Level,
}

/// How the agent works.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Who does the work.
    #[serde(default)]
    pub harness: Harness,
    /// The model's name, as people ask for it.
    pub model: String,
    /// At most so many turns.
    pub max_turns: u32,
    /// At most so long, waiting for people not counted.
    pub max_time_ms: u64,
    /// At most so many tokens of all kinds.
    pub max_tokens: u64,
    /// The run's own budget.
    pub max_cost: Nanos,
    /// How long an approval waits before silence becomes a no.
    pub approval_timeout_ms: u64,
}

/// A person's yes or no.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApprovalAnswer {
    /// To which.
    pub approval: ApprovalId,
    /// Yes or no.
    pub granted: bool,
    /// Whose; nobody's if time ran out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// When.
    pub at: Timestamp,
}

/// A person's answer to a question of the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// From 1, in the run.
    pub number: u64,
    /// Sealed.
    pub content: ContentRef,
    /// The sealed bytes, base64.
    pub sealed: String,
    /// Whose.
    pub by: UserId,
}

/// May I work on this run?
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TakeLease {
    /// Which.
    pub run: RunId,
}

/// The right to work on a run for a time. The fence number is in every event that is shipped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lease {
    /// Which.
    pub run: RunId,
    /// Grows with every lease of the run; a write with a smaller one is refused.
    pub fence: u64,
    /// How long it holds unless a heartbeat renews it.
    pub ttl_ms: u64,
}

/// I am alive and still work on these.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Run and fence.
    pub leases: Vec<(RunId, u64)>,
    /// How many entries wait in the spool.
    pub spooled: u64,
    /// Since when the server could not be reached, if it just came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_since: Option<Timestamp>,
}

/// Which leases hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heartbeaten {
    /// These were renewed.
    pub renewed: Vec<RunId>,
    /// These are lost: stop working on them.
    pub lost: Vec<RunId>,
    /// The server's clock.
    pub now: Timestamp,
}

/// The next entries of the runner's spool, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ship {
    /// The position of the first one. The server knows which it expects.
    pub first: u64,
    /// One after the other, without gaps.
    pub entries: Vec<Entry>,
}

/// One line of a spool.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A ledger record: its canonical bytes, which are UTF-8 JSON.
    Record {
        /// The canonical bytes.
        canonical: String,
    },
    /// A sealed piece of content.
    Content {
        /// Its run.
        run: RunId,
        /// What it is.
        content: ContentRef,
        /// The sealed bytes, base64.
        sealed: String,
    },
    /// A line of a run.
    Event {
        /// The fence of the lease under which it happened.
        fence: u64,
        /// The line.
        line: stockade_domain::RunEvent,
    },
    /// Spending.
    Budget {
        /// What.
        #[serde(flatten)]
        entry: BudgetEntry,
    },
}

/// What a runner did with leased money. *Invariant:* over the life of a slice, the sum of `Settled` and
/// `Returned` is what was leased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "budget", rename_all = "snake_case")]
pub enum BudgetEntry {
    /// A slice has arrived (the runner's own note; the server knows).
    Leased {
        /// Which.
        slice: SliceId,
        /// For which run.
        run: RunId,
        /// For calls to the model of this name.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        model: String,
        /// How much.
        amount: Nanos,
    },
    /// Money is set aside for a call, before it is made. Said again while it is under way, it is so much from then on.
    Reserved {
        /// Of which slice.
        slice: SliceId,
        /// For which call.
        call: ModelCallId,
        /// How much.
        amount: Nanos,
    },
    /// The call is over: so much of what was set aside is spent, the rest is free again.
    Settled {
        /// Of which slice.
        slice: SliceId,
        /// Which call.
        call: ModelCallId,
        /// How much.
        spent: Nanos,
    },
    /// What is left goes back. The slice is over.
    Returned {
        /// Which.
        slice: SliceId,
        /// How much.
        amount: Nanos,
    },
}

/// How far the server has it now, durably.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shipped {
    /// The position it expects next. If `first` was smaller, what it already had was passed over; if `first`
    /// was larger, nothing was taken and the runner begins here.
    pub next: u64,
}

/// Money for a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseSlice {
    /// Chosen by the runner, so that a repeated request gives the same slice.
    pub slice: SliceId,
    /// For which run.
    pub run: RunId,
    /// For calls to the model of this name.
    #[serde(default)]
    pub model: String,
    /// At least so much is needed for the next call.
    pub need: Nanos,
    /// So much would be convenient.
    pub want: Nanos,
}

/// Leased money.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slice {
    /// Which.
    pub slice: SliceId,
    /// How much: at least `need`, at most `want`; 0 if some budget has not that much left.
    pub amount: Nanos,
    /// If 0: the scope of the budget that is used up, for the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<stockade_domain::BudgetScope>,
}

/// A runner's checkpoint for the server to counter-sign.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Countersign {
    /// The signed note.
    pub note: String,
}

/// The same with the server's signature line added.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Countersigned {
    /// The signed note.
    pub note: String,
}
