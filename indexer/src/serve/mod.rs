//! What the indexer answers: REST, GraphQL, a live stream, and pages for people.
//!
//! Handlers never cancel database work (see `layer`), every answer is read from one snapshot (see `snapshot`), and
//! every limit is in [`limits`]. This process keeps no state that matters: any number of it can serve one database.

mod address;
mod error;
pub(crate) mod graphql;
mod health;
mod layer;
pub mod limits;
mod listener;
mod openapi;
mod page;
mod parameter;
pub mod partial;
mod rest;
mod snapshot;
mod socket;
mod state;
mod stream;
mod trouble;

pub use listener::ConnectionLimits;
pub use state::{ReadyLimits, ServeState};
pub use stream::OUTBOX_CHANNEL;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post, put};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{Any, CorsLayer};
use utoipa::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use self::error::ApiError;
use self::limits::{ANSWERS_SWEEP, BODY_BYTES_MAX, SHUTDOWN_TIME_MAX};

/// Serves on `listener` until `shutdown`, then lets open requests end. Returns an error when a part of it dies earlier.
pub async fn serve(
    listener: TcpListener,
    limits: ConnectionLimits,
    state: ServeState,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("read the listener's address")?;
    tracing::info!(%address, "serving");
    let stop = shutdown.child_token();
    let hub = tokio::spawn({
        let (hub, stop) = (state.hub.clone(), stop.clone());
        async move { hub.run(stop).await }
    });
    let accepting =
        tokio::spawn(listener::accept(listener, limits, app(state.clone()), stop.clone()));
    let mut parts = [("live stream", hub), ("accept loop", accepting)];

    let first = futures::future::select_all(parts.iter_mut().map(|(_, part)| part)).await;
    let early = !shutdown.is_cancelled();
    stop.cancel();
    let (ended, index, _) = first;
    let name = parts[index].0;
    for (other, (_, part)) in parts.iter_mut().enumerate() {
        if other != index && part.await.is_err() {
            tracing::error!("a part of the server panicked while it stopped");
        }
    }
    state.tasks.close();
    if tokio::time::timeout(SHUTDOWN_TIME_MAX, state.tasks.wait()).await.is_err() {
        tracing::warn!("requests were still open after {SHUTDOWN_TIME_MAX:?} and are cut");
    }
    ended.with_context(|| format!("run the {name}"))?;
    anyhow::ensure!(!early, "the {name} ended although nobody asked it to");
    Ok(())
}

/// Everything that is served, as one service; tests call it without a socket.
pub fn app(state: ServeState) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT])
        .allow_headers(Any)
        .expose_headers([header::HeaderName::from_static("x-request-id")]);
    Router::new()
        .route("/v1/requests", get(rest::request::list))
        .route("/v1/requests/{requestId}", get(rest::request::show))
        .route("/v1/requests/{requestId}/messages", get(rest::board::list).post(rest::board::post))
        .route("/v1/answers/{outputHash}", put(rest::answer::put).get(rest::answer::get))
        .route("/v1/agents", get(rest::agent::list))
        .route("/v1/agents/{agentId}", get(rest::agent::show))
        .route("/v1/offers", get(rest::offer::list))
        .route("/v1/offers/{offerHash}", get(rest::offer::show))
        .route("/v1/operators", get(rest::operator::list))
        .route("/v1/operators/{owner}", get(rest::operator::show))
        .route("/v1/operator-sets/{setId}", get(rest::operator::set))
        .route("/v1/accounts/{address}/credits", get(rest::account::credits))
        .route("/v1/status", get(rest::status::status))
        .route("/v1/digest", get(rest::digest::range))
        .route("/v1/stream", get(stream::stream))
        .route("/graphql", post(graphql::http).get(page::query))
        .route("/graphql/ws", get(graphql::websocket))
        .route("/graphiql", get(page::graphiql))
        .route("/subgraphs/name/{name}", post(graphql::named))
        .route("/ready", get(health::ready))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi::ApiDocument::openapi()))
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(state.clone(), layer::detach))
        // The three below need no database and must answer also when everything else is at its limit.
        .route("/", get(page::status))
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(cors)
        .layer(from_fn(layer::observe))
        .with_state(state)
}

async fn missing() -> ApiError {
    ApiError::NotFound("there is nothing at this path; /docs lists what there is".into())
}

async fn wrong_method() -> ApiError {
    ApiError::WrongMethod("this path does not take that method; /docs lists what it takes".into())
}

/// Drops answers that no result has named for a long time, until `shutdown`.
pub async fn sweep(pool: PgPool, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(ANSWERS_SWEEP) => {}
        }
        match rest::answer::sweep(&pool).await {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "answers that no result named were dropped"),
            Err(error) => tracing::warn!(%error, "unclaimed answers could not be swept"),
        }
    }
}
