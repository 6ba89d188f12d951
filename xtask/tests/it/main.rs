//! Tests of the repository itself.

#![expect(clippy::unwrap_used, reason = "tests: helpers beside #[test] functions fail the test too")]

mod edges;
mod promises;
