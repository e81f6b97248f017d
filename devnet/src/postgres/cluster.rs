//! The files of the server: where they are, whose they are, and how they come to be.
//!
//! A data directory holds `cluster/` (PostgreSQL's own), `socket/`, `postgres.log`, and `auspex.lock`,
//! which is locked for as long as an Auspex process runs a server there.

use std::ffi::OsString;
use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::limits::{
    INITDB_DEADLINE, POSTGRES_PREDECESSOR_DEADLINE, READY_POLL, SOCKET_DIR_BYTES_MAX,
};
use crate::process::{Ended, Process, ProcessConfig, log};
use crate::user::User;

/// Where root keeps data for a user who cannot reach the folder that was asked for.
const SYSTEM_DATA: &str = "/var/lib/auspex";

/// Only this machine's local connections, and all of them, without a password. A standby follows through the socket.
const HBA: &str =
    "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 trust\n";

/// An initialised cluster that this process has locked, and that no server uses.
#[derive(Debug)]
pub(super) struct Cluster {
    folder: PathBuf,
    socket: PathBuf,
    user: Option<User>,
    _short_socket: Option<TempDir>,
    _lock: File,
}

/// What a cluster that is not there yet is made from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'a> {
    Nothing,
    /// The server that listens on this socket and port; the cluster will follow it.
    Primary {
        socket: &'a Path,
        port: u16,
    },
}

impl Cluster {
    /// Creates the cluster on first use. Anything that was left half-made is made anew.
    pub(super) async fn open(
        bin: &Path,
        data_dir: &Path,
        origin: Origin<'_>,
    ) -> anyhow::Result<Cluster> {
        let data_dir = std::path::absolute(data_dir).context("make data directory absolute")?;
        let folder = reachable_folder(&data_dir)?;
        let lock = lock(&folder)?;
        let data = folder.join("cluster");
        let user = User::for_server(data.exists().then_some(&data))?;
        if let Some(user) = &user {
            for path in [&folder, bin] {
                if let Some(blocked) = user.blocked_at(path)? {
                    bail!(
                        "PostgreSQL must not run as root and would run as {}, who cannot enter {} on the way to {}: choose a folder that all users can enter, or run Auspex as an ordinary user",
                        user.name,
                        blocked.display(),
                        path.display(),
                    );
                }
            }
        }
        if data.exists() {
            await_predecessor(&data).await?;
        } else {
            initialise(bin, &folder, &data, user.as_ref(), origin).await?;
        }
        let (socket, short_socket) = socket_folder(&folder, user.as_ref())?;
        Ok(Cluster { folder, socket, user, _short_socket: short_socket, _lock: lock })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("cluster")
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }

    pub(super) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }
}

/// Messages in one language, because a start looks at them.
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    vec![("LC_ALL".into(), "C".into())]
}

/// PostgreSQL's programs obey variables such as PGDATA and PGPORT, which are meant for other servers; and
/// no server needs to know where another database is.
pub(super) fn foreign_environment() -> Vec<OsString> {
    let foreign = |name: &OsString| name.as_bytes().starts_with(b"PG") || name == "DATABASE_URL";
    std::env::vars_os().map(|(name, _)| name).filter(foreign).collect()
}

/// The folder itself, or what stands in for it: as root, a folder below [`SYSTEM_DATA`] to which
/// `data_dir` becomes a link, if the server's user cannot reach `data_dir`.
fn reachable_folder(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let create = |folder: &Path| {
        fs::create_dir_all(folder).with_context(|| format!("create folder {}", folder.display()))
    };
    create(data_dir)?;
    let folder = data_dir
        .canonicalize()
        .with_context(|| format!("resolve folder {}", data_dir.display()))?;
    let Some(user) = User::for_server(None)? else { return Ok(folder) };
    if user.blocked_at(&folder)?.is_none() || folder.join("cluster").exists() {
        return Ok(folder);
    }
    let system = Path::new(SYSTEM_DATA);
    create(system)?;
    fs::set_permissions(system, Permissions::from_mode(0o755))
        .with_context(|| format!("open folder {} to all users", system.display()))?;
    let name = data_dir.file_name().unwrap_or("data".as_ref()).to_string_lossy().into_owned();
    let substitute = tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(system)
        .with_context(|| format!("create folder in {}", system.display()))?;
    // It was empty or had nothing of ours; a folder with other content makes this fail.
    fs::remove_dir(&folder).with_context(|| {
        format!(
            "PostgreSQL must not run as root, and user {} cannot reach {}: replace it by a link",
            user.name,
            folder.display(),
        )
    })?;
    symlink(substitute.path(), &folder)
        .with_context(|| format!("create link {}", folder.display()))?;
    let substitute = substitute.keep();
    tracing::info!(
        asked = %data_dir.display(),
        used = %substitute.display(),
        user = user.name,
        "the data directory is a link, because PostgreSQL must not run as root and its user cannot reach the one asked for",
    );
    Ok(substitute)
}

