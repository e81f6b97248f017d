//! Products with weights that are floats.

use auspex_avx512::{Floats, floats as wide};
use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::{
    Rows,
    blocks::{GROUP_MAX, group},
};
use crate::kernels::{LANES, Lane, vectorized};

/// Rows that are computed together: with two registers for each they fill 12 of AVX2's 16.
const ROWS: usize = 6;

/// Tiles whose sums AVX-512 computes together for some rows; for one row the tiles are read one after the
/// other, because one long run is read faster than several side by side.
pub(super) const TILES: usize = wide::PANELS;

/// Rows of activations, as the CPU's instructions read them.
#[derive(Debug)]
pub(crate) struct FloatRows<'a> {
    rows: &'a Rows,
    wide: Option<WideRows>,
}

/// Rows for AVX-512. Those that are computed together lie together: [`LANES`] inputs of each, then the
/// next inputs; what there is of lanes behind the last input is zero.
#[derive(Debug)]
struct WideRows {
    floats: Floats,
    lanes: Vec<Lane>,
    /// Lanes of one row.
    width: usize,
}

impl<'a> FloatRows<'a> {
    pub(super) fn new(rows: &'a Rows) -> Self {
        Self { rows, wide: Floats::detect().map(|floats| WideRows::new(floats, rows)) }
    }

    pub(super) fn count(&self) -> usize {
        self.rows.count()
    }
}

impl WideRows {
    fn new(floats: Floats, rows: &Rows) -> Self {
        let width = rows.columns.div_ceil(LANES);
        let mut lanes = vec![[0.0; LANES]; rows.count() * width];
        let groups = rows.values.par_chunks(GROUP_MAX * rows.columns);
        lanes.par_chunks_mut(GROUP_MAX * width).zip(groups).for_each(|(mut into, mut values)| {
            while !into.is_empty() {
                let size = group(into.len() / width);
                let (now, later) = into.split_at_mut(size * width);
                let (rows_now, rows_later) = values.split_at(size * rows.columns);
                for (row, values) in rows_now.chunks_exact(rows.columns).enumerate() {
                    let lanes = now.iter_mut().skip(row).step_by(size);
                    for (lane, values) in lanes.zip(values.chunks(LANES)) {
                        lane[..values.len()].copy_from_slice(values);
                    }
                }
                (into, values) = (later, rows_later);
            }
        });
        Self { floats, lanes, width }
    }
}

/// The weights of one input to [`LANES`] outputs.
pub(super) trait Weight: Copy + Sync {
    /// Whether [`read`](Self::read) computes, so that reading once and keeping the result is faster.
    const PACKED: bool;

    fn read(self) -> Lane;

    /// [`Floats::sums`] of panels of these.
    fn sums<const R: usize, const P: usize>(
        floats: Floats,
        left: &[[Lane; R]],
        panels: [&[Self]; P],
        out: [&mut [Lane; R]; P],
    );
}

impl Weight for Lane {
    const PACKED: bool = false;

    #[inline(always)]
    fn read(self) -> Lane {
        self
    }

    fn sums<const R: usize, const P: usize>(
        floats: Floats,
        left: &[[Lane; R]],
        panels: [&[Self]; P],
        out: [&mut [Lane; R]; P],
    ) {
        floats.sums(left, panels, out);
    }
}

impl Weight for [u16; LANES] {
    const PACKED: bool = true;

    #[inline(always)]
    fn read(self) -> Lane {
        halves(&self)
    }

    fn sums<const R: usize, const P: usize>(
        floats: Floats,
        left: &[[Lane; R]],
        panels: [&[Self]; P],
        out: [&mut [Lane; R]; P],
    ) {
        floats.sums_of_halves(left, panels, out);
    }
}

