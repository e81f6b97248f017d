//! Finding where a foreign branch leaves the indexed chain, and what is on it.

use super::read::Reader;
use crate::chain::{BlockRef, Header};
use crate::fork::{Descent, LocalChain};
use crate::limits::{BATCH_HEADERS_MAX, REORG_DEPTH_MAX};
use crate::source::{Endpoint, Fault};
use crate::verify::Check;

/// A branch that replaces a part of the indexed chain.
#[derive(Debug)]
pub(super) struct Branch {
    /// The highest block that stays.
    pub(super) ancestor: BlockRef,
    /// What follows it, lowest first, without a gap.
    pub(super) headers: Vec<Header>,
}

/// Walks from a header that contradicts the indexed chain down to the block that both share.
/// Every step is bound by the child's parent hash; an absent parent ends the walk without a verdict.
pub(super) async fn find<E: Endpoint>(
    reader: &Reader<'_, E>,
    local: &LocalChain,
    top: Header,
) -> Result<Branch, Fault> {
    // Highest first while walking.
    let mut headers = vec![top];
    let mut read_ahead: Vec<Header> = Vec::new();
    loop {
        let lowest = &headers[headers.len() - 1];
        match local.descend(lowest) {
            Descent::Ancestor(ancestor) | Descent::Replaced(ancestor) => {
                headers.reverse();
                return Ok(Branch { ancestor, headers });
            }
            Descent::BelowFinalized => {
                let detail = format!(
                    "a branch through block {} {} leaves the indexed chain at or below the finalized block {}",
                    lowest.number,
                    lowest.hash,
                    local.finalized()
                );
                return Err(Fault::lie(Check::Finalized, detail));
            }
            Descent::Deeper => {}
        }
        if REORG_DEPTH_MAX < headers.len() as u64 {
            let detail = format!("a branch of more than {REORG_DEPTH_MAX} blocks");
            return Err(Fault::lie(Check::Finalized, detail));
        }
        let parent = BlockRef { number: lowest.number - 1, hash: lowest.parent_hash };
        if read_ahead.is_empty() && 1 < headers.len() {
            // Deeper than one block: read many by number, and use those that the parent hashes lead to.
            let first = parent.number.saturating_sub(BATCH_HEADERS_MAX as u64 - 1);
            read_ahead = match reader.headers(first, parent.number).await {
                Ok(headers) => headers,
                // The node may be switching branches under us.
                Err(Fault::Lie(_)) => Vec::new(),
                Err(fault) => return Err(fault),
            };
        }
        let header = match read_ahead.pop() {
            Some(header) if header.block_ref() == parent => header,
            Some(_) | None => {
                read_ahead.clear();
                reader.header_by_hash(parent).await?
            }
        };
        headers.push(header);
    }
}
