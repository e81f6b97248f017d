//! What a signer grants, as a pure function of what it is asked, what it has promised before, and the time.
//!
//! Invariants: one result digest per request for ever; a result never takes more than its payer allowed; a transaction
//! calls the escrow's delivering functions without value, or nobody; a day's results, values and gas stay below their
//! limits, also for a thief who holds the socket.

use std::collections::{BTreeMap, VecDeque};

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::{Eip712Domain, SolCall};
use auspex_protocol::bindings::IRequestEscrow::{
    Outcome, Request, Result as SignedResult, deliverBatchCall, deliverCall, settleCall,
    withdrawForCall,
};
use auspex_protocol::document::{RequestDocument, ResultDocument};
use auspex_protocol::limits::{MESSAGE_BYTES_MAX, PARTIAL_TEXT_BYTES_MAX};
use auspex_protocol::message::QuorumMessage;
use auspex_protocol::quorum::result_digest;
use auspex_protocol::terms::{escrow_domain, request_id};

use crate::config::TokenAmount;
use crate::limits::{CANCEL_GAS, TRANSACTION_GAS_MAX};
use crate::signer::wire::{TransactionDocument, message_preimage, result_preimage};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * 60;

/// What one signer is for.
#[derive(Debug, Clone)]
pub struct Policy {
    pub chain_id: u64,
    pub escrow: Address,
    pub transmitter: Address,
    pub limits: Limits,
}

/// How much it grants in a time.
#[derive(Debug, Clone)]
pub struct Limits {
    pub results_per_minute: usize,
    pub results_per_day: usize,
    pub messages_per_minute: usize,
    pub partials_per_minute: usize,
    pub transactions_per_minute: usize,
    /// Most wei per gas of a transaction.
    pub fee_cap: u128,
    /// Most wei of gas that the transactions of 24 hours can cost, counted at their fee and gas limits.
    pub gas_per_day: u128,
    /// Most of a token that the results of 24 hours may settle, in its smallest unit. Other tokens are not limited.
    pub value_per_day: Vec<TokenAmount>,
}

/// What the signer has promised.
#[derive(Debug, Default)]
pub struct Memory {
    results: BTreeMap<B256, B256>,
    results_of_a_minute: Window,
    results_of_a_day: Window,
    values_of_a_day: BTreeMap<Address, Window>,
    messages_of_a_minute: Window,
    partials_of_a_minute: Window,
    transactions_of_a_minute: Window,
    /// By nonce: of all transactions of a nonce at most one is mined, so the dearest counts.
    gas_of_a_day: BTreeMap<u64, (u64, u128)>,
}

/// A promise that is written down before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promise {
    Result { request_id: B256, digest: B256, token: Address, amount: u128 },
    Transaction { digest: B256, nonce: u64, target: Address, cost: u128 },
}

/// What may be signed, and what has to be written down first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub preimage: Vec<u8>,
    /// `None` when it was written down before, or binds nobody.
    pub promise: Option<Promise>,
}

/// Why something is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("request {request_id}: {recorded} was signed, so {asked} never is")]
    Equivocation { request_id: B256, recorded: B256, asked: B256 },
    #[error(
        "result.requestId: is {stated}, but the terms shown have the id {shown} on this escrow"
    )]
    OtherTerms { stated: B256, shown: B256 },
    #[error("request: {0}")]
    Terms(String),
    #[error("result.amount: {amount}, but the payer allowed {allowed}")]
    Amount { amount: u128, allowed: u128 },
    #[error("result.validUntil: {valid_until}, but the request ends at {deadline}")]
    ValidUntil { valid_until: u64, deadline: u64 },
    #[error("message.body: {0}")]
    Message(String),
    #[error("message.body: names result {stated} of request {request_id}, which was not signed")]
    UnsignedResult { request_id: B256, stated: B256 },
    #[error("transaction.chainId: {asked}, but this signer is for chain {allowed}")]
    Chain { asked: u64, allowed: u64 },
    #[error(
        "transaction: calls {target} with selector 0x{selector}, which is not one of the functions that deliver, settle or withdraw"
    )]
    Call { target: Address, selector: String },
    #[error("transaction.gasLimit: {asked}, over the limit of {limit}")]
    GasLimit { asked: u64, limit: u64 },
    #[error("transaction.maxFee: {asked} wei per gas, over --fee-cap, {limit}")]
    Fee { asked: u128, limit: u128 },
    #[error("{what}: the limit of {limit} is reached; raise --{option} if this is honest work")]
    Limit { what: String, option: &'static str, limit: u128 },
}

impl Refusal {
    /// True when asking again later cannot help.
    pub fn lasting(&self) -> bool {
        match self {
            Self::Limit { .. } | Self::Fee { .. } => false,
            Self::Equivocation { .. }
            | Self::OtherTerms { .. }
            | Self::Terms(_)
            | Self::Amount { .. }
            | Self::ValidUntil { .. }
            | Self::Message(_)
            | Self::UnsignedResult { .. }
            | Self::Chain { .. }
            | Self::Call { .. }
            | Self::GasLimit { .. } => true,
        }
    }
}

