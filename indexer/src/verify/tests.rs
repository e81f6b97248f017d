use alloy::consensus::proofs::calculate_receipt_root;
use alloy::consensus::{Eip658Value, Receipt, ReceiptEnvelope, ReceiptWithBloom};
use alloy::primitives::{Address, Bytes, Log, U256, keccak256};
use proptest::prelude::*;

use super::receipts::{ClaimedReceipt, facts_of, root};
use super::*;
use crate::watch::Role;

const ESCROW: Address = Address::repeat_byte(0xa3);
const OTHER: Address = Address::repeat_byte(0xee);

fn watch() -> WatchList {
    WatchList::from_roles([(ESCROW, Role::RequestEscrow)].into())
}

/// Two transactions: the first with a watched and another log, the second with a watched one.
fn block() -> (Header, Vec<ClaimedReceipt>) {
    let log = |address: Address, sequence: u64| {
        let data = Bytes::from(U256::from(sequence).to_be_bytes_vec());
        Log::new_unchecked(address, vec![B256::repeat_byte(1)], data)
    };
    let bodies = [vec![log(ESCROW, 1), log(OTHER, 0)], vec![log(ESCROW, 2)]];
    let mut envelopes = Vec::new();
    for (index, logs) in (1u64..).zip(bodies) {
        let receipt = Receipt {
            status: Eip658Value::Eip658(true),
            cumulative_gas_used: index * 50_000,
            logs,
        };
        let logs_bloom = receipt.logs.iter().collect();
        envelopes.push(ReceiptEnvelope::Eip1559(ReceiptWithBloom { receipt, logs_bloom }));
    }
    let consensus = ConsensusHeader {
        number: 5,
        receipts_root: calculate_receipt_root(&envelopes),
        logs_bloom: envelopes
            .iter()
            .fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom()),
        ..Default::default()
    };
    let header = Header::new(consensus.hash_slow(), &consensus);
    let mut log_index = 0;
    let claimed = (0u64..)
        .zip(&envelopes)
        .map(|(index, envelope)| ClaimedReceipt {
            transaction_type: 2,
            transaction_hash: B256::repeat_byte(index as u8),
            transaction_index: index,
            block_hash: header.hash,
            status: Eip658Value::Eip658(true),
            cumulative_gas_used: envelope.cumulative_gas_used(),
            logs_bloom: *envelope.logs_bloom(),
            logs: envelope
                .logs()
                .iter()
                .map(|log| {
                    log_index += 1;
                    RawLog {
                        block_number: 5,
                        block_hash: header.hash,
                        transaction_hash: B256::repeat_byte(index as u8),
                        transaction_index: index,
                        log_index: log_index - 1,
                        removed: false,
                        address: log.address,
                        topics: log.topics().to_vec(),
                        data: log.data.data.clone(),
                        gas_used: None,
                    }
                })
                .collect(),
            deposit_nonce: None,
            deposit_receipt_version: None,
        })
        .collect();
    (header, claimed)
}

fn watched_logs(receipts: &[ClaimedReceipt]) -> Vec<RawLog> {
    let logs = receipts.iter().flat_map(|receipt| receipt.logs.clone());
    logs.filter(|log| log.address == ESCROW).collect()
}

fn caught(result: Result<Vec<Fact>, Lie>) -> Check {
    result.expect_err("a lie that was not caught").check
}

#[test]
fn an_honest_block_gives_the_same_facts_by_logs_and_by_receipts() {
    let (header, receipts) = block();
    let by_logs = logs(&watch(), &header, &watched_logs(&receipts)).unwrap();
    let mut by_receipts = facts_of(&watch(), &header, &receipts).unwrap();
    assert_eq!(by_receipts.iter().map(|fact| fact.gas_used).collect::<Vec<_>>(), [Some(50_000); 2]);
    by_receipts.iter_mut().for_each(|fact| fact.gas_used = None);
    assert_eq!(by_logs, by_receipts);
    assert_eq!(by_logs.iter().map(|fact| fact.sequence).collect::<Vec<_>>(), [Some(1), Some(2)]);
}

#[test]
fn every_lie_about_logs_is_caught_by_its_check() {
    let (header, receipts) = block();
    let honest = watched_logs(&receipts);
    let lie = |change: fn(&mut Vec<RawLog>)| {
        let mut logs = honest.clone();
        change(&mut logs);
        caught(super::logs(&watch(), &header, &logs))
    };
    assert_eq!(lie(|logs| logs.reverse()), Check::LogOrder);
    assert_eq!(lie(|logs| logs.push(logs[1].clone())), Check::LogOrder);
    assert_eq!(lie(|logs| logs[0].removed = true), Check::Removed);
    assert_eq!(lie(|logs| logs[0].block_hash = B256::ZERO), Check::BlockHash);
    assert_eq!(lie(|logs| logs[0].block_number = 4), Check::BlockHash);
    assert_eq!(lie(|logs| logs[0].topics = vec![B256::repeat_byte(9)]), Check::Bloom);
    assert_eq!(lie(|logs| logs[0].topics = vec![B256::repeat_byte(1); 5]), Check::Shape);
    assert_eq!(lie(|logs| logs[0].log_index = 9), Check::LogOrder);
    assert_eq!(lie(|logs| logs[1].log_index = u64::MAX), Check::Shape);
}

