//! The chain: that it answers, that the contracts are there, and that they know this operator.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, U256};
use alloy::providers::{DynProvider, Provider};
use auspex_oracle::limits::DELIVERY_GAS_EXPECTED;
use auspex_protocol::bindings::IOperatorRegistry;
use auspex_protocol::deployment::Deployment;

use super::{DoctorArguments, Finding, HotKeys};
use crate::chain;
use crate::connection::ConnectionArguments;

/// A head older than this means that the endpoint stands still.
const HEAD_AGE_SECONDS_MAX: u64 = 60;
/// With gas for fewer deliveries than this the node stops soon.
const DELIVERIES_FUNDED_MIN: u64 = 5;
/// With gas for fewer deliveries than this somebody should send some.
const DELIVERIES_FUNDED_LOW: u64 = 100;

pub(super) async fn examine(
    arguments: &DoctorArguments,
    owner: Address,
    connection: &ConnectionArguments,
    hot: Option<HotKeys>,
) -> Vec<Finding> {
    let (provider, deployment) = match connection.reader().await {
        Ok(found) => found,
        Err(error) => {
            let fix =
                "correct --rpc-url and --deployment; every other check of the chain waits for it";
            return vec![Finding::wrong("chain", format!("{error:#}"), fix)];
        }
    };
    let mut findings = vec![head(&provider).await, levels(&provider).await];
    findings.extend(contracts(&provider, &deployment).await);
    let registry = IOperatorRegistry::new(deployment.operator_registry, &provider);
    match registry.operatorOf(owner).call().await {
        Ok(operator) => findings.extend(registration(owner, &operator, hot)),
        Err(error) => findings.push(Finding::wrong(
            "registration",
            format!("{:#}", chain::explain(error)),
            "check that --deployment names the contracts of this chain",
        )),
    }
    if let Some(hot) = hot {
        if registry.isRevoked(hot.signer).call().await.unwrap_or(false) {
            findings.push(Finding::wrong(
                "registration",
                format!("the signer {} is revoked and never counts again", hot.signer),
                "make a new key with `auspex operator init`, then `auspex operator rotate-signer`",
            ));
        }
        findings.push(gas(&provider, hot.transmitter).await);
    }
    if arguments.operator_sets.is_empty() {
        findings.push(Finding::skipped("membership", "name your sets with --operator-set"));
    }
    for &set_id in &arguments.operator_sets {
        let epoch = registry.epochOf(set_id).call().await;
        findings.push(match epoch {
            Ok(epoch) => membership(owner, set_id, &epoch, hot),
            Err(error) => Finding::wrong(
                "membership",
                format!("set {set_id}: {:#}", chain::explain(error)),
                "check the number of the set",
            ),
        });
    }
    findings
}

