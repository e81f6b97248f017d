//! The indexer against a real chain, a real database and a real broker.

mod follow;
mod publish;
mod reorg;

use std::time::Duration;

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::ext::AnvilApi;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolValue;
use auspex_devnet::anvil::{Anvil, AnvilOptions, accounts};
use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::provision::{Progress, ToolsConfig};
use auspex_indexer::config::IndexerConfig;
use auspex_indexer::entity::{ENTITIES, Versions};
use auspex_indexer::run::run;
use auspex_protocol::bindings::IRequestEscrow::{
    Attestation, Offer, OperatorSet, Outcome, Request, Result as SignedResult, Split,
};
use auspex_protocol::bindings::{
    IAgentRegistry, IEntryPolicy, IOperatorRegistry, IPlatformToken, IRequestEscrow,
};
use auspex_protocol::deployment::Deployment;
use auspex_protocol::quorum::result_digest;
use auspex_protocol::split::split_hash;
use auspex_protocol::terms::{
    escrow_domain, input_hash, offer_hash, operator_set_hash, request_id,
};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The price of a request, chosen so that neither fee nor split come out even.
const PRICE: u128 = 1_000_003;
const FEE_BPS: u16 = 250;

/// A chain with the contracts, one agent with an offer, and one operator; and an empty database.
struct World {
    anvil: Anvil,
    provider: DynProvider,
    db: TestDatabase,
    deployment: Deployment,
    deployment_file: tempfile::NamedTempFile,
    offer: Offer,
    split: Split,
    set: OperatorSet,
    signer: PrivateKeySigner,
    transmitter: Address,
    payer: Address,
}

/// An indexer that runs in this process.
struct Indexer {
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Indexer {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("join the indexer").expect("run the indexer");
    }
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    config: IndexerConfig,
}

impl World {
    async fn create() -> Self {
        let tools = ToolsConfig::from_environment().expect("read the tools' configuration");
        let program = tools.anvil(Progress::Silent).await.expect("find anvil");
        let anvil = Anvil::start(&program, AnvilOptions::for_tests()).await.expect("start anvil");
        let provider = ProviderBuilder::new()
            .disable_recommended_fillers()
            .connect_http(anvil.http_url())
            .erased();
        let db = TestDatabase::create().await.expect("create a database");
        // Anvil's public test keys; it signs for them itself.
        let [admin, owner, signer, transmitter, payee_one, payee_two, fees, payer, ..] =
            accounts::signers();
        let admin = admin.address();

        let token = deploy(
            &provider,
            admin,
            "PlatformToken",
            (payer.address(), U256::MAX >> 1).abi_encode_params(),
        )
        .await;
        let agents = deploy(&provider, admin, "AgentRegistry", Vec::new()).await;
        let policy = deploy(&provider, admin, "EntryPolicy", (admin,).abi_encode_params()).await;
        let escrow = deploy(
            &provider,
            admin,
            "RequestEscrow",
            (agents, policy, Address::ZERO).abi_encode_params(),
        )
        .await;
        let operators =
            IRequestEscrow::new(escrow, &provider).operatorRegistry().call().await.unwrap();

        let world = IEntryPolicy::new(policy, &provider);
        mined(&provider, world.setTokenAllowed(token, true).from(admin).into_transaction_request())
            .await;
        mined(
            &provider,
            world.setFee(FEE_BPS, fees.address()).from(admin).into_transaction_request(),
        )
        .await;
        let registry = IOperatorRegistry::new(operators, &provider);
        let register =
            registry.register(signer.address(), transmitter.address(), payee_one.address());
        mined(&provider, register.from(owner.address()).into_transaction_request()).await;
        let create = registry.createSet(admin, Address::ZERO, 0, Address::ZERO);
        mined(&provider, create.from(admin).into_transaction_request()).await;
        mined(&provider, registry.join(1).from(owner.address()).into_transaction_request()).await;
        let propose = registry.proposeEpoch(1, 1, vec![owner.address()]);
        mined(&provider, propose.from(admin).into_transaction_request()).await;
        mined(&provider, registry.startEpoch(1).from(admin).into_transaction_request()).await;

        let uri = "data:application/json,{\"name\":\"Docs\"}".to_owned();
        let register = IAgentRegistry::new(agents, &provider);
        mined(&provider, register.register_1(uri).from(admin).into_transaction_request()).await;
        let split = Split {
            recipients: vec![payee_one.address(), payee_two.address(), owner.address()],
            allocations: vec![U256::from(1), U256::from(1), U256::from(1)],
            totalAllocation: U256::from(3),
            distributionIncentive: 0,
        };
        let offer = Offer {
            agentId: U256::ZERO,
            token,
            price: PRICE,
            operatorSetId: 1,
            splitHash: split_hash(&split),
            durationMin: 60,
            durationMax: 3_600,
            ..Default::default()
        };
        let escrow_contract = IRequestEscrow::new(escrow, &provider);
        let publish = escrow_contract.publishOffer(offer.clone(), split.clone());
        mined(&provider, publish.from(admin).into_transaction_request()).await;
        let erc20 = auspex_protocol::bindings::IERC20::new(token, &provider);
        let approve = erc20.approve(escrow, U256::MAX);
        mined(&provider, approve.from(payer.address()).into_transaction_request()).await;

        let deployment = Deployment {
            chain_id: anvil.chain_id(),
            start_block: 1,
            agent_registry: agents,
            operator_registry: operators,
            entry_policy: policy,
            request_escrow: escrow,
            platform_token: Some(token),
            reputation_registry: None,
            validation_registry: None,
        };
        let set = OperatorSet { setId: 1, epoch: 1, threshold: 1, signers: vec![signer.address()] };
        let deployment_file = tempfile::NamedTempFile::new().unwrap();
        let mut world = Self {
            anvil,
            provider,
            db,
            deployment,
            deployment_file,
            offer,
            split,
            set,
            signer,
            transmitter: transmitter.address(),
            payer: payer.address(),
        };
        world.write_deployment();
        world
    }

