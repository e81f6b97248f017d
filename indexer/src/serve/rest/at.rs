//! At which block a question is answered.

use sqlx::PgConnection;

use super::super::error::ApiError;
use super::super::parameter::Finality;

/// The block as of which rows are read: `None` for the newest state.
pub(super) async fn block(
    connection: &mut PgConnection,
    chain_id: i64,
    finality: Finality,
) -> Result<Option<i64>, ApiError> {
    let cursor = sqlx::query!(
        "select safe_number, finalized_number from indexer.cursors where chain_id = $1",
        chain_id,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let block = match (finality, cursor) {
        (Finality::Latest, _) => None,
        (Finality::Safe, Some(cursor)) => Some(cursor.safe_number),
        (Finality::Finalized, Some(cursor)) => Some(cursor.finalized_number),
        // Nothing is indexed yet, so nothing is final.
        (Finality::Safe | Finality::Finalized, None) => Some(-1),
    };
    Ok(block)
}
