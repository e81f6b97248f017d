//! An endpoint behind a WebSocket that goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use auspex_indexer::source::rpc::RpcEndpoint;
use auspex_indexer::source::{Endpoint, Fault};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Questions within which the endpoint notices what became of the node.
const QUESTIONS_MAX: usize = 50;

/// A node that knows its chain id. While it is away, every connection is closed at once.
struct Node {
    url: String,
    is_away: Arc<AtomicBool>,
    leaves: Arc<Notify>,
    task: AbortHandle,
}

impl Node {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let (is_away, leaves) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (away, leaving) = (Arc::clone(&is_away), Arc::clone(&leaves));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = leaving.notified() => connections.shutdown().await,
                    connection = listener.accept() => {
                        let (stream, _) = connection.unwrap();
                        if !away.load(Ordering::SeqCst) {
                            connections.spawn(serve(stream));
                        }
                    }
                }
            }
        });
        Self { url, is_away, leaves, task: task.abort_handle() }
    }

    fn leave(&self) {
        self.is_away.store(true, Ordering::SeqCst);
        self.leaves.notify_one();
    }

    fn come_back(&self) {
        self.is_away.store(false, Ordering::SeqCst);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let question: Value = serde_json::from_str(&text).unwrap();
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": "0x7" });
        if socket.send(Message::text(answer.to_string())).await.is_err() {
            return;
        }
    }
}

/// Asks until the answer is as expected.
async fn until(endpoint: &RpcEndpoint, expected: impl Fn(&Result<u64, Fault>) -> bool) {
    let mut answer = endpoint.chain_id().await;
    for _ in 0..QUESTIONS_MAX {
        if expected(&answer) {
            return;
        }
        tokio::task::yield_now().await;
        answer = endpoint.chain_id().await;
    }
    panic!("the last of {QUESTIONS_MAX} answers is {answer:?}");
}

#[tokio::test]
async fn a_websocket_that_ended_is_connected_anew() {
    let node = Node::start().await;
    let endpoint = RpcEndpoint::new(&node.url.parse().unwrap()).unwrap();
    for _ in 0..2 {
        until(&endpoint, |answer| *answer == Ok(7)).await;
        node.leave();
        until(&endpoint, |answer| matches!(answer, Err(Fault::Unavailable(_)))).await;
        // The connection that ended is not waited for, and neither is one that fails.
        until(&endpoint, |answer| matches!(answer, Err(Fault::Unavailable(_)))).await;
        node.come_back();
    }
    until(&endpoint, |answer| *answer == Ok(7)).await;
}
