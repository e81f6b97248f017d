//! Runs `pip` and `npm`. Both check the hashes of what they download against the lock.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::ToolsConfig;
use super::component::{Component, Source};
use super::lock::{self, PACKAGE_JSON, PACKAGE_LOCK};
use super::progress::Step;
use crate::limits::INSTALL_DEADLINE;
use crate::process::{Ended, Process, ProcessConfig, log};

/// The wheels differ by Python version in a module that is not used, so one version is asked for: then any
/// Python will do, also one that is newer than the wheels.
const WHEEL_PYTHON: &str = "3.12";

/// How often the bar moves.
const PROGRESS_POLL: Duration = Duration::from_millis(250);

/// Unpacks a component into `into`, an empty folder; returns the tool's folder in it.
pub(super) async fn run(
    config: &ToolsConfig,
    component: Component,
    into: &Path,
    step: &Step,
) -> anyhow::Result<PathBuf> {
    match component.source() {
        Source::Pip { requirement, folder, unwanted } => {
            pip(config, component, requirement, into, step).await?;
            for path in unwanted {
                remove(&into.join(path))?;
            }
            Ok(into.join(folder))
        }
        Source::Npm { package: Some(package) } => {
            npm(config, component, into, step).await?;
            Ok(into.join("node_modules").join(package))
        }
        Source::Npm { package: None } => bail!(
            "no package of {} is pinned for {} on {}: install it yourself and set {} to {}",
            component.title(),
            std::env::consts::OS,
            std::env::consts::ARCH,
            component.variable(),
            component.variable_meaning(),
        ),
    }
}

async fn pip(
    config: &ToolsConfig,
    component: Component,
    package: &str,
    into: &Path,
    step: &Step,
) -> anyhow::Result<()> {
    let python = find(config, "python3").with_context(|| {
        advice(
            component,
            "installing it needs Python 3 with pip, and there is no python3 on PATH (Debian, Ubuntu: apt-get install python3-pip; Fedora: dnf install python3-pip; macOS: brew install python)",
        )
    })?;
    let requirement = lock::requirement(package)
        .with_context(|| format!("requirements.txt does not pin {package}"))?;
    let file = into.join("requirements.txt");
    fs::write(&file, requirement).with_context(|| format!("write {}", file.display()))?;

    let mut args = words("-m pip install --require-hashes --no-deps --only-binary :all:");
    args.extend(words("--python-version"));
    args.push(WHEEL_PYTHON.into());
    args.extend(words("--no-compile --no-input --target"));
    args.push(into.into());
    args.push("--requirement".into());
    args.push(file.into());
    let env = [
        // A user's settings that contradict --target.
        ("PIP_USER", "0"),
        ("PIP_REQUIRE_VIRTUALENV", "0"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
        ("PIP_PROGRESS_BAR", "off"),
    ];
    let Err(said) = execute(config, "pip", python, args, &env, into, step).await? else {
        return Ok(());
    };
    if said.contains("No module named pip") {
        bail!(advice(
            component,
            "installing it needs pip, which this python3 does not have (Debian, Ubuntu: apt-get install python3-pip; elsewhere: python3 -m ensurepip)",
        ));
    }
    bail!(
        "{}\npip said:\n{said}",
        advice(
            component,
            "pip could not install it; offline, put the wheel into a folder and set PIP_NO_INDEX=1 and PIP_FIND_LINKS to that folder",
        ),
    )
}

async fn npm(
    config: &ToolsConfig,
    component: Component,
    into: &Path,
    step: &Step,
) -> anyhow::Result<()> {
    let npm = find(config, "npm").with_context(|| {
        advice(
            component,
            "installing it needs Node.js 20 or newer with npm, and there is no npm on PATH (Debian, Ubuntu: apt-get install nodejs npm; macOS: brew install node)",
        )
    })?;
    for (name, text) in [("package.json", PACKAGE_JSON), ("package-lock.json", PACKAGE_LOCK)] {
        let file = into.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    let args = words("ci --ignore-scripts --no-audit --no-fund --prefer-offline");
    let Err(said) = execute(config, "npm", npm, args, &[], into, step).await? else {
        return Ok(());
    };
    bail!(
        "{}\nnpm said:\n{said}",
        advice(
            component,
            "npm could not install it; it needs the package registry, or a cache that has the package"
        ),
    )
}

/// Runs an installer in `folder` and shows how the folder grows. The inner error is the end of what the
/// installer printed.
async fn execute(
    config: &ToolsConfig,
    name: &str,
    program: PathBuf,
    args: Vec<OsString>,
    env: &[(&str, &str)],
    folder: &Path,
    step: &Step,
) -> anyhow::Result<Result<(), String>> {
    // Downloads land in the same folder, so that they count as progress and vanish with it.
    let temporary = folder.join("tmp");
    fs::create_dir(&temporary).with_context(|| format!("create {}", temporary.display()))?;
    let mut env: Vec<(OsString, OsString)> =
        env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    env.push(("TMPDIR".into(), temporary.clone().into()));
    env.push(("PATH".into(), config.search_path.clone()));
    let log = folder.join("install.log");
    let process = Process::start(ProcessConfig {
        args,
        env,
        current_dir: Some(folder.to_path_buf()),
        ..ProcessConfig::new(name, program, &log)
    })?;
    let ended = tokio::time::timeout(INSTALL_DEADLINE, async {
        let mut ended = std::pin::pin!(process.ended());
        loop {
            match tokio::time::timeout(PROGRESS_POLL, &mut ended).await {
                Ok(ended) => return ended,
                Err(_) => step.at(size(folder)),
            }
        }
    });
    let ended = ended
        .await
        .with_context(|| format!("{name} was not done after {} s", INSTALL_DEADLINE.as_secs()))?;
    let said = log::tail(&log, 0);
    remove(&temporary)?;
    remove(&log)?;
    match ended {
        Ended::Code(0) => Ok(Ok(())),
        Ended::Code(_) | Ended::Signal(_) | Ended::Unstartable(_) => {
            Ok(Err(format!("{said}\n({name} ended with {ended})")))
        }
    }
}

fn advice(component: Component, problem: &str) -> String {
    format!(
        "{} is missing: {problem}; or set {} to {}",
        component.title(),
        component.variable(),
        component.variable_meaning(),
    )
}

fn find(config: &ToolsConfig, program: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&config.search_path).map(|folder| folder.join(program)).find(is_program)
}

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.with_context(|| format!("remove {}", path.display()))
}

/// Bytes in the files of a folder. What disappears while it is being read counts as nothing.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
