//! The guest's program, tried without a launcher: commands, files, the transfer folder, the journal, bad peers.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bed;
mod commands;
mod files;
mod peers;
