//! The indexer's surface that a node uses, kept up to date by one task that reads the escrow's events. It remembers when a
//! node could first have seen each request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::B256;
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use anyhow::Context;
use auspex_protocol::bindings::IRequestEscrow::{Delivered, Requested};
use auspex_protocol::document::{OfferDocument, OperatorSetDocument, RequestDocument};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::scene::chain::Scene;

/// How often the chain is read.
const INTERVAL: Duration = Duration::from_millis(10);

/// A running listing. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) url: String,
    memory: Arc<Memory>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Memory {
    offer: OfferDocument,
    set: OperatorSetDocument,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By sequence number.
    funded: BTreeMap<u64, String>,
    sequences: BTreeMap<B256, u64>,
    times: BTreeMap<B256, Times>,
}

/// Unix seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) listed: f64,
    pub(crate) delivered: Option<f64>,
}

impl Listing {
    pub(crate) async fn start(scene: &Scene) -> anyhow::Result<Self> {
        let memory = Arc::new(Memory {
            offer: OfferDocument::from(&scene.offer),
            set: OperatorSetDocument::from(&scene.set),
            seen: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind a port")?;
        let url = format!("http://{}", listener.local_addr()?);
        let app = Router::new()
            .route("/v1/requests", get(requests))
            .route("/v1/requests/{id}/messages", get(messages).post(post))
            .route("/v1/answers/{hash}", put(store))
            .with_state(Arc::clone(&memory));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        let escrow = Filter::new().address(scene.deployment.request_escrow);
        tasks.spawn(follow(scene.provider.clone(), escrow, Arc::clone(&memory)));
        Ok(Self { url, memory, _tasks: tasks })
    }

    pub(crate) fn times(&self, request_id: B256) -> Option<Times> {
        self.memory.seen().times.get(&request_id).copied()
    }

    /// How many of the requests are delivered.
    pub(crate) fn delivered(&self, requests: &[B256]) -> usize {
        let seen = self.memory.seen();
        let delivered = |id: &&B256| seen.times.get(*id).is_some_and(|at| at.delivered.is_some());
        requests.iter().filter(delivered).count()
    }
}

impl Memory {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow(provider: DynProvider, escrow: Filter, memory: Arc<Memory>) {
    let mut next = 0;
    loop {
        // An endpoint that a measurement cuts off is asked again.
        if let Ok(head) = provider.get_block_number().await
            && next <= head
            && let Ok(logs) =
                provider.get_logs(&escrow.clone().from_block(next).to_block(head)).await
        {
            let mut seen = memory.seen();
            for log in &logs {
                seen.take(&memory, log);
            }
            next = head + 1;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Seen {
    fn take(&mut self, memory: &Memory, log: &alloy::rpc::types::Log) {
        if let Ok(event) = Requested::decode_log(&log.inner) {
            let id = event.requestId;
            let item = json!({
                "requestId": id,
                "sequence": event.sequence,
                "status": "funded",
                "finality": "latest",
                "blockNumber": log.block_number,
                "request": RequestDocument::from(&event.request),
                "input": event.input,
                "offer": memory.offer,
                "operatorSet": memory.set,
            });
            self.funded.insert(event.sequence, item.to_string());
            self.sequences.insert(id, event.sequence);
            self.times.insert(id, Times { listed: now(), delivered: None });
        } else if let Ok(event) = Delivered::decode_log(&log.inner)
            && let Some(sequence) = self.sequences.get(&event.requestId)
        {
            self.funded.remove(sequence);
            if let Some(times) = self.times.get_mut(&event.requestId) {
                times.delivered = Some(now());
            }
        }
    }
}

async fn requests(
    State(memory): State<Arc<Memory>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> impl IntoResponse {
    let number = |name: &str, absent: u64| {
        query.get(name).and_then(|text| text.parse().ok()).unwrap_or(absent)
    };
    let limit = usize::try_from(number("limit", 100)).unwrap_or(100);
    let seen = memory.seen();
    let after = seen.funded.range(number("after", 0) + 1..);
    let items: Vec<&str> = after.take(limit).map(|(_, item)| item.as_str()).collect();
    let page = format!(r#"{{"items":[{}],"next":null}}"#, items.join(","));
    ([(header::CONTENT_TYPE, "application/json")], page)
}

async fn messages() -> Json<Value> {
    Json(json!({ "items": [], "next": null }))
}

async fn post(Path(_): Path<B256>, _: axum::body::Bytes) -> StatusCode {
    StatusCode::ACCEPTED
}

async fn store(Path(_): Path<B256>, _: axum::body::Bytes) -> StatusCode {
    StatusCode::CREATED
}

pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
