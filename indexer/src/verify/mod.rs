//! Whether what an endpoint says can be what the chain says. Pure.
//!
//! A header is its hash, and a header's bloom and receipts root bind every log of its block. So once a header is accepted,
//! an endpoint cannot invent, change or leave out a log without one of these checks failing:
//!
//! | check | sees | costs |
//! |---|---|---|
//! | header hash, parent link | a header that is not what it claims to be | nothing |
//! | block hash, log order, removed | logs of another block, doubled, or from a cancelled branch | nothing |
//! | bloom superset | invented logs, most changed ones | nothing |
//! | bloom omission | an empty answer for a block that has something, where the bloom still tells (see [`saturation`]) | one request, on suspicion |
//! | receipts root | everything | one request per block |
//! | event sequence | every omission among our own contracts' events, for ever | nothing |

pub mod receipts;

use alloy::consensus::Header as ConsensusHeader;
use alloy::primitives::{Address, B256, Bloom};

use crate::chain::{Block, Fact, Header, RawLog};
use crate::decode;
use crate::limits::BLOCK_LOGS_MAX;
use crate::watch::WatchList;

/// What can be found wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    ChainId,
    Shape,
    HeaderHash,
    ParentLink,
    BlockHash,
    LogOrder,
    Removed,
    Bloom,
    BloomOmission,
    ReceiptsRoot,
    Sequence,
    Finalized,
}

impl Check {
    /// The check's name in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChainId => "chain_id",
            Self::Shape => "shape",
            Self::HeaderHash => "header_hash",
            Self::ParentLink => "parent_link",
            Self::BlockHash => "block_hash",
            Self::LogOrder => "log_order",
            Self::Removed => "removed",
            Self::Bloom => "bloom",
            Self::BloomOmission => "bloom_omission",
            Self::ReceiptsRoot => "receipts_root",
            Self::Sequence => "sequence",
            Self::Finalized => "finalized",
        }
    }
}

/// A check that failed, and on what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", check.name())]
pub struct Lie {
    pub check: Check,
    pub detail: String,
}

impl Lie {
    pub fn new(check: Check, detail: impl Into<String>) -> Self {
        Self { check, detail: detail.into() }
    }
}

/// A contract's event sequence that does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub contract: Address,
    /// The number of the last event before the gap.
    pub after: u64,
    pub lie: Lie,
}

/// How much is read to check a block's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The receipts root of every block that may hold a watched log.
    Full,
    /// Headers, links and blooms of every block; the receipts root where bloom and answer disagree, and of a sample.
    Linked,
}

/// A header as an endpoint gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedHeader {
    pub hash: B256,
    pub header: ConsensusHeader,
}

/// Accepts a header that hashes to what it claims.
pub fn header(claimed: &ClaimedHeader) -> Result<Header, Lie> {
    let hash = claimed.header.hash_slow();
    if hash != claimed.hash {
        let detail = format!(
            "block {}: the header hashes to {hash}, but is given as {}",
            claimed.header.number, claimed.hash
        );
        return Err(Lie::new(Check::HeaderHash, detail));
    }
    if i64::try_from(claimed.header.number).is_err()
        || i64::try_from(claimed.header.timestamp).is_err()
    {
        return Err(Lie::new(Check::Shape, format!("block {hash}: number or time over 2^63")));
    }
    Ok(Header::new(hash, &claimed.header))
}

/// Accepts a block that follows another.
pub fn link(parent_number: u64, parent_hash: B256, child: &Header) -> Result<(), Lie> {
    if child.number == parent_number + 1 && child.parent_hash == parent_hash {
        return Ok(());
    }
    let detail = format!(
        "block {} {} follows {}, not block {parent_number} {parent_hash}",
        child.number, child.hash, child.parent_hash
    );
    Err(Lie::new(Check::ParentLink, detail))
}

