//! Linear layers: signed bytes times signed bytes, summed in 32 bits.

use std::ops::Range;

use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::{
    fixed::{STATE_MAX, Tables, bits, gelu_step, shift, state},
    quantize::{BYTE_MAX, Quantized, Scale},
    sums::{Sums, TILE_ROWS, Way, Weights},
};
use crate::kernels::{LANES, product::Threads, vectorized};

/// Bits of a factor that turns sums into states.
const FACTOR_BITS: i32 = 15;

/// Low bits of a sum that are multiplied apart, so that no product passes 31 bits: sums of up to 2,048
/// products of a byte and of a byte with its row's zero have 26 bits, sums of twice as many one more.
pub(super) fn low_bits(inputs: usize) -> u32 {
    if inputs <= INPUTS_MAX / 2 { 10 } else { 11 }
}

/// Most inputs.
pub(super) const INPUTS_MAX: usize = 4096;

/// Parts of a layer for each thread, so that a thread that was held up does not hold up all.
const SHARES: usize = 2;

/// A linear layer.
#[derive(Debug)]
pub(super) struct Linear {
    weights: Weights,
    /// Each column's scale, divided by [`BYTE_MAX`], with `factor_bits` fraction bits.
    factors: Vec<i32>,
    factor_bits: i32,
    /// In states.
    bias: Vec<i32>,
    /// Sum of each column's bytes, which a row's zero is multiplied by.
    totals: Vec<i32>,
    inputs: usize,
}

impl Linear {
    /// Quantises PyTorch's layout, `weight[output][input]`, each output by its own scale. Both widths
    /// are multiples of [`LANES`].
    pub(super) fn new(weight: &[f32], bias: &[f32], inputs: usize, way: Way) -> Self {
        let mut bytes = Vec::with_capacity(weight.len());
        let mut scales = Vec::with_capacity(bias.len());
        for row in weight.chunks_exact(inputs) {
            let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let scale = f64::from(largest) / f64::from(BYTE_MAX);
            scales.push(scale / f64::from(BYTE_MAX));
            // A row of zeros has no scale, and needs none.
            let byte = |value: &f32| match largest == 0.0 {
                true => 0,
                false => (f64::from(*value) / scale).round() as i8,
            };
            bytes.extend(row.iter().map(byte));
        }
        let largest = scales.iter().fold(0.0_f64, |largest, scale| largest.max(*scale));
        let mut factor_bits = 0;
        while factor_bits < 45 && largest * 2.0_f64.powi(factor_bits + 1) < 32_767.0 {
            factor_bits += 1;
        }
        let scaled = |scale: &f64| (scale * 2.0_f64.powi(factor_bits)).round().min(32_767.0) as i32;
        let total = |row: &[i8]| row.iter().map(|byte| i32::from(*byte)).sum();
        Self {
            totals: bytes.chunks_exact(inputs).map(total).collect(),
            weights: Weights::pack(&bytes, inputs, way),
            factors: scales.iter().map(scaled).collect(),
            factor_bits,
            bias: bias.iter().map(|bias| state(*bias)).collect(),
            inputs,
        }
    }

    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// How rows have to be quantised for this layer.
    pub(super) fn way(&self) -> Way {
        self.weights.way()
    }

    /// All numbers, for a GPU: for each output its bytes, four to a word, and then its factor, its
    /// bias, its total and `factor_bits`.
    pub(super) fn columns(&self) -> Vec<i32> {
        let mut columns = Vec::with_capacity(self.outputs() * (self.inputs / 4 + 4));
        for output in 0..self.outputs() {
            columns.extend((0..self.inputs / 4).map(|quad| {
                let bytes = [0, 1, 2, 3].map(|index| {
                    self.weights.byte(output, 4 * quad + index, self.inputs).cast_unsigned()
                });
                i32::from_le_bytes(bytes)
            }));
            let Self { factors, factor_bits, bias, totals, .. } = self;
            columns.extend([factors[output], bias[output], totals[output], *factor_bits]);
        }
        columns
    }

    /// The layer of `rows`, in states, row by row, behind GELU if its tables are given.
    pub(super) fn apply(
        &self,
        rows: &Quantized,
        gelu: Option<&Tables>,
        threads: Threads,
    ) -> Vec<i32> {
        let panels = self.outputs() / LANES;
        let width = match threads {
            Threads::Alone => return self.share(rows, gelu, 0..panels),
            Threads::Spread => {
                panels.div_ceil(SHARES * rayon::current_num_threads()).next_multiple_of(2)
            }
        };
        let ranges: Vec<Range<usize>> =
            (0..panels).step_by(width).map(|start| start..panels.min(start + width)).collect();
        let shares: Vec<Vec<i32>> =
            ranges.par_iter().map(|range| self.share(rows, gelu, range.clone())).collect();
        let mut out = Vec::with_capacity(rows.scales.len() * self.outputs());
        for row in 0..rows.scales.len() {
            for (range, share) in ranges.iter().zip(&shares) {
                let columns = range.len() * LANES;
                out.extend_from_slice(&share[row * columns..(row + 1) * columns]);
            }
        }
        out
    }

