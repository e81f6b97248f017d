//! The parent's side: keeps one process, sends it the orders, and sends them again to a fresh one when the old one ends
//! under them. The node's `/metrics` has, by `model`, `auspex_model_order_seconds` (from the order to its end, whatever
//! happened in between) and `auspex_model_failures_total`, and what the process itself measured.

use std::time::Duration;

use alloy::primitives::B256;
use anyhow::{Context, anyhow, bail, ensure};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::limits::{MODEL_ATTEMPTS_MAX, MODEL_ORDERS_MAX};
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
    /// A process that is being started on the first device, while another one works.
    starting: Option<BoxFuture<'static, anyhow::Result<Running>>>,
    /// That process, once it is well, until the other one has ended what it has.
    successor: Option<Running>,
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
            breaker: Breaker::new(process.devices.len(), process.device_retry),
            process,
            child: None,
            starting: None,
            successor: None,
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
                    let name = self.process.name;
                    bail!("the {name} model does not start on any device; see the log")
                }
                Way::Device(device) => match self.running(device).await {
                    Ok(running) => return Ok(running.hello.clone()),
                    Err(error) => self.broken(&error),
                },
            }
        }
    }

    /// Works until nobody can order any more and nobody waits.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut open = true;
        while open || !self.orders.is_empty() {
            self.think_of_the_first_device();
            self.send().await;
            let silent = self.heard + self.process.silence_max;
            tokio::select! {
                job = jobs.recv(), if open && self.orders.len() < MODEL_ORDERS_MAX => match job {
                    Some(job) => self.add(job),
                    None => open = false,
                },
                Some(id) = self.left.next() => self.forget(id),
                line = line(&mut self.child) => match line {
                    Ok(line) => self.hear(line),
                    Err(error) => self.broken(&error),
                },
                started = started(&mut self.starting) => self.judge(started),
                () = tokio::time::sleep_until(silent), if self.orders.any_sent() => {
                    let silence = self.process.silence_max.as_secs();
                    self.broken(&anyhow!("the model process said nothing for {silence} s"));
                }
            }
        }
    }

    /// Starts a process on the first device when it is time to, and lets one that is well take over when nothing is in work.
    fn think_of_the_first_device(&mut self) {
        if self.starting.is_none()
            && self.successor.is_none()
            && self.breaker.is_return_due(Instant::now())
        {
            let process = self.process.clone();
            self.starting = Some(Box::pin(async move { Running::start(&process, 0).await }));
        }
        if !self.orders.any_sent()
            && let Some(successor) = self.successor.take()
        {
            self.breaker.returned(Instant::now(), true);
            self.child = Some(successor);
        }
    }

    fn judge(&mut self, started: anyhow::Result<Running>) {
        self.starting = None;
        match started.and_then(|running| self.known(running)) {
            Ok(running) => self.successor = Some(running),
            Err(error) => {
                let (model, error) = (self.process.name, format!("{error:#}"));
                tracing::warn!(model, error, "the first device is not well yet");
                self.breaker.returned(Instant::now(), false);
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
        // Until a successor has taken over, nothing new is begun.
        while self.successor.is_none() {
            let due = self.orders.due();
            let Some(first) = due.first() else { return };
            let device = match self.breaker.way(Instant::now()) {
                // The last try is made where everything runs.
                Way::Device(_) if self.orders.ends(*first) + 1 == MODEL_ATTEMPTS_MAX => {
                    self.breaker.last()
                }
                Way::Device(device) => device,
                Way::Refuse(wait) => return self.refuse(wait),
            };
            let runs_elsewhere = self.child.as_ref().is_some_and(|child| child.device != device);
            if runs_elsewhere && self.orders.any_sent() {
                // It ends what it has first.
                return;
            }
            if !self.orders.any_sent() {
                self.heard = Instant::now();
            }
            let due: Vec<_> = due.into_iter().map(|id| (id, self.orders.sent(id))).collect();
            match self.deliver(device, &due).await {
                Ok(()) => return,
                Err(error) if self.child.is_none() => self.not_started(device, &error),
                Err(error) => self.broken(&error),
            }
        }
    }

    async fn deliver(&mut self, device: usize, due: &[(u64, u32)]) -> anyhow::Result<()> {
        self.running(device).await?;
        let running = self.child.as_ref().context("find the model process")?;
        for &(id, ends) in due {
            let Some(job) = self.orders.get(id) else { continue };
            if 0 < ends {
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
        self.note_success(id);
        if let Some((job, _)) = self.orders.remove(id) {
            metrics::histogram!("auspex_model_order_seconds", "model" => self.process.name)
                .record(job.asked.elapsed());
            let _ = job.asker.send(Told::News(news));
        }
    }

    fn note_success(&mut self, id: u64) {
        let device = self.child.as_ref().map(|child| child.device);
        if device == Some(self.breaker.device()) {
            self.breaker.succeeded();
        } else if self.orders.ends(id) + 1 == MODEL_ATTEMPTS_MAX {
            // Three processes on the present device have ended under what this one has done.
            self.breaker.convicted(Instant::now());
        }
    }

    /// The asker of an order has left, before its end or after it.
    fn forget(&mut self, id: u64) {
        let Some((_, true)) = self.orders.remove(id) else { return };
        let told = self.child.as_ref().map_or(Ok(()), |child| child.call(&Call::Cancel { id }));
        if let Err(error) = told {
            self.broken(&error);
        }
    }

    /// The process has ended, or is to end. Its device is at fault, unless it worked alone on what others have ended under.
    fn broken(&mut self, error: &anyhow::Error) {
        if !self.orders.is_suspect_alone() {
            self.breaker.failed(Instant::now());
        }
        self.end(error);
    }

    fn not_started(&mut self, device: usize, error: &anyhow::Error) {
        if device == self.breaker.device() {
            self.breaker.failed(Instant::now());
        }
        self.end(error);
    }

    fn end(&mut self, error: &anyhow::Error) {
        let model = self.process.name;
        let reason = format!("{error:#}");
        tracing::warn!(model, error = reason, "the model process is started again");
        metrics::counter!("auspex_model_failures_total", "model" => model).increment(1);
        self.child = None;
        for job in self.orders.process_ended() {
            job.give_up(anyhow!("{reason}"));
        }
    }

    /// The process on a device, started when there is none.
    async fn running(&mut self, device: usize) -> anyhow::Result<&Running> {
        if self.child.as_ref().is_none_or(|running| running.device != device) {
            self.child = None;
            let running = Running::start(&self.process, device).await?;
            self.child = Some(self.known(running)?);
            self.heard = Instant::now();
        }
        self.child.as_ref().context("find the model process")
    }

    /// A process that has started, if its model is the one that the first one had.
    fn known(&mut self, running: Running) -> anyhow::Result<Running> {
        let Hello { model_hash, device, profile, .. } = &running.hello;
        let expected = *self.hash.get_or_insert(*model_hash);
        ensure!(*model_hash == expected, "the model is {model_hash} now, and was {expected}");
        let model = self.process.name;
        tracing::info!(model, device, profile, "the model passed its self-test");
        Ok(running)
    }
}

/// The next line of a process; waits for ever while there is none.
async fn line(child: &mut Option<Running>) -> anyhow::Result<Line> {
    match child {
        Some(running) => running.line().await,
        None => std::future::pending().await,
    }
}

/// The process that is being started; waits for ever while there is none.
async fn started(
    starting: &mut Option<BoxFuture<'static, anyhow::Result<Running>>>,
) -> anyhow::Result<Running> {
    match starting {
        Some(starting) => starting.await,
        None => std::future::pending().await,
    }
}

impl Job {
    fn give_up(self, error: anyhow::Error) {
        // The asker may have given up, too.
        let _ = self.asker.send(Told::GivenUp(error));
    }
}
