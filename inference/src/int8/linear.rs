//! Linear layers: signed bytes times signed bytes, summed in 32 bits.

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::fixed::{STATE_MAX, bits, shift, state};
use crate::kernels::{LANES, product::Threads, vectorized};

/// Rows that are computed together: with two registers for each they fill 12 of AVX2's 16.
const ROWS: usize = 6;

/// Largest magnitude of a byte; -128 is left out so that the range is symmetric.
const BYTE_MAX: i32 = 127;

/// Fraction bits of a row's quantiser: 254 with so many has 30 bits.
const QUANTIZER_BITS: u32 = 22;

/// Bits of a factor that turns sums into states.
const FACTOR_BITS: i32 = 15;

/// Low bits of a sum that are multiplied apart, so that no product passes 31 bits.
const LOW_BITS: u32 = 10;

/// Most inputs: sums of so many products of a byte and of a byte with its row's zero have 26 bits.
pub(super) const INPUTS_MAX: usize = 2048;

/// Sums of one row of a panel.
type Sums = [i32; LANES];

/// Weights of one panel for two inputs, neighbouring inputs of a column side by side.
type Pairs = [[i16; 2]; LANES];

/// A linear layer.
#[derive(Debug)]
pub(super) struct Linear {
    /// `inputs / 2` pairs for each panel of outputs; bytes, widened for the multiplication.
    weight: Vec<Pairs>,
    /// Each column's scale, divided by [`BYTE_MAX`], with `factor_bits` fraction bits.
    factors: Vec<i32>,
    factor_bits: i32,
    /// In states.
    bias: Vec<i32>,
    /// Sum of each column's bytes, which a row's zero is multiplied by.
    totals: Vec<i32>,
    inputs: usize,
}

/// Rows of signed bytes. A byte `b` stands for `(b + zero) * reach / 127` states.
#[derive(Debug)]
pub(super) struct Quantized {
    /// For each group of [`ROWS`] rows, a pair of neighbouring inputs of each row.
    pairs: Vec<[[i16; 2]; ROWS]>,
    scales: Vec<Scale>,
}

/// How far a row's values reach from the middle between the lowest, the highest and zero, and that
/// middle as a byte: what GELU gives is hardly ever negative, and this way has all 8 bits.
#[derive(Clone, Copy, Debug)]
struct Scale {
    reach: i32,
    zero: i32,
}

impl Linear {
    /// Quantises PyTorch's layout, `weight[output][input]`, each output by its own scale.
    pub(super) fn new(weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let outputs = bias.len();
        let mut packed = vec![[[0; 2]; LANES]; outputs / LANES * inputs / 2];
        let mut scales = Vec::with_capacity(outputs);
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let scale = f64::from(largest) / f64::from(BYTE_MAX);
            scales.push(scale / f64::from(BYTE_MAX));
            for (input, value) in row.iter().enumerate() {
                // A row of zeros has no scale, and needs none.
                let byte = if largest == 0.0 { 0.0 } else { (f64::from(*value) / scale).round() };
                let pairs = &mut packed[output / LANES * inputs / 2 + input / 2];
                pairs[output % LANES][input % 2] = byte as i16;
            }
        }
        let largest = scales.iter().fold(0.0_f64, |largest, scale| largest.max(*scale));
        let mut factor_bits = 0;
        while factor_bits < 45 && largest * 2.0_f64.powi(factor_bits + 1) < 32_767.0 {
            factor_bits += 1;
        }
        let scaled = |scale: &f64| (scale * 2.0_f64.powi(factor_bits)).round().min(32_767.0) as i32;
        let mut totals = vec![0; outputs];
        for (panel, totals) in packed.chunks_exact(inputs / 2).zip(totals.chunks_exact_mut(LANES)) {
            for pairs in panel {
                for (total, pair) in totals.iter_mut().zip(pairs) {
                    *total += i32::from(pair[0]) + i32::from(pair[1]);
                }
            }
        }
        Self {
            weight: packed,
            totals,
            factors: scales.iter().map(scaled).collect(),
            factor_bits,
            bias: bias.iter().map(|bias| state(*bias)).collect(),
            inputs,
        }
    }

    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// All numbers, for a GPU: for each output its bytes, four to a word, and then its factor, its
    /// bias, its total and `factor_bits`.
    pub(super) fn columns(&self) -> Vec<i32> {
        let mut columns = Vec::with_capacity(self.outputs() * (self.inputs / 4 + 4));
        for output in 0..self.outputs() {
            let panel = &self.weight[output / LANES * self.inputs / 2..][..self.inputs / 2];
            let pairs = panel.iter().map(|pairs| pairs[output % LANES].map(|byte| byte as u8));
            let pairs: Vec<[u8; 2]> = pairs.collect();
            let word = |pairs: &[[u8; 2]; 2]| {
                i32::from_le_bytes([pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1]])
            };
            columns.extend(pairs.as_chunks::<2>().0.iter().map(word));
            let Self { factors, factor_bits, bias, totals, .. } = self;
            columns.extend([factors[output], bias[output], totals[output], *factor_bits]);
        }
        columns
    }

    /// The layer of `rows`, in states, row by row.
    pub(super) fn apply(&self, rows: &Quantized, threads: Threads) -> Vec<i32> {
        let count = rows.scales.len();
        let depth = self.inputs / 2;
        let mut panels = vec![[0; LANES]; self.outputs() / LANES * count];
        let panel = |(index, (weight, out)): (usize, (&[Pairs], &mut [Sums]))| {
            for (left, out) in rows.pairs.chunks_exact(depth).zip(out.chunks_mut(ROWS)) {
                block(left, weight, out);
            }
            vectorized(Rescale { layer: self, scales: &rows.scales, panel: index, out });
        };
        match threads {
            Threads::Alone => {
                let parts = self.weight.chunks_exact(depth).zip(panels.chunks_exact_mut(count));
                parts.enumerate().for_each(panel);
            }
            Threads::Spread => {
                let weights = self.weight.par_chunks_exact(depth);
                weights.zip(panels.par_chunks_exact_mut(count)).enumerate().for_each(panel);
            }
        }
        let mut out = vec![0; count * self.outputs()];
        for (panel, lanes) in panels.chunks_exact(count).enumerate() {
            for (row, lanes) in lanes.iter().enumerate() {
                let start = row * self.outputs() + panel * LANES;
                out[start..start + LANES].copy_from_slice(lanes);
            }
        }
        out
    }
}

