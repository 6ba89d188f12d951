//! The whole product, driven from outside as a user would: real processes, real git, real databases.
//! Run them with `cargo xtask test`, which builds what they start.

mod bad_input;
mod budget;
mod commands;
mod kill;
mod real;

mod sealing;
mod spine;
