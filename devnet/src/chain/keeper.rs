//! Keeps the chain: the one place that lets it change, and that makes it again when anvil was killed.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::B256;
use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::ChainOptions;
use super::dump::{self, Dump};
use super::journal::{Entry, Journal};
use super::method::{Action, Mining, action, quantity};
use super::upstream::{Answer, Gone, Upstream, call};
use crate::anvil::Anvil;
use crate::limits::{JOURNAL_BLOCKS_MAX, JOURNAL_BYTES_MAX};
use crate::process::Status;

mod restore;

/// A call that may change the chain, and where its answer goes.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) method: String,
    pub(super) params: Value,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// The chain's owner.
#[derive(Debug)]
pub(super) struct Keeper {
    program: PathBuf,
    options: ChainOptions,
    client: reqwest::Client,
    /// Dropped before its successor starts.
    anvil: Option<Anvil>,
    published: watch::Sender<Option<Upstream>>,
    /// The number of the journal, which the last dump names.
    number: u64,
    journal: Journal,
    /// Blocks in the journal.
    blocks: u32,
    head: Head,
    /// Offered and accepted transactions that are in no block yet.
    waiting: Vec<Waiting>,
    mining: Mining,
    /// When the next block is due, if blocks are mined by the clock.
    due: Instant,
    /// How far the chain's time is ahead of this machine's, in seconds.
    ahead: u64,
    /// The time that the next block is to have, if somebody asked for one.
    exact: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Head {
    hash: B256,
    timestamp: u64,
}

#[derive(Debug)]
struct Waiting {
    hash: B256,
    entry: Entry,
}

impl Keeper {
    /// Starts anvil and makes the chain what it was, or begins one. It is published when it is.
    ///
    /// # Errors
    /// The folder, the dump or the journal cannot be read or written, or anvil does not start.
    pub(super) async fn open(
        program: PathBuf,
        options: ChainOptions,
        published: watch::Sender<Option<Upstream>>,
    ) -> anyhow::Result<Self> {
        tokio::fs::create_dir_all(&options.folder)
            .await
            .with_context(|| format!("create folder {}", options.folder.display()))?;
        let number = Dump::read(&options.folder)?.map_or(0, |dump| dump.journal);
        let (journal, _) = Journal::open(dump::journal(&options.folder, number)).await?;
        let mut keeper = Self {
            program,
            mining: options.mining,
            options,
            client: reqwest::Client::new(),
            anvil: None,
            published,
            number,
            journal,
            blocks: 0,
            head: Head::default(),
            waiting: Vec::new(),
            due: Instant::now(),
            ahead: 0,
            exact: None,
        };
        keeper.restore().await?;
        Ok(keeper)
    }

    /// Serves commands, mines by the clock, and restores a chain that was killed; until the last sender of commands is gone.
    pub(super) async fn work(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let due = sleep_until_due(self.mining, self.due);
            tokio::select! {
                biased;
                () = until_ended(self.anvil.as_ref()) => {
                    self.recover().await;
                }
                () = due => self.mine_by_the_clock().await,
                command = commands.recv() => {
                    let Some(command) = command else { return };
                    let answer = self.perform(&command.method, command.params).await;
                    // Whoever asked may have gone.
                    let _ = command.reply.send(answer);
                }
            }
        }
    }

    async fn perform(&mut self, method: &str, params: Value) -> Answer {
        match action(method, &params) {
            Action::Read => match self.call(method, &params).await {
                Ok(answer) => answer,
                Err(gone) => Err(failure(&gone.to_string())),
            },
            Action::Send => self.offer(method, params).await,
            Action::Mine { blocks, apart, at, reply } => {
                if let Some(at) = at {
                    self.set_next_timestamp(at)?;
                }
                for number in 0..blocks {
                    let least = if number == 0 { 1 } else { apart };
                    self.mine(least).await.map_err(|error| failure(&format!("{error:#}")))?;
                }
                Ok(reply)
            }
            Action::Advance(seconds) => {
                // Blocks that were mined faster than the clock ticks have taken the head ahead of it.
                self.ahead = self.ahead_of_this_machine().saturating_add(seconds);
                Ok(json!(self.ahead))
            }
            Action::NextTimestamp(time) => self.set_next_timestamp(time).map(|()| Value::Null),
            Action::Schedule(mining) => {
                self.mining = mining;
                self.due = Instant::now();
                Ok(Value::Null)
            }
            Action::Decree => self.decree(method, &params).await,
            Action::Refuse { code, message } => Err(json!({"code": code, "message": message})),
        }
    }

