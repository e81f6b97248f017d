//! One manager against one anvil, driven step by step.

use std::sync::Arc;
use std::time::Duration;

use alloy::network::EthereumWallet;
use alloy::primitives::{Address, B256, Bytes, U256, bytes};
use alloy::providers::ext::AnvilApi;
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use auspex_devnet::anvil::{Anvil, AnvilOptions};
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::chain::Chain;
use auspex_oracle::config::SecretUrl;
use auspex_oracle::job::store::claim;
use auspex_oracle::keys::Transmitter;
use auspex_oracle::meter::Meters;
use auspex_oracle::transaction::custody::Custody;
use auspex_oracle::transaction::intent::{Call, intend};
use auspex_oracle::transaction::manager::Manager;
use auspex_oracle::transaction::plan::{Action, Policy};
use auspex_protocol::deployment::Deployment;
use serde_json::Value;
use tokio::sync::{Mutex, Notify};

use crate::lease::{discover, domain, terms};
use crate::scene::chain::{anvil, key};

pub(super) const KEY: B256 = B256::repeat_byte(0x77);
pub(super) const TARGET: Address = Address::repeat_byte(0xaa);
/// Always reverts: PUSH1 0, PUSH1 0, REVERT.
pub(super) const REVERTS: Bytes = bytes!("60006000fd");
pub(super) const ETHER: u128 = 10u128.pow(18);

pub(super) struct Bench {
    pub(super) anvil: Anvil,
    pub(super) provider: DynProvider,
    pub(super) database: TestDatabase,
    pub(super) manager: Manager,
    pub(super) custody: Custody,
    pub(super) requests: u8,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let anvil = anvil(AnvilOptions::for_tests()).await;
        let provider = ProviderBuilder::new()
            .wallet(EthereumWallet::new(key(KEY)))
            .connect_http(anvil.http_url())
            .erased();
        let database = TestDatabase::create().await.expect("a database");
        let manager = manager(&anvil, &database);
        let bench_address = key(KEY).address();
        provider.anvil_set_balance(bench_address, U256::from(ETHER)).await.expect("funded");
        let custody = manager.take_custody().await.expect("asked").expect("custody");
        let mut bench = Self { anvil, provider, database, manager, custody, requests: 0 };
        bench.mining(false).await;
        bench
    }

    pub(super) async fn mining(&mut self, on: bool) {
        let _: Value =
            self.provider.raw_request("evm_setAutomine".into(), [on]).await.expect("mining");
    }

    /// Makes an intent for a new request, which is the most urgent one.
    pub(super) async fn intent(&mut self) -> B256 {
        self.requests += 1;
        let deadline = 9_000_000_000 - u64::from(self.requests);
        let terms = terms(self.requests, deadline, vec![Address::repeat_byte(1)]);
        discover(&self.database.pool(), &terms, 1, 1).await.expect("new");
        self.intend_claimed().await;
        terms.request_id
    }

    /// Makes an intent for the newest request.
    pub(super) async fn intend_claimed(&self) {
        let pool = &self.database.pool();
        let job = claim(pool, &domain(), "a", Duration::from_secs(30), true)
            .await
            .expect("claim")
            .expect("a job");
        let call = Call { target: TARGET, calldata: bytes!("01020304") };
        let transmitter = key(KEY).address();
        intend(pool, &job.lease, transmitter, &call, Duration::ZERO).await.expect("intended");
    }

    pub(super) async fn step(&self) -> Vec<Action> {
        self.manager.step(&self.custody, false).await.expect("a step")
    }

    pub(super) async fn mine(&self, blocks: u64) {
        self.provider.anvil_mine(Some(blocks), None).await.expect("mined");
    }

    pub(super) async fn reorg(&self, depth: u64) {
        let _: Value = self
            .provider
            .raw_request("anvil_reorg".into(), (depth, Vec::<Value>::new()))
            .await
            .expect("reorg");
    }

    pub(super) async fn state(&self, request_id: B256) -> String {
        sqlx::query_scalar(
            "select state from oracle.intents where request_id = $1 order by id desc limit 1",
        )
        .bind(request_id.as_slice())
        .fetch_one(&self.database.pool())
        .await
        .expect("a state")
    }

    pub(super) async fn hashes(&self) -> Vec<Vec<u8>> {
        sqlx::query_scalar("select hash from oracle.transactions order by max_fee, signed_at")
            .fetch_all(&self.database.pool())
            .await
            .expect("hashes")
    }

    pub(super) async fn pending(&self) -> Value {
        let status: Value =
            self.provider.raw_request("txpool_status".into(), ()).await.expect("status");
        status["pending"].clone()
    }

    pub(super) async fn forget(&self) {
        let _: Value = self
            .provider
            .raw_request("anvil_dropAllTransactions".into(), ())
            .await
            .expect("dropped");
    }

    pub(super) async fn set_code(&self, code: Bytes) {
        self.provider.anvil_set_code(TARGET, code).await.expect("code");
    }

    /// Steps and mines until everything that is open is final.
    pub(super) async fn quiesce(&self) {
        for _ in 0..20 {
            self.step().await;
            self.mine(1).await;
        }
        self.mine(40).await;
        self.step().await;
    }
}

pub(super) fn manager(anvil: &Anvil, database: &TestDatabase) -> Manager {
    let deployment = Deployment {
        chain_id: auspex_devnet::anvil::CHAIN_ID,
        start_block: 0,
        agent_registry: Address::repeat_byte(1),
        operator_registry: Address::repeat_byte(2),
        entry_policy: Address::repeat_byte(4),
        request_escrow: Address::repeat_byte(3),
        platform_token: None,
        reputation_registry: None,
        validation_registry: None,
    };
    Manager {
        pool: database.pool(),
        chain: Chain::new(&[SecretUrl::new(anvil.http_url())], deployment),
        key: Transmitter::new(key(KEY)),
        policy: Policy {
            fee_cap: 500_000_000_000,
            budget: ETHER / 2,
            raise_after: Duration::from_secs(3600),
            resend_after: Duration::ZERO,
        },
        holder: "test".into(),
        meters: Arc::new(Meters::default()),
        bell: Arc::new(Notify::new()),
        work: Arc::new(Notify::new()),
        interval: Duration::from_millis(50),
        memory: Mutex::default(),
    }
}
