//! Fees and shares of a million splits. `contracts/test/Arithmetic.t.sol` makes the same vectors from hashes of counters
//! and arrives at the same digest over their results.

use alloy::primitives::{Address, B256, U256, keccak256};
use auspex_protocol::bindings::IRequestEscrow::Split;
use auspex_protocol::split::{entitlement, fee};
use serde::Deserialize;

const DIGESTS: &str = include_str!("../../../contracts/test/vectors/arithmetic-digests.json");

#[derive(Deserialize)]
struct Digests {
    short: Expected,
    long: Expected,
}

#[derive(Deserialize)]
struct Expected {
    vectors: u64,
    digest: B256,
}

#[test]
fn results_of_a_million_vectors_have_the_shared_digest() {
    let Digests { short, long } = serde_json::from_str(DIGESTS).unwrap();
    let is_long = std::env::var("AUSPEX_TEST_PROFILE").is_ok_and(|profile| profile == "long");
    let expected = if is_long { long } else { short };
    let mut digest = B256::ZERO;
    for index in 0..expected.vectors {
        digest = with_results_of(digest, index);
    }
    assert_eq!(digest, expected.digest, "after {} vectors", expected.vectors);
}

fn with_results_of(digest: B256, index: u64) -> B256 {
    let first = word(index, 0);
    let amount: U256 = (first >> 128) >> part(first, 24, 127);
    let fee_bps = part(first, 8, 0xffff) % 501;
    let charged = fee(amount.to(), fee_bps.try_into().unwrap());

    let second = word(index, 1);
    let total: U256 = second >> (64 + part(second, 0, 127));
    let split = split_of(index, 1 + part(first, 0, 15) as u64);

    let mut results = digest.to_vec();
    results.extend(U256::from(charged).to_be_bytes::<32>());
    for recipient in &split.recipients {
        results.extend(entitlement(&split, *recipient, total).to_be_bytes::<32>());
    }
    keccak256(results)
}

fn split_of(index: u64, count: u64) -> Split {
    let allocation = |position: u64| {
        let word = word(index, 2 + position);
        let random: U256 = (word >> 192) >> part(word, 0, 63);
        U256::from(1 + random.to::<u64>() % (u64::MAX / count))
    };
    let allocations: Vec<U256> = (0..count).map(allocation).collect();
    Split {
        recipients: (1..=count).map(|n| Address::left_padding_from(&n.to_be_bytes())).collect(),
        totalAllocation: allocations.iter().sum(),
        allocations,
        distributionIncentive: 0,
    }
}

/// The bits of `mask` in `word`, from bit `shift` on.
fn part(word: U256, shift: usize, mask: usize) -> usize {
    (word >> shift).as_limbs()[0] as usize & mask
}

fn word(index: u64, position: u64) -> U256 {
    let mut bytes = [0; 64];
    bytes[24..32].copy_from_slice(&index.to_be_bytes());
    bytes[56..].copy_from_slice(&position.to_be_bytes());
    U256::from_be_bytes(keccak256(bytes).0)
}
