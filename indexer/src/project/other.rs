//! Entry policy, x402 settlements, and logs that do not decode.

use std::borrow::Borrow;

use alloy::primitives::B256;
use auspex_protocol::bindings::IEntryPolicy::IEntryPolicyEvents;
use auspex_protocol::bindings::IPlatformToken;
use serde::{Deserialize, Serialize};

use super::state::State;
use super::value::{Account, Hash, Uint};
use super::{Place, text};
use crate::chain::Fact;
use crate::decode::transfer;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub token: Account,
    pub allowed: bool,
    pub updated_at: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeePolicy {
    pub policy: Account,
    pub fee_bps: u16,
    pub fee_recipient: Account,
    pub updated_at: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct X402Settlement {
    pub token: Account,
    pub payer: Account,
    pub payee: Account,
    pub amount: Uint,
    pub nonce: Hash,
    pub created_block: u64,
    pub created_at: u64,
    pub created_tx: Hash,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UndecodableLog {
    pub address: Account,
    pub topic0: Option<Hash>,
    pub reason: String,
    pub created_block: u64,
    pub created_at: u64,
    pub created_tx: Hash,
}

pub(super) fn apply_policy(
    state: &mut State<'_>,
    place: Place,
    event: &IEntryPolicyEvents,
) -> Result<(), String> {
    match event {
        IEntryPolicyEvents::TokenAllowed(event) => {
            let token =
                Token { token: event.token.into(), allowed: event.allowed, updated_at: place.time };
            state.put(format!("{:#x}", event.token), token);
        }
        IEntryPolicyEvents::FeeChanged(event) => {
            let policy = FeePolicy {
                policy: place.contract,
                fee_bps: event.feeBps,
                fee_recipient: event.feeRecipient.into(),
                updated_at: place.time,
            };
            state.put(format!("{:#x}", place.contract.0), policy);
        }
    }
    Ok(())
}

/// Joins an EIP-3009 authorization with the transfer that it made: the next one of the same token from the same account
/// in the same transaction. An authorization without one moved nothing and is left out.
pub(super) fn authorization(
    state: &mut State<'_>,
    place: Place,
    following: &[impl Borrow<Fact>],
    event: &IPlatformToken::AuthorizationUsed,
) -> Result<(), String> {
    let made = following
        .iter()
        .map(Borrow::borrow)
        .take_while(|fact| fact.transaction_hash == place.transaction.0)
        .filter(|fact| fact.address == place.contract.0)
        .filter_map(transfer)
        .find(|transfer| transfer.from == event.authorizer);
    let Some(made) = made else { return Ok(()) };
    let settlement = X402Settlement {
        token: place.contract,
        payer: event.authorizer.into(),
        payee: made.to.into(),
        amount: made.value.into(),
        nonce: event.nonce.into(),
        created_block: place.block,
        created_at: place.time,
        created_tx: place.transaction,
    };
    state.insert(place.event_id(), settlement);
    Ok(())
}

/// Sets a log aside that could not be read, for a person to look at.
pub(super) fn undecodable(state: &mut State<'_>, fact: &Fact, reason: &str) {
    let place = Place::new(fact);
    let row = UndecodableLog {
        address: place.contract,
        topic0: fact.topics.first().copied().map(|topic: B256| topic.into()),
        reason: text(reason),
        created_block: place.block,
        created_at: place.time,
        created_tx: place.transaction,
    };
    state.insert(place.event_id(), row);
}
