//! One model process, from its start to its end.

use std::process::Stdio;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::model::process::ModelProcess;
use crate::model::wire::{Call, Hello, Line};

/// A process that has passed its self-test. It is killed when this is dropped.
pub(super) struct Running {
    /// Its device, by its place in the order.
    pub(super) device: usize,
    pub(super) hello: Hello,
    _child: Child,
    calls: mpsc::UnboundedSender<Vec<u8>>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(super) async fn start(process: &ModelProcess, device: usize) -> anyhow::Result<Self> {
        let name = process.devices.get(device).context("find the device")?;
        let mut child = Command::new(&process.program)
            .args(&process.arguments)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the model process")?;
        let input = child.stdin.take().context("write to the model process")?;
        let output = child.stdout.take().context("read from the model process")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(process.start_timeout, lines.next_line()).await;
        let line = line.with_context(|| {
            let limit = process.start_timeout.as_secs();
            format!("the model on {name} was not ready within {limit} s")
        })??;
        let line = line.with_context(|| format!("the model process on {name} ended at once"))?;
        let hello: Hello = serde_json::from_str(&line).context("read the model's greeting")?;
        let (calls, waiting) = mpsc::unbounded_channel();
        tokio::spawn(write(input, waiting));
        Ok(Self { device, hello, _child: child, calls, lines })
    }

    /// Hands a call over, without waiting until the process reads it. One that is lost shows as the process's end.
    pub(super) fn call(&self, call: &Call) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(call).context("write an order")?;
        line.push(b'\n');
        self.calls.send(line).context("write to the model process")
    }

    /// The next line. Nothing is lost when the caller stops waiting for it.
    pub(super) async fn line(&mut self) -> anyhow::Result<Line> {
        let line = self.lines.next_line().await.context("read from the model process")?;
        let line = line.context("the model process ended")?;
        serde_json::from_str(&line).context("read what the model process said")
    }
}

/// Reading and writing wait for nothing of each other, so that two full pipes cannot hold both processes.
async fn write(mut input: ChildStdin, mut calls: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(line) = calls.recv().await {
        if input.write_all(&line).await.is_err() {
            return;
        }
    }
}
