//! The signer's log: what it promised, one JSON line each, on disk before anything is signed. Only ever appended to. Each
//! line carries the hash of the one before it, so that a line that was taken out or changed is noticed at the next start.
//!
//! Assumptions: one process at a time (a lock on the file); the file system keeps what it has synchronised. A last line
//! without its line end was never promised, because signing waits for the whole line: it is cut off.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, keccak256};
use auspex_protocol::document::decimal;
use serde::{Deserialize, Serialize};

use crate::failpoint::{Point, pass};
use crate::limits::SIGNER_LINE_BYTES_MAX;
use crate::signer::policy::{Memory, Promise};

/// An open log.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    previous: B256,
    lines: u64,
}

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("--log: {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "--log: {0}: another signer has it open; stop that one, or give this one a log of its own"
    )]
    InUse(PathBuf),
    #[error(
        "--log: {path}: line {line} {fault}. Restore the log from a backup: without it this signer could contradict itself"
    )]
    Broken { path: PathBuf, line: u64, fault: String },
    #[error("--log: {path}: belongs to escrow {stated}, but this signer is for {expected}")]
    OtherEscrow { path: PathBuf, stated: Address, expected: Address },
    #[error("--log: {path}: has mode {mode:04o}, so others can change it. Run `chmod 0600 {path}`")]
    Open { path: PathBuf, mode: u32 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    line: u64,
    /// Unix seconds.
    at: u64,
    previous: B256,
    #[serde(flatten)]
    entry: Entry,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Entry {
    /// A signer started with these keys.
    Started { chain_id: u64, escrow: Address, signer: Address, transmitter: Address },
    Result {
        request_id: B256,
        digest: B256,
        token: Address,
        #[serde(with = "decimal")]
        amount: u128,
    },
    Transaction {
        digest: B256,
        nonce: u64,
        target: Address,
        #[serde(with = "decimal")]
        cost: u128,
    },
}

impl From<&Promise> for Entry {
    fn from(promise: &Promise) -> Self {
        match *promise {
            Promise::Result { request_id, digest, token, amount } => {
                Self::Result { request_id, digest, token, amount }
            }
            Promise::Transaction { digest, nonce, target, cost } => {
                Self::Transaction { digest, nonce, target, cost }
            }
        }
    }
}

impl Entry {
    fn promise(&self) -> Option<Promise> {
        match *self {
            Self::Started { .. } => None,
            Self::Result { request_id, digest, token, amount } => {
                Some(Promise::Result { request_id, digest, token, amount })
            }
            Self::Transaction { digest, nonce, target, cost } => {
                Some(Promise::Transaction { digest, nonce, target, cost })
            }
        }
    }
}

impl Ledger {
    /// Opens a log of one escrow, makes it when it is missing, and gives back what it remembers.
    pub fn open(path: &Path, escrow: Address) -> Result<(Self, Memory), LedgerError> {
        let io = |source| LedgerError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(LedgerError::Open { path: path.to_owned(), mode });
        }
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let reading = Reading::all(&file, path, escrow)?;
        file.set_len(reading.bytes).map_err(io)?;
        file.sync_all().map_err(io)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // A new file's name is only durable once its folder is.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        let ledger =
            Self { file, path: path.to_owned(), previous: reading.previous, lines: reading.lines };
        Ok((ledger, reading.memory))
    }

    /// Writes entries and returns once they are on disk. `now` is in Unix seconds. After an error nothing may be signed.
    pub fn append(&mut self, entries: &[Entry], now: u64) -> Result<(), LedgerError> {
        let io = |source| LedgerError::Io { path: self.path.clone(), source };
        let mut text = Vec::new();
        for entry in entries {
            let line = Line {
                line: self.lines + 1,
                at: now,
                previous: self.previous,
                entry: entry.clone(),
            };
            let start = text.len();
            serde_json::to_writer(&mut text, &line).map_err(|error| io(error.into()))?;
            self.previous = keccak256(&text[start..]);
            self.lines += 1;
            text.push(b'\n');
        }
        self.file.write_all(&text).map_err(io)?;
        pass(Point::PromiseWritten);
        self.file.sync_data().map_err(io)?;
        pass(Point::PromiseSynchronised);
        Ok(())
    }
}

struct Reading {
    memory: Memory,
    previous: B256,
    lines: u64,
    bytes: u64,
}

