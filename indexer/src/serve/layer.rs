//! What happens around every request: its own task, a time limit, an id, a span, and its metrics.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::error::ApiError;
use super::limits::{REQUEST_TIME_MAX, REQUESTS_IN_FLIGHT_MAX};
use super::state::ServeState;

const REQUEST_ID: &str = "x-request-id";

/// Runs each request within [`limited`].
pub(super) async fn detach(
    State(state): State<ServeState>,
    request: Request,
    next: Next,
) -> Response {
    limited(&state, next.run(request)).await.unwrap_or_else(IntoResponse::into_response)
}

/// Does the work of a request as one of those in flight, within the time limit, in a task of its own. A client that hangs up,
/// or the time limit, then never cancels database work in the middle: cancelling sqlx 0.9's `begin()` hands a connection with
/// an open transaction to the next borrower. The task ends soon by itself, because every statement has a time limit in the
/// database; until then it counts as in flight.
pub(super) async fn limited<T: Send + 'static>(
    state: &ServeState,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = Arc::clone(&state.in_flight).try_acquire_owned().map_err(|_| {
        ApiError::Unavailable(format!(
            "the server works on {REQUESTS_IN_FLIGHT_MAX} requests, its limit; try again in a moment"
        ))
    })?;
    let work = async move {
        let done = work.await;
        drop(permit);
        done
    };
    let work = state.tasks.spawn(work.in_current_span());
    match tokio::time::timeout(REQUEST_TIME_MAX, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(ApiError::Internal(anyhow::Error::new(error))),
        Err(_) => Err(ApiError::TimedOut(format!(
            "no answer within {} s, the limit; ask for less at once",
            REQUEST_TIME_MAX.as_secs()
        ))),
    }
}

/// Gives each request an id (its own, when it brings a short printable one), a span, and its place in the metrics.
pub(super) async fn observe(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_id(text))
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    // Only the route's pattern is recorded: what a client wrote would let it forge log lines and grow the metrics.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let header = HeaderValue::from_str(&id).ok();
    if let Some(value) = &header {
        request.headers_mut().insert(REQUEST_ID, value.clone());
    }
    let span = tracing::info_span!("http", id, %method, route);
    let mut response = next.run(request).instrument(span).await;
    if let Some(value) = header {
        response.headers_mut().insert(REQUEST_ID, value);
    }

    let status = response.status().as_u16().to_string();
    let labels = [("method", method.to_string()), ("route", route), ("status", status)];
    metrics::counter!("auspex_http_requests_total", &labels).increment(1);
    metrics::histogram!("auspex_http_request_seconds", &labels[..2])
        .record(started.elapsed().as_secs_f64());
    response
}

fn is_id(text: &str) -> bool {
    const ID_CHARS_MAX: usize = 64;
    !text.is_empty()
        && text.len() <= ID_CHARS_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
