//! A WebSocket's new heads as a bell: it makes the follow loop look earlier, and nothing more. When it falls silent, the
//! loop's own timer goes on.

use std::sync::Arc;

use alloy::providers::{Provider, ProviderBuilder, WsConnect};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::RpcUrl;
use crate::limits::{RETRY_PAUSE_MAX, RPC_TIMEOUT};

/// Rings `bell` at every new head of a `ws:` or `wss:` endpoint until `shutdown`.
pub async fn ring(url: RpcUrl, bell: Arc<Notify>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = listen(&url, &bell) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = sleep(RETRY_PAUSE_MAX) => {}
        }
    }
}

async fn listen(url: &RpcUrl, bell: &Notify) {
    let connection = ProviderBuilder::new().connect_ws(WsConnect::new(url.expose().as_str()));
    let Ok(Ok(provider)) = tokio::time::timeout(RPC_TIMEOUT, connection).await else {
        tracing::debug!(endpoint = %url, "new heads are not announced: no connection");
        return;
    };
    let Ok(mut heads) = provider.subscribe_blocks().await else {
        tracing::debug!(endpoint = %url, "new heads are not announced: no subscription");
        return;
    };
    while heads.recv().await.is_ok() {
        bell.notify_one();
    }
}
