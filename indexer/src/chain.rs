//! What the indexer knows of a chain: verified headers, raw logs, heads.

use alloy::consensus::Header as ConsensusHeader;
use alloy::primitives::{Address, B256, Bloom, Bytes};

/// A block's place in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRef {
    pub number: u64,
    pub hash: B256,
}

/// The part of a header that following needs. `hash` was recomputed from the whole header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub number: u64,
    pub hash: B256,
    pub parent_hash: B256,
    /// Unix time in seconds.
    pub time: u64,
    pub receipts_root: B256,
    pub logs_bloom: Bloom,
}

impl Header {
    /// Keeps what is needed of a header whose hash the caller computed.
    pub fn new(hash: B256, header: &ConsensusHeader) -> Self {
        Self {
            number: header.number,
            hash,
            parent_hash: header.parent_hash,
            time: header.timestamp,
            receipts_root: header.receipts_root,
            logs_bloom: header.logs_bloom,
        }
    }

    pub fn block_ref(&self) -> BlockRef {
        BlockRef { number: self.number, hash: self.hash }
    }
}

/// A log as an endpoint gives it, before any check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLog {
    pub block_number: u64,
    pub block_hash: B256,
    pub transaction_hash: B256,
    pub transaction_index: u64,
    pub log_index: u64,
    pub removed: bool,
    pub address: Address,
    pub topics: Vec<B256>,
    pub data: Bytes,
    /// The gas used by the log's transaction, known only from a receipt.
    pub gas_used: Option<u64>,
}

/// A verified log of a watched contract: the event source of everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub block_number: u64,
    pub block_hash: B256,
    pub block_time: u64,
    pub log_index: u32,
    pub transaction_hash: B256,
    pub transaction_index: u32,
    pub gas_used: Option<u64>,
    pub address: Address,
    pub topics: Vec<B256>,
    pub data: Bytes,
    /// The event's number within its contract, for our own contracts.
    pub sequence: Option<u64>,
}

impl Fact {
    pub fn block_ref(&self) -> BlockRef {
        BlockRef { number: self.block_number, hash: self.block_hash }
    }
}

/// A verified block with its watched logs, in the order of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub header: Header,
    pub facts: Vec<Fact>,
}

/// What one endpoint says of the chain's tip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heads {
    pub latest: Header,
    /// Null until the chain has a safe block.
    pub safe: Option<BlockRef>,
    pub finalized: Option<BlockRef>,
}