/// Accepts the logs of one block against its header, without its receipts, and keeps the watched ones.
/// `logs` may hold others too.
pub fn logs(watch: &WatchList, header: &Header, logs: &[RawLog]) -> Result<Vec<Fact>, Lie> {
    if BLOCK_LOGS_MAX < logs.len() {
        return Err(Lie::new(
            Check::Shape,
            format!("block {}: {} logs", header.number, logs.len()),
        ));
    }
    let mut facts = Vec::new();
    let mut accepted = Vec::new();
    let mut last: Option<&RawLog> = None;
    for log in logs {
        check_place(header, log)?;
        if let Some(last) = last
            && (log.log_index <= last.log_index || log.transaction_index < last.transaction_index)
        {
            let detail = format!(
                "block {}: log {} after log {}",
                header.number, log.log_index, last.log_index
            );
            return Err(Lie::new(Check::LogOrder, detail));
        }
        last = Some(log);
        if !watch.keeps(log.address, log.topics.first()) {
            continue;
        }
        if !watch.is_accepted(&header.logs_bloom, log.address, &log.topics, &mut accepted) {
            let detail =
                format!("block {}: log {} is not in the bloom", header.number, log.log_index);
            return Err(Lie::new(Check::Bloom, detail));
        }
        facts.push(fact(watch, header, log)?);
    }
    Ok(facts)
}

/// Whether a block that was answered with no watched log may have one after all, as far as its bloom can tell.
pub fn omission_suspected(watch: &WatchList, header: &Header, facts: &[Fact]) -> bool {
    facts.is_empty()
        && saturation(&header.logs_bloom) <= SATURATION_MAX
        && watch.may_be_in(&header.logs_bloom)
}

/// The share of a bloom's bits that are set above which it accepts so much that a match says nothing: one address is then
/// accepted by chance with a probability of more than 0.7^3, a third.
pub const SATURATION_MAX: f64 = 0.7;

/// The share of a bloom's bits that are set. Base's blocks are nearly saturated; there only the receipts root, the event
/// sequence and a second endpoint can tell an omission below the finalized block.
pub fn saturation(bloom: &Bloom) -> f64 {
    let ones: u32 = bloom.0.iter().map(|byte| byte.count_ones()).sum();
    f64::from(ones) / f64::from(Bloom::len_bytes() as u32 * 8)
}

/// Checks that every contract's events go on from the last sequence number without a gap.
pub fn sequences(
    watch: &WatchList,
    last: impl Fn(Address) -> u64,
    blocks: &[Block],
) -> Result<(), Gap> {
    let mut seen = std::collections::BTreeMap::new();
    for fact in blocks.iter().flat_map(|block| &block.facts) {
        if !watch.role(fact.address).is_some_and(|role| role.numbers(fact.topics.first())) {
            continue;
        }
        let before = *seen.entry(fact.address).or_insert_with(|| last(fact.address));
        if fact.sequence != Some(before + 1) {
            let got = fact.sequence.map_or("none".to_owned(), |sequence| sequence.to_string());
            let detail = format!(
                "contract {}: event {got} in block {} log {} follows event {before}",
                fact.address, fact.block_number, fact.log_index
            );
            let lie = Lie::new(Check::Sequence, detail);
            return Err(Gap { contract: fact.address, after: before, lie });
        }
        seen.insert(fact.address, before + 1);
    }
    Ok(())
}

fn check_place(header: &Header, log: &RawLog) -> Result<(), Lie> {
    if log.removed {
        let detail = format!("block {}: log {} is marked removed", header.number, log.log_index);
        return Err(Lie::new(Check::Removed, detail));
    }
    if log.block_hash != header.hash || log.block_number != header.number {
        let detail = format!(
            "log {} says block {} {}, but was given for block {} {}",
            log.log_index, log.block_number, log.block_hash, header.number, header.hash
        );
        return Err(Lie::new(Check::BlockHash, detail));
    }
    if log.topics.len() > 4 {
        let detail = format!(
            "block {}: log {} has {} topics",
            header.number,
            log.log_index,
            log.topics.len()
        );
        return Err(Lie::new(Check::Shape, detail));
    }
    Ok(())
}

fn fact(watch: &WatchList, header: &Header, log: &RawLog) -> Result<Fact, Lie> {
    let narrow = |value: u64, field: &str| {
        let detail = format!("block {}: {field} {value} over 2^31", header.number);
        i32::try_from(value)
            .map(|value| value.unsigned_abs())
            .map_err(|_| Lie::new(Check::Shape, detail))
    };
    let numbered = watch.role(log.address).is_some_and(|role| role.numbers(log.topics.first()));
    Ok(Fact {
        block_number: header.number,
        block_hash: header.hash,
        block_time: header.time,
        log_index: narrow(log.log_index, "logIndex")?,
        transaction_hash: log.transaction_hash,
        transaction_index: narrow(log.transaction_index, "transactionIndex")?,
        gas_used: log.gas_used,
        address: log.address,
        topics: log.topics.clone(),
        data: log.data.clone(),
        sequence: if numbered { decode::sequence(&log.data) } else { None },
    })
}

#[cfg(test)]
mod tests;
