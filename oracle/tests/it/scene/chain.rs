//! Anvil with the contracts of `contracts/artifacts`, an agent, an offer, and a set of operators.

use std::path::PathBuf;
use std::time::Duration;

use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::ext::AnvilApi;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolEvent, SolValue};
use auspex_devnet::anvil::{Anvil, AnvilOptions, accounts};
use auspex_devnet::provision::{Progress, ToolsConfig};
use auspex_protocol::bindings::IAgentRegistry;
use auspex_protocol::bindings::IEntryPolicy;
use auspex_protocol::bindings::IOperatorRegistry;
use auspex_protocol::bindings::IRequestEscrow::{self, Offer, OperatorSet, Request, Split, Status};
use auspex_protocol::deployment::Deployment;
use auspex_protocol::split::split_hash;
use auspex_protocol::terms::{
    escrow_domain, input_hash, offer_hash, operator_set_hash, request_id,
};

/// Who does what; anvil's public keys.
const DEPLOYER: usize = 0;
const PAYER: usize = 1;
const FIRST_OWNER: usize = 2;

/// An operator with its keys, which are anvil's and ones derived for the test.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) owner: Address,
    pub(crate) signer: B256,
    pub(crate) transmitter: B256,
}

impl Operator {
    pub(crate) fn signer_address(&self) -> Address {
        key(self.signer).address()
    }

    pub(crate) fn transmitter_address(&self) -> Address {
        key(self.transmitter).address()
    }
}

/// Anvil alone.
pub(crate) async fn anvil(options: AnvilOptions) -> Anvil {
    let program = ToolsConfig::from_environment()
        .expect("tools configuration")
        .anvil(Progress::Silent)
        .await
        .expect("anvil");
    Anvil::start(&program, options).await.expect("start anvil")
}

/// The chain with everything on it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) anvil: Anvil,
    pub(crate) provider: DynProvider,
    pub(crate) deployment: Deployment,
    pub(crate) operators: Vec<Operator>,
    pub(crate) offer: Offer,
    pub(crate) split: Split,
    pub(crate) set: OperatorSet,
}

impl Scene {
    /// Deploys the contracts and registers `members` operators in a set with `threshold`.
    pub(crate) async fn new(members: u8, threshold: u8, block_time: Option<Duration>) -> Self {
        Self::on(AnvilOptions::for_tests(), members, threshold, block_time).await
    }

    /// The same on a chain of one's own choice, which has to make blocks at once while the scene is set.
    pub(crate) async fn on(
        chain: AnvilOptions,
        members: u8,
        threshold: u8,
        block_time: Option<Duration>,
    ) -> Self {
        let anvil = anvil(chain).await;
        let wallet = accounts::signers().into_iter().fold(
            EthereumWallet::new(accounts::signers()[DEPLOYER].clone()),
            |mut wallet, signer| {
                wallet.register_signer(signer);
                wallet
            },
        );
        let provider =
            ProviderBuilder::new().wallet(wallet).connect_http(anvil.http_url()).erased();
        let mut scene = Self {
            anvil,
            provider,
            deployment: Deployment {
                chain_id: auspex_devnet::anvil::CHAIN_ID,
                start_block: 0,
                agent_registry: Address::ZERO,
                operator_registry: Address::ZERO,
                entry_policy: Address::ZERO,
                request_escrow: Address::ZERO,
                platform_token: None,
                reputation_registry: None,
                validation_registry: None,
            },
            operators: Vec::new(),
            offer: Offer::default(),
            split: Split::default(),
            set: OperatorSet::default(),
        };
        scene.deploy().await;
        scene.register(members, threshold).await;
        scene.publish().await;
        if let Some(block_time) = block_time {
            scene
                .provider
                .anvil_set_interval_mining(block_time.as_secs().max(1))
                .await
                .expect("set the block time");
        }
        scene
    }

    async fn deploy(&mut self) {
        let deployer = address(DEPLOYER);
        let agents = self.create("AgentRegistry", Vec::new()).await;
        let policy = self.create("EntryPolicy", deployer.abi_encode()).await;
        let arguments = (agents, policy, Address::ZERO).abi_encode();
        let escrow = self.create("RequestEscrow", arguments).await;
        let registry = IRequestEscrow::new(escrow, &self.provider)
            .operatorRegistry()
            .call()
            .await
            .expect("read the registry");
        self.deployment.agent_registry = agents;
        self.deployment.entry_policy = policy;
        self.deployment.request_escrow = escrow;
        self.deployment.operator_registry = registry;
        let allow = IEntryPolicy::setTokenAllowedCall { token: Address::ZERO, allowed: true };
        self.call(DEPLOYER, policy, allow.abi_encode(), 0).await;
        let fee = IEntryPolicy::setFeeCall { feeBps: 100, feeRecipient: deployer };
        self.call(DEPLOYER, policy, fee.abi_encode(), 0).await;
    }