    /// Offers a transaction to anvil, with its place in the journal. If anvil dies over it, what the replay was answered counts.
    async fn offer(&mut self, method: &str, params: Value) -> Answer {
        let entry = Entry::Send { method: method.to_owned(), params };
        self.write(&entry).await.map_err(|error| failure(&format!("{error:#}")))?;
        let answer = match self.send(entry).await {
            Ok(answer) => answer,
            Err(_) => match self.recover().await {
                Some(answer) => answer,
                None => Err(failure("the transaction's entry is not in the journal")),
            },
        };
        if answer.is_ok() && self.mining == Mining::AtOnce {
            self.mine(1).await.map_err(|error| failure(&format!("{error:#}")))?;
        }
        answer
    }

    /// Has anvil do something that no journal can repeat, and writes the chain to disk before saying that it is done.
    async fn decree(&mut self, method: &str, params: &Value) -> Answer {
        let done = async {
            let answer = self.call(method, params).await?;
            if answer.is_ok() {
                self.look_at_head().await?;
                self.dump().await?;
            }
            Ok::<_, anyhow::Error>(answer)
        };
        match done.await {
            Ok(answer) => answer,
            Err(error) => {
                self.recover().await;
                Err(failure(&format!(
                    "the chain was killed before {method} was kept, call it again: {error:#}"
                )))
            }
        }
    }

    fn set_next_timestamp(&mut self, time: u64) -> Result<(), Value> {
        if time <= self.head.timestamp {
            let head = self.head.timestamp;
            return Err(failure(&format!("timestamp {time}: the head's is {head}, not below it")));
        }
        self.exact = Some(time);
        Ok(())
    }

    async fn mine_by_the_clock(&mut self) {
        let Mining::Every(interval) = self.mining else { return };
        if let Err(error) = self.mine(1).await {
            tracing::warn!(error = format!("{error:#}"), "no block was mined");
        }
        // Where a block takes longer than the interval, transactions get in between all the same.
        self.due = (self.due + interval).max(Instant::now() + interval / 2);
    }

    /// Mines a block that is at least so many seconds after its parent, and dumps the chain when its journal is full.
    ///
    /// # Errors
    /// The journal or the dump cannot be written.
    async fn mine(&mut self, apart: u64) -> anyhow::Result<()> {
        let timestamp = self.next_timestamp(apart);
        self.write(&Entry::Mine { parent: self.head.hash, timestamp }).await?;
        if self.mine_at(timestamp).await.is_err() {
            self.recover().await;
        }
        if JOURNAL_BLOCKS_MAX <= self.blocks || JOURNAL_BYTES_MAX <= self.journal.bytes() {
            match self.dump().await {
                Err(error) if error.is::<Gone>() => {
                    self.recover().await;
                }
                dumped => dumped?,
            }
        }
        Ok(())
    }

    fn ahead_of_this_machine(&self) -> u64 {
        self.ahead.max(self.head.timestamp.saturating_sub(seconds_since_1970()))
    }

    fn next_timestamp(&mut self, apart: u64) -> u64 {
        let now = seconds_since_1970();
        let earliest = self.head.timestamp.saturating_add(apart);
        match self.exact.take() {
            Some(exact) => {
                self.ahead = exact.saturating_sub(now);
                exact.max(earliest)
            }
            None => now.saturating_add(self.ahead).max(earliest),
        }
    }

    async fn write(&mut self, entry: &Entry) -> anyhow::Result<()> {
        self.journal.append(entry).await
    }

