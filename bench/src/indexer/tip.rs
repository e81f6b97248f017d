//! At the tip: how long a block takes to be seen, and a reorg to be followed.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use auspex_devnet::replay::{Branch, Replay};
use futures::StreamExt;
use sqlx::Row as _;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::chain;
use crate::database::{Database, Server};
use crate::process::{Indexer, Settings};
use crate::table::{Row, Table};

const REORG_DEPTH: u64 = 700;
/// Base's finalized block lies about this far behind its head.
const FINALIZED_LAG: u64 = 730;
const PAST_BLOCKS: u64 = 1_000;
const MINED_BLOCKS: u64 = 200;
const BLOCK_PAUSE: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(60);

const VISIBLE_BAR_MS: f64 = 100.0;
const EVENT_BAR_MS: f64 = 150.0;
const REORG_BAR_S: f64 = 2.0;

pub(crate) async fn measure(server: &Server, table: &mut Table) -> anyhow::Result<()> {
    let database = server.database("tip").await?;
    let mut branch = Branch::genesis()?;
    for number in 1..=PAST_BLOCKS + MINED_BLOCKS {
        branch.mine(&[chain::register(number)])?;
    }
    let node =
        Replay::start(chain::CHAIN_ID, branch.clone(), PAST_BLOCKS, (60, FINALIZED_LAG)).await?;
    let indexer = Indexer::start(&database, node.url(), &Settings::eager()).await?;
    database.wait_for_block(PAST_BLOCKS, indexer.started()).await?;

    let (seen, mut events) = mpsc::unbounded_channel();
    let listening = tokio::spawn(listen(indexer.url("/v1/stream"), seen));
    sleep(Duration::from_millis(500)).await;
    while events.try_recv().is_ok() {}
    let (mut visible, mut streamed) = (Vec::new(), Vec::new());
    let mut connection = database.connect().await?;
    for number in PAST_BLOCKS + 1..=PAST_BLOCKS + MINED_BLOCKS {
        let mined = Instant::now();
        node.set_head(number);
        loop {
            let row = sqlx::query(
                "select 1 from indexer.agents where agent_id = $1::bigint and upper_inf(block_range)",
            )
            .bind(i64::try_from(number)?)
            .fetch_optional(&mut connection)
            .await?;
            if row.is_some() {
                break;
            }
            if PATIENCE < mined.elapsed() {
                bail!("agent {number} did not become visible");
            }
            sleep(Duration::from_millis(1)).await;
        }
        visible.push(mined.elapsed().as_secs_f64() * 1_000.0);
        let event = timeout(PATIENCE, events.recv()).await.context("no event came")?;
        let at = event.context("the stream ended")?;
        streamed.push(at.saturating_duration_since(mined).as_secs_f64() * 1_000.0);
        sleep(BLOCK_PAUSE).await;
        while events.try_recv().is_ok() {}
    }
    listening.abort();
    table.push(Row::plain("mined to visible, median", percentile(&mut visible, 50), "ms"));
    table.push(Row::at_most(
        "mined to visible, p99",
        percentile(&mut visible, 99),
        "ms",
        VISIBLE_BAR_MS,
    ));
    table.push(Row::at_most(
        "mined to the stream's client, p99",
        percentile(&mut streamed, 99),
        "ms",
        EVENT_BAR_MS,
    ));

    let head = PAST_BLOCKS + MINED_BLOCKS;
    let mut other = branch.fork(head - REORG_DEPTH, 1);
    for number in head - REORG_DEPTH + 1..=head + 1 {
        other.mine(&[chain::register(number + 1_000_000)])?;
    }
    let begun = Instant::now();
    node.switch(other.clone(), head + 1);
    let seconds = until_hash(&database, &other, head + 1, begun).await?;
    table.push(Row::at_most("reorg of 700 blocks: consistent again", seconds, "s", REORG_BAR_S));
    indexer.stop()?;
    Ok(())
}

async fn until_hash(
    database: &Database,
    branch: &Branch,
    number: u64,
    begun: Instant,
) -> anyhow::Result<f64> {
    let hash = branch.block(number).context("the branch is shorter")?.hash;
    let mut connection = database.connect().await?;
    loop {
        let row =
            sqlx::query("select hash from indexer.cursors").fetch_one(&mut connection).await?;
        if row.get::<Vec<u8>, _>(0) == hash.as_slice() {
            return Ok(begun.elapsed().as_secs_f64());
        }
        if PATIENCE < begun.elapsed() {
            bail!("the reorg was not followed within {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Tells when each part of the live stream arrives.
async fn listen(url: String, seen: mpsc::UnboundedSender<Instant>) -> anyhow::Result<()> {
    let response = reqwest::get(url).await?.error_for_status()?;
    let mut parts = response.bytes_stream();
    while let Some(part) = parts.next().await {
        let part = part?;
        if part.windows(5).any(|window| window == b"data:") && seen.send(Instant::now()).is_err() {
            break;
        }
    }
    Ok(())
}

/// The smallest value that at least `percent` of the values do not exceed.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
