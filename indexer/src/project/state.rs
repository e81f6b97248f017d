//! The working set of a batch: the current rows that its events touch, and the versions that they make of them.

use std::collections::BTreeSet;

use hashbrown::{Equivalent, HashMap};

use super::row::{Kind, Projection, Row};
use crate::chain::BlockRef;

/// An entity: its projection and its id.
pub type Key = (Kind, String);

/// A key that is only looked for.
#[derive(Hash)]
struct KeyRef<'a>(Kind, &'a str);

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

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
pub type CurrentRows = HashMap<Key, Row>;

/// The working set. A row that was asked for but not loaded reads as absent and is remembered as missing.
#[derive(Debug)]
pub struct State<'a> {
    current: &'a CurrentRows,
    loaded: &'a BTreeSet<Key>,
    at: BlockRef,
    draft: Draft,
}

/// What a batch's events write, while it is not yet known of every entity whether it existed before.
#[derive(Debug, Default)]
pub struct Draft {
    entities: HashMap<Key, Written>,
    /// What was read as absent without having been looked up.
    absent: BTreeSet<Key>,
}

#[derive(Debug)]
struct Written {
    /// Versions before the last one; most entities have none in a batch.
    earlier: Vec<(BlockRef, Row)>,
    last: (BlockRef, Row),
    before: Before,
}

/// Where an entity's version from before the batch is to be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Before {
    /// Nowhere: it cannot have existed.
    Nowhere,
    /// By its own key if this entity existed, otherwise nowhere.
    WithParent(Key),
    ByKey,
}

impl<'a> State<'a> {
    /// `loaded` are the keys that were looked up; those without a row in `current` do not exist.
    pub fn new(current: &'a CurrentRows, loaded: &'a BTreeSet<Key>) -> Self {
        let at = BlockRef { number: 0, hash: Default::default() };
        Self { current, loaded, at, draft: Draft::default() }
    }

    /// Makes room for as many entities.
    pub fn reserve(&mut self, entities: usize) {
        self.draft.entities.reserve(entities);
    }

    /// What follows happens in this block.
    pub fn enter(&mut self, block: BlockRef) {
        self.at = block;
    }

    /// The entity as the events so far left it.
    pub fn get<T: Projection>(&mut self, id: &str) -> Option<T> {
        self.get_as(id, T::clone)
    }

    /// What is wanted of the entity as the events so far left it.
    pub fn get_as<T: Projection, R>(
        &mut self,
        id: &str,
        wanted: impl FnOnce(&T) -> R,
    ) -> Option<R> {
        let key = KeyRef(T::KIND, id);
        let written = self.draft.entities.get(&key).map(|written| &written.last.1);
        if let Some(row) = written.or_else(|| self.current.get(&key)) {
            return T::from_row(row).map(wanted);
        }
        let key = (T::KIND, id.to_owned());
        if !self.loaded.contains(&key) {
            self.draft.absent.insert(key);
        }
        None
    }

    /// Writes an entity, whether it existed or not.
    pub fn put<T: Projection>(&mut self, id: impl AsRef<str> + Into<String>, row: T) {
        self.write(T::KIND, id, row.into(), || Before::ByKey);
    }

    /// Writes an entity that belongs to another one and cannot be older: where the parent is new in this batch, so is it.
    pub fn put_child<P: Projection, T: Projection>(
        &mut self,
        parent: impl Into<String>,
        id: impl AsRef<str> + Into<String>,
        row: T,
    ) {
        self.write(T::KIND, id, row.into(), || Before::WithParent((P::KIND, parent.into())));
    }

    /// Writes an entity that cannot have existed before, because its id names this very event.
    pub fn insert<T: Projection>(&mut self, id: impl AsRef<str> + Into<String>, row: T) {
        self.write(T::KIND, id, row.into(), || Before::Nowhere);
    }

    pub fn into_draft(self) -> Draft {
        self.draft
    }

    fn write(
        &mut self,
        kind: Kind,
        id: impl AsRef<str> + Into<String>,
        row: Row,
        before: impl FnOnce() -> Before,
    ) {
        let version = (self.at, row);
        let Some(written) = self.draft.entities.get_mut(&KeyRef(kind, id.as_ref())) else {
            let written = Written { earlier: Vec::new(), last: version, before: before() };
            self.draft.entities.insert((kind, id.into()), written);
            return;
        };
        if written.before != Before::ByKey && before() == Before::ByKey {
            written.before = Before::ByKey;
        }
        let ended = std::mem::replace(&mut written.last, version);
        if ended.0.number != self.at.number {
            written.earlier.push(ended);
        }
    }
}

impl Draft {
    /// The keys that have to be looked up before the draft can be finished. More of them may follow from what is found.
    pub fn missing(&self, current: &CurrentRows, loaded: &BTreeSet<Key>) -> BTreeSet<Key> {
        let is_unknown = |key: &&Key| !current.contains_key(*key) && !loaded.contains(*key);
        let mut missing: BTreeSet<Key> = self.absent.iter().filter(is_unknown).cloned().collect();
        for (key, written) in &self.entities {
            let wanted = match &written.before {
                Before::Nowhere => None,
                Before::ByKey => Some(key),
                Before::WithParent(parent) if current.contains_key(parent) => Some(key),
                Before::WithParent(parent) => Some(parent),
            };
            if let Some(wanted) = wanted.filter(is_unknown) {
                missing.insert(wanted.clone());
            }
        }
        missing
    }

