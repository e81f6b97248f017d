//! What the transaction manager does next, as a pure function of what the database and the chain say.
//!
//! Assumptions: one manager at a time works on a key (advisory lock, fencing epoch); a nonce and its first signed
//! transaction are stored in one database transaction; what is sent was stored before.
//!
//! Invariants: every nonce below `next_nonce` belongs to exactly one intent; an outcome is only ever read from the chain;
//! what the open transactions can cost at worst, with what was spent in the budget's window, stays within the budget.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::B256;

use crate::limits::{
    ATTEMPTS_PER_INTENT_MAX, CANCEL_GAS, CONSECUTIVE_REVERTS_MAX, TRANSACTIONS_IN_FLIGHT_MAX,
};
use crate::transaction::fee::{Fees, Market};

/// The row number of an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub i64);

/// A signed transaction for a slot's nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub hash: B256,
    pub fees: Fees,
    pub gas_limit: u64,
    pub cancels: bool,
    pub since_signed: Duration,
    /// `None` when it was stored and never handed to an endpoint.
    pub since_sent: Option<Duration>,
}

/// Where a transaction stands in the latest chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inclusion {
    pub hash: B256,
    pub block_number: u64,
    pub block_hash: B256,
    pub succeeded: bool,
    /// Wei paid for gas.
    pub cost: u128,
}

/// An intent that has a nonce and no final outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub intent: IntentId,
    pub nonce: u64,
    pub wanted: bool,
    /// In the order in which they were signed; never empty.
    pub attempts: Vec<Attempt>,
    /// The inclusion that the database remembers.
    pub recorded: Option<Inclusion>,
    /// The inclusion that the chain shows.
    pub observed: Option<Inclusion>,
}

/// An intent without a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub intent: IntentId,
    pub wanted: bool,
    /// Gas to give it; `None` while a simulation says that it would revert.
    pub gas_limit: Option<u64>,
}

/// The chain as one endpoint shows it. The nonces are read before the receipts, so that a transaction mined between the
/// two reads is seen as included and never as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainView {
    pub latest_nonce: u64,
    pub safe_nonce: u64,
    pub safe_block: u64,
    pub market: Market,
    /// Wei.
    pub balance: u128,
}

/// Everything that the plan depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub next_nonce: u64,
    pub chain: ChainView,
    /// Ascending by nonce.
    pub slots: Vec<Slot>,
    /// In the order of their deadlines.
    pub queue: Vec<Queued>,
    /// Wei paid in the budget's window by transactions with a final outcome.
    pub spent: u128,
    /// Wanted deliveries that reverted since the last one that succeeded.
    pub consecutive_reverts: u32,
    pub stopped: bool,
}

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Wei per gas.
    pub fee_cap: u128,
    /// Wei per budget window.
    pub budget: u128,
    pub raise_after: Duration,
    pub resend_after: Duration,
}

/// A final outcome of an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Confirmed,
    Failed,
    Replaced,
}

/// Why nothing new is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    #[error("gas costs more than the fee cap allows")]
    FeeCap,
    #[error("the gas budget of the day is used up")]
    Budget,
    #[error("the transmitter's balance is too low")]
    Balance,
    #[error("as many transactions as allowed are under way")]
    InFlight,
    #[error("the manager has stopped itself")]
    Stopped,
}

/// One thing to do. Each is one database transaction, followed by a send where it says so; each may be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The chain has used nonces that this database never gave out: take them as used.
    Adopt { next_nonce: u64 },
    /// Store where a transaction is included, or that it is not any more.
    Record { intent: IntentId, inclusion: Option<Inclusion> },
    /// Store the final outcome.
    Settle { intent: IntentId, outcome: Outcome },
    /// Too many reverts in a row: send no more deliveries until an operator has looked.
    Stop { reverts: u32 },
    /// Send stored bytes again.
    Resend { hash: B256 },
    /// Sign, store and send a replacement for the same nonce.
    Raise { intent: IntentId, nonce: u64, fees: Fees, gas_limit: u64, cancels: bool },
    /// Make an intent for a nonce that has none, sign, store and send a transfer of nothing.
    Fill { nonce: u64, fees: Fees },
    /// Give the next nonce to an intent, sign, store and send.
    Send { intent: IntentId, nonce: u64, fees: Fees, gas_limit: u64 },
    /// Intents wait, and why.
    Report(Blocked),
}

