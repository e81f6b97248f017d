//! The log file of a child, which is also the sign that the child lives.
//!
//! The file is locked when it is opened, and the lock goes with the open file: the child has it as its
//! standard output, hands it to its own children, and loses it when it ends, however it ends. Whoever
//! finds the log locked knows that a predecessor still runs, for instance because our last process was
//! killed and the watchdog is stopping its children just now.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::limits::{EXIT_POLL, LOG_BYTES_MAX, LOG_TAIL_BYTES};

/// Opens and locks a log for appending. One that has grown past [`LOG_BYTES_MAX`] is moved to `<name>.1`
/// first.
///
/// # Errors
/// A running process writes to it.
pub(super) fn open(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("create folder {}", folder.display()))?;
    }
    let file = open_locked(path)?;
    if length(path) <= LOG_BYTES_MAX {
        return Ok(file);
    }
    let mut older = path.as_os_str().to_owned();
    older.push(".1");
    fs::rename(path, PathBuf::from(older))
        .with_context(|| format!("move log {} aside", path.display()))?;
    open_locked(path)
}

/// Waits until no process writes to the log; blocks the thread.
///
/// # Errors
/// One still does after the given time.
pub fn await_release(path: &Path, patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while path.exists() {
        let Err(error) = open_locked(path) else { return Ok(()) };
        if deadline < Instant::now() {
            return Err(error);
        }
        std::thread::sleep(EXIT_POLL);
    }
    Ok(())
}

fn open_locked(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("open log {}", path.display()))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!("a process that still runs writes to {}: stop it first", path.display())
        }
        // Some file systems have no locks; then a predecessor goes unnoticed.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// The present length of a log in bytes; 0 if there is none.
pub fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The end of a log, not reaching back before byte `since`, for an error message.
pub fn tail(path: &Path, since: u64) -> String {
    let since = if length(path) < since { 0 } else { since };
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(since.max(length(path).saturating_sub(LOG_TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) => format!("(log {} cannot be read: {error})", path.display()),
    }
}
