//! The agent loop against a model that the tests play.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod behaviour;
mod compaction;
mod harness;
mod limits;
mod properties;
mod sim;
mod snapshot;
