//! Our models behind OpenAI's interface.

use std::sync::Arc;

use auspex_inference::decoder::Generator;
use auspex_inference::{Engine, Reranker};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::wire::{ChatRequest, EmbeddingRequest, RerankRequest};
use super::{chat, rerank, vectors};
use crate::meter::ProcessMeters;

/// Largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The models that are served, each under a name.
#[derive(Debug, Clone, Default)]
pub struct Models {
    pub chat: Option<(String, Generator)>,
    pub embedding: Option<(String, Engine)>,
    /// Scores documents for `/v1/rerank`, where the embedding model can stand in for it.
    pub reranking: Option<(String, Reranker)>,
    /// Who has this key may ask; everybody when there is none.
    pub key: Option<SecretString>,
}

/// The routes.
pub fn app(models: Models) -> Router {
    let models = Arc::new(models);
    // What happens before somebody asks for the metrics is counted too. When another recorder is there
    // already, whoever asks is told.
    let _ = ProcessMeters::install();
    Router::new()
        .route("/v1/models", get(list))
        .route("/v1/chat/completions", post(complete))
        .route("/v1/embeddings", post(embed))
        .route("/v1/rerank", post(rerank))
        .route("/metrics", get(measured))
        .fallback(|| async { Failure::no_route() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&models), authorize))
        .route("/health", get(|| async { "ok\n" }))
        .with_state(models)
}

/// Serves until told to stop.
pub async fn serve(
    listener: TcpListener,
    models: Models,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let keep = ProcessMeters::install()?.keep(shutdown.clone());
    let server =
        axum::serve(listener, app(models)).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::try_join!(keep, async { Ok(server.await?) })?;
    Ok(())
}

async fn authorize(State(models): State<Arc<Models>>, request: Request, next: Next) -> Response {
    if let Some(key) = &models.key {
        let sent = request.headers().get(header::AUTHORIZATION);
        let sent = sent.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        // Digests are compared, so that the time tells nothing about the key.
        let digest = |text: &str| Sha256::digest(text.as_bytes());
        if sent.map(digest) != Some(digest(key.expose_secret())) {
            return Failure::unauthorized().into_response();
        }
    }
    next.run(request).await
}

/// What the models' threads have recorded, as Prometheus text.
async fn measured() -> Result<String, Failure> {
    let meters = ProcessMeters::install().map_err(|error| Failure::server(format!("{error:#}")))?;
    Ok(meters.text())
}

async fn list(State(models): State<Arc<Models>>) -> Json<Value> {
    let hash = |hash: [u8; 32]| format!("0x{}", hex::encode(hash));
    let model = |name: &String, task: &str, hash: String| {
        json!({
            "id": name, "object": "model", "created": 0, "owned_by": "auspex",
            "task": task, "model_hash": hash,
        })
    };
    let mut data = Vec::new();
    if let Some((name, generator)) = &models.chat {
        data.push(model(name, "chat", hash(generator.model_hash())));
    }
    if let Some((name, engine)) = &models.embedding {
        let mut embedding = model(name, "embedding", hash(engine.model_hash()));
        embedding["profile"] = engine.profile().to_string().into();
        data.push(embedding);
    }
    if let Some((name, reranker)) = &models.reranking {
        data.push(model(name, "rerank", hash(reranker.model_hash())));
    }
    Json(json!({"object": "list", "data": data}))
}

async fn complete(
    State(models): State<Arc<Models>>,
    request: Result<Json<ChatRequest>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(request) = request?;
    let (name, generator) = find(models.chat.as_ref(), &request.model)?;
    chat::answer(generator, name.clone(), request).await
}

async fn embed(
    State(models): State<Arc<Models>>,
    request: Result<Json<EmbeddingRequest>, JsonRejection>,
) -> Result<Json<Value>, Failure> {
    let Json(request) = request?;
    let (_, engine) = find(models.embedding.as_ref(), &request.model)?;
    Ok(Json(vectors::embed(engine, request).await?))
}

async fn rerank(
    State(models): State<Arc<Models>>,
    request: Result<Json<RerankRequest>, JsonRejection>,
) -> Result<Json<Value>, Failure> {
    let Json(request) = request?;
    let asked = |name: &str| name == request.model;
    if let Some((_, reranker)) = models.reranking.as_ref().filter(|(name, _)| asked(name)) {
        return Ok(Json(rerank::by_cross_encoder(reranker, request).await?));
    }
    if let Some((_, engine)) = models.embedding.as_ref().filter(|(name, _)| asked(name)) {
        return Ok(Json(rerank::by_vectors(engine, request).await?));
    }
    let reranking = models.reranking.iter().map(|(name, _)| name.clone());
    let embedding = models.embedding.iter().map(|(name, _)| name.clone());
    Err(Failure::no_model(&request.model, &reranking.chain(embedding).collect::<Vec<_>>()))
}

fn find<'a, T>(there: Option<&'a (String, T)>, asked: &str) -> Result<&'a (String, T), Failure> {
    let names: Vec<String> = there.iter().map(|(name, _)| name.clone()).collect();
    there.filter(|(name, _)| name == asked).ok_or_else(|| Failure::no_model(asked, &names))
}
