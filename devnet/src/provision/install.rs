//! Installs one component: once, completely or not at all, and one process at a time.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::component::{Component, Source};
use super::progress::Progress;
use super::{ToolsConfig, installer, lock};
use crate::user::User;

/// The file in a tool's folder that holds the hash of the lock it was installed from. It is written last.
const STAMP: &str = ".auspex-lock";

/// Where root keeps what an unprivileged user must be able to run, if the tools folder is closed to it.
const SYSTEM_STORE: &str = "/var/cache/auspex/tools";

/// Names of unfinished installations begin so; whoever holds the lock may remove them.
const UNFINISHED: &str = ".unfinished-";

const LOCK_POLL: Duration = Duration::from_millis(100);

/// Returns the tool's folder, installing the tool if it is missing or older than the lock.
pub(super) async fn ensure(
    config: &ToolsConfig,
    component: Component,
    progress: Progress,
) -> anyhow::Result<PathBuf> {
    let stamp = lock::stamp(component);
    let link = config.folder.join(component.name());
    if is_usable(&link, component, &stamp)? {
        return Ok(link);
    }
    make_folder(&config.folder)?;
    let store = store(config, component, progress)?;
    make_folder(&store)?;
    let _lock = lock_store(&store, component, progress).await?;
    if is_usable(&link, component, &stamp)? {
        return Ok(link);
    }
    remove_unfinished(&store, component)?;

    let name = format!("{}-{}", component.name(), &stamp[..12]);
    let home = store.join(&name);
    let tool = match find_complete(&home, component, &stamp) {
        Some(tool) => tool,
        None => {
            let step = progress.begin(
                component.title(),
                component.download_bytes(),
                component.work_bytes(),
            );
            let unfinished = tempfile::Builder::new()
                .prefix(&format!("{UNFINISHED}{}-", component.name()))
                .tempdir_in(&store)
                .with_context(|| format!("create folder in {}", store.display()))?;
            let tool = installer::run(config, component, unfinished.path(), &step).await?;
            let inner = finish(component, unfinished.path(), &tool, &stamp)?;
            replace_folder(unfinished, &home)?;
            step.done();
            home.join(inner)
        }
    };
    point_link(&link, &tool)?;
    ensure!(
        is_usable(&link, component, &stamp)?,
        "{} was installed, but {} is not complete: remove {} and try again",
        component.title(),
        link.display(),
        home.display(),
    );
    Ok(link)
}

/// Complete, and within reach of the user who will run it.
fn is_usable(tool: &Path, component: Component, stamp: &str) -> anyhow::Result<bool> {
    if !is_complete(tool, component, stamp) {
        return Ok(false);
    }
    match server_user(component)? {
        Some(user) => Ok(user.blocked_at(tool)?.is_none()),
        None => Ok(true),
    }
}

fn is_complete(tool: &Path, component: Component, stamp: &str) -> bool {
    let stamped = fs::read_to_string(tool.join(STAMP)).is_ok_and(|found| found == stamp);
    stamped && tool.join(component.marker()).is_file()
}

fn find_complete(home: &Path, component: Component, stamp: &str) -> Option<PathBuf> {
    let inner = match component.source() {
        Source::Pip { folder, .. } => PathBuf::from(folder),
        Source::Npm { package } => Path::new("node_modules").join(package?),
    };
    let tool = home.join(inner);
    is_complete(&tool, component, stamp).then_some(tool)
}

/// PostgreSQL refuses to run as root; then an unprivileged user must be able to reach its programs.
fn store(
    config: &ToolsConfig,
    component: Component,
    progress: Progress,
) -> anyhow::Result<PathBuf> {
    let Some(user) = server_user(component)? else { return Ok(config.folder.join("store")) };
    let Some(blocked) = user.blocked_at(&config.folder)? else {
        return Ok(config.folder.join("store"));
    };
    progress.say(&format!(
        "PostgreSQL must not run as root and will run as {}, who cannot enter {}: its programs go to {SYSTEM_STORE}.",
        user.name,
        blocked.display(),
    ));
    let store = PathBuf::from(SYSTEM_STORE);
    make_folder(&store)?;
    for folder in store.ancestors().take(2) {
        set_mode(folder, 0o755)?;
    }
    Ok(store)
}

