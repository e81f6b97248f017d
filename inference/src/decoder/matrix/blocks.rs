//! Products with weights that are blocks of small integers.

use auspex_avx512::{Vnni, blocks as wide};
use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::{
    Rows,
    floats::{from_f16, halves},
};
use crate::kernels::{LANES, Lane, vectorized};

/// Inputs that share a scale.
pub(crate) const BLOCK: usize = 32;

/// Two neighbouring inputs, which one instruction multiplies and adds.
const PAIRS: usize = BLOCK / 2;

/// Rows that are computed together: with two registers of sums for each, eight of AVX2's 16.
const ROWS: usize = 4;

/// `BLOCK` inputs to [`LANES`] outputs in 8 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Block8 {
    /// What one step is worth, as `f16`, for each output.
    scales: [u16; LANES],
    /// For each pair of inputs: both weights of the first output, of the second, and so on.
    levels: [[i8; 2 * LANES]; PAIRS],
}

/// `BLOCK` inputs to [`LANES`] outputs in 4 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Block4 {
    scales: [u16; LANES],
    /// As in [`Block8`], each level plus 8: pair `n` in the low halves of bytes, pair
    /// `n + PAIRS / 2` in the high ones.
    levels: [[u8; 2 * LANES]; PAIRS / 2],
}

impl Default for Block8 {
    fn default() -> Self {
        Self { scales: [0; LANES], levels: [[0; 2 * LANES]; PAIRS] }
    }
}

impl Default for Block4 {
    fn default() -> Self {
        Self { scales: [0; LANES], levels: [[0; 2 * LANES]; PAIRS / 2] }
    }
}

impl Block8 {
    pub(super) fn set(&mut self, lane: usize, scale: u16, levels: impl Iterator<Item = i8>) {
        self.scales[lane] = scale;
        for (input, level) in levels.enumerate() {
            self.levels[input / 2][2 * lane + input % 2] = level;
        }
    }
}

impl Block4 {
    pub(super) fn set(&mut self, lane: usize, scale: u16, levels: impl Iterator<Item = i8>) {
        self.scales[lane] = scale;
        for (input, level) in levels.enumerate() {
            let (pair, place) = (input / 2, 2 * lane + input % 2);
            let shift = if pair < PAIRS / 2 { 0 } else { 4 };
            self.levels[pair % (PAIRS / 2)][place] |= ((level + 8) as u8) << shift;
        }
    }
}

/// Levels of `BLOCK` inputs, two in a word: the first in its low 16 bits, the second in its high
/// ones, because the products read pairs of 16 bits.
type Levels = [i32; PAIRS];

/// Rows of activations in 8 bits, each block of `BLOCK` with its own scale.
#[derive(Debug)]
pub(crate) struct QuantizedRows {
    blocks: RowBlocks,
    scales: Vec<f32>,
    /// Blocks of one row.
    width: usize,
}

/// The levels of rows, as the CPU's instructions read them.
#[derive(Debug)]
enum RowBlocks {
    /// Row by row.
    Pairs(Vec<Levels>),
    /// Rows that are computed together lie together: block by block, and in each row by row.
    Quads(Vec<wide::Levels>),
}

/// Most rows that are computed together by AVX-512: with two registers for each, 16 of its 32.
pub(super) const GROUP_MAX: usize = 8;

/// How many of `left` rows AVX-512 computes together next.
pub(super) fn group(left: usize) -> usize {
    match left {
        GROUP_MAX.. => GROUP_MAX,
        4.. => 4,
        _ => 1,
    }
}

impl QuantizedRows {
    pub(super) fn new(rows: &Rows) -> Self {
        let Some(vnni) = Vnni::detect() else { return Self::pairs(rows) };
        Self::with(rows, group, RowBlocks::Quads, |row| {
            vnni.round(row.blocks, row.levels, row.scales, row.first, row.step);
        })
    }

    /// Rows as the code for all other CPUs reads them.
    fn pairs(rows: &Rows) -> Self {
        Self::with(rows, |_| 1, RowBlocks::Pairs, |row| vectorized(Round(row)))
    }

