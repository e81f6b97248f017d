//! Whether a request is ours to work on, and worth it. Pure.

use alloy::primitives::{Address, B256};

use crate::answerer::Pins;
use crate::config::{TokenAmount, TokenRate};
use crate::job::terms::Terms;
use crate::limits::DELIVERY_GAS_EXPECTED;
use crate::transaction::fee::Market;

/// Why a request is declined. The words go on record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("our signer {0} is not in the operator set that the request pinned")]
    NotAMember(Address),
    #[error("our signer {0} has been revoked")]
    Revoked(Address),
    #[error("this node has no corpus for the agent")]
    NoCorpus,
    #[error("the offer pins corpus {offered}, but this node has {held}")]
    Corpus { offered: B256, held: B256 },
    #[error("the offer pins model {offered}, but this node has {held}")]
    Model { offered: B256, held: B256 },
    #[error(
        "the delivery would cost about {cost} wei of gas, but the request pays what is worth {reward} wei"
    )]
    Unprofitable { cost: u128, reward: u128 },
}

/// What is known at the moment of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub signer: Address,
    pub revoked: bool,
    pub pins: Option<Pins>,
    pub market: Market,
}

/// Checks everything that can be said before any work is done.
pub fn check(terms: &Terms, facts: &Facts, rates: &[TokenRate]) -> Result<(), Refusal> {
    if !terms.operator_set.signers.contains(&facts.signer) {
        return Err(Refusal::NotAMember(facts.signer));
    }
    if facts.revoked {
        return Err(Refusal::Revoked(facts.signer));
    }
    let Some(pins) = facts.pins else { return Err(Refusal::NoCorpus) };
    let offered = terms.offer.corpusRoot;
    if !offered.is_zero() && offered != pins.corpus_root {
        return Err(Refusal::Corpus { offered, held: pins.corpus_root });
    }
    let offered = terms.offer.modelHash;
    if !offered.is_zero() && offered != pins.model_hash {
        return Err(Refusal::Model { offered, held: pins.model_hash });
    }
    if let Some(reward) = worth(terms, rates) {
        let price = facts.market.base_fee.saturating_add(facts.market.priority);
        let cost = price.saturating_mul(u128::from(DELIVERY_GAS_EXPECTED));
        if reward < cost {
            return Err(Refusal::Unprofitable { cost, reward });
        }
    }
    Ok(())
}

/// What a request pays after the fee, in wei; `None` when nobody said what its token is worth.
fn worth(terms: &Terms, rates: &[TokenRate]) -> Option<u128> {
    let token = terms.request.token;
    let native = TokenRate { token: Address::ZERO, wei: 1, units: 1 };
    let rate = rates
        .iter()
        .find(|rate| rate.token == token)
        .or_else(|| token.is_zero().then_some(&native))?;
    let kept = 10_000u128.saturating_sub(u128::from(terms.request.feeBps));
    let net =
        terms.request.maxAmount / 10_000 * kept + terms.request.maxAmount % 10_000 * kept / 10_000;
    Some(net.saturating_mul(rate.wei) / rate.units.max(1))
}

/// How settled a request has to be before work on it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Patience {
    Latest,
    Safe,
    Finalized,
}

/// Reads it off the request's value.
pub fn patience(
    terms: &Terms,
    safe_above: &[TokenAmount],
    finalized_above: &[TokenAmount],
) -> Patience {
    let over = |limits: &[TokenAmount]| {
        limits.iter().any(|limit| {
            limit.token == terms.request.token && limit.amount < terms.request.maxAmount
        })
    };
    if over(finalized_above) {
        Patience::Finalized
    } else if over(safe_above) {
        Patience::Safe
    } else {
        Patience::Latest
    }
}

#[cfg(test)]
mod tests {
    use auspex_protocol::bindings::IRequestEscrow::{Offer, OperatorSet, Request};

    use super::*;

