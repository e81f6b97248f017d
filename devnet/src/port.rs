//! Free ports on the loopback interface.
//!
//! "Bind port 0, close, use the number" has a race: anything may take the port in between. Here a port is
//! *reserved*: it lies outside the range of outgoing connections, and a lock on a file that every Auspex
//! process of the user shares is held for as long as the [`Reservation`] lives. A service may therefore
//! stop and start again on its port. What remains possible is that a foreign program binds exactly this
//! port; then the service's own bind fails, and its start says so or takes another port.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rand::Rng;
use url::Url;

use crate::limits::{PORT_ATTEMPTS_MAX, PORT_RANGE};

/// A port of 127.0.0.1 that no other Auspex process of this user takes while the value lives.
#[derive(Debug)]
pub struct Reservation {
    number: u16,
    _lock: File,
}

impl Reservation {
    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with the port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Reserves a port that is free now.
pub fn reserve() -> anyhow::Result<Reservation> {
    let folder = lock_folder()?;
    for _ in 0..PORT_ATTEMPTS_MAX {
        let number = rand::rng().random_range(PORT_RANGE);
        if let Some(reservation) = try_reserve(&folder, number)? {
            return Ok(reservation);
        }
    }
    bail!(
        "no free port found on 127.0.0.1 between {} and {} in {PORT_ATTEMPTS_MAX} attempts",
        PORT_RANGE.start,
        PORT_RANGE.end - 1,
    )
}

/// Reserves the given port, or any free one when none is given.
///
/// # Errors
/// The given port is in use, or reserved by another Auspex process.
pub fn reserve_or(wanted: Option<u16>) -> anyhow::Result<Reservation> {
    let Some(number) = wanted else { return reserve() };
    try_reserve(&lock_folder()?, number)?.with_context(|| {
        format!("port {number} on 127.0.0.1 is in use: stop the program that has it, or choose another port")
    })
}

fn try_reserve(folder: &Path, number: u16) -> anyhow::Result<Option<Reservation>> {
    let path = folder.join(number.to_string());
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open port lock {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("lock {}", path.display()));
        }
    }
    if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_err() {
        return Ok(None);
    }
    Ok(Some(Reservation { number, _lock: lock }))
}

/// The folder is shared by all processes of the user, and closed to other users, who could otherwise
/// block ports for us or make us write through a symbolic link.
fn lock_folder() -> anyhow::Result<PathBuf> {
    let uid = nix::unistd::geteuid().as_raw();
    let folder = std::env::temp_dir().join(format!("auspex-ports-{uid}"));
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("create folder {}", folder.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let metadata = fs::symlink_metadata(&folder)
        .with_context(|| format!("read folder {}", folder.display()))?;
    ensure!(
        metadata.is_dir() && metadata.uid() == uid && metadata.mode() & 0o022 == 0,
        "{} is not a folder that belongs to this user alone: remove it",
        folder.display(),
    );
    Ok(folder)
}

/// Where something on this machine is reached.
pub(crate) fn loopback_url(scheme: &str, port: u16) -> Url {
    format!("{scheme}://127.0.0.1:{port}").parse().expect("a literal with a number is a URL")
}