impl Policy {
    pub fn domain(&self) -> Eip712Domain {
        escrow_domain(self.chain_id, self.escrow)
    }

    /// A result. `now` is in Unix seconds.
    pub fn result(
        &self,
        memory: &mut Memory,
        request: &RequestDocument,
        result: &ResultDocument,
        now: u64,
    ) -> Result<Grant, Refusal> {
        let request = Request::try_from(request).map_err(|e| Refusal::Terms(e.to_string()))?;
        let result = SignedResult::from(result);
        let domain = self.domain();
        let shown = request_id(&domain, &request);
        if shown != result.requestId {
            return Err(Refusal::OtherTerms { stated: result.requestId, shown });
        }
        let allowed = if result.outcome == Outcome::Answered { request.maxAmount } else { 0 };
        if allowed < result.amount {
            return Err(Refusal::Amount { amount: result.amount, allowed });
        }
        let deadline = request.deadline.to::<u64>();
        if deadline < result.validUntil {
            return Err(Refusal::ValidUntil { valid_until: result.validUntil, deadline });
        }
        let digest = result_digest(&domain, &result);
        let preimage = result_preimage(&domain, &result);
        if let Some(&recorded) = memory.results.get(&result.requestId) {
            if recorded == digest {
                return Ok(Grant { preimage, promise: None });
            }
            let request_id = result.requestId;
            return Err(Refusal::Equivocation { request_id, recorded, asked: digest });
        }
        self.room_for_result(memory, request.token, result.amount, now)?;
        let promise = Promise::Result {
            request_id: result.requestId,
            digest,
            token: request.token,
            amount: result.amount,
        };
        memory.keep(&promise, now);
        Ok(Grant { preimage, promise: Some(promise) })
    }

    fn room_for_result(
        &self,
        memory: &mut Memory,
        token: Address,
        amount: u128,
        now: u64,
    ) -> Result<(), Refusal> {
        let limits = &self.limits;
        let minute = memory.results_of_a_minute.count(now, MINUTE);
        within("results in a minute", "results-per-minute", minute, limits.results_per_minute)?;
        let day = memory.results_of_a_day.count(now, DAY);
        within("results in a day", "results-per-day", day, limits.results_per_day)?;
        let Some(limit) = limits.value_per_day.iter().find(|limit| limit.token == token) else {
            return Ok(());
        };
        let settled = memory.values_of_a_day.entry(token).or_default().sum(now, DAY);
        if limit.amount < settled.saturating_add(amount) {
            let what = format!("value of results in a day, token {token}");
            return Err(Refusal::Limit { what, option: "value-per-day", limit: limit.amount });
        }
        Ok(())
    }

    /// A message to the other operators or to readers, which may name only a result that was signed.
    pub fn message(
        &self,
        memory: &mut Memory,
        body: &str,
        sent_at: u64,
        now: u64,
    ) -> Result<Grant, Refusal> {
        if MESSAGE_BYTES_MAX < body.len() {
            let reason = format!("{} bytes, over the limit of {MESSAGE_BYTES_MAX}", body.len());
            return Err(Refusal::Message(reason));
        }
        let message: QuorumMessage =
            serde_json::from_str(body).map_err(|error| Refusal::Message(error.to_string()))?;
        let domain = self.domain();
        let named = match &message {
            QuorumMessage::Proposal { result, .. } => {
                let result = SignedResult::from(result);
                Some((result.requestId, result_digest(&domain, &result)))
            }
            QuorumMessage::Cosignature { request_id, result_digest, .. } => {
                Some((*request_id, *result_digest))
            }
            QuorumMessage::Refusal { .. }
            | QuorumMessage::Heartbeat { .. }
            | QuorumMessage::Partial { .. } => None,
        };
        if let Some((request_id, stated)) = named
            && memory.results.get(&request_id) != Some(&stated)
        {
            return Err(Refusal::UnsignedResult { request_id, stated });
        }
        // Parts of unfinished answers are many and worth little: they must not use up what a quorum needs.
        let (what, option, window, limit) = match &message {
            QuorumMessage::Partial { text, .. } if PARTIAL_TEXT_BYTES_MAX < text.len() => {
                let length = text.len();
                let reason =
                    format!("text: {length} bytes, over the limit of {PARTIAL_TEXT_BYTES_MAX}");
                return Err(Refusal::Message(reason));
            }
            QuorumMessage::Partial { .. } => (
                "parts of unfinished answers in a minute",
                "partials-per-minute",
                &mut memory.partials_of_a_minute,
                self.limits.partials_per_minute,
            ),
            QuorumMessage::Proposal { .. }
            | QuorumMessage::Cosignature { .. }
            | QuorumMessage::Refusal { .. }
            | QuorumMessage::Heartbeat { .. } => (
                "messages in a minute",
                "messages-per-minute",
                &mut memory.messages_of_a_minute,
                self.limits.messages_per_minute,
            ),
        };
        within(what, option, window.count(now, MINUTE), limit)?;
        window.add(now, 0);
        Ok(Grant { preimage: message_preimage(&domain, body, sent_at), promise: None })
    }