    /// Rounds `rows`, of which `group` says how many of so many that are left lie together.
    fn with<L: Clone + Default + Send>(
        rows: &Rows,
        group: impl Fn(usize) -> usize + Sync,
        form: impl Fn(Vec<L>) -> RowBlocks,
        round: impl Fn(RoundRow<'_, L>) + Sync,
    ) -> Self {
        let (blocks, _) = rows.values.as_chunks::<BLOCK>();
        let mut levels = vec![L::default(); blocks.len()];
        let mut scales = vec![0.0; blocks.len()];
        let width = rows.columns / BLOCK;
        let chunk = GROUP_MAX * width;
        let into = levels.par_chunks_mut(chunk).zip(scales.par_chunks_mut(chunk));
        into.zip(blocks.par_chunks(chunk)).for_each(|((levels, scales), blocks)| {
            let (mut start, count) = (0, blocks.len() / width);
            while start < count {
                let step = group(count - start);
                let rows = start * width..(start + step) * width;
                let (levels, scales) = (&mut levels[rows.clone()], &mut scales[rows.clone()]);
                for (first, blocks) in blocks[rows].chunks_exact(width).enumerate() {
                    let (levels, scales) = (&mut *levels, &mut *scales);
                    round(RoundRow { blocks, levels, scales, first, step });
                }
                start += step;
            }
        });
        Self { blocks: form(levels), scales, width }
    }

    pub(super) fn count(&self) -> usize {
        self.scales.len() / self.width
    }
}

/// One row of a group.
struct RoundRow<'a, L> {
    blocks: &'a [[f32; BLOCK]],
    /// The group's levels and scales, of which every `step`th from `first` on is the row's.
    levels: &'a mut [L],
    scales: &'a mut [f32],
    first: usize,
    step: usize,
}

struct Round<'a>(RoundRow<'a, Levels>);

impl NullaryFnOnce for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        /// Adding and subtracting 1.5 * 2^23 rounds to an integer, ties to even.
        const ROUND: f32 = 12_582_912.0;
        let RoundRow { blocks, levels: into, scales, first, step } = self.0;
        let into = into.iter_mut().zip(scales).skip(first).step_by(step);
        for (values, (into, scale)) in blocks.iter().zip(into) {
            let mut largest = [0.0_f32; LANES];
            for (index, value) in values.iter().enumerate() {
                largest[index % LANES] = largest[index % LANES].max(value.abs());
            }
            let largest = crate::kernels::max(largest);
            *scale = largest / 127.0;
            let factor = wide::row_factor(largest);
            let mut levels = [0; BLOCK];
            for (level, value) in levels.iter_mut().zip(values) {
                *level = ((value * factor + ROUND) - ROUND) as i32;
            }
            for (pair, [first, second]) in into.iter_mut().zip(levels.as_chunks::<2>().0) {
                *pair = (first & 0xffff) | second << 16;
            }
        }
    }
}

/// Weights of `BLOCK` inputs to [`LANES`] outputs.
pub(super) trait Block: Copy + Sync {
    fn scales(&self) -> &[u16; LANES];

    /// The levels of one pair of inputs.
    fn pair(&self, pair: usize) -> [i8; 2 * LANES];
}

impl Block for Block8 {
    #[inline(always)]
    fn scales(&self) -> &[u16; LANES] {
        &self.scales
    }

    #[inline(always)]
    fn pair(&self, pair: usize) -> [i8; 2 * LANES] {
        self.levels[pair]
    }
}

impl Block for Block4 {
    #[inline(always)]
    fn scales(&self) -> &[u16; LANES] {
        &self.scales
    }

    #[inline(always)]
    fn pair(&self, pair: usize) -> [i8; 2 * LANES] {
        if pair < PAIRS / 2 {
            nibbles(&self.levels[pair], 0)
        } else {
            nibbles(&self.levels[pair - PAIRS / 2], 4)
        }
    }
}

/// Levels out of halves of bytes. A loop and not `map`, which would be a call into code that was
/// compiled for every machine.
#[inline(always)]
fn nibbles(bytes: &[u8; 2 * LANES], shift: u32) -> [i8; 2 * LANES] {
    let mut levels = [0; 2 * LANES];
    for (level, byte) in levels.iter_mut().zip(bytes) {
        *level = (byte >> shift & 15) as i8 - 8;
    }
    levels
}

