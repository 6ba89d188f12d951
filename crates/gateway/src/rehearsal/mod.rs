//! The rehearsal provider: plays a cassette instead of a model.

mod cassette;

pub use cassette::{Cassette, CassetteError};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves these cassettes over Anthropic's Messages API until `stop` is cancelled. The model's name in a request is the
/// cassette's name.
///
/// # Errors
/// If the listener fails.
pub async fn serve(_listener: TcpListener, _cassettes: Vec<Cassette>, _stop: CancellationToken) -> std::io::Result<()> {
    Ok(())
}
