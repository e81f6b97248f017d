//! What the node stands on besides the chain: database, corpus, model, indexer, broker, and the node itself.

use std::time::Duration;

use alloy::primitives::Address;
use auspex_inference::Engine;
use auspex_oracle::corpus;
use serde_json::Value;
use sqlx::PgPool;
use tokio::net::TcpStream;

use super::{DoctorArguments, Finding};
use crate::connection::{ConnectionArguments, shown};
use crate::database::Database;

/// How long anything on a network may take to answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

pub(super) async fn examine(
    arguments: &DoctorArguments,
    owner: Address,
    connection: &ConnectionArguments,
) -> Vec<Finding> {
    let mut findings = database(arguments, owner).await;
    findings.push(model(arguments).await);
    findings.push(indexer(connection).await);
    findings.push(broker(arguments).await);
    findings.push(node(arguments).await);
    findings
}

async fn database(arguments: &DoctorArguments, owner: Address) -> Vec<Finding> {
    const SUBJECT: &str = "database";
    let Some(url) = &arguments.database_url else {
        let why =
            "no --database-url is given: the node would start a private PostgreSQL of its own";
        return vec![Finding::skipped(SUBJECT, why)];
    };
    let pool = match Database::given(url.clone()).migrated().await {
        Ok(pool) => pool,
        Err(error) => {
            return vec![Finding::wrong(
                SUBJECT,
                format!("{error:#}"),
                "the node needs PostgreSQL 16 or later with the extension pgvector, and a user that may create schemas",
            )];
        }
    };
    let mut findings = vec![owned(owner, &pool).await];
    findings.push(durable(&pool).await);
    findings.push(corpus(&pool, &arguments.corpus).await);
    pool.close().await;
    findings
}

async fn owned(owner: Address, pool: &PgPool) -> Finding {
    let recorded: Result<Option<Vec<u8>>, _> =
        sqlx::query_scalar("select owner from oracle.identity").fetch_optional(pool).await;
    match recorded {
        Ok(None) => Finding::good("database", "is empty and becomes this operator's"),
        Ok(Some(recorded)) if recorded == owner.as_slice() => {
            Finding::good("database", "belongs to this operator")
        }
        Ok(Some(other)) => Finding::wrong(
            "database",
            format!("belongs to operator 0x{}", hex::encode(other)),
            "give this operator a database of its own",
        ),
        Err(error) => Finding::wrong("database", error.to_string(), "check the database's health"),
    }
}

/// A database that forgets after a power cut would let a node forget what it has sent.
async fn durable(pool: &PgPool) -> Finding {
    for (name, wanted) in
        [("fsync", "on"), ("full_page_writes", "on"), ("transaction_read_only", "off")]
    {
        let value: Result<String, _> =
            sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(pool).await;
        if value.as_ref().is_ok_and(|value| value != wanted) {
            return Finding::wrong(
                "durability",
                format!("{name} is {}", value.unwrap_or_default()),
                format!(
                    "set {name} to {wanted}: the node has to find again what it has signed and sent"
                ),
            );
        }
    }
    let commit: Result<String, _> =
        sqlx::query_scalar("select current_setting('synchronous_commit')").fetch_one(pool).await;
    match commit.as_deref() {
        Ok("off") => Finding::wrong(
            "durability",
            "synchronous_commit is off",
            "set it to on: a signed transaction must be on disk before it is sent",
        ),
        _ => Finding::good("durability", "commits are on disk before they are acknowledged"),
    }
}

async fn corpus(pool: &PgPool, name: &str) -> Finding {
    const SUBJECT: &str = "corpus";
    let found = match corpus::find(pool, name).await {
        Ok(found) => found,
        Err(error) => {
            let fix = "auspex corpus add --database-url ... FILES loads documents";
            return Finding::wrong(SUBJECT, error.to_string(), fix);
        }
    };
    match found.root(pool).await {
        Ok(root) => Finding::good(SUBJECT, format!("{name} has root {root}, which offers can pin")),
        Err(error) => Finding::wrong(SUBJECT, error.to_string(), "load the documents again"),
    }
}

