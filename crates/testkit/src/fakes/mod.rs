//! Model providers on loopback: real servers that speak the real protocols, say what a [`Script`] says in every one of them,
//! refuse what the real ones refuse, and fail when they are told to.
//!
//! They own the wire of Anthropic, OpenAI, Azure, Gemini, Bedrock and Vertex as the real ones show it, and keep every
//! request and every answer byte for byte. They refuse to know anything of Stockade: which turn comes next follows from the
//! conversation in the request alone. They are strict, not lenient: what a real provider would not take is refused in its
//! own error shape and kept in [`Fake::refusals`], so that a test that forgets to look still sees a failed call.

mod anthropic;
mod chat;
mod check;
mod converse;
mod frames;
mod gemini;
mod responses;
mod routes;
mod script;
mod serve;
mod tools;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::runtime::Runtime;

pub use script::{Part, Script, Stop, Turn, Usage, reasoning, run, text};

use script::Given;
use serve::{Reply, Request};

/// Which provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Anthropic: Messages.
    Anthropic,
    /// OpenAI: chat completions, responses, embeddings.
    OpenAi,
    /// Azure OpenAI: the same by deployments with an `api-version`, and by `v1`.
    Azure,
    /// The Gemini API.
    Gemini,
    /// AWS Bedrock: Converse, and Messages by `invoke`.
    Bedrock,
    /// Google Vertex: Gemini, and Messages by `rawPredict`.
    Vertex,
}

/// What goes wrong with one answer. `after` counts the pieces of a stream that still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// This status, with the provider's own error body: 500, 503, 529.
    Status(u16),
    /// 429: come back after so many seconds.
    RateLimited(u64),
    /// Every piece takes this long.
    Slow(Duration),
    /// Then nothing more comes, and the connection stays.
    Silence {
        /// Pieces that still come.
        after: usize,
    },
    /// Then the connection is reset.
    Reset {
        /// Pieces that still come.
        after: usize,
    },
    /// Then the connection ends as if nothing were missing.
    Cut {
        /// Pieces that still come.
        after: usize,
    },
    /// Then the stream says that it failed, and ends.
    ErrorEvent {
        /// Pieces that still come.
        after: usize,
    },
    /// Then comes one piece that nobody can read, and afterwards the rest.
    Malformed {
        /// Pieces that still come before it.
        after: usize,
    },
    /// Then comes a line of so many bytes that means nothing, and afterwards the rest.
    Gigantic {
        /// Pieces that still come before it.
        after: usize,
        /// How long the line is.
        bytes: usize,
    },
}

/// A request and its answer, byte for byte.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// When the request was complete.
    pub at: Instant,
    /// `POST`, for example.
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    /// The request's headers, as they came.
    pub headers: Vec<(String, String)>,
    /// The request's body, as it came.
    pub body: Vec<u8>,
    /// What was asked for: `messages`, `count_tokens`, `chat`, `responses`, `embeddings`, `gemini`, `converse`, `models`, or
    /// `other`.
    pub operation: &'static str,
    /// The model that was asked for, if one was.
    pub model: Option<String>,
    /// What was done to the answer on purpose.
    pub fault: Fault,
    /// The answer's status.
    pub status: u16,
    /// The answer's body, as far as it was sent.
    pub answer: Vec<u8>,
    /// Whether the answer was sent to its end.
    pub whole: bool,
    /// What the answer counts as, if it was a turn.
    pub usage: Option<Usage>,
    /// Why the request was refused, if it was.
    pub refusal: Option<String>,
}

impl Exchange {
    /// A header of the request.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A provider. It ends when it is dropped.
#[derive(Debug)]
pub struct Fake {
    addr: SocketAddr,
    kind: Kind,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    kind: Kind,
    key: String,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    script: Script,
    given: Given,
    faults: VecDeque<Fault>,
    standing: Fault,
    exchanges: Vec<Exchange>,
}

impl Fake {
    /// Starts one that wants this key (Bedrock: this access key id, or this bearer) and says this.
    ///
    /// # Errors
    /// If there is no port or no thread for it.
    pub fn start(kind: Kind, key: &str, script: Script) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let memory = Memory {
            script,
            given: Given::default(),
            faults: VecDeque::new(),
            standing: Fault::None,
            exchanges: Vec::new(),
        };
        let shared = Arc::new(Shared { kind, key: key.to_owned(), memory: Mutex::new(memory) });
        runtime.spawn(serve::accept(listener, Arc::clone(&shared)));
        Ok(Self { addr, kind, shared, runtime: Some(runtime) })
    }

    /// Where it is.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it is, as a URL without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Which provider it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// It says this from now on.
    pub fn says(&self, script: Script) {
        self.shared.memory().script = script;
    }

    /// What goes wrong with the next answers, one each.
    pub fn faults(&self, faults: &[Fault]) {
        self.shared.memory().faults.extend(faults);
    }

    /// What goes wrong with every answer for which nothing else was told.
    pub fn always(&self, fault: Fault) {
        self.shared.memory().standing = fault;
    }

    /// Everything that came and went so far.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.memory().exchanges.clone()
    }

    /// Why requests were refused so far, with their targets.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        let told = |seen: &Exchange| Some(format!("{} {}: {}", seen.method, seen.target, seen.refusal.as_ref()?));
        self.shared.memory().exchanges.iter().filter_map(told).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request and keeps it. Gives its number.
    fn answer(&self, request: Request) -> (usize, Fault, Reply) {
        let mut memory = self.memory();
        let memory = &mut *memory;
        let fault = match request.method.as_str() {
            "POST" => memory.faults.pop_front().unwrap_or(memory.standing),
            _ => Fault::None,
        };
        let answered = routes::answer(self.kind, &self.key, &request, fault, &memory.script, &mut memory.given);
        let number = memory.exchanges.len();
        memory.exchanges.push(Exchange {
            at: Instant::now(),
            method: request.method,
            target: request.target,
            headers: request.headers,
            body: request.body,
            operation: answered.operation,
            model: answered.model,
            fault,
            status: answered.reply.status,
            answer: Vec::new(),
            whole: false,
            usage: answered.usage,
            refusal: answered.refusal,
        });
        (number, fault, answered.reply)
    }

    /// These bytes are sent; with them, all of the answer or not.
    fn sent(&self, number: usize, bytes: &[u8], whole: bool) {
        if let Some(exchange) = self.memory().exchanges.get_mut(number) {
            exchange.answer.extend_from_slice(bytes);
            exchange.whole |= whole;
        }
    }
}
