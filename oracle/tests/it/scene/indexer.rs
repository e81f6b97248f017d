//! The indexer's surface that a node uses, over what the chain says at this moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{B256, Bytes, keccak256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use auspex_protocol::bindings::IRequestEscrow::{self, Offer, OperatorSet, Split, Status};
use auspex_protocol::deployment::Deployment;
use auspex_protocol::document::{
    OfferDocument, OperatorSetDocument, RequestDocument, SplitDocument,
};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::chain::Scene;

/// A running indexer. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Indexer {
    pub(crate) url: String,
    memory: Arc<Memory>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Memory {
    provider: DynProvider,
    deployment: Deployment,
    offer: Offer,
    split: Split,
    set: OperatorSet,
    messages: Mutex<BTreeMap<B256, Vec<Value>>>,
    answers: Mutex<BTreeMap<B256, Bytes>>,
    is_full: AtomicBool,
}

impl Indexer {
    pub(crate) async fn start(scene: &Scene) -> Self {
        let memory = Arc::new(Memory {
            provider: scene.provider.clone(),
            deployment: scene.deployment.clone(),
            offer: scene.offer.clone(),
            split: scene.split.clone(),
            set: scene.set.clone(),
            messages: Mutex::default(),
            answers: Mutex::default(),
            is_full: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new()
            .route("/v1/requests", get(requests))
            .route("/v1/requests/{id}/messages", get(messages).post(post))
            .route("/v1/accounts/{account}/credits", get(credits))
            .route("/v1/answers/{hash}", put(store))
            .with_state(Arc::clone(&memory));
        let task = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("serve");
        });
        Self { url, memory, task }
    }

    pub(crate) fn answer(&self, output_hash: B256) -> Option<Bytes> {
        self.memory.answers.lock().expect("answers").get(&output_hash).cloned()
    }

    /// From now on answers find no room, or room again.
    pub(crate) fn fill(&self, is_full: bool) {
        self.memory.is_full.store(is_full, Ordering::Relaxed);
    }

    pub(crate) fn messages(&self, request_id: B256) -> Vec<Value> {
        self.memory.messages.lock().expect("messages").get(&request_id).cloned().unwrap_or_default()
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn requests(
    State(memory): State<Arc<Memory>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    let after: u64 = query["after"].parse().expect("after");
    assert_eq!(query["status"], "funded");
    let escrow = memory.deployment.request_escrow;
    let finalized = memory
        .provider
        .get_block_by_number(BlockNumberOrTag::Finalized)
        .await
        .expect("a block")
        .map_or(0, |block| block.header.number);
    let filter = Filter::new()
        .from_block(0)
        .address(escrow)
        .event_signature(IRequestEscrow::Requested::SIGNATURE_HASH);
    let mut items = Vec::new();
    for log in memory.provider.get_logs(&filter).await.expect("logs") {
        let event = IRequestEscrow::Requested::decode_log(&log.inner).expect("decode").data;
        let status = IRequestEscrow::new(escrow, &memory.provider)
            .statusOf(event.requestId)
            .call()
            .await
            .expect("status");
        if status != Status::Funded || event.sequence <= after {
            continue;
        }
        let block_number = log.block_number.expect("a block number");
        let finality = if block_number <= finalized { "finalized" } else { "latest" };
        items.push(json!({
            "requestId": event.requestId,
            "sequence": event.sequence,
            "status": "funded",
            "finality": finality,
            "blockNumber": block_number,
            "request": RequestDocument::from(&event.request),
            "input": event.input,
            "offer": OfferDocument::from(&memory.offer),
            "operatorSet": OperatorSetDocument::from(&memory.set),
        }));
    }
    Json(json!({ "items": items, "next": null }))
}

/// The account has a share of the scene's split, whatever it holds.
async fn credits(State(memory): State<Arc<Memory>>) -> Json<Value> {
    let split = SplitDocument::from(&memory.split);
    let item = json!({ "token": memory.offer.token, "splits": [split] });
    Json(json!({ "items": [item] }))
}

async fn messages(State(memory): State<Arc<Memory>>, Path(id): Path<B256>) -> Json<Value> {
    let messages = memory.messages.lock().expect("messages");
    let items: Vec<Value> = messages
        .get(&id)
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(n, envelope)| json!({ "n": n + 1, "envelope": envelope }))
        .collect();
    Json(json!({ "items": items, "next": null }))
}

async fn post(
    State(memory): State<Arc<Memory>>,
    Path(id): Path<B256>,
    Json(envelope): Json<Value>,
) -> StatusCode {
    let mut messages = memory.messages.lock().expect("messages");
    let known = messages.entry(id).or_default();
    if known.contains(&envelope) {
        return StatusCode::OK;
    }
    known.push(envelope);
    StatusCode::ACCEPTED
}

async fn store(
    State(memory): State<Arc<Memory>>,
    Path(hash): Path<B256>,
    body: axum::body::Bytes,
) -> StatusCode {
    if keccak256(&body) != hash {
        return StatusCode::BAD_REQUEST;
    }
    if memory.is_full.load(Ordering::Relaxed) {
        return StatusCode::TOO_MANY_REQUESTS;
    }
    memory.answers.lock().expect("answers").insert(hash, body.into());
    StatusCode::CREATED
}