    fn write_deployment(&mut self) {
        let json = serde_json::to_string(&self.deployment).unwrap();
        std::fs::write(self.deployment_file.path(), json).unwrap();
    }

    fn config(&self, further: &[&str]) -> IndexerConfig {
        let file = self.deployment_file.path().to_str().unwrap();
        let rpc = self.anvil.http_url().to_string();
        let mut args = vec!["indexer", "--database-url", self.db.url(), "--deployment", file];
        args.extend(["--rpc-url", &rpc, "--poll-ms", "20"]);
        args.extend(further);
        Command::parse_from(args).config
    }

    async fn start(&self) -> Indexer {
        self.start_with(self.config(&[])).await
    }

    async fn start_with(&self, config: IndexerConfig) -> Indexer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(config, listener, shutdown.clone()));
        Indexer { shutdown, task }
    }

    fn escrow(&self) -> IRequestEscrow::IRequestEscrowInstance<&DynProvider> {
        IRequestEscrow::new(self.deployment.request_escrow, &self.provider)
    }

    async fn terms(&self, salt: u8) -> Request {
        let block = self.provider.get_block(Default::default()).await.unwrap().unwrap();
        let deadline = block.header.timestamp + 600;
        Request {
            payer: self.payer,
            agentId: self.offer.agentId,
            offerHash: offer_hash(&self.offer),
            operatorSetHash: operator_set_hash(&self.set),
            splitHash: self.offer.splitHash,
            token: self.offer.token,
            maxAmount: self.offer.price,
            feeBps: FEE_BPS,
            feeRecipient: accounts::signers()[6].address(),
            deadline: deadline.try_into().unwrap(),
            inputHash: input_hash(b"What is an agent?"),
            salt: B256::repeat_byte(salt),
            ..Default::default()
        }
    }

    fn request_id(&self, terms: &Request) -> B256 {
        request_id(&escrow_domain(self.deployment.chain_id, self.deployment.request_escrow), terms)
    }

    /// Pays for a request; returns its id.
    async fn request(&self, terms: &Request) -> B256 {
        let input = Bytes::from_static(b"What is an agent?");
        let escrow = self.escrow();
        let call = escrow.request(terms.clone(), self.offer.clone(), input).from(self.payer);
        mined(&self.provider, call.into_transaction_request()).await;
        self.request_id(terms)
    }

    /// Delivers an answer that charges this much.
    async fn deliver(&self, terms: &Request, amount: u128) -> TransactionReceipt {
        let domain = escrow_domain(self.deployment.chain_id, self.deployment.request_escrow);
        let result = SignedResult {
            requestId: self.request_id(terms),
            outcome: Outcome::Answered,
            outputHash: keccak256(b"an answer"),
            amount,
            traceRoot: B256::ZERO,
            retrievalRoot: B256::ZERO,
            modelHash: B256::ZERO,
            validUntil: u64::MAX,
        };
        let digest = result_digest(&domain, &result);
        let signature = self.signer.sign_hash_sync(&digest).unwrap().as_bytes();
        let attestation =
            Attestation { signer: self.signer.address(), signature: signature.to_vec().into() };
        let escrow = self.escrow();
        let call = escrow
            .deliver(terms.clone(), result, self.set.clone(), vec![attestation])
            .from(self.transmitter);
        mined(&self.provider, call.into_transaction_request()).await
    }

    /// The current status of a request as indexed.
    async fn status(&self, id: B256) -> Option<String> {
        sqlx::query_scalar::<_, String>(
            "select status from indexer.requests where request_id = $1 and upper_inf(block_range)",
        )
        .bind(id.as_slice())
        .fetch_optional(&self.db.pool())
        .await
        // Before the first start there are no tables.
        .unwrap_or(None)
    }

    async fn wait_for_status(&self, id: B256, status: Option<&str>) {
        let text = format!("request {id} to be {status:?}");
        wait_for(&text, async || self.status(id).await.as_deref() == status).await;
    }

    /// Waits until the indexed tip is the chain's.
    async fn wait_for_tip(&self) {
        wait_for("the tip to be indexed", async || {
            let block = self.provider.get_block(Default::default()).await.unwrap().unwrap();
            self.number("select number from indexer.cursors").await
                == Some(block.header.number as i64)
                && self.bytes("select hash from indexer.cursors").await
                    == block.header.hash.to_vec()
        })
        .await;
    }

    async fn number(&self, sql: &'static str) -> Option<i64> {
        sqlx::query_scalar::<_, i64>(sql).fetch_optional(&self.db.pool()).await.unwrap_or(None)
    }

    async fn bytes(&self, sql: &'static str) -> Vec<u8> {
        let found = sqlx::query_scalar::<_, Vec<u8>>(sql).fetch_optional(&self.db.pool()).await;
        found.ok().flatten().unwrap_or_default()
    }

    /// No row of a block that the chain does not hold.
    async fn assert_every_row_is_canonical(&self) {
        let rows = sqlx::query_as::<_, (i64, Vec<u8>)>(
            "select block_number, block_hash from indexer.facts
             union select requested_block, requested_block_hash from indexer.requests
             union select number, hash from indexer.blocks",
        )
        .fetch_all(&self.db.pool())
        .await
        .unwrap();
        assert!(!rows.is_empty());
        for (number, hash) in rows {
            let block = self.provider.get_block((number as u64).into()).await.unwrap().unwrap();
            assert_eq!(block.header.hash.as_slice(), hash, "block {number}");
        }
        // What happens once has one version, and queries about the past rely on it.
        for entity in ENTITIES {
            if entity.on_chain && entity.versions == Versions::One {
                let sql = format!(
                    "select count(*) from (select id from {} group by chain_id, id
                     having count(*) > 1 or not bool_and(upper_inf(block_range))) as several",
                    entity.source
                );
                let several: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                    .fetch_one(&self.db.pool())
                    .await
                    .unwrap();
                assert_eq!(several, 0, "{} has several versions", entity.name);
            }
        }
    }
}