    async fn register(&mut self, members: u8, threshold: u8) {
        let registry = self.deployment.operator_registry;
        for number in 0..members {
            let owner = FIRST_OWNER + usize::from(number);
            let operator = Operator {
                owner: address(owner),
                signer: keccak256(format!("signer {number}")),
                transmitter: keccak256(format!("transmitter {number}")),
            };
            let register = IOperatorRegistry::registerCall {
                signer: operator.signer_address(),
                transmitter: operator.transmitter_address(),
                withdrawal: Address::repeat_byte(0x60 + number),
            };
            self.call(owner, registry, register.abi_encode(), 0).await;
            self.fund(operator.transmitter_address(), 10u128.pow(19)).await;
            self.operators.push(operator);
        }
        let create = IOperatorRegistry::createSetCall {
            admin: address(DEPLOYER),
            bondToken: Address::ZERO,
            bond: 0,
            referee: Address::ZERO,
        };
        self.call(DEPLOYER, registry, create.abi_encode(), 0).await;
        for number in 0..usize::from(members) {
            let join = IOperatorRegistry::joinCall { setId: 1 };
            self.call(FIRST_OWNER + number, registry, join.abi_encode(), 0).await;
        }
        let owners = self.operators.iter().map(|operator| operator.owner).collect();
        let propose =
            IOperatorRegistry::proposeEpochCall { setId: 1, threshold, operators: owners };
        self.call(DEPLOYER, registry, propose.abi_encode(), 0).await;
        let start = IOperatorRegistry::startEpochCall { setId: 1 };
        self.call(DEPLOYER, registry, start.abi_encode(), 0).await;
        let epoch = IOperatorRegistry::new(registry, &self.provider)
            .epochOf(1)
            .call()
            .await
            .expect("read the epoch");
        self.set = OperatorSet {
            setId: 1,
            epoch: epoch.epoch,
            threshold: epoch.threshold,
            signers: epoch.signers,
        };
    }

    async fn publish(&mut self) {
        let register = IAgentRegistry::register_1Call { agentURI: "data:,agent".into() };
        self.call(DEPLOYER, self.deployment.agent_registry, register.abi_encode(), 0).await;
        self.split = Split {
            recipients: vec![address(8), address(9)],
            allocations: vec![U256::from(3), U256::from(1)],
            totalAllocation: U256::from(4),
            distributionIncentive: 0,
        };
        self.offer = Offer {
            agentId: U256::ZERO,
            token: Address::ZERO,
            price: 10u128.pow(16),
            operatorSetId: 1,
            splitHash: split_hash(&self.split),
            corpusRoot: B256::ZERO,
            modelHash: B256::ZERO,
            durationMin: 10,
            durationMax: 86_400,
            challengeWindow: 0,
            referee: Address::ZERO,
        };
        let publish = IRequestEscrow::publishOfferCall {
            offer: self.offer.clone(),
            split: self.split.clone(),
        };
        self.call(DEPLOYER, self.deployment.request_escrow, publish.abi_encode(), 0).await;
    }

    /// Pays for a request; the deadline is `seconds` after the latest block.
    pub(crate) async fn request(&self, input: &[u8], seconds: u64) -> B256 {
        let (terms, call) = self.request_call(input, seconds).await;
        let escrow = self.deployment.request_escrow;
        self.call(PAYER, escrow, call, self.offer.price).await;
        request_id(&escrow_domain(self.deployment.chain_id, escrow), &terms)
    }

    /// Pays for several requests in one transaction.
    pub(crate) async fn requests(&self, inputs: Vec<Bytes>, seconds: u64) -> Vec<B256> {
        let (terms, _) = self.request_call(&inputs[0], seconds).await;
        let escrow = self.deployment.request_escrow;
        let domain = escrow_domain(self.deployment.chain_id, escrow);
        let ids = inputs.iter().enumerate().map(|(number, input)| {
            let salt = U256::from_be_bytes(terms.salt.0).wrapping_add(U256::from(number));
            let terms =
                Request { salt: salt.into(), inputHash: input_hash(input), ..terms.clone() };
            request_id(&domain, &terms)
        });
        let ids = ids.collect();
        let wei = self.offer.price * inputs.len() as u128;
        // Said and not estimated: an estimate executes it again and again, which costs anvil more than the rest.
        let gas = 200_000 + 60_000 * inputs.len() as u64;
        let call = IRequestEscrow::requestBatchCall { terms, offer: self.offer.clone(), inputs };
        let request = TransactionRequest::default()
            .with_from(address(PAYER))
            .with_to(escrow)
            .with_input(Bytes::from(call.abi_encode()))
            .with_value(U256::from(wei))
            .with_gas_limit(gas);
        self.send(request).await;
        ids
    }

