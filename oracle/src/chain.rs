//! The chain through one or more RPC endpoints. A read goes to the endpoint that answered last and moves on to the next
//! when that one fails; a transaction is handed to the endpoints in turn until one takes it.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolEvent;
use alloy::transports::{RpcError, TransportError};
use auspex_protocol::bindings::IOperatorRegistry::IOperatorRegistryInstance;
use auspex_protocol::bindings::IRequestEscrow::{Delivered, IRequestEscrowInstance, Split, Status};
use auspex_protocol::deployment::Deployment;

use crate::config::SecretUrl;
use crate::job::plan::Presence;
use crate::limits::CHAIN_TIMEOUT;
use crate::transaction::fee::Market;
use crate::transaction::intent::Call;
use crate::transaction::plan::Inclusion;
use crate::transaction::reply::{self, Reply};

/// The chain that a deployment lives on.
#[derive(Clone)]
pub struct Chain {
    endpoints: Arc<Vec<Endpoint>>,
    current: Arc<AtomicUsize>,
    deployment: Arc<Deployment>,
}

struct Endpoint {
    provider: DynProvider,
    url: SecretUrl,
    /// Set once the endpoint has shown that it serves the deployment's chain.
    checked: AtomicBool,
}

/// Why the chain could not be asked. Never holds an endpoint's URL, which may carry a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("rpc {endpoint}: serves chain {served}, but the deployment is on chain {expected}")]
    WrongChain { endpoint: String, served: u64, expected: u64 },
    #[error("rpc {endpoint}: {what}: no reply within {} seconds", CHAIN_TIMEOUT.as_secs())]
    TimeOut { endpoint: String, what: &'static str },
    #[error("rpc {endpoint}: {what}: {message}")]
    Failed { endpoint: String, what: &'static str, message: String },
    /// The call itself would fail on chain.
    #[error("{what} would revert: {message}")]
    Reverts { what: &'static str, message: String },
}

/// A block that the chain ends in, at one level of finality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub number: u64,
    pub hash: B256,
    /// The hash of the block before it.
    pub parent: B256,
    /// Unix seconds.
    pub time: u64,
    /// Wei per gas.
    pub base_fee: u128,
}

/// A transaction in the latest chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mined {
    pub inclusion: Inclusion,
    /// The requests that it delivered.
    pub delivered: Vec<B256>,
}

/// A transmitter's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub latest_nonce: u64,
    pub safe_nonce: u64,
    pub balance: u128,
}

impl Chain {
    /// Prepares the endpoints; none is asked yet.
    pub fn new(urls: &[SecretUrl], deployment: Deployment) -> Self {
        let endpoints = urls
            .iter()
            .map(|url| Endpoint {
                provider: ProviderBuilder::new()
                    .disable_recommended_fillers()
                    .connect_http(url.reveal().clone())
                    .erased(),
                url: url.clone(),
                checked: AtomicBool::new(false),
            })
            .collect();
        Self {
            endpoints: Arc::new(endpoints),
            current: Arc::new(AtomicUsize::new(0)),
            deployment: Arc::new(deployment),
        }
    }

    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The block at a level of finality; `None` where the endpoint does not know the level yet.
    pub async fn head(&self, tag: BlockNumberOrTag) -> Result<Option<Head>, ChainError> {
        self.ask("read a block", |provider: DynProvider| async move {
            let block = provider.get_block_by_number(tag).await?;
            Ok(block.map(|block| Head {
                number: block.header.number,
                hash: block.header.hash,
                parent: block.header.parent_hash,
                time: block.header.timestamp,
                base_fee: u128::from(block.header.base_fee_per_gas.unwrap_or(0)),
            }))
        })
        .await
    }

