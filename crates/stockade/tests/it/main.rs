//! The whole product, driven from outside as a user would: real processes, real git, real databases.
//! Run them with `cargo xtask test`, which builds what they start.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests: helpers beside #[test] functions fail the test too"
)]

mod agents;
mod as_user;
mod asked;
mod bad_input;
mod books;
mod budget;
mod classes;
mod commands;
mod crowd;
mod faults;
mod kill;
mod metrics;
mod personal;
mod postgres;
mod presets;
mod provider;
mod real;
mod real_work;
mod sealing;
mod spine;
mod told;
mod ways_out;
