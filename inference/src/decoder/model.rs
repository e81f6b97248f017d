//! The layers of a Llama 3, Qwen 2.5 or Qwen 3 decoder on the CPU.

use auspex_avx512::pages::Pages;
use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::{
    attention::{Attention, Position},
    cache::{Cache, Place},
    config::DecoderConfig,
    matrix::{Left, Matrix, Rows, Storage, Tiles},
    shards::Shards,
    weights::{Layer, Raw, Weights},
};
use crate::{
    error::LoadError,
    kernels::{LANES, silu::silu, sum, vectorized},
    rope::Rope,
};

/// A loaded decoder. It has no state: keys and values are in a [`Cache`].
#[derive(Debug)]
pub(crate) struct DecoderModel {
    pub(crate) config: DecoderConfig,
    storage: Storage,
    weights: Weights<Matrix>,
    rope: Rope,
}

/// New tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    /// The blocks of the sequence, with room for the new positions.
    pub(crate) blocks: &'a [u32],
    /// Positions that were read before.
    pub(crate) start: usize,
    pub(crate) tokens: &'a [u32],
}

impl DecoderModel {
    pub(crate) fn load(
        shards: &mut Shards,
        config: DecoderConfig,
        storage: Storage,
    ) -> Result<Self, LoadError> {
        let mut pages = Pages::default();
        let pack =
            |raw: Raw| Matrix::new(&mut pages, &raw.weight, &raw.bias, raw.inputs, raw.storage);
        let weights = Weights::load(shards, &config, storage, pack)?;
        // A token of one output reads every weight once, in long runs.
        if !pages.settle() {
            tracing::debug!("not all weights lie on large pages");
        }
        let rope = Rope::new(config.theta, config.head_size, config.scaling);
        Ok(Self { config, storage, weights, rope })
    }

    /// Bytes of weights that writing one token reads.
    pub(crate) fn bytes(&self) -> usize {
        self.weights.bytes(Matrix::bytes)
    }

