//! The JSON of Ethereum's JSON-RPC, as far as it is read. Own types, because the general ones buffer every object twice.

use std::borrow::Cow;
use std::fmt;

use alloy::consensus::{Eip658Value, Header as ConsensusHeader};
use alloy::primitives::{Address, B256, Bloom, Bytes, U8, U64};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::chain::RawLog;
use crate::verify::ClaimedHeader;
use crate::verify::receipts::ClaimedReceipt;

/// A block object, of which only the header matters. It is read in one go: the hash on the way, everything else by the header.
#[derive(Debug)]
pub(super) struct WireBlock(ClaimedHeader);

impl From<WireBlock> for ClaimedHeader {
    fn from(WireBlock(header): WireBlock) -> Self {
        header
    }
}

impl<'de> Deserialize<'de> for WireBlock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BlockVisitor)
    }
}

struct BlockVisitor;

impl<'de> Visitor<'de> for BlockVisitor {
    type Value = WireBlock;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a block")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<WireBlock, A::Error> {
        let mut hash = None;
        let of_header = HeaderMembers { members, hash: &mut hash };
        let header = ConsensusHeader::deserialize(MapAccessDeserializer::new(of_header))?;
        let hash = hash.ok_or_else(|| A::Error::missing_field(HASH))?;
        Ok(WireBlock(ClaimedHeader { hash, header }))
    }
}

/// The member of a block that is not one of its header.
const HASH: &str = "hash";

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of a block without its hash, which is kept when it comes.
struct HeaderMembers<'h, A> {
    members: A,
    hash: &'h mut Option<B256>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for HeaderMembers<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(Name(name)) = self.members.next_key()? {
            if name != HASH {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
            if self.hash.replace(self.members.next_value()?).is_some() {
                return Err(A::Error::duplicate_field(HASH));
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.members.next_value_seed(seed)
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECEIPTS: &str = r#"[{"type":"0x7e","status":"0x1","cumulativeGasUsed":"0xb3e1",
        "transactionHash":"0x0101010101010101010101010101010101010101010101010101010101010101","transactionIndex":"0x0",
        "blockHash":"0x0202020202020202020202020202020202020202020202020202020202020202","blockNumber":"0x10",
        "logsBloom":"0x","logs":[{"address":"0x0303030303030303030303030303030303030303","topics":[],"data":"0x01",
        "blockNumber":"0x10","transactionIndex":"0x0","logIndex":"0x0","removed":false,
        "blockHash":"0x0202020202020202020202020202020202020202020202020202020202020202",
        "transactionHash":"0x0101010101010101010101010101010101010101010101010101010101010101"}],
        "depositNonce":"0x5","depositReceiptVersion":"0x1"}]"#;

    fn receipts() -> String {
        RECEIPTS
            .replace("\"logsBloom\":\"0x\"", &format!("\"logsBloom\":\"0x{}\"", "0".repeat(512)))
    }

    fn block() -> String {
        let header = ConsensusHeader { number: 7, ..Default::default() };
        let mut object = serde_json::to_value(&header).unwrap();
        object["hash"] = serde_json::to_value(header.hash_slow()).unwrap();
        object.to_string()
    }

    #[test]
    fn honest_answers_are_read() {
        let read: Vec<WireReceipt> = serde_json::from_str(&receipts()).unwrap();
        let claimed = ClaimedReceipt::from(read.into_iter().next().unwrap());
        assert_eq!((claimed.transaction_type, claimed.deposit_nonce), (0x7e, Some(5)));
        assert_eq!(claimed.logs[0].block_number, 16);
        let claimed = ClaimedHeader::from(serde_json::from_str::<WireBlock>(&block()).unwrap());
        assert_eq!(claimed.header.number, 7);
        assert_eq!(claimed.hash, claimed.header.hash_slow());
    }

    #[test]
    fn a_block_has_one_hash() {
        let without = block().replace("\"hash\":", "\"other\":");
        let twice = format!("\"hash\":\"{}\",\"hash\":", B256::ZERO);
        let doubled = block().replace("\"hash\":", &twice);
        for bad in [without, doubled, "[]".to_owned(), "7".to_owned()] {
            assert!(serde_json::from_str::<WireBlock>(&bad).is_err(), "{bad}");
        }
    }

    /// Replaces some bytes of an honest answer: most of the time what is left is nearly right, which is where panics hide.
    fn spoiled(honest: &str, changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
        let mut bytes = honest.as_bytes().to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        bytes
    }

    proptest! {
        #[test]
        fn no_answer_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            if let Ok(read) = serde_json::from_slice::<Vec<WireReceipt>>(&spoiled(&receipts(), &changes)) {
                let claimed: Vec<ClaimedReceipt> = read.into_iter().map(ClaimedReceipt::from).collect();
                let _ = crate::verify::receipts::root(&claimed);
            }
            if let Ok(text) = String::from_utf8(spoiled(&block(), &changes))
                && let Ok(block) = serde_json::from_str::<WireBlock>(&text)
            {
                let _ = crate::verify::header(&block.into());
            }
        }
    }
}
