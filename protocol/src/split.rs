//! The split of a settled amount among payees, as the escrow computes it.
//!
//! The escrow keeps one running total per (split, token). A payee's entitlement is `floor(total * allocation /
//! total_allocation)`, so that any sequence of settlements pays exactly what one settlement of the sum would pay:
//! nothing is lost in small slices, and the residue, always smaller than the number of payees, stays in the split.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::SolValue;

use crate::bindings::IRequestEscrow::Split;
use crate::limits::SPLIT_RECIPIENTS_MAX;

/// Why a split is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("split.recipients: {0} payees, but 1 to {SPLIT_RECIPIENTS_MAX} are allowed")]
    RecipientCount(usize),
    #[error("split.allocations: {allocations} allocations for {recipients} recipients")]
    LengthMismatch { recipients: usize, allocations: usize },
    #[error("split.recipients[{0}]: the zero address cannot be paid")]
    ZeroRecipient(usize),
    #[error("split.recipients[{0}]: appears more than once")]
    DuplicateRecipient(usize),
    #[error("split.allocations[{0}]: must be more than zero")]
    ZeroAllocation(usize),
    #[error("split.totalAllocation: is {stated}, but the allocations add up to {sum}")]
    TotalMismatch { stated: U256, sum: U256 },
    #[error("split.totalAllocation: {0} is over the limit of 2^64 - 1")]
    TotalTooLarge(U256),
    #[error("split.distributionIncentive: must be zero")]
    Incentive,
}

/// The hash that offers and requests pin, `keccak256(abi.encode(split))`, equal to 0xSplits v2's.
pub fn split_hash(split: &Split) -> B256 {
    keccak256(split.abi_encode())
}

/// Checks every rule that the escrow checks when an offer is published.
pub fn validate(split: &Split) -> Result<(), SplitError> {
    let recipients = split.recipients.len();
    if recipients == 0 || SPLIT_RECIPIENTS_MAX < recipients {
        return Err(SplitError::RecipientCount(recipients));
    }
    if split.allocations.len() != recipients {
        return Err(SplitError::LengthMismatch {
            recipients,
            allocations: split.allocations.len(),
        });
    }
    if split.distributionIncentive != 0 {
        return Err(SplitError::Incentive);
    }
    let mut sum = U256::ZERO;
    for (index, (recipient, allocation)) in
        split.recipients.iter().zip(&split.allocations).enumerate()
    {
        if recipient.is_zero() {
            return Err(SplitError::ZeroRecipient(index));
        }
        if split.recipients[..index].contains(recipient) {
            return Err(SplitError::DuplicateRecipient(index));
        }
        if allocation.is_zero() {
            return Err(SplitError::ZeroAllocation(index));
        }
        if U256::from(u64::MAX) < *allocation {
            return Err(SplitError::TotalTooLarge(*allocation));
        }
        sum += *allocation;
    }
    if sum != split.totalAllocation {
        return Err(SplitError::TotalMismatch { stated: split.totalAllocation, sum });
    }
    if U256::from(u64::MAX) < sum {
        return Err(SplitError::TotalTooLarge(sum));
    }
    Ok(())
}

/// What `account` is entitled to out of everything that was ever settled into a split.
pub fn entitlement(split: &Split, account: Address, settled_total: U256) -> U256 {
    split
        .recipients
        .iter()
        .zip(&split.allocations)
        .filter(|(recipient, _)| **recipient == account)
        .map(|(_, allocation)| share(settled_total, *allocation, split.totalAllocation))
        .sum()
}

/// What each payee gains when `amount` is settled on top of `settled_before`, in the split's order.
pub fn credits_of_settlement(split: &Split, settled_before: U256, amount: U256) -> Vec<U256> {
    let settled_after = settled_before + amount;
    split
        .allocations
        .iter()
        .map(|allocation| {
            share(settled_after, *allocation, split.totalAllocation)
                - share(settled_before, *allocation, split.totalAllocation)
        })
        .collect()
}

/// The protocol's fee of a settlement, rounded down in the payees' favour.
pub fn fee(amount: u128, fee_bps: u16) -> u128 {
    const BPS: u128 = 10_000;
    // Split in two so that the product stays below 2^128 for every amount.
    (amount / BPS) * u128::from(fee_bps) + (amount % BPS) * u128::from(fee_bps) / BPS
}

