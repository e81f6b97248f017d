//! What a transaction offers for gas, and how an offer is raised.

/// An EIP-1559 offer in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fees {
    pub max_fee: u128,
    pub priority: u128,
}

/// What gas costs at the moment, in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Market {
    pub base_fee: u128,
    pub priority: u128,
}

impl Fees {
    /// A first offer: twice the base fee, so that it survives five blocks of the steepest growth. `None` while the
    /// market is over `cap`: such a transaction could only wait and hold up what comes behind it.
    pub fn first(market: Market, cap: u128) -> Option<Self> {
        let needed = market.base_fee.saturating_add(market.priority);
        if cap < needed {
            return None;
        }
        let comfortable = market.base_fee.saturating_mul(2).saturating_add(market.priority);
        Some(Self { max_fee: comfortable.min(cap), priority: market.priority })
    }

    /// A higher offer for the same nonce. Both parts grow by at least a tenth, because geth and its relatives refuse a
    /// replacement otherwise. `None` when that would go over `cap`.
    pub fn raised(self, market: Market, cap: u128) -> Option<Self> {
        let floor = Self { max_fee: tenth_more(self.max_fee), priority: tenth_more(self.priority) };
        if cap < floor.max_fee {
            return None;
        }
        let priority = floor.priority.max(market.priority.min(cap));
        let comfortable = market.base_fee.saturating_mul(2).saturating_add(priority);
        let max_fee = floor.max_fee.max(comfortable.min(cap)).max(priority);
        if cap < max_fee {
            return None;
        }
        Some(Self { max_fee, priority })
    }

    /// The most that a transaction of `gas_limit` can cost, in wei.
    pub fn worst_cost(self, gas_limit: u64) -> u128 {
        self.max_fee.saturating_mul(u128::from(gas_limit))
    }
}

fn tenth_more(fee: u128) -> u128 {
    fee.saturating_add(fee.div_ceil(10).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GWEI: u128 = 1_000_000_000;

    #[test]
    fn a_first_offer_is_not_made_above_the_cap() {
        let market = Market { base_fee: 9 * GWEI, priority: 2 * GWEI };
        assert_eq!(Fees::first(market, 10 * GWEI), None);
        let fees = Fees::first(market, 12 * GWEI);
        assert_eq!(fees, Some(Fees { max_fee: 12 * GWEI, priority: 2 * GWEI }));
    }

    #[test]
    fn an_offer_at_the_cap_is_not_raised() {
        let fees = Fees { max_fee: 10 * GWEI, priority: GWEI };
        let market = Market { base_fee: 50 * GWEI, priority: GWEI };
        assert_eq!(fees.raised(market, 10 * GWEI), None);
    }

    proptest! {
        #[test]
        fn a_raised_offer_is_one_that_every_client_accepts(
            max_fee in 1u128..1_000 * GWEI,
            priority in 0u128..1_000 * GWEI,
            base_fee in 0u128..1_000 * GWEI,
            tip in 0u128..1_000 * GWEI,
            cap in 1u128..2_000 * GWEI,
        ) {
            let old = Fees { max_fee, priority: priority.min(max_fee) };
            let Some(new) = old.raised(Market { base_fee, priority: tip }, cap) else {
                return Ok(());
            };
            prop_assert!(old.max_fee * 110 <= new.max_fee * 100);
            prop_assert!(old.priority * 110 <= new.priority * 100);
            prop_assert!(old.priority < new.priority);
            prop_assert!(new.priority <= new.max_fee);
            prop_assert!(new.max_fee <= cap);
        }

        #[test]
        fn a_first_offer_can_be_included_and_stays_within_the_cap(
            base_fee in 0u128..1_000 * GWEI,
            tip in 0u128..1_000 * GWEI,
            cap in 1u128..2_000 * GWEI,
        ) {
            let Some(fees) = Fees::first(Market { base_fee, priority: tip }, cap) else {
                return Ok(());
            };
            prop_assert!(base_fee + tip <= fees.max_fee);
            prop_assert!(fees.priority <= fees.max_fee && fees.max_fee <= cap);
        }
    }
}
