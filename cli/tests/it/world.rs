//! A world of `auspex dev` for one test, in a directory of its own, on free ports, gone when the test ends.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A world has four processes with a model or a database; on a small machine two at once would only time out together.
static ONE_WORLD_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long a world may take to start on a busy machine.
const START_WAIT_MAX: Duration = Duration::from_secs(180);
/// How long a request may take to end when something was killed on its way.
pub(crate) const END_WAIT_MAX: Duration = Duration::from_secs(90);

pub(crate) struct World {
    process: Child,
    directory: tempfile::TempDir,
    pub(crate) announcement: Value,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a world with further options of `auspex dev`.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        Self::start_in(&[], options)
    }

    /// Starts a world whose processes find these variables in their environment.
    pub(crate) fn start_in(environment: &[(&str, &OsStr)], options: &[&str]) -> Self {
        let turn = take_turn();
        let directory = world_directory();
        let mut process = spawn_in(environment, &directory.path().join("world"), options);
        let announcement = first_document(&mut process, directory.path());
        Self { process, directory, announcement, _turn: turn }
    }

    /// Stops the world with a signal and gives back how `auspex dev` ended. Its data stay.
    pub(crate) fn stop(&mut self, signal: Signal) -> ExitStatus {
        send(self.process.id(), signal);
        self.process.wait().expect("auspex dev ends")
    }

    /// Starts the stopped world again, on the same data.
    pub(crate) fn resume(&mut self) {
        self.process = spawn(&self.path(""));
        self.announcement = first_document(&mut self.process, self.directory.path());
    }

    /// Runs a command in this world and gives back its JSON.
    pub(crate) fn run(&self, arguments: &[&str]) -> Value {
        let output = self.attempt(arguments);
        assert!(
            output.status.success(),
            "auspex {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("a command prints JSON")
    }

    /// Runs a command in this world, whatever comes of it.
    pub(crate) fn attempt(&self, arguments: &[&str]) -> Output {
        Command::new(program())
            .arg("--json")
            .args(arguments)
            .env("AUSPEX_WORLD", self.path("world.json"))
            .stdin(Stdio::null())
            .output()
            .expect("run auspex")
    }

    /// Runs a command that has to fail, and gives back its error.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.attempt(arguments);
        assert!(!output.status.success(), "auspex {} succeeded", arguments.join(" "));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let error: Value = serde_json::from_str(text.trim())
            .unwrap_or_else(|_| panic!("not a JSON error: {text}"));
        let mut whole = error["error"]["message"].as_str().expect("a message").to_owned();
        for cause in error["error"]["causes"].as_array().into_iter().flatten() {
            whole.push_str(": ");
            whole.push_str(cause.as_str().unwrap_or_default());
        }
        whole
    }

    /// Submits a request and gives back its id.
    pub(crate) fn submit(&self, offer: &str, question: &str, pay: &str) -> String {
        let submission = self.run(&[
            "request",
            "submit",
            "--offer",
            offer,
            "--input",
            question,
            "--pay",
            pay,
            "--as",
            "requester",
        ]);
        text(&submission["requestId"])
    }

    /// Waits for a request's end and gives back what the indexer says of it.
    pub(crate) fn watch(&self, request_id: &str) -> Value {
        let limit = END_WAIT_MAX.as_secs().to_string();
        self.run(&["request", "watch", request_id, "--timeout", &limit])
    }

    pub(crate) fn native_offer(&self) -> String {
        text(&self.announcement["nativeOffer"])
    }

    pub(crate) fn token_offer(&self) -> String {
        text(&self.announcement["tokenOffer"])
    }

    pub(crate) fn file(&self) -> Value {
        let content = std::fs::read_to_string(self.path("world.json")).expect("read the world");
        serde_json::from_str(&content).expect("the world file is JSON")
    }

    pub(crate) fn market(&self) -> Value {
        let content = std::fs::read_to_string(self.path("market.json")).expect("read the market");
        serde_json::from_str(&content).expect("the market file is JSON")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("world").join(name)
    }

    /// The process id of one of the world's processes, as it is now; waits for one that is being started again.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        let path = self.path("processes.json");
        eventually(&format!("a process {name}"), || {
            let processes: BTreeMap<String, u32> =
                serde_json::from_slice::<Vec<(String, u32)>>(&std::fs::read(&path).ok()?)
                    .ok()?
                    .into_iter()
                    .collect();
            processes.get(name).copied().filter(|pid| Path::new(&format!("/proc/{pid}")).exists())
        })
    }

    /// Sends a signal to one of the world's processes.
    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        send(self.pid(name), signal);
    }

    /// Calls the chain's JSON-RPC.
    pub(crate) fn rpc(&self, method: &str, parameters: &Value) -> Value {
        let url = text(&self.file()["rpcUrl"]);
        let body = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters
        });
        let reply: Value = runtime().block_on(async {
            let reply = reqwest::Client::new().post(url).json(&body).send().await;
            reply.expect("the chain answers").json().await.expect("JSON")
        });
        assert!(reply.get("error").is_none(), "{method}: {reply}");
        reply["result"].clone()
    }

    /// Reads one of the indexer's resources; `None` when it does not exist.
    pub(crate) fn rest(&self, path: &str) -> Option<Value> {
        let url = format!("{}{path}", text(&self.file()["indexerUrl"]));
        runtime().block_on(async {
            let reply = reqwest::get(url).await.expect("the indexer answers");
            if reply.status() == reqwest::StatusCode::NOT_FOUND {
                return None;
            }
            Some(reply.json().await.expect("JSON"))
        })
    }

    /// Asks the indexer's GraphQL.
    pub(crate) fn graphql(&self, query: &str) -> Value {
        let url = format!("{}graphql", text(&self.file()["indexerUrl"]));
        runtime().block_on(async {
            let body = serde_json::json!({ "query": query });
            let reply = reqwest::Client::new().post(url).json(&body).send().await;
            reply.expect("the indexer answers").json().await.expect("JSON")
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A world that was stopped already needs no signal.
        if let Ok(None) = self.process.try_wait() {
            let pid = Pid::from_raw(self.process.id() as i32);
            let _ = kill(pid, Signal::SIGTERM);
            let _ = self.process.wait();
        }
        if std::thread::panicking() {
            for log in ["indexer", "operator-1", "operator-2", "operator-3"] {
                let content = std::fs::read_to_string(self.path(&format!("logs/{log}.log")))
                    .unwrap_or_default();
                let lines: Vec<_> = content.lines().rev().take(15).collect();
                eprintln!("--- end of {log}.log");
                for line in lines.iter().rev() {
                    eprintln!("{line}");
                }
            }
        }
    }
}

/// One world at a time.
pub(crate) fn take_turn() -> MutexGuard<'static, ()> {
    ONE_WORLD_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder for a world, which PostgreSQL can reach: it runs as another user when the test runs as root.
pub(crate) fn world_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("temporary directory");
    open_to_others(directory.path());
    directory
}

