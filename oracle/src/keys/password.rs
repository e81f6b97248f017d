//! Where a keystore's password comes from: a file with mode 0400, a systemd credential, or a prompt. Never an argument and
//! never an environment variable, because both are visible to others.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::keys::file::{FileError, read_secret};

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}: the password is empty")]
    Empty(String),
    #[error("{0}: the password is not UTF-8")]
    NotText(PathBuf),
    #[error(
        "no password for {keystore}: give --{role}-password-file, or a systemd credential named \
         auspex-{role}-password, or start at a terminal to be asked"
    )]
    Missing { keystore: PathBuf, role: &'static str },
    #[error("the password for {keystore} could not be read from the terminal: {source}")]
    Prompt { keystore: PathBuf, source: std::io::Error },
}

/// Finds the password of a keystore. `credentials` is the directory that systemd names in `CREDENTIALS_DIRECTORY`.
pub fn find(
    role: &'static str,
    keystore: &Path,
    file: Option<&Path>,
    credentials: Option<&Path>,
) -> Result<SecretString, PasswordError> {
    if let Some(file) = file {
        return from_file(file);
    }
    let credential = credentials.map(|folder| folder.join(format!("auspex-{role}-password")));
    if let Some(credential) = credential.filter(|path| path.exists()) {
        return from_file(&credential);
    }
    if !std::io::stdin().is_terminal() {
        return Err(PasswordError::Missing { keystore: keystore.to_owned(), role });
    }
    let question = format!("Password for {}: ", keystore.display());
    let answer = rpassword::prompt_password(question)
        .map(Zeroizing::new)
        .map_err(|source| PasswordError::Prompt { keystore: keystore.to_owned(), source })?;
    checked(&answer, "the prompt")
}

/// Reads a password file. One line end at its end does not belong to the password.
pub fn from_file(path: &Path) -> Result<SecretString, PasswordError> {
    let content = read_secret(path)?;
    let Ok(text) = std::str::from_utf8(&content) else {
        return Err(PasswordError::NotText(path.to_owned()));
    };
    let line = text.strip_suffix('\n').unwrap_or(text);
    checked(line.strip_suffix('\r').unwrap_or(line), &path.display().to_string())
}

fn checked(password: &str, source: &str) -> Result<SecretString, PasswordError> {
    if password.is_empty() {
        return Err(PasswordError::Empty(source.to_owned()));
    }
    Ok(SecretString::from(password))
}
