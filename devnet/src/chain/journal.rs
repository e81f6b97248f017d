//! The journal of a kept chain: one line of JSON for each transaction that was offered and each block that was mined, in
//! their order, on disk before anvil hears of it.
//!
//! A kill can tear the last line only; whoever waited for it got no answer, and it is cut off at the next start.

use std::io;
use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Something that happened to the chain, with all that is needed to make it happen again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// A transaction was offered, in these words.
    Send { method: String, params: Value },
    /// A block was mined on this parent, at this time (seconds since 1970).
    Mine { parent: B256, timestamp: u64 },
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Journal {
    /// Begins a journal with these entries, on disk when this returns.
    pub(super) async fn create<'a>(
        path: PathBuf,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> anyhow::Result<Self> {
        let mut content = Vec::new();
        for entry in entries {
            content.extend(line(entry)?);
        }
        let write = async {
            let mut file = File::create(&path).await?;
            file.write_all(&content).await?;
            file.flush().await?;
            file.sync_all().await?;
            Ok::<_, io::Error>(file)
        };
        let file = write.await.with_context(|| format!("begin journal {}", path.display()))?;
        Ok(Self { path, file, bytes: content.len() as u64 })
    }

    /// Opens a journal and reads what it holds; one that does not exist is empty.
    ///
    /// # Errors
    /// A line before the last is damaged.
    pub(super) async fn open(path: PathBuf) -> anyhow::Result<(Self, Vec<Entry>)> {
        let content = match tokio::fs::read(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.with_context(|| format!("read journal {}", path.display()))?,
        };
        let (entries, whole) = parse(&content, &path)?;
        let open = async {
            let file = File::options().create(true).append(true).open(&path).await?;
            file.set_len(whole).await?;
            file.sync_all().await?;
            Ok::<_, io::Error>(file)
        };
        let file = open.await.with_context(|| format!("open journal {}", path.display()))?;
        Ok((Self { path, file, bytes: whole }, entries))
    }

    /// Adds an entry, on disk when this returns.
    pub(super) async fn append(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let line = line(entry)?;
        let write = async {
            self.file.write_all(&line).await?;
            self.file.flush().await?;
            self.file.sync_data().await
        };
        write.await.with_context(|| format!("write journal {}", self.path.display()))?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn line(entry: &Entry) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry).context("write a journal's entry as JSON")?;
    line.push(b'\n');
    Ok(line)
}

/// The entries, and the length of the lines that are whole.
fn parse(content: &[u8], path: &Path) -> anyhow::Result<(Vec<Entry>, u64)> {
    let mut entries = Vec::new();
    let mut whole = 0;
    for (number, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        match serde_json::from_slice(line) {
            Ok(entry) => entries.push(entry),
            // A machine that lost its power may have kept the file's length and not its content.
            Err(_) if whole + line.len() == content.len() => break,
            Err(error) => bail!("{}: line {} is damaged: {error}", path.display(), number + 1),
        }
        whole += line.len();
    }
    Ok((entries, whole as u64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn some_entries() -> Vec<Entry> {
        let send = |number: u64| Entry::Send {
            method: "eth_sendRawTransaction".to_owned(),
            params: json!([format!("0x{number:02x}")]),
        };
        let mine = |timestamp| Entry::Mine { parent: B256::repeat_byte(7), timestamp };
        vec![send(1), mine(10), send(2), send(3), mine(11)]
    }

    #[tokio::test]
    async fn a_journal_that_is_cut_at_any_byte_gives_back_its_whole_lines_and_goes_on() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("journal");
        let entries = some_entries();
        let mut journal = Journal::create(path.clone(), &entries[..1]).await.expect("create");
        for entry in &entries[1..] {
            journal.append(entry).await.expect("append");
        }
        let content = std::fs::read(&path).expect("read");
        assert_eq!(content.len() as u64, journal.bytes());
        for length in 0..=content.len() {
            std::fs::write(&path, &content[..length]).expect("cut");
            let (mut journal, found) = Journal::open(path.clone()).await.expect("open");
            assert_eq!(found, entries[..found.len()], "cut at byte {length}");
            let lines = content[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(found.len(), lines, "cut at byte {length}");
            journal.append(&entries[0]).await.expect("append");
            let (_, again) = Journal::open(path.clone()).await.expect("open");
            assert_eq!(again, [&found[..], &entries[..1]].concat());
        }
    }

    #[tokio::test]
    async fn a_damaged_line_in_the_middle_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("journal");
        std::fs::write(&path, "{}\n{\"mine\":{}}\n").expect("write");
        let error = Journal::open(path).await.expect_err("damaged").to_string();
        assert!(error.contains("line 1 is damaged"), "{error}");
    }
}
