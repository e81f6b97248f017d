//! Calls to the anvil behind a kept chain.

use axum::body::Bytes;
use serde_json::{Value, json};
use url::Url;

/// The anvil of the moment. Each start has a port of its own, so that no call reaches one that is not itself again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) pid: u32,
    pub(super) http: Url,
    pub(super) websocket: Url,
}

/// A call's result, or the JSON-RPC error object with which it was refused.
pub(super) type Answer = Result<Value, Value>;

/// anvil did not answer: it was killed, or is about to be.
#[derive(Debug, thiserror::Error)]
#[error("anvil does not answer: {0}")]
pub(super) struct Gone(String);

impl Gone {
    pub(super) fn not_running() -> Self {
        Self("it does not run".to_owned())
    }
}

/// Passes a body on as it is.
pub(super) async fn forward(
    client: &reqwest::Client,
    upstream: &Upstream,
    body: Bytes,
) -> Result<Bytes, Gone> {
    let send = async {
        let request = client.post(upstream.http.clone()).body(body);
        let reply = request.header("content-type", "application/json").send().await?;
        reply.bytes().await
    };
    send.await.map_err(|error: reqwest::Error| Gone(error.without_url().to_string()))
}

/// Makes one call.
pub(super) async fn call(
    client: &reqwest::Client,
    upstream: &Upstream,
    method: &str,
    params: &Value,
) -> Result<Answer, Gone> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let reply = forward(client, upstream, body.into()).await?;
    let mut reply: Value = serde_json::from_slice(&reply)
        .map_err(|error| Gone(format!("its answer to {method} is not JSON: {error}")))?;
    match reply.get_mut("error") {
        Some(error) => Ok(Err(error.take())),
        None => Ok(Ok(reply["result"].take())),
    }
}
