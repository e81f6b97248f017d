//! What an operator wants to see at a glance, as one JSON document.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use anyhow::Context;
use serde::Serialize;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::chain::Chain;
use crate::drain;
use crate::heads::Heads;
use crate::identity::Identity;
use crate::job::summary::{Summary, counts, recent};
use crate::limits::{DISCOVERY_AGE_MAX, HEAD_AGE_MAX};
use crate::meter::{Meters, ProcessMeters};

/// Jobs that the status shows.
const RECENT_JOBS: i64 = 20;

/// What the status is read from.
#[derive(Debug)]
pub struct Watch {
    pub pool: PgPool,
    pub chain: Chain,
    pub identity: Identity,
    pub transmitter: Address,
    pub heads: watch::Receiver<Option<Heads>>,
    /// A node whose newest block came longer ago than this is not ready.
    pub block_age_max: Duration,
    pub discovered: watch::Receiver<Option<Instant>>,
    pub meters: Arc<Meters>,
    pub process_meters: ProcessMeters,
}

/// The node's state.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: &'static str,
    pub chain_id: u64,
    pub escrow: Address,
    pub owner: Address,
    pub signer: Address,
    /// False while the registry does not know the signer.
    pub registered: bool,
    pub ready: bool,
    pub not_ready_because: Vec<String>,
    pub head: Option<HeadStatus>,
    pub broker_connected: bool,
    /// The node finishes what it has promised and begins nothing new.
    pub draining: bool,
    pub jobs: Vec<JobCount>,
    pub recent_jobs: Vec<Summary>,
    pub transmitter: TransmitterStatus,
    pub peers: Vec<Peer>,
    pub earned: Vec<Earning>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadStatus {
    pub latest: u64,
    pub safe: Option<u64>,
    pub finalized: Option<u64>,
    /// Unix seconds of the latest block.
    pub chain_time: u64,
    pub read_seconds_ago: u64,
    /// Since the latest block arrived.
    pub arrived_seconds_ago: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct JobCount {
    pub state: String,
    pub count: i64,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransmitterStatus {
    pub address: Address,
    /// Wei, as decimal strings like every amount here.
    pub balance: String,
    pub next_nonce: Option<i64>,
    pub has_custody: bool,
    pub open_intents: i64,
    pub spent_today: String,
    /// Why the manager stopped itself.
    pub stopped: Option<String>,
}

/// Another operator, by its last heartbeat.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    pub signer: Address,
    pub head_block: i64,
    pub version: String,
    pub seen_seconds_ago: i64,
}

/// What requests that are done have paid in one token on one day, before the fee and the split.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Earning {
    pub day: String,
    pub token: String,
    pub requests: i64,
    pub amount: String,
}

impl Watch {
    /// Why the node is not ready to work; empty when it is.
    pub async fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        match *self.heads.borrow() {
            None => obstacles.push("the chain has not been read yet".into()),
            Some(heads) if HEAD_AGE_MAX < heads.read_at.elapsed() => {
                let age = heads.read_at.elapsed().as_secs();
                obstacles.push(format!("the chain was last read {age} s ago"));
            }
            Some(heads) if self.block_age_max < heads.arrived_at.elapsed() => {
                let (number, age) = (heads.latest.number, heads.arrived_at.elapsed().as_secs());
                obstacles.push(format!(
                    "the newest block, {number}, came {age} s ago: the endpoints stand still, or the chain does"
                ));
            }
            Some(_) => {}
        }
        match *self.discovered.borrow() {
            None => obstacles.push("the indexer has not answered yet".into()),
            Some(at) if DISCOVERY_AGE_MAX < at.elapsed() => {
                obstacles
                    .push(format!("the indexer last answered {} s ago", at.elapsed().as_secs()));
            }
            Some(_) => {}
        }
        if let Err(error) = sqlx::query_scalar!(r#"select 1 as "one!""#).fetch_one(&self.pool).await
        {
            obstacles.push(format!("the database does not answer: {error}"));
        }
        if self.meters.blocked.get() != 0 {
            obstacles.push("deliveries wait: see the transmitter".into());
        }
        obstacles
    }

