//! The document with credentials that containers and instances are given, and replies of any kind, read with a limit.

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use reqwest::{RequestBuilder, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;

use super::{Credentials, Fetched};
use crate::limits::{CREDENTIALS_BYTES_MAX, REMOTE_COMPLAINT_CHARACTERS};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<DateTime<Utc>>,
}

/// Reads the document. What it says is not repeated when it is none.
pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Fetched> {
    let Ok(document) = serde_json::from_slice::<Document>(bytes) else {
        bail!("the reply is no document with credentials");
    };
    let credentials = Credentials {
        access_key_id: document.access_key_id,
        secret_access_key: document.secret_access_key.into(),
        session_token: document.token.map(SecretString::from),
    };
    Ok(Fetched { credentials, ends: document.expiration })
}

/// Sends a request and reads the reply. A refusal's words are repeated, short and without the secrets that it was sent.
pub(super) async fn ask(
    what: &str,
    request: RequestBuilder,
    secrets: &[Option<&str>],
) -> anyhow::Result<Vec<u8>> {
    let (status, reply) = exchange(request).await.with_context(|| what.to_owned())?;
    if status.is_success() {
        return Ok(reply);
    }
    let mut words = String::from_utf8_lossy(&reply).into_owned();
    // What is shorter is no secret, and may be a part of any word.
    for secret in secrets.iter().flatten().filter(|secret| 1 < secret.len()) {
        words = words.replace(secret, "***");
    }
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let words: String = words
        .chars()
        .filter(|character| !character.is_control())
        .take(REMOTE_COMPLAINT_CHARACTERS)
        .collect();
    bail!("{what}: HTTP {}: {words}", status.as_u16())
}

/// Sends a request and reads the reply, whatever its status.
pub(super) async fn exchange(request: RequestBuilder) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let unreachable = |error: reqwest::Error| {
        // The URL may hold something secret; the cause says what is the matter.
        anyhow::Error::new(error.without_url())
    };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut reply = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unreachable)? {
        if CREDENTIALS_BYTES_MAX < reply.len() + part.len() {
            bail!("the reply is longer than {CREDENTIALS_BYTES_MAX} bytes");
        }
        reply.extend_from_slice(&part);
    }
    Ok((status, reply))
}