/// Removes a data directory and, if it is a link that [`reachable_folder`] made, what it leads to.
pub(super) fn remove(data_dir: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(data_dir) else { return Ok(()) };
    // A link may lead nowhere.
    if let Ok(folder) = data_dir.canonicalize() {
        log::await_release(&folder.join("postgres.log"), POSTGRES_PREDECESSOR_DEADLINE)?;
        if !metadata.is_symlink() || folder.starts_with(SYSTEM_DATA) {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("remove data directory {}", folder.display()))?;
        }
    }
    if metadata.is_symlink() {
        fs::remove_file(data_dir).with_context(|| format!("remove link {}", data_dir.display()))?;
    }
    Ok(())
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("auspex.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("open lock {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "the data directory {} is in use by another Auspex process: stop it, or choose another data directory",
            folder.display(),
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

/// We hold the lock, so a server that still runs here has lost its Auspex process and is being stopped by
/// its watchdog. A process that merely got the same number is recognised by its working directory or
/// name, and its number is removed: PostgreSQL would refuse to start because of it.
async fn await_predecessor(data: &Path) -> anyhow::Result<()> {
    let path = data.join("postmaster.pid");
    let deadline = Instant::now() + POSTGRES_PREDECESSOR_DEADLINE;
    loop {
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
        let Some(pid) = pid.filter(|pid| is_postgres(*pid)) else {
            return fs::remove_file(&path)
                .with_context(|| format!("remove stale {}", path.display()));
        };
        ensure!(
            Instant::now() < deadline,
            "a PostgreSQL (process {pid}) that Auspex did not start uses {}: stop it, or choose another data directory",
            data.display(),
        );
        tokio::time::sleep(READY_POLL).await;
    }
}

/// Whether a process of this number runs and is called `postgres`. Small systems have no `ps`, and others
/// than Linux have no `/proc`.
fn is_postgres(pid: i32) -> bool {
    if nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(nix::Error::ESRCH) {
        return false;
    }
    if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        // "17 (postgres) S 1 ..."; a zombie is in state Z.
        let name_and_state = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "));
        return name_and_state
            .is_some_and(|(name, state)| name == "postgres" && !state.starts_with('Z'));
    }
    let output = std::process::Command::new("ps")
        .args(["-o", "stat=", "-o", "comm=", "-p", &pid.to_string()])
        .output();
    let Ok(output) = output else { return true };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let alive = words.next().is_some_and(|state| !state.starts_with('Z'));
    alive && words.next().is_some_and(|name| name.ends_with("postgres"))
}

/// Makes the cluster beside its final name and renames it, so that a cluster is complete or absent.
async fn initialise(
    bin: &Path,
    folder: &Path,
    data: &Path,
    user: Option<&User>,
    origin: Origin<'_>,
) -> anyhow::Result<()> {
    let unfinished = tempfile::Builder::new()
        .prefix(".unfinished-")
        // PostgreSQL refuses a cluster that others could read.
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(folder)
        .with_context(|| format!("create folder in {}", folder.display()))?;
    give_to(unfinished.path(), user)?;
    let (program, more) = match origin {
        Origin::Nothing => ("initdb", initdb_args()),
        Origin::Primary { socket, port } => ("pg_basebackup", base_backup_args(socket, port)),
    };
    let mut args = vec!["-D".into(), unfinished.path().into()];
    args.extend(more);
    let log = folder.join(format!("{program}.log"));
    let since = log::length(&log);
    let process = Process::start(ProcessConfig {
        args,
        env: environment(),
        env_remove: foreign_environment(),
        current_dir: Some(unfinished.path().to_path_buf()),
        run_as: user.cloned(),
        ..ProcessConfig::new(program, bin.join(program), &log)
    })?;
    let ended = tokio::time::timeout(INITDB_DEADLINE, process.ended()).await;
    match ended.with_context(|| format!("{program} did not end in time"))? {
        Ended::Code(0) => {}
        ended => bail!(
            "{program} failed ({ended}) in {}; it needs PostgreSQL 17 or newer: {}",
            folder.display(),
            log::tail(&log, since),
        ),
    }
    let hba = unfinished.path().join("pg_hba.conf");
    fs::write(&hba, HBA).with_context(|| format!("write {}", hba.display()))?;
    fs::rename(unfinished.path(), data)
        .with_context(|| format!("create folder {}", data.display()))?;
    // The folder has moved, there is nothing left to remove.
    let _ = unfinished.keep();
    Ok(())
}

fn initdb_args() -> Vec<OsString> {
    [
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        // The same order and case rules on every machine, whatever its C library.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        "--no-sync",
    ]
    .map(OsString::from)
    .to_vec()
}

fn base_backup_args(socket: &Path, port: u16) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--host".into(), socket.into()];
    args.extend(
        [
            "--port",
            &port.to_string(),
            "--username=postgres",
            "--checkpoint=fast",
            "--wal-method=stream",
            // What makes the copy follow its origin.
            "--write-recovery-conf",
            "--no-sync",
        ]
        .map(OsString::from),
    );
    args
}

/// A socket's address is short; a data directory with a long name gets its socket elsewhere.
fn socket_folder(folder: &Path, user: Option<&User>) -> anyhow::Result<(PathBuf, Option<TempDir>)> {
    let beside = folder.join("socket");
    let (path, short) = if beside.as_os_str().len() <= SOCKET_DIR_BYTES_MAX {
        fs::create_dir_all(&beside)
            .with_context(|| format!("create folder {}", beside.display()))?;
        (beside, None)
    } else {
        let short = tempfile::Builder::new().prefix("auspex-pg-").tempdir_in("/tmp");
        let short = short.context("create folder for PostgreSQL's socket in /tmp")?;
        (short.path().to_path_buf(), Some(short))
    };
    fs::set_permissions(&path, Permissions::from_mode(0o700))
        .with_context(|| format!("close folder {}", path.display()))?;
    give_to(&path, user)?;
    Ok((path, short))
}

fn give_to(path: &Path, user: Option<&User>) -> anyhow::Result<()> {
    let Some(user) = user else { return Ok(()) };
    chown(path, Some(user.uid), Some(user.gid))
        .with_context(|| format!("give {} to user {}", path.display(), user.name))
}