    /// A transaction of the transmitter: a delivery, or a transfer of nothing to itself.
    pub fn transaction(
        &self,
        memory: &mut Memory,
        transaction: &TransactionDocument,
        now: u64,
    ) -> Result<Grant, Refusal> {
        if transaction.chain_id != self.chain_id {
            let (asked, allowed) = (transaction.chain_id, self.chain_id);
            return Err(Refusal::Chain { asked, allowed });
        }
        let limit = self.gas_limit_of(transaction)?;
        if limit < transaction.gas_limit {
            return Err(Refusal::GasLimit { asked: transaction.gas_limit, limit });
        }
        if self.limits.fee_cap < transaction.max_fee {
            let (asked, limit) = (transaction.max_fee, self.limits.fee_cap);
            return Err(Refusal::Fee { asked, limit });
        }
        let minute = memory.transactions_of_a_minute.count(now, MINUTE);
        let limit = self.limits.transactions_per_minute;
        within("transactions in a minute", "transactions-per-minute", minute, limit)?;
        let cost = transaction.max_fee.saturating_mul(u128::from(transaction.gas_limit));
        memory.gas_of_a_day.retain(|_, (at, _)| now.saturating_sub(DAY) < *at);
        let others = memory.gas_of_a_day.iter().filter(|(nonce, _)| **nonce != transaction.nonce);
        let reserved = others.fold(0u128, |sum, (_, (_, cost))| sum.saturating_add(*cost));
        if self.limits.gas_per_day < reserved.saturating_add(cost) {
            let limit = self.limits.gas_per_day;
            return Err(Refusal::Limit {
                what: "gas in a day".into(),
                option: "gas-per-day",
                limit,
            });
        }
        let preimage = transaction.preimage();
        let promise = Promise::Transaction {
            digest: keccak256(&preimage),
            nonce: transaction.nonce,
            target: transaction.target,
            cost,
        };
        memory.keep(&promise, now);
        Ok(Grant { preimage, promise: Some(promise) })
    }

    /// Most gas that a transaction of its kind may ask for.
    fn gas_limit_of(&self, transaction: &TransactionDocument) -> Result<u64, Refusal> {
        if transaction.target == self.transmitter && transaction.calldata.is_empty() {
            return Ok(CANCEL_GAS);
        }
        let selector = transaction.calldata.get(..4).unwrap_or_default();
        // Each of them pays only whom the request or the split names, whoever calls it.
        let harmless = [
            deliverCall::SELECTOR,
            deliverBatchCall::SELECTOR,
            settleCall::SELECTOR,
            withdrawForCall::SELECTOR,
        ];
        if transaction.target == self.escrow && harmless.iter().any(|known| known == selector) {
            return Ok(TRANSACTION_GAS_MAX);
        }
        let (target, selector) = (transaction.target, hex::encode(selector));
        Err(Refusal::Call { target, selector })
    }
}

impl Memory {
    /// Takes a promise in, from a grant or from what was written down before.
    pub fn keep(&mut self, promise: &Promise, at: u64) {
        match *promise {
            Promise::Result { request_id, digest, token, amount } => {
                self.results.insert(request_id, digest);
                self.results_of_a_minute.add(at, 0);
                self.results_of_a_day.add(at, 0);
                self.values_of_a_day.entry(token).or_default().add(at, amount);
            }
            Promise::Transaction { nonce, cost, .. } => {
                self.transactions_of_a_minute.add(at, 0);
                let known = self.gas_of_a_day.entry(nonce).or_default();
                *known = (at, known.1.max(cost));
            }
        }
    }

    /// The result that was promised for a request.
    pub fn result_of(&self, request_id: B256) -> Option<B256> {
        self.results.get(&request_id).copied()
    }
}

fn within(what: &str, option: &'static str, count: usize, limit: usize) -> Result<(), Refusal> {
    if count < limit {
        return Ok(());
    }
    Err(Refusal::Limit { what: what.to_owned(), option, limit: limit as u128 })
}

/// What happened in the last while. A clock that is set back keeps entries longer, which refuses more and never less.
#[derive(Debug, Default)]
struct Window {
    entries: VecDeque<(u64, u128)>,
}

impl Window {
    fn add(&mut self, at: u64, amount: u128) {
        self.entries.push_back((at, amount));
    }

    fn forget(&mut self, now: u64, length: u64) {
        while self.entries.front().is_some_and(|(at, _)| at.saturating_add(length) <= now) {
            self.entries.pop_front();
        }
    }

    fn count(&mut self, now: u64, length: u64) -> usize {
        self.forget(now, length);
        self.entries.len()
    }

    fn sum(&mut self, now: u64, length: u64) -> u128 {
        self.forget(now, length);
        self.entries.iter().fold(0u128, |sum, (_, amount)| sum.saturating_add(*amount))
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
