//! The gateway against real sockets: a provider that can be steered, a client that hangs up, a real policy and a real
//! ledger.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are not inside test functions, and a test fails by panicking"
)]

mod asked;
mod budget;
mod capture;
mod compacting;
mod endings;
mod fake;
mod guarded;
mod house;
mod refusals;
mod rehearsal;
mod relay;
mod renewal;
mod routes;
mod rows;
mod wire;

/// Every cassette that this repository ships loads.
#[test]
fn the_shipped_cassettes_load() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["samples/cassettes", "crates/stockade/tests/cassettes"] {
        let cassettes = stockade_gateway::rehearsal::Cassette::load_folder(&root.join(folder)).unwrap();
        assert!(!cassettes.is_empty(), "{folder}");
    }
}
