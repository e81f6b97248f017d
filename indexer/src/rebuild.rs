//! `auspex indexer rebuild` and `auspex indexer digest`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::config::{ChainConfig, database_options};
use crate::digest::{RangeDigest, digest};
use crate::project::Context;
use crate::store::postgres::PgStore;
use crate::watch::WatchList;

/// Derives every projection of a chain again from its facts, without asking any endpoint. Readers see the old rows until it
/// is done. Waits up to ten seconds for a follower of the chain to let go. Returns the number of facts.
pub async fn rebuild(database_url: &SecretString, chain: &ChainConfig) -> anyhow::Result<u64> {
    let chain_id = chain.deployment.chain_id;
    let mut store = PgStore::new(&database_options(database_url)?, chain_id)?;
    let mut waits = 20;
    while !store.lead().await.context("connect to PostgreSQL (DATABASE_URL)")? {
        if waits == 0 {
            bail!("chain {chain_id} is being followed: stop the indexer before rebuilding");
        }
        waits -= 1;
        sleep(Duration::from_millis(500)).await;
    }
    let watch = WatchList::new(&chain.deployment, &chain.tokens, &chain.contracts);
    let context = Context { chain_id, watch: &watch };
    store.rebuild(context).await.with_context(|| format!("rebuild chain {chain_id}"))
}

/// Digests of a chain's projections in ranges of `width` blocks from `first` to `last`.
pub async fn digests(
    database_url: &SecretString,
    chain_id: u64,
    first: u64,
    last: u64,
    width: u64,
) -> anyhow::Result<Vec<RangeDigest>> {
    if width == 0 || last < first {
        bail!("blocks {first} to {last} in steps of {width}: an empty range has no digest");
    }
    let options = database_options(database_url)?;
    let mut connection = PgConnection::connect_with(&options)
        .await
        .context("connect to PostgreSQL (DATABASE_URL)")?;
    let mut ranges = Vec::new();
    let mut start = first;
    while start <= last {
        let end = last.min(start.saturating_add(width - 1));
        let range = digest(&mut connection, chain_id, start, end).await;
        ranges.push(range.with_context(|| format!("digest blocks {start} to {end}"))?);
        start = end + 1;
    }
    Ok(ranges)
}
