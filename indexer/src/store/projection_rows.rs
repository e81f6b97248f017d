//! Projections and outbox: what the facts of a step change, and what a rollback takes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::PgConnection;
use tokio::task::{JoinHandle, spawn_blocking};

use super::chain_rows::signed;
use super::copy::{Copy, CopyRows};
use super::{StoreError, cache, statements};
use crate::chain::{Block, BlockRef, Fact};
use crate::limits::PROJECT_ROUNDS_MAX;
use crate::project::row::{Kind, Row};
use crate::project::state::{Changes, CurrentRows, Draft, Key};
use crate::project::{Context, Decoded, decode_all, delivered_outputs, draft};
use crate::watch::Role;

/// Who hears of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    Nobody,
    Outbox,
}

/// Where facts come from.
#[derive(Debug)]
pub(super) enum Source {
    /// They are about to be written.
    Blocks(Arc<Vec<Block>>),
    /// They are stored.
    Stored(Vec<Fact>),
}

/// What facts change, as far as it follows from the rows that are at hand.
#[derive(Debug)]
pub(super) struct Derivation {
    source: Source,
    decoded: Decoded,
    current: CurrentRows,
    draft: Draft,
    /// What the draft still lacks.
    missing: BTreeSet<Key>,
}

/// What changes, and the rows that are known to be current afterwards.
#[derive(Debug)]
pub(super) struct Derived {
    pub(super) changes: Changes,
    pub(super) current: CurrentRows,
}

/// Begins to derive what blocks change, on a thread of its own, so that the connection can be used meanwhile. Rows in `current`
/// need not be looked up. It may be forgotten at any time.
pub(super) fn begin_deriving(
    context: Context<'_>,
    blocks: Arc<Vec<Block>>,
    current: CurrentRows,
) -> JoinHandle<Derivation> {
    let (chain_id, watch) = (context.chain_id, context.watch.clone());
    spawn_blocking(move || {
        let context = Context { chain_id, watch: &watch };
        Derivation::new(context, Source::Blocks(blocks), current)
    })
}

impl Source {
    fn facts<'a>(&'a self, context: Context<'a>) -> Vec<&'a Fact> {
        match self {
            Self::Blocks(blocks) => projected(context, blocks).collect(),
            Self::Stored(facts) => facts.iter().collect(),
        }
    }

    /// Whether the facts of these blocks are the same.
    fn is_of(&self, context: Context<'_>, blocks: &Arc<Vec<Block>>) -> bool {
        match self {
            Self::Blocks(own) if Arc::ptr_eq(own, blocks) => true,
            Self::Blocks(_) | Self::Stored(_) => projected(context, blocks).eq(self.facts(context)),
        }
    }
}

impl Derivation {
    /// Derives as much as follows from these rows.
    pub(super) fn new(context: Context<'_>, source: Source, current: CurrentRows) -> Self {
        let facts = source.facts(context);
        let decoded = decode_all(context, &facts);
        let loaded = BTreeSet::new();
        let draft = draft(context, &facts, &decoded, &current, &loaded);
        let missing = draft.missing(&current, &loaded);
        Self { source, decoded, current, draft, missing }
    }

    /// The same if it was derived from the facts of these blocks, which are the ones that count; otherwise derived anew.
    pub(super) fn of(self, context: Context<'_>, blocks: &Arc<Vec<Block>>) -> Self {
        if self.source.is_of(context, blocks) {
            return self;
        }
        Self::new(context, Source::Blocks(Arc::clone(blocks)), self.current)
    }

    /// Looks up what is missing. What changes is then worked out on a thread of its own.
    pub(super) async fn look_up(
        mut self,
        connection: &mut PgConnection,
        context: Context<'_>,
    ) -> Result<JoinHandle<Derived>, StoreError> {
        let mut loaded = BTreeSet::new();
        for _ in 0..PROJECT_ROUNDS_MAX {
            if self.missing.is_empty() {
                return Ok(spawn_blocking(move || self.finish()));
            }
            let chain_id = signed(context.chain_id)?;
            let found = load(connection, chain_id, &self.missing, &mut self.current).await?;
            if found == 0 {
                // Only what is found leads on to further keys.
                return Ok(spawn_blocking(move || self.finish()));
            }
            loaded.append(&mut self.missing);
            if self.draft.is_refuted_by(&self.current) {
                let facts = self.source.facts(context);
                self.draft = draft(context, &facts, &self.decoded, &self.current, &loaded);
            }
            self.missing = self.draft.missing(&self.current, &loaded);
        }
        Err(StoreError::Defect(format!(
            "a batch still needs further rows after {PROJECT_ROUNDS_MAX} rounds"
        )))
    }

    fn finish(self) -> Derived {
        let changes = self.draft.finish(&self.current);
        let current = cache::after(self.current, &changes);
        Derived { changes, current }
    }
}

