//! Ponder on the same chain, into a database of the same PostgreSQL, to the same rows. Its limit of requests is opened when it
//! is installed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use auspex_devnet::port;
use auspex_devnet::replay::{Branch, Replay};
use sqlx::PgConnection;
use tokio::time::sleep;

use crate::chain;
use crate::database::Database;
use crate::process::Usage;
use crate::table::{Row, Table};

/// Where `bench/peers/ponder/install` puts it.
const FOLDER: &str = "target/bench/ponder";
const PROGRAM: &str = "node_modules/ponder/dist/esm/bin/ponder.js";
/// PostgreSQL's schema of its rows.
const SCHEMA: &str = "peer";
/// Longest time that is waited for it.
const PATIENCE: Duration = Duration::from_secs(600);

/// One line per transfer, in order: block, log, sender, recipient, value. A value of these chains fits eight bytes.
const OUR_DIGEST: &str = r"
    select md5(string_agg(
        concat_ws(' ', block_number, log_index, encode(substring(topic1 from 13), 'hex'),
            encode(substring(topic2 from 13), 'hex'), ('x' || encode(substring(data from 25), 'hex'))::bit(64)::bigint),
        ',' order by block_number, log_index))
    from indexer.facts";
const PEERS_DIGEST: &str = r"
    select md5(string_agg(
        concat_ws(' ', block_number, log_index, substring(sender from 3), substring(recipient from 3), value),
        ',' order by block_number, log_index))
    from peer.transfer";

/// Follows the chain of transfers with Ponder. `ours` is a database in which Auspex has the same chain, and `our_rate` its
/// events per second.
pub(crate) async fn measure(
    branch: &Branch,
    database: &Database,
    ours: &Database,
    our_rate: f64,
    table: &mut Table,
) -> anyhow::Result<()> {
    ensure!(
        Path::new(FOLDER).join(PROGRAM).exists(),
        "it is not in {FOLDER}; bench/peers/ponder/install puts it there"
    );
    let node = Replay::start(chain::CHAIN_ID, branch.clone(), branch.head(), (0, 0)).await?;
    let peer = Ponder::start(node.url(), database.url(), branch.head())?;
    let expected = i64::try_from(chain::events(branch))?;
    let elapsed = peer.wait_for(database, expected).await?;
    let usage = Usage::of(peer.child.id())?;
    let traffic = node.take_traffic();
    ensure!(
        digest(database, PEERS_DIGEST).await? == digest(ours, OUR_DIGEST).await?,
        "Ponder and Auspex have stored different transfers"
    );
    let rate = expected as f64 / elapsed.as_secs_f64();
    table.push(Row::plain("Ponder 0.16.10, 0 ms", rate, "events/s"));
    table.push(Row::plain("Ponder: processor time", usage.cpu_seconds, "s"));
    table.push(Row::plain("Ponder: peak memory", usage.peak_mib, "MiB"));
    table.push(Row::plain("Ponder: requests", traffic.requests as f64, ""));
    table.push(Row::plain("linked, 0 ms: times Ponder", our_rate / rate, ""));
    Ok(())
}

async fn digest(database: &Database, statement: &'static str) -> anyhow::Result<String> {
    let mut connection = database.connect().await?;
    sqlx::query_scalar(statement).fetch_one(&mut connection).await.context("read the transfers")
}

/// The running peer. It is killed when this is dropped.
struct Ponder {
    child: Child,
    started: Instant,
}

impl Ponder {
    fn start(rpc_url: &str, database_url: &str, last_block: u64) -> anyhow::Result<Self> {
        let port = port::reserve()?;
        let log = std::fs::File::create(Path::new(FOLDER).join("log"))?;
        let started = Instant::now();
        let child = Command::new("node")
            .current_dir(FOLDER)
            .args([PROGRAM, "start", "--schema", SCHEMA, "--log-format", "json"])
            .args(["--port", &port.number().to_string()])
            .env("PEER_RPC_URL", rpc_url)
            .env("PEER_DATABASE_URL", database_url)
            .env("PEER_LAST_BLOCK", last_block.to_string())
            .env("PONDER_TELEMETRY_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start Ponder")?;
        Ok(Self { child, started })
    }

    /// The time from the start of the process to the last row.
    async fn wait_for(&self, database: &Database, rows: i64) -> anyhow::Result<Duration> {
        let mut connection = database.connect().await?;
        loop {
            if count(&mut connection).await == Some(rows) {
                return Ok(self.started.elapsed());
            }
            if PATIENCE < self.started.elapsed() {
                bail!(
                    "Ponder did not store {rows} rows within {} s; {FOLDER}/log says why",
                    PATIENCE.as_secs()
                );
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Ponder {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Null before there is a table.
async fn count(connection: &mut PgConnection) -> Option<i64> {
    sqlx::query_scalar("select count(*) from peer.transfer").fetch_one(connection).await.ok()
}
