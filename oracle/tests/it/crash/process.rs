//! Nodes and signers as processes of their own: this test's program started again in another role.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use auspex_oracle::answerer::{Answerer, Pins, Question};
use auspex_oracle::failpoint::Point;
use auspex_oracle::limits::LEASE_RENEWAL;
use auspex_oracle::node::Node;
use auspex_oracle::signer;
use auspex_oracle::signer::config::SignerConfig;
use auspex_protocol::deployment::Deployment;
use clap::Parser;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::spy::{Spying, stay_open};
use crate::scene::node::{answered, parsed};

pub(super) const ROLE: &str = "AUSPEX_CRASH_ROLE";

/// What a process of this test does.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Role {
    Node(Vec<String>),
    Signer {
        arguments: Vec<String>,
        deployment: PathBuf,
    },
    Spy(Spying),
    /// Protects nothing; makes this file when it is at work.
    Open(PathBuf),
}

/// True in a process that was started in a role, after it has played it.
pub(super) fn played() -> bool {
    let Ok(role) = std::env::var(ROLE) else { return false };
    let role: Role = serde_json::from_str(&role).expect("a role");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(play(role)).expect("played");
    true
}

async fn play(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Node(arguments) => {
            let node = Node::prepare(parsed(arguments), repeating()).await?;
            node.run(CancellationToken::new()).await
        }
        Role::Signer { arguments, deployment } => {
            let config = Arguments::try_parse_from(arguments)?.config;
            let deployment = Deployment::named(&deployment)?;
            signer::process::run(config, &deployment, CancellationToken::new()).await
        }
        Role::Spy(spying) => spying.run(),
        Role::Open(ready) => stay_open(&ready),
    }
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: SignerConfig,
}

/// Answers with the question; one that begins with "slow" takes longer than a lease stays without a renewal.
pub(super) fn repeating() -> Answerer {
    let pins = Pins { corpus_root: B256::repeat_byte(1), model_hash: B256::repeat_byte(2) };
    let answer = |question: Question| {
        async move {
            if question.input.starts_with(b"slow") {
                tokio::time::sleep(LEASE_RENEWAL + Duration::from_secs(1)).await;
            }
            let text = String::from_utf8_lossy(&question.input).into_owned();
            let answer = serde_json::json!({ "text": text }).to_string();
            Ok(answered(answer))
        }
        .boxed()
    };
    Answerer::Function { pins, answer: Arc::new(answer) }
}

/// A process in a role. Dropping it kills it.
pub(super) struct Actor {
    child: Child,
    log: PathBuf,
}

impl Actor {
    /// Starts `test` again. With a point, it aborts there at the first pass.
    pub(super) fn start(test: &str, role: &Role, dies_at: Option<Point>, log: &Path) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, serde_json::to_string(role).expect("JSON"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).expect("a log"));
        if let Some(point) = dies_at {
            command.env("AUSPEX_ABORT_AT", format!("{}=1", point.name()));
        }
        Self { child: command.spawn().expect("a process"), log: log.to_owned() }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with a signal that makes core dumps, and says how it ended.
    pub(super) fn crash(&mut self) -> ExitStatus {
        let process = nix::unistd::Pid::from_raw(i32::try_from(self.id()).expect("an id"));
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGABRT).expect("a signal");
        self.child.wait().expect("an end")
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Fails unless the process ended as its point says.
    pub(super) fn assert_aborted(&self, status: ExitStatus, point: Point) {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let aborted = status.signal() == Some(nix::sys::signal::Signal::SIGABRT as i32);
        assert!(aborted, "{}: {status}: {log}", point.name());
    }

    pub(super) fn assert_runs(&mut self) {
        if let Some(status) = self.ended() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            panic!("a process that nothing should end has ended: {status}: {log}");
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
