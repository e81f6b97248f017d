//! From the outbox to the message broker: a bell for whoever waits for a request. The broker is not trusted to keep
//! anything: a message counts as sent when it was acknowledged, and only then the reader's place moves. A broker that is
//! down costs readers time and never holds up following. It costs no message as long as no more than [`OUTBOX_ROWS_MAX`]
//! changes wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use anyhow::Context;
use auspex_protocol::deployment::Deployment;
use auspex_protocol::message::RequestNotice;
use auspex_protocol::topic::Topics;
use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS};
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::abort::{Point, reach};
use crate::broker;
use crate::config::RpcUrl;
use crate::limits::{
    OUTBOX_ROWS_KEPT, OUTBOX_ROWS_MAX, PUBLISH_ACK_TIMEOUT, PUBLISH_IN_FLIGHT_MAX, PUBLISH_POLL,
    PUBLISH_ROWS_MAX,
};

/// The place that this reader keeps in the outbox.
const READER: &str = "mqtt";

/// Publishes every request's changes until `shutdown`. `bell` rings when the outbox has grown.
pub async fn publish(
    pool: PgPool,
    broker: RpcUrl,
    deployments: Vec<Deployment>,
    bell: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let topics: BTreeMap<u64, Topics> = deployments
        .iter()
        .map(|chain| (chain.chain_id, Topics::new(chain.chain_id, chain.request_escrow)))
        .collect();
    while !shutdown.is_cancelled() {
        let session = tokio::select! {
            () = shutdown.cancelled() => break,
            ended = session(&pool, &broker, &topics, &bell) => ended,
        };
        if let Err(error) = session {
            tracing::warn!(%broker, error = format!("{error:#}"), "messages are not published; they wait");
            metrics::counter!("auspex_indexer_publish_failures_total").increment(1);
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = sleep(PUBLISH_POLL) => {}
        }
    }
}

/// Forgets the oldest outbox rows until `shutdown`, so that the outbox stays bounded: those that are not among the newest
/// [`OUTBOX_ROWS_KEPT`] and that the publisher has published, and all that are not among the newest [`OUTBOX_ROWS_MAX`].
pub async fn trim(pool: PgPool, shutdown: CancellationToken) {
    const INTERVAL: Duration = Duration::from_secs(60);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(INTERVAL) => {}
        }
        match trim_outbox(&pool, OUTBOX_ROWS_KEPT, OUTBOX_ROWS_MAX).await {
            Ok(0) => {}
            Ok(dropped) => {
                metrics::counter!("auspex_indexer_outbox_dropped_total")
                    .increment(dropped.unsigned_abs());
                tracing::warn!(
                    dropped,
                    limit = OUTBOX_ROWS_MAX,
                    "changes were dropped that the broker has not got, because too many wait for it"
                );
            }
            Err(error) => tracing::warn!(%error, "the outbox could not be trimmed"),
        }
    }
}

/// Returns how many of the trimmed rows a reader that keeps its place has not read.
async fn trim_outbox(pool: &PgPool, rows_kept: i64, rows_max: i64) -> sqlx::Result<i64> {
    let bounds = sqlx::query!(
        r#"select coalesce(max(id), 0) as "newest!", (select min(outbox_id) from indexer.outbox_readers) as place
           from indexer.outbox"#,
    )
    .fetch_one(pool)
    .await?;
    let kept = bounds.newest - rows_kept;
    let place = bounds.place.unwrap_or(kept);
    let last = kept.min(place).max(bounds.newest - rows_max);
    sqlx::query_scalar!(
        r#"with gone as (delete from indexer.outbox where id <= $1 returning id)
           select count(*) as "unread!" from gone where $2 < id"#,
        last,
        place,
    )
    .fetch_one(pool)
    .await
}

/// One connection to the broker, from connecting to the first thing that goes wrong with it. A client that failed is
/// thrown away whole: rumqttc 0.25 may drop what it has queued, or never recover.
async fn session(
    pool: &PgPool,
    broker: &RpcUrl,
    topics: &BTreeMap<u64, Topics>,
    bell: &Notify,
) -> anyhow::Result<()> {
    let mut options = broker::options(broker)?;
    options.set_inflight(PUBLISH_IN_FLIGHT_MAX as u16);
    let (client, mut events) = AsyncClient::new(options, PUBLISH_IN_FLIGHT_MAX);
    let mut place = place(pool).await?;
    // Rows wait for it from now on, also while the broker has never been there.
    keep_place(pool, place).await?;
    loop {
        let batch = next_batch(pool, place).await?;
        let Some(last) = batch.last else {
            // The client's own duties go on while there is nothing to say.
            tokio::select! {
                event = events.poll() => { event.context("keep the connection to the broker")?; }
                () = bell.notified() => {}
                () = sleep(PUBLISH_POLL) => {}
            }
            continue;
        };
        let messages = encode(topics, &batch.notices)?;
        send(&client, &mut events, &messages).await?;
        reach(Point::Published);
        metrics::counter!("auspex_indexer_published_total").increment(messages.len() as u64);
        keep_place(pool, last).await?;
        reach(Point::PlaceKept);
        place = last;
    }
}