/// The values of finite `f16`s. A loop and not `map`, which would be a call into code that was
/// compiled for every machine.
#[inline(always)]
pub(super) fn halves(bits: &[u16; LANES]) -> Lane {
    let mut values = [0.0; LANES];
    for (value, bits) in values.iter_mut().zip(bits) {
        *value = from_f16(*bits);
    }
    values
}

/// The value of a finite `f16`.
///
/// Its bits, moved to the place of an `f32`'s, mean the value times 2^-112, because the exponents'
/// biases are 15 and 127; this is exact for subnormal ones too.
#[inline(always)]
pub(crate) fn from_f16(bits: u16) -> f32 {
    /// 2^112
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * REBIAS;
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// Some tiles of a product, `out[tile][row] = sum over inputs of left[row][input] * weights[tile][input]`.
pub(super) fn tiles<W: Weight>(left: &FloatRows<'_>, weights: &[W], out: &mut [Lane]) {
    let (rows, inputs) = (left.count(), left.rows.columns);
    if let Some(left) = &left.wide {
        let mut weights = weights.chunks_exact(TILES * inputs);
        let mut out = out.chunks_exact_mut(TILES * rows);
        for (weights, out) in (&mut weights).zip(&mut out) {
            left.tiles(inputs, weights, out);
        }
        return left.tiles(inputs, weights.remainder(), out.into_remainder());
    }
    let mut buffer = Vec::new();
    for (weights, out) in weights.chunks_exact(inputs).zip(out.chunks_exact_mut(rows)) {
        if W::PACKED && ROWS < rows {
            // Each block of rows would otherwise read every weight anew.
            vectorized(Read { weights, into: &mut buffer });
            tile(left.rows, &buffer, out);
        } else {
            tile(left.rows, weights, out);
        }
    }
}

impl WideRows {
    /// Up to [`TILES`] tiles.
    fn tiles<W: Weight>(&self, inputs: usize, weights: &[W], out: &mut [Lane]) {
        let tiles = weights.len() / inputs;
        let rows = self.lanes.len() / self.width;
        let mut first = 0;
        while 0 < tiles && first < rows {
            let size = group(rows - first);
            let lanes = &self.lanes[first * self.width..(first + size) * self.width];
            match size {
                GROUP_MAX => self.rows::<W, GROUP_MAX>(lanes, inputs, weights, out, first, rows),
                4 => self.rows::<W, 4>(lanes, inputs, weights, out, first, rows),
                _ => self.rows::<W, 1>(lanes, inputs, weights, out, first, rows),
            }
            first += size;
        }
    }

    /// `R` rows from `first` on, of `rows`.
    fn rows<W: Weight, const R: usize>(
        &self,
        lanes: &[Lane],
        inputs: usize,
        weights: &[W],
        out: &mut [Lane],
        first: usize,
        rows: usize,
    ) {
        let left = lanes.as_chunks::<R>().0;
        let mut out = out.chunks_exact_mut(rows).map(|tile| &mut tile[first..]);
        let mut out = || out.next().and_then(|rows| rows.first_chunk_mut::<R>());
        let mut panels = weights.chunks_exact(inputs);
        if R != 1 && weights.len() == TILES * inputs {
            let panels = [0, 1, 2].map(|tile| &weights[tile * inputs..(tile + 1) * inputs]);
            let [Some(first), Some(second), Some(third)] = [out(), out(), out()] else { return };
            return W::sums(self.floats, left, panels, [first, second, third]);
        }
        while let (Some(panel), Some(out)) = (panels.next(), out()) {
            W::sums(self.floats, left, [panel], [out]);
        }
    }
}

/// Reads all weights into a buffer.
struct Read<'a, W> {
    weights: &'a [W],
    into: &'a mut Vec<Lane>,
}

impl<W: Weight> NullaryFnOnce for Read<'_, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.into.resize(self.weights.len(), [0.0; LANES]);
        for (lane, weight) in self.into.iter_mut().zip(self.weights) {
            *lane = weight.read();
        }
    }
}

