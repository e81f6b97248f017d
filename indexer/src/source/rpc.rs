//! An Ethereum node behind JSON-RPC, over HTTP or WebSocket.

use std::future::IntoFuture;
use std::time::Duration;

use alloy::primitives::{B256, U64};
use alloy::providers::WsConnect;
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::RpcError;
use alloy::transports::{TransportError, TransportErrorKind};
use anyhow::{Context, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio::try_join;

use super::transport::HttpTransport;
use super::wire::{WireBlock, WireLog, WireReceipt};
use super::{ClaimedHeads, Endpoint, Fault, LogFilter};
use crate::chain::RawLog;
use crate::config::RpcUrl;
use crate::limits::{BATCH_HEADERS_MAX, BATCHES_IN_FLIGHT_MAX, RPC_TIMEOUT};
use crate::source::refusal;
use crate::verify::receipts::ClaimedReceipt;
use crate::verify::{Check, ClaimedHeader};

/// One node. A WebSocket connects at the first question.
#[derive(Debug)]
pub struct RpcEndpoint {
    name: String,
    url: RpcUrl,
    client: OnceCell<RpcClient>,
}

impl RpcEndpoint {
    /// Fails when the URL's scheme is none that is spoken here.
    pub fn new(url: &RpcUrl) -> anyhow::Result<Self> {
        let client = OnceCell::new();
        match url.scheme() {
            "http" | "https" => {
                let transport =
                    HttpTransport::new(url.expose().clone()).context("set up the HTTP client")?;
                client
                    .set(RpcClient::new(transport, false))
                    .map_err(|_| anyhow::anyhow!("set up the HTTP client twice"))?;
            }
            "ws" | "wss" => {}
            other => bail!("rpc url {url}: scheme `{other}` is none of http, https, ws, wss"),
        }
        Ok(Self { name: url.to_string(), url: url.clone(), client })
    }

    async fn client(&self) -> Result<&RpcClient, Fault> {
        let connect = || async {
            let connection = RpcClient::connect_pubsub(WsConnect::new(self.url.expose().as_str()));
            timeout(RPC_TIMEOUT, connection)
                .await
                .map_err(|_| timed_out())?
                .map_err(|error| fault(&error))
        };
        self.client.get_or_try_init(connect).await
    }

    async fn request<R>(&self, method: &'static str, params: serde_json::Value) -> Result<R, Fault>
    where
        R: serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + Unpin + 'static,
    {
        let call = self.client().await?.request::<_, R>(method, params);
        answer(call.into_future()).await
    }

    /// Calls in one request; null where the node says that it has no such block.
    async fn batch<R>(
        &self,
        method: &'static str,
        params: impl IntoIterator<Item = serde_json::Value>,
    ) -> Result<Vec<Option<R>>, Fault>
    where
        R: serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + Unpin + 'static,
    {
        let client = self.client().await?;
        let mut batch = client.new_batch();
        let mut waiters = Vec::new();
        for params in params {
            let waiter = batch.add_call::<_, R>(method, &params).map_err(|error| fault(&error))?;
            waiters.push(waiter);
        }
        answer(batch.send().into_future()).await?;
        let mut results = Vec::with_capacity(waiters.len());
        for waiter in waiters {
            results.push(match answer(waiter).await {
                Ok(result) => Some(result),
                // Some nodes answer with an error where others answer null.
                Err(Fault::Absent(_)) => None,
                Err(fault) => return Err(fault),
            });
        }
        Ok(results)
    }

    /// The logs of some blocks: of the filter's contracts, and, in a question of its own, of its events from everywhere.
    async fn logs(&self, blocks: &Value, filter: &LogFilter) -> Result<Vec<RawLog>, Fault> {
        let ask = async |key: &str, value: Value| {
            let mut question = blocks.clone();
            question[key] = value;
            let logs: Option<Vec<WireLog>> = self.request("eth_getLogs", json!([question])).await?;
            let logs = logs.ok_or_else(|| Fault::Absent("the block".into()))?;
            Ok::<_, Fault>(logs.into_iter().map(RawLog::from).collect::<Vec<_>>())
        };
        let named = ask("address", json!(filter.addresses));
        if filter.anywhere.is_empty() {
            return named.await;
        }
        let (named, anywhere) = try_join!(named, ask("topics", json!([filter.anywhere])))?;
        Ok(filter.join(named, anywhere))
    }

    /// One batch of block requests; null where there is no such block.
    async fn blocks(
        &self,
        method: &'static str,
        keys: impl IntoIterator<Item = serde_json::Value>,
    ) -> Result<Vec<Option<ClaimedHeader>>, Fault> {
        let params = keys.into_iter().map(|key| json!([key, false]));
        let blocks = self.batch::<Option<WireBlock>>(method, params).await?;
        Ok(blocks.into_iter().map(|block| block.flatten().map(ClaimedHeader::from)).collect())
    }
}

impl Endpoint for RpcEndpoint {
    fn name(&self) -> &str {
        &self.name
    }

    async fn chain_id(&self) -> Result<u64, Fault> {
        let id: U64 = self.request("eth_chainId", json!([])).await?;
        Ok(id.to())
    }

    async fn heads(&self) -> Result<ClaimedHeads, Fault> {
        let tags = ["latest", "safe", "finalized"].map(serde_json::Value::from);
        let mut heads = self.blocks("eth_getBlockByNumber", tags).await?.into_iter();
        let (latest, safe, finalized) = (heads.next(), heads.next(), heads.next());
        let Some(Some(latest)) = latest else {
            return Err(Fault::Absent("its latest block".into()));
        };
        Ok(ClaimedHeads { latest, safe: safe.flatten(), finalized: finalized.flatten() })
    }

    async fn headers(&self, first: u64, last: u64) -> Result<Vec<Option<ClaimedHeader>>, Fault> {
        let batches = (first..=last).step_by(BATCH_HEADERS_MAX).map(|start| {
            let end = last.min(start + BATCH_HEADERS_MAX as u64 - 1);
            let keys = (start..=end).map(|number| format!("{number:#x}").into());
            self.blocks("eth_getBlockByNumber", keys)
        });
        let headers: Vec<Vec<_>> =
            stream::iter(batches).buffered(BATCHES_IN_FLIGHT_MAX).try_collect().await?;
        Ok(headers.into_iter().flatten().collect())
    }

    async fn header_by_hash(&self, hash: B256) -> Result<Option<ClaimedHeader>, Fault> {
        let block: Option<WireBlock> =
            self.request("eth_getBlockByHash", json!([hash, false])).await?;
        Ok(block.map(ClaimedHeader::from))
    }

    async fn logs_in(
        &self,
        first: u64,
        last: u64,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, Fault> {
        let blocks = json!({ "fromBlock": format!("{first:#x}"), "toBlock": format!("{last:#x}") });
        self.logs(&blocks, filter).await
    }

    async fn logs_of(&self, block: B256, filter: &LogFilter) -> Result<Option<Vec<RawLog>>, Fault> {
        match self.logs(&json!({ "blockHash": block }), filter).await {
            Ok(logs) => Ok(Some(logs)),
            Err(Fault::Absent(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn receipts(&self, blocks: &[B256]) -> Result<Vec<Option<Vec<ClaimedReceipt>>>, Fault> {
        let keys = blocks.iter().map(|block| json!([block]));
        let answers = self.batch::<Option<Vec<WireReceipt>>>("eth_getBlockReceipts", keys).await?;
        let claimed =
            |receipts: Vec<WireReceipt>| receipts.into_iter().map(ClaimedReceipt::from).collect();
        Ok(answers.into_iter().map(|receipts| receipts.flatten().map(claimed)).collect())
    }
}

/// A WebSocket has no time limit of its own.
const ANSWER_TIMEOUT: Duration = RPC_TIMEOUT;

async fn answer<T>(response: impl Future<Output = Result<T, TransportError>>) -> Result<T, Fault> {
    timeout(ANSWER_TIMEOUT, response).await.map_err(|_| timed_out())?.map_err(|error| fault(&error))
}

fn timed_out() -> Fault {
    Fault::Unavailable(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
}

fn fault(error: &TransportError) -> Fault {
    match error {
        RpcError::ErrorResp(response) => refusal::classify(response.code, &response.message),
        RpcError::NullResp => Fault::Absent("an answer".into()),
        RpcError::DeserError { err, .. } => Fault::lie(Check::Shape, err.to_string()),
        RpcError::Transport(TransportErrorKind::HttpError(error)) if error.status == 429 => {
            Fault::RateLimited(error.body.clone())
        }
        RpcError::Transport(TransportErrorKind::HttpError(error)) => {
            Fault::Unavailable(format!("HTTP {}", error.status))
        }
        RpcError::Transport(error) => Fault::Unavailable(error.to_string()),
        RpcError::UnsupportedFeature(feature) => Fault::Unsupported((*feature).to_owned()),
        RpcError::LocalUsageError(error) => Fault::Unavailable(error.to_string()),
        RpcError::SerError(error) => Fault::Unavailable(error.to_string()),
    }
}
