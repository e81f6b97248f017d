//! Weight matrices in four storages, and their products, which read the packed weights.
//!
//! A matrix is kept in tiles of [`LANES`] outputs, so that one vector of sums stays in registers
//! while a tile's weights stream past it once. Every element of a product is one sum in the order
//! of the inputs, whatever rows are computed with it and on whatever thread:
//! - `f32` and `f16`: fused multiply-adds, input after input;
//! - int8 and int4: blocks of [`BLOCK`] inputs are summed exactly, in integers, and each block's
//!   sum is scaled and added by one fused multiply-add, block after block.

mod blocks;
mod floats;
pub(super) mod pack;

mod runs;

use std::{fmt, str::FromStr};

use auspex_avx512::{
    Vnni, blocks as wide,
    pages::{Pages, Piece},
};
use rayon::prelude::*;

use crate::{
    kernels::{LANES, Lane},
    team,
};
pub(crate) use blocks::{BLOCK, QuantizedRows};
use blocks::{Block4, Block8};
pub(crate) use floats::{FloatRows, from_f16};
use runs::Runs;

/// How a decoder's matrices are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 32 bits a weight; the reference.
    F32,
    /// 16 bits a weight; sums are still in `f32`.
    F16,
    /// Blocks of 32 weights of 8 bits with one `f16` scale: 8.5 bits a weight. Inputs are rounded
    /// to 8 bits in the same way.
    #[default]
    Int8,
    /// Blocks of 32 weights of 4 bits with one `f16` scale: 4.5 bits a weight. Inputs are rounded
    /// to 8 bits.
    Int4,
}

impl Storage {
    /// The name in configuration and in transcripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// `Err` says why this storage cannot hold a matrix with so many inputs.
    pub(super) fn check(self, inputs: usize) -> Result<(), String> {
        if self.is_integer() && !inputs.is_multiple_of(BLOCK) {
            return Err(format!(
                "{inputs} inputs are no multiple of {BLOCK}, the block of {self} weights; choose f16"
            ));
        }
        Ok(())
    }

    pub(super) fn is_integer(self) -> bool {
        match self {
            Self::F32 | Self::F16 => false,
            Self::Int8 | Self::Int4 => true,
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Storage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::F32, Self::F16, Self::Int8, Self::Int4]
            .into_iter()
            .find(|storage| storage.name() == text)
            .ok_or_else(|| format!("weights {text:?} are none of f32, f16, int8, int4"))
    }
}

/// Rows of activations, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    pub(crate) values: Vec<f32>,
    pub(crate) columns: usize,
}

impl Rows {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        Self { values: vec![0.0; rows * columns], columns }
    }

    pub(crate) fn count(&self) -> usize {
        self.values.len() / self.columns
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }
}

/// A product's result: for each tile of [`LANES`] outputs one lane for each row.
#[derive(Debug)]
pub(crate) struct Tiles {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) rows: usize,
}

impl Tiles {
    /// The lanes of one row from tile `start` on, left to right.
    pub(crate) fn row(&self, row: usize, start: usize) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().skip(start * self.rows + row).step_by(self.rows)
    }

    /// The first `columns` outputs of every row, row by row.
    pub(crate) fn into_rows(self, columns: usize) -> Rows {
        if self.rows == 1 {
            // The lanes of a single row lie in its order.
            let mut values = self.lanes.into_flattened();
            values.truncate(columns);
            return Rows { values, columns };
        }
        let mut rows = Rows::zeros(self.rows, columns);
        rows.values.par_chunks_exact_mut(columns).enumerate().for_each(|(row, out)| {
            for (out, lanes) in out.chunks_mut(LANES).zip(self.row(row, 0)) {
                out.copy_from_slice(&lanes[..out.len()]);
            }
        });
        rows
    }
}

/// A matrix of weights, and a bias where the layer has one.
pub(crate) struct Matrix {
    weights: Weights,
    bias: Vec<Lane>,
    inputs: usize,
    outputs: usize,
}

