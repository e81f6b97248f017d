//! What people connect to: JSON-RPC over HTTP and WebSocket. Calls that read go to anvil as they are; calls that may change
//! the chain go through its keeper, one at a time.

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_tungstenite::tungstenite;
use tower_http::cors::CorsLayer;

use super::keeper::{Command, failure};
use super::method::{Action, action};
use super::upstream::{Upstream, forward};
use crate::limits::{CHAIN_CALL_BYTES_MAX, CHAIN_RETURN_DEADLINE, CHAIN_RETURN_POLL};

const PARSE_ERROR: i64 = -32_700;

/// What every connection shares.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) client: reqwest::Client,
    pub(super) upstream: watch::Receiver<Option<Upstream>>,
    pub(super) commands: mpsc::Sender<Command>,
}

/// The chain was not itself again in time.
#[derive(Debug)]
struct Unavailable;

/// Both transports on one path, as anvil has them.
pub(super) fn router(gate: Gate) -> Router {
    Router::new()
        .route("/", post(over_http).get(over_websocket))
        .layer(DefaultBodyLimit::max(CHAIN_CALL_BYTES_MAX))
        // Pages of developers call their chain from the browser.
        .layer(CorsLayer::permissive())
        .with_state(gate)
}

async fn over_http(State(gate): State<Gate>, body: Bytes) -> Response {
    match gate.answer(body).await {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(Unavailable) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the chain is being restored").into_response()
        }
    }
}

async fn over_websocket(State(gate): State<Gate>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(CHAIN_CALL_BYTES_MAX).on_upgrade(move |client| relay(gate, client))
}

impl Gate {
    /// The text of a body's answer, be it one call or a batch.
    async fn answer(&self, body: Bytes) -> Result<Bytes, Unavailable> {
        let calls = match serde_json::from_slice::<Value>(&body) {
            Ok(calls) => calls,
            Err(error) => {
                let error = json!({"code": PARSE_ERROR, "message": format!("not JSON: {error}")});
                return Ok(reply(&Value::Null, Err(error)).to_string().into());
            }
        };
        if !may_write(&calls) {
            return self.read(body).await;
        }
        let Value::Array(calls) = calls else {
            return Ok(self.one(calls).await?.to_string().into());
        };
        let mut replies = Vec::with_capacity(calls.len());
        for call in calls {
            replies.push(self.one(call).await?);
        }
        Ok(Value::Array(replies).to_string().into())
    }

    async fn one(&self, mut call: Value) -> Result<Value, Unavailable> {
        if !may_write(&call) {
            let text = self.read(call.to_string().into()).await?;
            return serde_json::from_slice(&text).map_err(|_| Unavailable);
        }
        let id = call["id"].take();
        let method = call["method"].as_str().unwrap_or_default().to_owned();
        let (sender, receiver) = oneshot::channel();
        let command = Command { method, params: call["params"].take(), reply: sender };
        self.commands.send(command).await.map_err(|_| Unavailable)?;
        let answer = receiver.await.unwrap_or_else(|_| Err(failure("the chain is being stopped")));
        Ok(reply(&id, answer))
    }

    /// Passes calls on that change nothing. When anvil is killed over them they are made again.
    async fn read(&self, body: Bytes) -> Result<Bytes, Unavailable> {
        let deadline = Instant::now() + CHAIN_RETURN_DEADLINE;
        loop {
            let upstream = self.open_by(deadline).await?;
            if let Ok(answer) = forward(&self.client, &upstream, body.clone()).await {
                return Ok(answer);
            }
            if deadline <= Instant::now() {
                return Err(Unavailable);
            }
            sleep(CHAIN_RETURN_POLL).await;
        }
    }

    async fn open_by(&self, deadline: Instant) -> Result<Upstream, Unavailable> {
        let mut upstream = self.upstream.clone();
        let open = timeout_at(deadline, upstream.wait_for(Option::is_some)).await;
        match open {
            Ok(Ok(open)) => open.clone().ok_or(Unavailable),
            Ok(Err(_)) | Err(_) => Err(Unavailable),
        }
    }
}

/// A connection lives no longer than the anvil that its subscriptions are with; clients connect again.
async fn relay(gate: Gate, mut client: WebSocket) {
    let deadline = Instant::now() + CHAIN_RETURN_DEADLINE;
    let Ok(upstream) = gate.open_by(deadline).await else { return };
    let connected = tokio_tungstenite::connect_async(upstream.websocket.as_str()).await;
    let Ok((mut server, _)) = connected else { return };
    loop {
        tokio::select! {
            message = client.recv() => {
                let text = match message {
                    Some(Ok(Message::Text(text))) => Bytes::from(text),
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                };
                let calls = serde_json::from_slice(&text).unwrap_or(Value::Null);
                if may_write(&calls) {
                    let Ok(answer) = gate.answer(text).await else { return };
                    let answer = String::from_utf8_lossy(&answer).into_owned();
                    if client.send(Message::Text(answer.into())).await.is_err() {
                        return;
                    }
                    continue;
                }
                let text = String::from_utf8_lossy(&text).into_owned();
                if server.send(tungstenite::Message::text(text)).await.is_err() {
                    return;
                }
            }
            message = server.next() => {
                let text = match message {
                    Some(Ok(tungstenite::Message::Text(text))) => text.as_str().to_owned(),
                    Some(Ok(tungstenite::Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => continue,
                };
                if client.send(Message::Text(text.into())).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn may_write(calls: &Value) -> bool {
    let writes = |call: &Value| {
        let method = call["method"].as_str().unwrap_or_default();
        action(method, &call["params"]) != Action::Read
    };
    match calls {
        Value::Array(calls) => calls.iter().any(writes),
        call => writes(call),
    }
}

fn reply(id: &Value, answer: Result<Value, Value>) -> Value {
    match answer {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
    }
}
