//! Several deliveries in one transaction, when that is cheaper and no deadline is near. Pure.
//!
//! Nothing waits for a batch: what happens to be queued at the same time travels together, so a busy node saves the most
//! and a quiet one loses no time. The escrow leaves out what is overdue, or was delivered or refunded meanwhile; any other
//! fault reverts the whole batch, so only first tries travel together, and what came back travels alone.

use alloy::primitives::Address;
use alloy::sol_types::SolCall;
use auspex_protocol::bindings::IRequestEscrow::{Delivery, deliverBatchCall, deliverCall};

use tokio::time::Instant;

use crate::limits::{
    BATCH_CALLDATA_BYTES_MAX, BATCH_DEADLINE_SECONDS_MIN, BATCH_EXPERIENCE_MAX,
    DELIVERIES_PER_BATCH_MAX, DELIVERY_GAS_EXPECTED, TRANSACTION_GAS_MAX,
};
use crate::transaction::books::Waiting;
use crate::transaction::intent::Call;

/// Deliveries that may travel together, the most urgent first; empty when there are not two. One that was not weighed yet
/// counts with what a delivery is expected to use: the batch is weighed as a whole. `chain_time` is in Unix seconds.
pub fn gather(queue: &[Waiting], chain_time: u64) -> Vec<&Waiting> {
    let (mut gas, mut bytes) = (0u64, 0usize);
    let together: Vec<&Waiting> = queue
        .iter()
        .filter(|waiting| waiting.wanted && waiting.first_try && !waiting.would_revert)
        .filter(|waiting| {
            waiting.deadline.is_some_and(|deadline| {
                chain_time.saturating_add(BATCH_DEADLINE_SECONDS_MIN) <= deadline
            })
        })
        .take_while(|waiting| {
            gas = gas.saturating_add(alone(waiting));
            bytes = bytes.saturating_add(waiting.call.calldata.len());
            gas <= TRANSACTION_GAS_MAX && bytes <= BATCH_CALLDATA_BYTES_MAX
        })
        .take(DELIVERIES_PER_BATCH_MAX)
        .collect();
    if together.len() < 2 { Vec::new() } else { together }
}

/// One call that does what all of them do; `None` when one of them is no delivery.
pub fn combine(escrow: Address, together: &[&Waiting]) -> Option<Call> {
    let deliveries = together
        .iter()
        .map(|waiting| {
            let alone = deliverCall::abi_decode(&waiting.call.calldata).ok()?;
            (waiting.call.target == escrow).then_some(Delivery {
                request: alone.terms,
                result: alone.result,
                operatorSet: alone.operatorSet,
                attestations: alone.attestations,
            })
        })
        .collect::<Option<Vec<Delivery>>>()?;
    let calldata = deliverBatchCall { deliveries }.abi_encode().into();
    Some(Call { target: escrow, calldata })
}

/// True when a batch that uses `gas` costs less than its deliveries one by one.
pub fn pays(gas: u64, together: &[&Waiting]) -> bool {
    let alone = together.iter().map(|waiting| alone(waiting));
    gas < alone.fold(0u64, u64::saturating_add) && gas <= TRANSACTION_GAS_MAX
}

/// What the deliveries of a batch were last found to need, so that the next batch is tried with as much instead of estimated.
#[derive(Debug, Clone, Copy)]
pub struct Experience {
    gas_per_delivery: u64,
    made_at: Instant,
}

impl Experience {
    /// `gas` is what an estimate of a batch has shown.
    pub fn of(gas: u64, deliveries: usize, now: Instant) -> Self {
        let gas_per_delivery = gas.saturating_sub(BASE_GAS).div_ceil(deliveries.max(1) as u64);
        Self { gas_per_delivery, made_at: now }
    }

    /// Gas that a batch is likely to come through with, some more than it used to be; `None` when too long ago.
    pub fn expected(&self, deliveries: usize, now: Instant) -> Option<u64> {
        let fresh = now.saturating_duration_since(self.made_at) < BATCH_EXPERIENCE_MAX;
        let gas = self.gas_per_delivery.saturating_mul(deliveries as u64);
        fresh.then(|| BASE_GAS.saturating_add(gas).saturating_add(gas / 10))
    }
}

/// Gas of every transaction.
const BASE_GAS: u64 = 21_000;