async fn model(arguments: &DoctorArguments) -> Finding {
    const SUBJECT: &str = "model";
    let directory = match arguments.model.directory().await {
        Ok(directory) => directory,
        Err(error) => {
            let fix = "auspex setup installs the model; --model-dir names another place";
            return Finding::wrong(SUBJECT, format!("{error:#}"), fix);
        }
    };
    let (device, profile) = (arguments.model.device, arguments.model.profile());
    // Starting the model compares its vectors with the golden ones.
    let tried =
        tokio::task::spawn_blocking(move || Engine::start_profile(&directory, device, profile));
    match tried.await {
        Ok(Ok(engine)) => Finding::good(
            SUBJECT,
            format!(
                "0x{} gives the golden vectors on {}",
                hex::encode(engine.model_hash()),
                engine.device()
            ),
        ),
        Ok(Err(error)) => {
            Finding::wrong(SUBJECT, error.to_string(), "auspex setup installs the model again")
        }
        Err(error) => Finding::wrong(
            SUBJECT,
            format!("the model panicked: {error}"),
            "try --device cpu; if that works, the graphics driver is at fault",
        ),
    }
}

async fn indexer(connection: &ConnectionArguments) -> Finding {
    const SUBJECT: &str = "indexer";
    let fix = "start `auspex indexer run`, or name another with --indexer-url";
    let url = match connection.indexer() {
        Ok(url) => url,
        Err(error) => return Finding::wrong(SUBJECT, format!("{error:#}"), fix),
    };
    let (Ok(status), Ok(deployment)) = (url.join("v1/status"), connection.deployment()) else {
        return Finding::skipped(SUBJECT, "the deployment is not known");
    };
    let reading = async { reqwest::get(status).await?.json::<Value>().await };
    let Ok(Ok(status)) = tokio::time::timeout(ANSWER_WAIT_MAX, reading).await else {
        return Finding::wrong(SUBJECT, format!("{} does not answer", shown(&url)), fix);
    };
    let escrow = deployment.request_escrow.to_string().to_lowercase();
    let chains = status["chains"].as_array().cloned().unwrap_or_default();
    let ours = chains.iter().find(|chain| {
        chain["chainId"] == deployment.chain_id
            && chain["escrow"].as_str().is_some_and(|text| text.to_lowercase() == escrow)
    });
    match ours {
        None => Finding::wrong(
            SUBJECT,
            format!("{} does not follow this escrow", shown(&url)),
            "start the indexer with the --deployment of the node",
        ),
        Some(chain) if chain["healthy"] == true => {
            Finding::good(SUBJECT, format!("{} follows this escrow", shown(&url)))
        }
        Some(chain) => Finding::warning(
            SUBJECT,
            format!("{} is not healthy: {}", shown(&url), chain["reason"]),
            "see the indexer's log; requests are seen late until it has caught up",
        ),
    }
}

async fn broker(arguments: &DoctorArguments) -> Finding {
    const SUBJECT: &str = "broker";
    let Some(url) = &arguments.broker_url else {
        return Finding::good(SUBJECT, "none is named: the node works over the indexer alone");
    };
    let parsed = url.reveal();
    let port = parsed.port().unwrap_or(if parsed.scheme() == "mqtts" { 8883 } else { 1883 });
    let host = parsed.host_str().unwrap_or_default().to_owned();
    let connecting = TcpStream::connect((host, port));
    match tokio::time::timeout(ANSWER_WAIT_MAX, connecting).await {
        Ok(Ok(_)) if parsed.scheme() == "mqtt" && !is_local(parsed) => Finding::warning(
            SUBJECT,
            format!("{url} is reached without encryption"),
            "messages are signed, but a password travels in the clear: use mqtts://",
        ),
        Ok(Ok(_)) => Finding::good(SUBJECT, format!("{url} answers")),
        Ok(Err(_)) | Err(_) => Finding::warning(
            SUBJECT,
            format!("{url} does not answer"),
            "requests settle without it, more slowly; check the address and the firewall",
        ),
    }
}

fn is_local(url: &url::Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

async fn node(arguments: &DoctorArguments) -> Finding {
    const SUBJECT: &str = "node";
    let Some(url) = &arguments.node else {
        return Finding::skipped(SUBJECT, "name the running node with --node to have it asked");
    };
    let Ok(ready) = url.join("ready") else {
        return Finding::wrong(SUBJECT, "--node is not an address", "correct it");
    };
    match tokio::time::timeout(ANSWER_WAIT_MAX, reqwest::get(ready)).await {
        Ok(Ok(reply)) if reply.status().is_success() => Finding::good(SUBJECT, "is ready"),
        Ok(Ok(reply)) => {
            let why = reply.text().await.unwrap_or_default();
            Finding::wrong(SUBJECT, why.trim().to_owned(), "auspex operator status says more")
        }
        Ok(Err(_)) | Err(_) => Finding::wrong(
            SUBJECT,
            format!("{} does not answer", shown(url)),
            "start `auspex oracle run`, or correct --node",
        ),
    }
}
