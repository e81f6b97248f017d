//! An operator whose processes die, beside an honest one that has no money for gas, over a real chain, broker and database.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::Provider;
use alloy::providers::ext::AnvilApi;
use auspex_devnet::broker::TestBroker;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::answerer::Answerer;
use auspex_oracle::failpoint::Point;
use auspex_oracle::keys::file::write_secret;
use auspex_oracle::keys::keystore::{Strength, import};
use auspex_oracle::limits::SIGNER_START_WAIT;
use auspex_oracle::signer::client::SignerClient;
use secrecy::SecretString;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::time::Instant;

use super::process::{Actor, Role, repeating};
use crate::scene::chain::Operator;
use crate::scene::eventually;
use crate::scene::node::{Running, World};

/// How long a process may take to come to its end. A machine that compiles beside the test is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// The password of the keystores.
const CANARY_PASSWORD: &str = "correct-CANARY-horse-battery";

/// Seconds that a request has before its deadline; blocks are mined fast, and each is a second of chain time.
const TIME: u64 = 80_000;

pub(super) struct Stage {
    test: &'static str,
    pub(super) world: World,
    pub(super) database: TestDatabase,
    pub(super) operator: Operator,
    pub(super) requests: Vec<B256>,
    signer: Option<Actor>,
    node: Option<Actor>,
    honest: Option<Running>,
    folder: TempDir,
}

/// The right to the transmitter's nonces, kept from the node.
pub(super) struct Kept(PgConnection);

impl Stage {
    pub(super) async fn set(test: &'static str) -> Self {
        let mut world = World::new(3, 2, None).await;
        world.broker = Some(TestBroker::start().await.expect("a broker"));
        let folder = TempDir::new().expect("a folder");
        let operator = world.scene.operators[0].clone();
        let words = SecretString::from(CANARY_PASSWORD);
        write_secret(&folder.path().join("password"), CANARY_PASSWORD.as_bytes())
            .expect("a password");
        for (name, secret) in [("signer", operator.signer), ("transmitter", operator.transmitter)] {
            import(&folder.path().join(name), &secret.0, &words, Strength::Light).expect("a key");
        }
        // The others sign and cannot deliver, so that the deliveries are those of the one whose processes die.
        for other in &world.scene.operators[1..] {
            world.scene.fund(other.transmitter_address(), 0).await;
        }
        let database = TestDatabase::create().await.expect("a database");
        let mut stage = Self {
            test,
            world,
            database,
            operator,
            requests: Vec::new(),
            signer: None,
            node: None,
            honest: None,
            folder,
        };
        stage.start_signer(None);
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn option(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.path(file).display())
    }

    pub(super) fn start_signer(&mut self, dies_at: Option<Point>) {
        self.signer = None;
        let arguments = vec![
            "signer".to_owned(),
            self.option("signer-keystore", "signer"),
            self.option("signer-password-file", "password"),
            self.option("transmitter-keystore", "transmitter"),
            self.option("transmitter-password-file", "password"),
            self.option("socket", "socket"),
            self.option("log", "log"),
        ];
        let deployment = self.world.folder.path().join("deployment.json");
        let role = Role::Signer { arguments, deployment };
        self.signer = Some(Actor::start(self.test, &role, dies_at, &self.path("signer.err")));
    }

    pub(super) fn start_node(&mut self, dies_at: Option<Point>) {
        self.node = None;
        let socket = self.option("signer-socket", "socket");
        let account = format!("--withdraw-for={}", self.world.scene.split.recipients[0]);
        let above = format!("--withdraw-above={}=1", Address::ZERO);
        let more = [
            socket.as_str(),
            account.as_str(),
            above.as_str(),
            "--withdraw-interval-ms=200",
            "--takeover-ms=50",
            "--raise-after-ms=500",
            "--resend-after-ms=300",
        ];
        let arguments = self.world.arguments(&self.operator, self.database.url(), &more);
        let role = Role::Node(arguments);
        self.node = Some(Actor::start(self.test, &role, dies_at, &self.path("node.err")));
    }

    pub(super) fn node_process(&self) -> u32 {
        self.node.as_ref().expect("a node").id()
    }

    /// The signer's process, which has its keys once it answers.
    pub(super) async fn running_signer(&self) -> u32 {
        SignerClient::connect(&self.path("socket"), SIGNER_START_WAIT).await.expect("a signer");
        self.signer.as_ref().expect("a signer").id()
    }

    /// Crashes the signer; says how it ended.
    pub(super) fn crash_signer(&mut self) -> ExitStatus {
        self.signer.as_mut().expect("a signer").crash()
    }

    /// What only the signer knows, in the forms in which it could be found.
    pub(super) fn secrets(&self) -> Vec<Vec<u8>> {
        let keys = [self.operator.signer, self.operator.transmitter];
        let forms = keys.map(|key| [key.to_vec(), hex::encode(key).into_bytes()]).concat();
        forms.into_iter().chain([CANARY_PASSWORD.as_bytes().to_vec()]).collect()
    }

    pub(super) fn stop_node(&mut self) {
        self.node = None;
    }

    /// The honest member, which makes the quorum.
    pub(super) async fn start_honest(&mut self) {
        self.honest = Some(self.start_other(1, repeating()).await);
    }

    /// A member in this process.
    pub(super) async fn start_other(&self, number: usize, answerer: Answerer) -> Running {
        let database = TestDatabase::create().await.expect("a database");
        let other = &self.world.scene.operators[number];
        let config = self.world.config(other, database.url(), &["--takeover-ms=600000"]);
        self.world.start_with(config, database, answerer).await
    }

    pub(super) async fn ask(&mut self, question: &str) {
        let request_id = self.world.scene.request(question.as_bytes(), TIME).await;
        self.requests.push(request_id);
    }