    async fn send(&mut self, entry: Entry) -> Result<Answer, Gone> {
        let Entry::Send { method, params } = &entry else {
            return Ok(Err(failure("a block is not a transaction")));
        };
        let answer = self.call(method, params).await?;
        let hash = answer.as_ref().ok().and_then(|hash| hash.as_str()?.parse().ok());
        if let Some(hash) = hash {
            self.waiting.push(Waiting { hash, entry });
        }
        Ok(answer)
    }

    async fn mine_at(&mut self, timestamp: u64) -> anyhow::Result<()> {
        self.blocks += 1;
        if let Err(refused) = self.call("evm_mine", &json!([timestamp])).await? {
            tracing::warn!(%refused, timestamp, "anvil refuses to mine a block");
        }
        self.look_at_head().await
    }

    /// Takes note of the head, and of the transactions that need not wait any more.
    async fn look_at_head(&mut self) -> anyhow::Result<()> {
        let block = self.call("eth_getBlockByNumber", &json!(["latest", false])).await?;
        let block = block.map_err(|error| anyhow!("ask anvil for its head: {error}"))?;
        let read = || {
            let hash = block["hash"].as_str()?.parse().ok()?;
            Some(Head { hash, timestamp: quantity(&block["timestamp"])? })
        };
        self.head = read().with_context(|| format!("anvil's head is no block: {block}"))?;
        let hashes = block["transactions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let hash_of = |value: &Value| value.as_str()?.parse::<B256>().ok();
        let included: Vec<B256> = hashes.iter().filter_map(hash_of).collect();
        self.waiting.retain(|waiting| !included.contains(&waiting.hash));
        Ok(())
    }

    /// Writes the whole chain to disk and begins a new journal with what still waits for a block.
    async fn dump(&mut self) -> anyhow::Result<()> {
        let mut waiting = Vec::new();
        for one in std::mem::take(&mut self.waiting) {
            let found = self.call("eth_getTransactionByHash", &json!([one.hash])).await?;
            // One that was replaced by another of its nonce is unknown.
            if found.is_ok_and(|found| found.is_object() && found["blockHash"].is_null()) {
                waiting.push(one);
            }
        }
        self.waiting = waiting;
        let state = self.call("anvil_dumpState", &json!([])).await?;
        let state = state.map_err(|error| anyhow!("ask anvil for its state: {error}"))?;
        let Value::String(state) = state else { bail!("anvil's state is not a text") };
        let number = self.number + 1;
        let entries = self.waiting.iter().map(|waiting| &waiting.entry);
        let path = dump::journal(&self.options.folder, number);
        self.journal = Journal::create(path, entries).await?;
        let folder = self.options.folder.clone();
        let dump = Dump { journal: number, state };
        tokio::task::spawn_blocking(move || {
            dump.write(&folder)?;
            dump::remove_other_journals(&folder, number)
        })
        .await
        .context("write the chain")??;
        self.number = number;
        self.blocks = 0;
        Ok(())
    }

    async fn call(&self, method: &str, params: &Value) -> Result<Answer, Gone> {
        let upstream = self.upstream()?;
        call(&self.client, &upstream, method, params).await
    }

    fn upstream(&self) -> Result<Upstream, Gone> {
        let anvil = self.anvil.as_ref().and_then(|anvil| Some((anvil, anvil.pid()?)));
        let (anvil, pid) = anvil.ok_or_else(Gone::not_running)?;
        Ok(Upstream { pid, http: anvil.http_url(), websocket: anvil.ws_url() })
    }
}

/// A JSON-RPC error of our own making.
pub(super) fn failure(message: &str) -> Value {
    json!({"code": -32_000, "message": message})
}

async fn until_ended(anvil: Option<&Anvil>) {
    let Some(anvil) = anvil else { return };
    let mut status = anvil.status();
    // A closed channel means that nobody watches it any more, which is an end as well.
    let _ = status.wait_for(|status| matches!(status, Status::Ended(_))).await;
}

async fn sleep_until_due(mining: Mining, due: Instant) {
    match mining {
        Mining::Every(_) => sleep_until(due).await,
        Mining::AtOnce | Mining::OnDemand => std::future::pending().await,
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