    /// Reads all of it.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let mut obstacles = self.obstacles().await;
        let registered = match self.chain.owner_of_signer(self.identity.signer).await {
            Ok(owner) => owner == self.identity.owner,
            Err(error) => {
                obstacles.push(error.to_string());
                false
            }
        };
        if !registered {
            obstacles.push("the signer is not registered: run `auspex operator register`".into());
        }
        let head = self.heads.borrow().map(|heads| HeadStatus {
            latest: heads.latest.number,
            safe: heads.safe.map(|safe| safe.number),
            finalized: heads.finalized.map(|finalized| finalized.number),
            chain_time: heads.latest.time,
            read_seconds_ago: heads.read_at.elapsed().as_secs(),
            arrived_seconds_ago: heads.arrived_at.elapsed().as_secs(),
        });
        let jobs = counts(&self.pool).await?;
        let deployment = self.chain.deployment();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            chain_id: deployment.chain_id,
            escrow: deployment.request_escrow,
            owner: self.identity.owner,
            signer: self.identity.signer,
            registered,
            ready: obstacles.is_empty(),
            not_ready_because: obstacles,
            head,
            broker_connected: self.meters.bus_connected.get() == 1,
            draining: drain::progress(&self.pool).await?.draining,
            jobs: jobs.into_iter().map(|(state, count)| JobCount { state, count }).collect(),
            recent_jobs: recent(&self.pool, RECENT_JOBS).await?,
            transmitter: self.transmitter().await?,
            peers: self.peers().await?,
            earned: self.earned().await?,
        })
    }

    async fn transmitter(&self) -> anyhow::Result<TransmitterStatus> {
        let address = self.transmitter;
        let balance = self.chain.account(address).await.map(|account| account.balance);
        let row = sqlx::query!(
            r#"
            select next_nonce, stopped,
                (
                    select count(*) from oracle.intents
                    where transmitter = $1 and state in ('queued', 'sent', 'included', 'reverted')
                ) as "open!",
                (
                    select coalesce(sum(cost), 0)::text
                    from oracle.transactions join oracle.intents on intents.id = intent_id
                    where transmitter = $1 and now() - interval '1 day' < signed_at
                ) as "spent!"
            from oracle.transmitters where address = $1
            "#,
            address.as_slice()
        )
        .fetch_optional(&self.pool)
        .await
        .context("read the transmitter")?;
        Ok(TransmitterStatus {
            address,
            balance: balance.map_or_else(|_| "unknown".into(), |balance| balance.to_string()),
            next_nonce: row.as_ref().map(|row| row.next_nonce),
            has_custody: self.meters.has_custody.get() == 1,
            open_intents: row.as_ref().map_or(0, |row| row.open),
            spent_today: row.as_ref().map_or_else(|| "0".into(), |row| row.spent.clone()),
            stopped: row.and_then(|row| row.stopped),
        })
    }

    async fn peers(&self) -> anyhow::Result<Vec<Peer>> {
        let rows = sqlx::query!(
            r#"
            select signer, head_block, version, extract(epoch from now() - seen_at)::bigint as "seen!"
            from oracle.peers order by seen_at desc limit 32
            "#
        )
        .fetch_all(&self.pool)
        .await
        .context("read the peers")?;
        rows.into_iter()
            .map(|row| {
                Ok(Peer {
                    signer: Address::try_from(row.signer.as_slice())?,
                    head_block: row.head_block,
                    version: row.version,
                    seen_seconds_ago: row.seen,
                })
            })
            .collect()
    }

    async fn earned(&self) -> anyhow::Result<Vec<Earning>> {
        let rows = sqlx::query!(
            r#"
            select to_char(jobs.updated_at at time zone 'utc', 'YYYY-MM-DD') as "day!",
                terms ->> 'token' as "token!",
                count(*) as "requests!",
                sum((results.result ->> 'amount')::numeric)::text as "amount!"
            from oracle.jobs join oracle.results using (request_id)
            where state = 'done' and now() - interval '30 days' < jobs.updated_at
            group by 1, 2 order by 1 desc, 2
            "#
        )
        .fetch_all(&self.pool)
        .await
        .context("read the earnings")?;
        Ok(rows
            .into_iter()
            .map(|row| Earning {
                day: row.day,
                token: row.token,
                requests: row.requests,
                amount: row.amount,
            })
            .collect())
    }

    /// The answer we gave to a request, for those who ask the node itself.
    pub async fn answer(&self, request_id: B256) -> anyhow::Result<Option<String>> {
        sqlx::query_scalar!(
            "select answer from oracle.results where request_id = $1",
            request_id.as_slice()
        )
        .fetch_optional(&self.pool)
        .await
        .map(Option::flatten)
        .context("read an answer")
    }
}