    /// What the chain says about a request in a block.
    ///
    /// # Errors
    ///
    /// [`ChainError`], also when no endpoint has the block.
    pub async fn presence(&self, request_id: B256, block: BlockId) -> Result<Presence, ChainError> {
        let escrow = self.deployment.request_escrow;
        let status = self
            .ask("read a request's status", |provider: DynProvider| async move {
                let escrow = IRequestEscrowInstance::new(escrow, provider);
                let call = escrow.statusOf(request_id).block(block);
                Ok(call.call().await?)
            })
            .await;
        match status {
            Ok(Status::None | Status::__Invalid) => Ok(Presence::Absent),
            Ok(Status::Funded) => Ok(Presence::Funded),
            Ok(Status::Delivered | Status::Settled | Status::Slashed) => Ok(Presence::Delivered),
            Ok(Status::Refunded) => Ok(Presence::Refunded),
            // Before the escrow was deployed there was no request: an old safe block has no code at its address.
            Err(ChainError::Reverts { .. }) if block.is_safe() || block.is_finalized() => {
                Ok(Presence::Absent)
            }
            Err(error) => Err(error),
        }
    }

    /// The operator that signs, or has signed, with a key; the zero address when none has.
    pub async fn owner_of_signer(&self, signer: Address) -> Result<Address, ChainError> {
        let registry = self.deployment.operator_registry;
        self.ask("read a signer's owner", |provider: DynProvider| async move {
            let registry = IOperatorRegistryInstance::new(registry, provider);
            Ok(registry.ownerOfSigner(signer).call().await?)
        })
        .await
    }

    pub async fn is_revoked(&self, signer: Address) -> Result<bool, ChainError> {
        let registry = self.deployment.operator_registry;
        self.ask("read whether a signer is revoked", |provider: DynProvider| async move {
            let registry = IOperatorRegistryInstance::new(registry, provider);
            Ok(registry.isRevoked(signer).call().await?)
        })
        .await
    }

    /// What an account could withdraw of a token, from its own credit and from its shares of splits.
    pub async fn claimable(
        &self,
        account: Address,
        token: Address,
        splits: Vec<Split>,
    ) -> Result<U256, ChainError> {
        let escrow = self.deployment.request_escrow;
        self.ask("read what can be withdrawn", |provider: DynProvider| {
            let splits = splits.clone();
            async move {
                let escrow = IRequestEscrowInstance::new(escrow, provider);
                let amounts = escrow.claimable(account, vec![token], splits).call().await?;
                Ok(amounts.first().copied().unwrap_or_default())
            }
        })
        .await
    }

    /// A transmitter's nonces and balance. The safe nonce is 0 where the endpoint has no state of the safe block: a full
    /// node prunes it while the chain's safe head lags far behind, and anvil forgets it in a restart.
    pub async fn account(&self, address: Address) -> Result<Account, ChainError> {
        self.ask("read the transmitter's account", |provider: DynProvider| async move {
            let latest_nonce = provider.get_transaction_count(address).latest();
            let safe = provider.get_transaction_count(address).block_id(BlockId::safe());
            let balance = provider.get_balance(address).latest();
            let (latest_nonce, safe, balance) =
                tokio::join!(latest_nonce.into_future(), safe.into_future(), balance.into_future());
            let safe_nonce = match safe {
                // Without that state nothing is known to be safe, so nothing is settled; what is to be sent need not wait.
                Err(error) if error.is_error_resp() => {
                    tracing::debug!(%error, "an endpoint has no state of the safe block");
                    0
                }
                other => other?,
            };
            let (latest_nonce, balance) = (latest_nonce?, balance?);
            Ok(Account { latest_nonce, safe_nonce, balance: balance.saturating_to() })
        })
        .await
    }

    /// What gas costs. An endpoint without a tip oracle gets the tip that Base and anvil are content with.
    pub async fn market(&self, base_fee: u128) -> Result<Market, ChainError> {
        let priority = self
            .ask("read the priority fee", |provider: DynProvider| async move {
                Ok(provider.get_max_priority_fee_per_gas().await?)
            })
            .await
            .or_else(|error| match error {
                ChainError::Failed { .. } => Ok(1_000_000),
                ChainError::WrongChain { .. }
                | ChainError::TimeOut { .. }
                | ChainError::Reverts { .. } => Err(error),
            })?;
        Ok(Market { base_fee, priority })
    }

