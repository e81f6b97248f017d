//! Where the contracts live on a chain.

use std::path::{Path, PathBuf};

use alloy::primitives::{Address, address};
use serde::{Deserialize, Serialize};

use crate::network::{self, NetworkError};

/// What the operator registry credits with the part of a slashed bond that rewards nobody: its `BURN_ADDRESS`, on every chain.
pub const BURN_ADDRESS: Address = address!("0x000000000000000000000000000000000000dEaD");

/// The addresses of one deployment, as `auspex dev` writes them and every command reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deployment {
    pub chain_id: u64,
    /// The first block that can hold an event of these contracts.
    pub start_block: u64,
    pub agent_registry: Address,
    pub operator_registry: Address,
    pub entry_policy: Address,
    pub request_escrow: Address,
    /// The platform's own token, where the deployment has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_token: Option<Address>,
    /// ERC-8004 reputation and validation registries, where the deployment has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reputation_registry: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_registry: Option<Address>,
}

/// Why a deployment file is refused.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    #[error("deployment: {0}")]
    Json(#[from] serde_json::Error),
    #[error("deployment.{field}: is the zero address")]
    ZeroAddress { field: &'static str },
    #[error("read the deployment file {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the deployment file {}", path.display())]
    File { path: PathBuf, source: Box<DeploymentError> },
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Deployment {
    /// Reads a deployment file, or looks a public network up by its name, such as `base-sepolia`. A file wins over a
    /// network of the same name.
    pub fn named(file_or_network: &Path) -> Result<Self, DeploymentError> {
        let path = || file_or_network.to_path_buf();
        match std::fs::read_to_string(file_or_network) {
            Ok(json) => Self::from_json(&json)
                .map_err(|error| DeploymentError::File { path: path(), source: Box::new(error) }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(network::deployment_on(&file_or_network.to_string_lossy())?)
            }
            Err(source) => Err(DeploymentError::Unreadable { path: path(), source }),
        }
    }

    /// Reads a deployment from JSON and checks that every contract has an address.
    pub fn from_json(json: &str) -> Result<Self, DeploymentError> {
        let deployment: Self = serde_json::from_str(json)?;
        let addresses = [
            ("agentRegistry", deployment.agent_registry),
            ("operatorRegistry", deployment.operator_registry),
            ("entryPolicy", deployment.entry_policy),
            ("requestEscrow", deployment.request_escrow),
        ];
        for (field, address) in addresses {
            if address.is_zero() {
                return Err(DeploymentError::ZeroAddress { field });
            }
        }
        Ok(deployment)
    }
}
