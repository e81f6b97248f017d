//! `GET /v1/agents` and `GET /v1/agents/{agentId}`.

use alloy::primitives::{Address, B256, Bytes};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::types::Json as Jsonb;
use utoipa::{IntoParams, ToSchema};

use super::super::error::{ApiError, ErrorBody};
use super::super::limits::PAGE_ROWS_MAX;
use super::super::parameter::{self, Finality, Params};
use super::super::snapshot;
use super::super::state::{ServeState, chain_key};
use super::at;
use super::offer::{self, AtQuery, OfferView};
use super::offer_store::OfferQuery;

/// An agent. Metadata and offers are given where one agent is asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct AgentView {
    chain_id: u64,
    agent_id: String,
    #[schema(value_type = String)]
    registry: Address,
    #[schema(value_type = String)]
    owner: Address,
    agent_uri: String,
    #[schema(value_type = Option<String>)]
    wallet: Option<Address>,
    /// The registration file that the URI led to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    registration: Option<Box<RawValue>>,
    /// Why there is no registration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_error: Option<String>,
    finality: String,
    block_number: u64,
    block_time: u64,
    #[schema(value_type = String)]
    transaction_hash: B256,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Vec<MetadataView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offers: Option<Vec<OfferView>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct MetadataView {
    key: String,
    #[schema(value_type = String)]
    value: Bytes,
}

