//! The working set of a batch: the current rows that its events touch, and the versions that they make of them.

use std::collections::{BTreeMap, BTreeSet};

use super::row::{Kind, Projection, Row};
use crate::chain::BlockRef;

/// An entity: its projection and its id.
pub type Key = (Kind, String);

/// One new version of an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    pub key: Key,
    /// The first block in which it holds, and the first in which it no longer does; open when it is current.
    pub from: BlockRef,
    pub until: Option<u64>,
    pub row: Row,
    /// False for an entity's first version.
    pub replaces: bool,
}

/// An entity whose current version, from before the batch, ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    pub key: Key,
    /// The first block in which it no longer holds.
    pub until: u64,
}

/// What a batch does to the projections, in the order of entities and blocks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    pub closings: Vec<Closing>,
    pub versions: Vec<Version>,
}

/// Rows that were current before the batch; an absent key has no current row.
pub type CurrentRows = BTreeMap<Key, Row>;

/// The working set. A row that was asked for but not loaded reads as absent and is remembered as missing, so that the
/// caller can load it and begin again.
#[derive(Debug)]
pub struct State<'a> {
    current: &'a CurrentRows,
    loaded: &'a BTreeSet<Key>,
    at: BlockRef,
    versions: BTreeMap<Key, Vec<(BlockRef, Row)>>,
    missing: BTreeSet<Key>,
}

impl<'a> State<'a> {
    /// `loaded` are the keys that were looked up; those without a row in `current` do not exist.
    pub fn new(current: &'a CurrentRows, loaded: &'a BTreeSet<Key>) -> Self {
        let at = BlockRef { number: 0, hash: Default::default() };
        Self { current, loaded, at, versions: BTreeMap::new(), missing: BTreeSet::new() }
    }

    /// What follows happens in this block.
    pub fn enter(&mut self, block: BlockRef) {
        self.at = block;
    }

    /// The entity as the events so far left it.
    pub fn get<T: Projection>(&mut self, id: &str) -> Option<T> {
        let key = (T::KIND, id.to_owned());
        if let Some((_, row)) = self.versions.get(&key).and_then(|versions| versions.last()) {
            return T::from_row(row).cloned();
        }
        if let Some(row) = self.current.get(&key) {
            return T::from_row(row).cloned();
        }
        if !self.loaded.contains(&key) {
            self.missing.insert(key);
        }
        None
    }

    /// Writes an entity, whether it existed or not.
    pub fn put<T: Projection>(&mut self, id: &str, row: T) {
        let key = (T::KIND, id.to_owned());
        if !self.loaded.contains(&key) && !self.current.contains_key(&key) {
            self.missing.insert(key.clone());
        }
        self.write(key, row.into());
    }

    /// Writes an entity that belongs to another one and cannot be older: where the parent is new in this batch, so is it.
    pub fn put_child<P: Projection, T: Projection>(&mut self, parent: &str, id: &str, row: T) {
        let key = (P::KIND, parent.to_owned());
        if self.current.contains_key(&key) {
            return self.put(id, row);
        }
        if !self.loaded.contains(&key) {
            self.missing.insert(key);
        }
        self.insert(id, row);
    }

    /// Writes an entity that cannot have existed before, because its id names this very event.
    pub fn insert<T: Projection>(&mut self, id: &str, row: T) {
        self.write((T::KIND, id.to_owned()), row.into());
    }

    fn write(&mut self, key: Key, row: Row) {
        let versions = self.versions.entry(key).or_default();
        match versions.last_mut() {
            Some((block, last)) if block.number == self.at.number => *last = row,
            Some(_) | None => versions.push((self.at, row)),
        }
    }

    /// The changes, or the keys that have to be looked up first.
    pub fn finish(self) -> Result<Changes, BTreeSet<Key>> {
        if !self.missing.is_empty() {
            return Err(self.missing);
        }
        let mut changes = Changes::default();
        for (key, versions) in self.versions {
            let original = self.current.get(&key);
            let mut kept: Vec<(BlockRef, Row)> = Vec::with_capacity(versions.len());
            for (block, row) in versions {
                let before = kept.last().map(|(_, row)| row).or(original);
                if before != Some(&row) {
                    kept.push((block, row));
                }
            }
            if let (Some(_), Some((block, _))) = (original, kept.first()) {
                changes.closings.push(Closing { key: key.clone(), until: block.number });
            }
            let ends: Vec<Option<u64>> =
                kept.iter().skip(1).map(|(block, _)| Some(block.number)).chain([None]).collect();
            for (index, ((from, row), until)) in kept.into_iter().zip(ends).enumerate() {
                let replaces = original.is_some() || 0 < index;
                changes.versions.push(Version { key: key.clone(), from, until, row, replaces });
            }
        }
        Ok(changes)
    }
}
