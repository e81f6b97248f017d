//! `GET /v1/accounts/{address}/credits`.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256};
use auspex_protocol::document::SplitDocument;
use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::{ApiError, ErrorBody};
use super::super::limits::PAGE_ROWS_MAX;
use super::super::openapi;
use super::super::parameter::{self, Params};
use super::super::snapshot;
use super::super::state::{ServeState, chain_key};
use super::at;
use super::offer::AtQuery;
use super::offer_store;

/// What an account holds in the escrow.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Credits {
    /// One entry per token, at most 1,000.
    items: Vec<CreditView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct CreditView {
    #[schema(value_type = String)]
    token: Address,
    /// `credited - withdrawn`.
    claimable: String,
    credited: String,
    withdrawn: String,
    /// The splits to show to the escrow's `withdraw`: those with a share of this account and money of this token.
    #[schema(schema_with = openapi::split_documents)]
    splits: Vec<SplitDocument>,
}

/// An account's credits in every token.
#[utoipa::path(
    get,
    path = "/v1/accounts/{address}/credits",
    tag = "accounts",
    params(("address" = String, Path, description = "0x-hex address."), AtQuery),
    responses(
        (status = 200, body = Credits),
        (status = 400, description = "The address is wrong.", body = ErrorBody),
        (status = 404, description = "The chain is not served.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn credits(
    State(state): State<ServeState>,
    Path(account): Path<String>,
    Params(query): Params<AtQuery>,
) -> Result<Json<Credits>, ApiError> {
    let account = parameter::address("address", &account)?;
    let chain_id = chain_key(state.chain(query.chain_id.as_deref())?);
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let at = at::block(&mut snapshot, chain_id, query.block.as_deref(), query.finality).await?;
    let rows = sqlx::query!(
        r#"
        select
            c.token, c.credited::text as "credited!", c.withdrawn::text as "withdrawn!",
            (c.credited - c.withdrawn)::text as "claimable!",
            array(
                select t.split_hash::bytea
                from indexer.split_shares s
                join indexer.split_totals t
                    on t.chain_id = s.chain_id and t.split_hash = s.split_hash and t.token = c.token
                    and (upper_inf(t.block_range) or $4::bigint is not null) and ($4::bigint is null or t.block_range @> $4::bigint)
                where s.chain_id = c.chain_id and s.account = c.account
                    and (upper_inf(s.block_range) or $4::bigint is not null) and ($4::bigint is null or s.block_range @> $4::bigint)
                order by t.split_hash
            ) as "split_hashes!"
        from indexer.credits c
        where c.chain_id = $1 and c.account = $2
            and (upper_inf(c.block_range) or $4::bigint is not null) and ($4::bigint is null or c.block_range @> $4::bigint)
        order by c.token
        limit $3
        "#,
        chain_id,
        account.as_slice(),
        PAGE_ROWS_MAX,
        at,
    )
    .fetch_all(&mut *snapshot)
    .await?;
    let hashes: BTreeSet<_> = rows
        .iter()
        .flat_map(|row| &row.split_hashes)
        .map(|bytes| format!("0x{}", hex::encode(bytes)))
        .collect();
    let hashes: Vec<_> = hashes.into_iter().collect();
    let splits = offer_store::splits(&mut snapshot, chain_id, &hashes).await?;
    let items = rows.into_iter().map(|row| CreditView {
        token: Address::from_slice(&row.token),
        claimable: row.claimable,
        credited: row.credited,
        withdrawn: row.withdrawn,
        splits: row
            .split_hashes
            .iter()
            .filter_map(|bytes| splits.get(&B256::from_slice(bytes)).cloned())
            .collect(),
    });
    Ok(Json(Credits { items: items.collect() }))
}
