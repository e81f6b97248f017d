//! The node's HTTP side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::B256;
use anyhow::Context;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::answer::{Answer, answer};
use super::block::{Branch, ReplayBlock};
use super::fault::Faults;

/// A running node. It stops when this is dropped.
#[derive(Debug)]
pub struct Replay {
    url: String,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

/// What was asked of a node so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// HTTP requests, and the calls within them.
    pub requests: u64,
    pub calls: u64,
    /// Bytes of the answers' bodies.
    pub bytes: u64,
    pub log_queries: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) chain_id: u64,
    pub(super) known: BTreeMap<B256, Arc<ReplayBlock>>,
    pub(super) safe_lag: u64,
    pub(super) finalized_lag: u64,
    pub(super) faults: Faults,
    pub(super) emptied: BTreeSet<B256>,
    branch: Branch,
    head: u64,
    withheld: BTreeMap<u64, u32>,
    traffic: Traffic,
}

impl State {
    /// The head as this call's node sees it.
    pub(super) fn seen_head(&self) -> u64 {
        if 0 < self.faults.behind && self.traffic.requests.is_multiple_of(2) {
            return self.head.saturating_sub(self.faults.behind);
        }
        self.head
    }

    pub(super) fn at(&self, number: u64) -> Option<Arc<ReplayBlock>> {
        self.branch.block(number).cloned()
    }

    /// Whether a block that exists is answered with null this time.
    pub(super) fn withholds(&mut self, number: u64) -> bool {
        if self.faults.null_first == 0 {
            return false;
        }
        let times = self.withheld.entry(number).or_default();
        *times += 1;
        *times <= self.faults.null_first
    }
}

impl Replay {
    /// Serves the blocks of a branch up to `head` on a free port of 127.0.0.1. Blocks are safe and final this far behind
    /// the head; at or beyond its height there are none.
    pub async fn start(
        chain_id: u64,
        branch: Branch,
        head: u64,
        (safe_lag, finalized_lag): (u64, u64),
    ) -> anyhow::Result<Self> {
        let known = branch.blocks().iter().map(|block| (block.hash, Arc::clone(block))).collect();
        let state = Arc::new(Mutex::new(State {
            chain_id,
            known,
            safe_lag,
            finalized_lag,
            faults: Faults::default(),
            emptied: BTreeSet::new(),
            branch,
            head,
            withheld: BTreeMap::new(),
            traffic: Traffic::default(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind the replay node")?;
        let url = format!("http://{}", listener.local_addr().context("read the node's address")?);
        let serving = Arc::clone(&state);
        let app = Router::new()
            .route("/", post(move |body: Bytes| serve(Arc::clone(&serving), body)))
            .layer(axum::extract::DefaultBodyLimit::disable());
        // As at a real endpoint, no part of an answer is held back until another was acknowledged.
        let listener = listener.tap_io(|socket| {
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "a connection delays its answers");
            }
        });
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the replay node ended");
            }
        });
        Ok(Self { url, state, task: task.abort_handle() })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What was asked since the last call.
    pub fn take_traffic(&self) -> Traffic {
        std::mem::take(&mut self.lock().traffic)
    }

    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Moves the head along the branch.
    pub fn set_head(&self, head: u64) {
        let mut state = self.lock();
        state.head = head.min(state.branch.head());
    }

    /// Serves another branch from now on, up to `head`; blocks of the former ones are still found by hash.
    pub fn switch(&self, branch: Branch, head: u64) {
        let mut state = self.lock();
        for block in branch.blocks() {
            state.known.insert(block.hash, Arc::clone(block));
        }
        state.head = head.min(branch.head());
        state.branch = branch;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(state: Arc<Mutex<State>>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "not JSON").into_response();
    };
    let (text, latency) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.traffic.requests += 1;
        let refuses = |every| state.traffic.requests.is_multiple_of(every);
        if state.faults.refuse_every.is_some_and(refuses) {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
        }
        if state.faults.page_every.is_some_and(refuses) {
            return axum::response::Html("<h1>Just a moment</h1>").into_response();
        }
        let calls = request.as_array().map_or(1, Vec::len);
        if state.faults.calls_max.is_some_and(|most| most < calls) {
            let error = json!({ "code": -32_600, "message": "batch size exceeded" });
            let answer = json!({ "jsonrpc": "2.0", "id": null, "error": error });
            return Json(answer).into_response();
        }
        let mut text = String::new();
        let is_answered = match &request {
            Value::Array(calls) => {
                text.push('[');
                let all = calls.iter().enumerate().all(|(place, call)| {
                    text.push_str(if place == 0 { "" } else { "," });
                    respond(&mut state, call, &mut text)
                });
                text.push(']');
                all
            }
            call => respond(&mut state, call, &mut text),
        };
        let text = is_answered.then_some(text);
        if let Some(text) = &text {
            state.traffic.bytes += text.len() as u64;
        }
        (text, state.faults.latency)
    };
    let Some(text) = text else {
        // Longer than anybody waits.
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    };
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Appends a call's answer, with few copies: measurements share their processors with this node. False when the call is never
/// answered.
fn respond(state: &mut State, call: &Value, text: &mut String) -> bool {
    state.traffic.calls += 1;
    let method = call["method"].as_str().unwrap_or_default();
    if method == "eth_getLogs" {
        state.traffic.log_queries += 1;
    }
    let id = call["id"].to_string();
    let (member, value) = match answer(state, method, &call["params"]) {
        Answer::Result(result) => ("result", result),
        Answer::Error { code, message } => {
            let message = Value::from(message);
            ("error", format!("{{\"code\":{code},\"message\":{message}}}"))
        }
        Answer::Silence => return false,
    };
    text.reserve(value.len() + 64);
    for part in ["{\"jsonrpc\":\"2.0\",\"id\":", &id, ",\"", member, "\":", &value, "}"] {
        text.push_str(part);
    }
    true
}
