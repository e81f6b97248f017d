//! From verified logs to rows. Pure: the same facts give the same rows on every machine, in every batch size.

pub mod agent;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod money;
pub mod offer;
pub mod operator;
pub mod other;
pub mod reputation;
pub mod request;
pub mod row;
pub mod state;
pub mod value;

use std::borrow::Borrow;
use std::collections::BTreeSet;

use alloy::hex;
use alloy::primitives::{Address, B256};

use crate::chain::Fact;
use crate::decode::{Event, decode};
use crate::watch::WatchList;
use row::Row;
use state::{Changes, CurrentRows, Draft, Key, State};
use value::{Account, Hash, text};

/// What every event is read against.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub chain_id: u64,
    pub watch: &'a WatchList,
}

/// What some facts say: null where no projection is made of it, a reason where it cannot be read.
pub type Decoded = Vec<Option<Result<Event, String>>>;

/// Reads facts, in their order.
pub fn decode_all<F: Borrow<Fact>>(context: Context<'_>, facts: &[F]) -> Decoded {
    let facts = facts.iter().map(Borrow::borrow);
    facts.map(|fact| decode(context.watch.role(fact.address)?, fact).transpose()).collect()
}

/// What the facts of whole blocks, in chain order, do to the projections; `decoded` is what they say. Fails with the keys that have to be looked up
/// (and added to `loaded`, with their rows, if any, in `current`) before it can be said.
pub fn project<F: Borrow<Fact>>(
    context: Context<'_>,
    facts: &[F],
    decoded: &Decoded,
    current: &CurrentRows,
    loaded: &BTreeSet<Key>,
) -> Result<Changes, BTreeSet<Key>> {
    let draft = draft(context, facts, decoded, current, loaded);
    let missing = draft.missing(current, loaded);
    if missing.is_empty() { Ok(draft.finish(current)) } else { Err(missing) }
}

/// The same as far as it can be said of what is loaded: what is missing can be looked up afterwards.
pub fn draft<F: Borrow<Fact>>(
    context: Context<'_>,
    facts: &[F],
    decoded: &Decoded,
    current: &CurrentRows,
    loaded: &BTreeSet<Key>,
) -> Draft {
    let mut state = State::new(current, loaded);
    // A settlement writes several.
    state.reserve(facts.len() * 3);
    for (index, (fact, event)) in facts.iter().zip(decoded).enumerate() {
        let Some(event) = event else { continue };
        let fact = fact.borrow();
        state.enter(fact.block_ref());
        let done = match event {
            Ok(event) => {
                let (before, after) = (&facts[..index], &facts[index + 1..]);
                apply(context, &mut state, fact, before, after, event)
            }
            Err(reason) => Err(reason.clone()),
        };
        if let Err(reason) = done {
            other::undecodable(&mut state, fact, &reason);
        }
    }
    state.into_draft()
}

/// The output hashes of the results that are delivered by these changes.
pub fn delivered_outputs(changes: &Changes) -> Vec<B256> {
    changes
        .versions
        .iter()
        .filter_map(|version| match &version.row {
            Row::Request(request) => request.output_hash.map(|hash| hash.0),
            _ => None,
        })
        .collect()
}

/// Fails when the event cannot be about anything that the facts before it told of.
fn apply<F: Borrow<Fact>>(
    context: Context<'_>,
    state: &mut State<'_>,
    fact: &Fact,
    before: &[F],
    after: &[F],
    event: &Event,
) -> Result<(), String> {
    let place = Place::new(fact);
    match event {
        Event::Escrow(event) => request::apply(state, place, event),
        Event::Operators(event) => operator::apply(state, place, event),
        Event::Policy(event) => other::apply_policy(state, place, event),
        Event::Agents(event) => agent::apply(context.chain_id, state, place, event),
        Event::AgentTransfer(event) => agent::transfer(context.chain_id, state, place, event),
        Event::Reputation(event) => {
            reputation::apply(context.chain_id, state, place, before, event)
        }
        Event::Validation(event) => reputation::apply_validation(state, place, event),
        Event::Authorization(event) => other::authorization(state, place, after, event),
    }
}

/// Where and when an event happened.
#[derive(Debug, Clone, Copy)]
struct Place {
    contract: Account,
    block: u64,
    block_hash: Hash,
    time: u64,
    transaction: Hash,
    log_index: u32,
    gas_used: Option<u64>,
}

impl Place {
    fn new(fact: &Fact) -> Self {
        Self {
            contract: fact.address.into(),
            block: fact.block_number,
            block_hash: fact.block_hash.into(),
            time: fact.block_time,
            transaction: fact.transaction_hash.into(),
            log_index: fact.log_index,
            gas_used: fact.gas_used,
        }
    }

    /// An id that names this very event.
    fn event_id(&self) -> String {
        format!("{:#x}:{}", self.transaction.0, self.log_index)
    }
}

fn hex_id(hash: B256) -> String {
    hex::encode_prefixed(hash)
}

fn pair_id(account: Address, token: Address) -> String {
    let (mut first, mut second) = (hex::Buffer::<20, true>::new(), hex::Buffer::<20, true>::new());
    joined_id(&[first.format(&account), second.format(&token)])
}

/// An id of several parts, in one piece of memory.
fn joined_id(parts: &[&str]) -> String {
    parts.join(":")
}

#[cfg(test)]
mod tests;