impl Reading {
    fn all(file: &File, path: &Path, escrow: Address) -> Result<Self, LedgerError> {
        let mut reading =
            Self { memory: Memory::default(), previous: B256::ZERO, lines: 0, bytes: 0 };
        let mut source = BufReader::new(file);
        let mut text = Vec::new();
        loop {
            text.clear();
            let most = SIGNER_LINE_BYTES_MAX as u64 + 1;
            let length = (&mut source)
                .take(most)
                .read_until(b'\n', &mut text)
                .map_err(|source| LedgerError::Io { path: path.to_owned(), source })?;
            let number = reading.lines + 1;
            let broken =
                |fault: String| LedgerError::Broken { path: path.to_owned(), line: number, fault };
            if most <= length as u64 {
                return Err(broken(format!("is over the limit of {SIGNER_LINE_BYTES_MAX} bytes")));
            }
            let Some(written) = text.strip_suffix(b"\n") else {
                return Ok(reading);
            };
            let line: Line = serde_json::from_slice(written)
                .map_err(|error| broken(format!("cannot be read: {error}")))?;
            if line.line != number || line.previous != reading.previous {
                return Err(broken("does not follow the one before it".to_owned()));
            }
            if let Entry::Started { escrow: stated, .. } = line.entry
                && stated != escrow
            {
                return Err(LedgerError::OtherEscrow {
                    path: path.to_owned(),
                    stated,
                    expected: escrow,
                });
            }
            if let Some(promise) = line.entry.promise() {
                reading.memory.keep(&promise, line.at);
            }
            reading.previous = keccak256(written);
            reading.lines = number;
            reading.bytes += length as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ESCROW: Address = Address::repeat_byte(3);

    fn result(byte: u8) -> Entry {
        Entry::Result {
            request_id: B256::repeat_byte(byte),
            digest: B256::repeat_byte(byte + 1),
            token: Address::ZERO,
            amount: u128::MAX,
        }
    }

    fn written(count: u8) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut ledger, _) = Ledger::open(&path, ESCROW).unwrap();
        for byte in 0..count {
            ledger.append(&[result(byte)], 7).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn what_was_written_is_remembered_and_a_torn_line_is_not() {
        let (_folder, path) = written(3);
        let whole = fs::read(&path).unwrap();
        for torn in [1, whole.len() / 7, whole.len() / 3 - 3] {
            fs::write(&path, &whole[..whole.len() - torn]).unwrap();
            let (mut ledger, memory) = Ledger::open(&path, ESCROW).unwrap();
            assert_eq!(memory.result_of(B256::repeat_byte(1)), Some(B256::repeat_byte(2)));
            assert_eq!(memory.result_of(B256::repeat_byte(2)), None);
            ledger.append(&[result(9)], 8).unwrap();
            drop(ledger);
            let (_, memory) = Ledger::open(&path, ESCROW).unwrap();
            assert_eq!(memory.result_of(B256::repeat_byte(9)), Some(B256::repeat_byte(10)));
        }
    }

    #[test]
    fn a_changed_or_missing_line_stops_the_signer() {
        let (_folder, path) = written(3);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let changed = text.replacen(&"01".repeat(32), &"0f".repeat(32), 1);
        let without = format!("{}\n{}\n", lines[0], lines[2]);
        for bad in [changed, without, format!("nonsense\n{text}")] {
            fs::write(&path, bad).unwrap();
            let error = Ledger::open(&path, ESCROW).unwrap_err();
            assert!(matches!(error, LedgerError::Broken { .. }), "{error}");
        }
    }

    #[test]
    fn one_signer_at_a_time_on_one_escrow_in_a_private_file() {
        let (_folder, path) = written(0);
        let (mut ledger, _) = Ledger::open(&path, ESCROW).unwrap();
        assert!(matches!(Ledger::open(&path, ESCROW), Err(LedgerError::InUse(_))));
        let started = Entry::Started {
            chain_id: 1,
            escrow: ESCROW,
            signer: Address::ZERO,
            transmitter: Address::ZERO,
        };
        ledger.append(&[started], 1).unwrap();
        drop(ledger);
        let other = Ledger::open(&path, Address::repeat_byte(4));
        assert!(matches!(other, Err(LedgerError::OtherEscrow { .. })), "{other:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Ledger::open(&path, ESCROW), Err(LedgerError::Open { .. })));
    }
}
