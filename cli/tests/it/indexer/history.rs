//! What a database holds of a chain.

use alloy::primitives::B256;
use auspex_devnet::replay::Branch;
use auspex_indexer::digest::RangeDigest;
use auspex_indexer::rebuild::digests;
use secrecy::SecretString;
use sqlx::{PgPool, Row};

/// The digest of the projections up to a block, and one of the facts without what depends on how they were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct History {
    projections: Vec<RangeDigest>,
    facts: Option<String>,
}

/// Blocks of one range of the digest.
const WIDTH: u64 = 64;

pub(super) async fn history(pool: &PgPool, url: &str, chain_id: u64, last: u64) -> History {
    let url = SecretString::from(url.to_owned());
    let projections = digests(&url, chain_id, 0, last, WIDTH).await.expect("read the digests");
    let facts = sqlx::query_scalar::<_, Option<String>>(
        "select md5(string_agg(concat_ws('|', block_number, block_hash, block_time, log_index, transaction_hash,
             transaction_index, address, topic0, topic1, topic2, topic3, data, sequence), ',' order by block_number, log_index))
         from indexer.facts where chain_id = $1 and block_number <= $2",
    )
    .bind(key(chain_id))
    .bind(key(last))
    .fetch_one(pool)
    .await
    .expect("digest the facts");
    History { projections, facts }
}

/// The last indexed block; null before there is one, also while the tables are still being made.
pub(super) async fn tip(pool: &PgPool, chain_id: u64) -> Option<(u64, B256)> {
    let row = sqlx::query("select number, hash from indexer.cursors where chain_id = $1")
        .bind(key(chain_id))
        .fetch_optional(pool)
        .await
        .ok()??;
    Some((row.get::<i64, _>(0).unsigned_abs(), B256::from_slice(&row.get::<Vec<u8>, _>(1))))
}

/// Which log of which block each stored fact is, in the order of the chain.
pub(super) async fn places(pool: &PgPool, chain_id: u64) -> Vec<(B256, i32)> {
    sqlx::query_as::<_, (Vec<u8>, i32)>(
        "select block_hash, log_index from indexer.facts where chain_id = $1 order by block_number, log_index",
    )
    .bind(key(chain_id))
    .fetch_all(pool)
    .await
    .expect("read the facts")
    .into_iter()
    .map(|(hash, index)| (B256::from_slice(&hash), index))
    .collect()
}

/// The same of a branch up to a block.
pub(super) fn places_of(branch: &Branch, last: u64) -> Vec<(B256, i32)> {
    let blocks = branch.blocks().iter().skip(1).take_while(|block| block.number <= last);
    blocks
        .flat_map(|block| {
            let count = i32::try_from(block.log_count()).expect("few logs");
            (0..count).map(|index| (block.hash, index))
        })
        .collect()
}

/// A killed process's last transaction may still be on its way when the process is gone.
pub(super) async fn until_nobody_writes(pool: &PgPool) {
    let writers = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name like 'auspex-indexer-%'";
    while 0 < sqlx::query_scalar::<_, i64>(writers).fetch_one(pool).await.expect("count") {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

pub(super) fn key(number: u64) -> i64 {
    i64::try_from(number).expect("a number below 2^63")
}
