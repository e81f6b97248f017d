//! GraphQL over HTTP, over Server-Sent Events, and over WebSocket.

use std::convert::Infallible;
use std::sync::Arc;

use async_graphql::{Executor, Request as GraphqlRequest};
use async_graphql_axum::{GraphQLProtocol, GraphQLWebSocket};
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::engine::{Engine, Query, refused, views};
use super::error::Refusal;
use crate::serve::error::ApiError;
use crate::serve::limits::{QUERY_BYTES_MAX, SOCKET_OPERATIONS_MAX, STREAM_HEARTBEAT};
use crate::serve::parameter::{Params, Payload};
use crate::serve::state::ServeState;

/// Which chain a request to `/graphql` is about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in super::super) struct ChainQuery {
    chain_id: Option<String>,
}

/// `POST /graphql`, with `?chainId=` for another chain than the first.
pub(in super::super) async fn http(
    State(state): State<ServeState>,
    Params(query): Params<ChainQuery>,
    headers: HeaderMap,
    Payload(body): Payload,
) -> Result<Response, ApiError> {
    let engine = engine(state, query.chain_id.as_deref())?;
    Ok(answer(engine, &headers, &body).await)
}

/// `POST /subgraphs/name/{name}`, where graph-node serves a subgraph: `auspex`, or `auspex-<chain id>`.
pub(in super::super) async fn named(
    State(state): State<ServeState>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Payload(body): Payload,
) -> Result<Response, ApiError> {
    let chain = match name.strip_prefix("auspex") {
        Some("") => None,
        Some(rest) => rest.strip_prefix('-').map(str::to_owned),
        None => Some(name.clone()),
    };
    let engine = engine(state, chain.as_deref())?;
    Ok(answer(engine, &headers, &body).await)
}

/// `GET /graphql/ws`: queries and subscriptions by the protocols `graphql-transport-ws` and `graphql-ws`.
pub(in super::super) async fn websocket(
    State(state): State<ServeState>,
    Params(query): Params<ChainQuery>,
    protocol: GraphQLProtocol,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let permit = state.admit_reader()?;
    let mut engine = engine(state, query.chain_id.as_deref())?;
    engine.operations = Some(Arc::new(Semaphore::new(SOCKET_OPERATIONS_MAX)));
    let closed = engine.state.hub.closed();
    let socket = upgrade
        .protocols(async_graphql::http::ALL_WEBSOCKET_PROTOCOLS)
        .max_message_size(QUERY_BYTES_MAX)
        .on_upgrade(move |socket| async move {
            let served = GraphQLWebSocket::new(socket, engine, protocol)
                .keepalive_timeout(STREAM_HEARTBEAT * 2)
                .serve();
            tokio::select! {
                () = closed.cancelled() => {}
                () = served => {}
            }
            drop(permit);
        });
    Ok(socket.into_response())
}

/// The name under which a chain's data is known, where graph-node has the hash of a deployment.
pub(super) fn deployment_name(chain_id: u64) -> String {
    format!("auspex-{chain_id}")
}

fn engine(state: ServeState, chain_id: Option<&str>) -> Result<Engine, ApiError> {
    let wanted = state.chain(chain_id)?.chain_id;
    let chain = state.chains.iter().position(|chain| chain.chain_id == wanted).unwrap_or_default();
    Ok(Engine { state, chain, operations: None })
}

async fn answer(engine: Engine, headers: &HeaderMap, body: &[u8]) -> Response {
    if QUERY_BYTES_MAX < body.len() {
        return ApiError::TooLarge(format!(
            "query: {} bytes, over the limit of {QUERY_BYTES_MAX}",
            body.len()
        ))
        .into_response();
    }
    let query = match read(body) {
        Ok(query) => query,
        Err(refusal) => {
            return json(StatusCode::BAD_REQUEST, refused(&views(refusal)));
        }
    };
    let streamed = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    if streamed {
        events(&engine, query)
    } else {
        json(StatusCode::OK, engine.answer(&query).await)
    }
}

fn read(body: &[u8]) -> Result<Query, Refusal> {
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::Batch);
    }
    serde_json::from_slice(body).map_err(|error| Refusal::Document {
        message: format!("The body is not a GraphQL request: {error}"),
        position: None,
    })
}

/// GraphQL over Server-Sent Events, in the mode of one connection per operation: `next` per answer, then `complete`.
fn events(engine: &Engine, query: Query) -> Response {
    let mut request =
        GraphqlRequest::new(query.query).variables(query.variables.unwrap_or_default());
    if let Some(name) = query.operation_name {
        request = request.operation_name(name);
    }
    let answers = engine.execute_stream(request, None).map(|answer| {
        let data = serde_json::to_string(&answer).unwrap_or_default();
        Event::default().event("next").data(data)
    });
    let end = stream::once(async { Event::default().event("complete").data("") });
    let events = answers.chain(end).map(Ok::<_, Infallible>);
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(STREAM_HEARTBEAT).text("alive"))
        .into_response()
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