/// The weights of one output of a tile.
pub(super) fn values<B: Block>(tile: &[B], lane: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(tile.len() * BLOCK);
    for block in tile {
        let step = from_f16(block.scales()[lane]);
        for pair in 0..PAIRS {
            let levels = block.pair(pair);
            values.extend(
                levels[2 * lane..2 * lane + 2].iter().map(|level| f32::from(*level) * step),
            );
        }
    }
    values
}

/// A block for VNNI, with the levels of another one.
pub(super) fn widen<B: Block, const N: usize>(block: &B) -> wide::Block<N> {
    let mut widened = wide::Block { scales: *block.scales(), quads: [[0; LANES]; N] };
    for lane in 0..LANES {
        let level = |input: usize| i32::from(block.pair(input / 2)[2 * lane + input % 2]);
        widened.set(lane, std::array::from_fn(level));
    }
    widened
}

/// The weights of one output of a tile of blocks for VNNI.
pub(super) fn wide_values<const N: usize>(tile: &[wide::Block<N>], lane: usize) -> Vec<f32> {
    let value = |block: &wide::Block<N>, input: usize| {
        block.level(lane, input) as f32 * from_f16(block.scales[lane])
    };
    tile.iter().flat_map(|block| (0..BLOCK).map(move |input| value(block, input))).collect()
}

/// One tile of a product, by VNNI.
pub(super) fn wide_tile<const N: usize>(
    vnni: Vnni,
    left: &QuantizedRows,
    weights: &[wide::Block<N>],
    out: &mut [Lane],
) {
    let RowBlocks::Quads(blocks) = &left.blocks else { return };
    let (mut first, mut rest) = (0, out);
    while !rest.is_empty() {
        let size = group(rest.len());
        let rows = first * left.width..(first + size) * left.width;
        let (levels, scales) = (&blocks[rows.clone()], &left.scales[rows]);
        let (now, later) = rest.split_at_mut(size);
        match size {
            GROUP_MAX => together::<N, GROUP_MAX>(vnni, levels, scales, weights, now),
            4 => together::<N, 4>(vnni, levels, scales, weights, now),
            _ => together::<N, 1>(vnni, levels, scales, weights, now),
        }
        first += size;
        rest = later;
    }
}

/// `R` rows that lie together.
fn together<const N: usize, const R: usize>(
    vnni: Vnni,
    levels: &[wide::Levels],
    scales: &[f32],
    weights: &[wide::Block<N>],
    out: &mut [Lane],
) {
    let Some(out) = out.first_chunk_mut::<R>() else { return };
    vnni.blocks(levels.as_chunks::<R>().0, scales.as_chunks::<R>().0, weights, out);
}

/// One tile of a product.
pub(super) fn tile<B: Block>(left: &QuantizedRows, weights: &[B], out: &mut [Lane]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(Tile { left, weights, out, dot: Avx2(simd) });
    }
    Tile { left, weights, out, dot: Portable }.call();
}

struct Tile<'a, B, D> {
    left: &'a QuantizedRows,
    weights: &'a [B],
    out: &'a mut [Lane],
    dot: D,
}

impl<B: Block, D: Dot> NullaryFnOnce for Tile<'_, B, D> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { left, weights, out, dot } = self;
        let mut row = 0;
        let mut chunks = out.chunks_exact_mut(ROWS);
        for out in &mut chunks {
            rows::<B, D, ROWS>(left, row, weights, out, dot);
            row += ROWS;
        }
        let out = chunks.into_remainder();
        match out.len() {
            1 => rows::<B, D, 1>(left, row, weights, out, dot),
            2 => rows::<B, D, 2>(left, row, weights, out, dot),
            3 => rows::<B, D, 3>(left, row, weights, out, dot),
            _ => {}
        }
    }
}

