//! Projections and outbox: what the facts of a step change, and what a rollback takes back.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::StoreError;
use super::chain_rows::signed;
use super::statements::{self, VersionColumns};
use crate::chain::{BlockRef, Fact};
use crate::limits::PROJECT_ROUNDS_MAX;
use crate::project::row::{Kind, Row};
use crate::project::state::{Changes, CurrentRows, Key};
use crate::project::{Context, delivered_outputs, project};

/// Derives the changes of these facts from the stored rows.
pub(super) async fn derive(
    connection: &mut PgConnection,
    context: Context<'_>,
    facts: &[Fact],
) -> Result<Changes, StoreError> {
    let mut current = CurrentRows::new();
    let mut loaded = BTreeSet::new();
    for _ in 0..PROJECT_ROUNDS_MAX {
        match project(context, facts, &current, &loaded) {
            Ok(changes) => return Ok(changes),
            Err(missing) => {
                load(connection, signed(context.chain_id)?, &missing, &mut current).await?;
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
) -> Result<Vec<String>, StoreError> {
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
    let mut documents = Vec::with_capacity(changes.versions.len());
    let mut tables: BTreeMap<Kind, VersionColumns> = BTreeMap::new();
    for version in &changes.versions {
        let (kind, id) = &version.key;
        let document =
            version.row.to_json().map_err(|error| StoreError::Defect(error.to_string()))?;
        let columns = tables.entry(*kind).or_default();
        columns.ids.push(id.clone());
        columns.from.push(signed(version.from.number)?);
        columns.until.push(version.until.map(signed).transpose()?);
        columns.rows.push(document.clone());
        documents.push(document);
    }
    for (kind, versions) in &tables {
        statements::insert(connection, *kind, chain_id, versions).await?;
    }
    Ok(documents)
}

/// Tells the outbox of changes; `documents` are their rows as JSON, in order.
pub(super) async fn announce(
    connection: &mut PgConnection,
    chain_id: i64,
    changes: &Changes,
    documents: Vec<String>,
) -> Result<(), StoreError> {
    let mut order: Vec<usize> = (0..changes.versions.len()).collect();
    // Versions come sorted by entity; readers get them in the order of the chain.
    order.sort_by_key(|index| changes.versions[*index].from.number);
    let mut columns = OutboxColumns::default();
    let mut documents: Vec<Option<String>> = documents.into_iter().map(Some).collect();
    for index in order {
        let version = &changes.versions[index];
        let change = if version.replaces { "update" } else { "insert" };
        let document = documents.get_mut(index).and_then(Option::take);
        columns.push(version.from, &version.key, change, document)?;
    }
    columns.write(connection, chain_id).await?;
    claim_answers(connection, changes).await
}

/// Takes back every version above the ancestor, and tells the outbox what holds again.
pub(super) async fn take_back(
    connection: &mut PgConnection,
    chain_id: i64,
    ancestor: BlockRef,
) -> Result<(), StoreError> {
    let number = signed(ancestor.number)?;
    let mut columns = OutboxColumns::default();
    for kind in Kind::ALL.iter().copied() {
        let removed = statements::take_back(connection, kind, chain_id, number).await?;
        let reopened = statements::reopen(connection, kind, chain_id, number).await?;
        let mut retracted: BTreeMap<String, Option<String>> =
            removed.into_iter().map(|id| (id, None)).collect();
        for stored in reopened {
            let row = parse(kind, &stored.row)?;
            let document = row.to_json().map_err(|error| StoreError::Defect(error.to_string()))?;
            retracted.insert(stored.id, Some(document));
        }
        for (id, document) in retracted {
            columns.push(ancestor, &(kind, id), "retract", document)?;
        }
    }
    columns.write(connection, chain_id).await
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

#[derive(Debug, Default)]
struct OutboxColumns {
    numbers: Vec<i64>,
    hashes: Vec<Vec<u8>>,
    entities: Vec<String>,
    ids: Vec<String>,
    changes: Vec<String>,
    payloads: Vec<Option<String>>,
}

impl OutboxColumns {
    fn push(
        &mut self,
        block: BlockRef,
        key: &Key,
        change: &str,
        payload: Option<String>,
    ) -> Result<(), StoreError> {
        let (kind, id) = key;
        self.numbers.push(signed(block.number)?);
        self.hashes.push(block.hash.to_vec());
        self.entities.push(kind.table().to_owned());
        self.ids.push(id.clone());
        self.changes.push(change.to_owned());
        self.payloads.push(payload);
        Ok(())
    }

    async fn write(self, connection: &mut PgConnection, chain_id: i64) -> Result<(), StoreError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "select pg_advisory_xact_lock(hashtextextended($1, 0))::text as locked",
            OUTBOX_LOCK
        )
        .fetch_one(&mut *connection)
        .await?;
        sqlx::query!(
            "insert into indexer.outbox (chain_id, block_number, block_hash, entity, entity_id, change, payload)
             select $1, number, hash, entity, id, change, payload::jsonb
             from unnest($2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[])
                 with ordinality as o(number, hash, entity, id, change, payload, place)
             order by place",
            chain_id,
            &self.numbers,
            &self.hashes as &[Vec<u8>],
            &self.entities,
            &self.ids,
            &self.changes,
            &self.payloads as &[Option<String>],
        )
        .execute(&mut *connection)
        .await?;
        sqlx::query!("select pg_notify('auspex_outbox', $1)::text as rung", chain_id.to_string())
            .fetch_one(connection)
            .await?;
        Ok(())
    }
}
