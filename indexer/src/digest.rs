//! A digest of what a chain's projections say, per block range: equal digests mean equal rows, byte for byte.

use alloy::primitives::{B256, Keccak256};
use serde::Serialize;
use sqlx::PgConnection;

use crate::project::row::Kind;
use crate::store::StoreError;
use crate::store::digest_lines;

/// One range's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RangeDigest {
    pub first_block: u64,
    pub last_block: u64,
    /// Row versions that begin in the range.
    pub rows: u64,
    pub digest: B256,
}

/// The digest of the row versions that begin in a block range. It depends on the facts up to the range's end and on nothing
/// else: not on batch sizes, reorgs on the way, or what came later.
pub async fn digest(
    connection: &mut PgConnection,
    chain_id: u64,
    first_block: u64,
    last_block: u64,
) -> Result<RangeDigest, StoreError> {
    let mut hasher = Keccak256::new();
    let mut rows = 0;
    for kind in Kind::ALL {
        let take = |line: &str| {
            rows += 1;
            hasher.update(kind.table().as_bytes());
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        };
        digest_lines(connection, *kind, chain_id, (first_block, last_block), take).await?;
    }
    Ok(RangeDigest { first_block, last_block, rows, digest: hasher.finalize() })
}