/// One tile of a product for AVX2 and for plain code.
fn tile<W: Weight>(left: &Rows, weights: &[W], out: &mut [Lane]) {
    vectorized(Tile { left, weights, out });
}

struct Tile<'a, W> {
    left: &'a Rows,
    weights: &'a [W],
    out: &'a mut [Lane],
}

impl<W: Weight> NullaryFnOnce for Tile<'_, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { left, weights, out } = self;
        let mut rows = left.values.chunks_exact(left.columns);
        let mut chunks = out.chunks_exact_mut(ROWS);
        for out in &mut chunks {
            block::<W, ROWS>(&mut rows, weights, out);
        }
        let out = chunks.into_remainder();
        match out.len() {
            1 => block::<W, 1>(&mut rows, weights, out),
            2 => block::<W, 2>(&mut rows, weights, out),
            3 => block::<W, 3>(&mut rows, weights, out),
            4 => block::<W, 4>(&mut rows, weights, out),
            5 => block::<W, 5>(&mut rows, weights, out),
            _ => {}
        }
    }
}

/// The next `R` rows.
#[inline(always)]
fn block<'a, W: Weight, const R: usize>(
    rows: &mut impl Iterator<Item = &'a [f32]>,
    weights: &[W],
    out: &mut [Lane],
) {
    let rows: [&[f32]; R] = std::array::from_fn(|_| {
        let row = rows.next().unwrap_or_default();
        // The compiler then knows that all rows are as long as the weights.
        &row[..weights.len()]
    });
    let mut sums = [[0.0; LANES]; R];
    for (input, weights) in weights.iter().enumerate() {
        let weights = weights.read();
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let factor = row[input];
            for (sum, weight) in sums.iter_mut().zip(&weights) {
                *sum = factor.mul_add(*weight, *sum);
            }
        }
    }
    // Copied lane by lane: one copy of the whole array would keep it in memory during the loop.
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::pack::to_f16, *};

    #[test]
    fn halves_read_as_what_they_are() {
        assert_eq!(from_f16(0x3c00), 1.0);
        assert_eq!(from_f16(0xc000), -2.0);
        assert_eq!(from_f16(0x7bff), 65504.0);
        assert_eq!(from_f16(0x0001), 2.0_f32.powi(-24));
        assert_eq!(from_f16(0x8000).to_bits(), (-0.0_f32).to_bits());
    }

    #[test]
    fn every_finite_half_comes_back() {
        for bits in (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00) {
            assert_eq!(to_f16(from_f16(bits)), bits, "{bits:#x}");
        }
    }

    #[test]
    fn instructions_and_the_code_for_others_give_the_same_bits() {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        for (inputs, rows, tiles) in [(70, 1, 4), (64, 3, 3), (33, 15, 5), (7, 22, 1)] {
            let left =
                Rows { values: (0..rows * inputs).map(|_| next()).collect(), columns: inputs };
            let mut weight = || -> Lane { std::array::from_fn(|_| next()) };
            let lanes: Vec<Lane> = (0..tiles * inputs).map(|_| weight()).collect();
            let halves: Vec<_> = lanes.iter().map(|lane| lane.map(to_f16)).collect();
            fn check<W: Weight>(left: &Rows, weights: &[W], tiles: usize) {
                let mut plain = vec![[1.0; LANES]; tiles * left.count()];
                let mut fast = vec![[2.0; LANES]; tiles * left.count()];
                super::tiles(&FloatRows { rows: left, wide: None }, weights, &mut plain);
                super::tiles(&FloatRows::new(left), weights, &mut fast);
                assert_eq!(plain, fast);
                let mut single = vec![[3.0; LANES]; left.count()];
                tile(left, &weights[..left.columns], &mut single);
                assert_eq!(plain[..left.count()], single);
            }
            check(&left, &lanes, tiles);
            check(&left, &halves, tiles);
        }
    }
}
