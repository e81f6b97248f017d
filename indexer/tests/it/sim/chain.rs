//! A scripted chain: a tree of blocks with real hashes, blooms and receipts roots, one branch of which is canonical.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::consensus::proofs::calculate_receipt_root;
use alloy::consensus::{Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom};
use alloy::primitives::{B256, Bloom, Log, U256, keccak256};
use auspex_indexer::chain::RawLog;
use auspex_indexer::verify::ClaimedHeader;
use auspex_indexer::verify::receipts::ClaimedReceipt;
use rand::Rng;
use rand::rngs::StdRng;

use super::story::{Draft, Story};

#[derive(Debug)]
pub(super) struct SimBlock {
    pub(super) number: u64,
    pub(super) hash: B256,
    pub(super) parent: B256,
    pub(super) header: Header,
    pub(super) receipts: Vec<ClaimedReceipt>,
    /// The model after this block.
    pub(super) story: Story,
}

impl SimBlock {
    pub(super) fn claimed(&self) -> ClaimedHeader {
        ClaimedHeader { hash: self.hash, header: self.header.clone() }
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = &RawLog> {
        self.receipts.iter().flat_map(|receipt| &receipt.logs)
    }
}

#[derive(Debug)]
pub(super) struct SimChain {
    blocks: BTreeMap<B256, Arc<SimBlock>>,
    /// The canonical branch by number.
    canonical: Vec<B256>,
    /// The highest block that was ever final; no reorg goes below it.
    finalized: u64,
    nonce: u64,
}

/// How far the safe and the finalized block lie behind the head.
pub(super) const SAFE_LAG: u64 = 10;
pub(super) const FINALIZED_LAG: u64 = 24;

impl SimChain {
    pub(super) fn new() -> Self {
        let genesis = build(None, Story::default(), &[], 0);
        let canonical = vec![genesis.hash];
        Self {
            blocks: BTreeMap::from([(genesis.hash, Arc::new(genesis))]),
            canonical,
            finalized: 0,
            nonce: 0,
        }
    }

    pub(super) fn block(&self, hash: B256) -> Option<&Arc<SimBlock>> {
        self.blocks.get(&hash)
    }

    pub(super) fn head(&self) -> &Arc<SimBlock> {
        &self.blocks[&self.canonical[self.canonical.len() - 1]]
    }

    /// The block of this height on the branch that ends in `head`.
    pub(super) fn ancestor(&self, head: B256, number: u64) -> Option<&Arc<SimBlock>> {
        let mut block = self.block(head)?;
        if block.number < number {
            return None;
        }
        // The canonical branch, which is where most branches end up, is indexed by number.
        while block.number != number {
            if self.canonical.get(block.number as usize) == Some(&block.hash) {
                return self.block(*self.canonical.get(number as usize)?);
            }
            block = self.block(block.parent)?;
        }
        Some(block)
    }

    /// Mines blocks on the canonical branch; `busy` is the share of blocks that hold something.
    pub(super) fn mine(&mut self, rng: &mut StdRng, count: u64, busy: f64) {
        for _ in 0..count {
            let parent = Arc::clone(self.head());
            let mut story = parent.story.clone();
            let transactions: Vec<Vec<Draft>> = if rng.random_bool(busy) {
                (0..rng.random_range(1..5)).map(|_| story.transaction(rng)).collect()
            } else {
                Vec::new()
            };
            self.nonce += 1;
            let block = build(Some(&parent), story, &transactions, self.nonce);
            self.canonical.push(block.hash);
            self.blocks.insert(block.hash, Arc::new(block));
        }
        let head = self.head().number;
        self.finalized = self.finalized.max(head.saturating_sub(FINALIZED_LAG));
    }

    /// The deepest reorg that leaves what is final alone.
    pub(super) fn depth_max(&self) -> u64 {
        self.head().number - self.finalized
    }

    /// Replaces the last `depth` blocks by `length` others.
    pub(super) fn reorganize(&mut self, rng: &mut StdRng, depth: u64, length: u64, busy: f64) {
        let keep = self.canonical.len() - depth as usize;
        self.canonical.truncate(keep);
        self.mine(rng, length, busy);
    }

