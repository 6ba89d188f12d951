//! The control plane: `stockade server`.
//!
//! This crate owns the use cases of the public API, its HTTP form and its OpenAPI document, tokens, the
//! server's side of the runner protocol, content tickets, the reconcilers, and the start and stop of the
//! process. It refuses: content in plain text and any key that opens it, SQL (the store has it), deciding
//! (the policy does), and every way into a site: runners call here, never the other way round.
//!
//! Three execution contexts, and every operation is in exactly one of them:
//!
//! * a **request** ([`operation`]): authenticated, decided, recorded and written in one transaction, never
//!   retried by us;
//! * a **shipment** from a runner (`site`): taken exactly once, in order;
//! * a **reconciler** (`reconcile`): re-reads the world and takes no input. An event may wake it, never tell
//!   it anything.
//!
//! *Invariant:* a record and the write that it speaks about are one transaction.

mod answer;
mod app;
mod config;
mod context;
mod engine;
mod error;
mod ledger;
pub mod offline;
mod openapi;
pub mod operation;
mod operations;
mod reconcile;
mod resource;
mod secret;
mod serve;
mod site;
mod start;

pub use config::{Database, ServerConfig};
pub use error::ServerError;
pub use openapi::document;
pub use operations::OPERATIONS;
pub use start::{RunningServer, Server};
