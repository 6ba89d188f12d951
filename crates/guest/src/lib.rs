//! The guest: what runs as the first process of an environment and acts there for the runner.
//!
//! It owns commands (with their streams, time-outs and ends), files, the transfer folder, and the journal of
//! call ids that makes a repeated call harmless. It answers `stockade_api::guest` frames on a socket that it
//! inherits.
//!
//! It refuses: credentials (its environment is empty and it asks for none), the network, and deciding: whoever
//! holds the socket has been permitted. *Invariant:* the workload can neither signal nor trace it nor reach its
//! journal; what the workload writes (paths, links, pipes, output) is hostile.

mod boot;
mod exec;
mod executions;
mod files;
mod forker;
mod frames;
mod journal;
mod kept;
mod proc;
mod put;
mod search;
mod server;
mod sys;
mod watch;

pub use boot::{Boot, BootError};
pub use frames::{FrameError, parse_request, read_frame, write_frame};
pub use journal::{Begun, Intent, Journal, JournalError};
pub use kept::Kept;
pub use server::serve;

/// The version that `Pong` names.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