async fn head(provider: &DynProvider) -> Finding {
    let time = match chain::head(provider).await {
        Ok((time, _)) => time,
        Err(error) => {
            return Finding::wrong("head", format!("{error:#}"), "use another --rpc-url");
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let away = now.abs_diff(time);
    if HEAD_AGE_SECONDS_MAX < away {
        return Finding::warning(
            "head",
            format!("the latest block's time is {away} s away from this machine's"),
            "check the endpoint's health, and this machine's clock (NTP)",
        );
    }
    Finding::good("head", format!("the latest block is {away} s old"))
}

/// A node waits for `safe`, and an endpoint that does not know it keeps every job open for ever.
async fn levels(provider: &DynProvider) -> Finding {
    for (name, tag) in
        [("safe", BlockNumberOrTag::Safe), ("finalized", BlockNumberOrTag::Finalized)]
    {
        if !matches!(provider.get_block_by_number(tag).await, Ok(Some(_))) {
            return Finding::warning(
                "finality",
                format!("the endpoint does not tell a {name} block"),
                "a young chain has none yet; otherwise use an endpoint of a full node that follows the consensus",
            );
        }
    }
    Finding::good("finality", "safe and finalized blocks are told")
}

async fn contracts(provider: &DynProvider, deployment: &Deployment) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, address) in [
        ("requestEscrow", deployment.request_escrow),
        ("operatorRegistry", deployment.operator_registry),
        ("agentRegistry", deployment.agent_registry),
        ("entryPolicy", deployment.entry_policy),
    ] {
        let code = provider.get_code_at(address).await.unwrap_or_default();
        if code.is_empty() {
            findings.push(Finding::wrong(
                "contracts",
                format!("{name}: there is no contract at {address}"),
                "use the deployment file of this chain",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good("contracts", "all four are there"));
    }
    findings
}

fn registration(
    owner: Address,
    operator: &IOperatorRegistry::Operator,
    hot: Option<HotKeys>,
) -> Vec<Finding> {
    const SUBJECT: &str = "registration";
    if operator.transmitter.is_zero() {
        let fix = match hot {
            Some(hot) => format!(
                "auspex operator register --signer {} --transmitter {} --withdrawal COLD --keystore OWNER.json",
                hot.signer, hot.transmitter
            ),
            None => "auspex operator register".to_owned(),
        };
        return vec![Finding::wrong(SUBJECT, format!("{owner} is not registered"), fix)];
    }
    let mut findings = Vec::new();
    if let Some(hot) = hot {
        if operator.signer == hot.signer {
            findings.push(Finding::good(SUBJECT, format!("the signer {} counts", hot.signer)));
        } else if operator.pendingSigner == hot.signer {
            findings.push(Finding::warning(
                SUBJECT,
                format!("the signer {} counts from {} on", hot.signer, operator.signerActiveAt),
                "run `auspex operator rotate-signer` again when the time has come",
            ));
        } else {
            findings.push(Finding::wrong(
                SUBJECT,
                format!("the registry knows the signer {}, not {}", operator.signer, hot.signer),
                format!(
                    "use that key, or `auspex operator rotate-signer --new-signer {}`",
                    hot.signer
                ),
            ));
        }
        if operator.transmitter != hot.transmitter {
            findings.push(Finding::warning(
                SUBJECT,
                format!(
                    "the registry knows the transmitter {}, not {}",
                    operator.transmitter, hot.transmitter
                ),
                "deliveries count all the same; call setTransmitter so that readers can tell who you are",
            ));
        }
    }
    findings
}

async fn gas(provider: &DynProvider, transmitter: Address) -> Finding {
    const SUBJECT: &str = "gas";
    let (balance, price) =
        match tokio::try_join!(provider.get_balance(transmitter), provider.get_gas_price()) {
            Ok(found) => found,
            Err(_) => return Finding::skipped(SUBJECT, "the endpoint does not tell the balance"),
        };
    let delivery = U256::from(price.max(1)) * U256::from(DELIVERY_GAS_EXPECTED);
    let deliveries: u64 = (balance / delivery).saturating_to();
    let found =
        format!("{transmitter} holds {balance} wei, enough for about {deliveries} deliveries");
    let fix = format!("send the chain's coin to {transmitter}: a few days' worth, not more");
    if deliveries < DELIVERIES_FUNDED_MIN {
        Finding::wrong(SUBJECT, found, fix)
    } else if deliveries < DELIVERIES_FUNDED_LOW {
        Finding::warning(SUBJECT, found, fix)
    } else {
        Finding::good(SUBJECT, found)
    }
}

fn membership(
    owner: Address,
    set_id: u64,
    epoch: &IOperatorRegistry::epochOfReturn,
    hot: Option<HotKeys>,
) -> Finding {
    const SUBJECT: &str = "membership";
    let Some(place) = epoch.operators.iter().position(|member| *member == owner) else {
        return Finding::wrong(
            SUBJECT,
            format!("set {set_id}: {owner} is not a member of its present epoch"),
            format!(
                "`auspex operator-set join {set_id}`, then its administrator names you and starts an epoch"
            ),
        );
    };
    match (epoch.signers.get(place), hot) {
        (Some(signer), Some(hot)) if *signer != hot.signer => Finding::wrong(
            SUBJECT,
            format!("set {set_id}: its epoch pins the signer {signer}, not {}", hot.signer),
            format!(
                "`auspex operator rotate-signer --new-signer {} --operator-set {set_id}` starts an epoch with it",
                hot.signer
            ),
        ),
        _ => Finding::good(SUBJECT, format!("set {set_id}: a member of epoch {}", epoch.epoch)),
    }
}