/// `R` rows from `row` on.
#[inline(always)]
fn rows<B: Block, D: Dot, const R: usize>(
    left: &QuantizedRows,
    row: usize,
    weights: &[B],
    out: &mut [Lane],
    dot: D,
) {
    let width = left.width;
    let RowBlocks::Pairs(pairs) = &left.blocks else { return };
    let blocks: [&[Levels]; R] = std::array::from_fn(|index| {
        let start = (row + index) * width;
        &pairs[start..start + width][..weights.len()]
    });
    let scales: [&[f32]; R] = std::array::from_fn(|index| {
        let start = (row + index) * width;
        &left.scales[start..start + width][..weights.len()]
    });
    let mut sums = [[0.0; LANES]; R];
    for (index, weights) in weights.iter().enumerate() {
        let products = dot.block::<B, R>(weights, std::array::from_fn(|row| &blocks[row][index]));
        let steps = halves(weights.scales());
        for ((sums, products), scales) in sums.iter_mut().zip(products).zip(&scales) {
            let scale = scales[index];
            for ((sum, product), step) in sums.iter_mut().zip(products).zip(&steps) {
                *sum = (product as f32).mul_add(scale * step, *sum);
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = sums;
    }
}

/// The exact part: sums of `BLOCK` products of levels, which are below 2^20.
trait Dot: Copy {
    fn block<B: Block, const R: usize>(self, weights: &B, rows: [&Levels; R]) -> [[i32; LANES]; R];
}

/// For every machine.
#[derive(Clone, Copy)]
struct Portable;

impl Dot for Portable {
    #[inline(always)]
    fn block<B: Block, const R: usize>(self, weights: &B, rows: [&Levels; R]) -> [[i32; LANES]; R] {
        let mut sums = [[0; LANES]; R];
        for pair in 0..PAIRS {
            let weights = weights.pair(pair);
            for (sums, row) in sums.iter_mut().zip(rows) {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let (first, second) = (i32::from(row[pair] as i16), row[pair] >> 16);
                    *sum += i32::from(weights[2 * lane]) * first
                        + i32::from(weights[2 * lane + 1]) * second;
                }
            }
        }
        sums
    }
}

/// For x86 with AVX2, whose `vpmaddwd` multiplies pairs and adds the two products.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx2(pulp::x86::V3);

#[cfg(target_arch = "x86_64")]
impl Dot for Avx2 {
    #[inline(always)]
    fn block<B: Block, const R: usize>(self, weights: &B, rows: [&Levels; R]) -> [[i32; LANES]; R] {
        use pulp::bytemuck::cast;
        use std::arch::x86_64::{__m128i, __m256i};

        let (avx, avx2) = (self.0.avx, self.0.avx2);
        let mut sums: [[__m256i; 2]; R] = [[avx._mm256_setzero_si256(); 2]; R];
        for pair in 0..PAIRS {
            let [low, high]: [__m128i; 2] = cast(weights.pair(pair));
            let weights = [avx2._mm256_cvtepi8_epi16(low), avx2._mm256_cvtepi8_epi16(high)];
            for (sums, row) in sums.iter_mut().zip(rows) {
                let factors = avx._mm256_set1_epi32(row[pair]);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = avx2._mm256_add_epi32(*sum, avx2._mm256_madd_epi16(weights, factors));
                }
            }
        }
        let mut lanes = [[0; LANES]; R];
        for (lanes, sums) in lanes.iter_mut().zip(sums) {
            *lanes = cast(sums);
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use auspex_avx512::pages::{Pages, Piece};

    use super::{super::pack, *};

    #[test]
    fn blocks_keep_every_level() {
        let levels = |lane: usize| (0..BLOCK).map(move |input| ((lane + input) % 16) as i8 - 8);
        let (mut eight, mut four) = (Block8::default(), Block4::default());
        for lane in 0..LANES {
            eight.set(lane, lane as u16, levels(lane));
            four.set(lane, lane as u16, levels(lane));
        }
        for pair in 0..PAIRS {
            assert_eq!(eight.pair(pair), four.pair(pair));
            for lane in 0..LANES {
                let expected: Vec<i8> = levels(lane).skip(2 * pair).take(2).collect();
                assert_eq!(eight.pair(pair)[2 * lane..2 * lane + 2], expected);
            }
        }
    }

    fn eight(weight: &[f32]) -> Piece<Block8> {
        pack::int8_blocks(&mut Pages::default(), weight, 96, |block| *block)
    }

    fn four(weight: &[f32]) -> Piece<Block4> {
        pack::int4_blocks(&mut Pages::default(), weight, 96, |block| *block)
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn instructions_and_portable_code_give_the_same_bits() {
        let Some(simd) = pulp::x86::V3::try_new() else { return };
        let mut state = 9_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let weight: Vec<f32> = (0..LANES * 96).map(|_| next()).collect();
        let rows = Rows { values: (0..7 * 96).map(|_| next() * 3.0).collect(), columns: 96 };
        let left = QuantizedRows::pairs(&rows);
        fn both<B: Block>(left: &QuantizedRows, weights: &[B], simd: pulp::x86::V3) {
            let mut out = [[0.0; LANES]; 7];
            let mut portable = [[0.0; LANES]; 7];
            simd.vectorize(Tile { left, weights, out: &mut out, dot: Avx2(simd) });
            Tile { left, weights, out: &mut portable, dot: Portable }.call();
            assert_eq!(out, portable);
            assert_ne!(out[0], [0.0; LANES]);
        }
        both(&left, &eight(&weight), simd);
        both(&left, &four(&weight), simd);
    }

    #[test]
    fn vnni_gives_the_same_bits() {
        let Some(vnni) = Vnni::detect() else { return };
        let mut state = 19_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let weight: Vec<f32> = (0..LANES * 96).map(|_| next()).collect();
        let rows = Rows { values: (0..15 * 96).map(|_| next() * 3.0).collect(), columns: 96 };
        let quads = QuantizedRows::new(&rows);
        assert!(matches!(quads.blocks, RowBlocks::Quads(_)));
        let left = QuantizedRows::pairs(&rows);
        let mut expected = [[0.0; LANES]; 15];
        let mut out = [[1.0; LANES]; 15];
        let eight = eight(&weight);
        tile(&left, &eight, &mut expected);
        let widened: Vec<_> = eight.iter().map(widen::<_, { wide::BYTES }>).collect();
        wide_tile(vnni, &quads, &widened, &mut out);
        assert_eq!(out, expected);
        assert_eq!(wide_values(&widened, 3), values(&eight, 3));
        let four = four(&weight);
        tile(&left, &four, &mut expected);
        let widened: Vec<_> = four.iter().map(widen::<_, { wide::NIBBLES }>).collect();
        wide_tile(vnni, &quads, &widened, &mut out);
        assert_eq!(out, expected);
        assert_eq!(wide_values(&widened, 3), values(&four, 3));
    }

    #[test]
    fn rows_are_rounded_alike_on_every_cpu() {
        let mut state = 3_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let mut values: Vec<f32> = (0..13 * 96).map(|_| next()).collect();
        // Halves of steps, no number, no end, nothing, and too little for any step.
        for (index, value) in values[..BLOCK].iter_mut().enumerate() {
            *value = index as f32 - 15.5;
        }
        values[BLOCK - 1] = 127.0;
        values[BLOCK + 3] = f32::NAN;
        values[2 * BLOCK + 5] = f32::INFINITY;
        values[3 * BLOCK..4 * BLOCK].fill(-0.0);
        values[4 * BLOCK..5 * BLOCK].fill(-1e-40);
        let rows = Rows { values, columns: 96 };
        let (fast, plain) = (QuantizedRows::new(&rows), QuantizedRows::pairs(&rows));
        let RowBlocks::Pairs(pairs) = &plain.blocks else { unreachable!("made as pairs") };
        let RowBlocks::Quads(quads) = &fast.blocks else { return };
        for row in 0..13 {
            // Eight rows lie together, then four, then one.
            let (start, size) = [(0, 8), (8, 4), (12, 1)][row / 8 + row / 12];
            for block in 0..3 {
                let (one, other) = (row * 3 + block, start * 3 + block * size + row - start);
                let levels: Vec<i32> = pairs[one]
                    .iter()
                    .flat_map(|pair| [i32::from(*pair as i16), pair >> 16])
                    .collect();
                let bytes = quads[other].quads.iter().flat_map(|quad| quad.to_le_bytes());
                assert_eq!(bytes.map(|byte| i32::from(byte as i8)).collect::<Vec<_>>(), levels);
                assert_eq!(quads[other].sum, levels.iter().sum::<i32>());
                assert_eq!(fast.scales[other].to_bits(), plain.scales[one].to_bits());
            }
        }
        assert!(pairs[3..5].iter().flatten().all(|pair| *pair == 0), "{:?}", &pairs[3..5]);
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        let left = QuantizedRows::pairs(&Rows { values: vec![0.0; BLOCK], columns: BLOCK });
        let zeros = [0.0; LANES * BLOCK];
        let weights = pack::int8_blocks(&mut Pages::default(), &zeros, BLOCK, |block| *block);
        let mut out = [[1.0; LANES]; 1];
        tile(&left, &weights, &mut out);
        assert_eq!(out, [[0.0; LANES]]);
    }
}
