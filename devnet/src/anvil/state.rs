//! Keeps a complete copy of the file into which anvil writes its chain.
//!
//! anvil truncates the file and writes it anew. The copy, `<file>.kept`, is made whenever the file has
//! changed and is complete; before anvil starts, a file that is not complete is replaced by the copy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use crate::limits::STATE_POLL;

/// A file that has not changed for so long is not being written.
const QUIET: Duration = Duration::from_millis(50);

/// Makes sure that anvil finds a complete file, or none if there never was one.
///
/// # Errors
/// Neither the file nor its copy is complete.
pub fn repair(file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let kept = kept(file);
    if is_complete(file) || (!file.exists() && !kept.exists()) {
        return Ok(());
    }
    if !is_complete(&kept) {
        return Err(io::Error::other(format!(
            "the chain in {} is damaged, and so is its copy: remove both, and the database with them, to begin a new chain",
            file.display(),
        )));
    }
    tracing::warn!(file = %file.display(), "the chain's file is damaged, its copy is used");
    copy(&kept, file)
}

/// A thread that makes the copies while it lives.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(file: &Path) -> anyhow::Result<Keeper> {
        let file = file.to_path_buf();
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new().name("keep-chain".to_owned()).spawn(move || {
            let mut last = None;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(STATE_POLL) {
                match keep(&file, last) {
                    Ok(seen) => last = seen,
                    Err(error) => tracing::warn!(file = %file.display(), %error, "copy chain"),
                }
            }
        });
        let thread = thread.context("start thread that keeps the chain")?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// When and how long a file was, which tells whether it has changed.
type Seen = (SystemTime, u64);

/// Copies the file if it has changed since `last`; returns what is kept.
fn keep(file: &Path, last: Option<Seen>) -> io::Result<Option<Seen>> {
    let Some(before) = seen(file) else { return Ok(last) };
    let quiet = before.0.elapsed().is_ok_and(|age| QUIET < age);
    if last == Some(before) || !quiet {
        return Ok(last);
    }
    let copied = with_suffix(file, "copy");
    fs::copy(file, &copied)?;
    if seen(file) != Some(before) || !is_complete(&copied) {
        return Ok(last);
    }
    fs::rename(&copied, kept(file))?;
    Ok(Some(before))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let copied = with_suffix(to, "copy");
    fs::copy(from, &copied)?;
    fs::rename(copied, to)
}

/// anvil writes one JSON document; a part of it is none.
fn is_complete(file: &Path) -> bool {
    let Ok(opened) = fs::File::open(file) else { return false };
    let reader = io::BufReader::with_capacity(1 << 16, opened);
    serde_json::from_reader::<_, serde::de::IgnoredAny>(reader).is_ok()
}

fn seen(file: &Path) -> Option<Seen> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn kept(file: &Path) -> PathBuf {
    with_suffix(file, "kept")
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_replaced_by_its_copy() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("state.json");
        repair(&file).expect("a new chain needs no repair");
        assert!(!file.exists());

        fs::write(&file, r#"{"block": 1}"#).expect("write");
        std::thread::sleep(QUIET * 2);
        let first = keep(&file, None).expect("keep").expect("kept");
        assert_eq!(keep(&file, Some(first)).expect("keep"), Some(first));

        fs::write(&file, r#"{"block": 2, "acc"#).expect("write");
        std::thread::sleep(QUIET * 2);
        assert_eq!(keep(&file, Some(first)).expect("keep"), Some(first), "half a file is not kept");
        repair(&file).expect("repair");
        assert_eq!(fs::read_to_string(&file).expect("read"), r#"{"block": 1}"#);
    }

    #[test]
    fn two_damaged_files_are_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("state.json");
        fs::write(&file, "{").expect("write");
        let error = repair(&file).expect_err("nothing to repair from");
        assert!(error.to_string().contains("state.json is damaged"), "{error}");
    }
}
