//! `auspex indexer run` as a process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::world::program;

/// How long a process may take to start on a busy machine.
const START_WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A running process. It is killed when this is dropped.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `auspex` with these arguments. `abort_at` is where it is to die, as `<point>=<hit>`.
    pub(super) fn start(log: &Path, arguments: &[&str], abort_at: Option<&str>) -> Self {
        let file = std::fs::File::create(log).expect("create a log");
        let mut command = Command::new(program());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        if let Some(point) = abort_at {
            command.env(auspex_indexer::abort::VARIABLE, point);
        }
        Self { child: command.spawn().expect("start auspex"), log: log.to_owned() }
    }

    /// How it ended; null while it runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("look at the process")
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) {
        self.end();
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where it serves, as soon as it does.
    pub(super) async fn url(&self) -> String {
        let started = Instant::now();
        loop {
            let log = self.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            for line in lines {
                let fields = &line["fields"];
                if let (Some("serving"), Some(address)) =
                    (fields["message"].as_str(), fields["address"].as_str())
                {
                    return format!("http://{address}");
                }
            }
            assert!(started.elapsed() < START_WAIT_MAX, "the indexer does not serve: {log}");
            sleep(LOOK_PAUSE).await;
        }
    }

    fn end(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().rev().take(20).collect();
            for line in lines.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}