fn server_user(component: Component) -> anyhow::Result<Option<User>> {
    match component {
        Component::Postgres => User::for_server(None),
        Component::Anvil | Component::Model => Ok(None),
    }
}

async fn lock_store(
    store: &Path,
    component: Component,
    progress: Progress,
) -> anyhow::Result<File> {
    let path = store.join(format!("{}.lock", component.name()));
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("open lock {}", path.display()))?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
        }
        if !said {
            said = true;
            progress.say(&format!("Waiting for another process to install {}.", component.title()));
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// What a killed process left behind.
fn remove_unfinished(store: &Path, component: Component) -> anyhow::Result<()> {
    let prefix = format!("{UNFINISHED}{}-", component.name());
    let entries =
        fs::read_dir(store).with_context(|| format!("read folder {}", store.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("read folder {}", store.display()))?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Sets modes, checks that programs run, and stamps; returns the tool's folder relative to `root`.
fn finish(component: Component, root: &Path, tool: &Path, stamp: &str) -> anyhow::Result<PathBuf> {
    open_to_all(root)?;
    let programs = tool.join("bin");
    if programs.is_dir() {
        for entry in fs::read_dir(&programs).context("read folder of programs")? {
            set_mode(&entry.context("read folder of programs")?.path(), 0o755)?;
        }
    }
    let marker = tool.join(component.marker());
    ensure!(marker.is_file(), "the package of {} has no {}", component.title(), marker.display());
    if let Some(argument) = component.probe() {
        let output = Command::new(&marker).arg(argument).output();
        let output = output.with_context(|| format!("run {}", marker.display()))?;
        if !output.status.success() {
            bail!(
                "{} does not run on this machine ({}): {}",
                component.title(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim(),
            );
        }
    }
    fs::write(tool.join(STAMP), stamp).context("write stamp")?;
    set_mode(&tool.join(STAMP), 0o644)?;
    Ok(tool.strip_prefix(root).context("place tool")?.to_path_buf())
}

/// Whatever the umask was, another user may have to run what is installed here.
fn open_to_all(path: &Path) -> anyhow::Result<()> {
    let metadata =
        fs::symlink_metadata(path).with_context(|| format!("read {}", path.display()))?;
    if metadata.is_dir() {
        set_mode(path, 0o755)?;
        let entries = fs::read_dir(path).with_context(|| format!("read {}", path.display()))?;
        for entry in entries {
            open_to_all(&entry.with_context(|| format!("read {}", path.display()))?.path())?;
        }
    } else if metadata.is_file() {
        set_mode(path, metadata.permissions().mode() & 0o755 | 0o644)?;
    }
    Ok(())
}

fn replace_folder(unfinished: tempfile::TempDir, home: &Path) -> anyhow::Result<()> {
    if home.exists() {
        // Its stamp is wrong or its marker is gone: somebody damaged it.
        fs::remove_dir_all(home).with_context(|| format!("remove {}", home.display()))?;
    }
    fs::rename(unfinished.path(), home).with_context(|| format!("create {}", home.display()))?;
    // The folder has moved, there is nothing left to remove.
    let _ = unfinished.keep();
    Ok(())
}

/// Points the stable name at the installation, in one step.
fn point_link(link: &Path, tool: &Path) -> anyhow::Result<()> {
    if fs::symlink_metadata(link).is_ok_and(|found| !found.is_symlink()) {
        bail!("{} is in the way: remove it", link.display());
    }
    let mut fresh = link.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", fresh.display()));
        }
        Ok(()) | Err(_) => {}
    }
    symlink(tool, &fresh).with_context(|| format!("create link {}", fresh.display()))?;
    fs::rename(&fresh, link).with_context(|| format!("replace link {}", link.display()))
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| {
        format!("create folder {}: set AUSPEX_TOOLS to a folder that is writable", folder.display())
    })
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("set mode of {}", path.display()))
}
