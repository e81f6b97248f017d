//! `/health`, `/ready` and `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::rest::status;
use super::state::ServeState;

/// Whether this process can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// One sentence per chain that is not ready.
    reasons: Vec<String>,
}

/// The process is alive.
#[utoipa::path(get, path = "/health", tag = "status", responses((status = 200, description = "The process is alive.")))]
pub(super) async fn health() -> &'static str {
    "ok"
}

/// The indexer follows all its chains, near their heads.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "status",
    responses(
        (status = 200, body = Readiness),
        (status = 503, description = "Not ready, with the reasons.", body = Readiness),
    ),
)]
pub(super) async fn ready(State(state): State<ServeState>) -> Result<Response, ApiError> {
    let mut reasons = Vec::new();
    for deployment in state.chains.iter() {
        let chain = status::chain(&state, deployment).await?;
        if let Some(reason) = chain.reason {
            reasons.push(format!("chain {}: {reason}", chain.chain_id));
        }
    }
    if state.chains.is_empty() {
        reasons.push("no chain is configured".to_owned());
    }
    let ready = reasons.is_empty();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((code, Json(Readiness { ready, reasons })).into_response())
}

/// Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "status", responses((status = 200, description = "Prometheus' text format.", content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(state): State<ServeState>) -> Response {
    let pool = &state.pool;
    metrics::gauge!("auspex_database_connections").set(f64::from(pool.size()));
    metrics::gauge!("auspex_stream_readers").set(state.reader_count() as f64);
    let text = state.metrics.render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
