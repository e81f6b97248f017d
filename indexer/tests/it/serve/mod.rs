//! The serving side on a real PostgreSQL: `world.sql` is what it serves.

mod board;
mod dialect;
mod filters;
mod fuzz;
mod limits;
mod partial;
mod rest;
mod server;
mod stream;
mod travel;

use alloy::primitives::{Address, B256, address};
use alloy::signers::local::PrivateKeySigner;
use auspex_devnet::postgres::TestDatabase;
use auspex_indexer::serve::{ReadyLimits, ServeState, app};
use auspex_protocol::deployment::Deployment;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tower::ServiceExt;

const ESCROW: Address = address!("5FbDB2315678afecb367f032d93F642f64180aa3");

/// The served world, and a client in it.
struct World {
    database: TestDatabase,
    state: ServeState,
    app: Router,
}

impl World {
    async fn create() -> Self {
        let world = Self::empty().await;
        sqlx::raw_sql(include_str!("world.sql")).execute(&world.database.pool()).await.unwrap();
        let signers: Vec<_> = [1, 2].map(|n| key(n).address().to_vec()).to_vec();
        sqlx::query(
            "insert into indexer.epochs (chain_id, id, block_range, set_id, epoch, threshold, operators, signers,
                operator_set_hash, started_block, started_at, started_tx)
             values (31337, '1:1', '[13,)', 1, 1, 2, $1, $1, $2, 13, 1013, $2)",
        )
        .bind(&signers)
        .bind([0xe1_u8; 32].as_slice())
        .execute(&world.database.pool())
        .await
        .unwrap();
        world
    }

    /// A database with nothing in it.
    async fn empty() -> Self {
        let database = TestDatabase::create().await.unwrap();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let state = ServeState::new(
            database.pool(),
            vec![deployment()],
            metrics,
            ReadyLimits { head_age_max: std::time::Duration::from_secs(60), block_age_max: None },
            auspex_indexer::health::Health::default(),
        )
        .unwrap();
        Self { database, app: app(state.clone()), state }
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.app.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.send(Request::get(path).body(Body::empty()).unwrap()).await).await
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = Request::post(path).header("content-type", "application/json");
        read(self.send(request.body(body.into()).unwrap()).await).await
    }

    /// The whole GraphQL answer.
    async fn graphql(&self, query: &str) -> Value {
        self.graphql_with(query, json!({})).await
    }

    async fn graphql_with(&self, query: &str, variables: Value) -> Value {
        let body = json!({ "query": query, "variables": variables }).to_string();
        let (status, answer) = self.post("/graphql", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    /// The data of an answer without errors.
    async fn data(&self, query: &str) -> Value {
        let mut answer = self.graphql(query).await;
        assert_eq!(answer.get("errors"), None, "{query}: {answer}");
        answer["data"].take()
    }

    /// The one error of a refused query.
    async fn refusal(&self, query: &str) -> String {
        message(&self.graphql(query).await, query)
    }
}

fn message(answer: &Value, query: &str) -> String {
    let errors = answer["errors"].as_array();
    let first = errors.and_then(|errors| errors.first());
    let text = first.and_then(|error| error["message"].as_str());
    text.unwrap_or_else(|| panic!("{query} was answered: {answer}")).to_owned()
}

async fn read(response: Response<Body>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    (status, value)
}

fn deployment() -> Deployment {
    Deployment {
        chain_id: 31337,
        start_block: 5,
        agent_registry: Address::repeat_byte(1),
        operator_registry: Address::repeat_byte(2),
        entry_policy: Address::repeat_byte(3),
        request_escrow: ESCROW,
        platform_token: None,
        reputation_registry: None,
        validation_registry: None,
    }
}

/// The key of an operator; known to everybody, for tests only.
fn key(n: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(n)).unwrap()
}

/// 0x and 32 times the byte.
fn hash(byte: &str) -> String {
    format!("0x{}", byte.repeat(32))
}

/// 0x and 20 times the byte.
fn account(byte: &str) -> String {
    format!("0x{}", byte.repeat(20))
}