#[test]
fn every_lie_about_receipts_is_caught() {
    let (header, receipts) = block();
    let lie = |change: fn(&mut Vec<ClaimedReceipt>)| {
        let mut receipts = receipts.clone();
        change(&mut receipts);
        caught(facts_of(&watch(), &header, &receipts))
    };
    assert_eq!(lie(|receipts| drop(receipts.pop())), Check::ReceiptsRoot);
    assert_eq!(lie(|receipts| receipts.clear()), Check::ReceiptsRoot);
    assert_eq!(lie(|receipts| drop(receipts[0].logs.pop())), Check::ReceiptsRoot);
    assert_eq!(lie(|receipts| receipts[0].logs[0].data = Bytes::new()), Check::ReceiptsRoot);
    assert_eq!(lie(|receipts| receipts[0].logs[0].address = OTHER), Check::ReceiptsRoot);
    assert_eq!(lie(|receipts| receipts[0].cumulative_gas_used = 1), Check::ReceiptsRoot);
    assert_eq!(lie(|receipts| receipts.reverse()), Check::ReceiptsRoot);
    assert_eq!(lie(|receipts| receipts[1].transaction_type = 0), Check::ReceiptsRoot);
    assert_eq!(lie(|receipts| receipts[1].transaction_type = 99), Check::Shape);
    // What the root does not bind.
    assert_eq!(lie(|receipts| receipts[1].logs[0].log_index = 7), Check::LogOrder);
    assert_eq!(lie(|receipts| receipts[1].logs[0].transaction_hash = B256::ZERO), Check::LogOrder);
    assert_eq!(lie(|receipts| receipts[1].block_hash = B256::ZERO), Check::BlockHash);
    assert_eq!(lie(|receipts| receipts[1].logs[0].removed = true), Check::Removed);
}

#[test]
fn a_forged_header_is_caught() {
    let honest = ConsensusHeader { number: 1, ..Default::default() };
    let hash = honest.hash_slow();
    assert!(header(&ClaimedHeader { hash, header: honest.clone() }).is_ok());
    let forged = ClaimedHeader { hash, header: ConsensusHeader { gas_used: 1, ..honest } };
    assert_eq!(header(&forged).unwrap_err().check, Check::HeaderHash);
}

#[test]
fn an_empty_answer_is_suspected_where_the_bloom_can_tell() {
    let (header, receipts) = block();
    let facts = facts_of(&watch(), &header, &receipts).unwrap();
    assert!(omission_suspected(&watch(), &header, &[]));
    assert!(!omission_suspected(&watch(), &header, &facts));
    let empty = Header { logs_bloom: Bloom::ZERO, ..header };
    assert!(!omission_suspected(&watch(), &empty, &[]));
    let saturated = Header { logs_bloom: Bloom::repeat_byte(0xff), ..header };
    assert!(!omission_suspected(&watch(), &saturated, &[]), "a full bloom says nothing");
}

#[test]
fn a_gap_in_an_event_sequence_is_caught() {
    let (header, receipts) = block();
    let facts = facts_of(&watch(), &header, &receipts).unwrap();
    let after = |last: u64, facts: Vec<Fact>| {
        sequences(&watch(), |_| last, &[Block { header: header.clone(), facts }])
    };
    assert_eq!(after(0, facts.clone()), Ok(()));
    assert_eq!(after(1, facts.clone()).unwrap_err().lie.check, Check::Sequence);
    assert_eq!(after(0, facts[1..].to_vec()).unwrap_err().lie.check, Check::Sequence);
    let mut unnumbered = facts;
    unnumbered[0].sequence = None;
    assert_eq!(after(0, unnumbered.clone()).unwrap_err().lie.check, Check::Sequence);
    // OpenZeppelin's own events stand between ours without a number.
    unnumbered[0].topics = vec![keccak256("OwnershipTransferred(address,address)")];
    unnumbered[1].sequence = Some(1);
    assert_eq!(after(0, unnumbered), Ok(()));
}

/// The deposit's nonce is part of the root from Canyon on, which the version tells.
#[test]
fn a_deposits_nonce_counts_only_with_a_version() {
    let (_, mut receipts) = block();
    receipts[0].transaction_type = 0x7e;
    let before_regolith = root(&receipts).unwrap();
    receipts[0].deposit_nonce = Some(7);
    assert_eq!(root(&receipts).unwrap(), before_regolith);
    receipts[0].deposit_receipt_version = Some(1);
    let canyon = root(&receipts).unwrap();
    assert_ne!(canyon, before_regolith);
    receipts[0].deposit_nonce = Some(8);
    assert_ne!(root(&receipts).unwrap(), canyon);
}

proptest! {
    #[test]
    fn no_log_panics(
        log_index in any::<u64>(),
        transaction_index in any::<u64>(),
        topics in prop::collection::vec(any::<[u8; 32]>(), 0..6),
        data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (header, receipts) = block();
        let log = RawLog {
            log_index,
            transaction_index,
            topics: topics.into_iter().map(B256::from).collect(),
            data: data.into(),
            ..receipts[0].logs[0].clone()
        };
        let _ = logs(&watch(), &header, &[log]);
    }
}
