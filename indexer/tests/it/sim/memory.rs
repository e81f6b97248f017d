//! A store in memory: the second implementation, which the simulation runs on and PostgreSQL is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use alloy::primitives::{Address, B256};
use auspex_indexer::chain::{BlockRef, Fact};
use auspex_indexer::contract::Factory;
use auspex_indexer::project::row::Row;
use auspex_indexer::project::state::{Changes, CurrentRows, Key};
use auspex_indexer::project::{Context, decode_all, project};
use auspex_indexer::store::{Applied, Cursor, Repair, Step, Store, StoreError};
use auspex_indexer::verify;

/// One version: first block, first block in which it no longer holds, row.
pub(super) type Version = (u64, Option<u64>, Row);

#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) cursor: Option<Cursor>,
    pub(super) hashes: BTreeMap<u64, B256>,
    /// Facts by block.
    pub(super) facts: BTreeMap<u64, Vec<Fact>>,
    pub(super) versions: BTreeMap<Key, Vec<Version>>,
    /// What a reader that follows the outbox believes to hold.
    pub(super) reader: BTreeMap<Key, Row>,
    /// The next writes fail: before they are made, or after, so that the writer does not know.
    pub(super) fail_before: u32,
    pub(super) fail_after: u32,
    /// The lowest block that was written since the model last looked.
    pub(super) touched: Option<u64>,
}

impl Memory {
    /// The rows that hold now.
    pub(super) fn current(&self) -> impl Iterator<Item = (&Key, &Row)> {
        self.versions.iter().filter_map(|(key, versions)| Some((key, open_row(versions)?)))
    }

    /// The row that held after a block.
    pub(super) fn as_of(&self, number: u64) -> impl Iterator<Item = &Row> {
        let holds = move |(from, until, _): &&Version| {
            *from <= number && until.is_none_or(|until| number < until)
        };
        self.versions
            .values()
            .filter_map(move |versions| versions.iter().find(holds).map(|(_, _, row)| row))
    }

    fn touch(&mut self, number: u64) {
        self.touched = Some(self.touched.map_or(number, |touched| touched.min(number)));
    }

    fn roll_back(&mut self, ancestor: BlockRef) {
        self.facts.retain(|number, _| *number <= ancestor.number);
        self.hashes.retain(|number, _| *number < ancestor.number);
        self.hashes.insert(ancestor.number, ancestor.hash);
        self.take_back_versions(ancestor);
    }

    fn take_back_versions(&mut self, ancestor: BlockRef) {
        self.touch(ancestor.number);
        for (key, versions) in &mut self.versions {
            let count = versions.len();
            versions.retain(|(from, _, _)| *from <= ancestor.number);
            let mut changed = versions.len() != count;
            if let Some((_, until, _)) = versions.last_mut()
                && until.is_some_and(|until| ancestor.number < until)
            {
                *until = None;
                changed = true;
            }
            if !changed {
                continue;
            }
            match versions.last() {
                Some((_, _, row)) => self.reader.insert(key.clone(), row.clone()),
                None => self.reader.remove(key),
            };
        }
        self.versions.retain(|_, versions| !versions.is_empty());
    }
}

impl Memory {
    /// Looks rows up as they are asked for.
    fn changes(&self, context: Context<'_>, facts: &[Fact]) -> Result<Changes, StoreError> {
        let (mut current, mut loaded) = (CurrentRows::new(), BTreeSet::new());
        let decoded = decode_all(context, facts);
        for _ in 0..ROUNDS_MAX {
            let missing = match project(context, facts, &decoded, &current, &loaded) {
                Ok(changes) => return Ok(changes),
                Err(missing) => missing,
            };
            for key in &missing {
                if let Some(row) = self.versions.get(key).and_then(|versions| open_row(versions)) {
                    current.insert(key.clone(), row.clone());
                }
            }
            loaded.extend(missing);
        }
        Err(StoreError::Defect("a batch still needs further rows".into()))
    }

    /// Goes on with what these facts change.
    fn derive(&mut self, context: Context<'_>, facts: &[Fact]) -> Result<(), StoreError> {
        let changes = self.changes(context, facts)?;
        for closing in changes.closings {
            if let Some((_, until, _)) =
                self.versions.get_mut(&closing.key).and_then(|versions| versions.last_mut())
            {
                *until = Some(closing.until);
            }
        }
        for version in changes.versions {
            self.reader.insert(version.key.clone(), version.row.clone());
            let versions = self.versions.entry(version.key).or_default();
            versions.push((version.from.number, version.until, version.row));
        }
        Ok(())
    }
}

/// Rounds in which a batch may ask for further rows.
const ROUNDS_MAX: usize = 16;

/// A handle on a memory that outlives it, as a database outlives a process.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryStore(Arc<Mutex<Memory>>);

impl MemoryStore {
    pub(super) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().expect("no test panics while it holds the memory")
    }
}

impl Store for MemoryStore {
    async fn cursor(&mut self) -> Result<Option<Cursor>, StoreError> {
        Ok(self.lock().cursor.clone())
    }

