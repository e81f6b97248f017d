//! A block's receipts and the root that its header commits to, on Ethereum and on OP-stack chains.

use alloy::consensus::proofs::ordered_trie_root_with_encoder;
use alloy::consensus::{Eip658Value, Receipt, ReceiptEnvelope, ReceiptWithBloom};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{B256, Bloom, Log, LogData};
use op_alloy_consensus::{OpDepositReceipt, OpReceiptEnvelope};

use super::{Check, Lie, check_place, fact};
use crate::chain::{Fact, Header, RawLog};
use crate::watch::WatchList;

/// A receipt as an endpoint gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedReceipt {
    pub transaction_type: u8,
    pub transaction_hash: B256,
    pub transaction_index: u64,
    pub block_hash: B256,
    pub status: Eip658Value,
    pub cumulative_gas_used: u64,
    pub logs_bloom: Bloom,
    pub logs: Vec<RawLog>,
    /// OP-stack deposits only.
    pub deposit_nonce: Option<u64>,
    pub deposit_receipt_version: Option<u64>,
}

/// Accepts a block's receipts when they hash to the header's root, and keeps the watched logs.
pub fn facts_of(
    watch: &WatchList,
    header: &Header,
    receipts: &[ClaimedReceipt],
) -> Result<Vec<Fact>, Lie> {
    let root = root(receipts)?;
    if root != header.receipts_root {
        let detail = format!(
            "block {} {}: {} receipts hash to {root}, the header says {}",
            header.number,
            header.hash,
            receipts.len(),
            header.receipts_root
        );
        return Err(Lie::new(Check::ReceiptsRoot, detail));
    }
    // The root binds addresses, topics and data, but not the places that an endpoint writes beside them.
    let mut facts = Vec::new();
    let mut log_index = 0;
    let mut gas_before = 0;
    for (transaction_index, receipt) in (0u64..).zip(receipts) {
        if receipt.transaction_index != transaction_index || receipt.block_hash != header.hash {
            let detail =
                format!("block {}: receipt {transaction_index} is out of place", header.number);
            return Err(Lie::new(Check::BlockHash, detail));
        }
        // Only the cumulative gas is bound by the root.
        let gas_used = receipt.cumulative_gas_used.saturating_sub(gas_before);
        gas_before = receipt.cumulative_gas_used;
        for log in &receipt.logs {
            check_place(header, log)?;
            if log.log_index != log_index
                || log.transaction_index != transaction_index
                || log.transaction_hash != receipt.transaction_hash
            {
                let detail = format!(
                    "block {}: log {log_index} is given as {}",
                    header.number, log.log_index
                );
                return Err(Lie::new(Check::LogOrder, detail));
            }
            log_index += 1;
            if watch.keeps(log.address, log.topics.first()) {
                let log = RawLog { gas_used: Some(gas_used), ..log.clone() };
                facts.push(fact(watch, header, &log)?);
            }
        }
    }
    Ok(facts)
}

/// The trie root of receipts in consensus encoding.
pub fn root(receipts: &[ClaimedReceipt]) -> Result<B256, Lie> {
    let encoded = receipts.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    Ok(ordered_trie_root_with_encoder(&encoded, |receipt, out| out.extend_from_slice(receipt)))
}

fn encode(claimed: &ClaimedReceipt) -> Result<Vec<u8>, Lie> {
    let receipt = Receipt {
        status: claimed.status,
        cumulative_gas_used: claimed.cumulative_gas_used,
        logs: claimed.logs.iter().map(consensus_log).collect(),
    };
    let logs_bloom = claimed.logs_bloom;
    let with_bloom = |receipt| ReceiptWithBloom { receipt, logs_bloom };
    let encoded = match claimed.transaction_type {
        0 => ReceiptEnvelope::Legacy(with_bloom(receipt)).encoded_2718(),
        1 => ReceiptEnvelope::Eip2930(with_bloom(receipt)).encoded_2718(),
        2 => ReceiptEnvelope::Eip1559(with_bloom(receipt)).encoded_2718(),
        3 => ReceiptEnvelope::Eip4844(with_bloom(receipt)).encoded_2718(),
        4 => ReceiptEnvelope::Eip7702(with_bloom(receipt)).encoded_2718(),
        0x7e => deposit(claimed, receipt).encoded_2718(),
        other => {
            let detail = format!(
                "transaction {}: a receipt of type {other:#x}, which this version cannot check; \
                 use verification level `linked` for this chain",
                claimed.transaction_hash
            );
            return Err(Lie::new(Check::Shape, detail));
        }
    };
    Ok(encoded)
}

/// From Regolith until Canyon a deposit receipt has a nonce that is not part of its consensus encoding; from Canyon on it
/// is, and a version says so. Source: OP-stack specification, deposits, "Deposit Receipt".
fn deposit(claimed: &ClaimedReceipt, inner: Receipt<Log>) -> OpReceiptEnvelope {
    let version = claimed.deposit_receipt_version;
    let receipt = OpDepositReceipt {
        inner,
        deposit_nonce: claimed.deposit_nonce.filter(|_| version.is_some()),
        deposit_receipt_version: version,
    };
    OpReceiptEnvelope::Deposit(ReceiptWithBloom { receipt, logs_bloom: claimed.logs_bloom })
}

fn consensus_log(log: &RawLog) -> Log {
    Log { address: log.address, data: LogData::new_unchecked(log.topics.clone(), log.data.clone()) }
}