/// Starts `auspex --json dev` in a directory.
pub(crate) fn spawn(directory: &Path) -> Child {
    spawn_in(&[], directory, &[])
}

fn spawn_in(environment: &[(&str, &OsStr)], directory: &Path, options: &[&str]) -> Child {
    Command::new(program())
        .envs(environment.iter().copied())
        .args(["--json", "dev", "--directory"])
        .arg(directory)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start auspex dev")
}

/// The processes that belong to a world: those that name its directory in their command or their environment.
pub(crate) fn running_in(directory: &Path) -> Vec<String> {
    let directory = directory.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("processes");
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let said = [std::fs::read(path.join("cmdline")), std::fs::read(path.join("environ"))];
            let said: Vec<u8> = said.into_iter().flatten().flatten().collect();
            let said = String::from_utf8_lossy(&said).replace('\0', " ");
            (pid != std::process::id() && said.contains(&directory))
                .then(|| format!("{pid}: {said}"))
        })
        .collect()
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    kill(pid, signal).unwrap_or_else(|error| panic!("signal process {pid}: {error}"));
}

/// Repeats a look until it finds something; the limit is generous, because only a failure waits for it.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < END_WAIT_MAX, "{what} did not happen within {END_WAIT_MAX:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_auspex")
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

fn open_to_others(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))
        .expect("permissions");
}

/// Reads the one JSON document that `auspex dev` prints when its world is ready.
fn first_document(process: &mut Child, directory: &Path) -> Value {
    let stdout = process.stdout.take().expect("piped");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut documents = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>();
        // The receiver is gone only when the test has already failed.
        let _ = sender.send(documents.next());
        // Keep draining, so that the world never blocks on a full pipe.
        documents.for_each(drop);
    });
    match receiver.recv_timeout(START_WAIT_MAX) {
        Ok(Some(Ok(document))) => document,
        other => {
            let _ = process.kill();
            let _ = process.wait();
            let indexer = directory.join("world/logs/indexer.log");
            let log = std::fs::read_to_string(indexer).unwrap_or_default();
            panic!("the world did not start: {other:?}\n--- indexer.log\n{log}");
        }
    }
}
