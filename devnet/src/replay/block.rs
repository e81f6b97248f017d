//! Blocks with everything that a node says of them, serialized once.

use std::fmt::Write;
use std::sync::Arc;

use alloy::consensus::proofs::calculate_receipt_root;
use alloy::consensus::{Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom};
use alloy::primitives::{Address, B256, Bloom, Log, LogData, U256, keccak256};
use anyhow::Context;
use serde_json::{Value, json};

/// A log before it has a place: who says it, and what.
pub type Draft = (Address, LogData);

/// One block, as a node's answers hold it.
#[derive(Debug)]
pub struct ReplayBlock {
    pub number: u64,
    pub hash: B256,
    /// Unix time in seconds.
    pub time: u64,
    /// The block object, without transactions.
    pub(super) json: String,
    /// The array of its receipts.
    pub(super) receipts: String,
    pub(super) logs: Vec<ReplayLog>,
}

#[derive(Debug)]
pub(super) struct ReplayLog {
    pub(super) address: Address,
    pub(super) topic0: Option<B256>,
    pub(super) json: String,
}

impl ReplayBlock {
    /// How many logs the block holds.
    pub fn log_count(&self) -> usize {
        self.logs.len()
    }

    /// The block object with its transactions, which some indexers ask for. They are as good as their receipts: their root
    /// is not the header's.
    pub(super) fn json_with_transactions(&self) -> Option<String> {
        let mut block: Value = serde_json::from_str(&self.json).ok()?;
        let receipts: Vec<Value> = serde_json::from_str(&self.receipts).ok()?;
        let transactions = receipts.iter().map(|receipt| {
            json!({
                "type": "0x2", "chainId": "0x2105", "nonce": "0x0", "value": "0x0", "input": "0x", "accessList": [],
                "gas": "0x5208", "gasPrice": "0xf4240", "maxFeePerGas": "0xf4240", "maxPriorityFeePerGas": "0x0",
                "v": "0x0", "yParity": "0x0", "r": "0x1", "s": "0x1",
                "hash": receipt["transactionHash"], "transactionIndex": receipt["transactionIndex"],
                "blockHash": receipt["blockHash"], "blockNumber": receipt["blockNumber"],
                "from": receipt["from"], "to": receipt["to"],
            })
        });
        block["transactions"] = transactions.collect();
        Some(block.to_string())
    }
}

/// A chain of blocks from number zero, linked by their hashes. Cheap to fork: what two branches share is held once.
#[derive(Debug, Clone)]
pub struct Branch {
    blocks: Vec<Arc<ReplayBlock>>,
    /// What makes the blocks of this branch differ from others of the same height and content.
    salt: u64,
}

/// Seconds between two blocks, as on Base.
const BLOCK_SECONDS: u64 = 2;
const GENESIS_TIME: u64 = 1_700_000_000;

impl Branch {
    /// A chain with nothing but its first block.
    pub fn genesis() -> anyhow::Result<Self> {
        let mut branch = Self { blocks: Vec::new(), salt: 0 };
        branch.mine(&[])?;
        Ok(branch)
    }

    /// Adds a block with one receipt per transaction.
    pub fn mine(&mut self, transactions: &[Vec<Draft>]) -> anyhow::Result<()> {
        let number = self.blocks.len() as u64;
        let parent = self.blocks.last().map_or(B256::ZERO, |block| block.hash);
        let block = build(number, parent, self.salt, transactions)
            .with_context(|| format!("build block {number}"))?;
        self.blocks.push(Arc::new(block));
        Ok(())
    }

    /// A branch that shares everything up to and including this block. `salt` has to differ from every other branch's.
    pub fn fork(&self, above: u64, salt: u64) -> Self {
        let count = usize::try_from(above).unwrap_or(usize::MAX).saturating_add(1);
        Self { blocks: self.blocks.iter().take(count).cloned().collect(), salt }
    }

    pub fn head(&self) -> u64 {
        (self.blocks.len() as u64).saturating_sub(1)
    }

    pub fn block(&self, number: u64) -> Option<&Arc<ReplayBlock>> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub fn blocks(&self) -> &[Arc<ReplayBlock>] {
        &self.blocks
    }
}

