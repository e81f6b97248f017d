//! Whole nodes in one process: a real chain with the contracts, a real database and broker, a small indexer.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, keccak256};
use auspex_devnet::broker::TestBroker;
use auspex_devnet::postgres::TestDatabase;
use auspex_oracle::answerer::{Answerer, Draft, Pins, Question};
use auspex_oracle::config::Config;
use auspex_oracle::node::Node;
use auspex_protocol::bindings::IRequestEscrow::Status;
use clap::Parser;
use futures::FutureExt;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::chain::{Operator, Scene};
use super::eventually;
use super::indexer::Indexer;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

/// A running node. `stop` ends it politely, `kill` like a power cut.
pub(crate) struct Running {
    pub(crate) database: TestDatabase,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
    pub(crate) url: String,
}

impl Running {
    pub(crate) async fn stop(self) -> TestDatabase {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a clean stop");
        self.database
    }

    pub(crate) async fn kill(self) -> TestDatabase {
        self.task.abort();
        let _ = self.task.await;
        self.database
    }

    pub(crate) async fn job_state(&self, request_id: B256) -> Option<String> {
        sqlx::query_scalar::<_, String>("select state from oracle.jobs where request_id = $1")
            .bind(request_id.as_slice())
            .fetch_optional(&self.database.pool())
            .await
            .expect("read a job")
    }
}

pub(crate) struct World {
    pub(crate) scene: Scene,
    pub(crate) indexer: Indexer,
    /// Where nodes find the chain.
    pub(crate) rpc_url: String,
    pub(crate) broker: Option<TestBroker>,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) async fn new(members: u8, threshold: u8, block_time: Option<Duration>) -> Self {
        let scene = Scene::new(members, threshold, block_time).await;
        let indexer = Indexer::start(&scene).await;
        let folder = TempDir::new().expect("a folder");
        let deployment = serde_json::to_string(&scene.deployment).expect("JSON");
        std::fs::write(folder.path().join("deployment.json"), deployment).expect("write");
        let rpc_url = scene.anvil.http_url().to_string();
        Self { scene, indexer, rpc_url, broker: None, folder }
    }

    /// A node with its keys in its own process, which only development chains allow.
    pub(crate) fn config(&self, operator: &Operator, database: &str, more: &[&str]) -> Config {
        let signer = format!("--signer-insecure-key={}", operator.signer);
        let transmitter = format!("--transmitter-insecure-key={}", operator.transmitter);
        let keys = ["--insecure-dev-keys", &signer, &transmitter];
        self.config_without_keys(operator, database, &[&keys, more].concat())
    }

    pub(crate) fn config_without_keys(
        &self,
        operator: &Operator,
        database: &str,
        more: &[&str],
    ) -> Config {
        parsed(self.arguments(operator, database, more))
    }

    /// The command line of a node that finds its keys by what is in `more`.
    pub(crate) fn arguments(
        &self,
        operator: &Operator,
        database: &str,
        more: &[&str],
    ) -> Vec<String> {
        let deployment = self.folder.path().join("deployment.json");
        let mut arguments = vec![
            "node".to_owned(),
            format!("--database-url={database}"),
            format!("--rpc-url={}", self.rpc_url),
            format!("--indexer-url={}", self.indexer.url),
            format!("--deployment={}", deployment.display()),
            format!("--owner={}", operator.owner),
            "--listen=127.0.0.1:0".into(),
            "--head-interval-ms=50".into(),
            "--discovery-interval-ms=50".into(),
        ];
        if !more.iter().any(|argument| argument.starts_with("--takeover-ms")) {
            arguments.push("--takeover-ms=3000".into());
        }
        if let Some(broker) = &self.broker {
            arguments.push(format!("--broker-url={}", broker.url()));
        }
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        arguments
    }

    pub(crate) async fn start(&self, number: usize) -> Running {
        let database = TestDatabase::create().await.expect("a database");
        self.start_on(number, database, echo()).await
    }

    pub(crate) async fn start_on(
        &self,
        number: usize,
        database: TestDatabase,
        answerer: Answerer,
    ) -> Running {
        let config = self.config(&self.scene.operators[number], database.url(), &[]);
        self.start_with(config, database, answerer).await
    }

    pub(crate) async fn start_with(
        &self,
        config: Config,
        database: TestDatabase,
        answerer: Answerer,
    ) -> Running {
        let node = Node::prepare(config, answerer).await.expect("a node");
        let url = format!("http://{}", node.address().expect("an address"));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(node.run(shutdown.clone()));
        Running { database, shutdown, task, url }
    }

    pub(crate) async fn settled(&self, request_id: B256) {
        // Anvil shows a block's state a moment before its logs.
        eventually("the request is settled", || async {
            let settled = self.scene.status(request_id).await == Status::Settled;
            (settled && !self.scene.deliveries(request_id).await.is_empty()).then_some(())
        })
        .await;
        assert_eq!(self.scene.deliveries(request_id).await.len(), 1);
    }
}

pub(crate) fn parsed(arguments: Vec<String>) -> Config {
    Arguments::try_parse_from(arguments).expect("a configuration").config
}

/// Answers with the question.
pub(crate) fn echo() -> Answerer {
    answering(|question| {
        let text = String::from_utf8_lossy(&question.input).into_owned();
        serde_json::json!({ "text": text }).to_string()
    })
}

pub(crate) fn answering(text: impl Fn(Question) -> String + Send + Sync + 'static) -> Answerer {
    let pins = Pins { corpus_root: B256::repeat_byte(1), model_hash: B256::repeat_byte(2) };
    let answer = move |question: Question| {
        let draft = answered(text(question));
        async move { Ok(draft) }.boxed()
    };
    Answerer::Function { pins, answer: Arc::new(answer) }
}

/// What an answerer of the tests derives, whose text is this.
pub(crate) fn answered(answer: String) -> Draft {
    Draft::Answered {
        output_hash: keccak256(answer.as_bytes()),
        answer,
        trace_root: B256::ZERO,
        retrieval_root: B256::repeat_byte(3),
        model_hash: B256::repeat_byte(2),
    }
}
