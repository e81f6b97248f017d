//! The parent's side: keeps one process, sends it the orders, and sends them again to a fresh one when the old one ends
//! under them. The node's `/metrics` has, by `model`, `auspex_model_order_seconds` (from the order to its end, whatever
//! happened in between) and `auspex_model_failures_total`, and what the process itself measured.

use std::time::Duration;

use alloy::primitives::B256;
use anyhow::{Context, anyhow, bail};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::limits::{MODEL_ORDERS_MAX, MODEL_SILENCE_MAX};
use crate::model::breaker::{Breaker, Way};
use crate::model::child::Running;
use crate::model::orders::Orders;
use crate::model::process::ModelProcess;
use crate::model::report;
use crate::model::wire::{Call, Hello, Line, News, Order};

/// An order and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) asker: mpsc::UnboundedSender<Told>,
    pub(super) asked: Instant,
}

/// What the asker is told.
#[derive(Debug)]
pub(super) enum Told {
    News(News),
    /// The process ended; what was told before is told again, from the beginning.
    Anew,
    /// The end: no process could do it.
    GivenUp(anyhow::Error),
}

pub(super) struct Keeper {
    process: ModelProcess,
    breaker: Breaker,
    child: Option<Running>,
    /// The hash of the first model. Another one in its place would sign under a false name.
    hash: Option<B256>,
    orders: Orders<Job>,
    /// One future per order, which is ready when its asker has left.
    left: FuturesUnordered<BoxFuture<'static, u64>>,
    /// When the process last said something, or was first given something to do.
    heard: Instant,
}

impl Keeper {
    pub(super) fn new(process: ModelProcess) -> Self {
        Self {
            breaker: Breaker::new(process.devices.len()),
            process,
            child: None,
            hash: None,
            orders: Orders::default(),
            left: FuturesUnordered::new(),
            heard: Instant::now(),
        }
    }

    /// Starts the first process.
    pub(super) async fn first(&mut self) -> anyhow::Result<Hello> {
        loop {
            match self.breaker.way(Instant::now()) {
                Way::Refuse(_) => {
                    bail!(
                        "the {} model does not start on any device; see the log",
                        self.process.name
                    )
                }
                Way::Device(device) => match self.running(device).await {
                    Ok(running) => return Ok(running.hello.clone()),
                    Err(error) => self.broken(error),
                },
            }
        }
    }

    /// Works until nobody can order any more and nobody waits.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut open = true;
        while open || !self.orders.is_empty() {
            self.send().await;
            let silent = self.heard + MODEL_SILENCE_MAX;
            tokio::select! {
                job = jobs.recv(), if open && self.orders.len() < MODEL_ORDERS_MAX => match job {
                    Some(job) => self.add(job),
                    None => open = false,
                },
                Some(id) = self.left.next() => self.forget(id),
                line = line(&mut self.child) => match line {
                    Ok(line) => self.hear(line),
                    Err(error) => self.broken(error),
                },
                () = tokio::time::sleep_until(silent), if self.orders.any_sent() => {
                    self.broken(anyhow!("the model process said nothing for {} s", MODEL_SILENCE_MAX.as_secs()));
                }
            }
        }
    }

    fn add(&mut self, job: Job) {
        let asker = job.asker.clone();
        let id = self.orders.add(job);
        self.left.push(Box::pin(async move {
            asker.closed().await;
            id
        }));
    }

    /// Sends what is due, to a process that is started when there is none.
    async fn send(&mut self) {
        loop {
            let due = self.orders.due();
            if due.is_empty() {
                return;
            }
            let device = match self.breaker.way(Instant::now()) {
                Way::Device(device) => device,
                Way::Refuse(wait) => return self.refuse(wait),
            };
            let runs_elsewhere = self.child.as_ref().is_some_and(|child| child.device != device);
            if runs_elsewhere && self.orders.any_sent() {
                // It ends what it has before the other device is tried again.
                return;
            }
            if !self.orders.any_sent() {
                self.heard = Instant::now();
            }
            let due: Vec<_> = due.into_iter().map(|id| (id, self.orders.sent(id))).collect();
            match self.deliver(device, &due).await {
                Ok(()) => return,
                Err(error) => self.broken(error),
            }
        }
    }

    async fn deliver(&mut self, device: usize, due: &[(u64, bool)]) -> anyhow::Result<()> {
        self.running(device).await?;
        let running = self.child.as_ref().context("find the model process")?;
        for &(id, again) in due {
            let Some(job) = self.orders.get(id) else { continue };
            if again {
                // An asker that left is noticed elsewhere.
                let _ = job.asker.send(Told::Anew);
            }
            running.call(&Call::Begin { id, order: job.order.clone() })?;
        }
        Ok(())
    }

    fn refuse(&mut self, wait: Duration) {
        let (name, wait) = (self.process.name, wait.as_secs());
        for job in self.orders.take() {
            job.give_up(anyhow!("the {name} model keeps failing; the next try is in {wait} s"));
        }
    }

    fn hear(&mut self, line: Line) {
        let (id, news) = match line {
            // The process may report while its model hangs.
            Line::Meters { text } => return report::note(self.process.name, text),
            Line::News { id, news } => (id, news),
        };
        self.heard = Instant::now();
        if !news.is_last() {
            if let Some(job) = self.orders.get(id) {
                let _ = job.asker.send(Told::News(news));
            }
            return;
        }
        self.breaker.succeeded();
        if let Some((job, _)) = self.orders.remove(id) {
            metrics::histogram!("auspex_model_order_seconds", "model" => self.process.name)
                .record(job.asked.elapsed());
            let _ = job.asker.send(Told::News(news));
        }
    }

    /// The asker of an order has left, before its end or after it.
    fn forget(&mut self, id: u64) {
        let Some((_, true)) = self.orders.remove(id) else { return };
        let told = self.child.as_ref().map_or(Ok(()), |child| child.call(&Call::Cancel { id }));
        if let Err(error) = told {
            self.broken(error);
        }
    }

    fn broken(&mut self, error: anyhow::Error) {
        let model = self.process.name;
        let reason = format!("{error:#}");
        tracing::warn!(model, error = reason, "the model process is started again");
        metrics::counter!("auspex_model_failures_total", "model" => model).increment(1);
        self.child = None;
        self.breaker.failed(Instant::now());
        for job in self.orders.process_ended() {
            job.give_up(anyhow!("{reason}"));
        }
    }

    /// The process on a device, started when there is none.
    async fn running(&mut self, device: usize) -> anyhow::Result<&Running> {
        if self.child.as_ref().is_none_or(|running| running.device != device) {
            self.child = None;
            let running = Running::start(&self.process, device).await?;
            let expected = *self.hash.get_or_insert(running.hello.model_hash);
            if running.hello.model_hash != expected {
                bail!("the model is {} now, and was {expected}", running.hello.model_hash);
            }
            let Hello { device, profile, .. } = &running.hello;
            let model = self.process.name;
            tracing::info!(model, device, profile, "the model passed its self-test");
            self.child = Some(running);
            self.heard = Instant::now();
        }
        self.child.as_ref().context("find the model process")
    }
}

/// The next line of a process; waits for ever while there is none.
async fn line(child: &mut Option<Running>) -> anyhow::Result<Line> {
    match child {
        Some(running) => running.line().await,
        None => std::future::pending().await,
    }
}

impl Job {
    fn give_up(self, error: anyhow::Error) {
        // The asker may have given up, too.
        let _ = self.asker.send(Told::GivenUp(error));
    }
}