/// The facts that some projection may be made of.
fn projected<'a>(
    context: Context<'a>,
    blocks: &'a [Block],
) -> impl Iterator<Item = &'a Fact> + Clone {
    let facts = blocks.iter().flat_map(|block| &block.facts);
    facts.filter(move |fact| {
        context.watch.role(fact.address).is_some_and(|role| role != Role::Followed)
    })
}

/// What a thread of its own worked out.
pub(super) async fn joined<T>(worked_out: JoinHandle<T>) -> Result<T, StoreError> {
    worked_out.await.map_err(|error| StoreError::Defect(error.to_string()))
}

/// Columns of a version beside those of its projection: chain, id and block range.
const VERSION_COLUMNS: usize = 3;

/// Writes changes, without telling the outbox.
pub(super) async fn write(
    connection: &mut PgConnection,
    chain_id: i64,
    changes: &Changes,
) -> Result<(), StoreError> {
    let mut closings: BTreeMap<Kind, (Vec<String>, Vec<i64>)> = BTreeMap::new();
    for closing in &changes.closings {
        let (kind, id) = &closing.key;
        let (ids, until) = closings.entry(*kind).or_default();
        ids.push(id.clone());
        until.push(signed(closing.until)?);
    }
    for (kind, (ids, until)) in &closings {
        let closed = statements::close(connection, *kind, chain_id, ids, until).await?;
        if closed != ids.len() as u64 {
            let text = format!("{closed} of {} rows of {} were current", ids.len(), kind.table());
            return Err(StoreError::Defect(text));
        }
    }
    // Sorted by entity, so that the versions of one projection are next to each other.
    for versions in changes.versions.chunk_by(|one, other| one.key.0 == other.key.0) {
        let Some(kind) = versions.first().map(|version| version.key.0) else { continue };
        let columns = statements::columns(kind)?;
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        let statement = format!(
            "copy indexer.{} (chain_id, id, block_range, {}) from stdin (format binary)",
            kind.table(),
            names.join(", ")
        );
        let count = i16::try_from(VERSION_COLUMNS + columns.len())
            .map_err(|_| StoreError::Defect(format!("{} columns", columns.len())))?;
        let mut copy = Copy::begin(connection, &statement).await?;
        let mut rows = CopyRows::new();
        for version in versions {
            rows.row(count);
            rows.int8(chain_id);
            rows.text(&version.key.1)?;
            rows.range(version.from.number, version.until)?;
            rows.fields(&version.row, &columns)?;
            copy.send(&mut rows).await?;
        }
        copy.finish(rows).await?;
    }
    claim_answers(connection, changes).await
}

/// Tells the outbox of changes.
pub(super) async fn announce(
    connection: &mut PgConnection,
    chain_id: i64,
    changes: &Changes,
) -> Result<(), StoreError> {
    let mut told: Vec<Told<'_>> = Vec::with_capacity(changes.versions.len());
    for version in &changes.versions {
        told.push(Told {
            block: version.from,
            kind: version.key.0,
            id: &version.key.1,
            change: if version.replaces { "update" } else { "insert" },
            payload: Some(&version.row),
        });
    }
    // Versions come sorted by entity; readers get them in the order of the chain.
    told.sort_by_key(|row| row.block.number);
    tell(connection, chain_id, &told).await
}

/// Takes back every version above the ancestor, and tells the outbox what holds again.
pub(super) async fn take_back(
    connection: &mut PgConnection,
    chain_id: i64,
    ancestor: BlockRef,
    telling: Telling,
) -> Result<(), StoreError> {
    let number = signed(ancestor.number)?;
    let mut retracted: Vec<(Kind, BTreeMap<String, Option<Row>>)> = Vec::new();
    for kind in Kind::ALL.iter().copied() {
        let removed = statements::take_back(connection, kind, chain_id, number).await?;
        let reopened = statements::reopen(connection, kind, chain_id, number).await?;
        let mut rows: BTreeMap<String, Option<Row>> =
            removed.into_iter().map(|id| (id, None)).collect();
        for stored in reopened {
            let row = parse(kind, &stored.row)?;
            rows.insert(stored.id, Some(row));
        }
        retracted.push((kind, rows));
    }
    if telling == Telling::Nobody {
        return Ok(());
    }
    let mut told: Vec<Told<'_>> = Vec::new();
    for (kind, rows) in &retracted {
        for (id, row) in rows {
            let payload = row.as_ref();
            told.push(Told { block: ancestor, kind: *kind, id, change: "retract", payload });
        }
    }
    tell(connection, chain_id, &told).await
}

