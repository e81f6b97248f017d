//! The public networks and where the contracts live on each, as `contracts/deployments.json` says.

use std::collections::BTreeMap;

use alloy::primitives::Address;
use serde::Deserialize;

use crate::deployment::Deployment;

/// The one file that the contracts' scripts write and the subgraph reads, too.
const DEPLOYMENTS: &str = include_str!("../../contracts/deployments.json");

/// Why a network has no deployment that could be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("{given:?} is neither a file nor one of the networks {}", known.join(", "))]
    Unknown { given: String, known: Vec<String> },
    #[error(
        "{network}: {contract} is {status}, not deployed; give a file with the addresses of a deployment of your own"
    )]
    NotDeployed { network: String, contract: &'static str, status: String },
    #[error("contracts/deployments.json: {0}")]
    Unreadable(String),
}

#[derive(Deserialize)]
struct Deployments {
    /// By chain id.
    chains: BTreeMap<u64, Chain>,
}

#[derive(Deserialize)]
struct Chain {
    network: String,
    contracts: BTreeMap<String, Contract>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contract {
    address: Option<Address>,
    /// `deployed`, `predicted` or `planned`.
    status: String,
    start_block: Option<u64>,
}

impl Chain {
    fn deployment(&self, chain_id: u64) -> Result<Deployment, NetworkError> {
        Ok(Deployment {
            chain_id,
            start_block: self.contracts.values().filter_map(|c| c.start_block).min().unwrap_or(0),
            agent_registry: self.required("AgentRegistry")?,
            operator_registry: self.required("OperatorRegistry")?,
            entry_policy: self.required("EntryPolicy")?,
            request_escrow: self.required("RequestEscrow")?,
            platform_token: self.deployed("PlatformToken"),
            reputation_registry: self.deployed("ReputationRegistry"),
            validation_registry: self.deployed("ValidationRegistry"),
        })
    }

    fn required(&self, name: &'static str) -> Result<Address, NetworkError> {
        self.deployed(name).ok_or_else(|| NetworkError::NotDeployed {
            network: self.network.clone(),
            contract: name,
            status: self.contracts.get(name).map_or("not named", |c| &c.status).to_owned(),
        })
    }

    fn deployed(&self, name: &str) -> Option<Address> {
        self.contracts.get(name).filter(|contract| contract.status == "deployed")?.address
    }
}

/// The deployment on a public network, such as `base` or `base-sepolia`.
pub fn deployment_on(network: &str) -> Result<Deployment, NetworkError> {
    find(DEPLOYMENTS, network)
}

fn find(deployments: &str, network: &str) -> Result<Deployment, NetworkError> {
    let Deployments { chains } = serde_json::from_str(deployments)
        .map_err(|error| NetworkError::Unreadable(error.to_string()))?;
    let Some((chain_id, chain)) = chains.iter().find(|(_, chain)| chain.network == network) else {
        let known = chains.into_values().map(|chain| chain.network).collect();
        return Err(NetworkError::Unknown { given: network.to_owned(), known });
    };
    chain.deployment(*chain_id)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::address;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_not_deployed_is_named_with_its_status() {
        let error = deployment_on("base-sepolia").unwrap_err();
        assert_eq!(
            error,
            NetworkError::NotDeployed {
                network: "base-sepolia".to_owned(),
                contract: "OperatorRegistry",
                status: "planned".to_owned()
            }
        );
    }

    #[test]
    fn an_unknown_network_is_answered_with_the_known_ones() {
        let error = deployment_on("bse").unwrap_err().to_string();
        assert!(error.contains("\"bse\" is neither a file nor one of the networks"), "{error}");
        assert!(error.contains("base, base-sepolia"), "{error}");
    }

    #[test]
    fn a_deployed_network_gives_every_address_and_the_first_block() {
        let mut file: Value = serde_json::from_str(DEPLOYMENTS).unwrap();
        let contracts = &mut file["chains"]["84532"]["contracts"];
        for (number, name) in
            ["OperatorRegistry", "EntryPolicy", "RequestEscrow"].iter().enumerate()
        {
            contracts[*name] = json!({
                "address": Address::with_last_byte(number as u8 + 1),
                "status": "deployed",
                "startBlock": 50_000_000 + number,
            });
        }
        let deployment = find(&file.to_string(), "base-sepolia").unwrap();
        assert_eq!(deployment.chain_id, 84_532);
        assert_eq!(deployment.start_block, 37_174_254, "agents are older than the escrow");
        assert_eq!(
            deployment.agent_registry,
            address!("0x8004A818BFB912233c491871b3d84c89A494BD9e")
        );
        assert_eq!(deployment.request_escrow, Address::with_last_byte(3));
        assert_eq!(deployment.platform_token, None, "planned only");
        assert!(deployment.reputation_registry.is_some());
        assert_eq!(
            deployment.validation_registry, None,
            "an address that is predicted has no code"
        );
    }
}
