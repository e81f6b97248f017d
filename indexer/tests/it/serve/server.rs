//! The real listener: slow clients, clients that hang up, WebSockets, and stopping.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use auspex_indexer::serve::limits::SOCKET_OPERATIONS_MAX;
use auspex_indexer::serve::{ConnectionLimits, serve};
use futures::Stream;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::World;
use super::stream::{Event, parse};

/// A server on a free port.
pub(super) struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub(super) async fn start(world: &World) -> Self {
        Self::start_with(world, ConnectionLimits::new(100)).await
    }

    async fn start_with(world: &World, limits: ConnectionLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, limits, world.state.clone(), shutdown.clone()));
        Self { address, shutdown, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Reads the live stream; returns when the server has accepted the reader.
    pub(super) async fn events(
        &self,
        path: &str,
        last: Option<&str>,
    ) -> impl Stream<Item = Event> + use<> {
        let mut request = reqwest::Client::new().get(self.url(path));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        parse(response)
    }

    pub(super) async fn subscribe(&self, query: &str) -> impl Stream<Item = Event> + use<> {
        let response = reqwest::Client::new()
            .post(self.url("/graphql"))
            .header("accept", "text/event-stream")
            .json(&json!({ "query": query }))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        parse(response)
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_client_that_sends_its_header_too_slowly_is_cut_off() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let started = Instant::now();
    // Others are served meanwhile.
    assert_eq!(reqwest::get(server.url("/health")).await.unwrap().status(), 200);
    for socket in [&mut slow, &mut silent] {
        let mut rest = Vec::new();
        let read =
            tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "the connection was still open after {:?}", started.elapsed());
    }
    assert!(Duration::from_secs(8) < started.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn clients_that_hang_up_leave_no_transaction_behind() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let body = json!({ "query": "{ agents { id offers { id requests { id } } } }" }).to_string();
    let request = format!(
        "POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for n in 0..300_u64 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        // Hang up at a different moment each time: before, during and after the transaction.
        tokio::time::timeout(Duration::from_micros(n * 20), socket.readable()).await.ok();
        drop(socket);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let idle: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'",
        )
        .fetch_one(&world.database.pool())
        .await
        .unwrap();
        if idle == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{idle} transactions were left open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = world.graphql("{ agents { id } }").await;
    assert_eq!(answer["data"]["agents"].as_array().unwrap().len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn answers_name_their_request_and_let_browsers_of_other_origins_read_them() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let client = reqwest::Client::new();
    let ask = |id: &'static str| {
        let request = client.get(server.url("/v1/status")).header("origin", "https://example.org");
        async move { request.header("x-request-id", id).send().await.unwrap() }
    };
    let answer = ask("my-id_1").await;
    assert_eq!(answer.headers()["x-request-id"], "my-id_1");
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    // An id that could forge a log line is replaced.
    let answer = ask("a b\tc").await;
    assert_eq!(answer.headers()["x-request-id"].len(), 36);
    server.stop().await;
}

#[tokio::test]
async fn queries_and_subscriptions_work_over_a_websocket() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let mut socket = Socket::open(server.address).await;
    socket.begin().await;
    socket.subscribe("1", "{ agents(first: 1) { id } }").await;
    let answer = socket.hear().await;
    assert_eq!(answer["payload"]["data"]["agents"][0]["id"], "31337:1");
    assert_eq!(socket.hear().await["type"], "complete");
    socket.subscribe("2", "{ agents(first: 0) { id } }").await;
    assert!(socket.hear().await.to_string().contains("must be between 0 and 1000"));
    server.stop().await;
}

#[tokio::test]
async fn a_websocket_takes_the_place_of_its_connection_until_it_is_closed() {
    let world = World::create().await;
    let server = Server::start_with(&world, ConnectionLimits::new(1)).await;
    let mut socket = Socket::open(server.address).await;
    socket.begin().await;
    let refused = reqwest::get(server.url("/health")).await;
    assert!(refused.is_err(), "a second connection was served: {refused:?}");
    drop(socket);
    let begun = Instant::now();
    while reqwest::get(server.url("/health")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "its place is still taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_websocket_has_so_many_operations_at_once() {
    let world = World::create().await;
    let server = Server::start(&world).await;
    let mut socket = Socket::open(server.address).await;
    socket.begin().await;
    for n in 0..SOCKET_OPERATIONS_MAX {
        socket.subscribe(&n.to_string(), "subscription { changes { id } }").await;
    }
    socket.subscribe("more", "{ agents { id } }").await;
    let refused = socket.hear().await;
    assert_eq!(refused["id"], "more");
    assert!(refused.to_string().contains("16 operations under way, its limit"), "{refused}");
    assert_eq!(socket.hear().await["type"], "complete");

    socket.say(json!({ "id": "0", "type": "complete" })).await;
    assert_eq!(socket.hear().await, json!({ "id": "0", "type": "complete" }));
    socket.subscribe("again", "{ agents(first: 1) { id } }").await;
    let answer = socket.hear().await;
    assert_eq!(answer["payload"]["data"]["agents"][0]["id"], "31337:1", "{answer}");
    server.stop().await;
}

/// As much of a WebSocket client as the test needs: text frames below 64 KiB.
struct Socket(TcpStream);

impl Socket {
    async fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = "GET /graphql/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    async fn begin(&mut self) {
        self.say(json!({ "type": "connection_init" })).await;
        assert_eq!(self.hear().await["type"], "connection_ack");
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({ "id": id, "type": "subscribe", "payload": { "query": query } })).await;
    }

    /// Clients mask what they send; a mask of zeros leaves it readable.
    async fn say(&mut self, value: Value) {
        let text = value.to_string();
        let mut frame = vec![0x81, 0xfe];
        frame.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.0.write_all(&frame).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        loop {
            let kind = self.0.read_u8().await.unwrap() & 0x0f;
            let length = match self.0.read_u8().await.unwrap() {
                126 => self.0.read_u16().await.unwrap().into(),
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            if kind == 1 {
                return serde_json::from_slice(&payload).unwrap();
            }
        }
    }
}
