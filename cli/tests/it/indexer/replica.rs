//! A reader on a streaming replica of PostgreSQL: it serves what the primary has, events and retractions included, says that
//! the database is away when the replica gives up a question for the sake of keeping up, and outlives the replica's crash.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use auspex_devnet::postgres::{Durability, Postgres, PostgresConfig};
use auspex_devnet::process::Restart;
use auspex_devnet::provision::{Progress, ToolsConfig};
use auspex_devnet::replay::{Branch, Replay};
use reqwest::StatusCode;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::timeout;

use super::chain::{Last, grow, write_chain_file};
use super::history::{history, tip};
use super::process::Process;
use super::standby::{PATIENCE, indexed, status, wait_for};

const CHAIN_ID: u64 = 9_002;
const PAST: u64 = 150;
const LAGS: (u64, u64) = (40, 80);
const LAST: Last = Last::NumberedEvery(1);
/// Questions that the replica has to give up before the test goes on.
const CONFLICTS: i64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_on_a_streaming_replica_serves_what_the_primary_has() {
    let folder = open_folder();
    let bin = programs().await;
    let primary = Postgres::start(&bin, config(&folder.path().join("primary"), Restart::Never));
    let primary = primary.await.expect("start the primary");
    primary.ensure_database("auspex").await.expect("create a database");
    let mut admin = connect(&primary.url("auspex")).await;

    let mut branch = Branch::genesis().expect("build a genesis");
    grow(&mut branch, PAST, 0, LAST);
    let node = Replay::start(CHAIN_ID, branch.clone(), PAST, LAGS).await.expect("start a node");
    let chain_file = folder.path().join("chain.json");
    write_chain_file(&chain_file, CHAIN_ID, &[node.url()]);
    let indexer = |name: &str, mode: &[&str], url: &str| {
        let options = ["--listen", "127.0.0.1:0", "--database-url", url, "--chain"];
        let chain_file = chain_file.to_string_lossy();
        let arguments = [&["indexer"], mode, &options, &[&*chain_file]].concat();
        Process::start(&folder.path().join(format!("{name}.log")), &arguments, None)
    };
    let primary_url = primary.url("auspex");
    let _leader = indexer("leader", &["run", "--poll-ms", "30"], &primary_url);
    let pool = PgPool::connect(&primary_url).await.expect("connect");
    wait_for_tip(&pool, &branch).await;

    let again = Restart::Always { first: Duration::from_millis(100), max: Duration::from_secs(1) };
    let replica_config = config(&folder.path().join("replica"), again);
    let replica = primary.standby(&bin, replica_config).await.expect("start the replica");
    let replica_url = replica.url("auspex");
    let copy = PgPool::connect(&replica_url).await.expect("connect");
    let follows: bool =
        sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&copy).await.expect("ask");
    assert!(follows, "the copy is a standby");
    let reader = indexer("reader", &["serve"], &replica_url);
    let url = reader.url().await;
    assert_eq!(indexed(&status(&url).await), PAST);

    // What happens from now on arrives through the replica, and what a reorg takes back too.
    let mut events = reqwest::get(format!("{url}/v1/stream")).await.expect("the stream");
    let fork = branch.clone();
    grow(&mut branch, PAST + 15, 0, LAST);
    node.switch(branch.clone(), branch.head());
    hear(&mut events, "event: insert").await;
    let mut other = fork;
    grow(&mut other, PAST + 25, 1, LAST);
    node.switch(other.clone(), other.head());
    hear(&mut events, "event: retract").await;
    wait_for_tip(&copy, &other).await;
    let there = history(&pool, &primary_url, CHAIN_ID, other.head()).await;
    assert_eq!(history(&copy, &replica_url, CHAIN_ID, other.head()).await, there);

    questions_during_conflicts(&url, &mut admin, &copy).await;

    assert!(replica.kill9(), "the replica ran");
    wait_for("the reader to serve again", async || {
        let reply = reqwest::get(format!("{url}/v1/agents")).await;
        reply.is_ok_and(|reply| reply.status() == StatusCode::OK)
    })
    .await;
    grow(&mut other, PAST + 30, 1, LAST);
    node.switch(other.clone(), other.head());
    wait_for("the reader to follow again", async || serves_up_to(&url, other.head()).await).await;
}

