//! One consistent view of the database for all reads of one request.

use sqlx::{PgPool, Postgres, Transaction};

use super::limits::STATEMENT_TIME_MAX;

/// Begins a read-only transaction in which every statement sees the same state, so that rows, heads and totals of one
/// answer belong together. It ends when it is dropped: there is nothing to commit, and the answer need not wait for its end.
/// To be called only in tasks that are not cancelled; see [`super::layer::limited`].
pub(super) async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    // One round trip for both statements. The text is ours: a constant and a number.
    let statement = format!(
        "begin transaction isolation level repeatable read read only; set local statement_timeout = {}",
        STATEMENT_TIME_MAX.as_millis()
    );
    pool.begin_with(sqlx::AssertSqlSafe(statement)).await
}
