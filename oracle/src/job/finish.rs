//! Wakes the jobs whose delivery has become safe, when the safe head moves.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::heads::Heads;
use crate::job::store::wake_delivered;

/// Runs until told to stop. A wake that fails is made up for by the next one, or by the jobs' own recheck.
pub async fn run(
    pool: PgPool,
    mut heads: watch::Receiver<Option<Heads>>,
    work: Arc<Notify>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut done = None;
    while let Some(Ok(())) = shutdown.run_until_cancelled(heads.changed()).await {
        let safe = heads.borrow_and_update().and_then(|heads| heads.safe).map(|safe| safe.number);
        let Some(number) = safe.filter(|_| safe != done) else { continue };
        match wake_delivered(&pool, number).await {
            Ok(woken) => {
                done = safe;
                if 0 < woken {
                    work.notify_waiters();
                    work.notify_one();
                }
            }
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "delivered jobs are not woken");
            }
        }
    }
    Ok(())
}
