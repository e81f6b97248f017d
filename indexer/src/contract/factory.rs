//! Contracts that another one creates: which event tells of a new one, and which of them are known. Pure.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};
use anyhow::{Context, ensure};

use super::column::Word;
use crate::chain::{Block, BlockRef, Fact};
use crate::watch::WatchList;

/// A contract that creates others, and what is followed of those. Their addresses are not known beforehand, so the logs of
/// these events are read from every contract, verified, and kept only of those that the factory created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factory {
    pub address: Address,
    /// The signature of the event that tells of a new contract.
    pub creation: B256,
    /// The parameter of that event that is its address.
    word: Word,
    /// The event signatures that are kept of a created contract.
    pub events: Vec<B256>,
}

impl Factory {
    /// Fails when `event` has no parameter of this name, or one that is no address.
    pub fn new(
        address: Address,
        event: &alloy::json_abi::Event,
        parameter: &str,
        events: Vec<B256>,
    ) -> anyhow::Result<Self> {
        ensure!(!event.anonymous, "event {}: is anonymous, so its logs cannot be told", event.name);
        let place = event.inputs.iter().position(|param| param.name == parameter);
        let place = place.with_context(|| {
            format!("parameter: {} has none called {parameter}", event.signature())
        })?;
        let param = &event.inputs[place];
        ensure!(
            param.ty == "address",
            "parameter: {parameter} is of type {}, not address",
            param.ty
        );
        let before = &event.inputs[..place];
        let indexed = before.iter().filter(|param| param.indexed).count();
        let is_static = |param: &alloy::json_abi::EventParam| {
            param.indexed || !(param.ty.ends_with(']') || param.ty.starts_with("tuple"))
        };
        let word = if param.indexed {
            Word::Topic(indexed + 1)
        } else {
            // An array or a tuple of a fixed size would fill more than one word.
            ensure!(
                before.iter().all(is_static),
                "parameter: {parameter} stands behind an array or a tuple, where it is not found"
            );
            Word::Data(place - indexed)
        };
        Ok(Self { address, creation: event.selector(), word, events })
    }

    /// The contract that a log of the factory tells of, if it is one of the event.
    pub fn created(&self, address: Address, topics: &[B256], data: &[u8]) -> Option<Address> {
        if address != self.address || topics.first() != Some(&self.creation) {
            return None;
        }
        let word = match self.word {
            Word::Topic(index) => topics.get(index)?.as_slice(),
            Word::Data(index) => data.get(32 * index..32 * (index + 1))?,
        };
        Some(Address::from_slice(&word[12..]))
    }

    /// The created contract in SQL, out of a row of the facts. Made of numbers only.
    pub(super) fn created_sql(&self, row: &str) -> String {
        format!("indexer.abi_address({})", self.word.sql(row))
    }

    /// What tells its created contracts' events from its own and from those of other creations.
    pub(super) fn key(&self) -> String {
        format!("{} {}", self.creation, self.word_name())
    }

    /// `topic1` to `topic3`, or `word0` and so on.
    pub(super) fn word_name(&self) -> String {
        match self.word {
            Word::Topic(index) => format!("topic{index}"),
            Word::Data(index) => format!("word{index}"),
        }
    }
}

/// The created contracts that are known, each with the block of its creation, for each factory of the watch list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children(Vec<BTreeMap<Address, u64>>);

impl Children {
    /// `created` has the contracts of each factory of the watch list, in its order.
    pub fn new(created: Vec<BTreeMap<Address, u64>>) -> Self {
        Self(created)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(BTreeMap::len).sum()
    }

    /// Forgets what was created above a block.
    pub fn roll_back(&mut self, ancestor: BlockRef) {
        for created in &mut self.0 {
            created.retain(|_, number| *number <= ancestor.number);
        }
    }

    /// Adds what was created later.
    pub fn extend(&mut self, later: Self) {
        self.0.resize(self.0.len().max(later.0.len()), BTreeMap::new());
        for (known, later) in self.0.iter_mut().zip(later.0) {
            for (child, number) in later {
                known.entry(child).or_insert(number);
            }
        }
    }

    /// From blocks that follow `base` the logs that are kept: those of contracts that the watch list names, and those of
    /// created ones. A contract counts from the block of its creation on, also with what it said there before its factory
    /// did: constructors speak first. Also returns what these blocks created.
    pub fn select(
        &self,
        watch: &WatchList,
        base: BlockRef,
        blocks: &[Block],
    ) -> (Vec<Block>, Self) {
        let mut later = Self(vec![BTreeMap::new(); watch.factories().len()]);
        let of_block = |block: &Block| {
            later.learn(watch, &block.facts);
            let is_kept = |fact: &&Fact| {
                watch.names(fact.address, fact.topics.first())
                    || self.have(watch, fact, base.number)
                    || later.have(watch, fact, block.header.number)
            };
            let facts = block.facts.iter().filter(is_kept).cloned().collect();
            Block { header: block.header.clone(), facts }
        };
        let selected = blocks.iter().map(of_block).collect();
        (selected, later)
    }

    fn learn(&mut self, watch: &WatchList, facts: &[Fact]) {
        for (factory, known) in watch.factories().iter().zip(&mut self.0) {
            for fact in facts {
                let created = factory.created(fact.address, &fact.topics, &fact.data);
                if let Some(child) = created {
                    known.entry(child).or_insert(fact.block_number);
                }
            }
        }
    }

    /// Whether a log is of a contract that was created up to this block, and its event is followed there.
    fn have(&self, watch: &WatchList, fact: &Fact, last: u64) -> bool {
        let Some(topic0) = fact.topics.first() else { return false };
        watch.factories().iter().zip(&self.0).any(|(factory, created)| {
            factory.events.contains(topic0)
                && created.get(&fact.address).is_some_and(|number| *number <= last)
        })
    }
}

/// The events that are read from every contract.
pub(crate) fn anywhere(factories: &[Factory]) -> BTreeSet<B256> {
    factories.iter().flat_map(|factory| &factory.events).copied().collect()
}