    /// Several requests in one transaction.
    pub(super) async fn ask_together(&mut self, count: usize) {
        let inputs = (0..count)
            .map(|number| Bytes::from(format!("together {number}").into_bytes()))
            .collect();
        self.requests.extend(self.world.scene.requests(inputs, TIME).await);
    }

    /// Runs a node that dies at a point, and waits until it has. Blocks are mined meanwhile, unless told otherwise, so
    /// that what is safe and what is final moves on.
    pub(super) async fn node_dies_at(&mut self, point: Point, mining: bool) {
        self.start_node(Some(point));
        self.await_death(point, mining).await;
    }

    pub(super) async fn await_death(&mut self, point: Point, mining: bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let node = self.node.as_mut().expect("a node");
            if let Some(status) = node.ended() {
                node.assert_aborted(status, point);
                return;
            }
            assert!(Instant::now() < deadline, "the node never passes {}", point.name());
            if mining {
                self.world.scene.mine(10).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) async fn signer_dies_at(&mut self, point: Point) {
        self.start_signer(Some(point));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let signer = self.signer.as_mut().expect("a signer");
            if let Some(status) = signer.ended() {
                signer.assert_aborted(status, point);
                return;
            }
            assert!(Instant::now() < deadline, "the signer never passes {}", point.name());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Keeps the node from the transmitter's nonces. It must not be running.
    pub(super) async fn keep_custody(&self) -> Kept {
        let mut session = PgConnection::connect(self.database.url()).await.expect("a session");
        let name = format!("{:#x}", self.operator.transmitter_address());
        sqlx::query("select pg_advisory_lock(hashtextextended('auspex transmitter ' || $1, 0))")
            .bind(name)
            .execute(&mut session)
            .await
            .expect("the lock");
        // On a new database the row that a manager makes first is not there yet.
        sqlx::query(
            "insert into oracle.transmitters (address, next_nonce) values ($1, 0)
             on conflict (address) do nothing",
        )
        .bind(self.operator.transmitter_address().as_slice())
        .execute(&mut session)
        .await
        .expect("a transmitter");
        Kept(session)
    }

    pub(super) async fn queued(&self, deliveries: i64) {
        let pool = self.database.pool();
        eventually("the deliveries are queued", || async {
            let queued: i64 = sqlx::query_scalar(
                "select count(*) from oracle.intents where state = 'queued' and kind = 'delivery'",
            )
            .fetch_one(&pool)
            .await
            .expect("count");
            (queued == deliveries).then_some(())
        })
        .await;
    }

    pub(super) async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.database.pool()).await.expect("a statement");
    }

    pub(super) async fn automine(&self, on: bool) {
        let provider = &self.world.scene.provider;
        let _: Value = provider.raw_request("evm_setAutomine".into(), [on]).await.expect("set");
    }

    /// Lets a node that nothing ends settle everything, and checks what is promised: every request is settled once, with
    /// the result that was recorded; every nonce is used, by a transaction of ours; nothing is left to do.
    pub(super) async fn recovers(&mut self) {
        self.automine(true).await;
        self.world.scene.mine(1).await;
        if self.signer.as_mut().is_none_or(|signer| signer.ended().is_some()) {
            self.start_signer(None);
        }
        self.start_node(None);
        for request_id in &self.requests {
            self.world.settled(*request_id).await;
            let delivered = &self.world.scene.deliveries(*request_id).await[0];
            let recorded: Value =
                sqlx::query_scalar("select result from oracle.results where request_id = $1")
                    .bind(request_id.as_slice())
                    .fetch_one(&self.database.pool())
                    .await
                    .expect("a recorded result");
            assert_eq!(recorded["outputHash"], delivered.result.outputHash.to_string());
        }
        self.finishes().await;
        self.node.as_mut().expect("a node").assert_runs();
    }

    async fn finishes(&self) {
        let pool = self.database.pool();
        let transmitter = self.operator.transmitter_address();
        eventually("every job and every intent has ended, and every nonce is used", || async {
            self.world.scene.mine(40).await;
            let (open, next): (i64, i64) = sqlx::query_as(
                "select (select count(*) from oracle.jobs where state <> 'done')
                    + (select count(*) from oracle.intents
                       where state in ('queued', 'sent', 'included', 'reverted')),
                    next_nonce
                 from oracle.transmitters",
            )
            .fetch_one(&pool)
            .await
            .expect("count");
            let used = self.world.scene.provider.get_transaction_count(transmitter).await.ok();
            (open == 0 && used == u64::try_from(next).ok()).then_some(())
        })
        .await;
        let unsent: i64 = sqlx::query_scalar(
            "select count(*) from oracle.intents
             where nonce is not null and state = 'confirmed' and not exists (
                select from oracle.transactions where intent_id = intents.id and block_number is not null
             )",
        )
        .fetch_one(&pool)
        .await
        .expect("count");
        assert_eq!(unsent, 0, "what is confirmed was mined");
    }

    /// The transmitter's key is used by somebody else.
    pub(super) async fn use_key_elsewhere(&self) {
        let provider = alloy::providers::ProviderBuilder::new()
            .wallet(alloy::network::EthereumWallet::new(crate::scene::chain::key(
                self.operator.transmitter,
            )))
            .connect_http(self.world.scene.anvil.http_url());
        let transfer = alloy::rpc::types::TransactionRequest {
            to: Some(Address::repeat_byte(9).into()),
            value: Some(U256::from(1)),
            ..Default::default()
        };
        let _ = provider.send_transaction(transfer).await.expect("sent");
        self.world.scene.provider.anvil_mine(Some(1), None).await.expect("mined");
    }
}

impl Kept {
    pub(super) async fn release(self) {
        self.0.close().await.expect("closed");
    }
}
