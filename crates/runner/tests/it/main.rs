//! The runner against a control plane that the tests steer, real git repositories, the rehearsal provider, and a stand-in for
//! environments whose guests run real commands.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what it expects by failing"
)]

mod fakes;
mod harness;
mod plane;
mod tended;
mod trip;

/// One place where the tests wait: for the thing itself, never for a time.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(40), async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited 40 seconds for: {what}"))
}