    async fn begin(&mut self, anchor: BlockRef, time: u64, _: B256) -> Result<(), StoreError> {
        let mut memory = self.lock();
        if memory.cursor.is_none() {
            memory.hashes.insert(anchor.number, anchor.hash);
            memory.cursor = Some(Cursor {
                tip: anchor,
                time,
                epoch: 0,
                start: anchor.number + 1,
                head: anchor.number,
                safe: 0,
                finalized: 0,
                told_from: None,
                halted: None,
            });
        }
        Ok(())
    }

    async fn hashes(&mut self) -> Result<BTreeMap<u64, B256>, StoreError> {
        Ok(self.lock().hashes.clone())
    }

    async fn apply(
        &mut self,
        context: Context<'_>,
        step: &Step<'_>,
    ) -> Result<Applied, StoreError> {
        let mut memory = self.lock();
        if 0 < memory.fail_before {
            memory.fail_before -= 1;
            return Err(StoreError::Defect("injected before the write".into()));
        }
        let here = |cursor: &Cursor| {
            (cursor.tip, cursor.epoch) == (step.expected.tip, step.expected.epoch)
        };
        if !memory.cursor.as_ref().is_some_and(here) {
            return Ok(Applied::Lost);
        }
        let facts: Vec<Fact> = step.blocks.iter().flat_map(|block| block.facts.clone()).collect();
        // The check comes before the rollback is made, so it must not see what the rollback takes back.
        let kept = |contract| {
            let ancestor = step.base().number;
            let facts = memory.facts.range(..=ancestor).flat_map(|(_, facts)| facts);
            let own = facts.filter(|fact| fact.address == contract);
            own.filter_map(|fact| fact.sequence).max().unwrap_or(0)
        };
        if let Err(gap) = verify::sequences(context.watch, kept, step.blocks) {
            return Ok(Applied::Gap(gap));
        }
        if let Some(ancestor) = step.roll_back {
            memory.roll_back(ancestor);
        }
        if let Some(block) = step.blocks.first() {
            memory.touch(block.header.number);
        }
        for block in step.blocks.iter() {
            memory.hashes.insert(block.header.number, block.header.hash);
            if !block.facts.is_empty() {
                memory.facts.insert(block.header.number, block.facts.clone());
            }
        }
        memory.derive(context, &facts)?;
        let cursor = step.cursor_after();
        memory.cursor = Some(cursor.clone());
        if 0 < memory.fail_after {
            memory.fail_after -= 1;
            return Err(StoreError::Defect("injected after the write".into()));
        }
        Ok(Applied::Done(cursor))
    }

    async fn block_of(
        &mut self,
        contract: Address,
        sequence: u64,
    ) -> Result<Option<u64>, StoreError> {
        let is_it = |fact: &Fact| fact.address == contract && fact.sequence == Some(sequence);
        let memory = self.lock();
        let found = memory.facts.iter().find(|(_, facts)| facts.iter().any(is_it));
        Ok(found.map(|(number, _)| *number))
    }

    async fn facts(&mut self, first: u64, last: u64) -> Result<Vec<Fact>, StoreError> {
        Ok(self.lock().facts.range(first..=last).flat_map(|(_, facts)| facts.clone()).collect())
    }

    async fn created(&mut self, factory: &Factory) -> Result<BTreeMap<Address, u64>, StoreError> {
        let mut created = BTreeMap::new();
        for fact in self.lock().facts.values().flatten() {
            if let Some(child) = factory.created(fact.address, &fact.topics, &fact.data) {
                created.entry(child).or_insert(fact.block_number);
            }
        }
        Ok(created)
    }

    async fn repair(
        &mut self,
        context: Context<'_>,
        repair: &Repair<'_>,
    ) -> Result<Applied, StoreError> {
        let mut memory = self.lock();
        if memory.cursor.as_ref() != Some(repair.expected) {
            return Ok(Applied::Lost);
        }
        memory.take_back_versions(repair.ancestor);
        for fact in repair.facts {
            let facts = memory.facts.entry(fact.block_number).or_default();
            facts.push(fact.clone());
            facts.sort_by_key(|fact| fact.log_index);
        }
        let above = repair.ancestor.number + 1..;
        let facts: Vec<Fact> =
            memory.facts.range(above).flat_map(|(_, facts)| facts.clone()).collect();
        memory.derive(context, &facts)?;
        let cursor = Cursor { epoch: repair.expected.epoch + 1, ..repair.expected.clone() };
        memory.cursor = Some(cursor.clone());
        Ok(Applied::Done(cursor))
    }

    async fn halt(&mut self, reason: &str) -> Result<(), StoreError> {
        if let Some(cursor) = &mut self.lock().cursor {
            cursor.halted = Some(reason.to_owned());
        }
        Ok(())
    }
}

/// The row that holds now, if the entity has one.
fn open_row(versions: &[Version]) -> Option<&Row> {
    versions.last().filter(|(_, until, _)| until.is_none()).map(|(_, _, row)| row)
}
