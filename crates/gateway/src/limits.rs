//! What one gateway holds, and for how long it waits. `docs/limits.md` lists them with their endings.

use std::time::Duration;

use crate::capture::CaptureLimits;

/// The limits of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest body of a request, in bytes. Above: 413.
    pub request_bytes: usize,
    /// All header names and values of a request together, in bytes. Above: 431.
    pub header_bytes: usize,
    /// How long a client may take to send its body. Then: 408.
    pub request_read: Duration,
    /// The most bytes of an answer that are kept for the record. The rest is relayed, and the record says that it was cut.
    pub capture_bytes: usize,
    /// How long a provider may take to accept a connection. Then: 502.
    pub connect: Duration,
    /// How long a provider may take until its answer begins: an answer in one piece begins when it is complete. Then: 504.
    pub first_byte: Duration,
    /// How long an answer may pause. Then it is cut off.
    pub idle: Duration,
    /// After so long without anything for the client of a converted stream, a sign of life of the provider is passed on in the client's
    /// form. A provider that says nothing has none.
    pub keep_alive: Duration,
    /// How long a client may leave a chunk unread. Then it counts as gone.
    pub client_stall: Duration,
    /// How much is remembered of the requests that were made, so that what they repeat is stored once.
    pub capture: CaptureLimits,
}

/// How many chunks of an answer wait for a slow client. Then the provider is not read any further.
pub const CHUNKS_IN_FLIGHT: usize = 16;

/// How long a stopped call in process waits for its settlement before it returns without it.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

/// The pauses between attempts to settle a call and to close its record.
pub const CLOSE_RETRIES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_millis(1_000), Duration::from_millis(3_000)];

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 32 * 1024 * 1024,
            header_bytes: 64 * 1024,
            request_read: Duration::from_secs(60),
            capture_bytes: 32 * 1024 * 1024,
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(300),
            keep_alive: Duration::from_secs(10),
            client_stall: Duration::from_secs(300),
            capture: CaptureLimits::default(),
        }
    }
}

/// How long an idle connection to a provider is kept.
pub const POOL_IDLE: Duration = Duration::from_secs(60);
/// How many idle connections to one provider are kept.
pub const POOL_CONNECTIONS: usize = 512;
/// What is read of a provider's answer before it is understood: bounds its headers. Above: the answer is refused.
pub const PROVIDER_BUFFER_BYTES: usize = 256 * 1024;
