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

use super::limits::{CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADER_TIME_MAX, SHUTDOWN_TIME_MAX};

/// Serves `router` until `shutdown`, then lets open requests end.
pub(super) async fn accept(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    // The pause after a failed accept: the usual cause is too many open files, and trying at once would spin.
    const ACCEPT_RETRY: Duration = Duration::from_millis(100);

    // hyper-util's `auto` builder first waits for the bytes that tell HTTP/1 from HTTP/2, and that wait has no time limit;
    // hyper's own HTTP/1 builder starts the clock when the connection opens.
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    let open = TaskTracker::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));

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
        // Small answers must not wait for more to fill a packet.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, %peer, "TCP_NODELAY could not be set");
        }
        let service = router.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.map(Body::new)
        });
        let connection = builder
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
            .with_upgrades();
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
            drop(permit);
        });
    }

    drop(listener);
    open.close();
    if tokio::time::timeout(SHUTDOWN_TIME_MAX, open.wait()).await.is_err() {
        tracing::warn!("connections were still open after {SHUTDOWN_TIME_MAX:?} and are cut");
    }
}
