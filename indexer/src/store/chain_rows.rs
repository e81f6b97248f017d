//! Cursor, blocks and facts.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes};
use futures::TryStreamExt;
use sqlx::PgConnection;

use super::copy::{Copy, CopyRows};
use super::{Cursor, StoreError};
use crate::chain::{Block, BlockRef, Fact};
use crate::contract::Factory;

pub(super) async fn cursor(
    connection: &mut PgConnection,
    chain_id: i64,
) -> Result<Option<Cursor>, StoreError> {
    let row = sqlx::query!(
        "select number, hash, time, epoch, start_number, head_number, safe_number, finalized_number,
                told_from, halted
         from indexer.cursors where chain_id = $1",
        chain_id,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Cursor {
        tip: BlockRef { number: unsigned(row.number)?, hash: hash(&row.hash)? },
        time: unsigned(row.time)?,
        epoch: unsigned(row.epoch)?,
        start: unsigned(row.start_number)?,
        head: unsigned(row.head_number)?,
        safe: unsigned(row.safe_number)?,
        finalized: unsigned(row.finalized_number)?,
        told_from: row.told_from.map(unsigned).transpose()?,
        halted: row.halted,
    }))
}

/// Locks the cursor and says whether it is where it is expected.
pub(super) async fn is_at(
    connection: &mut PgConnection,
    chain_id: i64,
    expected: &Cursor,
) -> Result<bool, StoreError> {
    let row = sqlx::query!(
        "select number, hash, epoch from indexer.cursors where chain_id = $1 for update",
        chain_id,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(false) };
    Ok(unsigned(row.number)? == expected.tip.number
        && row.hash == expected.tip.hash.as_slice()
        && unsigned(row.epoch)? == expected.epoch)
}

/// Lets the transaction's commit return before it is on disk. After a crash of the server the last such transactions may be
/// gone, each of them whole and the newest first: the cursor is then where it was, and their blocks are read again.
pub(super) async fn commit_without_waiting(
    connection: &mut PgConnection,
) -> Result<(), StoreError> {
    sqlx::query!("select set_config('synchronous_commit', 'off', true) as setting")
        .fetch_one(connection)
        .await?;
    Ok(())
}

