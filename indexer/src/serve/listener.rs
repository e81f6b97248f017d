//! The accept loop. `axum::serve` has neither a header time-out nor a connection limit, and a listener without them can be
//! held shut by a few hundred clients that send one byte at a time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::address::Addresses;
use super::limits::{
    CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADER_TIME_MAX, SHUTDOWN_TIME_MAX, WRITE_TIME_MAX,
};
use super::socket::{Admission, Impatient};

/// How much of the listener one client may have.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Open connections of one address; further ones are closed at once.
    pub per_address: usize,
    /// Time to send a request's header, counted from the connection's start or from the answer before; an idle connection
    /// is closed by the same clock.
    pub header_time: Duration,
    /// Time in which a client that does not read lets a write wait.
    pub write_time: Duration,
}

impl ConnectionLimits {
    pub fn new(per_address: usize) -> Self {
        Self { per_address, header_time: HEADER_TIME_MAX, write_time: WRITE_TIME_MAX }
    }
}

/// Serves `router` until `shutdown`, then lets open requests end.
pub(super) async fn accept(
    listener: TcpListener,
    limits: ConnectionLimits,
    router: Router,
    shutdown: CancellationToken,
) {
    // The pause after a failed accept: the usual cause is too many open files, and trying at once would spin.
    const ACCEPT_RETRY: Duration = Duration::from_millis(100);

    // hyper-util's `auto` builder first waits for the bytes that tell HTTP/1 from HTTP/2, and that wait has no time limit;
    // hyper's own HTTP/1 builder starts the clock when the connection opens.
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(HEADER_BYTES_MAX);
    let open = TaskTracker::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let addresses = Addresses::new(limits.per_address);

    loop {
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = Arc::clone(&connections).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(place) = addresses.admit(peer.ip()) else {
            metrics::counter!("auspex_http_connections_refused_total").increment(1);
            continue;
        };
        // Small answers must not wait for more to fill a packet.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, %peer, "TCP_NODELAY could not be set");
        }
        let service = router.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.map(Body::new)
        });
        let socket = Impatient::new(socket, limits.write_time, Admission::new(permit, place));
        let socket = TokioIo::new(socket);
        let connection =
            builder.serve_connection(socket, TowerToHyperService::new(service)).with_upgrades();
        let stop = shutdown.clone();
        open.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    // The request that is under way is answered; a further one on this connection is not.
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "a connection ended badly");
            }
        });
    }

    drop(listener);
    open.close();
    if tokio::time::timeout(SHUTDOWN_TIME_MAX, open.wait()).await.is_err() {
        tracing::warn!("connections were still open after {SHUTDOWN_TIME_MAX:?} and are cut");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);
    const PATIENCE: Duration = Duration::from_secs(20);
    /// More than the buffers of both sockets hold.
    const LARGE_BYTES: usize = 64 * 1024 * 1024;

    async fn start(per_address: usize) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let limits = ConnectionLimits { per_address, header_time: SHORT, write_time: SHORT };
        let router = Router::new()
            .route("/", get(async || "ok"))
            .route("/large", get(async || vec![b'x'; LARGE_BYTES]))
            .route("/length", post(async |body: String| body.len().to_string()));
        tokio::spawn(accept(listener, limits, router, shutdown.clone()));
        (address, shutdown)
    }

    /// Everything that still comes, until the server closes; fails when it does not.
    async fn rest(socket: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
        // A reset is an end as well.
        let _ = read.expect("the connection is still open");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn who_sends_nothing_or_half_a_header_is_cut_off() {
        let (address, shutdown) = start(10).await;
        for text in [&b""[..], b"GET / HTTP/1.1\r\nX-Slow: "] {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(text).await.unwrap();
            rest(&mut socket).await;
        }
        shutdown.cancel();
    }

    #[tokio::test]
    async fn a_connection_that_idles_after_an_answer_is_closed() {
        let (address, shutdown) = start(10).await;
        let mut socket = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            socket.write_all(REQUEST).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nok") {
                answer.push(socket.read_u8().await.unwrap());
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
        }
        let idle = Instant::now();
        rest(&mut socket).await;
        assert!(SHORT / 2 < idle.elapsed(), "it was kept open for the next request");
        shutdown.cancel();
    }

    #[tokio::test]
    async fn who_does_not_read_a_large_answer_is_cut_off() {
        let (address, shutdown) = start(1).await;
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        // Only when its place is free again is another one served.
        let started = Instant::now();
        loop {
            let mut next = TcpStream::connect(address).await.unwrap();
            // A refused connection may be gone before it is written to.
            let _ = next.write_all(REQUEST).await;
            if rest(&mut next).await.ends_with("ok") {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "it still holds its place");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(SHORT / 2 < started.elapsed());
        assert!(rest(&mut socket).await.len() < LARGE_BYTES);
        shutdown.cancel();
    }

    #[tokio::test]
    async fn an_address_gets_so_many_connections_and_a_closed_one_makes_room() {
        let (address, shutdown) = start(2).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket
                .write_all(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
                .await
                .unwrap();
            held.push(socket);
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        let _ = third.write_all(REQUEST).await;
        assert_eq!(rest(&mut third).await, "", "a third connection was served");

        let mut first = held.remove(0);
        first.write_all(b"cd").await.unwrap();
        assert!(rest(&mut first).await.ends_with('4'));
        let started = Instant::now();
        loop {
            let mut next = TcpStream::connect(address).await.unwrap();
            let _ = next.write_all(REQUEST).await;
            if rest(&mut next).await.ends_with("ok") {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "there is still no room");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shutdown.cancel();
    }
}