    /// The columns of some panels, row by row.
    fn share(&self, rows: &Quantized, gelu: Option<&Tables>, panels: Range<usize>) -> Vec<i32> {
        let width = panels.len() * LANES;
        let mut out = vec![0; rows.scales.len() * width];
        let mut sums = [[[0; LANES]; TILE_ROWS]; 2];
        let mut buffers = [[[0; LANES]; TILE_ROWS]; 2];
        for panel in panels.clone().step_by(2) {
            let tiles = out.chunks_mut(TILE_ROWS * width).zip(rows.scales.chunks(TILE_ROWS));
            for (tile, (out, scales)) in tiles.enumerate() {
                self.weights.tile(&rows.rows, tile, panel, self.inputs, &mut sums);
                for (panel, sums) in (panel..panels.end).zip(&sums) {
                    let column = (panel - panels.start) * LANES;
                    let out = &mut out[column..];
                    let buffers = &mut buffers;
                    vectorized(Rescale {
                        layer: self,
                        scales,
                        panel,
                        sums,
                        buffers,
                        out,
                        width,
                        gelu,
                    });
                }
            }
        }
        out
    }
}

/// Turns sums of a panel into states: `sum * reach of the row * scale of the column / 127`.
struct Rescale<'a> {
    layer: &'a Linear,
    scales: &'a [Scale],
    panel: usize,
    sums: &'a [Sums],
    /// Of any content: states, and what GELU lacks.
    buffers: &'a mut [[Sums; TILE_ROWS]; 2],
    /// From the panel's first column on; a row begins every `width` values.
    out: &'a mut [i32],
    width: usize,
    gelu: Option<&'a Tables>,
}

impl NullaryFnOnce for Rescale<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { layer, scales, panel, sums, buffers: [states, tails], out, width, gelu } = self;
        let panel_of = |values: &[i32]| -> Sums { values.as_chunks().0[panel] };
        let factors = panel_of(&layer.factors);
        let bias = panel_of(&layer.bias);
        let totals = panel_of(&layer.totals);
        let offset = layer.weights.offset();
        let low_bits = low_bits(layer.inputs);
        let rows = states.iter_mut().zip(scales).zip(sums);
        for ((states, Scale { reach, zero }), sums) in rows {
            let up = FACTOR_BITS - bits(*reach);
            let row = shift(*reach, -up);
            let down = layer.factor_bits - FACTOR_BITS + up - low_bits as i32;
            // One of the two is zero; both are the same for a whole row, which keeps the loop plain.
            let (left, right) = ((-down).clamp(0, 31), down.clamp(0, 31));
            for lane in 0..LANES {
                let factor = (factors[lane] * row) >> FACTOR_BITS;
                let whole = sums[lane] + (zero - offset) * totals[lane];
                let low = whole & ((1 << low_bits) - 1);
                let product = (whole >> low_bits) * factor + ((low * factor) >> low_bits);
                let value = (product << left) >> right;
                states[lane] = (value + bias[lane]).clamp(-STATE_MAX, STATE_MAX);
            }
        }
        if let Some(tables) = gelu {
            gelu_of(tables, states, tails);
        }
        for ((out, states), _) in out.chunks_mut(width).zip(states).zip(scales) {
            if let Some(out) = out.first_chunk_mut() {
                *out = *states;
            }
        }
    }
}

/// Replaces states by their GELU. The reads from the table stand apart, and for many states at once,
/// because they are all that vector instructions do not do.
#[inline(always)]
fn gelu_of(tables: &Tables, states: &mut [Sums], tails: &mut [Sums]) {
    for (tails, states) in tails.iter_mut().zip(&*states) {
        for (tail, state) in tails.iter_mut().zip(states) {
            *tail = gelu_step(*state);
        }
    }
    for tails in &mut *tails {
        for tail in tails {
            *tail = tables.gelu_tail(*tail);
        }
    }
    for (states, tails) in states.iter_mut().zip(tails) {
        for (state, tail) in states.iter_mut().zip(tails) {
            *state = (*state).max(0) - *tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::quantize::quantize, *};

    proptest! {
        #[test]
        fn a_layer_is_near_the_real_one_and_the_same_on_every_path(
            count in 1_usize..14, inputs in prop::sample::select(vec![16_usize, 64, 384, 3072]),
            magnitude in 5_u32..19, seed in any::<u32>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            };
            let outputs = 48;
            let weight: Vec<f32> = (0..outputs * inputs).map(|_| 0.2 * next()).collect();
            let bias: Vec<f32> = (0..outputs).map(|_| next()).collect();
            let states: Vec<i32> =
                (0..count * inputs).map(|_| (next() * (1 << magnitude) as f32) as i32).collect();
            let layer = Linear::new(&weight, &bias, inputs, Way::Pairs);
            let rows = quantize(&states, inputs, Way::Pairs);
            let out = layer.apply(&rows, None, Threads::Alone);
            prop_assert_eq!(&out, &layer.apply(&rows, None, Threads::Spread));
            let best = Linear::new(&weight, &bias, inputs, Way::best());
            let rows = quantize(&states, inputs, Way::best());
            prop_assert_eq!(&out, &best.apply(&rows, None, Threads::Spread));
            prop_assert_eq!(layer.columns(), best.columns());
            let tables = Tables::new();
            let active: Vec<i32> = out.iter().map(|value| tables.gelu(*value)).collect();
            prop_assert_eq!(active, best.apply(&rows, Some(&tables), Threads::Alone));

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
    }
}