    /// Whether something that was read as absent is there after all: then the events have to be read again.
    pub fn is_refuted_by(&self, current: &CurrentRows) -> bool {
        self.absent.iter().any(|key| current.contains_key(key))
    }

    /// The changes, once nothing is missing and nothing is refuted.
    pub fn finish(self, current: &CurrentRows) -> Changes {
        let mut entities: Vec<(Key, Written)> = self.entities.into_iter().collect();
        entities.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut changes = Changes::default();
        changes.versions.reserve(entities.len());
        for (key, Written { earlier: mut versions, last, .. }) in entities {
            versions.push(last);
            let original = current.get(&key);
            if let Some(original) = original {
                let unchanged = versions.iter().take_while(|(_, row)| row == original).count();
                versions.drain(..unchanged);
            }
            versions.dedup_by(|(_, later), (_, earlier)| later == earlier);
            if let (Some(_), Some((block, _))) = (original, versions.first()) {
                changes.closings.push(Closing { key: key.clone(), until: block.number });
            }
            let mut replaces = original.is_some();
            let mut versions = versions.into_iter().peekable();
            while let Some((from, row)) = versions.next() {
                let until = versions.peek().map(|(block, _)| block.number);
                changes.versions.push(Version { key: key.clone(), from, until, row, replaces });
                replaces = true;
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};

    use super::*;
    use crate::project::other::{FeePolicy, Token};

    fn token(allowed: bool) -> Token {
        Token { token: Address::ZERO.into(), allowed, updated_at: 1 }
    }

    fn policy(fee_bps: u16) -> FeePolicy {
        let account = Address::ZERO.into();
        FeePolicy { policy: account, fee_bps, fee_recipient: account, updated_at: 1 }
    }

    fn key(kind: Kind, id: &str) -> Key {
        (kind, id.to_owned())
    }

    fn drafted(write: impl FnOnce(&mut State<'_>)) -> Draft {
        let (current, loaded) = (CurrentRows::new(), BTreeSet::new());
        let mut state = State::new(&current, &loaded);
        state.enter(BlockRef { number: 5, hash: B256::ZERO });
        write(&mut state);
        state.into_draft()
    }

    #[test]
    fn what_was_only_written_is_looked_up_afterwards() {
        let draft = drafted(|state| state.put("a", token(true)));
        let a = key(Kind::Token, "a");
        assert_eq!(draft.missing(&CurrentRows::new(), &BTreeSet::new()), [a.clone()].into());
        let current = CurrentRows::from([(a.clone(), token(false).into())]);
        assert!(!draft.is_refuted_by(&current));
        assert!(draft.missing(&current, &[a.clone()].into()).is_empty());
        let changes = draft.finish(&current);
        assert_eq!(changes.closings, [Closing { key: a, until: 5 }]);
        assert!(changes.versions.iter().all(|version| version.replaces));
    }

    #[test]
    fn what_was_read_as_absent_and_is_there_refutes_the_draft() {
        let draft = drafted(|state| assert_eq!(state.get::<Token>("a"), None));
        let a = key(Kind::Token, "a");
        assert_eq!(draft.missing(&CurrentRows::new(), &BTreeSet::new()), [a.clone()].into());
        assert!(!draft.is_refuted_by(&CurrentRows::new()));
        assert!(draft.is_refuted_by(&CurrentRows::from([(a, token(true).into())])));
    }

    #[test]
    fn a_child_is_looked_up_only_where_its_parent_existed() {
        let draft = drafted(|state| state.put_child::<Token, _>("a", "b", policy(1)));
        let (parent, child) = (key(Kind::Token, "a"), key(Kind::FeePolicy, "b"));
        let none = CurrentRows::new();
        assert_eq!(draft.missing(&none, &BTreeSet::new()), [parent.clone()].into());
        let loaded: BTreeSet<Key> = [parent.clone()].into();
        assert!(draft.missing(&none, &loaded).is_empty());
        let current = CurrentRows::from([(parent, token(true).into())]);
        assert_eq!(draft.missing(&current, &loaded), [child].into());
    }

    #[test]
    fn a_row_that_stays_the_same_has_no_new_version() {
        let draft = drafted(|state| {
            state.put("a", token(true));
            state.enter(BlockRef { number: 6, hash: B256::ZERO });
            state.put("a", token(false));
            state.enter(BlockRef { number: 7, hash: B256::ZERO });
            state.put("a", token(false));
        });
        let current = CurrentRows::from([(key(Kind::Token, "a"), token(true).into())]);
        let changes = draft.finish(&current);
        assert_eq!(changes.closings, [Closing { key: key(Kind::Token, "a"), until: 6 }]);
        let held: Vec<_> =
            changes.versions.iter().map(|version| (version.from.number, version.until)).collect();
        assert_eq!(held, [(6, None)]);
    }
}
