//! What a call means to a kept chain, by its method. Pure.

use std::time::Duration;

use serde_json::Value;

use crate::limits::MINE_BLOCKS_MAX;

/// When blocks are mined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mining {
    /// A block at once for every transaction.
    AtOnce,
    /// A block every so often, with or without transactions.
    Every(Duration),
    /// Only when a call asks for it.
    OnDemand,
}

/// What is done with a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// It changes nothing, and goes to anvil as it is.
    Read,
    /// It offers a transaction, and is journalled before anvil gets it.
    Send,
    /// Blocks are asked for; each is journalled.
    Mine {
        blocks: u64,
        apart: u64,
        at: Option<u64>,
        reply: Value,
    },
    /// The chain's clock is moved forward by so many seconds.
    Advance(u64),
    /// The next block is to have this time.
    NextTimestamp(u64),
    Schedule(Mining),
    /// It changes the chain in a way that a replay could not repeat, such as a reorganisation or a balance set by decree:
    /// the whole chain is written to disk before the call is answered.
    Decree,
    /// It is refused, with a JSON-RPC error.
    Refuse {
        code: i64,
        message: String,
    },
}

/// Methods with a writer's prefix that change nothing.
const READS: [&str; 9] = [
    "anvil_dumpState",
    "anvil_getAutomine",
    "anvil_getBlobByHash",
    "anvil_getBlobsByTransactionHash",
    "anvil_getIntervalMining",
    "anvil_metadata",
    "anvil_nodeInfo",
    "anvil_setLoggingEnabled",
    "hardhat_metadata",
];

const INVALID_PARAMS: i64 = -32_602;
const METHOD_NOT_FOUND: i64 = -32_601;

/// Decides by method and parameters.
pub(super) fn action(method: &str, params: &Value) -> Action {
    let decided = match method {
        "eth_sendRawTransaction" | "eth_sendTransaction" | "eth_sendUnsignedTransaction" => {
            Ok(Action::Send)
        }
        "eth_sendRawTransactionSync" | "eth_sendTransactionSync" => Ok(Action::Refuse {
            code: METHOD_NOT_FOUND,
            message: format!(
                "{method} is not served by this chain: use {} and ask for the receipt",
                method.trim_end_matches("Sync")
            ),
        }),
        "evm_mine" => mine_one_or_more(params),
        "anvil_mine" | "hardhat_mine" => mine_apart(params),
        "evm_increaseTime" | "anvil_increaseTime" => {
            quantity(&params[0]).map(Action::Advance).ok_or("params[0]: seconds, a number")
        }
        "evm_setNextBlockTimestamp"
        | "anvil_setNextBlockTimestamp"
        | "evm_setTime"
        | "anvil_setTime" => quantity(&params[0])
            .map(Action::NextTimestamp)
            .ok_or("params[0]: seconds since 1970, a number"),
        "evm_setAutomine" | "anvil_setAutomine" | "anvil_setAutoMine" => params[0]
            .as_bool()
            .map(|yes| Action::Schedule(if yes { Mining::AtOnce } else { Mining::OnDemand }))
            .ok_or("params[0]: true or false"),
        "evm_setIntervalMining" | "anvil_setIntervalMining" => quantity(&params[0])
            .map(|seconds| match seconds {
                0 => Action::Schedule(Mining::OnDemand),
                seconds => Action::Schedule(Mining::Every(Duration::from_secs(seconds))),
            })
            .ok_or("params[0]: seconds, a number"),
        method if READS.contains(&method) => Ok(Action::Read),
        method if ["evm_", "anvil_", "hardhat_"].iter().any(|p| method.starts_with(p)) => {
            Ok(Action::Decree)
        }
        _ => Ok(Action::Read),
    };
    decided.unwrap_or_else(|message| Action::Refuse {
        code: INVALID_PARAMS,
        message: format!("{method}: {message}"),
    })
}

