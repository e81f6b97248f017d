//! Where a world keeps its files.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use alloy::primitives::keccak256;
use anyhow::{Context, bail};
use auspex_devnet::postgres;
use auspex_protocol::deployment::Deployment;
use serde::Serialize;

use crate::connection::{ConnectionArguments, WorldFile, read_json};
use crate::world::market::Market;

/// Longest path of a Unix socket in bytes, with room for the NUL, on every system.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// The files of one world. All paths are absolute.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the directories that a world needs.
    pub(crate) fn prepare(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("create the world's directory {}", directory.display()))?;
        let root = directory
            .canonicalize()
            .with_context(|| format!("find the world's directory {}", directory.display()))?;
        let layout = Self { root };
        for folder in ["keys", "logs", "documents"] {
            fs::create_dir_all(layout.root.join(folder)).context("create the world's folders")?;
        }
        Ok(layout)
    }

    /// Takes the directory for this process alone, for as long as the value lives.
    ///
    /// # Errors
    /// Another process runs a world in it.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        match lock(&self.root)? {
            Some(lock) => Ok(lock),
            None => bail!(
                "a world runs in {} already: stop that `auspex dev` or `auspex demo`, or name another --directory",
                self.root.display()
            ),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    pub(crate) fn chain(&self) -> PathBuf {
        self.root.join("chain")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    pub(crate) fn password_file(&self) -> PathBuf {
        self.root.join("keys/password")
    }

    /// The socket of an operator's signer. The kernel takes short paths only, so a world far down a tree has its sockets in
    /// a private folder of the temporary directory.
    pub(crate) fn signer_socket(&self, operator: &str) -> PathBuf {
        let usual = self.root.join("signers").join(format!("{operator}.sock"));
        if usual.as_os_str().len() < SOCKET_PATH_BYTES_MAX {
            return usual;
        }
        let root = keccak256(self.root.as_os_str().as_encoded_bytes());
        let folder = std::env::temp_dir().join(format!("auspex-{}", hex::encode(&root[..8])));
        folder.join(format!("{operator}.sock"))
    }

    /// What an operator's signer has promised.
    pub(crate) fn signer_log(&self, operator: &str) -> PathBuf {
        self.root.join("signers").join(format!("{operator}.log"))
    }

    pub(crate) fn documents(&self) -> PathBuf {
        self.root.join("documents")
    }

    pub(crate) fn deployment_file(&self) -> PathBuf {
        self.root.join("deployment.json")
    }

    pub(crate) fn world_file(&self) -> PathBuf {
        self.root.join("world.json")
    }

    /// Name and process id of everything that runs, as it is now.
    pub(crate) fn processes_file(&self) -> PathBuf {
        self.root.join("processes.json")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// What the world's market looks like; `None` before its set-up is complete.
    pub(crate) fn market(&self) -> anyhow::Result<Option<Market>> {
        let path = self.root.join("market.json");
        if !path.exists() {
            return Ok(None);
        }
        read_json(&path).with_context(|| format!("read {}", path.display())).map(Some)
    }

    /// Written last, so that a set-up that was cut short is begun again from nothing.
    pub(crate) fn write_market(&self, market: &Market) -> anyhow::Result<()> {
        write_json(&self.root.join("market.json"), market)
    }

    pub(crate) fn write_deployment(&self, deployment: &Deployment) -> anyhow::Result<()> {
        write_json(&self.deployment_file(), deployment)
    }

    pub(crate) fn write_processes(&self, processes: &[(String, u32)]) -> anyhow::Result<()> {
        write_json(&self.processes_file(), &processes)
    }

    pub(crate) fn write_world(&self, world: &WorldFile) -> anyhow::Result<()> {
        write_json(&self.world_file(), world)
    }

    /// Removes the chain, the databases and the keys of a set-up that was cut short.
    pub(crate) fn clear_state(&self) -> anyhow::Result<()> {
        postgres::remove(&self.postgres())?;
        let signers = self.root.join("signers");
        for folder in [self.chain(), self.keys(), self.documents(), signers] {
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("remove {}", folder.display()))?;
            }
        }
        for folder in [self.keys(), self.documents()] {
            fs::create_dir_all(folder).context("create the world's folders")?;
        }
        Ok(())
    }

    /// Options with which a command finds this world.
    pub(crate) fn connection(&self, account: Option<&str>) -> ConnectionArguments {
        ConnectionArguments {
            world: Some(self.world_file()),
            rpc_url: None,
            indexer_url: None,
            deployment: None,
            keystore: None,
            password_file: None,
            account: account.map(str::to_owned),
        }
    }
}

/// Removes a world with everything that it kept, also outside its directory.
///
/// # Errors
/// A process runs it.
pub(crate) fn remove(directory: &Path) -> anyhow::Result<()> {
    let Some(_lock) = lock(directory)? else {
        bail!("a world runs in {} already: stop it first", directory.display());
    };
    postgres::remove(&directory.join("postgres"))?;
    fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))
}

/// `None` when another process has it.
fn lock(directory: &Path) -> anyhow::Result<Option<File>> {
    let path = directory.join("world.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("open lock {}", path.display()))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        // Some file systems have no locks; then two worlds in one directory go unnoticed here.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// Writes a JSON file so that a reader sees the old or the new one, never a part.
fn write_json<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    let partial = path.with_extension("partial");
    fs::write(&partial, text).with_context(|| format!("write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("write {}", path.display()))
}
