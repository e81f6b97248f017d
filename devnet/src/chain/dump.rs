//! The whole state of a kept chain on disk, and the number of the journal that continues it.
//!
//! A new journal is on disk before the state that names it, and the state replaces the former one in one step: whatever is
//! killed when, the state that is found and the journal that it names belong together.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// A chain as anvil writes it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Dump {
    /// The number of the journal with what happened since.
    pub(super) journal: u64,
    /// What `anvil_dumpState` gave.
    pub(super) state: String,
}

impl Dump {
    /// The last one that was written to the folder; `None` before the first.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = file(folder);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("read chain {}", path.display()))?,
        };
        let dump = serde_json::from_slice(&text).with_context(|| {
            format!(
                "the chain in {} is damaged: remove its folder, and the database with it, to begin a new chain",
                path.display()
            )
        })?;
        Ok(Some(dump))
    }

    /// Replaces the former one, on disk when this returns.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let (path, partial) = (file(folder), folder.join("state.partial"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            File::open(folder)?.sync_all()
        };
        write().with_context(|| format!("write chain {}", path.display()))
    }
}

/// Where the journal of this number is.
pub(super) fn journal(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("journal-{number}"))
}

/// Removes journals of which no state speaks: those that a kill has left behind.
pub(super) fn remove_other_journals(folder: &Path, number: u64) -> anyhow::Result<()> {
    let kept = journal(folder, number);
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let is_journal = entry.file_name().to_string_lossy().starts_with("journal-");
            if is_journal && entry.path() != kept {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    remove().with_context(|| format!("remove old journals in {}", folder.display()))
}

fn file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_replaces_the_former_one_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(Dump::read(folder.path()).expect("read").is_none());
        for journal in [1, 2] {
            let state = format!("0x{journal:04x}");
            Dump { journal, state: state.clone() }.write(folder.path()).expect("write");
            let found = Dump::read(folder.path()).expect("read").expect("one");
            assert_eq!((found.journal, found.state), (journal, state));
        }
        fs::write(file(folder.path()), "{").expect("damage");
        let error = Dump::read(folder.path()).expect_err("damaged").to_string();
        assert!(error.contains("state.json is damaged"), "{error}");
    }

    #[test]
    fn journals_of_other_numbers_are_removed() {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["journal-1", "journal-2", "journal-3", "state.json"] {
            fs::write(folder.path().join(name), "").expect("write");
        }
        remove_other_journals(folder.path(), 2).expect("remove");
        let left = |name: &str| folder.path().join(name).exists();
        assert!(left("journal-2") && left("state.json"));
        assert!(!left("journal-1") && !left("journal-3"));
    }
}
