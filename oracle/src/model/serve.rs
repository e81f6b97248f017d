//! The child: it loads the model, tests it, says who it is, and embeds until its input ends.

use alloy::primitives::B256;
use anyhow::Context;
use auspex_inference::{Engine, EngineError};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use crate::model::wire::{Hello, Order, Reply, written};

/// Serves orders in their order. Ends without an error when the node is gone, and with one when the model is: the node
/// then starts another process, because a failed device does not come back inside the old one.
pub async fn serve(
    engine: &Engine,
    mut input: impl AsyncBufRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> anyhow::Result<()> {
    let hello = Hello {
        model_hash: B256::from(engine.model_hash()),
        tokens_max: engine.content_tokens_max(),
        device: engine.device().to_string(),
        profile: engine.profile().to_string(),
    };
    say(&mut output, &hello).await?;
    let mut line = String::new();
    loop {
        line.clear();
        if input.read_line(&mut line).await.context("read an order")? == 0 {
            return Ok(());
        }
        let order: Order = serde_json::from_str(&line).context("read an order")?;
        let reply = match engine.embed(order.texts).await {
            Ok(vectors) => {
                Reply::Vectors { vectors: vectors.iter().map(|vector| written(vector)).collect() }
            }
            Err(error @ EngineError::Stopped { .. }) => return Err(error.into()),
            Err(error) => Reply::Refused { reason: error.to_string() },
        };
        say(&mut output, &reply).await?;
    }
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
