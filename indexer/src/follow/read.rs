//! Reading blocks from one endpoint and checking them before anybody else sees them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use alloy::primitives::B256;
use futures::stream::{self, StreamExt, TryStreamExt};
use rand::Rng;

use super::outcome::Policy;
use crate::chain::{Block, BlockRef, Fact, Header, Heads, RawLog};
use crate::limits::{BATCH_RECEIPTS_MAX, RECEIPTS_IN_FLIGHT_MAX};
use crate::source::{ClaimedHeads, Endpoint, Fault};
use crate::verify::receipts::facts_of;
use crate::verify::{self, Check, ClaimedHeader, Level, Lie};
use crate::watch::WatchList;

/// One endpoint, read under a policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a, E> {
    pub(super) endpoint: &'a E,
    pub(super) watch: &'a WatchList,
    pub(super) policy: &'a Policy,
}

impl<E: Endpoint> Reader<'_, E> {
    /// The endpoint's view of the tip.
    pub(super) async fn heads(&self) -> Result<Heads, Fault> {
        let ClaimedHeads { latest, safe, finalized } = self.endpoint.heads().await?;
        let latest = self.header(&latest)?;
        let of = |claimed: Option<ClaimedHeader>| -> Result<Option<BlockRef>, Fault> {
            claimed.map(|claimed| Ok(self.header(&claimed)?.block_ref())).transpose()
        };
        let heads = Heads { latest, safe: of(safe)?, finalized: of(finalized)? };
        let finalized = heads.finalized.map_or(0, |block| block.number);
        let safe = heads.safe.map_or(finalized, |block| block.number);
        if heads.latest.number < safe || safe < finalized {
            // Heads of different nodes behind one address; the next answer may be of one view.
            let text = format!("heads in order: {finalized}, {safe}, {}", heads.latest.number);
            return Err(Fault::Absent(text));
        }
        Ok(heads)
    }

    /// The headers from `first` to `last` that the endpoint has, linked to each other.
    pub(super) async fn headers(&self, first: u64, last: u64) -> Result<Vec<Header>, Fault> {
        let claimed = self.endpoint.headers(first, last).await?;
        let mut headers: Vec<Header> = Vec::with_capacity(claimed.len());
        for (number, claimed) in (first..=last).zip(claimed) {
            let Some(claimed) = claimed else { break };
            let header = self.header(&claimed)?;
            if header.number != number {
                let detail = format!("asked for block {number}, got {}", header.number);
                return Err(Fault::lie(Check::Shape, detail));
            }
            if let Some(parent) = headers.last() {
                self.judge(verify::link(parent.number, parent.hash, &header))?;
            }
            headers.push(header);
        }
        Ok(headers)
    }

    pub(super) async fn header_by_hash(&self, block: BlockRef) -> Result<Header, Fault> {
        let claimed = self.endpoint.header_by_hash(block.hash).await?;
        let Some(claimed) = claimed else {
            return Err(Fault::Absent(format!("block {} {}", block.number, block.hash)));
        };
        let header = self.header(&claimed)?;
        if header.block_ref() != block {
            let detail =
                format!("asked for block {} {}, got {}", block.number, block.hash, header.hash);
            return Err(Fault::lie(Check::HeaderHash, detail));
        }
        Ok(header)
    }

    /// The watched logs of blocks that are known by their headers, asked for by block hash.
    pub(super) async fn blocks(
        &self,
        headers: Vec<Header>,
        level: Level,
    ) -> Result<Vec<Block>, Fault> {
        let parts: Vec<Vec<Header>> = match level {
            Level::Full => headers.chunks(BATCH_RECEIPTS_MAX).map(<[Header]>::to_vec).collect(),
            Level::Linked => headers.into_iter().map(|header| vec![header]).collect(),
        };
        let parts: Vec<Vec<Block>> = stream::iter(parts)
            .map(|part| self.part(part, level))
            .buffered(RECEIPTS_IN_FLIGHT_MAX)
            .try_collect()
            .await?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// The watched logs of a range at or below the finalized block, asked for at once.
    pub(super) async fn range(&self, range: Range<u64>, level: Level) -> Result<Vec<Block>, Fault> {
        let (first, last) = (range.start, range.end - 1);
        let (headers, logs) = match level {
            Level::Full => (self.headers(first, last).await?, Vec::new()),
            // Together, because on a slow line the waiting is what takes the time.
            Level::Linked => tokio::try_join!(
                self.headers(first, last),
                self.endpoint.logs_in(first, last, self.watch.filter())
            )?,
        };
        if headers.len() as u64 != range.end - range.start {
            return Err(Fault::Absent(format!("block {}", first + headers.len() as u64)));
        }
        if level == Level::Full {
            return self.blocks(headers, level).await;
        }
        let mut logs = logs;
        // Nodes give logs in chain order; one that does not is caught by the check of each block.
        logs.sort_by_key(|log| log.block_number);
        if let Some(log) = logs.iter().find(|log| !range.contains(&log.block_number)) {
            let detail = format!("log of block {} in range {first} to {last}", log.block_number);
            self.judge(Err(Lie::new(Check::BlockHash, detail)))?;
            logs.retain(|log| range.contains(&log.block_number));
        }
        let mut rest = logs.as_slice();
        let answers = headers.into_iter().map(|header| {
            let count = rest.partition_point(|log| log.block_number <= header.number);
            let (own, later) = rest.split_at(count);
            rest = later;
            (header, own)
        });
        self.checked_logs(answers.collect()).await
    }

    /// Some blocks, with the receipts of those that need them in one request.
    async fn part(&self, headers: Vec<Header>, level: Level) -> Result<Vec<Block>, Fault> {
        // A bloom has no false negatives and the header's hash binds it: this proves that there is nothing.
        let may_hold = |header: &&Header| self.watch.may_be_in(&header.logs_bloom);
        let busy: Vec<&Header> = headers.iter().filter(may_hold).collect();
        metrics::counter!("auspex_indexer_blocks_proved_empty_total")
            .increment((headers.len() - busy.len()) as u64);
        let mut facts = BTreeMap::new();
        if level == Level::Full && !busy.is_empty() {
            for (header, proved) in busy.iter().zip(self.proved(&busy).await?) {
                if let Some(proved) = proved {
                    facts.insert(header.number, proved);
                }
            }
        }
        for header in busy {
            if let Entry::Vacant(place) = facts.entry(header.number) {
                place.insert(self.given(header).await?);
            }
        }
        let block = |header: Header| {
            let facts = facts.remove(&header.number).unwrap_or_default();
            Block { header, facts }
        };
        Ok(headers.into_iter().map(block).collect())
    }

    /// A block's watched logs as the endpoint gives them for its hash.
    async fn given(&self, header: &Header) -> Result<Vec<Fact>, Fault> {
        let logs = self.endpoint.logs_of(header.hash, self.watch.filter()).await?;
        let logs = logs.ok_or_else(|| absent(header))?;
        let blocks = self.checked_logs(vec![(header.clone(), logs.as_slice())]).await?;
        Ok(blocks.into_iter().flat_map(|block| block.facts).collect())
    }

    /// Logs without receipts, and the receipts of the blocks where there is a doubt or the dice say so, several at once.
    async fn checked_logs(&self, answers: Vec<(Header, &[RawLog])>) -> Result<Vec<Block>, Fault> {
        let mut blocks = Vec::with_capacity(answers.len());
        let mut doubted = Vec::new();
        for (header, logs) in answers {
            let facts = self.plausible(&header, logs)?;
            if let Some(doubt) = self.doubt(&header, facts.as_deref()) {
                doubted.push((blocks.len(), doubt));
            }
            blocks.push(Block { header, facts: facts.unwrap_or_default() });
        }
        let parts: Vec<Vec<(Header, Doubt)>> = doubted
            .chunks(BATCH_RECEIPTS_MAX)
            .map(|part| {
                part.iter().map(|(index, doubt)| (blocks[*index].header.clone(), *doubt)).collect()
            })
            .collect();
        let proved: Vec<_> = stream::iter(parts)
            .map(|part| self.proved_if_served(part))
            .buffered(RECEIPTS_IN_FLIGHT_MAX)
            .try_collect()
            .await?;
        for ((index, doubt), proved) in doubted.into_iter().zip(proved.into_iter().flatten()) {
            let Some(proved) = proved else { continue };
            let block = &mut blocks[index];
            if doubt != Doubt::Refuted && !is_same(&proved, &block.facts) {
                let detail = format!(
                    "block {}: {} watched logs in the answer, {} in the receipts",
                    block.header.number,
                    block.facts.len(),
                    proved.len()
                );
                self.judge(Err(Lie::new(Check::BloomOmission, detail)))?;
            }
            block.facts = proved;
        }
        Ok(blocks)
    }

    /// A block's watched logs, if nothing speaks against them. None where they cannot be right and the policy is only to
    /// observe: what is to be had is then left to the receipts.
    fn plausible(&self, header: &Header, logs: &[RawLog]) -> Result<Option<Vec<Fact>>, Fault> {
        let checked = verify::logs(self.watch, header, logs);
        count(Check::LogOrder, checked.is_ok());
        match checked {
            Ok(facts) => Ok(Some(facts)),
            Err(lie) => {
                self.judge(Err(lie))?;
                Ok(None)
            }
        }
    }

    /// Why a block's receipts are read although its logs were given; None where they are not.
    fn doubt(&self, header: &Header, facts: Option<&[Fact]>) -> Option<Doubt> {
        let Some(facts) = facts else { return Some(Doubt::Refuted) };
        if verify::omission_suspected(self.watch, header, facts) {
            return Some(Doubt::Omission);
        }
        let is_drawn = !facts.is_empty() && rand::rng().random_bool(self.policy.sample);
        is_drawn.then_some(Doubt::Sample)
    }

    /// The blocks' watched logs out of their receipts. A node without block receipts is read without the sample, but what the
    /// bloom speaks against is not taken from it.
    async fn proved_if_served(
        &self,
        part: Vec<(Header, Doubt)>,
    ) -> Result<Vec<Option<Vec<Fact>>>, Fault> {
        let headers: Vec<&Header> = part.iter().map(|(header, _)| header).collect();
        match self.proved(&headers).await {
            Err(Fault::Unsupported(text)) => {
                for (header, doubt) in &part {
                    self.unproved(header, *doubt, &text)?;
                }
                Ok(vec![None; part.len()])
            }
            proved => proved,
        }
    }

    /// Counts a block whose receipts could not be had; where its bloom speaks against its logs that is a fault unless the
    /// policy is only to observe.
    fn unproved(&self, header: &Header, doubt: Doubt, text: &str) -> Result<(), Fault> {
        let check = match doubt {
            Doubt::Omission => Check::BloomOmission,
            Doubt::Sample | Doubt::Refuted => Check::ReceiptsRoot,
        };
        tally(check, "unproved");
        if doubt != Doubt::Omission {
            return Ok(());
        }
        let text = format!(
            "block {}: an empty answer that the bloom speaks against, and no receipts that would tell: {text}",
            header.number
        );
        if self.policy.observe_only {
            tracing::warn!(endpoint = self.endpoint.name(), text, "not provable; observing only");
            return Ok(());
        }
        Err(Fault::Unsupported(text))
    }

    /// The blocks' watched logs out of their receipts, which hash to the headers' roots. None where they do not and the
    /// policy is only to observe.
    async fn proved(&self, headers: &[&Header]) -> Result<Vec<Option<Vec<Fact>>>, Fault> {
        let hashes: Vec<B256> = headers.iter().map(|header| header.hash).collect();
        let answers = self.endpoint.receipts(&hashes).await?;
        if answers.len() != headers.len() {
            let detail = format!(
                "asked for the receipts of {} blocks, got {}",
                headers.len(),
                answers.len()
            );
            return Err(Fault::lie(Check::Shape, detail));
        }
        let mut proved = Vec::with_capacity(headers.len());
        for (header, receipts) in headers.iter().zip(answers) {
            let receipts = receipts.ok_or_else(|| absent(header))?;
            proved.push(match facts_of(self.watch, header, &receipts) {
                Ok(facts) => {
                    count(Check::ReceiptsRoot, true);
                    Some(facts)
                }
                Err(lie) => {
                    self.judge(Err(lie))?;
                    None
                }
            });
        }
        Ok(proved)
    }

    fn header(&self, claimed: &ClaimedHeader) -> Result<Header, Fault> {
        match verify::header(claimed) {
            Ok(header) => Ok(header),
            Err(lie) => {
                self.judge(Err(lie))?;
                Ok(Header::new(claimed.hash, &claimed.header))
            }
        }
    }

    /// Counts a check; a failed one is a fault unless the policy is only to observe.
    fn judge(&self, result: Result<(), Lie>) -> Result<(), Fault> {
        let Err(lie) = result else { return Ok(()) };
        count(lie.check, false);
        if self.policy.observe_only {
            tracing::warn!(endpoint = self.endpoint.name(), %lie, "check failed; observing only");
            return Ok(());
        }
        Err(lie.into())
    }
}

/// Why a block's receipts are read although its logs were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// The logs failed a check, and the policy is only to observe.
    Refuted,
    /// There are none, although the bloom accepts something that is watched.
    Omission,
    /// The dice said so.
    Sample,
}

fn is_same(proved: &[Fact], given: &[Fact]) -> bool {
    proved.len() == given.len()
        && proved.iter().zip(given).all(|(a, b)| a.log_index == b.log_index && a.data == b.data)
}

fn absent(header: &Header) -> Fault {
    Fault::Absent(format!("block {} {}", header.number, header.hash))
}

fn count(check: Check, passed: bool) {
    tally(check, if passed { "passed" } else { "failed" });
}

fn tally(check: Check, outcome: &'static str) {
    metrics::counter!("auspex_indexer_checks_total", "check" => check.name(), "outcome" => outcome)
        .increment(1);
}