/// In memory that all matrices of a decoder share.
enum Weights {
    F32(Piece<Lane>),
    F16(Piece<[u16; LANES]>),
    Int8(Piece<Block8>),
    Int4(Piece<Block4>),
    /// The same blocks for VNNI.
    WideInt8(Vnni, Piece<wide::Block<{ wide::BYTES }>>),
    WideInt4(Vnni, Piece<wide::Block<{ wide::NIBBLES }>>),
}

/// The left side of products, in the form that a storage reads.
#[derive(Debug)]
pub(crate) enum Left<'a> {
    Floats(FloatRows<'a>),
    Blocks(QuantizedRows),
}

impl<'a> Left<'a> {
    /// `rows` for all products with matrices of this storage.
    pub(crate) fn new(rows: &'a Rows, storage: Storage) -> Self {
        if storage.is_integer() {
            Self::Blocks(QuantizedRows::new(rows))
        } else {
            Self::Floats(FloatRows::new(rows))
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Floats(rows) => rows.count(),
            Self::Blocks(rows) => rows.count(),
        }
    }
}

impl Matrix {
    /// Packs PyTorch's layout, `weight[output][input]`, into memory of `pages`; `bias` is empty or as long
    /// as the outputs. `Err` says why the storage cannot hold it.
    pub(crate) fn new(
        pages: &mut Pages,
        weight: &[f32],
        bias: &[f32],
        inputs: usize,
        storage: Storage,
    ) -> Result<Self, String> {
        let outputs = weight.len() / inputs;
        storage.check(inputs)?;
        let weights = match storage {
            Storage::F32 => Weights::F32(pack::f32_lanes(pages, weight, inputs)),
            Storage::F16 => Weights::F16(pack::f16_lanes(pages, weight, inputs)?),
            Storage::Int8 => match Vnni::detect() {
                Some(vnni) => {
                    let blocks = pack::int8_blocks(pages, weight, inputs, blocks::widen);
                    Weights::WideInt8(vnni, blocks)
                }
                None => Weights::Int8(pack::int8_blocks(pages, weight, inputs, |block| *block)),
            },
            Storage::Int4 => match Vnni::detect() {
                Some(vnni) => {
                    let blocks = pack::int4_blocks(pages, weight, inputs, blocks::widen);
                    Weights::WideInt4(vnni, blocks)
                }
                None => Weights::Int4(pack::int4_blocks(pages, weight, inputs, |block| *block)),
            },
        };
        let mut padded = bias.to_vec();
        padded.resize(bias.len().next_multiple_of(LANES), 0.0);
        Ok(Self { weights, bias: padded.as_chunks::<LANES>().0.to_vec(), inputs, outputs })
    }

    /// Bytes of the weights, which one row's product reads.
    pub(crate) fn bytes(&self) -> usize {
        match &self.weights {
            Weights::F32(units) => size_of_val(&**units),
            Weights::F16(units) => size_of_val(&**units),
            Weights::Int8(units) => size_of_val(&**units),
            Weights::Int4(units) => size_of_val(&**units),
            Weights::WideInt8(_, units) => size_of_val(&**units),
            Weights::WideInt4(_, units) => size_of_val(&**units),
        }
    }

    /// The weights of one output, as the products see them.
    pub(crate) fn output(&self, output: usize) -> Vec<f32> {
        let (tile, lane) = (output / LANES, output % LANES);
        let (start, blocks) = (tile * self.inputs, self.inputs / BLOCK);
        match &self.weights {
            Weights::F32(lanes) => {
                lanes[start..start + self.inputs].iter().map(|lanes| lanes[lane]).collect()
            }
            Weights::F16(lanes) => {
                let lanes = lanes[start..start + self.inputs].iter();
                lanes.map(|lanes| from_f16(lanes[lane])).collect()
            }
            Weights::Int8(units) => {
                blocks::values(&units[tile * blocks..(tile + 1) * blocks], lane)
            }
            Weights::Int4(units) => {
                blocks::values(&units[tile * blocks..(tile + 1) * blocks], lane)
            }
            Weights::WideInt8(_, units) => {
                blocks::wide_values(&units[tile * blocks..(tile + 1) * blocks], lane)
            }
            Weights::WideInt4(_, units) => {
                blocks::wide_values(&units[tile * blocks..(tile + 1) * blocks], lane)
            }
        }
    }