/// Turns the sums of a panel into states: `sum * reach of the row * scale of the column / 127`.
struct Rescale<'a> {
    layer: &'a Linear,
    scales: &'a [Scale],
    panel: usize,
    out: &'a mut [Sums],
}

impl NullaryFnOnce for Rescale<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let columns = self.panel * LANES..(self.panel + 1) * LANES;
        let factors = &self.layer.factors[columns.clone()];
        let bias = &self.layer.bias[columns.clone()];
        let totals = &self.layer.totals[columns];
        for (sums, Scale { reach, zero }) in self.out.iter_mut().zip(self.scales) {
            let up = FACTOR_BITS - bits(*reach);
            let row = shift(*reach, -up);
            let down = self.layer.factor_bits - FACTOR_BITS + up - LOW_BITS as i32;
            // One of the two is zero; both are the same for a whole row, which keeps the loop plain.
            let (left, right) = ((-down).clamp(0, 31), down.clamp(0, 31));
            let columns = factors.iter().zip(bias).zip(totals);
            for (sum, ((factor, bias), total)) in sums.iter_mut().zip(columns) {
                let factor = (factor * row) >> FACTOR_BITS;
                let whole = *sum + zero * total;
                let low = whole & ((1 << LOW_BITS) - 1);
                let product = (whole >> LOW_BITS) * factor + ((low * factor) >> LOW_BITS);
                let value = (product << left) >> right;
                *sum = (value + bias).clamp(-STATE_MAX, STATE_MAX);
            }
        }
    }
}

/// Quantises rows of `width` states each, every row by its own scale.
pub(super) fn quantize(states: &[i32], width: usize) -> Quantized {
    vectorized(Quantize { states, width })
}

struct Quantize<'a> {
    states: &'a [i32],
    width: usize,
}

impl NullaryFnOnce for Quantize<'_> {
    type Output = Quantized;

    #[inline(always)]
    fn call(self) -> Quantized {
        let Self { states, width } = self;
        let count = states.len() / width;
        let mut pairs = vec![[[0; 2]; ROWS]; count.div_ceil(ROWS) * width / 2];
        let mut scales = Vec::with_capacity(count);
        for (index, row) in states.chunks_exact(width).enumerate() {
            let (mut lowest, mut highest) = (0, 0);
            for value in row {
                lowest = lowest.min(*value);
                highest = highest.max(*value);
            }
            let middle = (lowest + highest) >> 1;
            let reach = (highest - middle).max(middle - lowest).max(1);
            let quantizer = (BYTE_MAX << QUANTIZER_BITS) / reach;
            let half = 1 << (QUANTIZER_BITS - 1);
            let step = |value: i32| (value * quantizer + half) >> QUANTIZER_BITS;
            let zero = step(middle);
            let byte = |value: i32| (step(value) - zero).clamp(-BYTE_MAX, BYTE_MAX) as i16;
            let group = &mut pairs[index / ROWS * width / 2..];
            for (pairs, values) in group.iter_mut().zip(row.as_chunks::<2>().0) {
                pairs[index % ROWS] = values.map(byte);
            }
            scales.push(Scale { reach, zero });
        }
        Quantized { pairs, scales }
    }
}

