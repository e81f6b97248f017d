//! At which block a question is answered.

use sqlx::PgConnection;

use super::super::error::ApiError;
use super::super::parameter::{self, Finality};

/// The block as of which rows are read: `None` for the newest state. `block` is what the client wrote; it has to be indexed.
/// Beside a finality, which names a block of its own, the lower one counts.
pub(super) async fn block(
    connection: &mut PgConnection,
    chain_id: i64,
    block: Option<&str>,
    finality: Finality,
) -> Result<Option<i64>, ApiError> {
    let block = block.map(|text| parameter::block("block", text)).transpose()?;
    if (block, finality) == (None, Finality::Latest) {
        return Ok(None);
    }
    let cursor = sqlx::query!(
        "select number, safe_number, finalized_number from indexer.cursors where chain_id = $1",
        chain_id,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(cursor) = cursor else {
        // Nothing is indexed yet, so nothing is final, and nothing is there to look back to.
        return match block {
            Some(block) => Err(not_indexed(block, None)),
            None => Ok(Some(-1)),
        };
    };
    if let Some(block) = block.filter(|block| cursor.number.unsigned_abs() < *block) {
        return Err(not_indexed(block, Some(cursor.number)));
    }
    let final_at = match finality {
        Finality::Latest => cursor.number,
        Finality::Safe => cursor.safe_number,
        Finality::Finalized => cursor.finalized_number,
    };
    let block = block.and_then(|block| i64::try_from(block).ok());
    Ok(Some(block.map_or(final_at, |block| block.min(final_at))))
}

fn not_indexed(block: u64, last: Option<i64>) -> ApiError {
    let last = last.map_or("none".to_owned(), |last| last.to_string());
    ApiError::NotFound(format!("block: {block} is not indexed yet; the last block that is: {last}"))
}
