//! One reader of the live stream, whatever protocol carries it.

use std::sync::Arc;

use alloy::primitives::B256;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc};

use super::super::error::ApiError;
use super::super::limits::{STREAM_BUFFER, STREAM_PAGE_ROWS, STREAM_WRITE_TIME_MAX};
use super::super::partial::{Partial, Watch};
use super::super::state::ServeState;
use super::{Event, Hub, store};

/// What a reader wants to see.
#[derive(Debug, Clone, Default)]
pub(in crate::serve) struct Filter {
    /// Names of tables; empty means all.
    pub entities: Vec<String>,
    /// 0x-hex in lower case.
    pub request_id: Option<String>,
    /// The request whose unfinished answer is wanted.
    pub partials_of: Option<B256>,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub(in crate::serve) enum Message {
    Event(Arc<Event>),
    /// The id that the reader wanted to resume after is no longer, or was never, in the outbox, or the outbox was trimmed
    /// before the reader took all of it: it may have missed events and should read the present state again. Events after this
    /// id follow.
    Reset(i64),
    /// A part of an unfinished answer; it may be followed by anything.
    Partial(Arc<Partial>),
}

/// Starts a reader after the event `after`, or at the present when it is `None`. The reader ends when its receiver is
/// dropped, when it is too slow, or when the process stops.
pub(in crate::serve) async fn follow(
    state: &ServeState,
    after: Option<i64>,
    filter: Filter,
) -> Result<mpsc::Receiver<Message>, ApiError> {
    let permit = state.admit_reader()?;
    // The present is fixed before the client hears that it is accepted: what happens from then on reaches it.
    let after = match after {
        Some(after) => After::Event(after),
        None => After::Present(store::last(&state.hub.pool).await?),
    };
    let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
    let hub = state.hub.clone();
    let watch = filter.partials_of.map(|request_id| state.partials.watch(request_id));
    state.tasks.spawn(async move {
        let reader = Reader { hub: &hub, sender, filter, watch, waits: true };
        tokio::select! {
            () = hub.closed.cancelled() => {}
            ended = reader.read(after) => if let Err(error) = ended {
                tracing::warn!(%error, "a reader of the live stream was ended");
            },
        }
        drop(permit);
    });
    Ok(receiver)
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy)]
enum After {
    /// Behind an event that the client names.
    Event(i64),
    /// Behind the last event that there is.
    Present(i64),
}

struct Reader<'a> {
    hub: &'a Hub,
    sender: mpsc::Sender<Message>,
    filter: Filter,
    watch: Option<Watch>,
    /// False once the reader was told that the request has ended: no part of an unfinished answer comes after that.
    waits: bool,
}

impl Reader<'_> {
    async fn read(mut self, after: After) -> Result<(), sqlx::Error> {
        // Subscribed before the backlog is read, so that nothing falls between the two.
        let mut live = self.hub.events.subscribe();
        // Nor before the hub has begun: it would take what is written meanwhile for the past.
        let mut position = self.hub.position.subscribe();
        if position.wait_for(Option::is_some).await.is_err() {
            return Ok(());
        }
        let begin = match after {
            After::Present(last) => Some(last),
            After::Event(after) => self.resume(after).await?,
        };
        let Some(begin) = begin else { return Ok(()) };
        let Some(mut last) = self.backlog(begin).await? else { return Ok(()) };
        loop {
            let received = tokio::select! {
                // An event may end the parts, so it goes first.
                biased;
                received = live.recv() => received,
                Some(partial) = next(&mut self.watch) => {
                    if !self.waits {
                        continue;
                    }
                    // A reader that is busy loses it.
                    if let Err(TrySendError::Closed(_)) =
                        self.sender.try_send(Message::Partial(partial))
                    {
                        return Ok(());
                    }
                    continue;
                }
            };
            match received {
                Ok(Message::Event(event)) if last < event.id => {
                    last = event.id;
                    if !self.hand(event).await {
                        return Ok(());
                    }
                }
                Ok(Message::Reset(begin)) if last < begin => {
                    last = begin;
                    if !self.send(Message::Reset(begin)).await {
                        return Ok(());
                    }
                }
                // Already seen in the backlog; parts are not handed out by the hub.
                Ok(Message::Event(_) | Message::Reset(_) | Message::Partial(_)) => {}
                // Too slow for the hub's memory: the connection ends, and the client resumes from the outbox.
                Err(
                    broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed,
                ) => {
                    return Ok(());
                }
            }
        }
    }

    /// Where to go on for a client that saw `after` last; tells it when that is not possible without a gap. `None` when it
    /// went away.
    async fn resume(&self, after: i64) -> Result<Option<i64>, sqlx::Error> {
        let oldest = store::first(&self.hub.pool).await?;
        let newest = store::last(&self.hub.pool).await?;
        let begin = match oldest {
            Some(oldest) if after < oldest - 1 => oldest - 1,
            _ if newest < after => newest,
            _ => return Ok(Some(after)),
        };
        Ok(self.send(Message::Reset(begin)).await.then_some(begin))
    }

    /// Hands over what the outbox has after `last`, with a reset where it was trimmed faster than this reader took it; returns
    /// the last id, or `None` when the reader went away.
    async fn backlog(&mut self, mut last: i64) -> Result<Option<i64>, sqlx::Error> {
        loop {
            let page = store::page(&self.hub.pool, last, STREAM_PAGE_ROWS).await?;
            let Some(next) = page.first().map(|event| event.id) else { return Ok(Some(last)) };
            if store::is_trimmed_between(&self.hub.pool, last, next).await?
                && !self.send(Message::Reset(next - 1)).await
            {
                return Ok(None);
            }
            for event in page {
                last = event.id;
                if !self.hand(Arc::new(event)).await {
                    return Ok(None);
                }
            }
        }
    }

    async fn hand(&mut self, event: Arc<Event>) -> bool {
        if let (Some(watch), Some(funded)) = (&mut self.watch, self.filter.tells_funded(&event)) {
            if funded && !self.waits {
                watch.skip();
            }
            self.waits = funded;
        }
        if !self.filter.admits(&event) {
            return !self.sender.is_closed();
        }
        self.send(Message::Event(event)).await
    }

    async fn send(&self, message: Message) -> bool {
        self.sender.send_timeout(message, STREAM_WRITE_TIME_MAX).await.is_ok()
    }
}

