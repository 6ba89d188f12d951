//! The server's side of the runner protocol (`stockade_api::runner`), one file per request.
//!
//! It owns who a runner is (a key, and nothing else), that nothing is taken twice, and what a runner is told.
//! It refuses to begin anything: runners call, the server answers.

mod enroll;
mod lease;
mod poll;
mod proven;
mod ship;

pub use enroll::enroll;
pub use lease::{heartbeat, lease, slice};
pub use poll::poll;
pub use proven::Replays;
pub use ship::{checkpoint, ship};

/// How many shipments are read at a time. Further ones wait, each at most [`SHIPMENT_WAIT_MS`].
pub const SHIPMENTS: usize = 16;

/// How long a shipment waits for room, in milliseconds, before it is refused with HTTP 503.
pub const SHIPMENT_WAIT_MS: u64 = 30_000;

/// How long a lease holds without a heartbeat, in milliseconds.
pub const LEASE_TTL_MS: u64 = 30_000;

/// The longest that a poll is held, in milliseconds. A longer `wait_ms` waits this long.
pub const MAX_POLL_MS: u64 = 25_000;

/// The longest name, address or key in what a runner says about itself, in bytes.
pub const MAX_TEXT: usize = 500;
