//! Starts a child together with the watchdog that ends it when we are gone.
//!
//! The child is started through `sh`, which first forks the watchdog and then *becomes* the program
//! (`exec`), so that the process id, the exit status and the signals are the program's own, and there is no
//! moment at which the program runs unwatched. The watchdog reads a pipe of which we hold the other end:
//!
//! - a line means that we have seen the child's end: nothing is left to do;
//! - end of file means that we died: it signals the child, waits, and kills it.
//!
//! Linux's parent-death signal is not used: it fires when the *thread* that forked ends, and does not
//! exist elsewhere.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use anyhow::{Context, ensure};

use super::{ProcessConfig, StopSignal, log};

/// Arguments: signal, grace in tenths of a second, folder to remove (or empty), program, its arguments.
///
/// The watchdog is forked twice, so that it is not a child of the program, which may not expect one, and
/// holds neither the program's output nor its input.
const SCRIPT: &str = r#"
exec 3<&0 </dev/null
signal=$1 tenths=$2 folder=$3
shift 3
( (
    trap '' HUP INT QUIT TERM PIPE
    exec >/dev/null 2>&1
    if read -r _ <&3; then exit 0; fi
    kill -s "$signal" $$
    while kill -s 0 $$ && [ "$tenths" -gt 0 ]; do
        sleep 0.1
        tenths=$((tenths - 1))
    done
    if [ "$tenths" -le 0 ]; then kill -s KILL $$; fi
    if [ -n "$folder" ]; then rm -rf -- "$folder"; fi
) & )
exec "$@" 3<&-
"#;

/// A child and our end of its lifeline.
#[derive(Debug)]
pub(super) struct Kept {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Kept {
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Like [`Child::try_wait`]; releases the watchdog once the child has ended.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if let (Some(_), Some(mut lifeline)) =
            (&status, self.lifeline.take_if(|_| status.is_some()))
        {
            // The watchdog may have been killed with its group; then there is nobody to tell.
            let _ = lifeline.write_all(b"ended\n");
        }
        Ok(status)
    }
}

pub(super) fn spawn(config: &ProcessConfig) -> anyhow::Result<Kept> {
    if config.program.components().nth(1).is_some() {
        let metadata = fs::metadata(&config.program)
            .with_context(|| format!("find program {}", config.program.display()))?;
        ensure!(metadata.is_file(), "{} is not a program", config.program.display());
    }
    if let Some(before_start) = &config.before_start {
        before_start().context("prepare start")?;
    }
    let output = log::open(&config.log)?;
    let errors = output.try_clone().context("share log file")?;
    let tenths = config.grace.as_millis().div_ceil(100);

    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(SCRIPT)
        .arg(&config.name)
        .arg(signal_name(config.stop_signal))
        .arg(tenths.to_string())
        .arg(config.remove_when_orphaned.as_deref().unwrap_or_else(|| "".as_ref()))
        .arg(&config.program)
        .args(&config.args)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(errors)
        .process_group(0);
    for name in &config.env_remove {
        command.env_remove(name);
    }
    command.envs(config.env.iter().map(|(name, value)| (name, value)));
    if let Some(folder) = &config.current_dir {
        command.current_dir(folder);
    }
    if let Some(user) = &config.run_as {
        command.uid(user.uid).gid(user.gid);
    }
    let mut child = command.spawn().context("start /bin/sh")?;
    let lifeline = child.stdin.take();
    Ok(Kept { child, lifeline })
}

fn signal_name(signal: StopSignal) -> &'static str {
    match signal {
        StopSignal::Interrupt => "INT",
        StopSignal::Quit => "QUIT",
        StopSignal::Terminate => "TERM",
    }
}
