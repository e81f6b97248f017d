//! Messages that wait for the broker or the board, and the task that takes them to the board.

use std::sync::Arc;

use alloy::primitives::B256;
use anyhow::Context;
use futures::{FutureExt, StreamExt, stream};
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Posted};
use crate::failpoint::{Point, pass};
use crate::limits::{BOARD_POSTS_MAX, OUTBOX_BATCH, OUTBOX_OVERTAKEN_MAX, OUTBOX_SWEEP};
use crate::meter::Meters;

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: i64,
    pub request_id: B256,
    pub topic: String,
    pub payload: String,
}

/// Messages that the broker has not acknowledged, oldest first, without those that are with it.
pub async fn for_bus(pool: &PgPool, with_broker: &[i64]) -> anyhow::Result<Vec<Message>> {
    let rows = sqlx::query!(
        "select id, request_id, topic, payload from oracle.outbox
         where bus_acked_at is null and id <> all($1) order by id limit $2",
        with_broker,
        OUTBOX_BATCH,
    )
    .fetch_all(pool)
    .await
    .context("read the outbox")?;
    rows.into_iter()
        .map(|row| {
            let request_id = B256::try_from(row.request_id.as_slice())?;
            Ok(Message { id: row.id, request_id, topic: row.topic, payload: row.payload })
        })
        .collect()
}

/// The broker has acknowledged a message.
pub async fn bus_acked(pool: &PgPool, id: i64) -> anyhow::Result<()> {
    sqlx::query!("update oracle.outbox set bus_acked_at = now() where id = $1", id)
        .execute(pool)
        .await
        .context("note an acknowledged message")?;
    pass(Point::PublicationNoted);
    Ok(())
}

/// Messages after `floor` that the board has not acknowledged, oldest first, without those that it takes later.
async fn for_board(pool: &PgPool, floor: i64, later: &[i64]) -> anyhow::Result<Vec<Message>> {
    let rows = sqlx::query!(
        "select outbox.id, outbox.request_id, outbox.topic, outbox.payload
         from oracle.outbox join oracle.jobs using (request_id)
         where outbox.board_acked_at is null and $2 < outbox.id and outbox.id <> all($3)
            and jobs.state in ('queued', 'signed', 'delivering', 'delivered')
         order by outbox.id limit $1",
        OUTBOX_BATCH,
        floor,
        later,
    )
    .fetch_all(pool)
    .await
    .context("read the outbox")?;
    rows.into_iter()
        .map(|row| {
            let request_id = B256::try_from(row.request_id.as_slice())?;
            Ok(Message { id: row.id, request_id, topic: row.topic, payload: row.payload })
        })
        .collect()
}

/// The board has taken messages, or refused those with a refusal.
async fn board_acked(
    pool: &PgPool,
    ids: &[i64],
    refusals: &[Option<String>],
) -> anyhow::Result<()> {
    sqlx::query!(
        "update oracle.outbox set board_acked_at = now(), board_refusal = left(refusal, 512)
         from unnest($1::bigint[], $2::text[]) as acked (message, refusal) where id = message",
        ids,
        refusals as _,
    )
    .execute(pool)
    .await
    .context("note a posted message")?;
    pass(Point::PostingNoted);
    Ok(())
}

/// Forgets messages of requests that have ended an hour ago, when nobody sends any more.
async fn prune(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query!(
        "delete from oracle.outbox using oracle.jobs
         where outbox.request_id = jobs.request_id
            and jobs.state in ('done', 'declined', 'closed')
            and jobs.updated_at < now() - interval '1 hour'"
    )
    .execute(pool)
    .await
    .context("prune the outbox")?;
    sqlx::query!(
        "delete from oracle.inbox using oracle.jobs
         where inbox.request_id = jobs.request_id
            and jobs.state in ('done', 'declined', 'closed')
            and jobs.updated_at < now() - interval '1 hour'"
    )
    .execute(pool)
    .await
    .context("prune the inbox")?;
    pass(Point::MessagesPruned);
    Ok(())
}

/// Takes messages to the board until each was taken or refused for good.
pub async fn post_to_board(
    pool: PgPool,
    board: Board,
    meters: Arc<Meters>,
    bell: Arc<Notify>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut failing = false;
    let mut pruned: Option<Instant> = None;
    // Between two sweeps of everything only what is new is read: the database would find what was acknowledged long ago in its
    // index, too.
    let mut floor = 0;
    // What the board does not take now waits for the next sweep of everything, and nothing waits behind it.
    let mut later = Vec::new();
    loop {
        let rung = bell.notified();
        let swept = async {
            if pruned.is_none_or(|at| OUTBOX_SWEEP <= at.elapsed()) {
                prune(&pool).await?;
                pruned = Some(Instant::now());
                floor = 0;
                later.clear();
            }
            loop {
                let swept = sweep(&pool, &board, floor, &mut later).await?;
                // A message with a lower number may be stored a moment later, by another worker.
                let above = swept.last.map_or(floor, |last| last - OUTBOX_OVERTAKEN_MAX);
                floor = floor.max(above);
                // A full batch may not have been all.
                if swept.messages < OUTBOX_BATCH {
                    return Ok::<_, anyhow::Error>(());
                }
            }
        };
        match swept.await {
            Ok(()) => failing = false,
            Err(error) => {
                floor = 0;
                meters.board_failures.add(1);
                if !failing {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "messages cannot be left on the board"
                    );
                }
                failing = true;
            }
        }
        let wait = if failing { OUTBOX_SWEEP / 5 } else { OUTBOX_SWEEP };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = rung => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What a sweep found.
struct Swept {
    messages: i64,
    /// The number of the newest.
    last: Option<i64>,
}

/// Posts a batch of those after `floor`, and notes which of them the board takes `later`.
async fn sweep(
    pool: &PgPool,
    board: &Board,
    floor: i64,
    later: &mut Vec<i64>,
) -> anyhow::Result<Swept> {
    let messages = for_board(pool, floor, later).await?;
    let posting: Vec<_> = messages.iter().map(|message| post(board, message).boxed()).collect();
    let mut posting = stream::iter(posting).buffer_unordered(BOARD_POSTS_MAX);
    let (mut ids, mut refusals, mut failure) = (Vec::new(), Vec::new(), None);
    while let Some((message, posted)) = posting.next().await {
        match posted {
            Ok(Posted::Taken) => {
                ids.push(message.id);
                refusals.push(None);
            }
            Ok(Posted::Refused(reason)) => {
                ids.push(message.id);
                refusals.push(Some(reason));
            }
            Ok(Posted::NotNow(_)) => later.push(message.id),
            // The others may have been taken.
            Err(error) => failure = Some(error),
        }
    }
    if !ids.is_empty() {
        board_acked(pool, &ids, &refusals).await?;
    }
    match failure {
        None => Ok(Swept {
            messages: i64::try_from(messages.len())?,
            last: messages.last().map(|message| message.id),
        }),
        Some(error) => Err(error),
    }
}

/// Leaves a message on the board.
async fn post<'a>(board: &Board, message: &'a Message) -> (&'a Message, anyhow::Result<Posted>) {
    let posted = board.post(message.request_id, &message.payload).await;
    pass(Point::MessagePosted);
    let request_id = message.request_id;
    match &posted {
        Ok(Posted::Refused(reason)) => {
            tracing::warn!(%request_id, reason, "the board refused a message");
        }
        Ok(Posted::NotNow(reason)) => {
            tracing::debug!(%request_id, reason, "the board does not take a message now");
        }
        Ok(Posted::Taken) | Err(_) => {}
    }
    (message, posted)
}
