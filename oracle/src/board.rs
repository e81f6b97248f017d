//! The indexer over HTTP: the list of requests, the board on which operators leave messages, the store of answers. Nothing
//! that it says is believed without a check.

use alloy::primitives::{Address, B256, Bytes};
use anyhow::{Context, anyhow, bail};
use auspex_protocol::document::{
    OfferDocument, OperatorSetDocument, RequestDocument, SplitDocument,
};
use auspex_protocol::message::Envelope;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::config::SecretUrl;
use crate::limits::{BOARD_REPLY_BYTES_MAX, BOARD_TIMEOUT, DISCOVERY_PAGE};

/// The indexer.
#[derive(Debug, Clone)]
pub struct Board {
    client: Client,
    url: SecretUrl,
}

/// An entry of the indexer's list. Most have been seen before, so that the rest of it is read only where it is wanted.
#[derive(Debug)]
pub struct Listed {
    pub request_id: B256,
    pub sequence: u64,
    pub finality: Finality,
    pub block_number: u64,
    text: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Heading {
    request_id: B256,
    #[serde(deserialize_with = "number")]
    sequence: u64,
    finality: Finality,
    #[serde(deserialize_with = "number")]
    block_number: u64,
}

#[derive(Deserialize)]
struct Place {
    #[serde(deserialize_with = "number")]
    sequence: u64,
}

impl Listed {
    /// What cannot be read may still show its place on the list.
    fn read(text: Box<RawValue>) -> Result<Self, (Option<u64>, serde_json::Error)> {
        match serde_json::from_str(text.get()) {
            Ok(Heading { request_id, sequence, finality, block_number }) => {
                Ok(Self { request_id, sequence, finality, block_number, text })
            }
            Err(error) => {
                let place = serde_json::from_str(text.get());
                Err((place.map(|Place { sequence }| sequence).ok(), error))
            }
        }
    }

    /// The request itself, which may not be readable.
    pub fn view(&self) -> serde_json::Result<RequestView> {
        serde_json::from_str(self.text.get())
    }
}

/// A request as the indexer shows it; the parts that a node needs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestView {
    pub request: RequestDocument,
    pub input: Bytes,
    pub offer: OfferDocument,
    pub operator_set: OperatorSetDocument,
}

/// What an account holds in the escrow in one token.
#[derive(Debug, Clone, Deserialize)]
pub struct CreditView {
    pub token: Address,
    /// The splits with a share of the account and money of the token.
    pub splits: Vec<SplitDocument>,
}

/// How settled a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Finality {
    Latest,
    Safe,
    Finalized,
}

/// What the indexer did with what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    Taken,
    /// For good: it will not take these bytes later either.
    Refused(String),
    /// It is well, and may take them later.
    NotNow(String),
}

#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

#[derive(Debug, Deserialize)]
struct Posting {
    envelope: Envelope,
}