/// Gas that a delivery would be given if it travelled alone.
fn alone(waiting: &Waiting) -> u64 {
    waiting.gas_limit.unwrap_or(DELIVERY_GAS_EXPECTED)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, Bytes};
    use auspex_protocol::bindings::IRequestEscrow::{
        OperatorSet, Outcome, Request, Result as SignedResult,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::transaction::plan::IntentId;

    const ESCROW: Address = Address::repeat_byte(3);
    const NOW: u64 = 1_000;

    fn waiting(id: i64) -> Waiting {
        let call = deliverCall {
            terms: Request { maxAmount: id.unsigned_abs().into(), ..Request::default() },
            result: SignedResult {
                requestId: B256::ZERO,
                outcome: Outcome::Answered,
                outputHash: B256::ZERO,
                traceRoot: B256::ZERO,
                retrievalRoot: B256::ZERO,
                modelHash: B256::ZERO,
                amount: 1,
                validUntil: 1,
            },
            operatorSet: OperatorSet::default(),
            attestations: Vec::new(),
        };
        Waiting {
            intent: IntentId(id),
            wanted: true,
            call: Call { target: ESCROW, calldata: call.abi_encode().into() },
            gas_limit: Some(200_000),
            would_revert: false,
            deadline: Some(NOW + BATCH_DEADLINE_SECONDS_MIN),
            first_try: true,
        }
    }

    fn ids(together: &[&Waiting]) -> Vec<i64> {
        together.iter().map(|waiting| waiting.intent.0).collect()
    }

    #[test]
    fn only_wanted_sound_first_tries_with_time_left_travel_together() {
        let fits = [waiting(1), waiting(2)];
        let odd = [
            Waiting { wanted: false, ..waiting(3) },
            Waiting { gas_limit: None, would_revert: true, ..waiting(4) },
            Waiting { deadline: Some(NOW + BATCH_DEADLINE_SECONDS_MIN - 1), ..waiting(5) },
            Waiting { deadline: None, ..waiting(6) },
            Waiting { first_try: false, ..waiting(7) },
        ];
        let queue: Vec<Waiting> = odd.into_iter().chain(fits).collect();
        assert_eq!(ids(&gather(&queue, NOW)), [1, 2]);
        let unweighed = [waiting(1), Waiting { gas_limit: None, ..waiting(2) }];
        assert_eq!(ids(&gather(&unweighed, NOW)), [1, 2]);
        assert!(gather(&queue[..6], NOW).is_empty(), "one alone is no batch");
    }

    #[test]
    fn a_batch_holds_the_deliveries_in_their_order_and_nothing_else() {
        let queue = [waiting(1), waiting(2), waiting(3)];
        let together: Vec<&Waiting> = queue.iter().collect();
        let call = combine(ESCROW, &together).unwrap();
        let batch = deliverBatchCall::abi_decode(&call.calldata).unwrap();
        let amounts: Vec<u128> =
            batch.deliveries.iter().map(|delivery| delivery.request.maxAmount).collect();
        assert_eq!((call.target, amounts), (ESCROW, vec![1, 2, 3]));
        let strange = Call { target: ESCROW, calldata: Bytes::from_static(b"\x01\x02\x03\x04") };
        let queue = [waiting(1), Waiting { call: strange, ..waiting(2) }];
        let together: Vec<&Waiting> = queue.iter().collect();
        assert_eq!(combine(ESCROW, &together), None);
        assert_eq!(combine(Address::ZERO, &together[..1]), None);
    }

    #[test]
    fn a_batch_that_saves_nothing_is_not_made() {
        let queue = [waiting(1), waiting(2)];
        let together: Vec<&Waiting> = queue.iter().collect();
        assert!(pays(399_999, &together));
        assert!(!pays(400_000, &together));
    }

    #[test]
    fn experience_grows_with_the_batch_and_is_forgotten() {
        let now = Instant::now();
        let experience = Experience::of(21_000 + 800_000, 10, now);
        assert_eq!(experience.expected(10, now), Some(21_000 + 880_000));
        assert_eq!(experience.expected(2, now), Some(21_000 + 176_000));
        assert_eq!(experience.expected(2, now + BATCH_EXPERIENCE_MAX), None);
        assert_eq!(Experience::of(u64::MAX, 0, now).expected(40, now), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn a_batch_stays_within_every_limit(gas in prop::collection::vec(21_000u64..3_000_000, 0..120)) {
            let queue: Vec<Waiting> = gas
                .iter()
                .zip(0i64..)
                .map(|(gas, id)| Waiting { gas_limit: Some(*gas), ..waiting(id) })
                .collect();
            let together = gather(&queue, NOW);
            let gas: u64 = together.iter().filter_map(|waiting| waiting.gas_limit).sum();
            let bytes: usize = together.iter().map(|waiting| waiting.call.calldata.len()).sum();
            prop_assert!(together.len() != 1 && together.len() <= DELIVERIES_PER_BATCH_MAX);
            prop_assert!(gas <= TRANSACTION_GAS_MAX && bytes <= BATCH_CALLDATA_BYTES_MAX);
        }
    }
}
