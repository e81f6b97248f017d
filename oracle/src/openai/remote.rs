//! Other people's models: any server that speaks OpenAI's interface, such as Ollama, vLLM or OpenAI.

use std::fmt;
use std::time::Duration;

use auspex_inference::decoder::Message;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::reply::{Flaw, REPLY_BYTES_MAX, Reply};
use crate::config::SecretUrl;

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

/// What a server is asked for. Who does not know one takes the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A stream that ends with the count of tokens.
    CountedStream,
    Stream,
    /// One document.
    Document,
}

/// Why one try brought no answer. The texts are clean.
enum Failed {
    /// It may pass; the server may have said when.
    Later(String, Option<Duration>),
    /// `of_stream` when the complaint is about a field that asks for a stream.
    Refused {
        status: u16,
        complaint: String,
        of_stream: bool,
    },
    Nonsense(String),
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

    /// What the model says next, without randomness as far as the server keeps that. While it is said, `show` is given the
    /// whole text as it stands; a try that breaks off is followed by one that begins anew.
    pub async fn complete(
        &self,
        messages: &[Message],
        max_tokens: usize,
        mut show: impl FnMut(&str) + Send,
    ) -> Result<String, RemoteError> {
        let mut form = Form::CountedStream;
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let body = self.body(messages, max_tokens, form);
            let (reason, wanted) = match self.attempt(&body, &mut show).await {
                Ok(text) => return Ok(text),
                Err(Failed::Refused { status, complaint, of_stream }) => {
                    let Some(next) = form.next().filter(|_| of_stream) else {
                        let url = self.url.clone();
                        return Err(RemoteError::Refused { url, status, complaint });
                    };
                    form = next;
                    continue;
                }
                Err(Failed::Nonsense(reason)) => {
                    return Err(RemoteError::Answer { url: self.url.clone(), reason });
                }
                Err(Failed::Later(reason, wanted)) => (reason, wanted),
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

    fn body(&self, messages: &[Message], max_tokens: usize, form: Form) -> Value {
        let mut body = json!({
            "model": self.model, "messages": messages, "max_tokens": max_tokens,
            "temperature": 0, "seed": 0, "stream": form != Form::Document,
        });
        if form == Form::CountedStream {
            body["stream_options"] = json!({ "include_usage": true });
        }
        body
    }

    async fn attempt(
        &self,
        body: &Value,
        show: &mut (impl FnMut(&str) + Send),
    ) -> Result<String, Failed> {
        let base = self.url.reveal().as_str().trim_end_matches('/');
        let mut request = self.client.post(format!("{base}/chat/completions")).json(body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.send().await.map_err(|error| self.later(&chain(&error)))?;
        let status = response.status();
        if status.is_success() {
            return self.listen(response, show).await;
        }
        let wanted = response.headers().get(RETRY_AFTER);
        let wanted = wanted.and_then(|value| value.to_str().ok()?.parse().ok());
        let wanted = wanted.map(Duration::from_secs);
        let bytes = bounded(response).await.map_err(|reason| self.later(&reason))?;
        let words = String::from_utf8_lossy(&bytes);
        let complaint = self.clean(&words);
        let passes = status.is_server_error()
            || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        if passes {
            return Err(Failed::Later(format!("HTTP {status}: {complaint}"), wanted));
        }
        let of_stream = words.contains("stream");
        Err(Failed::Refused { status: status.as_u16(), complaint, of_stream })
    }

    /// Reads an answer while it is said.
    async fn listen(
        &self,
        mut response: Response,
        show: &mut (impl FnMut(&str) + Send),
    ) -> Result<String, Failed> {
        let mut reply = Reply::default();
        while !reply.is_ended() {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    if reply.push(&bytes).map_err(|flaw| self.failed(flaw))? {
                        show(reply.text());
                    }
                }
                Ok(None) => break,
                // Only the count of tokens can be missing.
                Err(_) if reply.is_finished() => break,
                Err(error) => return Err(self.later(&chain(&error))),
            }
        }
        let (text, usage) = reply.end().map_err(|flaw| self.failed(flaw))?;
        if let Some(usage) = usage {
            tracing::debug!(
                server = %self.url, model = self.model,
                prompt_tokens = usage.prompt_tokens, completion_tokens = usage.completion_tokens,
                "a remote model answered"
            );
        }
        Ok(text)
    }

    fn failed(&self, flaw: Flaw) -> Failed {
        match flaw {
            Flaw::Passing(reason) => self.later(&reason),
            Flaw::Nonsense(reason) => Failed::Nonsense(self.clean(&reason)),
            Flaw::Refused(status, complaint) => {
                Failed::Refused { status, complaint: self.clean(&complaint), of_stream: false }
            }
        }
    }

    fn later(&self, reason: &str) -> Failed {
        Failed::Later(self.clean(reason), None)
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

impl Form {
    fn next(self) -> Option<Self> {
        match self {
            Self::CountedStream => Some(Self::Stream),
            Self::Stream => Some(Self::Document),
            Self::Document => None,
        }
    }
}

/// The words of a refusal.
async fn bounded(mut response: Response) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| chain(&error))? {
        bytes.extend_from_slice(&piece);
        if REPLY_BYTES_MAX < bytes.len() {
            return Err(format!("it sends more than {REPLY_BYTES_MAX} bytes"));
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