    const GWEI: u128 = 1_000_000_000;

    fn terms(token: Address, amount: u128) -> Terms {
        let signers = vec![Address::repeat_byte(1)];
        Terms {
            request_id: B256::ZERO,
            request: Request { token, maxAmount: amount, feeBps: 500, ..Request::default() },
            offer: Offer::default(),
            operator_set: OperatorSet { setId: 1, epoch: 1, threshold: 1, signers },
            input: Vec::new(),
        }
    }

    fn facts() -> Facts {
        Facts {
            signer: Address::repeat_byte(1),
            revoked: false,
            pins: Some(Pins {
                corpus_root: B256::repeat_byte(5),
                model_hash: B256::repeat_byte(6),
            }),
            market: Market { base_fee: GWEI, priority: 0 },
        }
    }

    #[test]
    fn a_request_that_pays_less_than_its_gas_is_declined_in_the_native_coin_and_at_a_rate() {
        let cost = u128::from(DELIVERY_GAS_EXPECTED) * GWEI;
        let enough = cost * 10_000 / 9_500 + 1;
        assert_eq!(check(&terms(Address::ZERO, enough), &facts(), &[]), Ok(()));
        let poor = terms(Address::ZERO, enough - 10);
        assert!(matches!(check(&poor, &facts(), &[]), Err(Refusal::Unprofitable { .. })));

        let token = Address::repeat_byte(9);
        let rates = [TokenRate { token, wei: GWEI, units: 2 }];
        let poor = terms(token, 2 * enough / GWEI - 10);
        assert!(matches!(check(&poor, &facts(), &rates), Err(Refusal::Unprofitable { .. })));
        assert_eq!(check(&terms(token, 2 * enough / GWEI + 10), &facts(), &rates), Ok(()));
        assert_eq!(check(&terms(token, 1), &facts(), &[]), Ok(()));
    }

    #[test]
    fn a_pinned_corpus_or_model_that_is_not_ours_is_declined() {
        let mut terms = terms(Address::ZERO, u128::MAX / 10_000);
        terms.offer.corpusRoot = B256::repeat_byte(7);
        assert!(matches!(check(&terms, &facts(), &[]), Err(Refusal::Corpus { .. })));
        terms.offer.corpusRoot = B256::repeat_byte(5);
        terms.offer.modelHash = B256::repeat_byte(7);
        assert!(matches!(check(&terms, &facts(), &[]), Err(Refusal::Model { .. })));
        terms.offer.modelHash = B256::repeat_byte(6);
        assert_eq!(check(&terms, &facts(), &[]), Ok(()));
        let nothing = Facts { pins: None, ..facts() };
        assert_eq!(check(&terms, &nothing, &[]), Err(Refusal::NoCorpus));
    }

    #[test]
    fn a_stranger_or_a_revoked_signer_does_not_work() {
        let terms = terms(Address::ZERO, u128::MAX / 10_000);
        let revoked = Facts { revoked: true, ..facts() };
        assert!(matches!(check(&terms, &revoked, &[]), Err(Refusal::Revoked(_))));
        let stranger = Facts { signer: Address::repeat_byte(2), ..facts() };
        assert!(matches!(check(&terms, &stranger, &[]), Err(Refusal::NotAMember(_))));
    }

    #[test]
    fn the_value_decides_how_long_an_operator_waits() {
        let limit = |amount| [TokenAmount { token: Address::ZERO, amount }];
        let terms = terms(Address::ZERO, 100);
        assert_eq!(patience(&terms, &limit(100), &limit(100)), Patience::Latest);
        assert_eq!(patience(&terms, &limit(99), &limit(100)), Patience::Safe);
        assert_eq!(patience(&terms, &limit(99), &limit(99)), Patience::Finalized);
        let other = [TokenAmount { token: Address::repeat_byte(1), amount: 0 }];
        assert_eq!(patience(&terms, &other, &other), Patience::Latest);
    }
}
