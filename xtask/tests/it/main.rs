//! Tests of the repository itself.

mod edges;
mod promises;