impl Action {
    /// True for what only stores what has become of a transaction. Nobody waits for it, and a plan that leaves out the last of
    /// these says them again.
    pub fn is_noted(&self) -> bool {
        match self {
            Self::Record { .. } | Self::Settle { .. } | Self::Stop { .. } => true,
            Self::Adopt { .. }
            | Self::Resend { .. }
            | Self::Raise { .. }
            | Self::Fill { .. }
            | Self::Send { .. }
            | Self::Report(_) => false,
        }
    }
}

/// The next actions, in the order in which they are to be done.
pub fn plan(view: &View, policy: &Policy) -> Vec<Action> {
    if view.next_nonce < view.chain.latest_nonce {
        return vec![Action::Adopt { next_nonce: view.chain.latest_nonce }];
    }
    let mut outcomes = Vec::new();
    for slot in &view.slots {
        outcome(slot, &view.chain, &mut outcomes);
    }
    for queued in view.queue.iter().filter(|queued| !queued.wanted) {
        outcomes.push(Action::Settle { intent: queued.intent, outcome: Outcome::Replaced });
    }
    if !view.stopped && CONSECUTIVE_REVERTS_MAX <= view.consecutive_reverts {
        outcomes.push(Action::Stop { reverts: view.consecutive_reverts });
        return outcomes;
    }
    let mut actions = Vec::new();
    let mut purse = Purse::new(view, policy);
    for slot in &view.slots {
        push_on(slot, view, policy, &mut purse, &mut actions);
    }
    fill_gaps(view, policy, &mut purse, &mut actions);
    send_new(view, policy, &mut purse, &mut actions);
    // Somebody waits for what is sent, and nobody for what is noted.
    actions.extend(outcomes);
    actions
}

/// Compares what is remembered with what the chain shows.
fn outcome(slot: &Slot, chain: &ChainView, actions: &mut Vec<Action>) {
    match slot.observed {
        Some(inclusion) => {
            if slot.recorded != Some(inclusion) {
                actions.push(Action::Record { intent: slot.intent, inclusion: Some(inclusion) });
            }
            if inclusion.block_number <= chain.safe_block && slot.nonce < chain.safe_nonce {
                let outcome = final_outcome(slot, inclusion);
                actions.push(Action::Settle { intent: slot.intent, outcome });
            }
        }
        None => {
            let used_by_another = slot.nonce < chain.safe_nonce;
            if slot.recorded.is_some() && (used_by_another || chain.latest_nonce <= slot.nonce) {
                actions.push(Action::Record { intent: slot.intent, inclusion: None });
            }
            if used_by_another {
                actions.push(Action::Settle { intent: slot.intent, outcome: Outcome::Replaced });
            }
        }
    }
}

fn final_outcome(slot: &Slot, inclusion: Inclusion) -> Outcome {
    let cancelled =
        slot.attempts.iter().any(|attempt| attempt.hash == inclusion.hash && attempt.cancels);
    match (cancelled, inclusion.succeeded) {
        (true, _) => Outcome::Replaced,
        (false, true) => Outcome::Confirmed,
        (false, false) => Outcome::Failed,
    }
}

/// Raises, cancels or repeats what is not included yet.
fn push_on(
    slot: &Slot,
    view: &View,
    policy: &Policy,
    purse: &mut Purse,
    actions: &mut Vec<Action>,
) {
    let Some(last) = slot.attempts.last() else { return };
    if slot.observed.is_some() || slot.nonce < view.chain.latest_nonce {
        return;
    }
    let market = view.chain.market;
    let to_cancel = !slot.wanted && !last.cancels;
    let first_in_line = slot.nonce == view.chain.latest_nonce;
    let too_cheap = last.fees.max_fee < market.base_fee.saturating_add(last.fees.priority);
    let slow = policy.raise_after <= last.since_signed && (first_in_line || too_cheap);
    let attempts_left = slot.attempts.len() < ATTEMPTS_PER_INTENT_MAX;
    if (to_cancel || slow)
        && attempts_left
        && let Some(fees) = last.fees.raised(market, policy.fee_cap)
    {
        let cancels = last.cancels || to_cancel;
        let gas_limit = if cancels { CANCEL_GAS } else { last.gas_limit };
        if purse.replace(slot, fees.worst_cost(gas_limit)).is_ok() {
            let (intent, nonce) = (slot.intent, slot.nonce);
            actions.push(Action::Raise { intent, nonce, fees, gas_limit, cancels });
            return;
        }
    }
    let due = last.since_sent.is_none_or(|since| policy.resend_after <= since);
    if due {
        actions.push(Action::Resend { hash: last.hash });
    }
}