    /// Reads `spans` into the cache; gives back the last layer's states of all their tokens.
    /// `observe` sees the states behind the embedding and behind every layer.
    pub(crate) fn read(
        &self,
        cache: &mut Cache,
        spans: &[Span<'_>],
        mut observe: impl FnMut(&Rows) + Send,
    ) -> Rows {
        // From here on the caller's work is done by one of rayon's threads, so that handing a
        // part to another one does not need two of them to wake up.
        rayon::scope(|_| {
            let positions: Vec<Position<'_>> = spans
                .iter()
                .flat_map(|span| {
                    let positions = span.start..span.start + span.tokens.len();
                    positions.map(|position| Position { blocks: span.blocks, position })
                })
                .collect();
            let turns: Vec<Vec<f32>> =
                positions.iter().map(|at| self.rope.position(at.position)).collect();
            let mut states = self.embed(spans);
            observe(&states);
            for (index, layer) in self.weights.layers.iter().enumerate() {
                self.layer(index, layer, cache, &positions, &turns, &mut states);
                observe(&states);
            }
            states
        })
    }

    /// Logits of some rows of what [`read`](Self::read) gave: `[rows][vocabulary]`.
    pub(crate) fn logits(&self, states: &Rows, rows: &[usize]) -> Rows {
        // A pass that reads only the beginning of a prompt asks for none.
        if rows.is_empty() {
            return Rows::zeros(0, self.config.vocabulary);
        }
        rayon::scope(|_| {
            let chosen: Vec<f32> = rows.iter().flat_map(|row| states.row(*row)).copied().collect();
            let chosen = Rows { values: chosen, columns: states.columns };
            let normed = normalize(&chosen, &self.weights.norm, self.config.epsilon);
            let tiles = self.weights.head.product(&Left::new(&normed, self.storage));
            tiles.into_rows(self.config.vocabulary)
        })
    }

    fn embed(&self, spans: &[Span<'_>]) -> Rows {
        let table = self.weights.embedding.as_ref().unwrap_or(&self.weights.head);
        let tokens = spans.iter().flat_map(|span| span.tokens);
        let values = tokens.flat_map(|token| table.output(*token as usize)).collect();
        Rows { values, columns: self.config.hidden }
    }

    fn layer(
        &self,
        index: usize,
        layer: &Layer<Matrix>,
        cache: &mut Cache,
        positions: &[Position<'_>],
        turns: &[Vec<f32>],
        states: &mut Rows,
    ) {
        let config = &self.config;
        let normed = normalize(states, &layer.attention_norm, config.epsilon);
        let projected = layer.projection.product(&Left::new(&normed, self.storage));
        let queries = self.store(index, layer, cache, positions, turns, &projected);
        let attention = Attention {
            cache,
            layer: index,
            window: config.windows[index],
            queries: &queries,
            head_size: config.head_size,
            group: config.group(),
        };
        let attended = attention.run(positions);
        add(states, &layer.output.product(&Left::new(&attended, self.storage)));
        let normed = normalize(states, &layer.norm, config.epsilon);
        let expanded = layer.expand.product(&Left::new(&normed, self.storage));
        let gated = gate(&expanded, config.inner);
        add(states, &layer.contract.product(&Left::new(&gated, self.storage)));
    }

    /// Turns queries and keys, and stores keys and values; gives back the queries.
    fn store(
        &self,
        index: usize,
        layer: &Layer<Matrix>,
        cache: &mut Cache,
        positions: &[Position<'_>],
        turns: &[Vec<f32>],
        projected: &Tiles,
    ) -> Rows {
        let config = &self.config;
        let size = config.head_size;
        let (query_width, key_width) = (config.heads * size, config.key_heads * size);
        let mut queries = Rows::zeros(positions.len(), query_width);
        let mut row_values = vec![0.0; query_width + 2 * key_width];
        for (row, (at, turns)) in positions.iter().zip(turns).enumerate() {
            for (value, from) in row_values.iter_mut().zip(projected.row(row, 0).flatten()) {
                *value = *from;
            }
            let (turned, values) = row_values.split_at_mut(query_width + key_width);
            for (head, part) in turned.chunks_exact_mut(size).enumerate() {
                if let Some([of_queries, of_keys]) = &layer.head_norms {
                    let scale = if head < config.heads { of_queries } else { of_keys };
                    let normed = normalized(part, scale, config.epsilon);
                    part.copy_from_slice(&normed);
                }
                self.rope.turn(part, turns);
            }
            let (turned_queries, keys) = turned.split_at(query_width);
            queries.values[row * query_width..(row + 1) * query_width]
                .copy_from_slice(turned_queries);
            let place = Place::of(at.blocks, at.position);
            let heads = keys.chunks_exact(size).zip(values.chunks_exact(size));
            for (head, (key, value)) in heads.enumerate() {
                cache.write(index, place, head, key, value);
            }
        }
        queries
    }
}

/// Each row over the root of its mean square, times `scale`.
fn normalize(rows: &Rows, scale: &[f32], epsilon: f32) -> Rows {
    let mut out = Rows::zeros(rows.count(), rows.columns);
    let pairs = out
        .values
        .par_chunks_exact_mut(rows.columns)
        .zip(rows.values.par_chunks_exact(rows.columns));
    pairs.for_each(|(out, row)| vectorized(Norm { row, scale, epsilon, out }));
    out
}

fn normalized(row: &[f32], scale: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = vec![0.0; row.len()];
    vectorized(Norm { row, scale, epsilon, out: &mut out });
    out
}

struct Norm<'a> {
    row: &'a [f32],
    scale: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl NullaryFnOnce for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut squares = [0.0; LANES];
        for lanes in self.row.as_chunks::<LANES>().0 {
            for (square, value) in squares.iter_mut().zip(lanes) {
                *square = value.mul_add(*value, *square);
            }
        }
        let factor = 1.0 / (sum(squares) / self.row.len() as f32 + self.epsilon).sqrt();
        for ((out, value), scale) in self.out.iter_mut().zip(self.row).zip(self.scale) {
            *out = value * factor * scale;
        }
    }
}

fn add(states: &mut Rows, update: &Tiles) {
    let columns = states.columns;
    states.values.par_chunks_exact_mut(columns).enumerate().for_each(|(row, states)| {
        for (states, update) in states.as_chunks_mut::<LANES>().0.iter_mut().zip(update.row(row, 0))
        {
            for (state, update) in states.iter_mut().zip(update) {
                *state += update;
            }
        }
    });
}

/// `silu(gate) * up` of every row.
fn gate(expanded: &Tiles, inner: usize) -> Rows {
    let mut out = Rows::zeros(expanded.rows, inner);
    out.values.par_chunks_exact_mut(inner).enumerate().for_each(|(row, out)| {
        vectorized(Gate { expanded, row, out });
    });
    out
}

struct Gate<'a> {
    expanded: &'a Tiles,
    row: usize,
    out: &'a mut [f32],
}

impl NullaryFnOnce for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { expanded, row, out } = self;
        let tiles = out.len() / LANES;
        let (gates, ups) = (expanded.row(row, 0), expanded.row(row, tiles));
        for ((out, gate), up) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(gates).zip(ups) {
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = silu(*gate) * up;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_a_mean_square_of_one() {
        let rows = Rows { values: (0..64).map(|value| value as f32 - 9.0).collect(), columns: 32 };
        let normed = normalize(&rows, &[1.0; 32], 1e-6);
        for row in 0..2 {
            let square: f32 = normed.row(row).iter().map(|value| value * value).sum();
            assert!((square / 32.0 - 1.0).abs() < 1e-5, "{square}");
        }
        assert_eq!(normalize(&rows, &[0.0; 32], 1e-6).values, [0.0; 64]);
    }
}
