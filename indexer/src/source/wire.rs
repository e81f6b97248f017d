//! The JSON of Ethereum's JSON-RPC, as far as it is read. Own types, because the general ones buffer every object twice.

use alloy::consensus::{Eip658Value, Header as ConsensusHeader};
use alloy::primitives::{Address, B256, Bloom, Bytes, U8, U64};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chain::RawLog;
use crate::source::Fault;
use crate::verify::receipts::ClaimedReceipt;
use crate::verify::{Check, ClaimedHeader};

#[derive(Debug, Deserialize)]
struct WireHash {
    hash: B256,
}

/// Reads a block object, of which only the header matters.
pub(super) fn header(block: &RawValue) -> Result<ClaimedHeader, Fault> {
    let malformed =
        |error: serde_json::Error| Fault::lie(Check::Shape, format!("a block: {error}"));
    let WireHash { hash } = serde_json::from_str(block.get()).map_err(malformed)?;
    let header: ConsensusHeader = serde_json::from_str(block.get()).map_err(malformed)?;
    Ok(ClaimedHeader { hash, header })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    block_number: U64,
    block_hash: B256,
    transaction_hash: B256,
    transaction_index: U64,
    log_index: U64,
    #[serde(default)]
    removed: bool,
}

impl From<WireLog> for RawLog {
    fn from(log: WireLog) -> Self {
        Self {
            block_number: log.block_number.to(),
            block_hash: log.block_hash,
            transaction_hash: log.transaction_hash,
            transaction_index: log.transaction_index.to(),
            log_index: log.log_index.to(),
            removed: log.removed,
            address: log.address,
            topics: log.topics,
            data: log.data,
            gas_used: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireReceipt {
    /// Absent before EIP-2718.
    #[serde(default, rename = "type")]
    transaction_type: U8,
    transaction_hash: B256,
    transaction_index: U64,
    block_hash: B256,
    status: Option<U8>,
    /// The state root that stood in place of a status before Byzantium.
    root: Option<B256>,
    cumulative_gas_used: U64,
    logs_bloom: Bloom,
    logs: Vec<WireLog>,
    deposit_nonce: Option<U64>,
    deposit_receipt_version: Option<U64>,
}

impl From<WireReceipt> for ClaimedReceipt {
    fn from(receipt: WireReceipt) -> Self {
        let status = match (receipt.status, receipt.root) {
            (None, Some(root)) => Eip658Value::PostState(root),
            (status, _) => Eip658Value::Eip658(status.is_some_and(|status| !status.is_zero())),
        };
        Self {
            transaction_type: receipt.transaction_type.to(),
            transaction_hash: receipt.transaction_hash,
            transaction_index: receipt.transaction_index.to(),
            block_hash: receipt.block_hash,
            status,
            cumulative_gas_used: receipt.cumulative_gas_used.to(),
            logs_bloom: receipt.logs_bloom,
            logs: receipt.logs.into_iter().map(RawLog::from).collect(),
            deposit_nonce: receipt.deposit_nonce.map(|nonce| nonce.to()),
            deposit_receipt_version: receipt.deposit_receipt_version.map(|version| version.to()),
        }
    }
}
