//! The server as its callers see it: a real one on a free port, on a real database, with a runner whose
//! behaviour the tests steer. The modules below `v1` mirror the addresses of the API.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod authorization;
mod bad_input;
mod client;
mod harness;
mod openapi;
mod operations;
mod runner;
mod start;
mod v1;
