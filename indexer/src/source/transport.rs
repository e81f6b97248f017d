//! HTTP for JSON-RPC with a limit on size and time, and without the endpoint's URL in any error.

use std::task::{Context, Poll};
use std::time::Duration;

use alloy::rpc::json_rpc::{
    ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload,
};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use url::Url;

use crate::limits::{RPC_RESPONSE_BYTES_MAX, RPC_TIMEOUT};

/// Most bytes that are made room for because an endpoint says that they will come.
const BODY_RESERVED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An HTTP endpoint.
#[derive(Debug, Clone)]
pub(super) struct HttpTransport {
    client: reqwest::Client,
    url: Url,
}

impl HttpTransport {
    pub(super) fn new(url: Url) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(RPC_TIMEOUT / 4)
            .timeout(RPC_TIMEOUT)
            .tcp_keepalive(Duration::from_secs(15))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, url })
    }

    async fn send(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let is_batch = matches!(packet, RequestPacket::Batch(_));
        let mut response = self
            .client
            .post(self.url)
            .json(&packet)
            .send()
            .await
            .map_err(|error| custom(&error.without_url()))?;
        let status = response.status();
        if status.as_u16() == 429 {
            let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let text = format!("HTTP 429, retry after {} s", wait.unwrap_or("unknown"));
            return Err(TransportErrorKind::http_error(429, text));
        }
        // An endpoint may say any length; room for more than this is made as it comes.
        let length = response.content_length().unwrap_or_default();
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(BODY_RESERVED_BYTES_MAX);
        let mut body = Vec::with_capacity(length);
        while let Some(chunk) =
            response.chunk().await.map_err(|error| custom(&error.without_url()))?
        {
            if RPC_RESPONSE_BYTES_MAX < body.len() + chunk.len() {
                let text = format!("a response over the limit of {RPC_RESPONSE_BYTES_MAX} bytes");
                return Err(TransportErrorKind::custom_str(&text));
            }
            body.extend_from_slice(&chunk);
        }
        let error = match serde_json::from_slice(&body) {
            // Several calls are answered by one error: all of them are refused.
            Ok(ResponsePacket::Single(Response {
                payload: ResponsePayload::Failure(error),
                ..
            })) if is_batch => return Err(TransportError::ErrorResp(error)),
            Ok(packet) => return Ok(packet),
            Err(error) => error,
        };
        // Some servers name no call where they refuse a request, and some do so with a status that is not 200.
        if let Ok(Refusal { error }) = serde_json::from_slice(&body) {
            return Err(TransportError::ErrorResp(error));
        }
        if !status.is_success() {
            return Err(TransportErrorKind::http_error(status.as_u16(), format!("HTTP {status}")));
        }
        if !error.is_data() {
            // A proxy's page, or an answer that broke off: the node said nothing, so it said nothing wrong.
            return Err(TransportErrorKind::custom_str("the answer is not JSON"));
        }
        Err(TransportError::deser_err(error, ""))
    }
}

/// What refuses a request as a whole.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: ErrorPayload,
}

impl tower::Service<RequestPacket> for HttpTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().send(packet))
    }
}

/// The whole chain of causes, because reqwest's own text names only the outermost.
fn custom(error: &reqwest::Error) -> TransportError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    TransportErrorKind::custom_str(&text)
}
