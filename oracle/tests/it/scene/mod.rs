//! What the tests stand on: a chain with the contracts, operators with keys, and an indexer small enough to be read.

pub(crate) mod chain;
pub(crate) mod indexer;
pub(crate) mod node;

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Asks until the answer is there. Tests never sleep for luck: they wait for a fact, up to a deadline.
pub(crate) async fn eventually<T, Asking>(what: &str, question: impl Fn() -> Asking) -> T
where
    Asking: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
