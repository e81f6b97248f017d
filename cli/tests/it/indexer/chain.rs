//! The chains that the process follows: agents with their files, tokens that an owner allows, transfers.

use std::path::Path;

use alloy::primitives::{Address, U256};
use alloy::sol_types::SolEvent;
use auspex_devnet::replay::{Branch, Draft};
use auspex_indexer::watch::{Role, WatchList};
use auspex_protocol::bindings::{IAgentRegistry, IERC20, IERC721, IEntryPolicy};
use auspex_protocol::deployment::Deployment;
use serde_json::json;

const AGENTS: Address = Address::repeat_byte(0xa0);
const POLICY: Address = Address::repeat_byte(0xa2);
const TOKEN: Address = Address::repeat_byte(0xa4);

/// One block in so many registers an agent.
pub(super) const AGENT_EVERY: u64 = 20;

/// What a block's last log is, which is the one that a lying node leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// An event of our own contracts in one block of so many, which carries a sequence number.
    NumberedEvery(u64),
    /// A transfer, which nothing numbers.
    Transfer,
}

/// Adds blocks to a chain until it has this height. `salt` tells what branches of the same height say apart.
pub(super) fn grow(branch: &mut Branch, height: u64, salt: u64, last: Last) {
    while branch.head() < height {
        let number = branch.head() + 1;
        let mut transactions = vec![vec![transfer(number, 0)], vec![transfer(number, 1)]];
        if number.is_multiple_of(AGENT_EVERY) {
            transactions.push(register(number / AGENT_EVERY, salt));
        }
        match last {
            Last::Transfer => transactions.push(vec![transfer(number, 2)]),
            Last::NumberedEvery(every) if number.is_multiple_of(every) => {
                transactions.push(vec![allow(number / every, salt)]);
            }
            Last::NumberedEvery(_) => {}
        }
        branch.mine(&transactions).expect("build a block");
    }
}

fn transfer(number: u64, index: u64) -> Draft {
    let account =
        |salt: u64| Address::left_padding_from(&(number * 8 + index + salt).to_be_bytes());
    let event =
        IERC20::Transfer { from: account(1), to: account(1 << 40), value: U256::from(index) };
    (TOKEN, event.encode_log_data())
}

fn register(id: u64, salt: u64) -> Vec<Draft> {
    let owner = Address::left_padding_from(&id.to_be_bytes());
    let agent = U256::from(id);
    let minted = IERC721::Transfer { from: Address::ZERO, to: owner, tokenId: agent };
    let uri = format!("data:application/json,{{\"name\":\"agent {id} of {salt}\"}}");
    let registered = IAgentRegistry::Registered { agentId: agent, agentURI: uri, owner };
    vec![(AGENTS, minted.encode_log_data()), (AGENTS, registered.encode_log_data())]
}

fn allow(sequence: u64, salt: u64) -> Draft {
    let token = Address::left_padding_from(&(sequence % 7 + 1).to_be_bytes());
    let allowed = (sequence + salt).is_multiple_of(2);
    let event = IEntryPolicy::TokenAllowed { sequence, token, allowed };
    (POLICY, event.encode_log_data())
}

pub(super) fn deployment(chain_id: u64) -> Deployment {
    Deployment {
        chain_id,
        start_block: 1,
        agent_registry: AGENTS,
        operator_registry: Address::repeat_byte(0xa1),
        entry_policy: POLICY,
        request_escrow: Address::repeat_byte(0xa3),
        platform_token: None,
        reputation_registry: None,
        validation_registry: None,
    }
}

pub(super) fn watch_list(chain_id: u64) -> WatchList {
    let list = WatchList::new(&deployment(chain_id), &[TOKEN], &[]);
    assert_eq!(list.role(TOKEN), Some(Role::Token));
    list
}

/// Writes what `--chain` reads; the endpoints are asked in this order.
pub(super) fn write_chain_file(path: &Path, chain_id: u64, urls: &[&str]) {
    let chain = json!({"deployment": deployment(chain_id), "rpcUrls": urls, "tokens": [TOKEN]});
    std::fs::write(path, chain.to_string()).expect("write a chain's file");
}

/// Writes what `--deployment` reads.
pub(super) fn write_deployment(path: &Path, chain_id: u64) {
    let deployment = serde_json::to_string(&deployment(chain_id)).expect("a deployment is JSON");
    std::fs::write(path, deployment).expect("write a deployment");
}