    async fn request_call(&self, input: &[u8], seconds: u64) -> (Request, Vec<u8>) {
        let latest = self
            .provider
            .get_block_by_number(alloy::eips::BlockNumberOrTag::Latest)
            .await
            .expect("read the latest block")
            .expect("a latest block");
        let deadline = latest.header.timestamp + seconds;
        let terms = Request {
            payer: address(PAYER),
            agentId: self.offer.agentId,
            offerHash: offer_hash(&self.offer),
            operatorSetHash: operator_set_hash(&self.set),
            splitHash: self.offer.splitHash,
            token: Address::ZERO,
            maxAmount: self.offer.price,
            feeBps: 100,
            feeRecipient: address(DEPLOYER),
            deadline: deadline.to_string().parse().expect("a deadline"),
            challengeWindow: 0,
            referee: Address::ZERO,
            callback: Address::ZERO,
            callbackGas: 0,
            inputHash: input_hash(input),
            salt: B256::from(rand::random::<[u8; 32]>()),
        };
        let call = IRequestEscrow::requestCall {
            terms: terms.clone(),
            offer: self.offer.clone(),
            input: Bytes::copy_from_slice(input),
        };
        (terms, call.abi_encode())
    }

    pub(crate) async fn status(&self, request_id: B256) -> Status {
        IRequestEscrow::new(self.deployment.request_escrow, &self.provider)
            .statusOf(request_id)
            .call()
            .await
            .expect("read a status")
    }

    /// The `Delivered` events of a request, which are never more than one on one chain.
    pub(crate) async fn deliveries(&self, request_id: B256) -> Vec<IRequestEscrow::Delivered> {
        let filter = alloy::rpc::types::Filter::new()
            .from_block(0)
            .address(self.deployment.request_escrow)
            .event_signature(IRequestEscrow::Delivered::SIGNATURE_HASH)
            .topic1(request_id);
        let logs = self.provider.get_logs(&filter).await.expect("read logs");
        logs.iter()
            .map(|log| IRequestEscrow::Delivered::decode_log(&log.inner).expect("decode").data)
            .collect()
    }

    pub(crate) async fn fund(&self, account: Address, wei: u128) {
        self.provider.anvil_set_balance(account, U256::from(wei)).await.expect("set a balance");
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        self.provider.anvil_mine(Some(blocks), None).await.expect("mine");
    }

    async fn create(&self, contract: &str, arguments: Vec<u8>) -> Address {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../contracts/artifacts/{contract}.json"));
        let artifact = std::fs::read(path).expect("read an artifact");
        let artifact: serde_json::Value = serde_json::from_slice(&artifact).expect("an artifact");
        let bytecode = artifact["bytecode"].as_str().expect("bytecode");
        let mut code = hex::decode(bytecode.trim_start_matches("0x")).expect("hexadecimal");
        code.extend(arguments);
        let request = TransactionRequest::default()
            .with_from(address(DEPLOYER))
            .with_deploy_code(Bytes::from(code));
        self.send(request).await.contract_address.expect("a contract")
    }

    async fn call(&self, from: usize, to: Address, calldata: Vec<u8>, wei: u128) {
        let request = TransactionRequest::default()
            .with_from(address(from))
            .with_to(to)
            .with_input(Bytes::from(calldata))
            .with_value(U256::from(wei));
        self.send(request).await;
    }

    async fn send(&self, request: TransactionRequest) -> TransactionReceipt {
        let pending = self.provider.send_transaction(request).await.expect("send");
        let hash = *pending.tx_hash();
        let receipt = super::eventually("a receipt", || async {
            self.provider.get_transaction_receipt(hash).await.expect("read a receipt")
        })
        .await;
        assert!(receipt.status(), "a transaction of the scene reverted");
        receipt
    }
}

fn address(index: usize) -> Address {
    accounts::signers()[index].address()
}

pub(crate) fn key(secret: B256) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&secret).expect("a key")
}
