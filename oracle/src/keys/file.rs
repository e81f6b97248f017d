//! Secret files: read only when nobody else can, written so that nobody else ever could.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::limits::KEY_FILE_BYTES_MAX;

/// Why a secret file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(
        "{path}: cannot be read: {source}. Check that the file exists and belongs to the user that runs the node"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "{path}: has mode {mode:04o}, so others can read it. Run `chmod 0400 {path}` and, if others may have read it, make a new key"
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("{path}: is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("{path}: {size} bytes, over the limit of {KEY_FILE_BYTES_MAX}")]
    TooLarge { path: PathBuf, size: u64 },
    #[error("{path}: cannot be written: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path}: exists already; nothing was overwritten")]
    Exists { path: PathBuf },
}

/// Reads a file that only its owner can read.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let read = |source| FileError::Read { path: path.to_owned(), source };
    // The mode is read from the open file, so that the file that is checked is the file that is read.
    let mut file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Open { path: path.to_owned(), mode });
    }
    if KEY_FILE_BYTES_MAX < metadata.len() {
        return Err(FileError::TooLarge { path: path.to_owned(), size: metadata.len() });
    }
    let mut content = Zeroizing::new(Vec::with_capacity(metadata.len() as usize));
    file.read_to_end(&mut content).map_err(read)?;
    Ok(content)
}

/// Writes a new file with mode 0400; an existing one is never overwritten.
pub fn write_secret(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let written = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => FileError::Exists { path: path.to_owned() },
        _ => FileError::Write { path: path.to_owned(), source },
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o400).open(path).map_err(written)?;
    file.write_all(content).map_err(written)?;
    file.sync_all().map_err(written)
}

/// Makes a directory that only its owner can enter, if it does not exist.
pub fn private_directory(path: &Path) -> Result<(), FileError> {
    let written = |source| FileError::Write { path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(written)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(written)
}