/// A page of agents.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct AgentPage {
    items: Vec<AgentView>,
    /// The agent id to pass as `after` for the next page; null on the last one.
    next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ListQuery {
    /// The chain; the first one that is served when left out.
    chain_id: Option<String>,
    /// 0x-hex address.
    owner: Option<String>,
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

/// Agents in the order of their ids.
#[utoipa::path(
    get,
    path = "/v1/agents",
    tag = "agents",
    params(ListQuery),
    responses(
        (status = 200, body = AgentPage),
        (status = 400, description = "A parameter is wrong.", body = ErrorBody),
        (status = 404, description = "The chain is not served.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<ServeState>,
    Params(query): Params<ListQuery>,
) -> Result<Json<AgentPage>, ApiError> {
    let chain_id = chain_key(state.chain(query.chain_id.as_deref())?);
    let owner = match &query.owner {
        Some(text) => Some(parameter::address("owner", text)?.to_vec()),
        None => None,
    };
    let after = match &query.after {
        Some(text) => Some(parameter::uint256("after", text)?),
        None => None,
    };
    let limit = parameter::limit(query.limit.as_deref())?;
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let at = at::block(&mut snapshot, chain_id, query.block.as_deref(), query.finality).await?;
    let narrowed = AgentQuery { owner, after, at, ..AgentQuery::new(chain_id, limit + 1) };
    let mut items = agents(&mut snapshot, narrowed).await?;
    let more = limit < items.len() as i64;
    items.truncate(usize::try_from(limit).unwrap_or_default());
    let last = items.last().map(|agent| agent.agent_id.clone());
    Ok(Json(AgentPage { next: last.filter(|_| more), items }))
}

/// One agent with its metadata and its offers.
#[utoipa::path(
    get,
    path = "/v1/agents/{agentId}",
    tag = "agents",
    params(("agentId" = String, Path, description = "Decimal."), AtQuery),
    responses(
        (status = 200, body = AgentView),
        (status = 400, description = "The id is no integer.", body = ErrorBody),
        (status = 404, description = "No such agent is indexed.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn show(
    State(state): State<ServeState>,
    Path(id): Path<String>,
    Params(query): Params<AtQuery>,
) -> Result<Json<AgentView>, ApiError> {
    let agent_id = parameter::uint256("agentId", &id)?;
    let chain_id = chain_key(state.chain(query.chain_id.as_deref())?);
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let at = at::block(&mut snapshot, chain_id, query.block.as_deref(), query.finality).await?;
    let narrowed =
        AgentQuery { agent_id: Some(agent_id.clone()), at, ..AgentQuery::new(chain_id, 1) };
    let found = agents(&mut snapshot, narrowed).await?.pop();
    let Some(mut agent) = found else {
        return Err(ApiError::NotFound(format!(
            "agentId: no agent {agent_id} is indexed on chain {chain_id}"
        )));
    };
    agent.metadata = Some(metadata(&mut snapshot, chain_id, &agent_id, at).await?);
    let of_agent = OfferQuery {
        chain_id,
        agent_id: Some(agent_id),
        at,
        limit: PAGE_ROWS_MAX,
        ..OfferQuery::default()
    };
    agent.offers = Some(offer::load(&mut snapshot, &of_agent).await?);
    Ok(Json(agent))
}

/// What a list of agents is narrowed to. Numbers are decimal text.
#[derive(Debug)]
struct AgentQuery {
    chain_id: i64,
    agent_id: Option<String>,
    owner: Option<Vec<u8>>,
    after: Option<String>,
    /// The block as of which; the newest state when null.
    at: Option<i64>,
    limit: i64,
}

impl AgentQuery {
    fn new(chain_id: i64, limit: i64) -> Self {
        Self { chain_id, agent_id: None, owner: None, after: None, at: None, limit }
    }
}

async fn agents(
    connection: &mut PgConnection,
    query: AgentQuery,
) -> Result<Vec<AgentView>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select
            a.chain_id, a.agent_id::text as "agent_id!", a.registry, a.owner, a.agent_uri, a.wallet,
            indexer.finality(a.chain_id, lower(a.block_range)) as finality,
            a.registered_block, a.registered_at, a.registered_tx,
            f.file as "file: Jsonb<Box<RawValue>>", f.error as "error?"
        from indexer.agents a
        left join indexer.agent_files f
            on f.chain_id = a.chain_id and f.agent_id = a.agent_id and f.uri = a.agent_uri
        where (upper_inf(a.block_range) or $6::bigint is not null) and ($6::bigint is null or a.block_range @> $6::bigint)
            and a.chain_id = $1
            and ($2::text is null or a.agent_id = $2::numeric)
            and ($3::bytea is null or a.owner = $3)
            and ($4::text is null or a.agent_id > $4::numeric)
        order by a.agent_id
        limit $5
        "#,
        query.chain_id,
        query.agent_id,
        query.owner,
        query.after,
        query.limit,
        query.at,
    )
    .fetch_all(connection)
    .await?;
    let views = rows.into_iter().map(|row| AgentView {
        chain_id: row.chain_id.unsigned_abs(),
        agent_id: row.agent_id,
        registry: Address::from_slice(&row.registry),
        owner: Address::from_slice(&row.owner),
        agent_uri: row.agent_uri,
        wallet: row.wallet.as_deref().map(Address::from_slice),
        registration: row.file.map(|file| file.0),
        registration_error: row.error,
        finality: row.finality.unwrap_or_else(|| "latest".to_owned()),
        block_number: row.registered_block.unsigned_abs(),
        block_time: row.registered_at.unsigned_abs(),
        transaction_hash: B256::from_slice(&row.registered_tx),
        metadata: None,
        offers: None,
    });
    Ok(views.collect())
}

async fn metadata(
    connection: &mut PgConnection,
    chain_id: i64,
    agent_id: &str,
    at: Option<i64>,
) -> Result<Vec<MetadataView>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select key, value
        from indexer.agent_metadata
        where (upper_inf(block_range) or $4::bigint is not null) and ($4::bigint is null or block_range @> $4::bigint)
            and chain_id = $1 and agent_id = $2::text::numeric
        order by key
        limit $3
        "#,
        chain_id,
        agent_id,
        PAGE_ROWS_MAX,
        at,
    )
    .fetch_all(connection)
    .await?;
    let views = rows.into_iter().map(|row| MetadataView { key: row.key, value: row.value.into() });
    Ok(views.collect())
}
