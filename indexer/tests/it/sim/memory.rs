//! A store in memory: the second implementation, which the simulation runs on and PostgreSQL is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use alloy::primitives::B256;
use auspex_indexer::chain::{BlockRef, Fact};
use auspex_indexer::project::row::Row;
use auspex_indexer::project::state::{CurrentRows, Key};
use auspex_indexer::project::{Context, project};
use auspex_indexer::store::{Applied, Cursor, Step, Store, StoreError};
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
    pub(super) reader: CurrentRows,
    /// The next writes fail: before they are made, or after, so that the writer does not know.
    pub(super) fail_before: u32,
    pub(super) fail_after: u32,
}

impl Memory {
    pub(super) fn current(&self) -> CurrentRows {
        let open = |versions: &Vec<Version>| {
            versions.last().filter(|(_, until, _)| until.is_none()).map(|(_, _, row)| row.clone())
        };
        self.versions
            .iter()
            .filter_map(|(key, versions)| Some((key.clone(), open(versions)?)))
            .collect()
    }

    /// The row that held after a block.
    pub(super) fn as_of(&self, number: u64) -> CurrentRows {
        let holds = |(from, until, _): &&Version| {
            *from <= number && until.is_none_or(|until| number < until)
        };
        self.versions
            .iter()
            .filter_map(|(key, versions)| {
                let (_, _, row) = versions.iter().find(holds)?;
                Some((key.clone(), row.clone()))
            })
            .collect()
    }

    fn roll_back(&mut self, ancestor: BlockRef) {
        self.facts.retain(|number, _| *number <= ancestor.number);
        self.hashes.retain(|number, _| *number < ancestor.number);
        self.hashes.insert(ancestor.number, ancestor.hash);
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
        if let Err(lie) = verify::sequences(context.watch, kept, step.blocks) {
            return Ok(Applied::Gap(lie));
        }
        if let Some(ancestor) = step.roll_back {
            memory.roll_back(ancestor);
        }
        for block in step.blocks {
            memory.hashes.insert(block.header.number, block.header.hash);
            if !block.facts.is_empty() {
                memory.facts.insert(block.header.number, block.facts.clone());
            }
        }
        let current = memory.current();
        let loaded: BTreeSet<Key> = current.keys().cloned().collect();
        let changes = match project(context, &facts, &current, &loaded) {
            Ok(changes) => changes,
            // What is not in memory does not exist.
            Err(missing) => {
                let loaded = loaded.into_iter().chain(missing).collect();
                project_with_all(context, &facts, &current, loaded)?
            }
        };
        for closing in changes.closings {
            if let Some((_, until, _)) =
                memory.versions.get_mut(&closing.key).and_then(|versions| versions.last_mut())
            {
                *until = Some(closing.until);
            }
        }
        for version in changes.versions {
            memory.reader.insert(version.key.clone(), version.row.clone());
            let versions = memory.versions.entry(version.key).or_default();
            versions.push((version.from.number, version.until, version.row));
        }
        let cursor = step.cursor_after();
        memory.cursor = Some(cursor.clone());
        if 0 < memory.fail_after {
            memory.fail_after -= 1;
            return Err(StoreError::Defect("injected after the write".into()));
        }
        Ok(Applied::Done(cursor))
    }

    async fn halt(&mut self, reason: &str) -> Result<(), StoreError> {
        if let Some(cursor) = &mut self.lock().cursor {
            cursor.halted = Some(reason.to_owned());
        }
        Ok(())
    }
}

fn project_with_all(
    context: Context<'_>,
    facts: &[Fact],
    current: &CurrentRows,
    mut loaded: BTreeSet<Key>,
) -> Result<auspex_indexer::project::state::Changes, StoreError> {
    for _ in 0..16 {
        match project(context, facts, current, &loaded) {
            Ok(changes) => return Ok(changes),
            Err(missing) => loaded.extend(missing),
        }
    }
    Err(StoreError::Defect("a batch still needs further rows".into()))
}