/// `evm_mine` takes nothing, a time, or both a time and a number of blocks.
fn mine_one_or_more(params: &Value) -> Result<Action, &'static str> {
    let (at, blocks) = match &params[0] {
        Value::Null => (None, 1),
        Value::Object(options) => {
            let at = optional(options.get("timestamp")).ok_or("params[0].timestamp: a number")?;
            let blocks = optional(options.get("blocks")).ok_or("params[0].blocks: a number")?;
            (at, blocks.unwrap_or(1))
        }
        time => (Some(quantity(time).ok_or("params[0]: seconds since 1970, a number")?), 1),
    };
    Ok(Action::Mine { blocks: within_limit(blocks)?, apart: 1, at, reply: Value::from("0x0") })
}

/// `anvil_mine` takes a number of blocks and the seconds between them.
fn mine_apart(params: &Value) -> Result<Action, &'static str> {
    let blocks = optional(params.get(0)).ok_or("params[0]: blocks, a number")?.unwrap_or(1);
    let apart = optional(params.get(1)).ok_or("params[1]: seconds, a number")?.unwrap_or(1);
    let blocks = within_limit(blocks)?;
    Ok(Action::Mine { blocks, apart: apart.max(1), at: None, reply: Value::Null })
}

fn within_limit(blocks: u64) -> Result<u64, &'static str> {
    const { assert!(MINE_BLOCKS_MAX == 4_096) };
    if blocks <= MINE_BLOCKS_MAX { Ok(blocks) } else { Err("blocks: at most 4096 in one call") }
}

/// An absent or null value is no error.
fn optional(value: Option<&Value>) -> Option<Option<u64>> {
    match value {
        None | Some(Value::Null) => Some(None),
        Some(value) => quantity(value).map(Some),
    }
}

/// A number as JSON has it, or in hexadecimal as JSON-RPC has it.
pub(super) fn quantity(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changes_the_chain_is_told_from_what_reads_it() {
        for method in ["eth_call", "eth_getLogs", "debug_traceTransaction", "anvil_nodeInfo", "?"] {
            assert_eq!(action(method, &json!([])), Action::Read, "{method}");
        }
        for method in ["eth_sendRawTransaction", "eth_sendTransaction"] {
            assert_eq!(action(method, &json!(["0x00"])), Action::Send, "{method}");
        }
        for method in ["anvil_reorg", "evm_revert", "anvil_setBalance", "hardhat_setCode"] {
            assert_eq!(action(method, &json!([])), Action::Decree, "{method}");
        }
    }

    #[test]
    fn blocks_are_asked_for_in_every_dialect() {
        let mined = |method, params| match action(method, &params) {
            Action::Mine { blocks, apart, at, .. } => (blocks, apart, at),
            other => panic!("{other:?}"),
        };
        assert_eq!(mined("evm_mine", json!([])), (1, 1, None));
        assert_eq!(mined("evm_mine", json!([7])), (1, 1, Some(7)));
        let both = json!([{"timestamp": "0x9", "blocks": 3}]);
        assert_eq!(mined("evm_mine", both), (3, 1, Some(9)));
        assert_eq!(mined("anvil_mine", json!(["0x5", 12])), (5, 12, None));
        assert_eq!(mined("anvil_mine", json!([])), (1, 1, None));
    }

    #[test]
    fn parameters_that_make_no_sense_are_named() {
        let refused = |method, params| match action(method, &params) {
            Action::Refuse { message, .. } => message,
            other => panic!("{other:?}"),
        };
        assert!(refused("anvil_mine", json!([4097])).contains("at most 4096"));
        assert!(refused("evm_increaseTime", json!(["soon"])).contains("params[0]: seconds"));
        assert!(refused("evm_setAutomine", json!([1])).contains("true or false"));
        assert!(refused("eth_sendRawTransactionSync", json!([])).contains("the receipt"));
    }
}
