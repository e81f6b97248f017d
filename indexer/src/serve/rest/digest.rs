//! `GET /v1/digest`: what the rows of a block range come to, so that two indexers can be compared without their rows.

use alloy::primitives::B256;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::error::{ApiError, ErrorBody};
use super::super::limits::DIGEST_BLOCKS_MAX;
use super::super::parameter::{self, Params};
use super::super::snapshot;
use super::super::state::{ServeState, chain_key};
use crate::digest::digest;
use crate::store::StoreError;

/// The digest of the row versions that begin in a block range, of every entity. Equal digests mean equal rows, byte for
/// byte. `auspex indexer digest` prints the same.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct DigestView {
    chain_id: u64,
    first_block: u64,
    last_block: u64,
    rows: u64,
    /// Keccak-256.
    #[schema(value_type = String)]
    digest: B256,
    /// How final the last block is, and hence the digest: `latest`, `safe` or `finalized`.
    finality: &'static str,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct DigestQuery {
    /// The chain; the first one that is served when left out.
    chain_id: Option<String>,
    /// First block.
    from: String,
    /// Last block, included; it has to be indexed. At most 10,000 blocks at once.
    to: String,
}

/// The digest of the rows of a block range.
#[utoipa::path(
    get,
    path = "/v1/digest",
    tag = "status",
    params(DigestQuery),
    responses(
        (status = 200, body = DigestView),
        (status = 400, description = "A parameter is wrong.", body = ErrorBody),
        (status = 404, description = "The chain is not served, or the range is not indexed.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn range(
    State(state): State<ServeState>,
    Params(query): Params<DigestQuery>,
) -> Result<Json<DigestView>, ApiError> {
    let chain = state.chain(query.chain_id.as_deref())?;
    let from = parameter::block("from", &query.from)?;
    let to = parameter::block("to", &query.to)?;
    if to < from || DIGEST_BLOCKS_MAX <= to - from {
        return Err(ApiError::InvalidParameter(format!(
            "to: {to} is not between from ({from}) and the {DIGEST_BLOCKS_MAX} blocks that are digested at once"
        )));
    }
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let cursor = sqlx::query!(
        "select number, safe_number, finalized_number from indexer.cursors where chain_id = $1",
        chain_key(chain),
    )
    .fetch_optional(&mut *snapshot)
    .await?;
    let indexed = cursor.as_ref().map_or(-1, |cursor| cursor.number);
    let Some(cursor) = cursor.filter(|cursor| to <= cursor.number.unsigned_abs()) else {
        return Err(ApiError::NotFound(format!(
            "to: block {to} is not indexed; the last block that is is {indexed}"
        )));
    };
    let range =
        digest(&mut snapshot, chain.chain_id, from, to).await.map_err(|error| match error {
            StoreError::Database(error) => ApiError::from(error),
            StoreError::Defect(text) => ApiError::Internal(anyhow::anyhow!(text)),
        })?;
    let finality = if to <= cursor.finalized_number.unsigned_abs() {
        "finalized"
    } else if to <= cursor.safe_number.unsigned_abs() {
        "safe"
    } else {
        "latest"
    };
    Ok(Json(DigestView {
        chain_id: chain.chain_id,
        first_block: from,
        last_block: to,
        rows: range.rows,
        digest: range.digest,
        finality,
    }))
}
