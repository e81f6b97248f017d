//! The encoder: how many tokens it reads, as a share of what the device computes, and its first request.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use auspex_inference::{Encoder, Engine, Profile};

use crate::table::Row;
use crate::weights::{self, Kind};
use crate::{Bench, F16_SHARE_MIN, FIRST_REQUEST_MS_MAX, median};

pub(crate) const SHARE: &str = "MiniLM: share of the f16 product";
pub(crate) const FIRST: &str = "MiniLM: first request after ready";

pub(crate) fn measure(bench: &Bench, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let shape = &bench.shapes.encoder;
    let directory = folder.join("encoder");
    weights::write(&directory, &shape.config(), &shape.tensors(), Kind::F32)?;

    // First of all, while nothing is compiled.
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let engine = Engine::start_profile(&directory, bench.device, Profile::Fast);
    let engine = engine.context("start the encoder")?;
    let started = Instant::now();
    runtime.block_on(engine.embed(vec!["one question of some words".to_owned()]))?;
    let first_ms = started.elapsed().as_secs_f64() * 1e3;
    drop(engine);

    let encoder = Encoder::load_profile(&directory, bench.device, Profile::Fast)?;
    let (count, length) = (bench.shapes.sequences, bench.shapes.sequence_tokens);
    let word = |index: usize| ((index * 7_919) % shape.vocabulary) as u32;
    let sequences: Vec<Vec<u32>> = (0..count)
        .map(|sequence| (0..length).map(|token| word(sequence * length + token)).collect())
        .collect();
    encoder.embed_ids(&sequences)?;
    let mut seconds = Vec::new();
    for _ in 0..bench.rounds {
        let started = Instant::now();
        encoder.embed_ids(&sequences)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let seconds = median(seconds);
    let name = format!("MiniLM: reading {count} x {length} tokens");
    let mut rows = vec![Row::plain(name, (count * length) as f64 / seconds, "tokens/s")];
    if let Some(peak) = bench.limits.f16_operations_per_second {
        let share = 100.0 * shape.operations(count, length) / seconds / peak;
        rows.push(Row::at_least(SHARE, share, "%", F16_SHARE_MIN));
    }
    rows.push(Row::at_most(FIRST, first_ms, "ms", FIRST_REQUEST_MS_MAX));
    Ok(rows)
}