    /// Makes another block of the tree the canonical head, as when a reorg is itself undone.
    pub(super) fn switch_to(&mut self, head: B256) -> bool {
        let mut branch = Vec::new();
        let mut hash = head;
        loop {
            let Some(block) = self.block(hash) else { return false };
            if self.canonical.get(block.number as usize) == Some(&hash) {
                // A chain that only gets shorter contradicts nobody, so nobody could tell it from a node that lags.
                if branch.is_empty() || block.number < self.finalized {
                    return false;
                }
                self.canonical.truncate(block.number as usize + 1);
                self.canonical.extend(branch.into_iter().rev());
                return true;
            }
            branch.push(hash);
            hash = block.parent;
        }
    }

    /// Mines empty blocks on a chain that never becomes final.
    pub(super) fn mine_without_finality(&mut self, rng: &mut StdRng, count: u64) {
        let finalized = self.finalized;
        self.mine(rng, count, 0.0);
        self.finalized = finalized;
    }

    /// Replaces everything above a block of a chain that never becomes final.
    pub(super) fn replace_without_finality(&mut self, rng: &mut StdRng, above: u64, length: u64) {
        self.canonical.truncate(above as usize + 1);
        self.mine_without_finality(rng, length);
    }

    /// Adds another tree's blocks, whose genesis is the same; returns its head.
    pub(super) fn graft(&mut self, other: &Self) -> B256 {
        for (hash, block) in &other.blocks {
            self.blocks.insert(*hash, Arc::clone(block));
        }
        other.head().hash
    }

    pub(super) fn is_canonical(&self, number: u64, hash: B256) -> bool {
        self.canonical.get(number as usize) == Some(&hash)
    }
}

fn build(
    parent: Option<&SimBlock>,
    story: Story,
    transactions: &[Vec<Draft>],
    nonce: u64,
) -> SimBlock {
    let number = parent.map_or(0, |parent| parent.number + 1);
    let mut gas = 0;
    let mut envelopes = Vec::new();
    for drafts in transactions {
        gas += 21_000 + drafts.len() as u64 * 1_000;
        let logs: Vec<Log> = drafts
            .iter()
            .map(|(address, data)| Log { address: *address, data: data.clone() })
            .collect();
        let receipt = Receipt { status: Eip658Value::Eip658(true), cumulative_gas_used: gas, logs };
        let logs_bloom = receipt.logs.iter().collect();
        envelopes.push(ReceiptEnvelope::Eip1559(ReceiptWithBloom { receipt, logs_bloom }));
    }
    let logs_bloom = envelopes.iter().fold(Bloom::ZERO, |mut bloom, envelope| {
        bloom.accrue_bloom(envelope.logs_bloom());
        bloom
    });
    let header = Header {
        parent_hash: parent.map_or(B256::ZERO, |parent| parent.hash),
        number,
        // What makes two blocks of one height and content differ.
        mix_hash: B256::from(U256::from(nonce)),
        timestamp: 1_700_000_000 + 2 * number,
        receipts_root: calculate_receipt_root(&envelopes),
        logs_bloom,
        gas_limit: 30_000_000,
        gas_used: gas,
        base_fee_per_gas: Some(1),
        ..Default::default()
    };
    let hash = header.hash_slow();
    let mut log_index = 0;
    let receipts = (0u64..)
        .zip(&envelopes)
        .map(|(index, envelope)| {
            let transaction_hash = keccak256([hash.as_slice(), &index.to_be_bytes()].concat());
            let logs = envelope.logs().iter().map(|log| {
                log_index += 1;
                RawLog {
                    block_number: number,
                    block_hash: hash,
                    transaction_hash,
                    transaction_index: index,
                    log_index: log_index - 1,
                    removed: false,
                    address: log.address,
                    topics: log.topics().to_vec(),
                    data: log.data.data.clone(),
                    gas_used: None,
                }
            });
            ClaimedReceipt {
                transaction_type: 2,
                transaction_hash,
                transaction_index: index,
                block_hash: hash,
                status: Eip658Value::Eip658(true),
                cumulative_gas_used: envelope.cumulative_gas_used(),
                logs_bloom: *envelope.logs_bloom(),
                logs: logs.collect(),
                deposit_nonce: None,
                deposit_receipt_version: None,
            }
        })
        .collect();
    SimBlock { number, hash, parent: header.parent_hash, header, receipts, story }
}
