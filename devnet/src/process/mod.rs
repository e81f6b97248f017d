//! A child process that is watched, restarted if wanted, and stopped for certain.
//!
//! Three ways in which a child could outlive us are closed:
//!
//! - [`Process::stop`] sends the polite signal, and SIGKILL after the grace time;
//! - dropping a [`Process`] does the same and waits for it;
//! - if this very process is killed with SIGKILL, its end of a pipe closes, and a watchdog (a few lines
//!   of `sh`, see `lifeline.rs`) stops the child.
//!
//! Children get a process group of their own, so that Ctrl-C in a terminal reaches the parent alone and
//! the parent decides the order in which things stop.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;

use crate::limits::{RESTART_PAUSE_FIRST, RESTART_PAUSE_MAX, STOP_GRACE};
use crate::user::User;

mod lifeline;
pub mod log;
mod supervisor;

/// What to run, and how to keep it.
#[derive(Clone)]
pub struct ProcessConfig {
    /// The name in messages.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Variables to set, on top of ours.
    pub env: Vec<(OsString, OsString)>,
    /// Variables of ours that the child must not see.
    pub env_remove: Vec<OsString>,
    /// The child's working directory; ours if none is given.
    pub current_dir: Option<PathBuf>,
    /// Receives standard output and standard error. Every process needs a log of its own: see [`log`].
    pub log: PathBuf,
    /// The user to run as; only root may name one.
    pub run_as: Option<User>,
    pub restart: Restart,
    /// The polite signal.
    pub stop_signal: StopSignal,
    /// Time between the polite signal and SIGKILL.
    pub grace: Duration,
    /// A folder that the watchdog removes when we died without stopping the child.
    pub remove_when_orphaned: Option<PathBuf>,
    /// Runs before every start of the child, so that a start after a crash can repair its files first.
    pub before_start: Option<BeforeStart>,
}

/// See [`ProcessConfig::before_start`].
pub type BeforeStart = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

impl ProcessConfig {
    /// A child without arguments that is not restarted and stops on SIGTERM.
    pub fn new(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        log: impl Into<PathBuf>,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            env_remove: Vec::new(),
            current_dir: None,
            log: log.into(),
            run_as: None,
            restart: Restart::Never,
            stop_signal: StopSignal::Terminate,
            grace: STOP_GRACE,
            remove_when_orphaned: None,
            before_start: None,
        }
    }
}

/// Values of variables may be secrets, therefore only their names are shown.
impl fmt::Debug for ProcessConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<&OsString> = self.env.iter().map(|(name, _)| name).collect();
        formatter
            .debug_struct("ProcessConfig")
            .field("name", &self.name)
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &env)
            .field("log", &self.log)
            .field("run_as", &self.run_as)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// What happens when the child ends although nobody asked it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    Never,
    /// Start again after a pause that doubles from `first` to `max`; a child that ran for longer than
    /// `max` begins at `first` again.
    Always {
        first: Duration,
        max: Duration,
    },
}

impl Restart {
    /// [`Restart::Always`] with the pauses of [`crate::limits`].
    pub fn always() -> Self {
        Self::Always { first: RESTART_PAUSE_FIRST, max: RESTART_PAUSE_MAX }
    }
}

/// The signal that asks a child to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    Interrupt,
    Quit,
    Terminate,
}

/// Where a child stands. Intermediate values may be skipped by a slow reader; `restarts` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Running {
        pid: u32,
        restarts: u32,
    },
    /// Ended unasked, and will be started again after the pause.
    Pausing {
        ended: Ended,
        pause: Duration,
        restarts: u32,
    },
    /// Ended, and will not be started again.
    Ended(Ended),
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
    /// It could not be started again.
    Unstartable(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(number) => write!(formatter, "signal {number}"),
            Self::Unstartable(why) => write!(formatter, "it could not be started: {why}"),
        }
    }
}

/// A running child; see the module's documentation for how it ends.
#[derive(Debug)]
pub struct Process {
    config: Arc<ProcessConfig>,
    shared: Arc<Shared>,
    status: watch::Receiver<Status>,
}

impl Process {
    /// Starts the child. If a predecessor with the same log is still ending, this blocks until it is
    /// gone, at most for the grace time and a little.
    ///
    /// # Errors
    /// A predecessor does not end, the log cannot be opened, or the program does not exist.
    pub fn start(config: ProcessConfig) -> anyhow::Result<Process> {
        log::await_release(&config.log, config.grace + STOP_GRACE)
            .with_context(|| format!("start {}", config.name))?;
        let config = Arc::new(config);
        let shared = Arc::new(Shared::default());
        let child = lifeline::spawn(&config)
            .with_context(|| format!("start {} ({})", config.name, config.program.display()))?;
        shared.lock().pid = Some(child.id());
        let (sender, status) = watch::channel(Status::Running { pid: child.id(), restarts: 0 });
        let (thread_config, thread_shared) = (Arc::clone(&config), Arc::clone(&shared));
        std::thread::Builder::new()
            .name(format!("keep-{}", config.name))
            .spawn(move || supervisor::run(&thread_config, &thread_shared, &sender, child))
            .context("start supervisor thread")?;
        Ok(Process { config, shared, status })
    }

    /// The name in messages.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The log of the child.
    pub fn log(&self) -> &std::path::Path {
        &self.config.log
    }

    /// The process id, while the child runs.
    pub fn pid(&self) -> Option<u32> {
        self.shared.lock().pid
    }

    /// A view of the status that can be awaited; it works in any runtime.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the child has ended and will not be started again.
    pub async fn ended(&self) -> Ended {
        let mut status = self.status.clone();
        loop {
            if let Status::Ended(ended) = &*status.borrow_and_update() {
                return ended.clone();
            }
            if status.changed().await.is_err() {
                return Ended::Unstartable("the supervisor thread panicked".to_owned());
            }
        }
    }

    /// Kills the child with SIGKILL, as a crash would; the restart policy then applies. Returns whether
    /// there was a child to kill.
    pub fn kill9(&self) -> bool {
        self.shared.lock().signal(nix::sys::signal::Signal::SIGKILL)
    }

    /// Asks the child to end, kills it after the grace time, and waits until it is gone.
    pub async fn stop(self) -> Ended {
        self.request_stop();
        self.ended().await
    }

    fn request_stop(&self) {
        self.shared.lock().stopping.get_or_insert_with(Instant::now);
        self.shared.changed.notify_all();
    }
}

/// Blocks for as long as the child takes to end, at most the grace time and a little: code after the drop
/// may rely on the child's port and files being free.
impl Drop for Process {
    fn drop(&mut self) {
        self.request_stop();
        let deadline = self.config.grace + STOP_GRACE;
        let guard = self.shared.lock();
        let waited =
            self.shared.changed.wait_timeout_while(guard, deadline, |state| !state.finished);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// What the handle and the supervisor thread share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signals that `stopping` or `finished` changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Set while the child runs or is a zombie: as long as it is set the number cannot be reused, and a
    /// signal cannot hit a stranger.
    pid: Option<u32>,
    /// When the stop was requested.
    stopping: Option<Instant>,
    /// The supervisor thread is done.
    finished: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn signal(&self, signal: nix::sys::signal::Signal) -> bool {
        let pid = self.pid.and_then(|pid| i32::try_from(pid).ok());
        let Some(pid) = pid else { return false };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).is_ok()
    }
}
