//! Contracts that are followed by configuration alone: an address, an ABI, the events, and the first block. Their logs are
//! facts like all others, verified and taken back with their blocks; what they say is read out of the facts by a typed view
//! per event, so that there is nothing to derive, to keep in step, or to derive again.

mod column;
mod event;
mod register;

use std::path::{Path, PathBuf};

use alloy::json_abi::JsonAbi;
use alloy::primitives::Address;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;

pub use event::FollowedEvent;
pub use register::register;

use crate::entity::{self, Entity};
use crate::limits::{CONTRACT_EVENTS_MAX, CONTRACT_NAME_MAX};

/// A contract to follow.
#[derive(Debug, Clone)]
pub struct FollowedContract {
    pub name: String,
    pub address: Address,
    /// The first block that can hold its events.
    pub start_block: u64,
    pub events: Vec<FollowedEvent>,
}

/// A contract as a chain file or a file of `--contract` names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContractFile {
    /// What the GraphQL types of its events begin with: a capital letter, then letters and digits.
    name: String,
    address: Address,
    /// The ABI as JSON, or the compiler's artifact that holds it; relative to the file that names it.
    abi: PathBuf,
    /// Names of events, or signatures where one name stands for several.
    events: Vec<String>,
    start_block: u64,
}

/// The compiler's artifact, of which only the ABI matters.
#[derive(Debug, Deserialize)]
struct Artifact {
    abi: JsonAbi,
}

impl FollowedContract {
    /// Reads a file of `--contract`.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("read the contract file {}", file.display()))?;
        let contract: ContractFile = serde_json::from_str(&text).with_context(|| {
            format!(
                "{}: a contract file holds {{\"name\", \"address\", \"abi\", \"events\", \"startBlock\"}}",
                file.display()
            )
        })?;
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::new(contract, folder).with_context(|| file.display().to_string())
    }

    /// Reads the ABI and finds the events in it. `folder` is what the ABI's path is relative to.
    pub fn new(file: ContractFile, folder: &Path) -> anyhow::Result<Self> {
        let ContractFile { name, address, abi, events, start_block } = file;
        let is_name = name.len() <= CONTRACT_NAME_MAX
            && name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric());
        ensure!(
            is_name,
            "name: {name:?} is not a capital letter followed by at most {} letters and digits",
            CONTRACT_NAME_MAX - 1
        );
        ensure!(!address.is_zero(), "address: is the zero address");
        ensure!(
            (1..=CONTRACT_EVENTS_MAX).contains(&events.len()),
            "events: {} of them; name 1 to {CONTRACT_EVENTS_MAX}",
            events.len()
        );
        let path = folder.join(abi);
        let abi = read_abi(&path).with_context(|| format!("abi: read {}", path.display()))?;
        let events = events
            .iter()
            .map(|wanted| FollowedEvent::new(&name, find(&abi, wanted)?))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for (index, event) in events.iter().enumerate() {
            let twice = events[..index].iter().any(|other| other.type_name == event.type_name);
            ensure!(!twice, "events: two of them would both be called {}", event.type_name);
        }
        Ok(Self { name, address, start_block, events })
    }

    /// Lets its events be queried.
    pub fn serve(&self, chain_id: u64) -> anyhow::Result<()> {
        for event in &self.events {
            let entity: &'static Entity = Box::leak(Box::new(event.entity(chain_id, self.address)));
            entity::add(entity).with_context(|| format!("contract {}", self.name))?;
        }
        Ok(())
    }
}

fn read_abi(path: &Path) -> anyhow::Result<JsonAbi> {
    let text = std::fs::read_to_string(path)?;
    match serde_json::from_str::<JsonAbi>(&text) {
        Ok(abi) => Ok(abi),
        Err(error) => match serde_json::from_str::<Artifact>(&text) {
            Ok(artifact) => Ok(artifact.abi),
            Err(_) => Err(error.into()),
        },
    }
}

fn find<'a>(abi: &'a JsonAbi, wanted: &str) -> anyhow::Result<&'a alloy::json_abi::Event> {
    let found: Vec<_> =
        abi.events().filter(|event| event.name == wanted || event.signature() == wanted).collect();
    match found.as_slice() {
        [event] => Ok(event),
        [] => bail!("events: {wanted} is not in the ABI"),
        several => {
            let signatures: Vec<String> = several.iter().map(|event| event.signature()).collect();
            bail!("events: {wanted} stands for {}; name one of them", signatures.join(" and "))
        }
    }
}

#[cfg(test)]
mod tests;
