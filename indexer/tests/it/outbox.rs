//! Where the outbox begins: a long past is read in silence, and from then on nothing is left out.

use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::replay::Branch;
use auspex_indexer::limits::UNTOLD_LAG_MIN;
use auspex_indexer::verify::Level;
use sqlx::{PgPool, Row};

use crate::liar::play::{Last, Play, grow};

const PAST: u64 = 3 * UNTOLD_LAG_MIN;

#[tokio::test]
async fn a_long_past_is_not_told_but_everything_after_it_is_also_what_is_read_late() {
    let database = TestDatabase::create().await.expect("create a database");
    let pool = database.pool();
    let mut branch = Branch::genesis().expect("build a genesis");
    grow(&mut branch, PAST, Last::Numbered);
    let mut play = Play::new(&database, &branch, Level::Linked).await;
    play.assert_follows(&branch, "the past").await;

    let told_from = told_from(&pool).await;
    let near = PAST - UNTOLD_LAG_MIN;
    assert!(1 < told_from && told_from <= near, "told from block {told_from}");
    assert_eq!(told_blocks(&pool).await, (told_from..=PAST).collect::<Vec<_>>());
    // What is not told is there all the same.
    assert_eq!(projected_blocks(&pool).await, (1..=PAST).collect::<Vec<_>>());

    // The process was away for longer than what it may leave untold at the beginning.
    let later = PAST + 2 * UNTOLD_LAG_MIN;
    grow(&mut branch, later, Last::Numbered);
    play.node.switch(branch.clone(), later);
    play.assert_follows(&branch, "what was missed").await;
    assert_eq!(told_blocks(&pool).await, (told_from..=later).collect::<Vec<_>>());
}

async fn told_from(pool: &PgPool) -> u64 {
    let row = sqlx::query("select told_from from indexer.cursors").fetch_one(pool).await;
    row.expect("a cursor")
        .get::<Option<i64>, _>(0)
        .expect("following came near the head")
        .unsigned_abs()
}

async fn told_blocks(pool: &PgPool) -> Vec<u64> {
    blocks(pool, "select distinct block_number from indexer.outbox order by 1").await
}

async fn projected_blocks(pool: &PgPool) -> Vec<u64> {
    blocks(pool, "select distinct lower(block_range) from indexer.tokens order by 1").await
}

async fn blocks(pool: &PgPool, sql: &'static str) -> Vec<u64> {
    let blocks = sqlx::query_scalar::<_, i64>(sql).fetch_all(pool).await.expect("read blocks");
    blocks.into_iter().map(i64::unsigned_abs).collect()
}
