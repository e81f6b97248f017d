//! Reading the indexer's REST API.

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use anyhow::{Context, bail};
use auspex_protocol::document::{
    OfferDocument, OperatorSetDocument, RequestDocument, ResultDocument, SplitDocument, decimal,
};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::Url;

use crate::connection::shown;

const ANSWER_WAIT_MAX: Duration = Duration::from_secs(15);

/// One indexer.
#[derive(Debug, Clone)]
pub(crate) struct IndexerClient {
    base: Url,
    http: reqwest::Client,
}

/// A request with its history, as `/v1/requests/{id}` serves it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestView {
    pub(crate) request_id: B256,
    pub(crate) sequence: u64,
    pub(crate) status: String,
    pub(crate) finality: String,
    pub(crate) block_number: u64,
    pub(crate) block_time: u64,
    pub(crate) transaction_hash: B256,
    pub(crate) request: RequestDocument,
    pub(crate) input_text: Option<String>,
    pub(crate) split: Option<SplitDocument>,
    pub(crate) operator_set: Option<OperatorSetDocument>,
    pub(crate) result: Option<ResultDocument>,
    pub(crate) signers: Option<Vec<Address>>,
    pub(crate) answer: Option<serde_json::Value>,
    pub(crate) delivered: Option<DeliveredView>,
    pub(crate) settled: Option<SettledView>,
    pub(crate) refunded: Option<RefundedView>,
    pub(crate) request_gas_used: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveredView {
    pub(crate) block_number: u64,
    pub(crate) block_time: u64,
    pub(crate) transaction_hash: B256,
    pub(crate) transmitter: Address,
    pub(crate) gas_used: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettledView {
    #[serde(with = "decimal")]
    pub(crate) amount: U256,
    #[serde(with = "decimal")]
    pub(crate) fee: U256,
    #[serde(with = "decimal")]
    pub(crate) returned: U256,
    pub(crate) block_time: u64,
    pub(crate) transaction_hash: B256,
    pub(crate) credits: Vec<CreditView>,
    #[serde(with = "decimal")]
    pub(crate) residue: U256,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreditView {
    pub(crate) account: Address,
    #[serde(with = "decimal")]
    pub(crate) amount: U256,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RefundedView {
    pub(crate) block_time: u64,
    pub(crate) transaction_hash: B256,
    #[serde(with = "decimal")]
    pub(crate) amount: U256,
}

/// An offer, as `/v1/offers` serves it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfferView {
    pub(crate) offer_hash: B256,
    pub(crate) active: bool,
    pub(crate) offer: OfferDocument,
    pub(crate) split: Option<SplitDocument>,
    pub(crate) operator_set: Option<OperatorSetDocument>,
}

/// What an account can withdraw in one token, as `/v1/accounts/{address}/credits` serves it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccountCreditView {
    pub(crate) token: Address,
    #[serde(with = "decimal")]
    pub(crate) claimable: U256,
    #[serde(with = "decimal")]
    pub(crate) credited: U256,
    #[serde(with = "decimal")]
    pub(crate) withdrawn: U256,
    pub(crate) splits: Vec<SplitDocument>,
}

/// A page of a listing.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
}

impl IndexerClient {
    pub(crate) fn new(base: Url) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(ANSWER_WAIT_MAX)
            .build()
            .context("prepare the HTTP client")?;
        Ok(Self { base, http })
    }

    /// Reads one resource; `None` when the indexer does not know it.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let url = self.base.join(path).with_context(|| format!("build the address of {path}"))?;
        let response = self.http.get(url).send().await.map_err(|_| self.silent())?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = self.body(response).await?;
        let value = serde_json::from_slice(&body)
            .with_context(|| format!("read the indexer's answer to {path}"))?;
        Ok(Some(value))
    }

    /// Asks a GraphQL question and gives back the whole response.
    pub(crate) async fn graphql(&self, query: &str) -> anyhow::Result<serde_json::Value> {
        let url = self.base.join("graphql").context("build the address of /graphql")?;
        let response = self
            .http
            .post(url)
            .json(&serde_json::json!({ "query": query }))
            .send()
            .await
            .map_err(|_| self.silent())?;
        let body = self.body(response).await?;
        serde_json::from_slice(&body).context("read the indexer's GraphQL response")
    }

    pub(crate) async fn request(&self, id: B256) -> anyhow::Result<Option<RequestView>> {
        self.get(&format!("v1/requests/{id:#x}")).await
    }

    pub(crate) async fn offer(&self, hash: B256) -> anyhow::Result<Option<OfferView>> {
        self.get(&format!("v1/offers/{hash:#x}")).await
    }

    pub(crate) async fn credits(&self, account: Address) -> anyhow::Result<Vec<AccountCreditView>> {
        let page: Option<Page<AccountCreditView>> =
            self.get(&format!("v1/accounts/{account:#x}/credits")).await?;
        Ok(page.map(|page| page.items).unwrap_or_default())
    }

    async fn body(&self, response: reqwest::Response) -> anyhow::Result<Vec<u8>> {
        let status = response.status();
        let body = response.bytes().await.map_err(|_| self.silent())?;
        if status.is_success() {
            return Ok(body.to_vec());
        }
        let message = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|value| value["error"]["message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| status.to_string());
        bail!("the indexer at {} refuses: {message}", shown(&self.base))
    }

    fn silent(&self) -> anyhow::Error {
        anyhow::anyhow!(
            "the indexer at {} does not answer; check --indexer-url and that `auspex indexer run` runs",
            shown(&self.base)
        )
    }
}
