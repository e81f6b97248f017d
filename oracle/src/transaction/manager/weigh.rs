//! Gas: what queued deliveries need, and which of them cost less together.

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::{Manager, Memory};
use crate::chain::ChainError;
use crate::limits::{CHAIN_QUESTIONS_MAX, DELIVERY_GAS_MAX, TRANSACTIONS_IN_FLIGHT_MAX};
use crate::transaction::batch::{self, Experience};
use crate::transaction::books::{Books, Waiting};
use crate::transaction::custody::Custody;
use crate::transaction::intent::Call;
use crate::transaction::plan::IntentId;
use crate::transaction::store;

impl Manager {
    /// Finds out how much gas queued intents need. One that would revert waits: its job will find out why.
    pub(super) async fn weigh(
        &self,
        queue: impl Iterator<Item = &mut Waiting>,
    ) -> anyhow::Result<()> {
        let unweighed = queue.filter(|waiting| waiting.wanted && waiting.gas_limit.is_none());
        let weighing: Vec<_> = unweighed.map(|waiting| self.weigh_one(waiting).boxed()).collect();
        stream::iter(weighing).buffer_unordered(CHAIN_QUESTIONS_MAX).try_collect().await
    }

    async fn weigh_one(&self, waiting: &mut Waiting) -> anyhow::Result<()> {
        let (gas_limit, reason) = match self.chain.estimate(self.key.address(), &waiting.call).await
        {
            Ok(gas) => (Some(with_reserve(gas).min(DELIVERY_GAS_MAX)), None),
            Err(ChainError::Reverts { message, .. }) => (None, Some(message)),
            Err(error) => return Err(error.into()),
        };
        if let Some(reason) = &reason {
            tracing::info!(intent = waiting.intent.0, reason, "the delivery would revert now");
        }
        store::weighed(&self.pool, waiting.intent, gas_limit, reason.as_deref()).await?;
        waiting.would_revert = gas_limit.is_none();
        waiting.gas_limit = gas_limit;
        Ok(())
    }

    /// Puts deliveries that wait at the same time into one transaction where that is cheaper, weighed as a whole. While as
    /// many transactions as allowed are under way nothing is put together: what comes until then may still come along.
    pub(super) async fn batch(
        &self,
        custody: &Custody,
        memory: &mut Memory,
        books: &mut Books,
        chain_time: u64,
    ) -> anyhow::Result<()> {
        if books.stopped.is_some() {
            return Ok(());
        }
        for _ in 0..room(books) {
            let together = batch::gather(&books.queue, chain_time);
            let escrow = self.chain.deployment().request_escrow;
            if together.is_empty() {
                return Ok(());
            }
            let Some(call) = batch::combine(escrow, &together) else { return Ok(()) };
            let carried: Vec<IntentId> = together.iter().map(|waiting| waiting.intent).collect();
            let gas = self.weigh_together(memory, &call, &together).await?;
            let gas_limit = gas.map(with_reserve).filter(|gas| batch::pays(*gas, &together));
            let Some(gas_limit) = gas_limit else {
                // One of them is at fault, or all are lighter than expected, which shows when each is weighed alone.
                let known = together.iter().all(|waiting| waiting.gas_limit.is_some());
                let queue = books.queue.iter_mut();
                self.weigh(queue.filter(|waiting| carried.contains(&waiting.intent))).await?;
                if known {
                    return Ok(());
                }
                continue;
            };
            let formed = store::form_batch(&self.pool, custody, &carried, &call, gas_limit).await?;
            let Some(intent) = formed else { return Ok(()) };
            self.meters.deliveries_batched.add(carried.len() as u64);
            tracing::info!(
                intent = intent.0,
                deliveries = carried.len(),
                "deliveries travel together"
            );
            books.queue.retain(|waiting| !carried.contains(&waiting.intent));
            let batch = Waiting {
                intent,
                wanted: true,
                call,
                gas_limit: Some(gas_limit),
                would_revert: false,
                deadline: None,
                first_try: true,
            };
            books.queue.insert(0, batch);
        }
        Ok(())
    }

    /// Gas that a batch comes through with now; `None` when it would revert.
    async fn weigh_together(
        &self,
        memory: &mut Memory,
        call: &Call,
        together: &[&Waiting],
    ) -> anyhow::Result<Option<u64>> {
        let (sender, now) = (self.key.address(), Instant::now());
        let expected = memory.experience.and_then(|known| known.expected(together.len(), now));
        // What costs more than it saves as expected may do so no more.
        let expected = expected.filter(|gas| batch::pays(with_reserve(*gas), together));
        if let Some(gas) = expected
            && self.chain.suffices(sender, call, gas).await?
        {
            return Ok(Some(gas));
        }
        match self.chain.estimate(sender, call).await {
            Ok(gas) => {
                memory.experience = Some(Experience::of(gas, together.len(), now));
                Ok(Some(gas))
            }
            Err(ChainError::Reverts { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Transactions that may be sent beside those under way.
pub(super) fn room(books: &Books) -> usize {
    let in_flight = books.slots.iter().filter(|open| open.slot.observed.is_none()).count();
    TRANSACTIONS_IN_FLIGHT_MAX.saturating_sub(in_flight)
}

/// The gas that a transaction is given when a simulation used `gas`: the state that it meets may be another.
fn with_reserve(gas: u64) -> u64 {
    gas.saturating_add(gas / 5)
}