/// Publishes messages and waits until the broker acknowledged each of them.
async fn send(
    client: &AsyncClient,
    events: &mut EventLoop,
    messages: &[(String, Vec<u8>)],
) -> anyhow::Result<()> {
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < messages.len() {
        while sent < messages.len() && sent - acknowledged < PUBLISH_IN_FLIGHT_MAX {
            let (topic, payload) = &messages[sent];
            let queued =
                client.try_publish(topic.as_str(), QoS::AtLeastOnce, false, payload.as_slice());
            if queued.is_err() {
                // The client's queue is full; it empties while events are polled.
                break;
            }
            sent += 1;
        }
        let event = timeout(PUBLISH_ACK_TIMEOUT, events.poll())
            .await
            .with_context(|| format!("wait {} s for the broker", PUBLISH_ACK_TIMEOUT.as_secs()))?
            .context("publish to the broker")?;
        if let Event::Incoming(Packet::PubAck(_)) = event {
            acknowledged += 1;
        }
    }
    Ok(())
}

/// What the outbox holds beyond a place.
#[derive(Debug, Default)]
struct Batch {
    /// The last message of each request; earlier ones in the same batch are of no use to anybody.
    notices: BTreeMap<(u64, B256), RequestNotice>,
    /// Null when there is nothing.
    last: Option<i64>,
}

async fn next_batch(pool: &PgPool, place: i64) -> anyhow::Result<Batch> {
    let rows = sqlx::query!(
        r#"select id, chain_id, block_number, entity, entity_id, payload ->> 'status' as status
           from indexer.outbox where id > $1 order by id limit $2"#,
        place,
        PUBLISH_ROWS_MAX,
    )
    .fetch_all(pool)
    .await
    .context("read the outbox")?;
    let mut batch = Batch::default();
    for row in rows {
        batch.last = Some(row.id);
        if row.entity != "requests" {
            continue;
        }
        let request_id: B256 = row.entity_id.parse().context("read a request id of the outbox")?;
        let chain_id = row.chain_id.unsigned_abs();
        let notice = RequestNotice {
            request_id,
            // A request whose block was taken back, and which is in no block now.
            status: row.status.unwrap_or_else(|| "retracted".into()),
            block_number: row.block_number.unsigned_abs(),
        };
        batch.notices.insert((chain_id, request_id), notice);
    }
    Ok(batch)
}

fn encode(
    topics: &BTreeMap<u64, Topics>,
    notices: &BTreeMap<(u64, B256), RequestNotice>,
) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    notices
        .iter()
        .filter_map(|((chain_id, request_id), notice)| {
            let topic = topics.get(chain_id)?.request(*request_id);
            Some(
                serde_json::to_vec(notice)
                    .context("write a notice")
                    .map(|payload| (topic, payload)),
            )
        })
        .collect()
}

async fn place(pool: &PgPool) -> anyhow::Result<i64> {
    let place = sqlx::query_scalar!(
        "select outbox_id from indexer.outbox_readers where name = $1",
        READER,
    )
    .fetch_optional(pool)
    .await
    .context("read the publisher's place")?;
    Ok(place.unwrap_or(0))
}

async fn keep_place(pool: &PgPool, outbox_id: i64) -> anyhow::Result<()> {
    sqlx::query!(
        "insert into indexer.outbox_readers (name, outbox_id) values ($1, $2)
         on conflict (name) do update set outbox_id = greatest(outbox_readers.outbox_id, excluded.outbox_id)",
        READER,
        outbox_id,
    )
    .execute(pool)
    .await
    .context("keep the publisher's place")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use auspex_devnet::postgres::TestDatabase;

    use super::*;

    async fn oldest(pool: &PgPool) -> i64 {
        let oldest = sqlx::query_scalar("select min(id) from indexer.outbox").fetch_one(pool).await;
        oldest.expect("read the outbox")
    }

    #[tokio::test]
    async fn what_the_broker_has_not_got_is_kept_for_longer_but_not_for_ever() {
        let database = TestDatabase::create().await.expect("create a database");
        let pool = database.pool();
        assert_eq!(trim_outbox(&pool, 10, 20).await.expect("trim an empty outbox"), 0);
        sqlx::query(
            "insert into indexer.outbox (chain_id, block_number, block_hash, entity, entity_id, change, payload)
             select 1, n, '\\x01', 'agents', n::text, 'insert', '{}' from generate_series(1, 30) n",
        )
        .execute(&pool)
        .await
        .expect("write to the outbox");

        // Without a publisher, only the newest ones.
        let trimmed = trim_outbox(&pool, 25, 28).await.expect("trim");
        assert_eq!((trimmed, oldest(&pool).await), (0, 6));
        // For a publisher, what it has not published yet.
        keep_place(&pool, 12).await.expect("keep a place");
        let trimmed = trim_outbox(&pool, 10, 20).await.expect("trim");
        assert_eq!((trimmed, oldest(&pool).await), (0, 13));
        // It falls too far behind.
        let trimmed = trim_outbox(&pool, 5, 15).await.expect("trim");
        assert_eq!((trimmed, oldest(&pool).await), (3, 16));
        // It has published everything.
        keep_place(&pool, 30).await.expect("keep a place");
        let trimmed = trim_outbox(&pool, 5, 15).await.expect("trim");
        assert_eq!((trimmed, oldest(&pool).await), (0, 26));
    }
}