async fn deploy(provider: &DynProvider, from: Address, name: &str, arguments: Vec<u8>) -> Address {
    let file = format!("{}/../contracts/artifacts/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let artifact: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut code: Vec<u8> =
        artifact["bytecode"].as_str().unwrap().parse::<Bytes>().unwrap().to_vec();
    code.extend(arguments);
    let transaction = TransactionRequest::default().with_from(from).with_deploy_code(code);
    mined(provider, transaction).await.contract_address.unwrap()
}

/// Sends a transaction and waits until it is mined, which is at once.
async fn mined(provider: &DynProvider, transaction: TransactionRequest) -> TransactionReceipt {
    let hash = *provider.send_transaction(transaction).await.unwrap().tx_hash();
    let mut receipt = None;
    wait_for("a transaction to be mined", async || {
        receipt = provider.get_transaction_receipt(hash).await.unwrap();
        receipt.is_some()
    })
    .await;
    let receipt = receipt.unwrap();
    assert!(receipt.status(), "transaction {hash} reverted");
    receipt
}

/// Polls until a condition holds; fails the test after half a minute.
async fn wait_for(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited 30 s for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A token that no test needs by name but the deployment has.
#[tokio::test]
async fn the_platform_token_is_watched() {
    let world = World::create().await;
    let token = IPlatformToken::new(world.offer.token, &world.provider);
    let unused = token.authorizationState(world.payer, B256::ZERO).call().await.unwrap();
    assert!(!unused);
    let indexer = world.start().await;
    world.wait_for_tip().await;
    assert_eq!(
        world.number("select count(*) from indexer.facts where address = (select token from indexer.offers)").await,
        Some(1),
        "the mint is a transfer, the approval is not kept"
    );
    indexer.stop().await;
}

/// Mines blocks without transactions.
async fn mine(world: &World, blocks: u64) {
    world.provider.anvil_mine(Some(blocks), None).await.unwrap();
}