fn build(
    number: u64,
    parent: B256,
    salt: u64,
    transactions: &[Vec<Draft>],
) -> anyhow::Result<ReplayBlock> {
    let mut gas = 0;
    let envelopes: Vec<ReceiptEnvelope> = transactions
        .iter()
        .map(|drafts| {
            gas += 21_000 + 30_000 * drafts.len() as u64;
            let logs =
                drafts.iter().map(|(address, data)| Log { address: *address, data: data.clone() });
            let receipt = Receipt {
                status: Eip658Value::Eip658(true),
                cumulative_gas_used: gas,
                logs: logs.collect(),
            };
            let logs_bloom = receipt.logs.iter().collect();
            ReceiptEnvelope::Eip1559(ReceiptWithBloom { receipt, logs_bloom })
        })
        .collect();
    let logs_bloom = envelopes.iter().fold(Bloom::ZERO, |mut bloom, envelope| {
        bloom.accrue_bloom(envelope.logs_bloom());
        bloom
    });
    let time = GENESIS_TIME + BLOCK_SECONDS * number;
    let header = Header {
        parent_hash: parent,
        number,
        timestamp: time,
        mix_hash: B256::from(U256::from(salt)),
        receipts_root: calculate_receipt_root(&envelopes),
        logs_bloom,
        gas_limit: 240_000_000,
        gas_used: gas,
        base_fee_per_gas: Some(1_000_000),
        ..Default::default()
    };
    let hash = header.hash_slow();
    let mut object = serde_json::to_value(&header).context("serialize a header")?;
    object["hash"] = serde_json::to_value(hash)?;
    object["size"] = "0x400".into();
    object["transactions"] = serde_json::Value::Array(Vec::new());
    object["uncles"] = serde_json::Value::Array(Vec::new());

    let mut logs = Vec::new();
    let mut receipts = String::from("[");
    for (index, (envelope, drafts)) in envelopes.iter().zip(transactions).enumerate() {
        let transaction = keccak256([hash.as_slice(), &(index as u64).to_be_bytes()].concat());
        let first = logs.len();
        for (address, data) in drafts {
            let place = Place { number, hash, transaction, index, log_index: logs.len() };
            logs.push(ReplayLog {
                address: *address,
                topic0: data.topics().first().copied(),
                json: log_json(&place, *address, data)?,
            });
        }
        let own: Vec<&str> = logs[first..].iter().map(|log| log.json.as_str()).collect();
        if 0 < index {
            receipts.push(',');
        }
        write!(
            receipts,
            "{{\"type\":\"0x2\",\"status\":\"0x1\",\"cumulativeGasUsed\":\"{:#x}\",\"gasUsed\":\"{:#x}\",\
             \"effectiveGasPrice\":\"0xf4240\",\"from\":\"{:#x}\",\"to\":\"{:#x}\",\"contractAddress\":null,\
             \"transactionHash\":\"{transaction:#x}\",\"transactionIndex\":\"{index:#x}\",\
             \"blockHash\":\"{hash:#x}\",\"blockNumber\":\"{number:#x}\",\"logsBloom\":\"{:#x}\",\"logs\":[{}]}}",
            envelope.cumulative_gas_used(),
            21_000 + 30_000 * drafts.len(),
            Address::repeat_byte(0x11),
            drafts.first().map_or(Address::ZERO, |(address, _)| *address),
            envelope.logs_bloom(),
            own.join(","),
        )?;
    }
    receipts.push(']');
    Ok(ReplayBlock { number, hash, time, json: object.to_string(), receipts, logs })
}

struct Place {
    number: u64,
    hash: B256,
    transaction: B256,
    index: usize,
    log_index: usize,
}

fn log_json(place: &Place, address: Address, data: &LogData) -> anyhow::Result<String> {
    let topics: Vec<String> = data.topics().iter().map(|topic| format!("\"{topic:#x}\"")).collect();
    let mut json = String::new();
    write!(
        json,
        "{{\"address\":\"{address:#x}\",\"topics\":[{}],\"data\":\"{:#x}\",\"blockNumber\":\"{:#x}\",\
         \"transactionHash\":\"{:#x}\",\"transactionIndex\":\"{:#x}\",\"blockHash\":\"{:#x}\",\
         \"logIndex\":\"{:#x}\",\"removed\":false}}",
        topics.join(","),
        data.data,
        place.number,
        place.transaction,
        place.index,
        place.hash,
        place.log_index,
    )?;
    Ok(json)
}
