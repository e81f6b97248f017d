//! Logs of watched contracts as bytes: each has a byte that chooses the event, one for the number of further topics, two for
//! the length of its data, then topics and data. What is missing at the end is left out.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::SolEvent;
use auspex_protocol::bindings::IAgentRegistry::IAgentRegistryEvents;
use auspex_protocol::bindings::IEntryPolicy::IEntryPolicyEvents;
use auspex_protocol::bindings::IOperatorRegistry::IOperatorRegistryEvents;
use auspex_protocol::bindings::IRequestEscrow::IRequestEscrowEvents;
use auspex_protocol::bindings::{IERC721, IPlatformToken};

use super::row::Row;
use super::state::CurrentRows;
use super::{Context, decode_all, draft};
use crate::abi::IReputationRegistry::IReputationRegistryEvents;
use crate::abi::IValidationRegistry::IValidationRegistryEvents;
use crate::chain::Fact;
use crate::decode;
use crate::limits::ERROR_TEXT_MAX;
use crate::watch::{Role, WatchList};

/// Every event that a projection is made of, with the role of its contract.
pub(crate) fn known_events() -> Vec<(Role, B256)> {
    let of = |role, selectors: &[[u8; 32]]| -> Vec<(Role, B256)> {
        selectors.iter().map(|selector| (role, B256::from(*selector))).collect()
    };
    [
        of(Role::RequestEscrow, IRequestEscrowEvents::SELECTORS),
        of(Role::OperatorRegistry, IOperatorRegistryEvents::SELECTORS),
        of(Role::EntryPolicy, IEntryPolicyEvents::SELECTORS),
        of(Role::AgentRegistry, IAgentRegistryEvents::SELECTORS),
        of(Role::AgentRegistry, &[IERC721::Transfer::SIGNATURE_HASH.0]),
        of(Role::ReputationRegistry, IReputationRegistryEvents::SELECTORS),
        of(Role::ValidationRegistry, IValidationRegistryEvents::SELECTORS),
        of(Role::Token, &[IPlatformToken::AuthorizationUsed::SIGNATURE_HASH.0]),
    ]
    .concat()
}

/// Whatever logs hold, they are read or set aside with a short reason, and every row that comes of them survives JSON.
pub(crate) fn logs(bytes: &[u8]) -> bool {
    let events = known_events();
    let addresses: BTreeMap<Role, Address> = (1_u8..)
        .zip(events.iter().map(|(role, _)| *role).collect::<BTreeSet<_>>())
        .map(|(number, role)| (role, Address::repeat_byte(number)))
        .collect();
    let watch = WatchList::from_roles(addresses.iter().map(|(role, at)| (*at, *role)).collect());
    let context = Context { chain_id: 84_532, watch: &watch };
    let facts = facts(bytes, &events, &addresses);
    for fact in &facts {
        let _ = decode::transfer(fact);
        let _ = decode::sequence(&fact.data);
    }
    let decoded = decode_all(context, &facts);
    for reason in decoded.iter().flatten().filter_map(|event| event.as_ref().err()) {
        assert!(reason.chars().count() <= ERROR_TEXT_MAX, "{reason}");
    }
    let current = CurrentRows::default();
    // What is looked up is not there, which is what a liar's log would meet.
    let mut loaded = BTreeSet::new();
    let changes = loop {
        let draft = draft(context, &facts, &decoded, &current, &loaded);
        let missing = draft.missing(&current, &loaded);
        if missing.is_empty() {
            break draft.finish(&current);
        }
        let known = loaded.len();
        loaded.extend(missing);
        assert!(known < loaded.len(), "what was looked up is asked for again");
    };
    for version in changes.versions {
        let json = serde_json::to_string(&version.row).expect("a row is JSON");
        let read = Row::from_json(version.key.0, &json).expect("a row is read back");
        assert_eq!(read, version.row);
    }
    decoded.iter().flatten().any(Result::is_ok)
}

fn facts(
    mut bytes: &[u8],
    events: &[(Role, B256)],
    addresses: &BTreeMap<Role, Address>,
) -> Vec<Fact> {
    const LOGS_MAX: u32 = 32;
    let mut facts = Vec::new();
    for index in 0..LOGS_MAX {
        let Some((&[event, topics, long, short], rest)) = bytes.split_first_chunk() else { break };
        let Some((role, topic0)) = events.get(usize::from(event) % events.len()) else { break };
        let (topics, rest) = rest.split_at(rest.len().min(usize::from(topics % 5) * 32));
        let length = usize::from(u16::from_be_bytes([long, short]));
        let (data, rest) = rest.split_at(rest.len().min(length));
        bytes = rest;
        let number = u64::from(index / 4) + 1;
        facts.push(Fact {
            block_number: number,
            block_hash: B256::with_last_byte(number as u8),
            block_time: number * 2,
            log_index: index % 4,
            transaction_hash: B256::with_last_byte(number as u8),
            transaction_index: 0,
            gas_used: None,
            address: addresses[role],
            topics: [*topic0]
                .into_iter()
                .chain(topics.chunks_exact(32).map(B256::from_slice))
                .collect(),
            data: Bytes::copy_from_slice(data),
            sequence: decode::sequence(data),
        });
    }
    facts
}