    /// Computes `left * weight^T + bias`. `left` was made for this matrix's storage.
    pub(crate) fn product(&self, left: &Left<'_>) -> Tiles {
        let (rows, blocks) = (left.rows(), self.inputs / BLOCK);
        let mut lanes = vec![[0.0; LANES]; self.outputs.div_ceil(LANES) * rows];
        match (&self.weights, left) {
            (Weights::F32(weights), Left::Floats(left)) => {
                self.spread(&mut lanes, rows, weights, self.inputs, |weights, out| {
                    floats::tiles(left, weights, out);
                });
            }
            (Weights::F16(weights), Left::Floats(left)) => {
                self.spread(&mut lanes, rows, weights, self.inputs, |weights, out| {
                    floats::tiles(left, weights, out);
                });
            }
            (Weights::Int8(weights), Left::Blocks(left)) => {
                self.spread(&mut lanes, rows, weights, blocks, |weights, out| {
                    let tiles = weights.chunks_exact(blocks).zip(out.chunks_exact_mut(rows));
                    tiles.for_each(|(weights, out)| blocks::tile(left, weights, out));
                });
            }
            (Weights::Int4(weights), Left::Blocks(left)) => {
                self.spread(&mut lanes, rows, weights, blocks, |weights, out| {
                    let tiles = weights.chunks_exact(blocks).zip(out.chunks_exact_mut(rows));
                    tiles.for_each(|(weights, out)| blocks::tile(left, weights, out));
                });
            }
            (Weights::WideInt8(vnni, weights), Left::Blocks(left)) => {
                self.spread(&mut lanes, rows, weights, blocks, |weights, out| {
                    let tiles = weights.chunks_exact(blocks).zip(out.chunks_exact_mut(rows));
                    tiles.for_each(|(weights, out)| blocks::wide_tile(*vnni, left, weights, out));
                });
            }
            (Weights::WideInt4(vnni, weights), Left::Blocks(left)) => {
                self.spread(&mut lanes, rows, weights, blocks, |weights, out| {
                    let tiles = weights.chunks_exact(blocks).zip(out.chunks_exact_mut(rows));
                    tiles.for_each(|(weights, out)| blocks::wide_tile(*vnni, left, weights, out));
                });
            }
            (Weights::F32(_) | Weights::F16(_), Left::Blocks(_))
            | (
                Weights::Int8(_) | Weights::Int4(_) | Weights::WideInt8(..) | Weights::WideInt4(..),
                Left::Floats(_),
            ) => {
                debug_assert!(false, "the left side was made for another storage");
            }
        }
        Tiles { lanes, rows }
    }

