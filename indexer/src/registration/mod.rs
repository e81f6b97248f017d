//! Agents' registration files: what the URI on chain says, fetched with care, because anybody can put any URI there.

pub mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod guard;
mod store;

use std::time::Duration;

use alloy::primitives::keccak256;
use futures::stream::{self, StreamExt};
use serde_json::Value;
use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::abort::{Point, reach};
use crate::limits::{FILE_ATTEMPTS_MAX, FILE_POLL, FILES_IN_FLIGHT_MAX};
use fetch::{FetchError, fetch};
use store::{Due, due, failed, resolved};

/// Where files may come from.
#[derive(Debug, Clone)]
pub struct FilePolicy {
    /// Tried in order for `ipfs:` URIs.
    pub gateways: Vec<Url>,
    /// Lets files come from private addresses, any port, and plain http.
    pub allow_private: bool,
}

/// Resolves the files of new agents and of changed URIs until `shutdown`.
pub async fn resolve(pool: PgPool, policy: FilePolicy, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(FILE_POLL) => {}
        }
        let round = tokio::select! {
            () = shutdown.cancelled() => return,
            round = resolve_due(&pool, &policy) => round,
        };
        if let Err(error) = round {
            tracing::warn!(%error, "registration files could not be looked after");
        }
    }
}

/// Resolves the files that are due now. Returns how many were tried.
pub async fn resolve_due(pool: &PgPool, policy: &FilePolicy) -> sqlx::Result<usize> {
    let agents = due(pool).await?;
    let count = agents.len();
    let results: Vec<sqlx::Result<()>> = stream::iter(agents)
        .map(|agent| async move {
            let outcome = fetch(&agent.uri, policy).await;
            reach(Point::FileFetched);
            record(pool, &agent, outcome).await?;
            reach(Point::FileStored);
            Ok(())
        })
        .buffer_unordered(FILES_IN_FLIGHT_MAX)
        .collect()
        .await;
    results.into_iter().collect::<sqlx::Result<Vec<()>>>()?;
    Ok(count)
}

async fn record(
    pool: &PgPool,
    agent: &Due,
    outcome: Result<Vec<u8>, FetchError>,
) -> sqlx::Result<()> {
    let parsed = outcome.and_then(|bytes| Ok((keccak256(&bytes), parse(&bytes)?)));
    match parsed {
        Ok((hash, file)) => {
            metrics::counter!("auspex_indexer_files_total", "outcome" => "resolved").increment(1);
            resolved(pool, agent, hash, file).await
        }
        Err(error) => {
            metrics::counter!("auspex_indexer_files_total", "outcome" => error.outcome())
                .increment(1);
            tracing::debug!(agent = %agent.agent_id, %error, "a registration file was not resolved");
            failed(pool, agent, &error, retry_after(&error, agent.attempts)).await
        }
    }
}

/// The file as JSON that PostgreSQL can hold.
fn parse(bytes: &[u8]) -> Result<Value, FetchError> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| FetchError::Refused(format!("the file is not JSON: {error}")))?;
    if !value.is_object() {
        return Err(FetchError::Refused("the file is not a JSON object".into()));
    }
    Ok(without_nul(value))
}

/// PostgreSQL's jsonb has no place for U+0000.
fn without_nul(value: Value) -> Value {
    let text = |text: String| text.replace('\0', "\u{fffd}");
    match value {
        Value::String(string) => Value::String(text(string)),
        Value::Array(items) => items.into_iter().map(without_nul).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (text(key), without_nul(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Null when trying again is of no use until the URI changes.
fn retry_after(error: &FetchError, attempts: i32) -> Option<Duration> {
    const FIRST: Duration = Duration::from_secs(30);
    match error {
        FetchError::Refused(_) => None,
        FetchError::Unavailable(_) if FILE_ATTEMPTS_MAX <= attempts + 1 => None,
        FetchError::Unavailable(_) => Some(FIRST * 2u32.pow(attempts.clamp(0, 16).unsigned_abs())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a stranger's file holds, it is refused or becomes an object that PostgreSQL can hold.
        #[test]
        fn no_file_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,40}") {
            for file in [bytes, text.clone().into_bytes(), serde_json::json!({ text: "\0" }).to_string().into_bytes()] {
                match parse(&file) {
                    Ok(value) => prop_assert!(value.is_object() && !value.to_string().contains("\\u0000")),
                    Err(error) => prop_assert!(!error.to_string().is_empty()),
                }
            }
        }
    }

    #[test]
    fn nul_is_replaced_wherever_it_stands() {
        let file = parse(b"{\"a\\u0000\": [\"b\\u0000\", {\"c\": \"\\u0000\"}]}").unwrap();
        assert!(!file.to_string().contains("u0000"), "{file}");
    }

    #[test]
    fn only_an_object_is_a_registration_file() {
        for bad in [&b"[]"[..], b"1", b"", b"{", b"\xff"] {
            assert!(matches!(parse(bad), Err(FetchError::Refused(_))), "{bad:?}");
        }
        let deep = format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        assert!(parse(deep.as_bytes()).is_err());
    }
}
