//! `/v1/runner`: the protocol of runners.

mod budget;
mod checkpoint;
mod proven;
mod ship;
