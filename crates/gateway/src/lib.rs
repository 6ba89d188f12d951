//! The LLM gateway.
//!
//! This crate owns the way of every model call: who asks ([`Runs`]), may they (policy, and people: [`Approvals`]), is there money ([`Purse`]), the
//! record that is durable before anything is sent, the bytes that go to the provider and come back untouched, the copy of
//! them from which usage and content are taken, and the end: settled, sealed, recorded, whatever happened in between.
//! It also owns the rehearsal provider ([`rehearsal`]), a local server that plays cassettes instead of a model.
//!
//! It refuses: SQL, the control plane, and any second way. A call of our own loop ([`Gateway::call`]) and a call over HTTP
//! ([`Gateway::router`]) go through one function. *Invariant:* the provider is dialled in one place, and that place takes
//! an opened record with the permit in it.
//!
//! Where the client speaks its provider's dialect, what is relayed is the client's and the provider's bytes, but for these:
//! credentials and cookies, headers that belong to one connection (RFC 9110, section 7.6.1), `accept-encoding` (always
//! `identity`, so that the copy can be read), the model's name where it is an alias, and members that the provider's
//! envelope has elsewhere. Where the dialects differ, requests and answers are converted.

mod asking;
mod call;
mod caller;
pub mod capture;
pub mod content;
pub mod credential;
mod door;
mod envelope;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod headers;
mod http_door;
pub mod limit;
mod limits;
mod listing;
mod looked;
mod meter;
pub mod metrics;
mod models;
mod outlet;
mod plumbing;
mod purse;
pub mod rehearsal;
mod relay;
mod session;
mod settle;
mod unserved;
mod upstream;

pub use asking::{Approvals, Inquiry, NobodyToAsk, Unasked, Word};
pub use call::{CallError, Failure, FailureKind, Finished};
pub use caller::{Caller, Proof, Runs, Unproven};
pub use credential::{KeyError, KeySource};
pub use gateway::{Gateway, Parts};
pub use limits::Limits;
pub use models::{Kind, ModelError, ModelTable, Provider, Question, Route, Said, TableError, Target, toml_error};
pub use purse::{Purse, PurseError};
