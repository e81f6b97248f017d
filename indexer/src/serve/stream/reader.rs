//! One reader of the live stream, whatever protocol carries it.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};

use super::super::error::ApiError;
use super::super::limits::{STREAM_BUFFER, STREAM_PAGE_ROWS, STREAM_WRITE_TIME_MAX};
use super::super::state::ServeState;
use super::{Event, Hub, store};

/// What a reader wants to see.
#[derive(Debug, Clone, Default)]
pub(in crate::serve) struct Filter {
    /// Names of tables; empty means all.
    pub entities: Vec<String>,
    /// 0x-hex in lower case.
    pub request_id: Option<String>,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub(in crate::serve) enum Message {
    Event(Arc<Event>),
    /// The id that the reader wanted to resume after is no longer, or was never, in the outbox: it may have missed events
    /// and should read the present state again. Events after this id follow.
    Reset(i64),
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
    state.tasks.spawn(async move {
        let reader = Reader { hub: &hub, sender, filter };
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
}

impl Reader<'_> {
    async fn read(&self, after: After) -> Result<(), sqlx::Error> {
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
            match live.recv().await {
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
    async fn backlog(&self, mut last: i64) -> Result<Option<i64>, sqlx::Error> {
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

    async fn hand(&self, event: Arc<Event>) -> bool {
        if !self.filter.admits(&event) {
            return !self.sender.is_closed();
        }
        self.send(Message::Event(event)).await
    }

    async fn send(&self, message: Message) -> bool {
        self.sender.send_timeout(message, STREAM_WRITE_TIME_MAX).await.is_ok()
    }
}

impl Filter {
    fn admits(&self, event: &Event) -> bool {
        let entity = self.entities.is_empty() || self.entities.contains(&event.data.entity);
        let request = self.request_id.as_ref().is_none_or(|id| event.concerns(id));
        entity && request
    }
}
