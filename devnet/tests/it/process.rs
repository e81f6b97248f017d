use std::time::{Duration, Instant};

use auspex_devnet::process::{Ended, Process, ProcessConfig, Restart, Status, log};
use tempfile::TempDir;

use crate::wait::{again, read_report, report, report_file, runs, until};

#[tokio::test]
async fn an_end_is_reported_with_its_code_and_both_outputs_are_logged() {
    let folder = folder();
    let process = shell(&folder, "echo out; echo err >&2; exit 3").start();
    assert_eq!(process.ended().await, Ended::Code(3));
    assert_eq!(std::fs::read_to_string(process.log()).expect("log"), "out\nerr\n");
    assert_eq!(process.pid(), None);
    assert!(!process.kill9(), "there is nothing to kill");
}

#[tokio::test]
async fn stop_asks_politely_first() {
    let folder = folder();
    let process =
        shell(&folder, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done").start();
    await_line(&process, "ready");
    assert_eq!(process.stop().await, Ended::Code(7));
}

#[tokio::test]
async fn stop_kills_a_child_that_ignores_the_signal() {
    let folder = folder();
    let mut run = shell(&folder, "trap '' TERM; echo ready; while :; do sleep 0.02; done");
    run.0.grace = Duration::from_millis(200);
    let process = run.start();
    await_line(&process, "ready");
    let asked = Instant::now();
    assert_eq!(process.stop().await, Ended::Signal(9));
    assert!(Duration::from_millis(200) <= asked.elapsed(), "the grace time was not given");
}

#[tokio::test]
async fn a_killed_child_is_started_again_until_it_is_stopped() {
    let folder = folder();
    let mut run = shell(&folder, "exec sleep 1000");
    run.0.restart =
        Restart::Always { first: Duration::from_millis(10), max: Duration::from_secs(1) };
    let process = run.start();
    let first = process.pid().expect("runs");
    let mut status = process.status();
    assert!(process.kill9());
    let again = |status: &Status| matches!(status, Status::Running { restarts: 1, .. });
    let running = status.wait_for(again).await.expect("supervised").clone();
    let Status::Running { pid: second, .. } = running else { unreachable!("matched above") };
    assert_ne!(first, second);
    assert_eq!(process.pid(), Some(second));
    process.stop().await;
    until("the second child is gone", || !runs(second));
}

#[tokio::test]
async fn a_child_that_cannot_live_pauses_longer_each_time_and_can_be_stopped_in_a_pause() {
    let folder = folder();
    let mut run = shell(&folder, "exit 1");
    run.0.restart =
        Restart::Always { first: Duration::from_millis(10), max: Duration::from_secs(1000) };
    let process = run.start();
    let long = |status: &Status| matches!(status, Status::Pausing { pause, .. } if Duration::from_millis(160) <= *pause);
    let mut status = process.status();
    let pausing = status.wait_for(long).await.expect("supervised").clone();
    assert!(
        matches!(pausing, Status::Pausing { ended: Ended::Code(1), restarts: 4.., .. }),
        "{pausing:?}"
    );
    assert_eq!(process.stop().await, Ended::Code(1));
}

#[tokio::test]
async fn dropping_a_process_stops_it() {
    let folder = folder();
    let process = shell(&folder, "exec sleep 1000").start();
    let pid = process.pid().expect("runs");
    drop(process);
    assert!(!runs(pid));
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let folder = folder();
    let config =
        ProcessConfig::new("ghost", folder.path().join("no-such"), folder.path().join("log"));
    let error = Process::start(config).expect_err("nothing to start");
    let text = format!("{error:#}");
    assert!(text.contains("start ghost") && text.contains("no-such"), "{text}");
}

#[tokio::test]
async fn variables_are_set_and_removed_and_their_values_are_not_shown() {
    let folder = folder();
    let mut run = shell(&folder, "echo \"$SECRET ${PATH-no path}\"");
    run.0.env.push(("SECRET".into(), "hunter2".into()));
    run.0.env_remove.push("PATH".into());
    assert!(!format!("{:?}", run.0).contains("hunter2"));
    let process = run.start();
    process.ended().await;
    let log = std::fs::read_to_string(process.log()).expect("log");
    assert!(log.starts_with("hunter2 "), "{log}");
    assert!(!log.contains(&std::env::var("PATH").expect("PATH")), "{log}");
}

#[tokio::test]
async fn preparation_runs_before_every_start_and_its_failure_is_told() {
    let folder = folder();
    let mut run = shell(&folder, "exit 0");
    run.0.before_start = Some(std::sync::Arc::new(|| Err(std::io::Error::other("no disk"))));
    let error = Process::start(run.0).expect_err("preparation fails");
    assert!(format!("{error:#}").contains("no disk"), "{error:#}");
}

#[tokio::test]
async fn a_successor_waits_until_its_predecessor_is_gone() {
    let folder = folder();
    let first =
        shell(&folder, "trap 'sleep 0.3; exit' TERM; echo ready; while :; do sleep 0.02; done")
            .start();
    await_line(&first, "ready");
    let pid = first.pid().expect("runs");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.try_into().expect("a pid")),
        nix::sys::signal::SIGTERM,
    )
    .expect("signal");
    let second = shell(&folder, "exit 5").start();
    assert!(!runs(pid), "both ran at once");
    assert_eq!(second.ended().await, Ended::Code(5));
}

#[tokio::test]
async fn two_processes_cannot_share_a_log() {
    let folder = folder();
    let first = shell(&folder, "exec sleep 1000").start();
    let error = log::await_release(first.log(), Duration::from_millis(50)).expect_err("in use");
    assert!(error.to_string().contains("still runs"), "{error}");
    first.stop().await;
    log::await_release(&folder.path().join("child.log"), Duration::ZERO).expect("released");
}

/// Two roles: the outer one starts this test again as the inner one, and kills that with SIGKILL.
#[test]
fn a_killed_parent_leaves_no_child_and_no_files() {
    if let Some(file) = report_file() {
        let folder = folder();
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).expect("create folder");
        let mut run = shell(&folder, "trap '' TERM; while :; do sleep 0.02; done");
        run.0.grace = Duration::from_millis(300);
        run.0.remove_when_orphaned = Some(folder.path().to_path_buf());
        let process = run.start();
        report(&file, &format!("{} {}", process.pid().expect("runs"), folder.path().display()));
        loop {
            std::thread::park();
        }
    }
    let folder = folder();
    let file = folder.path().join("report");
    let mut parent = again("process::a_killed_parent_leaves_no_child_and_no_files", &file);
    let text = read_report(&file);
    let (pid, scratch) = text.split_once(' ').expect("two words");
    let pid = pid.parse().expect("a number");
    assert!(runs(pid));
    parent.kill().expect("kill parent");
    parent.wait().expect("reap parent");
    until("the orphan is gone", || !runs(pid));
    until("its files are gone", || !std::path::Path::new(scratch).exists());
}

struct Run(ProcessConfig);

impl Run {
    fn start(self) -> Process {
        Process::start(self.0).expect("start")
    }
}

fn shell(folder: &TempDir, script: &str) -> Run {
    let config = ProcessConfig::new("child", "/bin/sh", folder.path().join("child.log"));
    Run(ProcessConfig { args: vec!["-c".into(), script.into()], ..config })
}

fn await_line(process: &Process, line: &str) {
    until("the child is ready", || {
        std::fs::read_to_string(process.log()).is_ok_and(|log| log.contains(line))
    });
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("folder")
}
