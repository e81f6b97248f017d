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
    /// The id that the reader wanted to resume after is no longer, or was never, in the outbox: it may have missed events
    /// and should read the present state again. Events after this id follow.
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
                Ok(event) if last < event.id => {
                    last = event.id;
                    if !self.hand(event).await {
                        return Ok(());
                    }
                }
                // Already seen in the backlog.
                Ok(_) => {}
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

    /// Hands over what the outbox has after `last`; returns the last id, or `None` when the reader went away.
    async fn backlog(&mut self, mut last: i64) -> Result<Option<i64>, sqlx::Error> {
        loop {
            let page = store::page(&self.hub.pool, last, STREAM_PAGE_ROWS).await?;
            if page.is_empty() {
                return Ok(Some(last));
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