/// Up to [`ROWS`] rows of a panel. The sums are exact, so who adds them in which order is free.
fn block(left: &[[[i16; 2]; ROWS]], right: &[Pairs], out: &mut [Sums]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        simd.vectorize(avx2::Block { simd, left, right, out });
        return;
    }
    plain(left, right, out);
}

fn plain(left: &[[[i16; 2]; ROWS]], right: &[Pairs], out: &mut [Sums]) {
    for (row, out) in out.iter_mut().enumerate() {
        let mut sums = [0; LANES];
        for (left, right) in left.iter().zip(right) {
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += i32::from(left[row][0]) * i32::from(right[0])
                    + i32::from(left[row][1]) * i32::from(right[1]);
            }
        }
        *out = sums;
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::__m256i;

    use pulp::{NullaryFnOnce, cast, x86::V3};

    use super::{LANES, Pairs, ROWS, Sums};

    /// [`plain`](super::plain) by the instruction that multiplies pairs and adds each pair.
    pub(super) struct Block<'a> {
        pub(super) simd: V3,
        pub(super) left: &'a [[[i16; 2]; ROWS]],
        pub(super) right: &'a [Pairs],
        pub(super) out: &'a mut [Sums],
    }

    impl NullaryFnOnce for Block<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Self { simd, left, right, out } = self;
            let zero: __m256i = cast([0_i32; LANES / 2]);
            let mut sums = [[zero; 2]; ROWS];
            for (left, right) in left.iter().zip(right) {
                let right: [__m256i; 2] = cast(*right);
                for (sums, left) in sums.iter_mut().zip(left) {
                    let left = simd.avx._mm256_set1_epi32(cast(*left));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        let products = simd.avx2._mm256_madd_epi16(left, right);
                        *sum = simd.avx2._mm256_add_epi32(*sum, products);
                    }
                }
            }
            for (out, sums) in out.iter_mut().zip(sums) {
                *out = cast(sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_layer_is_near_the_real_one_and_the_same_on_every_path(
            count in 1_usize..14, inputs in prop::sample::select(vec![16_usize, 64, 384]),
            magnitude in 5_u32..19, seed in any::<u32>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            };
            let outputs = 32;
            let weight: Vec<f32> = (0..outputs * inputs).map(|_| 0.2 * next()).collect();
            let bias: Vec<f32> = (0..outputs).map(|_| next()).collect();
            let states: Vec<i32> =
                (0..count * inputs).map(|_| (next() * (1 << magnitude) as f32) as i32).collect();
            let layer = Linear::new(&weight, &bias, inputs);
            let rows = quantize(&states, inputs);
            let out = layer.apply(&rows, Threads::Alone);
            prop_assert_eq!(&out, &layer.apply(&rows, Threads::Spread));

            for (row, out) in states.chunks_exact(inputs).zip(out.chunks_exact(outputs)) {
                let largest = row.iter().map(|x| x.abs()).max().unwrap_or(0);
                // Half a step of the row and of a weight for each input, as independent errors.
                let real = f64::from(largest) / 4096.0;
                let bound = 0.01 * 0.2 * real * (inputs as f64).sqrt() * 3.0 + 0.005;
                for (output, value) in out.iter().enumerate() {
                    let products = row.iter().zip(&weight[output * inputs..]);
                    let sum: f64 = products.map(|(x, w)| f64::from(*x) / 4096.0 * f64::from(*w)).sum();
                    let expected = (sum + f64::from(bias[output])).clamp(-256.0, 256.0);
                    let value = f64::from(*value) / 4096.0;
                    prop_assert!((value - expected).abs() <= bound, "{value} {expected} {bound}");
                }
            }
        }

        #[test]
        fn the_vector_instructions_give_the_plain_sums(
            rows in 1_usize..=ROWS,
            left in prop::collection::vec(any::<[[i8; 2]; ROWS]>(), 1..40),
            seed in any::<u32>(),
        ) {
            let left: Vec<[[i16; 2]; ROWS]> =
                left.iter().map(|rows| rows.map(|pair| pair.map(i16::from))).collect();
            let mut state = seed;
            let right: Vec<Pairs> = left.iter().map(|_| std::array::from_fn(|_| std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                i16::from((state >> 24) as i8)
            }))).collect();
            let (mut fast, mut slow) = (vec![[0; LANES]; rows], vec![[0; LANES]; rows]);
            block(&left, &right, &mut fast);
            plain(&left, &right, &mut slow);
            prop_assert_eq!(fast, slow);
        }
    }
}