fn share(total: U256, allocation: U256, total_allocation: U256) -> U256 {
    if total_allocation.is_zero() {
        return U256::ZERO;
    }
    total * allocation / total_allocation
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::b256;
    use proptest::prelude::*;

    fn split_of(allocations: &[u64]) -> Split {
        Split {
            recipients: (1..=allocations.len() as u64)
                .map(|n| Address::left_padding_from(&n.to_be_bytes()))
                .collect(),
            allocations: allocations.iter().copied().map(U256::from).collect(),
            totalAllocation: allocations.iter().map(|a| U256::from(*a)).sum(),
            distributionIncentive: 0,
        }
    }

    /// The escrow's tests pin the same hash, beside the selectors of the 0xSplits contracts that take the tuple.
    #[test]
    fn the_hash_is_that_of_0xsplits() {
        let mut split = split_of(&[1_000, 9_000]);
        split.recipients = vec![Address::repeat_byte(0x11), Address::repeat_byte(0x22)];
        let pinned = b256!("e286215ca7985357bb016195902c136c433bc9691c9fad38314541d0d5eb0816");
        assert_eq!(split_hash(&split), pinned);
    }

    proptest! {
        #[test]
        fn any_slicing_pays_what_one_settlement_of_the_sum_pays(
            allocations in prop::collection::vec(1u64..1_000_000, 1..=16),
            slices in prop::collection::vec(1u128..u128::MAX / 64, 1..32),
        ) {
            let split = split_of(&allocations);
            validate(&split).unwrap();
            let mut settled = U256::ZERO;
            let mut paid = vec![U256::ZERO; allocations.len()];
            for slice in &slices {
                let amount = U256::from(*slice);
                for (sum, credit) in paid.iter_mut().zip(credits_of_settlement(&split, settled, amount)) {
                    *sum += credit;
                }
                settled += amount;
            }
            let at_once = credits_of_settlement(&split, U256::ZERO, settled);
            prop_assert_eq!(&paid, &at_once);
            let residue = settled - paid.iter().copied().sum::<U256>();
            prop_assert!(residue < U256::from(allocations.len()));
        }

        #[test]
        fn fee_is_the_floor_of_the_exact_product(amount: u128, fee_bps in 0u16..=10_000) {
            let exact = U256::from(amount) * U256::from(fee_bps) / U256::from(10_000u64);
            prop_assert_eq!(U256::from(fee(amount, fee_bps)), exact);
        }
    }

    /// The same file drives the Solidity tests, and neither side wrote its numbers.
    #[test]
    fn the_contracts_vectors_come_out_the_same() {
        const VECTORS: &str = include_str!("../../contracts/test/vectors/arithmetic.json");

        #[derive(serde::Deserialize)]
        struct Vectors {
            splits: Vec<SplitVector>,
            fees: Vec<[String; 3]>,
        }
        #[derive(serde::Deserialize)]
        struct SplitVector {
            weights: Vec<String>,
            amounts: Vec<String>,
            shares: Vec<String>,
        }
        let numbers = |texts: &[String]| -> Vec<U256> {
            texts.iter().map(|text| U256::from_str_radix(text, 10).unwrap()).collect()
        };

        let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
        assert!(!vectors.splits.is_empty() && !vectors.fees.is_empty());
        for vector in &vectors.splits {
            let weights: Vec<u64> = vector.weights.iter().map(|w| w.parse().unwrap()).collect();
            let split = split_of(&weights);
            let mut settled = U256::ZERO;
            let mut paid = vec![U256::ZERO; weights.len()];
            for amount in numbers(&vector.amounts) {
                for (sum, credit) in
                    paid.iter_mut().zip(credits_of_settlement(&split, settled, amount))
                {
                    *sum += credit;
                }
                settled += amount;
            }
            assert_eq!(paid, numbers(&vector.shares));
        }
        for [amount, fee_bps, expected] in &vectors.fees {
            let charged = fee(amount.parse().unwrap(), fee_bps.parse().unwrap());
            assert_eq!(charged, expected.parse::<u128>().unwrap());
        }
    }

    #[test]
    fn each_rule_is_refused_by_its_name() {
        let good = split_of(&[70, 20, 10]);
        assert_eq!(validate(&good), Ok(()));
        let with = |change: fn(&mut Split)| {
            let mut split = good.clone();
            change(&mut split);
            validate(&split).unwrap_err()
        };
        assert_eq!(with(|s| s.recipients.clear()), SplitError::RecipientCount(0));
        assert_eq!(
            with(|s| s.allocations.truncate(2)),
            SplitError::LengthMismatch { recipients: 3, allocations: 2 }
        );
        assert_eq!(with(|s| s.recipients[1] = Address::ZERO), SplitError::ZeroRecipient(1));
        assert_eq!(with(|s| s.recipients[2] = s.recipients[0]), SplitError::DuplicateRecipient(2));
        assert_eq!(with(|s| s.allocations[0] = U256::ZERO), SplitError::ZeroAllocation(0));
        assert_eq!(with(|s| s.distributionIncentive = 1), SplitError::Incentive);
        assert_eq!(
            with(|s| s.totalAllocation = U256::from(101)),
            SplitError::TotalMismatch { stated: U256::from(101), sum: U256::from(100) }
        );
        assert_eq!(with(|s| s.allocations[0] = U256::MAX), SplitError::TotalTooLarge(U256::MAX));
    }
}