impl Board {
    pub fn new(url: SecretUrl) -> anyhow::Result<Self> {
        let client = Client::builder()
            .timeout(BOARD_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context("build the HTTP client")?;
        Ok(Self { client, url })
    }

    /// A page of funded requests after a sequence number, ascending. An entry that cannot be read is left out and logged: one
    /// strange request must not hide the others.
    pub async fn funded(&self, after: u64) -> anyhow::Result<(Vec<Listed>, Option<u64>)> {
        let path = format!("/v1/requests?status=funded&after={after}&limit={DISCOVERY_PAGE}");
        let page: Page<Box<RawValue>> = self.get(&path, "list requests").await?;
        let full = DISCOVERY_PAGE <= page.items.len();
        let mut last = None;
        let mut requests = Vec::with_capacity(page.items.len());
        for item in page.items {
            match Listed::read(item) {
                Ok(listed) => {
                    last = Some(listed.sequence);
                    requests.push(listed);
                }
                Err((place, error)) => {
                    last = place.or(last);
                    tracing::warn!(%error, "the indexer lists a request that cannot be read");
                }
            }
        }
        Ok((requests, last.filter(|_| full)))
    }

    /// The messages that operators left about a request, as JSON text ready to be opened.
    pub async fn messages(&self, request_id: B256) -> anyhow::Result<Vec<Vec<u8>>> {
        let path = format!("/v1/requests/{request_id:#x}/messages?after=0&limit=1000");
        let page: Page<Posting> = self.get(&path, "read the board").await?;
        page.items
            .iter()
            .map(|posting| serde_json::to_vec(&posting.envelope).context("write a message"))
            .collect()
    }

    /// Where an account's credits are, per token.
    pub async fn credits(&self, account: Address) -> anyhow::Result<Vec<CreditView>> {
        let path = format!("/v1/accounts/{account:#x}/credits");
        let page: Page<CreditView> = self.get(&path, "list credits").await?;
        Ok(page.items)
    }

    /// Leaves a message. An error means that it is worth trying again.
    pub async fn post(&self, request_id: B256, envelope: &str) -> anyhow::Result<Posted> {
        let path = format!("/v1/requests/{request_id:#x}/messages");
        let request = self.client.post(self.at(&path)?).body(envelope.to_owned());
        self.put_in(request, "leave a message on the board").await
    }

    /// Stores an answer. An error means that it is worth trying again.
    pub async fn store_answer(&self, output_hash: B256, answer: &str) -> anyhow::Result<Posted> {
        let path = format!("/v1/answers/{output_hash:#x}");
        let request = self.client.put(self.at(&path)?).body(answer.to_owned());
        self.put_in(request, "store the answer").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, what: &'static str) -> anyhow::Result<T> {
        let (status, body) = self.send(self.client.get(self.at(path)?), what).await?;
        if !status.is_success() {
            bail!("indexer {}: {what}: {}", self.url, reply_text(status, &body));
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("indexer {}: {what}: read the reply", self.url))
    }

    async fn put_in(&self, request: RequestBuilder, what: &'static str) -> anyhow::Result<Posted> {
        let request = request.header("content-type", "application/json");
        let (status, body) = self.send(request, what).await?;
        let text = reply_text(status, &body);
        match status {
            status if status.is_success() => Ok(Posted::Taken),
            // The indexer may be behind us (404, 409), or full or busy (429).
            StatusCode::NOT_FOUND
            | StatusCode::CONFLICT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_TIMEOUT => Ok(Posted::NotNow(text)),
            status if status.is_client_error() => Ok(Posted::Refused(text)),
            _ => Err(anyhow!("indexer {}: {what}: {text}", self.url)),
        }
    }

    async fn send(
        &self,
        request: RequestBuilder,
        what: &'static str,
    ) -> anyhow::Result<(StatusCode, Vec<u8>)> {
        let failed = |error: reqwest::Error| {
            let words = self.url.redact(&error.without_url().to_string());
            anyhow!("indexer {}: {what}: {words}", self.url)
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if BOARD_REPLY_BYTES_MAX < body.len() + chunk.len() {
                bail!(
                    "indexer {}: {what}: the reply is over the limit of {BOARD_REPLY_BYTES_MAX} bytes",
                    self.url
                );
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }

    fn at(&self, path: &str) -> anyhow::Result<reqwest::Url> {
        let base = self.url.reveal().as_str().trim_end_matches('/');
        format!("{base}{path}")
            .parse()
            .map_err(|_| anyhow!("--indexer-url: {} cannot take the path {path}", self.url))
    }
}

fn reply_text(status: StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Reply {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
        message: String,
    }
    match serde_json::from_slice::<Reply>(body) {
        Ok(Reply { error }) => format!("{status}, {}: {}", error.code, error.message),
        Err(_) => status.to_string(),
    }
}

/// A number, or a decimal string of one.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u64),
        Text(String),
    }
    match Form::deserialize(deserializer)? {
        Form::Number(number) => Ok(number),
        Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}
