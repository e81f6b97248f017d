//! Answers to single JSON-RPC calls.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy::primitives::{Address, B256};
use serde_json::Value;

use super::block::ReplayBlock;
use super::server::State;

/// One call's answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// The `result` as JSON.
    Result(String),
    Error {
        code: i64,
        message: String,
    },
    /// None, ever.
    Silence,
}

const INVALID: i64 = -32_602;
const NULL: &str = "null";

pub(super) fn answer(state: &mut State, method: &str, params: &Value) -> Answer {
    let head = state.seen_head();
    match method {
        "eth_chainId" => {
            let id = state.faults.chain_id.unwrap_or(state.chain_id);
            Answer::Result(format!("\"{id:#x}\""))
        }
        "net_version" => Answer::Result(format!("\"{}\"", state.chain_id)),
        "eth_blockNumber" => Answer::Result(format!("\"{head:#x}\"")),
        "eth_getBlockByNumber" => match number(state, head, &params[0]) {
            Some(number) if !state.withholds(number) && params[1] == true => Answer::Result(
                state
                    .at(number)
                    .and_then(|block| block.json_with_transactions())
                    .unwrap_or_else(|| NULL.into()),
            ),
            Some(number) if !state.withholds(number) => block_json(state.at(number)),
            Some(_) | None => Answer::Result(NULL.into()),
        },
        "eth_getBlockByHash" => block_json(by_hash(state, head, &params[0])),
        "eth_getBlockReceipts" => {
            let block = by_hash(state, head, &params[0])
                .or_else(|| number(state, head, &params[0]).and_then(|number| state.at(number)));
            Answer::Result(block.map_or_else(|| NULL.into(), |block| block.receipts.clone()))
        }
        "eth_getLogs" => logs(state, head, &params[0]),
        _ => Answer::Error { code: -32_601, message: format!("method not found: {method}") },
    }
}

fn block_json(block: Option<Arc<ReplayBlock>>) -> Answer {
    Answer::Result(block.map_or_else(|| NULL.into(), |block| block.json.clone()))
}

fn by_hash(state: &State, head: u64, hash: &Value) -> Option<Arc<ReplayBlock>> {
    let hash: B256 = hash.as_str()?.parse().ok()?;
    state.known.get(&hash).filter(|block| block.number <= head).cloned()
}

fn number(state: &State, head: u64, tag: &Value) -> Option<u64> {
    let number = match tag.as_str()? {
        "latest" | "pending" => head,
        "safe" => head.checked_sub(state.safe_lag)?,
        "finalized" => head.checked_sub(state.finalized_lag)?,
        "earliest" => 0,
        text => u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()?,
    };
    (number <= head).then_some(number)
}

fn logs(state: &mut State, head: u64, filter: &Value) -> Answer {
    if 0 < state.faults.hang_logs {
        state.faults.hang_logs -= 1;
        return Answer::Silence;
    }
    let blocks = match filter.get("blockHash") {
        Some(hash) => match by_hash(state, head, hash) {
            Some(block) => vec![block],
            None => return Answer::Error { code: -32_000, message: "unknown block".into() },
        },
        None => {
            let bound = |name: &str| match filter.get(name) {
                Some(tag) => number(state, u64::MAX >> 1, tag),
                None => Some(head),
            };
            let (Some(first), Some(last)) = (bound("fromBlock"), bound("toBlock")) else {
                return Answer::Error {
                    code: INVALID,
                    message: "invalid block range params".into(),
                };
            };
            if let Some(most) = state.faults.range_max
                && most < last.saturating_sub(first) + 1
            {
                let message = format!("eth_getLogs is limited to a {most} range");
                return Answer::Error { code: -32_614, message };
            }
            if let Some(most) = state.faults.range_max_unsaid
                && most < last.saturating_sub(first) + 1
            {
                return Answer::Error { code: -32_000, message: "please try again".into() };
            }
            (first..=last.min(head)).filter_map(|number| state.at(number)).collect()
        }
    };
    let addresses: BTreeSet<Address> = list(&filter["address"]);
    let topics: BTreeSet<B256> = list(&filter["topics"][0]);
    let mut found = Vec::new();
    for block in &blocks {
        let is_empty =
            state.faults.empty || (state.faults.empty_first && state.emptied.insert(block.hash));
        if is_empty {
            continue;
        }
        let kept = |log: &&super::block::ReplayLog| {
            (addresses.is_empty() || addresses.contains(&log.address))
                && (topics.is_empty() || log.topic0.is_some_and(|topic| topics.contains(&topic)))
        };
        let mut own: Vec<String> =
            block.logs.iter().filter(kept).map(|log| log.json.clone()).collect();
        spoil(state, block, &mut own);
        found.extend(own);
    }
    if let Some(most) = state.faults.logs_max
        && most < found.len()
    {
        let message = format!(
            "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on \
             the response size, or you can request any block range with a cap of {most} logs in the response."
        );
        return Answer::Error { code: -32_602, message };
    }
    if let Some(most) = state.faults.cut_logs {
        found.truncate(most);
    }
    let mut result =
        String::with_capacity(found.iter().map(|log| log.len() + 1).sum::<usize>() + 2);
    result.push('[');
    for (place, log) in found.iter().enumerate() {
        result.push_str(if place == 0 { "" } else { "," });
        result.push_str(log);
    }
    result.push(']');
    Answer::Result(result)
}

fn spoil(state: &State, block: &ReplayBlock, logs: &mut Vec<String>) {
    let faults = &state.faults;
    if faults.omit_every.is_some_and(|every| block.number.is_multiple_of(every)) {
        logs.pop();
    }
    if faults.duplicate {
        *logs = logs.iter().flat_map(|log| [log.clone(), log.clone()]).collect();
    }
    if faults.removed
        && let Some(last) = logs.last()
    {
        let removed = last.replace("\"removed\":false", "\"removed\":true");
        logs.push(removed);
    }
    if faults.foreign_hash {
        let (own, other) =
            (format!("{:#x}", block.hash), format!("{:#x}", B256::repeat_byte(0xbb)));
        for log in logs {
            *log = log.replace(&own, &other);
        }
    }
}

/// One value or a list of them.
fn list<T: std::str::FromStr + Ord>(value: &Value) -> BTreeSet<T> {
    let parse = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
    match value {
        Value::Array(values) => values.iter().filter_map(parse).collect(),
        single => parse(single).into_iter().collect(),
    }
}
