//! The store's whole suite, on both engines. Each test gets a database of its own.
//!
//! If you are here because Postgres is missing: the tests named `on_postgres` say so and pass; with the variable `CI`
//! set they fail instead.

#![expect(clippy::unwrap_used, reason = "a test that finds what it did not expect is over")]

mod approving;
mod calling;
mod connecting;
mod door;
mod engines;
mod fixture;
mod intake;
mod leasing;
mod money;
mod people;
mod projects;
mod recording;
mod running;
mod scopes;