/// The next part of an unfinished answer; never, when none is wanted.
async fn next(watch: &mut Option<Watch>) -> Option<Arc<Partial>> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

impl Filter {
    /// Whether the request whose unfinished answer is wanted waits for its result after this event; `None` when the event
    /// does not say.
    fn tells_funded(&self, event: &Event) -> Option<bool> {
        let ours = self.request_id.as_ref().is_some_and(|id| *id == event.data.id);
        if !ours || event.data.entity != "requests" {
            return None;
        }
        let status = event.data.value.as_ref().and_then(|value| value.get("status"));
        Some(status.is_some_and(|status| status == "funded"))
    }

    fn admits(&self, event: &Event) -> bool {
        let entity = self.entities.is_empty() || self.entities.contains(&event.data.entity);
        let request = self.request_id.as_ref().is_none_or(|id| event.concerns(id));
        entity && request
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use auspex_devnet::postgres::TestDatabase;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use sqlx::PgPool;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::health::Health;
    use crate::serve::ReadyLimits;

    const ROWS: i64 = STREAM_PAGE_ROWS + 100;

    async fn write(pool: &PgPool, rows: i64) {
        sqlx::query(
            "insert into indexer.outbox (chain_id, block_number, block_hash, entity, entity_id, change, payload)
             select 1, n, '\\x01', 'agents', n::text, 'insert', '{}' from generate_series(1, $1) n",
        )
        .bind(rows)
        .execute(pool)
        .await
        .expect("write to the outbox");
    }

    async fn next(receiver: &mut mpsc::Receiver<Message>) -> (&'static str, i64) {
        match receiver.recv().await.expect("a message") {
            Message::Event(event) => ("event", event.id),
            Message::Reset(begin) => ("reset", begin),
            Message::Partial(_) => ("part", 0),
        }
    }

    #[tokio::test]
    async fn a_reader_that_the_trimming_overtakes_is_told_so() {
        let database = TestDatabase::create().await.expect("create a database");
        let pool = database.pool();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let age = ReadyLimits { head_age_max: Duration::from_secs(60), block_age_max: None };
        let state = ServeState::new(pool.clone(), Vec::new(), metrics, age, Health::default())
            .expect("build the state");
        write(&pool, ROWS).await;
        // A write that was taken back leaves a hole in the ids, which is no reason to read everything again.
        sqlx::query("select setval(pg_get_serial_sequence('indexer.outbox', 'id'), $1)")
            .bind(ROWS + 10)
            .execute(&pool)
            .await
            .expect("leave a hole");
        write(&pool, 1).await;
        let shutdown = CancellationToken::new();
        let hub = state.hub.clone();
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { hub.run(shutdown).await }
        });

        let mut receiver = follow(&state, Some(0), Filter::default()).await.expect("a reader");
        // Its first page is read now, and more than its buffer holds.
        assert_eq!(next(&mut receiver).await, ("event", 1));
        let gone = STREAM_PAGE_ROWS + 50;
        sqlx::query("delete from indexer.outbox where id <= $1")
            .bind(gone)
            .execute(&pool)
            .await
            .expect("trim the outbox");
        for expected in 2..=STREAM_PAGE_ROWS {
            assert_eq!(next(&mut receiver).await, ("event", expected));
        }
        assert_eq!(next(&mut receiver).await, ("reset", gone));
        for expected in gone + 1..=ROWS {
            assert_eq!(next(&mut receiver).await, ("event", expected));
        }
        assert_eq!(next(&mut receiver).await, ("event", ROWS + 11));
        shutdown.cancel();
        running.await.expect("join the hub");
    }
}
