//! The agent loop against a model that the tests play.

mod behaviour;
mod compaction;
mod limits;
mod properties;
mod sim;
mod snapshot;
