//! The live stream: one task reads the outbox and hands its events to every reader, so that a thousand readers cost the
//! database as much as one.
//!
//! Ids become visible in order (see the outbox in `migrations/0001_indexer.sql`), so "everything after id n" is exact: a
//! reader that comes back with the last id that it saw misses nothing and sees nothing twice.

mod event;
mod reader;
mod sse;
mod store;

use std::sync::Arc;
use std::time::Instant;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::limits::{
    STREAM_EVENTS_KEPT, STREAM_LISTEN_RETRY, STREAM_PAGE_ROWS, STREAM_POLL, STREAM_POLL_UNRUNG,
};

pub(super) use event::Event;
pub(super) use reader::{Filter, Message, follow};
pub(super) use sse::{__path_stream, stream};

/// The channel on which whoever writes the outbox rings after a commit. Without the bell the stream is slower, not wrong.
pub const OUTBOX_CHANNEL: &str = "auspex_outbox";

/// Where readers get the events from.
#[derive(Debug, Clone)]
pub struct Hub {
    pool: PgPool,
    /// Events in their order, and a reset where the outbox was trimmed before all of it was read.
    events: broadcast::Sender<Message>,
    /// The id of the last event that was handed out; `None` until the hub has found the end of the outbox.
    position: watch::Sender<Option<i64>>,
    closed: CancellationToken,
}

impl Hub {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            events: broadcast::Sender::new(STREAM_EVENTS_KEPT),
            position: watch::Sender::new(None),
            closed: CancellationToken::new(),
        }
    }

    /// Cancelled when the stream has ended for good.
    pub(super) fn closed(&self) -> CancellationToken {
        self.closed.clone()
    }

    /// Hands out events until `shutdown`. A database that is away is waited for.
    pub(super) async fn run(&self, shutdown: CancellationToken) {
        let _close = self.closed.clone().drop_guard();
        let mut bell: Option<PgListener> = None;
        let mut tried: Option<Instant> = None;
        loop {
            if bell.is_none() && tried.is_none_or(|tried| STREAM_LISTEN_RETRY < tried.elapsed()) {
                bell = listen(&self.pool).await;
                tried = Some(Instant::now());
            }
            let drained = self.drain().await;
            if let Err(error) = &drained {
                tracing::warn!(%error, "the outbox could not be read");
                bell = None;
            }
            // A database that is away is not asked more often for it.
            let unrung = bell.is_none() && drained.is_ok();
            let poll = if unrung { STREAM_POLL_UNRUNG } else { STREAM_POLL };
            let rung = async {
                match &mut bell {
                    Some(listener) => listener.recv().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                alive = rung => if !alive { bell = None },
                () = tokio::time::sleep(poll) => {}
            }
        }
    }

    /// Hands out everything that is in the outbox and was not handed out yet. What nobody waits for is not read.
    async fn drain(&self) -> Result<(), sqlx::Error> {
        let position = *self.position.borrow();
        let mut position = match position {
            Some(position) if 0 < self.events.receiver_count() => position,
            Some(_) | None => {
                let last = store::last(&self.pool).await?;
                match position {
                    // A reader came meanwhile, and may have looked at the outbox before this did.
                    Some(position) if 0 < self.events.receiver_count() => position,
                    // A reader that comes from here on looks at the outbox itself, and finds at least this.
                    Some(_) | None => {
                        self.position.send_replace(Some(last));
                        last
                    }
                }
            }
        };
        loop {
            let page = store::page(&self.pool, position, STREAM_PAGE_ROWS).await?;
            let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(()) };
            let (first, last) = (first.id, last.id);
            // Nobody listening is no error.
            if store::is_trimmed_between(&self.pool, position, first).await? {
                drop(self.events.send(Message::Reset(first - 1)));
            }
            for event in page {
                drop(self.events.send(Message::Event(Arc::new(event))));
            }
            position = last;
            self.position.send_replace(Some(position));
        }
    }
}

async fn listen(pool: &PgPool) -> Option<PgListener> {
    let connected = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(OUTBOX_CHANNEL).await?;
        Ok::<_, sqlx::Error>(listener)
    };
    match connected.await {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::debug!(%error, "the outbox's bell cannot be heard; the outbox is polled");
            None
        }
    }
}