    /// Where a transaction stands in the latest chain.
    pub async fn inclusion(&self, hash: B256) -> Result<Option<Mined>, ChainError> {
        let escrow = self.deployment.request_escrow;
        self.ask("read a receipt", |provider: DynProvider| async move {
            let receipt = provider.get_transaction_receipt(hash).await?;
            Ok(receipt.and_then(|receipt| {
                let inclusion = Inclusion {
                    hash,
                    block_number: receipt.block_number?,
                    block_hash: receipt.block_hash?,
                    succeeded: receipt.status(),
                    cost: u128::from(receipt.gas_used).saturating_mul(receipt.effective_gas_price),
                };
                let of_escrow = receipt.logs().iter().filter(|log| log.address() == escrow);
                let delivered = of_escrow
                    .filter_map(|log| Delivered::decode_log(&log.inner).ok())
                    .map(|event| event.requestId)
                    .collect();
                Some(Mined { inclusion, delivered })
            }))
        })
        .await
    }

    /// The hash of the block at a height; `None` where the endpoint has none there yet.
    pub async fn block_hash(&self, number: u64) -> Result<Option<B256>, ChainError> {
        self.ask("read a block's hash", |provider: DynProvider| async move {
            let block = provider.get_block_by_number(BlockNumberOrTag::Number(number)).await?;
            Ok(block.map(|block| block.header.hash))
        })
        .await
    }

    /// Gas that a call from `sender` would use now.
    pub async fn estimate(&self, sender: Address, call: &Call) -> Result<u64, ChainError> {
        let request = TransactionRequest::default()
            .with_from(sender)
            .with_to(call.target)
            .with_input(call.calldata.clone());
        // On the latest block and not on a pending one, for which an endpoint may have to execute all that waits.
        self.ask("estimate a transaction's gas", |provider: DynProvider| {
            let request = request.clone();
            async move { Ok(provider.estimate_gas(request).latest().await?) }
        })
        .await
    }

    /// True when a call from `sender` comes through now with this much gas. An endpoint executes it once for that, where an
    /// estimate executes it again and again. False says nothing about why not.
    pub async fn suffices(
        &self,
        sender: Address,
        call: &Call,
        gas: u64,
    ) -> Result<bool, ChainError> {
        let request = TransactionRequest::default()
            .with_from(sender)
            .with_to(call.target)
            .with_input(call.calldata.clone())
            .with_gas_limit(gas);
        let called = self
            .ask("try a transaction", |provider: DynProvider| {
                let request = request.clone();
                async move { Ok(provider.call(request).latest().await?) }
            })
            .await;
        match called {
            Ok(_) => Ok(true),
            // Clients have their own words for gas that runs out; an endpoint that is down says so to the next question.
            Err(ChainError::Reverts { .. } | ChainError::Failed { .. }) => Ok(false),
            Err(error @ (ChainError::WrongChain { .. } | ChainError::TimeOut { .. })) => Err(error),
        }
    }

