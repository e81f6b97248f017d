//! The child: it says who it is, and does what its input orders until that ends.

use std::collections::HashMap;

use alloy::primitives::B256;
use anyhow::Context;
use auspex_inference::decoder::{Event, Finish, GenerateError, Generator, Message, Parameters};
use auspex_inference::{Engine, EngineError};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::limits::MODEL_REPORT_INTERVAL;
use crate::meter::ProcessMeters;
use crate::model::wire::{Call, Hello, Line, News, Order, written};

/// A model that is loaded and tested.
#[derive(Debug, Clone)]
pub enum Model {
    Embedding(Engine),
    Writing(Generator),
}

/// Serves orders side by side. Ends without an error when the node is gone, and with one when the model is: the node then
/// starts another process, because a failed device does not come back inside the old one.
pub async fn serve(
    model: Model,
    input: impl AsyncBufRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> anyhow::Result<()> {
    let meters = ProcessMeters::install()?;
    say(&mut output, &model.hello()).await?;
    let mut calls = input.lines();
    let (news, mut said) = mpsc::unbounded_channel();
    let mut work = JoinSet::new();
    let mut running: HashMap<u64, AbortHandle> = HashMap::new();
    let mut reports = tokio::time::interval(MODEL_REPORT_INTERVAL);
    loop {
        tokio::select! {
            call = calls.next_line() => {
                let Some(line) = call.context("read an order")? else { return Ok(()) };
                match serde_json::from_str(&line).context("read an order")? {
                    Call::Begin { id, order } => {
                        let teller = Teller { id, news: news.clone() };
                        running.insert(id, work.spawn(model.clone().work(order, teller)));
                    }
                    Call::Cancel { id } => {
                        if let Some(handle) = running.remove(&id) {
                            handle.abort();
                        }
                    }
                }
            }
            Some((id, news)) = said.recv() => {
                if news.is_last() {
                    running.remove(&id);
                }
                say(&mut output, &Line::News { id, news }).await?;
            }
            Some(ended) = work.join_next() => match ended {
                Ok(outcome) => outcome?,
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(error).context("do an order"),
            },
            _ = reports.tick() => {
                meters.upkeep();
                say(&mut output, &Line::Meters { text: meters.text() }).await?;
            }
        }
    }
}

/// Tells the node about one order.
struct Teller {
    id: u64,
    news: mpsc::UnboundedSender<(u64, News)>,
}

impl Teller {
    fn tell(&self, news: News) {
        // The other end lives as long as the process serves.
        let _ = self.news.send((self.id, news));
    }

    fn refuse(&self, reason: &impl ToString) {
        self.tell(News::Refused { reason: reason.to_string() });
    }

    fn fail(&self, reason: &impl ToString) {
        self.tell(News::Failed { reason: reason.to_string() });
    }
}

impl Model {
    fn hello(&self) -> Hello {
        match self {
            Self::Embedding(engine) => Hello {
                model_hash: B256::from(engine.model_hash()),
                tokens_max: engine.content_tokens_max(),
                device: engine.device().to_string(),
                profile: engine.profile().to_string(),
            },
            Self::Writing(generator) => Hello {
                model_hash: B256::from(generator.model_hash()),
                tokens_max: generator.positions(),
                device: generator.device().to_string(),
                profile: generator.profile().to_owned(),
            },
        }
    }

    /// Does an order. An error is the model's end; everything else is told.
    async fn work(self, order: Order, teller: Teller) -> anyhow::Result<()> {
        match (self, order) {
            (Self::Embedding(engine), Order::Embed { texts }) => {
                embed(&engine, texts, &teller).await
            }
            (Self::Writing(generator), Order::Write { messages, max_tokens }) => {
                write(&generator, &messages, max_tokens, &teller).await
            }
            (Self::Embedding(_), Order::Write { .. }) => {
                teller.refuse(&"this model embeds and does not write");
                Ok(())
            }
            (Self::Writing(_), Order::Embed { .. }) => {
                teller.refuse(&"this model writes and does not embed");
                Ok(())
            }
        }
    }
}

async fn embed(engine: &Engine, texts: Vec<String>, teller: &Teller) -> anyhow::Result<()> {
    match engine.embed(texts).await {
        Ok(vectors) => {
            let vectors = vectors.iter().map(|vector| written(vector)).collect();
            teller.tell(News::Vectors { vectors });
        }
        Err(error @ EngineError::Stopped { .. }) => return Err(error.into()),
        Err(error) => teller.refuse(&error),
    }
    Ok(())
}

async fn write(
    generator: &Generator,
    messages: &[Message],
    max_tokens: usize,
    teller: &Teller,
) -> anyhow::Result<()> {
    let parameters = Parameters { max_tokens, ..Parameters::default() };
    let begun = generator
        .chat_prompt(messages, None)
        .map_err(GenerateError::from)
        .and_then(|prompt| generator.generate(prompt, parameters));
    let outcome = match begun {
        Err(error) => Err(error),
        Ok(mut output) => loop {
            match output.next().await {
                Event::Read { tokens, .. } => teller.tell(News::Read { tokens }),
                Event::Text(piece) => teller.tell(News::Text { piece }),
                Event::Done(outcome) => break outcome,
            }
        },
    };
    match outcome {
        Ok(completion) => teller.tell(News::Written {
            cut: completion.finish == Finish::Length,
            trace: B256::from(completion.transcript.hash()),
        }),
        Err(error @ (GenerateError::Device { .. } | GenerateError::Stopped)) => {
            return Err(error.into());
        }
        Err(GenerateError::Prompt(error)) => teller.refuse(&error),
        Err(error) => teller.fail(&error),
    }
    Ok(())
}

async fn say<T: serde::Serialize>(
    output: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    output.write_all(&line).await.context("answer the node")?;
    output.flush().await.context("answer the node")
}
