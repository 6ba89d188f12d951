//! The agent loop as a machine without input and output.
//!
//! This crate owns what an agent does next: the conversation with the model, the tools it may call and how
//! their untrusted input is read, the order in which calls are carried out, limits, retries, compaction, gates and
//! endings. It is a fold: [`Agent::apply`] takes the journalled [`Line`]s of a run, [`Agent::wants`] says what shall be
//! done now and is a function of those lines alone, so a runner that died goes on by folding its journal again.
//!
//! It refuses: input and output, clocks, credentials, deciding. A tool call that is wanted here is not yet allowed;
//! the runner decides and records it. Where a program of somebody else's does the work (`harness`), it takes the place of the
//! turns with the model: it is wanted, its end is told, gates and the change follow as always. *Invariant:* every body it produces is a valid Messages conversation, whatever the
//! model, a tool or a repository said.

mod agent;
mod calls;
mod compact;
mod config;
mod conversation;
mod definitions;
mod harness;
mod input;
mod message;
mod prompt;
mod repeat;
mod step;
mod text;
pub mod tool;
mod want;

pub use agent::{Agent, ApplyError};
pub use calls::{INTERRUPTED, MAX_RESULT};
pub use config::Config;
pub use definitions::definitions;
pub use harness::MAX_HARNESS_FAILURES;
pub use input::{Facts, HarnessEnd, Input, Line, ModelFailure};
pub use message::tool_calls;
pub use prompt::{MAX_INSTRUCTIONS, PROMPT_VERSION, SYSTEM, prompt_digest};
pub use text::Ran;
pub use tool::Tool;
pub use want::{Notice, ToolUse, Want};
