//! The guest's program, tried without a launcher: commands, files, the transfer folder, the journal, bad peers.

mod bed;
mod commands;
mod files;
mod peers;
