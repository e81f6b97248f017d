//! From a verified log to a typed event. Pure; what cannot be read is said, never a panic.

use alloy::primitives::B256;
use alloy::sol_types::{SolEvent, SolEventInterface};
use auspex_protocol::bindings::IAgentRegistry::IAgentRegistryEvents;
use auspex_protocol::bindings::IEntryPolicy::IEntryPolicyEvents;
use auspex_protocol::bindings::IOperatorRegistry::IOperatorRegistryEvents;
use auspex_protocol::bindings::IRequestEscrow::IRequestEscrowEvents;
use auspex_protocol::bindings::{IERC20, IERC721, IPlatformToken};

use crate::abi::IReputationRegistry::IReputationRegistryEvents;
use crate::abi::IValidationRegistry::IValidationRegistryEvents;
use crate::chain::Fact;
use crate::limits::ERROR_TEXT_MAX;
use crate::watch::Role;

/// An event that some projection is made of.
#[derive(Debug)]
pub enum Event {
    Escrow(Box<IRequestEscrowEvents>),
    Operators(Box<IOperatorRegistryEvents>),
    Policy(IEntryPolicyEvents),
    Agents(IAgentRegistryEvents),
    /// An agent is an ERC-721 token: this is how its owner changes.
    AgentTransfer(IERC721::Transfer),
    Reputation(Box<IReputationRegistryEvents>),
    Validation(Box<IValidationRegistryEvents>),
    Authorization(IPlatformToken::AuthorizationUsed),
}

/// Reads a log of a contract with this role. None for events that no projection needs; fails when a known event's data is
/// not what its signature says.
pub fn decode(role: Role, fact: &Fact) -> Result<Option<Event>, String> {
    let Some(topic0) = fact.topics.first() else { return Ok(None) };
    match role {
        Role::RequestEscrow => interface(fact, topic0, IRequestEscrowEvents::SELECTORS, |event| {
            Event::Escrow(Box::new(event))
        }),
        Role::OperatorRegistry => {
            interface(fact, topic0, IOperatorRegistryEvents::SELECTORS, |event| {
                Event::Operators(Box::new(event))
            })
        }
        Role::EntryPolicy => interface(fact, topic0, IEntryPolicyEvents::SELECTORS, Event::Policy),
        Role::AgentRegistry if *topic0 == IERC721::Transfer::SIGNATURE_HASH => {
            event(fact, Event::AgentTransfer)
        }
        Role::AgentRegistry => {
            interface(fact, topic0, IAgentRegistryEvents::SELECTORS, Event::Agents)
        }
        Role::ReputationRegistry => {
            interface(fact, topic0, IReputationRegistryEvents::SELECTORS, |event| {
                Event::Reputation(Box::new(event))
            })
        }
        Role::ValidationRegistry => {
            interface(fact, topic0, IValidationRegistryEvents::SELECTORS, |event| {
                Event::Validation(Box::new(event))
            })
        }
        Role::Token if *topic0 == IPlatformToken::AuthorizationUsed::SIGNATURE_HASH => {
            event(fact, Event::Authorization)
        }
        Role::Token | Role::Followed => Ok(None),
    }
}

/// The transfer that a token's log tells of, if it is one.
pub fn transfer(fact: &Fact) -> Option<IERC20::Transfer> {
    if fact.topics.first() != Some(&IERC20::Transfer::SIGNATURE_HASH) {
        return None;
    }
    IERC20::Transfer::decode_raw_log(fact.topics.iter().copied(), &fact.data).ok()
}

/// The number that every event of our own contracts carries as its first data word; None when the word is missing or
/// wider than 64 bits.
pub fn sequence(data: &[u8]) -> Option<u64> {
    let word = data.first_chunk::<32>()?;
    let (high, low) = word.split_at(24);
    if high.iter().any(|byte| *byte != 0) {
        return None;
    }
    Some(u64::from_be_bytes(low.try_into().ok()?))
}

fn interface<E: SolEventInterface>(
    fact: &Fact,
    topic0: &B256,
    known: &[[u8; 32]],
    wrap: impl FnOnce(E) -> Event,
) -> Result<Option<Event>, String> {
    if !known.contains(&topic0.0) {
        return Ok(None);
    }
    let event = E::decode_raw_log(&fact.topics, &fact.data).map_err(|error| reason(&error))?;
    Ok(Some(wrap(event)))
}

fn event<E: SolEvent>(fact: &Fact, wrap: impl FnOnce(E) -> Event) -> Result<Option<Event>, String> {
    let event = E::decode_raw_log(fact.topics.iter().copied(), &fact.data)
        .map_err(|error| reason(&error))?;
    Ok(Some(wrap(event)))
}

fn reason(error: &alloy::sol_types::Error) -> String {
    error.to_string().chars().take(ERROR_TEXT_MAX).collect()
}
