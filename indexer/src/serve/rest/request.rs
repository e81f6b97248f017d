//! `GET /v1/requests` and `GET /v1/requests/{requestId}`.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::error::{ApiError, ErrorBody};
use super::super::parameter::{self, Finality, Params};
use super::super::snapshot;
use super::super::state::{ServeState, chain_key};
use super::request_store::{self, RequestQuery};
use super::request_view::{self, RequestView};
use super::{Page, at};

const STATUSES: [&str; 5] = ["funded", "delivered", "settled", "refunded", "slashed"];

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct ListQuery {
    /// The chain; the first one that is served when left out.
    chain_id: Option<String>,
    /// `funded`, `delivered`, `settled`, `refunded` or `slashed`.
    status: Option<String>,
    agent_id: Option<String>,
    /// 0x-hex address.
    payer: Option<String>,
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

/// Requests in the order in which they were made.
#[utoipa::path(
    get,
    path = "/v1/requests",
    tag = "requests",
    params(ListQuery),
    responses(
        (status = 200, description = "A page; `next` is null on the last one.", body = Page<RequestView>),
        (status = 400, description = "A parameter is wrong.", body = ErrorBody),
        (status = 404, description = "The chain is not served.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<ServeState>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<RequestView>>, ApiError> {
    if let Some(status) = query.status.as_deref().filter(|status| !STATUSES.contains(status)) {
        return Err(ApiError::InvalidParameter(format!(
            "status: {status:?} is not one of {}",
            STATUSES.join(", ")
        )));
    }
    let limit = parameter::limit(query.limit.as_deref())?;
    let narrowed = RequestQuery {
        chain_id: chain_key(state.chain(query.chain_id.as_deref())?),
        status: query.status,
        agent_id: match &query.agent_id {
            Some(text) => Some(parameter::uint256("agentId", text)?),
            None => None,
        },
        payer: match &query.payer {
            Some(text) => Some(parameter::address("payer", text)?.to_vec()),
            None => None,
        },
        after: parameter::after("after", query.after.as_deref())?,
        // One row more says whether there is a next page.
        limit: limit + 1,
    };
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let block = query.block.as_deref();
    let at = at::block(&mut snapshot, narrowed.chain_id, block, query.finality).await?;
    let mut places = match at {
        None => request_store::page_now(&mut snapshot, &narrowed).await?,
        Some(block) => request_store::page_at(&mut snapshot, &narrowed, block).await?,
    };
    let more = limit < places.len() as i64;
    places.truncate(usize::try_from(limit).unwrap_or_default());
    let items = request_view::load(&mut snapshot, &places).await?;
    let next = if more { items.last().map(RequestView::place) } else { None };
    Ok(Json(Page { items, next }))
}

/// One request, with its answer once there is one.
#[utoipa::path(
    get,
    path = "/v1/requests/{requestId}",
    tag = "requests",
    params(("requestId" = String, Path, description = "0x-hex, 32 bytes.")),
    responses(
        (status = 200, body = RequestView),
        (status = 400, description = "The id is no hash.", body = ErrorBody),
        (status = 404, description = "No such request is indexed.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn show(
    State(state): State<ServeState>,
    Path(id): Path<String>,
) -> Result<Json<RequestView>, ApiError> {
    let request_id = parameter::hash("requestId", &id)?;
    let mut snapshot = snapshot::begin(&state.pool).await?;
    let places = request_store::current(&mut snapshot, request_id).await?;
    let mut views = request_view::load(&mut snapshot, &places).await?;
    match views.pop() {
        Some(view) => Ok(Json(view)),
        None => Err(ApiError::NotFound(format!(
            "requestId: no request {request_id:#x} is indexed; if its transaction was just mined, ask again in a moment"
        ))),
    }
}
