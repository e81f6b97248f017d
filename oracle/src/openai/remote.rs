//! Other people's models: any server that speaks OpenAI's interface, such as Ollama, vLLM or OpenAI.

use std::fmt;
use std::time::Duration;

use auspex_inference::decoder::Message;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::wire::ChatResponse;
use crate::config::SecretUrl;

/// Largest answer that is read, in bytes.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// How often a request is sent before it is given up.
const TRIES: u32 = 4;

/// The pause before the second try; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause that a server may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Characters of a server's complaint that are repeated.
const COMPLAINT_CHARACTERS: usize = 300;

/// A model on somebody's server. Neither the key nor the URL's path shows in `Debug` or in errors.
#[derive(Clone)]
pub struct Remote {
    client: Client,
    url: SecretUrl,
    key: Option<SecretString>,
    model: String,
}

/// Why a remote model did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("{0}: the HTTP client does not start: {1}")]
    Client(SecretUrl, String),
    #[error("{url}: no answer after {TRIES} tries: {reason}")]
    Unreachable { url: SecretUrl, reason: String },
    /// Asking again would not help.
    #[error("{url}: HTTP {status}: {complaint}")]
    Refused { url: SecretUrl, status: u16, complaint: String },
    #[error("{url}: the answer is not one: {reason}")]
    Answer { url: SecretUrl, reason: String },
}

/// What one try brought.
enum Try {
    Answer(Vec<u8>),
    /// It may pass; the server may have said when.
    Later(String, Option<Duration>),
    Refused(u16, String),
}

impl Remote {
    /// `url` is what other clients call the base URL, such as `http://127.0.0.1:11434/v1`.
    pub fn new(
        url: SecretUrl,
        key: Option<SecretString>,
        model: String,
        timeout: Duration,
    ) -> Result<Self, RemoteError> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            // A redirect could carry the key to somebody else.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| RemoteError::Client(url.clone(), error.to_string()))?;
        Ok(Self { client, url, key, model })
    }

    /// The name of the model on its server.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What the model says next, without randomness as far as the server keeps that.
    pub async fn complete(
        &self,
        messages: &[Message],
        max_tokens: usize,
    ) -> Result<String, RemoteError> {
        let body = json!({
            "model": self.model, "messages": messages, "max_tokens": max_tokens,
            "temperature": 0, "seed": 0, "stream": false,
        });
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let (reason, wanted) = match self.attempt(&body).await {
                Try::Answer(bytes) => return self.read(&bytes),
                Try::Refused(status, complaint) => {
                    return Err(RemoteError::Refused { url: self.url.clone(), status, complaint });
                }
                Try::Later(reason, wanted) => (reason, wanted),
            };
            if tries == TRIES {
                return Err(RemoteError::Unreachable { url: self.url.clone(), reason });
            }
            tracing::debug!(server = %self.url, reason, tries, "asking a remote model again");
            tokio::time::sleep(wanted.unwrap_or(pause).min(PAUSE_MAX)).await;
            tries += 1;
            pause *= 2;
        }
    }

    async fn attempt(&self, body: &serde_json::Value) -> Try {
        let base = self.url.reveal().as_str().trim_end_matches('/');
        let mut request = self.client.post(format!("{base}/chat/completions")).json(body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Try::Later(self.clean(&chain(&error)), None),
        };
        let status = response.status();
        let wanted = response.headers().get(RETRY_AFTER);
        let wanted = wanted.and_then(|value| value.to_str().ok()?.parse().ok());
        let wanted = wanted.map(Duration::from_secs);
        let bytes = match bounded(response).await {
            Ok(bytes) => bytes,
            Err(reason) => return Try::Later(self.clean(&reason), None),
        };
        if status.is_success() {
            return Try::Answer(bytes);
        }
        let complaint = self.clean(&String::from_utf8_lossy(&bytes));
        let passes = status.is_server_error()
            || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        if passes {
            Try::Later(format!("HTTP {status}: {complaint}"), wanted)
        } else {
            Try::Refused(status.as_u16(), complaint)
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<String, RemoteError> {
        let wrong = |reason: String| RemoteError::Answer { url: self.url.clone(), reason };
        let response: ChatResponse =
            serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        let said = response.choices.into_iter().next().and_then(|choice| choice.message);
        said.and_then(|said| said.content)
            .ok_or_else(|| wrong("it has no message with content".to_owned()))
    }

    /// Somebody else's words, short, printable, and without what is secret, which servers repeat.
    fn clean(&self, text: &str) -> String {
        let mut text = self.url.redact(text);
        if let Some(key) = &self.key {
            text = text.replace(key.expose_secret(), "***");
        }
        let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        visible.take(COMPLAINT_CHARACTERS).collect()
    }
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| chain(&error))? {
        bytes.extend_from_slice(&piece);
        if RESPONSE_BYTES_MAX < bytes.len() {
            return Err(format!("it sends more than {RESPONSE_BYTES_MAX} bytes"));
        }
    }
    Ok(bytes)
}

/// An error with its causes, which is where a refused connection or a time-out is named.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Remote")
            .field("url", &self.url)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}
