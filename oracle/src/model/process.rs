//! The parent's side: one child at a time, one order at a time, each order tried again with a fresh child when the old one
//! ends under it. The node's `/metrics` has `auspex_model_reply_seconds`, each try of an order with a start if one was due,
//! and `auspex_model_failures_total`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::corpus::Embedder;
use crate::limits::{
    MODEL_ATTEMPTS_MAX, MODEL_QUEUE_MAX, MODEL_REPLY_TIMEOUT, MODEL_START_TIMEOUT,
};
use crate::model::breaker::{Breaker, Way};
use crate::model::wire::{Hello, Order, Reply, read};

/// How a model process is started.
#[derive(Debug, Clone)]
pub struct ModelProcess {
    pub program: PathBuf,
    /// The arguments before the device's name, which comes last.
    pub arguments: Vec<OsString>,
    /// The devices in the order in which they are tried.
    pub devices: Vec<String>,
}

/// Starts the first child, waits until it has passed its self-test, and keeps one from then on, as long as the embedder
/// or a copy of it lives.
pub async fn start(process: ModelProcess) -> anyhow::Result<Embedder> {
    let mut keeper =
        Keeper { breaker: Breaker::new(process.devices.len()), process, child: None, hash: None };
    let hello = keeper.first().await?;
    let (jobs, waiting) = mpsc::channel(MODEL_QUEUE_MAX);
    tokio::spawn(keeper.run(waiting));
    Ok(Embedder::new(
        hello.model_hash,
        hello.tokens_max,
        move |texts| {
            let jobs = jobs.clone();
            Box::pin(async move {
                let (reply, vectors) = oneshot::channel();
                let gone = || anyhow!("the model's keeper has ended");
                jobs.send(Job { texts, reply }).await.map_err(|_| gone())?;
                vectors.await.map_err(|_| gone())?
            })
        },
        |_| bail!("documents are cut by `auspex corpus add`, not by a node"),
    ))
}

struct Job {
    texts: Vec<String>,
    reply: oneshot::Sender<anyhow::Result<Vec<Vec<f32>>>>,
}

struct Keeper {
    process: ModelProcess,
    breaker: Breaker,
    child: Option<Running>,
    /// The hash of the first model. Another one in its place would sign under a false name.
    hash: Option<alloy::primitives::B256>,
}

struct Running {
    device: usize,
    hello: Hello,
    /// Killed when it is dropped.
    _child: Child,
    input: ChildStdin,
    output: tokio::io::Lines<BufReader<ChildStdout>>,
}

/// How an order failed.
enum Failure {
    /// The texts are at fault.
    Refused(String),
    /// The process is.
    Broken(anyhow::Error),
}

impl Keeper {
    async fn first(&mut self) -> anyhow::Result<Hello> {
        loop {
            match self.breaker.way(Instant::now()) {
                Way::Refuse(_) => bail!("the model does not start on any device; see the log"),
                Way::Device(device) => match self.running(device).await {
                    Ok(running) => return Ok(running.hello.clone()),
                    Err(error) => self.broken(&error),
                },
            }
        }
    }

    async fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(job) = waiting.recv().await {
            if job.reply.is_closed() {
                continue;
            }
            let vectors = self.embed(job.texts).await;
            // The asker may have given up.
            let _ = job.reply.send(vectors);
        }
    }

    async fn embed(&mut self, texts: Vec<String>) -> anyhow::Result<Vec<Vec<f32>>> {
        let order = Order { texts };
        let mut last = anyhow!("no try was made");
        for _ in 0..MODEL_ATTEMPTS_MAX {
            let device = match self.breaker.way(Instant::now()) {
                Way::Device(device) => device,
                Way::Refuse(wait) => {
                    return Err(last).with_context(|| {
                        format!("the model keeps failing; the next try is in {} s", wait.as_secs())
                    });
                }
            };
            let asked = Instant::now();
            let tried = match self.running(device).await {
                Ok(running) => running.ask(&order).await,
                Err(error) => Err(Failure::Broken(error)),
            };
            metrics::histogram!("auspex_model_reply_seconds").record(asked.elapsed());
            match tried {
                Ok(vectors) => {
                    self.breaker.succeeded();
                    return Ok(vectors);
                }
                Err(Failure::Refused(reason)) => bail!("embed: {reason}"),
                Err(Failure::Broken(error)) => {
                    self.broken(&error);
                    last = error;
                }
            }
        }
        Err(last).context("embed")
    }

    fn broken(&mut self, error: &anyhow::Error) {
        tracing::warn!(error = format!("{error:#}"), "the model process is started again");
        metrics::counter!("auspex_model_failures_total").increment(1);
        self.child = None;
        self.breaker.failed(Instant::now());
    }

    /// The child on a device, started when there is none.
    async fn running(&mut self, device: usize) -> anyhow::Result<&mut Running> {
        if self.child.as_ref().is_none_or(|running| running.device != device) {
            self.child = None;
            let running = Running::start(&self.process, device).await?;
            let expected = *self.hash.get_or_insert(running.hello.model_hash);
            if running.hello.model_hash != expected {
                bail!("the model is {} now, and was {expected}", running.hello.model_hash);
            }
            let Hello { device, profile, .. } = &running.hello;
            tracing::info!(device, profile, "the model passed its self-test");
            self.child = Some(running);
        }
        self.child.as_mut().context("find the model process")
    }
}

impl Running {
    async fn start(process: &ModelProcess, device: usize) -> anyhow::Result<Self> {
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
        let mut output = BufReader::new(output).lines();
        let line = tokio::time::timeout(MODEL_START_TIMEOUT, output.next_line()).await;
        let line = line.with_context(|| {
            format!("the model on {name} was not ready within {} s", MODEL_START_TIMEOUT.as_secs())
        })??;
        let line = line.with_context(|| format!("the model process on {name} ended at once"))?;
        let hello: Hello = serde_json::from_str(&line).context("read the model's greeting")?;
        Ok(Self { device, hello, _child: child, input, output })
    }

    async fn ask(&mut self, order: &Order) -> Result<Vec<Vec<f32>>, Failure> {
        let exchange = async {
            let mut line = serde_json::to_vec(order)?;
            line.push(b'\n');
            self.input.write_all(&line).await.context("write to the model process")?;
            let line = self.output.next_line().await.context("read from the model process")?;
            let line = line.context("the model process ended while it worked")?;
            serde_json::from_str::<Reply>(&line).context("read the model's reply")
        };
        let reply = tokio::time::timeout(MODEL_REPLY_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(anyhow!("the model did not answer within {} s", MODEL_REPLY_TIMEOUT.as_secs()))
            })
            .map_err(Failure::Broken)?;
        match reply {
            Reply::Refused { reason } => Err(Failure::Refused(reason)),
            Reply::Vectors { vectors } => vectors
                .iter()
                .map(|text| read(text))
                .collect::<Result<_, _>>()
                .map_err(Failure::Broken),
        }
    }
}
