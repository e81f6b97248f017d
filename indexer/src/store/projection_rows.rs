//! Projections and outbox: what the facts of a step change, and what a rollback takes back.

use std::collections::{BTreeMap, BTreeSet};

use alloy::hex;
use sqlx::PgConnection;

use super::chain_rows::signed;
use super::copy::{Copy, CopyText};
use super::{StoreError, statements};
use crate::chain::{BlockRef, Fact};
use crate::limits::PROJECT_ROUNDS_MAX;
use crate::project::row::{Kind, Row};
use crate::project::state::{Changes, CurrentRows, Key, Version};
use crate::project::{Context, decode_all, delivered_outputs, project};

/// Who hears of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    Nobody,
    Outbox,
}

/// Derives the changes of these facts from the current rows, of which those in `current` need not be looked up.
pub(super) async fn derive(
    connection: &mut PgConnection,
    context: Context<'_>,
    facts: &[Fact],
    current: &mut CurrentRows,
) -> Result<Changes, StoreError> {
    let decoded = decode_all(context, facts);
    let mut loaded = BTreeSet::new();
    for _ in 0..PROJECT_ROUNDS_MAX {
        match project(context, facts, &decoded, current, &loaded) {
            Ok(changes) => return Ok(changes),
            Err(missing) => {
                load(connection, signed(context.chain_id)?, &missing, current).await?;
                loaded.extend(missing);
            }
        }
    }
    Err(StoreError::Defect(format!(
        "a batch still needs further rows after {PROJECT_ROUNDS_MAX} rounds"
    )))
}

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
        let columns = statements::columns(kind);
        let statement = format!(
            "copy indexer.{} (chain_id, id, block_range, {}) from stdin",
            kind.table(),
            columns.join(", ")
        );
        let mut copy = Copy::begin(connection, &statement).await?;
        let mut rows = CopyText::default();
        for version in versions {
            rows.number(chain_id);
            rows.field(&version.key.1);
            rows.range(version.from.number, version.until);
            rows.fields(&version.row, &columns)?;
            rows.end_row();
            copy.send(&mut rows).await?;
        }
        copy.finish(&rows).await?;
    }
    claim_answers(connection, changes).await
}

/// Tells the outbox of changes.
pub(super) async fn announce(
    connection: &mut PgConnection,
    chain_id: i64,
    changes: &Changes,
) -> Result<(), StoreError> {
    let mut versions: Vec<&Version> = changes.versions.iter().collect();
    // Versions come sorted by entity; readers get them in the order of the chain.
    versions.sort_by_key(|version| version.from.number);
    let mut rows = OutboxRows::new(chain_id);
    for version in versions {
        let change = if version.replaces { "update" } else { "insert" };
        rows.push(version.from, &version.key, change, Some(&json(&version.row)?));
    }
    rows.write(connection).await
}

/// Takes back every version above the ancestor, and tells the outbox what holds again.
pub(super) async fn take_back(
    connection: &mut PgConnection,
    chain_id: i64,
    ancestor: BlockRef,
    telling: Telling,
) -> Result<(), StoreError> {
    let number = signed(ancestor.number)?;
    let mut rows = OutboxRows::new(chain_id);
    for kind in Kind::ALL.iter().copied() {
        let removed = statements::take_back(connection, kind, chain_id, number).await?;
        let reopened = statements::reopen(connection, kind, chain_id, number).await?;
        let mut retracted: BTreeMap<String, Option<String>> =
            removed.into_iter().map(|id| (id, None)).collect();
        for stored in reopened {
            let row = parse(kind, &stored.row)?;
            retracted.insert(stored.id, Some(json(&row)?));
        }
        for (id, document) in retracted {
            rows.push(ancestor, &(kind, id), "retract", document.as_deref());
        }
    }
    match telling {
        Telling::Outbox => rows.write(connection).await,
        Telling::Nobody => Ok(()),
    }
}

async fn load(
    connection: &mut PgConnection,
    chain_id: i64,
    keys: &BTreeSet<Key>,
    current: &mut CurrentRows,
) -> Result<(), StoreError> {
    let mut tables: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for (kind, id) in keys {
        tables.entry(*kind).or_default().push(id.clone());
    }
    for (kind, ids) in tables {
        for stored in statements::current(connection, kind, chain_id, &ids).await? {
            current.insert((kind, stored.id), parse(kind, &stored.row)?);
        }
    }
    Ok(())
}

fn json(row: &Row) -> Result<String, StoreError> {
    row.to_json().map_err(|error| StoreError::Defect(error.to_string()))
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

const COPY_OUTBOX: &str = "copy indexer.outbox
     (chain_id, block_number, block_hash, entity, entity_id, change, payload) from stdin";

/// Rows of the outbox, in the order in which they are told.
#[derive(Debug)]
struct OutboxRows {
    chain_id: i64,
    rows: CopyText,
    count: usize,
}

impl OutboxRows {
    fn new(chain_id: i64) -> Self {
        Self { chain_id, rows: CopyText::default(), count: 0 }
    }

    fn push(&mut self, block: BlockRef, key: &Key, change: &str, payload: Option<&str>) {
        let (kind, id) = key;
        let rows = &mut self.rows;
        rows.number(self.chain_id);
        rows.field(&block.number.to_string());
        rows.field(&format!("\\x{}", hex::encode(block.hash)));
        rows.field(kind.table());
        rows.field(id);
        rows.field(change);
        match payload {
            Some(payload) => rows.field(payload),
            None => rows.null(),
        }
        rows.end_row();
        self.count += 1;
    }

    async fn write(self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.count == 0 {
            return Ok(());
        }
        sqlx::query!(
            "select pg_advisory_xact_lock(hashtextextended($1, 0))::text as locked",
            OUTBOX_LOCK
        )
        .fetch_one(&mut *connection)
        .await?;
        Copy::begin(connection, COPY_OUTBOX).await?.finish(&self.rows).await?;
        sqlx::query!(
            "select pg_notify('auspex_outbox', $1)::text as rung",
            self.chain_id.to_string()
        )
        .fetch_one(connection)
        .await?;
        Ok(())
    }
}