/// Adds the rows of these keys to the current ones; returns how many there are.
async fn load(
    connection: &mut PgConnection,
    chain_id: i64,
    keys: &BTreeSet<Key>,
    current: &mut CurrentRows,
) -> Result<usize, StoreError> {
    let mut found = 0;
    let mut tables: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for (kind, id) in keys {
        tables.entry(*kind).or_default().push(id.clone());
    }
    for (kind, ids) in tables {
        for stored in statements::current(connection, kind, chain_id, &ids).await? {
            current.insert((kind, stored.id), parse(kind, &stored.row)?);
            found += 1;
        }
    }
    Ok(found)
}

fn parse(kind: Kind, json: &str) -> Result<Row, StoreError> {
    Row::from_json(kind, json)
        .map_err(|error| StoreError::Defect(format!("a row of {}: {error}", kind.table())))
}

/// An answer that a delivered result names is kept for good.
async fn claim_answers(connection: &mut PgConnection, changes: &Changes) -> Result<(), StoreError> {
    let outputs = delivered_outputs(changes);
    if outputs.is_empty() {
        return Ok(());
    }
    let hashes: Vec<&[u8]> = outputs.iter().map(|hash| hash.as_slice()).collect();
    sqlx::query!(
        "update indexer.answers set claimed = true where not claimed and output_hash = any($1::bytea[])",
        &hashes as &[&[u8]],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// One lock for all writers of the outbox, of all chains: see the migration's note on the order of ids.
const OUTBOX_LOCK: &str = "auspex indexer outbox";

/// The columns of a row of the outbox, in the order in which they are sent.
const OUTBOX_COLUMNS: i16 = 7;
const COPY_OUTBOX: &str = "copy indexer.outbox
     (chain_id, block_number, block_hash, entity, entity_id, change, payload) from stdin (format binary)";

/// One row of the outbox.
#[derive(Debug, Clone, Copy)]
struct Told<'a> {
    block: BlockRef,
    kind: Kind,
    id: &'a str,
    change: &'static str,
    payload: Option<&'a Row>,
}

/// Writes rows of the outbox, in the order in which they are told.
async fn tell(
    connection: &mut PgConnection,
    chain_id: i64,
    told: &[Told<'_>],
) -> Result<(), StoreError> {
    if told.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1, 0))::text as locked",
        OUTBOX_LOCK
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut copy = Copy::begin(connection, COPY_OUTBOX).await?;
    let mut rows = CopyRows::new();
    for row in told {
        rows.row(OUTBOX_COLUMNS);
        rows.int8(chain_id);
        rows.int8(signed(row.block.number)?);
        rows.bytes(row.block.hash.as_slice())?;
        rows.text(row.kind.table())?;
        rows.text(row.id)?;
        rows.text(row.change)?;
        match row.payload {
            Some(payload) => rows.json(payload)?,
            None => rows.null(),
        }
        copy.send(&mut rows).await?;
    }
    copy.finish(rows).await?;
    sqlx::query!("select pg_notify('auspex_outbox', $1)::text as rung", chain_id.to_string())
        .fetch_one(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy::consensus::Header as ConsensusHeader;
    use alloy::primitives::{Address, B256, Bytes};
    use alloy::sol_types::SolEvent;
    use auspex_protocol::bindings::IAgentRegistry;

    use super::*;
    use crate::chain::Header;
    use crate::watch::WatchList;

    const AGENTS: Address = Address::repeat_byte(1);

    /// A log that cannot be read, which is a row of its own.
    fn fact(log_index: u32) -> Fact {
        Fact {
            block_number: 1,
            block_hash: B256::ZERO,
            block_time: 1,
            log_index,
            transaction_hash: B256::ZERO,
            transaction_index: 0,
            gas_used: None,
            address: AGENTS,
            topics: vec![IAgentRegistry::Registered::SIGNATURE_HASH],
            data: Bytes::new(),
            sequence: None,
        }
    }

    fn blocks(logs: u32) -> Arc<Vec<Block>> {
        let header = Header::new(B256::ZERO, &ConsensusHeader::default());
        Arc::new(vec![Block { header, facts: (0..logs).map(fact).collect() }])
    }

    #[test]
    fn what_was_prepared_for_other_facts_is_derived_anew() {
        let watch = WatchList::from_roles([(AGENTS, Role::AgentRegistry)].into());
        let context = Context { chain_id: 1, watch: &watch };
        let (expected, same, real) = (blocks(1), blocks(1), blocks(2));
        let prepared = || {
            let source = Source::Blocks(Arc::clone(&expected));
            Derivation::new(context, source, CurrentRows::new())
        };
        let count = |derivation: Derivation| derivation.finish().changes.versions.len();
        for (blocks, versions) in [(&expected, 1), (&same, 1), (&real, 2)] {
            assert_eq!(count(prepared().of(context, blocks)), versions);
        }
    }
}