/// Whether the reader answers with this block as its newest. While its connections are those of the server that crashed it
/// says that it may be asked again.
async fn serves_up_to(url: &str, number: u64) -> bool {
    let reply = reqwest::get(format!("{url}/v1/status")).await.expect("an answer");
    if reply.status() == StatusCode::SERVICE_UNAVAILABLE {
        return false;
    }
    assert_eq!(reply.status(), StatusCode::OK);
    indexed(&reply.json().await.expect("JSON")) == number
}

/// Asks without a pause while the primary locks what is asked for. A client learns that it may ask again, not that something
/// broke.
async fn questions_during_conflicts(url: &str, admin: &mut PgConnection, copy: &PgPool) {
    let done = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    let client = reqwest::Client::new();
    let ask = async {
        let query = r#"{"query": "{ agents { id agentURI requests { id } } }"}"#;
        while !done.load(Ordering::Relaxed) {
            let graphql = client.post(format!("{url}/graphql")).body(query);
            let graphql = graphql.header("content-type", "application/json");
            for question in [graphql, client.get(format!("{url}/v1/agents"))] {
                let reply = question.send().await.expect("an answer");
                let code = reply.status();
                let text = reply.text().await.expect("a body");
                assert!(!text.to_lowercase().contains("internal"), "{code}: {text}");
                match code {
                    StatusCode::OK if !text.contains("\"errors\"") => {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE => {
                        assert!(text.contains("try again"), "{code}: {text}");
                    }
                    _ => panic!("{code}: {text}"),
                }
            }
        }
    };
    // From now on the replica gives up a question as soon as it stands in the way of the primary's changes.
    let mut replica = copy.acquire().await.expect("connect").detach();
    execute(&mut replica, "alter system set max_standby_streaming_delay = 0").await;
    execute(&mut replica, "select pg_reload_conf()").await;
    let disturb = async {
        let started = Instant::now();
        while conflicts(copy).await < CONFLICTS {
            assert!(started.elapsed() < PATIENCE, "the replica gave up no question");
            execute(admin, "begin; lock table indexer.agents in access exclusive mode; commit")
                .await;
        }
        // Now that nothing is in the way any more, questions are answered.
        let before = answered.load(Ordering::Relaxed);
        wait_for("an answer", async || before < answered.load(Ordering::Relaxed)).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(ask, disturb);
}

/// Questions that the replica has given up so far.
async fn conflicts(copy: &PgPool) -> i64 {
    let statement = "select coalesce(sum(confl_lock + confl_snapshot), 0)::bigint
         from pg_stat_database_conflicts where datname = current_database()";
    // This question may be given up as any other.
    sqlx::query_scalar(statement).fetch_one(copy).await.unwrap_or(0)
}

async fn hear(events: &mut reqwest::Response, wanted: &str) {
    let mut heard = String::new();
    while !heard.contains(wanted) {
        let chunk = timeout(PATIENCE, events.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("no {wanted:?} in {heard}"));
        let chunk = chunk.expect("the stream goes on").expect("the stream does not end");
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
}

async fn wait_for_tip(pool: &PgPool, branch: &Branch) {
    let head = branch.block(branch.head()).expect("a head");
    let head = Some((head.number, head.hash));
    wait_for("the head to be there", async || tip(pool, CHAIN_ID).await == head).await;
}

async fn programs() -> PathBuf {
    let tools = ToolsConfig::from_environment().expect("tools");
    tools.postgres_bin(Progress::Lines).await.expect("PostgreSQL")
}

fn config(data_dir: &Path, restart: Restart) -> PostgresConfig {
    PostgresConfig {
        data_dir: data_dir.to_owned(),
        port: None,
        durability: Durability::Throwaway,
        restart,
    }
}

/// Open to all, because as root the servers run as somebody else.
fn open_folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .expect("a folder")
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("connect")
}

async fn execute(connection: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(connection).await.expect(statement);
}