pub(super) async fn move_to(
    connection: &mut PgConnection,
    chain_id: i64,
    cursor: &Cursor,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update indexer.cursors
         set number = $2::bigint, hash = $3::bytea, time = $4, epoch = $5, head_number = $6, safe_number = $7,
             finalized_number = $8, told_from = $9, halted = null, head_seen_at = now(),
             advanced_at = case when number = $2::bigint and hash = $3::bytea then advanced_at else now() end
         where chain_id = $1",
        chain_id,
        signed(cursor.tip.number)?,
        cursor.tip.hash.as_slice(),
        signed(cursor.time)?,
        signed(cursor.epoch)?,
        signed(cursor.head)?,
        signed(cursor.safe)?,
        signed(cursor.finalized)?,
        cursor.told_from.map(signed).transpose()?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn begin(
    connection: &mut PgConnection,
    chain_id: i64,
    anchor: BlockRef,
    time: u64,
    parent_hash: B256,
) -> Result<(), StoreError> {
    let number = signed(anchor.number)?;
    let done = sqlx::query!(
        "insert into indexer.cursors
             (chain_id, number, hash, time, start_number, head_number, safe_number, finalized_number)
         values ($1, $2::bigint, $3, $4, $2::bigint + 1, $2::bigint, 0, 0)
         on conflict (chain_id) do nothing",
        chain_id,
        number,
        anchor.hash.as_slice(),
        signed(time)?,
    )
    .execute(&mut *connection)
    .await?;
    if 0 < done.rows_affected() {
        sqlx::query!(
            "insert into indexer.blocks (chain_id, number, hash, parent_hash, time) values ($1, $2, $3, $4, $5)",
            chain_id,
            number,
            anchor.hash.as_slice(),
            parent_hash.as_slice(),
            signed(time)?,
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn halt(
    connection: &mut PgConnection,
    chain_id: i64,
    reason: &str,
) -> Result<(), StoreError> {
    sqlx::query!("update indexer.cursors set halted = $2 where chain_id = $1", chain_id, reason)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes that a node answered, so that readers can tell a quiet chain from a dead follower.
pub(super) async fn touch(
    connection: &mut PgConnection,
    chain_id: i64,
    head: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update indexer.cursors set head_seen_at = now(), head_number = $2 where chain_id = $1",
        chain_id,
        signed(head)?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn hashes(
    connection: &mut PgConnection,
    chain_id: i64,
) -> Result<BTreeMap<u64, B256>, StoreError> {
    let rows =
        sqlx::query!("select number, hash from indexer.blocks where chain_id = $1", chain_id)
            .fetch_all(connection)
            .await?;
    rows.iter().map(|row| Ok((unsigned(row.number)?, hash(&row.hash)?))).collect()
}

/// The highest event sequence number of each contract.
pub(super) async fn last_sequences(
    connection: &mut PgConnection,
    chain_id: i64,
    contracts: &[Address],
) -> Result<BTreeMap<Address, u64>, StoreError> {
    let addresses: Vec<&[u8]> = contracts.iter().map(|contract| contract.as_slice()).collect();
    let rows = sqlx::query!(
        r#"select c.address as "address!", f.sequence as "sequence!"
           from unnest($2::bytea[]) as c(address),
           lateral (
               select sequence from indexer.facts
               where chain_id = $1 and facts.address = c.address and sequence is not null
               order by sequence desc limit 1
           ) as f"#,
        chain_id,
        &addresses as &[&[u8]],
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let address =
                Address::try_from(row.address.as_slice()).map_err(|_| defect("an address"))?;
            Ok((address, unsigned(row.sequence)?))
        })
        .collect()
}

/// The block of one event of a contract.
pub(super) async fn block_of(
    connection: &mut PgConnection,
    chain_id: i64,
    contract: Address,
    sequence: u64,
) -> Result<Option<u64>, StoreError> {
    let number = sqlx::query_scalar!(
        "select block_number from indexer.facts where chain_id = $1 and address = $2 and sequence = $3",
        chain_id,
        contract.as_slice(),
        signed(sequence)?,
    )
    .fetch_optional(connection)
    .await?;
    number.map(unsigned).transpose()
}

/// Removes blocks and facts above the ancestor, which may itself be new to us.
pub(super) async fn take_back(
    connection: &mut PgConnection,
    chain_id: i64,
    ancestor: BlockRef,
) -> Result<(), StoreError> {
    let number = signed(ancestor.number)?;
    sqlx::query!(
        "delete from indexer.facts where chain_id = $1 and block_number > $2",
        chain_id,
        number,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "delete from indexer.blocks where chain_id = $1 and number > $2",
        chain_id,
        number
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update indexer.blocks set hash = $3::bytea where chain_id = $1 and number = $2 and hash <> $3::bytea",
        chain_id,
        number,
        ancestor.hash.as_slice(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds the hashes of verified blocks, as far as a reorg can reach them, and forgets those that none can reach any more.
pub(super) async fn add_blocks(
    connection: &mut PgConnection,
    chain_id: i64,
    blocks: &[Block],
    keep_from: u64,
) -> Result<(), StoreError> {
    let headers =
        || blocks.iter().map(|block| &block.header).filter(|header| keep_from <= header.number);
    let numbers = headers().map(|header| signed(header.number)).collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<&[u8]> = headers().map(|header| header.hash.as_slice()).collect();
    let parents: Vec<&[u8]> = headers().map(|header| header.parent_hash.as_slice()).collect();
    let times = headers().map(|header| signed(header.time)).collect::<Result<Vec<_>, _>>()?;
    sqlx::query!(
        "insert into indexer.blocks (chain_id, number, hash, parent_hash, time)
         select $1, number, hash, parent_hash, time
         from unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[])
             as b(number, hash, parent_hash, time)",
        chain_id,
        &numbers,
        &hashes as &[&[u8]],
        &parents as &[&[u8]],
        &times,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "delete from indexer.blocks where chain_id = $1 and number < $2",
        chain_id,
        signed(keep_from)?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes the partitions that hold the facts of these blocks, both ends included, as far as they are missing.
pub(super) async fn ensure_partitions(
    connection: &mut PgConnection,
    first: u64,
    last: u64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "select indexer.ensure_fact_partitions($1, $2)::text as done",
        signed(first)?,
        signed(last)?,
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// The columns of a fact, in the order in which they are sent.
const FACT_COLUMNS: i16 = 15;
const COPY_FACTS: &str = "copy indexer.facts
     (chain_id, block_number, block_hash, block_time, log_index, transaction_hash, transaction_index, gas_used,
      address, topic0, topic1, topic2, topic3, data, sequence)
     from stdin (format binary)";

pub(super) async fn add_facts<'a>(
    connection: &mut PgConnection,
    chain_id: i64,
    facts: impl Iterator<Item = &'a Fact>,
) -> Result<(), StoreError> {
    let mut copy = Copy::begin(connection, COPY_FACTS).await?;
    let mut rows = CopyRows::new();
    for fact in facts {
        rows.row(FACT_COLUMNS);
        rows.int8(chain_id);
        rows.int8(signed(fact.block_number)?);
        rows.bytes(fact.block_hash.as_slice())?;
        rows.int8(signed(fact.block_time)?);
        rows.int4(fact.log_index.cast_signed());
        rows.bytes(fact.transaction_hash.as_slice())?;
        rows.int4(fact.transaction_index.cast_signed());
        optional(&mut rows, fact.gas_used)?;
        rows.bytes(fact.address.as_slice())?;
        for index in 0..4 {
            match fact.topics.get(index) {
                Some(topic) => rows.bytes(topic.as_slice())?,
                None => rows.null(),
            }
        }
        rows.bytes(&fact.data)?;
        optional(&mut rows, fact.sequence)?;
        copy.send(&mut rows).await?;
    }
    copy.finish(rows).await
}

fn optional(rows: &mut CopyRows, value: Option<u64>) -> Result<(), StoreError> {
    match value {
        Some(value) => rows.int8(signed(value)?),
        None => rows.null(),
    }
    Ok(())
}

/// The contracts that a factory created, each with the block of its creation.
pub(super) async fn created(
    connection: &mut PgConnection,
    chain_id: i64,
    factory: &Factory,
) -> Result<BTreeMap<Address, u64>, StoreError> {
    let mut rows = sqlx::query!(
        "select block_number, topic1, topic2, topic3, data
         from indexer.facts
         where chain_id = $1 and address = $2 and topic0 = $3
         order by block_number, log_index",
        chain_id,
        factory.address.as_slice(),
        factory.creation.as_slice(),
    )
    .fetch(connection);
    let mut created = BTreeMap::new();
    while let Some(row) = rows.try_next().await? {
        let mut topics = vec![factory.creation];
        for topic in [row.topic1, row.topic2, row.topic3].iter().flatten() {
            topics.push(hash(topic)?);
        }
        if let Some(child) = factory.created(factory.address, &topics, &row.data) {
            created.entry(child).or_insert(unsigned(row.block_number)?);
        }
    }
    Ok(created)
}

/// The last one of the blocks from `first` on, and up to `last`, that have no more than so many facts together; `first` itself
/// where it alone has more.
pub(super) async fn end_of_batch(
    connection: &mut PgConnection,
    chain_id: i64,
    first: u64,
    last: u64,
    facts_max: i64,
) -> Result<u64, StoreError> {
    let beyond = sqlx::query_scalar!(
        "select block_number from indexer.facts
         where chain_id = $1 and block_number between $2 and $3
         order by block_number, log_index offset $4 limit 1",
        chain_id,
        signed(first)?,
        signed(last)?,
        facts_max,
    )
    .fetch_optional(connection)
    .await?;
    let Some(beyond) = beyond else { return Ok(last) };
    Ok(unsigned(beyond)?.saturating_sub(1).max(first))
}

/// The facts of a block range, in chain order; of these contracts only, when some are given.
pub(super) async fn facts(
    connection: &mut PgConnection,
    chain_id: i64,
    first: u64,
    last: u64,
    contracts: Option<&[Address]>,
) -> Result<Vec<Fact>, StoreError> {
    let addresses: Option<Vec<&[u8]>> =
        contracts.map(|all| all.iter().map(|contract| contract.as_slice()).collect());
    let rows = sqlx::query!(
        "select block_number, block_hash, block_time, log_index, transaction_hash, transaction_index, gas_used,
                address, topic0, topic1, topic2, topic3, data, sequence
         from indexer.facts
         where chain_id = $1 and block_number between $2 and $3 and ($4::bytea[] is null or address = any($4))
         order by block_number, log_index",
        chain_id,
        signed(first)?,
        signed(last)?,
        addresses.as_deref() as Option<&[&[u8]]>,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let topics = [row.topic0, row.topic1, row.topic2, row.topic3];
            Ok(Fact {
                block_number: unsigned(row.block_number)?,
                block_hash: hash(&row.block_hash)?,
                block_time: unsigned(row.block_time)?,
                log_index: row.log_index.unsigned_abs(),
                transaction_hash: hash(&row.transaction_hash)?,
                transaction_index: row.transaction_index.unsigned_abs(),
                gas_used: row.gas_used.map(unsigned).transpose()?,
                address: Address::try_from(row.address.as_slice())
                    .map_err(|_| defect("an address"))?,
                topics: topics
                    .iter()
                    .flatten()
                    .map(|topic| hash(topic))
                    .collect::<Result<_, _>>()?,
                data: Bytes::from(row.data),
                sequence: row.sequence.map(unsigned).transpose()?,
            })
        })
        .collect()
}

pub(crate) fn signed(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Defect(format!("{value} is over 2^63 - 1")))
}

pub(super) fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Defect(format!("{value} is negative")))
}

fn hash(bytes: &[u8]) -> Result<B256, StoreError> {
    B256::try_from(bytes).map_err(|_| defect("a hash"))
}

fn defect(what: &str) -> StoreError {
    StoreError::Defect(format!("{what} of another length is stored"))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use auspex_devnet::postgres::TestDatabase;

    use super::*;

    const OURS: Address = Address::repeat_byte(1);
    const FOLLOWED: Address = Address::repeat_byte(2);

    fn fact(block: u64, log_index: u32, address: Address) -> Fact {
        Fact {
            block_number: block,
            block_hash: B256::with_last_byte(block as u8),
            block_time: block,
            log_index,
            transaction_hash: B256::ZERO,
            transaction_index: 0,
            gas_used: None,
            address,
            topics: Vec::new(),
            data: Bytes::new(),
            sequence: None,
        }
    }

    #[tokio::test]
    async fn a_batch_of_facts_is_bounded_and_ends_with_a_block() {
        let database = TestDatabase::create().await.expect("create a database");
        let mut connection = database.pool().acquire().await.expect("connect");
        let stored = [(3, 2), (4, 2), (7, 5), (9, 1)].into_iter().flat_map(|(block, logs)| {
            (0..logs)
                .map(move |index| fact(block, index, if index % 2 == 0 { OURS } else { FOLLOWED }))
        });
        let stored: Vec<_> = stored.collect();
        add_facts(&mut connection, 1, stored.iter()).await.expect("write facts");
        for (first, last, expected) in [
            (1, 20, 6), // Blocks 3 and 4 have four together, block 7 is too much.
            (1, 4, 4),  // No more than asked for.
            (4, 20, 6),
            (7, 20, 7), // It alone has more.
            (8, 20, 20),
            (10, 20, 20),
        ] {
            let end = end_of_batch(&mut connection, 1, first, last, 4).await.expect("read");
            assert_eq!(end, expected, "from {first} to {last}");
        }
        let ours = facts(&mut connection, 1, 4, 9, Some(&[OURS])).await.expect("read facts");
        let places: Vec<_> = ours.iter().map(|fact| (fact.block_number, fact.log_index)).collect();
        assert_eq!(places, [(4, 0), (7, 0), (7, 2), (7, 4), (9, 0)]);
        assert_eq!(facts(&mut connection, 1, 1, 20, None).await.expect("read facts"), stored);
    }
}
