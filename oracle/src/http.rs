//! The node's own HTTP surface, for its operator and its monitoring.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::job::summary::counts;
use crate::meter::Ages;
use crate::model::report;
use crate::status::{Status, Watch};

/// The routes.
pub fn app(watch: Arc<Watch>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .with_state(watch)
}

/// Serves until told to stop.
pub async fn serve(
    listener: TcpListener,
    watch: Arc<Watch>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    axum::serve(listener, app(watch)).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}

/// The process is alive.
async fn health() -> &'static str {
    "ok\n"
}

/// The node makes progress: it sees the chain, the indexer and its database.
async fn ready(State(watch): State<Arc<Watch>>) -> Response {
    let obstacles = watch.obstacles().await;
    if obstacles.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", obstacles.join("\n"))).into_response()
}

async fn metrics(State(watch): State<Arc<Watch>>) -> Result<Response, Unavailable> {
    let jobs = counts(&watch.pool).await?;
    let ages = watch.heads.borrow().map_or(Ages::NEVER, |heads| Ages {
        read_seconds: heads.read_at.elapsed().as_secs_f64(),
        block_seconds: heads.arrived_at.elapsed().as_secs_f64(),
    });
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    let own = watch.meters.text(&jobs, ages) + &watch.process_meters.text();
    Ok((kind, own + &report::text()).into_response())
}

async fn status(State(watch): State<Arc<Watch>>) -> Result<Json<Status>, Unavailable> {
    Ok(Json(watch.status().await?))
}

/// Something behind the node does not answer; what exactly is logged and not told.
struct Unavailable(anyhow::Error);

impl From<anyhow::Error> for Unavailable {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        tracing::warn!(error = format!("{:#}", self.0), "a status request failed");
        let body = Json(serde_json::json!({ "error": {
            "code": "unavailable",
            "message": "the node's database does not answer; see the node's log"
        }}));
        (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
    }
}
