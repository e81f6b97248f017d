//! Waiting for something that another process does: polling with a deadline.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until the condition holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process of this number runs; a zombie does not.
pub(crate) fn runs(pid: u32) -> bool {
    if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        return !stat.rsplit_once(") ").expect("state after name").1.starts_with('Z');
    }
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output();
    let Ok(output) = output else { return false };
    let state = String::from_utf8(output.stdout).expect("text");
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

/// The variable that tells a test that it is its own child, and where to report.
const REPORT: &str = "AUSPEX_TEST_REPORT";

/// The file to report into, if this process was started by [`again`].
pub(crate) fn report_file() -> Option<std::path::PathBuf> {
    std::env::var_os(REPORT).map(Into::into)
}

/// Runs the named test of this very binary as a child process, which is to report into a file.
pub(crate) fn again(test: &str, report: &Path) -> Child {
    Command::new(std::env::current_exe().expect("path of this binary"))
        .args([test, "--exact", "--nocapture"])
        .env(REPORT, report)
        // It may fail on purpose, which would look like a failure of the outer test.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start this binary again")
}

/// Writes a report in one step.
pub(crate) fn report(file: &Path, text: &str) {
    let unfinished = file.with_extension("unfinished");
    std::fs::write(&unfinished, text).expect("write report");
    std::fs::rename(unfinished, file).expect("publish report");
}

/// Waits for the report of a child.
pub(crate) fn read_report(file: &Path) -> String {
    until("the child reports", || file.exists());
    std::fs::read_to_string(file).expect("read report")
}
