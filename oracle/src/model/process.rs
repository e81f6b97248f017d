//! How a model process is started, and what it is to the rest of the node.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::corpus::Embedder;
use crate::limits::MODEL_QUEUE_MAX;
use crate::model::keeper::{Job, Keeper, Told};
use crate::model::wire::{Hello, News, Order, read};
use crate::model::writing::WritingModel;

/// How a model process is started.
#[derive(Debug, Clone)]
pub struct ModelProcess {
    /// What it is called in logs and metrics, such as `embedding`.
    pub name: &'static str,
    pub program: PathBuf,
    /// The arguments before the device's name, which comes last.
    pub arguments: Vec<OsString>,
    /// The devices in the order in which they are tried.
    pub devices: Vec<String>,
    /// Time allowed to load the model and to test it.
    pub start_timeout: Duration,
    /// A process that has orders and says nothing for so long is ended.
    pub silence_max: Duration,
    /// A device that was left is tried again after this time.
    pub device_retry: Duration,
}

impl ModelProcess {
    /// Starts the first process, waits until it has passed its self-test, and keeps one from then on, as long as the
    /// embedder or a copy of it lives.
    ///
    /// # Errors
    ///
    /// When none starts on any device.
    pub async fn embedder(self) -> anyhow::Result<Embedder> {
        let (hello, desk) = self.start().await?;
        Ok(Embedder::new(
            hello.model_hash,
            hello.tokens_max,
            move |texts| {
                let desk = desk.clone();
                Box::pin(async move { embed(&desk, texts).await })
            },
            |_| bail!("documents are cut by `auspex corpus add`, not by a node"),
        ))
    }

    /// The same for a model that writes.
    ///
    /// # Errors
    ///
    /// When none starts on any device.
    pub async fn writer(self) -> anyhow::Result<WritingModel> {
        let (hello, desk) = self.start().await?;
        Ok(WritingModel::new(hello.model_hash, desk))
    }

    async fn start(self) -> anyhow::Result<(Hello, Desk)> {
        let mut keeper = Keeper::new(self);
        let hello = keeper.first().await?;
        let (jobs, waiting) = mpsc::channel(MODEL_QUEUE_MAX);
        tokio::spawn(keeper.run(waiting));
        Ok((hello, Desk { jobs }))
    }
}

/// Where orders are handed in.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    jobs: mpsc::Sender<Job>,
}

/// What comes of one order. Dropping it withdraws the order.
#[derive(Debug)]
pub(super) struct Ticket {
    told: mpsc::UnboundedReceiver<Told>,
}

impl Desk {
    pub(super) async fn order(&self, order: Order) -> anyhow::Result<Ticket> {
        let (asker, told) = mpsc::unbounded_channel();
        let job = Job { order, asker, asked: Instant::now() };
        self.jobs.send(job).await.map_err(|_| gone())?;
        Ok(Ticket { told })
    }
}

impl Ticket {
    pub(super) async fn next(&mut self) -> Told {
        self.told.recv().await.unwrap_or_else(|| Told::GivenUp(gone()))
    }
}

fn gone() -> anyhow::Error {
    anyhow!("the model's keeper has ended")
}

async fn embed(desk: &Desk, texts: Vec<String>) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut ticket = desk.order(Order::Embed { texts }).await?;
    loop {
        match ticket.next().await {
            Told::News(News::Vectors { vectors }) => {
                return vectors.iter().map(|text| read(text)).collect();
            }
            Told::News(News::Refused { reason } | News::Failed { reason }) => {
                bail!("embed: {reason}")
            }
            Told::News(News::Written { .. }) => bail!("embed: the model wrote instead"),
            Told::News(News::Read { .. } | News::Text { .. }) | Told::Anew => {}
            Told::GivenUp(error) => return Err(error.context("embed")),
        }
    }
}
