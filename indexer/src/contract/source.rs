//! What a chain's facts are kept of, and from which block on the database holds all of it. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use alloy::primitives::{Address, B256};

use super::{FollowedContract, Place};
use crate::config::ChainConfig;

/// The sources of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The first block that is indexed into an empty database.
    pub(super) first: u64,
    pub(super) wanted: BTreeMap<SourceKey, Source>,
}

/// Which logs: one event of a contract, that event of all contracts that a factory creates, or all that a role keeps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourceKey {
    /// The contract's, or the factory's.
    pub(super) address: Address,
    /// Zero for all that a role keeps.
    pub(super) topic0: B256,
    /// Empty, or what tells the created contracts' events from the factory's own.
    pub(super) created_by: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    /// What a person calls it.
    what: String,
    /// The first block from which on all of it is wanted.
    pub(super) start: u64,
}

/// What is stored of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// The first block from which on the facts hold all of it.
    pub(super) from: u64,
    /// Where the chain was indexed to when it was no longer followed.
    pub(super) left: Option<Reached>,
}

/// How far a chain is indexed, and the cursor's epoch there: nothing was written between two equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) number: u64,
    pub(super) epoch: u64,
}

/// Blocks of a source are missing that the configuration asks for, and indexing does not go back to them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} is wanted from block {start} on, but blocks {first_missing} to {last_missing} are already indexed without it: \
     index into a new database{later}, or take it out of the configuration"
)]
pub struct Hole {
    what: String,
    start: u64,
    first_missing: u64,
    last_missing: u64,
    /// The other way out of it, where there is one.
    later: String,
}

impl Sources {
    /// What the configuration of a chain names.
    pub fn of(chain: &ChainConfig) -> Self {
        let mut wanted = BTreeMap::new();
        let mut add = |key: SourceKey, source: Source| match wanted.entry(key) {
            Entry::Vacant(place) => {
                place.insert(source);
            }
            Entry::Occupied(mut place) => {
                let known: &mut Source = place.get_mut();
                known.start = known.start.min(source.start);
            }
        };
        for (name, address) in roles(chain) {
            let key = SourceKey { address, topic0: B256::ZERO, created_by: String::new() };
            let what = format!("the {name} {address}");
            add(key, Source { name: name.to_owned(), what, start: chain.deployment.start_block });
        }
        for contract in &chain.contracts {
            for (key, source) in of_contract(contract) {
                add(key, source);
            }
        }
        Self { first: chain.start_block(), wanted }
    }
}

/// The contracts that have a role.
fn roles(chain: &ChainConfig) -> Vec<(&'static str, Address)> {
    let deployment = &chain.deployment;
    let mut roles = vec![
        ("agent registry", deployment.agent_registry),
        ("operator registry", deployment.operator_registry),
        ("entry policy", deployment.entry_policy),
        ("request escrow", deployment.request_escrow),
    ];
    roles.extend(deployment.reputation_registry.map(|address| ("reputation registry", address)));
    roles.extend(deployment.validation_registry.map(|address| ("validation registry", address)));
    let tokens = chain.tokens.iter().copied().chain(deployment.platform_token);
    roles.extend(tokens.map(|address| ("token", address)));
    roles
}

/// A contract's events, and with a factory the events that tell of new contracts.
fn of_contract(contract: &FollowedContract) -> Vec<(SourceKey, Source)> {
    let source = |name: &str, what: String| Source {
        name: name.to_owned(),
        what: format!("contract {} ({}): {what}", contract.name, contract.place),
        start: contract.start_block,
    };
    let (address, created_by) = match &contract.place {
        Place::At(address) => (*address, String::new()),
        Place::CreatedBy(factory) => (factory.address, factory.key()),
    };
    let mut sources = Vec::new();
    for event in &contract.events {
        let key = SourceKey { address, topic0: event.topic0, created_by: created_by.clone() };
        sources.push((key, source(&event.type_name, format!("event {}", event.signature))));
    }
    if let Place::CreatedBy(factory) = &contract.place {
        let key = SourceKey { address, topic0: factory.creation, created_by: String::new() };
        let what = format!("the creations of factory {address}");
        sources.push((key, source(&contract.name, what)));
    }
    sources
}

impl SourceKey {
    pub(super) fn is_role(&self) -> bool {
        self.topic0.is_zero()
    }
}

impl Source {
    /// The first block from which on the facts hold all of this source when it is followed from here on. Fails where that is
    /// after the block from which on it is wanted.
    pub(super) fn followed_from(
        &self,
        key: &SourceKey,
        known: Option<Known>,
        reached: Reached,
    ) -> Result<u64, Hole> {
        let is_whole = known.filter(|known| known.left.is_none_or(|left| left == reached));
        let from = match is_whole {
            Some(known) if known.from <= self.start => return Ok(known.from),
            Some(known) => known.from,
            None => reached.number + 1,
        };
        if from <= self.start {
            return Ok(from);
        }
        let first_missing = match known.and_then(|known| known.left.map(|left| (known.from, left)))
        {
            // What it was followed for before it was left is there.
            Some((known_from, left)) if is_whole.is_none() && known_from <= self.start => {
                self.start.max(left.number + 1).min(reached.number)
            }
            Some(_) | None => self.start,
        };
        let later = if key.is_role() {
            String::new()
        } else {
            format!(", name a start block above {}", reached.number)
        };
        Err(Hole {
            what: self.what.clone(),
            start: self.start,
            first_missing,
            last_missing: from - 1,
            later,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SourceKey = SourceKey {
        address: Address::repeat_byte(1),
        topic0: B256::repeat_byte(2),
        created_by: String::new(),
    };
    const REACHED: Reached = Reached { number: 100, epoch: 7 };

    fn judge(start: u64, known: Option<Known>) -> Result<u64, String> {
        let source = Source { name: "Usdc".into(), what: "Usdc".into(), start };
        source.followed_from(&KEY, known, REACHED).map_err(|hole| hole.to_string())
    }

    fn left(number: u64, epoch: u64) -> Option<Known> {
        Some(Known { from: 10, left: Some(Reached { number, epoch }) })
    }

    #[test]
    fn a_new_source_begins_above_what_is_indexed() {
        assert_eq!(judge(101, None), Ok(101));
        let hole = judge(100, None).unwrap_err();
        assert!(hole.contains("blocks 100 to 100 are already indexed"), "{hole}");
        assert!(hole.contains("name a start block above 100"), "{hole}");
    }

    #[test]
    fn a_source_that_was_always_followed_goes_on() {
        let known = Some(Known { from: 10, left: None });
        assert_eq!(judge(10, known), Ok(10));
        assert_eq!(judge(50, known), Ok(10));
        let hole = judge(5, known).unwrap_err();
        assert!(hole.contains("blocks 5 to 9 are already indexed without it"), "{hole}");
    }

    #[test]
    fn a_source_that_was_left_has_a_hole_unless_nothing_was_written_meanwhile() {
        assert_eq!(judge(10, left(100, 7)), Ok(10));
        let hole = judge(10, left(60, 5)).unwrap_err();
        assert!(hole.contains("blocks 61 to 100 are already indexed without it"), "{hole}");
        // The cursor is where it was, and on another branch.
        let hole = judge(10, left(100, 5)).unwrap_err();
        assert!(hole.contains("are already indexed without it"), "{hole}");
        // It begins anew above the hole.
        assert_eq!(judge(101, left(60, 5)), Ok(101));
    }
}
