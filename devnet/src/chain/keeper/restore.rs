//! Makes the chain again from what is on disk: the last dump, and the journal since.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::dump::{self, Dump};
use super::super::journal::{Entry, Journal};
use super::super::upstream::Answer;
use super::Keeper;
use crate::anvil::{Anvil, AnvilOptions};
use crate::limits::CHAIN_START_PAUSE;
use crate::process::Restart;

impl Keeper {
    /// Makes the chain again until it is there.
    pub(super) async fn recover(&mut self) -> Option<Answer> {
        self.published.send_replace(None);
        tracing::warn!("the chain's process ended unasked, the chain is made again");
        loop {
            match self.restore().await {
                Ok(last) => return last,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the chain is not back yet");
                    sleep(CHAIN_START_PAUSE).await;
                }
            }
        }
    }

    /// Starts an anvil, loads the last dump into it, and replays the journal. Returns the answer to the last offer in it, if
    /// the journal ends with one.
    pub(super) async fn restore(&mut self) -> anyhow::Result<Option<Answer>> {
        self.anvil = None;
        self.anvil = Some(self.start_anvil().await?);
        self.waiting.clear();
        self.blocks = 0;
        let dump = Dump::read(&self.options.folder)?;
        self.number = dump.as_ref().map_or(0, |dump| dump.journal);
        dump::remove_other_journals(&self.options.folder, self.number)?;
        let path = dump::journal(&self.options.folder, self.number);
        let (journal, entries) = Journal::open(path).await?;
        self.journal = journal;
        let is_new = dump.is_none();
        if let Some(dump) = dump {
            self.load(dump.state).await?;
        }
        self.look_at_head().await?;
        let mut last = None;
        for entry in entries {
            last = self.replay(entry).await?;
        }
        self.ahead = self.ahead_of_this_machine();
        if is_new {
            // The first block's time is that of anvil's start, so that it has to be kept as well. A fee that anvil has loaded
            // is another than the one that it begins with, so that the chain begins as it will be loaded.
            self.dump().await?;
            let begun = Dump::read(&self.options.folder)?.context("the chain that was written")?;
            self.load(begun.state).await?;
        }
        self.published.send_replace(Some(self.upstream()?));
        Ok(last)
    }

    async fn start_anvil(&self) -> anyhow::Result<Anvil> {
        let options = AnvilOptions {
            port: None,
            chain_id: self.options.chain_id,
            block_time: None,
            on_demand: true,
            blocks_kept: None,
            state_file: None,
            state_interval: Duration::ZERO,
            log: Some(self.options.log.clone()),
            restart: Restart::Never,
        };
        Anvil::start(&self.program, options).await
    }

    /// Loads a whole chain, and sets anvil's clock to its head's time: anvil refuses blocks that are older than its own start,
    /// and those of the journal are.
    async fn load(&mut self, state: String) -> anyhow::Result<()> {
        let loaded = self.call("anvil_loadState", &json!([state])).await?;
        ensure!(
            loaded == Ok(Value::Bool(true)),
            "anvil does not load the chain that it wrote: {loaded:?}"
        );
        self.look_at_head().await?;
        let set = self.call("evm_setTime", &json!([self.head.timestamp])).await?;
        ensure!(set.is_ok(), "anvil does not set its clock: {set:?}");
        Ok(())
    }

    async fn replay(&mut self, entry: Entry) -> anyhow::Result<Option<Answer>> {
        match entry {
            // What was refused then is refused now.
            Entry::Send { .. } => Ok(Some(self.send(entry).await?)),
            Entry::Mine { parent, timestamp } => {
                if parent != self.head.hash {
                    tracing::warn!(
                        journalled = %parent,
                        replayed = %self.head.hash,
                        "the chain has another block than before it was killed; its readers see a reorganisation"
                    );
                }
                self.mine_at(timestamp).await?;
                Ok(None)
            }
        }
    }
}
