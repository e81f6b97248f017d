//! What an endpoint answers, as bytes: the first says what was asked for, the rest is the answer's JSON or an error's text.

use alloy::primitives::{Address, B256, Bloom};

use super::refusal::classify;
use super::wire::{WireBlock, WireLog, WireReceipt};
use crate::chain::{Header, RawLog};
use crate::limits::ERROR_TEXT_MAX;
use crate::verify::receipts::{ClaimedReceipt, facts_of, root};
use crate::verify::{ClaimedHeader, header, logs};
use crate::watch::{Role, WatchList};

/// The contract of the kept inputs.
const WATCHED: Address = Address::repeat_byte(3);

/// Whatever an endpoint answers is a lie with a reason, or facts that are what the header binds.
pub(crate) fn rpc(bytes: &[u8]) -> bool {
    let Some((asked, answer)) = bytes.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(answer) else { return false };
    let watch = WatchList::from_roles([(WATCHED, Role::RequestEscrow)].into());
    match asked % 4 {
        0 => {
            let Ok(block) = serde_json::from_str::<WireBlock>(text) else { return false };
            let mut claimed = ClaimedHeader::from(block);
            if let Ok(checked) = header(&claimed) {
                assert_eq!(claimed.header.hash_slow(), checked.hash, "a header hashes to its hash");
            }
            claimed.hash = claimed.header.hash_slow();
            header(&claimed).is_ok()
        }
        1 => {
            let Ok(read) = serde_json::from_str::<Vec<WireReceipt>>(text) else { return false };
            let receipts: Vec<_> = read.into_iter().map(ClaimedReceipt::from).collect();
            let Ok(root) = root(&receipts) else { return false };
            let header = bound(receipts.first().map(|receipt| receipt.block_hash), root);
            if let Ok(facts) = facts_of(&watch, &header, &receipts) {
                assert!(facts.iter().all(|fact| fact.block_hash == header.hash));
                assert!(facts.iter().all(|fact| fact.address == WATCHED));
                assert!(facts.is_sorted_by_key(|fact| fact.log_index), "in the order of the chain");
            }
            true
        }
        2 => {
            let Ok(read) = serde_json::from_str::<Vec<WireLog>>(text) else { return false };
            let read: Vec<_> = read.into_iter().map(RawLog::from).collect();
            let header = bound(read.first().map(|log| log.block_hash), B256::ZERO);
            if let Ok(facts) = logs(&watch, &header, &read) {
                let watched = read.iter().filter(|log| log.address == WATCHED).count();
                assert_eq!(facts.len(), watched, "nothing is lost on the way");
                assert!(facts.is_sorted_by_key(|fact| fact.log_index), "in the order of the chain");
                return true;
            }
            false
        }
        _ => {
            let code =
                text.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or_default();
            let told = classify(code, text).to_string();
            assert!(told.chars().count() < 2 * ERROR_TEXT_MAX, "{told}");
            true
        }
    }
}

/// A header that an answer of these receipts would belong to; its bloom lets everything through.
fn bound(hash: Option<B256>, receipts_root: B256) -> Header {
    let consensus = alloy::consensus::Header {
        number: 16,
        receipts_root,
        logs_bloom: Bloom::repeat_byte(0xff),
        ..Default::default()
    };
    let claimed = ClaimedHeader { hash: hash.unwrap_or_default(), header: consensus };
    Header::new(claimed.hash, &claimed.header)
}
