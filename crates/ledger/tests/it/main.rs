//! The ledger as other crates use it: whole logs on a real disk, hurt on purpose.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;
mod crash;
mod export;
mod ledger;
mod log;
mod note;
mod record;
mod sealing;
