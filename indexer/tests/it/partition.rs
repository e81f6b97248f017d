//! Facts lie in partitions by block range, which are made when they are needed.

use auspex_devnet::postgres::TestDatabase;
use auspex_indexer::limits::PARTITION_BLOCKS;
use sqlx::PgPool;

async fn ensure(pool: &PgPool, first: u64, last: u64) {
    sqlx::query("select indexer.ensure_fact_partitions($1, $2)")
        .bind(first.cast_signed())
        .bind(last.cast_signed())
        .execute(pool)
        .await
        .expect("make partitions");
}

async fn insert(pool: &PgPool, block: u64) -> sqlx::Result<String> {
    sqlx::query_scalar::<_, String>(
        "insert into indexer.facts
             (chain_id, block_number, block_hash, block_time, log_index, transaction_hash, transaction_index, address, data)
         values (1, $1, '\\x01', 0, 0, '\\x02', 0, '\\x03', '') returning tableoid::regclass::text",
    )
    .bind(block.cast_signed())
    .fetch_one(pool)
    .await
}

#[tokio::test]
async fn every_million_blocks_have_a_partition_of_their_own() {
    let database = TestDatabase::create().await.expect("create a database");
    let pool = database.pool();
    // Two followers that need the same ones at once.
    let (first, last) = (41 * PARTITION_BLOCKS - 1, 42 * PARTITION_BLOCKS);
    tokio::join!(ensure(&pool, first, last), ensure(&pool, first, last));
    ensure(&pool, first, last).await;
    for (block, partition) in [
        (0, "indexer.facts_0m"),
        (first, "indexer.facts_40m"),
        (first + 1, "indexer.facts_41m"),
        (last - 1, "indexer.facts_41m"),
        (last, "indexer.facts_42m"),
    ] {
        assert_eq!(insert(&pool, block).await.expect("insert a fact"), partition, "block {block}");
        let doubled = insert(&pool, block).await.expect_err("the same fact twice");
        assert!(doubled.as_database_error().is_some_and(|error| error.is_unique_violation()));
    }
    let homeless =
        insert(&pool, 43 * PARTITION_BLOCKS).await.expect_err("a block without a partition");
    assert!(homeless.to_string().contains("no partition"), "{homeless}");
}

#[tokio::test]
async fn an_index_of_a_followed_event_is_on_every_partition_also_on_later_ones() {
    let database = TestDatabase::create().await.expect("create a database");
    let pool = database.pool();
    sqlx::query(
        "create index facts_of_1 on indexer.facts (block_number, log_index) where chain_id = 1",
    )
    .execute(&pool)
    .await
    .expect("create an index");
    ensure(&pool, 5 * PARTITION_BLOCKS, 5 * PARTITION_BLOCKS).await;
    let count = sqlx::query_scalar::<_, i64>(
        "select count(*) from pg_inherits i join pg_class c on c.oid = i.inhparent where c.relname = 'facts_of_1'",
    )
    .fetch_one(&pool)
    .await
    .expect("count the indexes");
    assert_eq!(count, 2);
}