    /// Hands a signed transaction to the endpoints. `Ok` means that one of them has it.
    pub async fn send(&self, raw: &Bytes) -> Result<(), (Reply, String)> {
        let mut refusal = (Reply::Unknown, "no endpoint is configured".to_owned());
        for index in self.order() {
            let endpoint = &self.endpoints[index];
            if let Err(error) = self.check(endpoint).await {
                refusal = (Reply::Unknown, error.to_string());
                continue;
            }
            let sending = endpoint.provider.send_raw_transaction(raw);
            let message = match tokio::time::timeout(CHAIN_TIMEOUT, sending).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(RpcError::ErrorResp(payload))) => payload.message.to_string(),
                Ok(Err(error)) => endpoint.words(&error),
                Err(_) => "no reply in time".to_owned(),
            };
            match reply::read(&message) {
                Reply::Known => return Ok(()),
                known @ (Reply::NonceUsed
                | Reply::ReplacementUnderpriced
                | Reply::Underpriced
                | Reply::InsufficientFunds
                | Reply::NonceGap
                | Reply::PoolFull
                | Reply::Invalid) => refusal = (known, message),
                Reply::Unknown if refusal.0 == Reply::Unknown => {
                    refusal = (Reply::Unknown, message);
                }
                Reply::Unknown => {}
            }
        }
        Err(refusal)
    }

    async fn ask<T, Asking>(
        &self,
        what: &'static str,
        question: impl Fn(DynProvider) -> Asking + Send + Sync,
    ) -> Result<T, ChainError>
    where
        Asking: Future<Output = Result<T, Trouble>> + Send,
    {
        let mut last = ChainError::Failed {
            endpoint: "(none)".into(),
            what,
            message: "no endpoint is configured".into(),
        };
        for index in self.order() {
            let endpoint = &self.endpoints[index];
            if let Err(error) = self.check(endpoint).await {
                last = error;
                continue;
            }
            let asking = question(endpoint.provider.clone());
            last = match tokio::time::timeout(CHAIN_TIMEOUT, asking).await {
                Ok(Ok(value)) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(value);
                }
                Ok(Err(Trouble::Transport(RpcError::ErrorResp(payload))))
                    if is_revert(&payload.message) =>
                {
                    return Err(ChainError::Reverts { what, message: payload.to_string() });
                }
                Ok(Err(Trouble::Contract(message))) => {
                    return Err(ChainError::Reverts { what, message });
                }
                Ok(Err(Trouble::Transport(error))) => ChainError::Failed {
                    endpoint: endpoint.url.to_string(),
                    what,
                    message: endpoint.words(&error),
                },
                Err(_) => ChainError::TimeOut { endpoint: endpoint.url.to_string(), what },
            };
        }
        Err(last)
    }

    /// The endpoints, beginning with the one that answered last.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.endpoints.len();
        let first = self.current.load(Ordering::Relaxed);
        (0..count).map(move |step| (first + step) % count)
    }

    /// An endpoint of another chain would tell us that nothing of ours exists.
    async fn check(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
        if endpoint.checked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let what = "read the chain id";
        let served =
            match tokio::time::timeout(CHAIN_TIMEOUT, endpoint.provider.get_chain_id()).await {
                Ok(Ok(served)) => served,
                Ok(Err(error)) => {
                    return Err(ChainError::Failed {
                        endpoint: endpoint.url.to_string(),
                        what,
                        message: endpoint.words(&error),
                    });
                }
                Err(_) => {
                    return Err(ChainError::TimeOut { endpoint: endpoint.url.to_string(), what });
                }
            };
        let expected = self.deployment.chain_id;
        if served != expected {
            let endpoint = endpoint.url.to_string();
            return Err(ChainError::WrongChain { endpoint, served, expected });
        }
        endpoint.checked.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Endpoint {
    /// The words of a transport error without the URL, which reqwest repeats in full.
    fn words(&self, error: &TransportError) -> String {
        self.url.redact(&error.to_string())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.endpoints.iter().map(|e| e.url.to_string()).collect();
        formatter
            .debug_struct("Chain")
            .field("endpoints", &urls)
            .field("deployment", &self.deployment)
            .finish()
    }
}

/// How a question to one endpoint fails.
enum Trouble {
    Transport(TransportError),
    /// The contract is not there, or not the one that we know.
    Contract(String),
}

impl From<TransportError> for Trouble {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<alloy::contract::Error> for Trouble {
    fn from(error: alloy::contract::Error) -> Self {
        match error {
            alloy::contract::Error::TransportError(error) => Self::Transport(error),
            other => Self::Contract(other.to_string()),
        }
    }
}

fn is_revert(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    lower.contains("revert") || lower.contains("out of gas")
}