    /// Runs `tiles` for the tiles of the result, which have `units` of the weights each, in runs of neighbours
    /// on all threads; then adds the bias.
    fn spread<W: Sync>(
        &self,
        lanes: &mut [Lane],
        rows: usize,
        weights: &[W],
        units: usize,
        tiles: impl Fn(&[W], &mut [Lane]) + Sync,
    ) {
        let runs = Runs::new(lanes, rows, weights, units);
        team::each(runs, |runs| {
            for run in runs {
                tiles(run.weights, run.lanes);
                let bias = self.bias.get(run.first..).unwrap_or_default();
                for (lanes, bias) in run.lanes.chunks_exact_mut(rows).zip(bias) {
                    for lane in lanes {
                        for (value, bias) in lane.iter_mut().zip(bias) {
                            *value += bias;
                        }
                    }
                }
            }
        });
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inputs, outputs) = (self.inputs, self.outputs);
        write!(formatter, "Matrix({inputs} to {outputs}, {} bytes)", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STORAGES: [Storage; 4] = [Storage::F32, Storage::F16, Storage::Int8, Storage::Int4];

    fn random(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn products_are_near_the_exact_ones(
            rows in 1_usize..9, blocks in 1_usize..5, outputs in 1_usize..40, seed in any::<u32>(),
        ) {
            let inputs = blocks * BLOCK;
            let weight = random(outputs * inputs, seed);
            let bias = random(outputs, seed ^ 1);
            let left = Rows { values: random(rows * inputs, seed ^ 2), columns: inputs };
            for (storage, limit) in STORAGES.into_iter().zip([1e-5, 2e-3, 2e-2, 0.3]) {
                let matrix = Matrix::new(&mut Pages::default(), &weight, &bias, inputs, storage).unwrap();
                let tiles = matrix.product(&Left::new(&left, storage));
                for row in 0..rows {
                    let values: Vec<f32> = tiles.row(row, 0).flatten().copied().collect();
                    for (output, bias) in bias.iter().enumerate() {
                        let weights = &weight[output * inputs..(output + 1) * inputs];
                        let pairs = weights.iter().zip(left.row(row));
                        let exact: f64 = pairs.map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                        let exact = exact + f64::from(*bias);
                        let error = (f64::from(values[output]) - exact).abs();
                        prop_assert!(error < limit * (inputs as f64).sqrt(), "{storage} {error}");
                    }
                }
            }
        }

        #[test]
        fn a_row_has_the_same_bits_alone_and_among_others(
            rows in 2_usize..12, seed in any::<u32>(),
        ) {
            let (inputs, outputs) = (96, 40);
            let weight = random(outputs * inputs, seed);
            let left = Rows { values: random(rows * inputs, seed ^ 2), columns: inputs };
            for storage in STORAGES {
                let matrix = Matrix::new(&mut Pages::default(), &weight, &[], inputs, storage).unwrap();
                let together = matrix.product(&Left::new(&left, storage));
                let as_rows = Tiles { lanes: together.lanes.clone(), rows }.into_rows(outputs - 3);
                for row in 0..rows {
                    let one = Rows { values: left.row(row).to_vec(), columns: inputs };
                    let alone = matrix.product(&Left::new(&one, storage));
                    let together: Vec<_> = together.row(row, 0).collect();
                    prop_assert_eq!(alone.lanes.iter().collect::<Vec<_>>(), together);
                    let alone = alone.into_rows(outputs - 3);
                    prop_assert_eq!(alone.row(0), as_rows.row(row));
                }
            }
        }
    }

    #[test]
    fn an_output_reads_back_near_what_was_packed() {
        let weight = random(20 * 64, 5);
        for (storage, limit) in STORAGES.into_iter().zip([0.0, 5e-4, 5e-3, 0.13]) {
            let matrix = Matrix::new(&mut Pages::default(), &weight, &[], 64, storage).unwrap();
            for (output, expected) in weight.chunks_exact(64).enumerate() {
                for (value, expected) in matrix.output(output).iter().zip(expected) {
                    assert!((value - expected).abs() <= limit, "{storage} {value} {expected}");
                }
            }
        }
    }

    #[test]
    fn names_read_back_as_written() {
        for storage in STORAGES {
            assert_eq!(storage.to_string().parse(), Ok(storage));
        }
        assert!("q8".parse::<Storage>().unwrap_err().contains("none of f32, f16, int8, int4"));
    }

    #[test]
    fn inputs_that_do_not_fill_blocks_are_refused() {
        let error =
            Matrix::new(&mut Pages::default(), &[0.0; 48], &[], 48, Storage::Int8).unwrap_err();
        assert!(error.contains("48 inputs are no multiple of 32"), "{error}");
        Matrix::new(&mut Pages::default(), &[0.0; 48], &[], 48, Storage::F16).unwrap();
    }
}