/// A nonce that was given out and has no intent (the database came back from a backup, or the chain lost transactions
/// that were not ours) would hold up everything behind it.
fn fill_gaps(view: &View, policy: &Policy, purse: &mut Purse, actions: &mut Vec<Action>) {
    let known: BTreeSet<u64> = view.slots.iter().map(|slot| slot.nonce).collect();
    let gaps = (view.chain.latest_nonce..view.next_nonce)
        .filter(|nonce| !known.contains(nonce))
        .take(TRANSACTIONS_IN_FLIGHT_MAX);
    for nonce in gaps {
        let Some(fees) = Fees::first(view.chain.market, policy.fee_cap) else {
            actions.push(Action::Report(Blocked::FeeCap));
            return;
        };
        if let Err(blocked) = purse.spend(fees.worst_cost(CANCEL_GAS)) {
            actions.push(Action::Report(blocked));
            return;
        }
        actions.push(Action::Fill { nonce, fees });
    }
}

fn send_new(view: &View, policy: &Policy, purse: &mut Purse, actions: &mut Vec<Action>) {
    let in_flight = view.slots.iter().filter(|slot| slot.observed.is_none()).count();
    let ready = view.queue.iter().filter(|queued| queued.wanted);
    let ready = ready.filter_map(|queued| queued.gas_limit.map(|gas| (queued, gas)));
    for ((queued, gas_limit), sent) in ready.zip(0usize..) {
        if view.stopped {
            actions.push(Action::Report(Blocked::Stopped));
            return;
        }
        if TRANSACTIONS_IN_FLIGHT_MAX <= in_flight + sent {
            actions.push(Action::Report(Blocked::InFlight));
            return;
        }
        let Some(fees) = Fees::first(view.chain.market, policy.fee_cap) else {
            actions.push(Action::Report(Blocked::FeeCap));
            return;
        };
        if let Err(blocked) = purse.spend(fees.worst_cost(gas_limit)) {
            actions.push(Action::Report(blocked));
            return;
        }
        let nonce = view.next_nonce + sent as u64;
        actions.push(Action::Send { intent: queued.intent, nonce, fees, gas_limit });
    }
}

/// What may still be spent. An open nonce counts with the dearest of its transactions, because any of them may be mined.
struct Purse {
    committed: u128,
    spent: u128,
    budget: u128,
    balance: u128,
    /// What the included but not yet final transactions cost; the balance has already paid for it.
    paid: u128,
}

impl Purse {
    fn new(view: &View, policy: &Policy) -> Self {
        let committed = view.slots.iter().map(worst_of).fold(0, u128::saturating_add);
        let paid = view
            .slots
            .iter()
            .filter(|slot| slot.observed.is_some())
            .map(worst_of)
            .fold(0, u128::saturating_add);
        Self {
            committed,
            spent: view.spent,
            budget: policy.budget,
            balance: view.chain.balance,
            paid,
        }
    }

    fn spend(&mut self, cost: u128) -> Result<(), Blocked> {
        let committed = self.committed.saturating_add(cost);
        if self.budget < self.spent.saturating_add(committed) {
            return Err(Blocked::Budget);
        }
        if self.balance < committed.saturating_sub(self.paid) {
            return Err(Blocked::Balance);
        }
        self.committed = committed;
        Ok(())
    }

    /// Only the part by which the slot's worst case grows is new.
    fn replace(&mut self, slot: &Slot, cost: u128) -> Result<(), Blocked> {
        self.spend(cost.saturating_sub(worst_of(slot)))
    }
}

fn worst_of(slot: &Slot) -> u128 {
    slot.attempts
        .iter()
        .map(|attempt| attempt.fees.worst_cost(attempt.gas_limit))
        .max()
        .unwrap_or(0)
}
