//! Contracts that are followed by configuration alone: an address or the factory that creates them, an ABI, the events, and
//! the first block. Their logs are facts like all others, verified and taken back with their blocks; what they say is read
//! out of the facts by a typed view per event, so that there is nothing to derive, to keep in step, or to derive again.

mod column;
mod event;
mod factory;
mod register;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};

use alloy::json_abi::JsonAbi;
use alloy::primitives::{Address, hex};
use anyhow::{Context, bail, ensure};
use serde::Deserialize;

pub use event::FollowedEvent;
pub(crate) use factory::anywhere;
pub use factory::{Children, Factory};
pub(crate) use register::register;
pub use register::{RegisterError, prepare};
pub use source::{Hole, Sources};

use crate::entity::{self, Entity};
use crate::limits::{CONTRACT_EVENTS_MAX, CONTRACT_NAME_MAX};

/// A contract to follow, or all those that a factory creates.
#[derive(Debug, Clone)]
pub struct FollowedContract {
    pub name: String,
    pub place: Place,
    /// The first block that can hold its events.
    pub start_block: u64,
    pub events: Vec<FollowedEvent>,
}

/// Where the events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    At(Address),
    CreatedBy(Factory),
}

impl Place {
    /// The condition in SQL that a row `f` of the facts is of such a contract. Made of numbers and hex only.
    fn sql(&self, chain_id: u64) -> String {
        match self {
            Self::At(address) => format!("f.address = '\\x{}'::bytea", hex::encode(address)),
            Self::CreatedBy(factory) => format!(
                "exists (select from indexer.facts c where c.chain_id = {chain_id} \
                 and c.address = '\\x{}'::bytea and c.topic0 = '\\x{}'::bytea \
                 and {} = f.address and c.block_number <= f.block_number)",
                hex::encode(factory.address),
                hex::encode(factory.creation),
                factory.created_sql("c"),
            ),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => write!(formatter, "the contract {address}"),
            Self::CreatedBy(factory) => {
                write!(formatter, "the contracts that the factory {} created", factory.address)
            }
        }
    }
}

/// A contract as a chain file or a file of `--contract` names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContractFile {
    /// What the GraphQL types of its events begin with: a capital letter, then letters and digits.
    name: String,
    address: Option<Address>,
    /// In place of an address.
    factory: Option<FactoryFile>,
    /// The ABI as JSON, or the compiler's artifact that holds it; relative to the file that names it.
    abi: PathBuf,
    /// Names of events, or signatures where one name stands for several.
    events: Vec<String>,
    start_block: u64,
}

/// The factory that creates contracts.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FactoryFile {
    address: Address,
    /// As the contract's own.
    abi: PathBuf,
    /// The event that tells of a new contract: its name, or its signature.
    event: String,
    /// The event's parameter that is the new contract's address.
    parameter: String,
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
                "{}: a contract file holds {{\"name\", \"address\" or \"factory\", \"abi\", \"events\", \"startBlock\"}}",
                file.display()
            )
        })?;
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::new(contract, folder).with_context(|| file.display().to_string())
    }

    /// Reads the ABI and finds the events in it. `folder` is what the ABI's path is relative to.
    pub fn new(file: ContractFile, folder: &Path) -> anyhow::Result<Self> {
        let ContractFile { name, address, factory, abi, events, start_block } = file;
        let is_name = name.len() <= CONTRACT_NAME_MAX
            && name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric());
        ensure!(
            is_name,
            "name: {name:?} is not a capital letter followed by at most {} letters and digits",
            CONTRACT_NAME_MAX - 1
        );
        ensure!(
            (1..=CONTRACT_EVENTS_MAX).contains(&events.len()),
            "events: {} of them; name 1 to {CONTRACT_EVENTS_MAX}",
            events.len()
        );
        let path = folder.join(abi);
        let abi = read_abi(&path).with_context(|| format!("abi: read {}", path.display()))?;
        let events = events
            .iter()
            .map(|wanted| FollowedEvent::new(&name, find(&abi, wanted).context("events")?))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for (index, event) in events.iter().enumerate() {
            let twice = events[..index].iter().any(|other| other.type_name == event.type_name);
            ensure!(!twice, "events: two of them would both be called {}", event.type_name);
        }
        let place = match (address, factory) {
            (Some(address), None) => {
                ensure!(!address.is_zero(), "address: is the zero address");
                Place::At(address)
            }
            (None, Some(factory)) => {
                let topics = events.iter().map(|event| event.topic0).collect();
                Place::CreatedBy(created_by(&factory, folder, topics).context("factory")?)
            }
            (Some(_), Some(_)) | (None, None) => {
                bail!("address, factory: name one of them, and not both")
            }
        };
        Ok(Self { name, place, start_block, events })
    }

    /// Lets its events be queried.
    pub fn serve(&self, chain_id: u64) -> anyhow::Result<()> {
        for event in &self.events {
            let entity: &'static Entity = Box::leak(Box::new(event.entity(chain_id, &self.place)));
            entity::add(entity).with_context(|| format!("contract {}", self.name))?;
        }
        Ok(())
    }
}

fn created_by(
    file: &FactoryFile,
    folder: &Path,
    topics: Vec<alloy::primitives::B256>,
) -> anyhow::Result<Factory> {
    ensure!(!file.address.is_zero(), "address: is the zero address");
    let path = folder.join(&file.abi);
    let abi = read_abi(&path).with_context(|| format!("abi: read {}", path.display()))?;
    let event = find(&abi, &file.event).context("event")?;
    Factory::new(file.address, event, &file.parameter, topics)
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

/// The event of this name or signature.
fn find<'a>(abi: &'a JsonAbi, wanted: &str) -> anyhow::Result<&'a alloy::json_abi::Event> {
    let found: Vec<_> =
        abi.events().filter(|event| event.name == wanted || event.signature() == wanted).collect();
    match found.as_slice() {
        [event] => Ok(event),
        [] => bail!("{wanted} is not in the ABI"),
        several => {
            let signatures: Vec<String> = several.iter().map(|event| event.signature()).collect();
            bail!("{wanted} stands for {}; name one of them", signatures.join(" and "))
        }
    }
}

#[cfg(test)]
mod tests;
