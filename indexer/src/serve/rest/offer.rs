//! `GET /v1/offers` and `GET /v1/offers/{offerHash}`.

use std::collections::HashMap;

use alloy::primitives::{Address, B256};
use auspex_protocol::document::{OfferDocument, OperatorSetDocument, SplitDocument};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use super::super::error::{ApiError, ErrorBody};
use super::super::openapi;
use super::super::parameter::{self, Finality, Params};
use super::super::snapshot;
use super::super::state::{ServeState, chain_key};
use super::offer_store::{self, OfferQuery};
use super::{Page, at};

/// An offer with the split and the operator set that a request under it would pin now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct OfferView {
    #[schema(value_type = String)]
    offer_hash: B256,
    sequence: u64,
    /// True while the offer takes requests.
    active: bool,
    finality: String,
    #[schema(schema_with = openapi::offer_document)]
    offer: OfferDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::split_document)]
    split: Option<SplitDocument>,
    /// The set's present epoch; missing before its first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::operator_set_document)]
    operator_set: Option<OperatorSetDocument>,
    block_number: u64,
    block_time: u64,
    #[schema(value_type = String)]
    transaction_hash: B256,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_at: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ListQuery {
    /// The chain; the first one that is served when left out.
    chain_id: Option<String>,
    agent_id: Option<String>,
    /// `true` or `false`; both when left out.
    active: Option<bool>,
    /// The state as of this block, which has to be indexed.
    block: Option<String>,
    /// The state as of the latest, the safe or the finalized block.
    #[serde(default)]
    #[param(inline)]
    finality: Finality,
    /// The `next` of the page before.
    after: Option<String>,
    /// 1 to 1000, by default 100.
    limit: Option<String>,
}

/// Offers in the order in which they were published.
#[utoipa::path(
    get,
    path = "/v1/offers",
    tag = "offers",
    params(ListQuery),
    responses(
        (status = 200, body = Page<OfferView>),
        (status = 400, description = "A parameter is wrong.", body = ErrorBody),
        (status = 404, description = "The chain is not served.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<ServeState>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<OfferView>>, ApiError> {
    let limit = parameter::limit(query.limit.as_deref())?;
    let mut narrowed = OfferQuery {
        chain_id: chain_key(state.chain(query.chain_id.as_deref())?),
        agent_id: match &query.agent_id {
            Some(text) => Some(parameter::uint256("agentId", text)?),
            None => None,
        },
        active: query.active,
        hashes: None,
        after: parameter::after("after", query.after.as_deref())?,
        at: None,
        limit: limit + 1,
    };
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let block = query.block.as_deref();
    narrowed.at = at::block(&mut snapshot, narrowed.chain_id, block, query.finality).await?;
    let mut items = load(&mut snapshot, &narrowed).await?;
    let more = limit < items.len() as i64;
    items.truncate(usize::try_from(limit).unwrap_or_default());
    let last = items.last().map(|offer| i64::try_from(offer.sequence).unwrap_or(i64::MAX));
    Ok(Json(Page { next: last.filter(|_| more), items }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct AtQuery {
    /// The chain; the first one that is served when left out.
    pub(super) chain_id: Option<String>,
    /// The state as of this block, which has to be indexed.
    pub(super) block: Option<String>,
    /// The state as of the latest, the safe or the finalized block.
    #[serde(default)]
    #[param(inline)]
    pub(super) finality: Finality,
}

/// One offer.
#[utoipa::path(
    get,
    path = "/v1/offers/{offerHash}",
    tag = "offers",
    params(("offerHash" = String, Path, description = "0x-hex, 32 bytes."), AtQuery),
    responses(
        (status = 200, body = OfferView),
        (status = 400, description = "The id is no hash.", body = ErrorBody),
        (status = 404, description = "No such offer is indexed.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn show(
    State(state): State<ServeState>,
    Path(id): Path<String>,
    Params(query): Params<AtQuery>,
) -> Result<Json<OfferView>, ApiError> {
    let offer_hash = parameter::hash("offerHash", &id)?;
    let mut narrowed = OfferQuery {
        chain_id: chain_key(state.chain(query.chain_id.as_deref())?),
        hashes: Some(vec![format!("{offer_hash:#x}")]),
        limit: 1,
        ..OfferQuery::default()
    };
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let block = query.block.as_deref();
    narrowed.at = at::block(&mut snapshot, narrowed.chain_id, block, query.finality).await?;
    let mut items = load(&mut snapshot, &narrowed).await?;
    match items.pop() {
        Some(offer) => Ok(Json(offer)),
        None => Err(ApiError::NotFound(format!("offerHash: no offer {offer_hash:#x} is indexed"))),
    }
}

/// The offers that a query finds, with their splits and sets.
pub(super) async fn load(
    connection: &mut PgConnection,
    query: &OfferQuery,
) -> Result<Vec<OfferView>, ApiError> {
    let rows = offer_store::offers(connection, query).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<_> =
        rows.iter().map(|row| format!("0x{}", hex::encode(&row.split_hash))).collect();
    let splits = offer_store::splits(connection, query.chain_id, &hashes).await?;
    let set_ids: Vec<_> = rows.iter().map(|row| row.operator_set_id.clone()).collect();
    let sets = current_sets(connection, query.chain_id, &set_ids, query.at).await?;
    let views = rows.into_iter().map(|row| {
        Ok(OfferView {
            offer_hash: B256::from_slice(&row.offer_hash),
            sequence: row.sequence.unsigned_abs(),
            active: row.active,
            offer: row.document()?,
            split: splits.get(&B256::from_slice(&row.split_hash)).cloned(),
            operator_set: sets.get(&row.operator_set_id).cloned(),
            block_number: row.published_block.unsigned_abs(),
            block_time: row.published_at.unsigned_abs(),
            transaction_hash: B256::from_slice(&row.published_tx),
            retired_at: row.retired_at.map(i64::unsigned_abs),
            finality: row.finality.unwrap_or_else(|| "latest".to_owned()),
        })
    });
    views.collect::<anyhow::Result<_>>().map_err(ApiError::Internal)
}

/// The present epochs of these sets, by decimal set id.
async fn current_sets(
    connection: &mut PgConnection,
    chain_id: i64,
    set_ids: &[String],
    at: Option<i64>,
) -> anyhow::Result<HashMap<String, OperatorSetDocument>> {
    let rows = sqlx::query!(
        r#"
        select id, epoch::text as "epoch!", threshold, signers
        from indexer.operator_sets
        where (upper_inf(block_range) or $3::bigint is not null) and ($3::bigint is null or block_range @> $3::bigint)
            and chain_id = $1 and id = any($2) and epoch > 0
        "#,
        chain_id,
        set_ids,
        at,
    )
    .fetch_all(connection)
    .await?;
    let sets = rows.into_iter().map(|row| {
        let document = OperatorSetDocument {
            set_id: row.id.parse()?,
            epoch: row.epoch.parse()?,
            threshold: row.threshold.try_into()?,
            signers: row.signers.iter().map(|bytes| Address::from_slice(bytes)).collect(),
        };
        Ok((row.id, document))
    });
    sets.collect()
}
