//! `GET /v1/operators`, `GET /v1/operators/{owner}` and `GET /v1/operator-sets/{setId}`.

use alloy::primitives::{Address, B256};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};

use super::super::error::{ApiError, ErrorBody};
use super::super::parameter::{self, Finality, Params};
use super::super::snapshot;
use super::super::state::{ServeState, chain_key};
use super::at;
use super::offer::AtQuery;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct OperatorView {
    #[schema(value_type = String)]
    owner: Address,
    /// The key that signs results; null after a revocation.
    #[schema(value_type = Option<String>)]
    signer: Option<Address>,
    #[schema(value_type = String)]
    transmitter: Address,
    #[schema(value_type = String)]
    withdrawal: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pending_signer: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_signer_active_at: Option<String>,
    finality: String,
    registered_block: u64,
    registered_at: u64,
    /// The sets that it has joined.
    sets: Vec<BondView>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct BondView {
    set_id: String,
    amount: String,
    slashed: String,
    /// `bonded`, `unbonding`, `released` or `slashed`.
    status: String,
    /// True when it is a member of the set's present epoch.
    member: bool,
}

/// A page of operators.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct OperatorPage {
    items: Vec<OperatorView>,
    /// The owner to pass as `after` for the next page; null on the last one.
    #[schema(value_type = Option<String>)]
    next: Option<Address>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct OperatorSetView {
    set_id: String,
    #[schema(value_type = String)]
    admin: Address,
    /// Whom the administrator has named as its successor, who has to accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pending_admin: Option<Address>,
    #[schema(value_type = String)]
    bond_token: Address,
    bond: String,
    /// 0 before the first epoch.
    epoch: String,
    threshold: i16,
    #[schema(value_type = Vec<String>)]
    operators: Vec<Address>,
    #[schema(value_type = Vec<String>)]
    signers: Vec<Address>,
    #[schema(value_type = Option<String>)]
    operator_set_hash: Option<B256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<PendingEpoch>,
    finality: String,
    created_block: u64,
    created_at: u64,
    updated_at: u64,
}

/// A proposed epoch that has not started.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PendingEpoch {
    epoch: String,
    threshold: i16,
    #[schema(value_type = Vec<String>)]
    operators: Vec<Address>,
    active_at: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ListQuery {
    /// The chain; the first one that is served when left out.
    chain_id: Option<String>,
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

/// Operators in the order of their owners' addresses.
#[utoipa::path(
    get,
    path = "/v1/operators",
    tag = "operators",
    params(ListQuery),
    responses(
        (status = 200, body = OperatorPage),
        (status = 400, description = "A parameter is wrong.", body = ErrorBody),
        (status = 404, description = "The chain is not served.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<ServeState>,
    Params(query): Params<ListQuery>,
) -> Result<Json<OperatorPage>, ApiError> {
    let chain_id = chain_key(state.chain(query.chain_id.as_deref())?);
    let after = match &query.after {
        Some(text) => Some(parameter::address("after", text)?),
        None => None,
    };
    let limit = parameter::limit(query.limit.as_deref())?;
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let at = at::block(&mut snapshot, chain_id, query.block.as_deref(), query.finality).await?;
    let narrowed = OperatorQuery { chain_id, owner: None, after, at, limit: limit + 1 };
    let mut items = operators(&mut snapshot, &narrowed).await?;
    let more = limit < items.len() as i64;
    items.truncate(usize::try_from(limit).unwrap_or_default());
    let last = items.last().map(|operator| operator.owner);
    Ok(Json(OperatorPage { next: last.filter(|_| more), items }))
}

/// One operator.
#[utoipa::path(
    get,
    path = "/v1/operators/{owner}",
    tag = "operators",
    params(("owner" = String, Path, description = "0x-hex address."), AtQuery),
    responses(
        (status = 200, body = OperatorView),
        (status = 400, description = "The owner is no address.", body = ErrorBody),
        (status = 404, description = "No such operator is indexed.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn show(
    State(state): State<ServeState>,
    Path(owner): Path<String>,
    Params(query): Params<AtQuery>,
) -> Result<Json<OperatorView>, ApiError> {
    let owner = parameter::address("owner", &owner)?;
    let chain_id = chain_key(state.chain(query.chain_id.as_deref())?);
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let at = at::block(&mut snapshot, chain_id, query.block.as_deref(), query.finality).await?;
    let narrowed = OperatorQuery { chain_id, owner: Some(owner), after: None, at, limit: 1 };
    let found = operators(&mut snapshot, &narrowed).await?.pop();
    match found {
        Some(operator) => Ok(Json(operator)),
        None => Err(ApiError::NotFound(format!(
            "owner: no operator of {owner:#x} is indexed on chain {chain_id}"
        ))),
    }
}

/// One operator set with its present epoch.
#[utoipa::path(
    get,
    path = "/v1/operator-sets/{setId}",
    tag = "operators",
    params(("setId" = String, Path, description = "Decimal."), AtQuery),
    responses(
        (status = 200, body = OperatorSetView),
        (status = 400, description = "The id is no integer.", body = ErrorBody),
        (status = 404, description = "No such set is indexed.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn set(
    State(state): State<ServeState>,
    Path(id): Path<String>,
    Params(query): Params<AtQuery>,
) -> Result<Json<OperatorSetView>, ApiError> {
    let set_id = parameter::uint256("setId", &id)?;
    let chain_id = chain_key(state.chain(query.chain_id.as_deref())?);
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let at = at::block(&mut snapshot, chain_id, query.block.as_deref(), query.finality).await?;
    let row = sqlx::query!(
        r#"
        select
            id, admin, pending_admin, bond_token, bond::text as "bond!", epoch::text as "epoch!", threshold, operators, signers,
            operator_set_hash, pending_epoch::text as pending_epoch, pending_threshold, pending_operators,
            pending_active_at::text as pending_active_at, created_block, created_at, updated_at,
            indexer.finality(chain_id, lower(block_range)) as finality
        from indexer.operator_sets
        where (upper_inf(block_range) or $3::bigint is not null) and ($3::bigint is null or block_range @> $3::bigint)
            and chain_id = $1 and id = $2
        "#,
        chain_id,
        set_id,
        at,
    )
    .fetch_optional(&mut *snapshot)
    .await?;
    let Some(row) = row else {
        return Err(ApiError::NotFound(format!(
            "setId: no operator set {set_id} is indexed on chain {chain_id}"
        )));
    };
    let pending = row.pending_epoch.map(|epoch| PendingEpoch {
        epoch,
        threshold: row.pending_threshold.unwrap_or_default(),
        operators: addresses(&row.pending_operators.unwrap_or_default()),
        active_at: row.pending_active_at.unwrap_or_default(),
    });
    Ok(Json(OperatorSetView {
        set_id: row.id,
        admin: Address::from_slice(&row.admin),
        pending_admin: row.pending_admin.as_deref().map(Address::from_slice),
        bond_token: Address::from_slice(&row.bond_token),
        bond: row.bond,
        epoch: row.epoch,
        threshold: row.threshold,
        operators: addresses(&row.operators),
        signers: addresses(&row.signers),
        operator_set_hash: row.operator_set_hash.as_deref().map(B256::from_slice),
        pending,
        finality: row.finality.unwrap_or_else(|| "latest".to_owned()),
        created_block: row.created_block.unsigned_abs(),
        created_at: row.created_at.unsigned_abs(),
        updated_at: row.updated_at.unsigned_abs(),
    }))
}

/// What a list of operators is narrowed to.
#[derive(Debug)]
struct OperatorQuery {
    chain_id: i64,
    owner: Option<Address>,
    after: Option<Address>,
    /// The block as of which; the newest state when null.
    at: Option<i64>,
    limit: i64,
}

async fn operators(
    connection: &mut PgConnection,
    query: &OperatorQuery,
) -> Result<Vec<OperatorView>, ApiError> {
    let rows = sqlx::query!(
        r#"
        select
            o.owner, o.signer, o.transmitter, o.withdrawal, o.pending_signer,
            o.pending_signer_active_at::text as pending_signer_active_at, o.registered_block, o.registered_at,
            indexer.finality(o.chain_id, lower(o.block_range)) as finality,
            coalesce((
                select jsonb_agg(jsonb_build_object(
                    'setId', b.set_id::text,
                    'amount', b.amount::text,
                    'slashed', b.slashed::text,
                    'status', b.status,
                    'member', coalesce(o.owner = any(s.operators), false)
                ) order by b.set_id)
                from indexer.bonds b
                left join indexer.operator_sets s
                    on s.chain_id = b.chain_id and s.id = b.set_id::text
                    and (upper_inf(s.block_range) or $5::bigint is not null) and ($5::bigint is null or s.block_range @> $5::bigint)
                where b.chain_id = o.chain_id and b.owner = o.owner
                    and (upper_inf(b.block_range) or $5::bigint is not null) and ($5::bigint is null or b.block_range @> $5::bigint)
            ), '[]'::jsonb) as "sets!: sqlx::types::Json<Vec<BondView>>"
        from indexer.operators o
        where (upper_inf(o.block_range) or $5::bigint is not null) and ($5::bigint is null or o.block_range @> $5::bigint)
            and o.chain_id = $1
            and ($2::text is null or o.id = $2)
            and ($3::text is null or o.id > $3)
        order by o.id
        limit $4
        "#,
        query.chain_id,
        query.owner.map(|address| format!("{address:#x}")),
        query.after.map(|address| format!("{address:#x}")),
        query.limit,
        query.at,
    )
    .fetch_all(connection)
    .await?;
    let views = rows.into_iter().map(|row| OperatorView {
        owner: Address::from_slice(&row.owner),
        signer: row.signer.as_deref().map(Address::from_slice),
        transmitter: Address::from_slice(&row.transmitter),
        withdrawal: Address::from_slice(&row.withdrawal),
        pending_signer: row.pending_signer.as_deref().map(Address::from_slice),
        pending_signer_active_at: row.pending_signer_active_at,
        finality: row.finality.unwrap_or_else(|| "latest".to_owned()),
        registered_block: row.registered_block.unsigned_abs(),
        registered_at: row.registered_at.unsigned_abs(),
        sets: row.sets.0,
    });
    Ok(views.collect())
}

fn addresses(list: &[Vec<u8>]) -> Vec<Address> {
    list.iter().map(|bytes| Address::from_slice(bytes)).collect()
}
