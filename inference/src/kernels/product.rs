//! Matrix products.

use auspex_avx512::{Floats, floats};
use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::{LANES, Lane, gelu::gelu, vectorized};

/// Rows that are computed together: with two registers for each they fill 12 of AVX2's 16.
const ROWS: usize = 6;

/// Inputs that are summed before the next panel has its turn: a panel's weights of so many inputs
/// and the rows of a block fit the first-level cache together, and all rows of a task the second.
const DEPTH: usize = 192;

/// Parts of a product for each thread, so that a thread that was held up does not hold up all.
const SHARES: usize = 2;

/// Rows `first_row .. first_row + rows` of a matrix in panels of `stride` rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left<'a> {
    pub(crate) lanes: &'a [Lane],
    pub(crate) stride: usize,
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
}

/// Whether a product may use other threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// Panels of the result are spread over rayon's threads.
    Spread,
    /// The caller's thread does everything.
    Alone,
}

/// What happens to a panel of the result while it is in the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish<'a> {
    /// Each column's bias is added.
    Bias(&'a [Lane]),
    /// Each column's bias is added, then GELU is taken.
    BiasGelu(&'a [Lane]),
}

/// Computes `left * right` into `out`.
///
/// `right` has `inputs` lanes for each panel of the result, and `out` has `left.rows`. Every
/// element is the sum of its `inputs` products in ascending order, each added by one fused
/// multiply-add; sums that wait in memory between two depths keep all their bits.
pub(crate) fn product(
    left: Left<'_>,
    right: &[Lane],
    inputs: usize,
    out: &mut [Lane],
    finish: Finish<'_>,
    threads: Threads,
) {
    debug_assert_eq!(right.len() / inputs * left.rows, out.len());
    if let Some(floats) = Floats::detect() {
        return wide_product(floats, left, right, inputs, out, finish, threads);
    }
    narrow_product(left, right, inputs, out, finish, threads);
}

/// [`product`] for AVX-512: whole rows of the left side against three panels at a time.
fn wide_product(
    floats: Floats,
    left: Left<'_>,
    right: &[Lane],
    inputs: usize,
    out: &mut [Lane],
    finish: Finish<'_>,
    threads: Threads,
) {
    let tiles = tiles(left, inputs);
    let panels = right.len() / inputs;
    let width = match threads {
        Threads::Alone => panels,
        Threads::Spread => {
            panels.div_ceil(SHARES * rayon::current_num_threads()).next_multiple_of(floats::PANELS)
        }
    };
    let bias = finish.bias();
    let share = |(index, (right, out)): (usize, (&[Lane], &mut [Lane]))| {
        let rights = right.chunks(floats::PANELS * inputs);
        let outs = out.chunks_mut(floats::PANELS * left.rows);
        for (chunk, (right, out)) in rights.zip(outs).enumerate() {
            let first = index * width + chunk * floats::PANELS;
            let last = right.len() / inputs - 1;
            // Where there are fewer panels, the last one is computed again and not written.
            let three = [0, 1, 2].map(|panel: usize| panel.min(last));
            let rights = three.map(|panel| &right[panel * inputs..(panel + 1) * inputs]);
            let biases = three.map(|panel| &bias[first + panel]);
            for (index, tile) in tiles.chunks_exact(inputs.div_ceil(LANES)).enumerate() {
                let start = index * floats::ROWS;
                let rows = start..left.rows.min(start + floats::ROWS);
                let mut panels = out.chunks_exact_mut(left.rows);
                let outs =
                    three.map(|_| panels.next().map_or(&mut [][..], |out| &mut out[rows.clone()]));
                floats.block(tile, rights, biases, outs);
            }
            if let Finish::BiasGelu(_) = finish {
                vectorized(Gelu { lanes: out });
            }
        }
    };
    let rights = width * inputs;
    let outs = width * left.rows;
    match threads {
        Threads::Alone => {
            right.chunks(rights).zip(out.chunks_mut(outs)).enumerate().for_each(share)
        }
        Threads::Spread => {
            right.par_chunks(rights).zip(out.par_chunks_mut(outs)).enumerate().for_each(share);
        }
    }
}

/// Copies the left side so that a block reads it from the first byte to the last: the rows of a tile,
/// panel by panel; rows behind the last are zero.
fn tiles(left: Left<'_>, inputs: usize) -> Vec<floats::Tile> {
    let panels = inputs.div_ceil(LANES);
    let lanes = left.lanes.chunks_exact(left.stride).take(panels);
    let lanes: Vec<&[Lane]> =
        lanes.map(|panel| &panel[left.first_row..left.first_row + left.rows]).collect();
    let mut tiles = Vec::with_capacity(left.rows.div_ceil(floats::ROWS) * panels);
    for start in (0..left.rows).step_by(floats::ROWS) {
        for lanes in &lanes {
            let rows = &lanes[start..];
            tiles.push(rows.first_chunk().copied().unwrap_or_else(|| {
                let mut tile = [[0.0; LANES]; floats::ROWS];
                tile[..rows.len()].copy_from_slice(rows);
                tile
            }));
        }
    }
    tiles
}

/// GELU of panels that have their bias.
struct Gelu<'a> {
    lanes: &'a mut [Lane],
}

impl NullaryFnOnce for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for values in self.lanes {
            for value in values {
                *value = gelu(*value);
            }
        }
    }
}

/// [`product`] for AVX2 and for plain code.
fn narrow_product(
    left: Left<'_>,
    right: &[Lane],
    inputs: usize,
    out: &mut [Lane],
    finish: Finish<'_>,
    threads: Threads,
) {
    let packed: Vec<[f32; ROWS]> = vectorized(Pack { left, inputs });
    let panels = right.len() / inputs;
    let width = match threads {
        Threads::Alone => panels,
        Threads::Spread => panels.div_ceil(SHARES * rayon::current_num_threads()).max(1),
    };
    let share = |(index, (right, out))| {
        let first = index * width;
        vectorized(Share { left: &packed, rows: left.rows, right, inputs, out, first, finish });
    };
    let rights = width * inputs;
    let outs = width * left.rows;
    match threads {
        Threads::Alone => {
            right.chunks(rights).zip(out.chunks_mut(outs)).enumerate().for_each(share)
        }
        Threads::Spread => {
            right.par_chunks(rights).zip(out.par_chunks_mut(outs)).enumerate().for_each(share);
        }
    }
}

/// Copies the left side into groups of [`ROWS`] rows, one array for each input, so that a block
/// reads it from the first byte to the last; rows behind the last are zero.
struct Pack<'a> {
    left: Left<'a>,
    inputs: usize,
}

impl NullaryFnOnce for Pack<'_> {
    type Output = Vec<[f32; ROWS]>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        let Self { left, inputs } = self;
        let mut packed = vec![[0.0; ROWS]; left.rows.div_ceil(ROWS) * inputs];
        for (block, packed) in packed.chunks_exact_mut(inputs).enumerate() {
            let start = left.first_row + block * ROWS;
            let end = (start + ROWS).min(left.first_row + left.rows);
            for (panel, packed) in
                left.lanes.chunks_exact(left.stride).zip(packed.chunks_mut(LANES))
            {
                for (row, lanes) in panel[start..end].iter().enumerate() {
                    for (packed, value) in packed.iter_mut().zip(lanes) {
                        packed[row] = *value;
                    }
                }
            }
        }
        packed
    }
}

/// Neighbouring panels of a product with their finish, which one thread computes.
struct Share<'a> {
    left: &'a [[f32; ROWS]],
    rows: usize,
    right: &'a [Lane],
    inputs: usize,
    out: &'a mut [Lane],
    /// Number of the first panel.
    first: usize,
    finish: Finish<'a>,
}

impl NullaryFnOnce for Share<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { left, rows, right, inputs, out, first, finish } = self;
        for depth in (0..inputs).step_by(DEPTH) {
            let depths = depth..inputs.min(depth + DEPTH);
            let panels = right.chunks_exact(inputs).zip(out.chunks_exact_mut(rows));
            for (panel, (right, out)) in panels.enumerate() {
                let right = &right[depths.clone()];
                for (left, out) in left.chunks_exact(inputs).zip(out.chunks_mut(ROWS)) {
                    packed_block(&left[depths.clone()], right, out, depth == 0);
                }
                if depths.end == inputs {
                    finish.apply(first + panel, out);
                }
            }
        }
    }
}

impl Finish<'_> {
    fn bias(&self) -> &[Lane] {
        match self {
            Self::Bias(bias) | Self::BiasGelu(bias) => bias,
        }
    }

    #[inline(always)]
    fn apply(self, panel: usize, out: &mut [Lane]) {
        match self {
            Self::Bias(bias) => {
                for values in out {
                    for (value, bias) in values.iter_mut().zip(&bias[panel]) {
                        *value += bias;
                    }
                }
            }
            Self::BiasGelu(bias) => {
                for values in out {
                    for (value, bias) in values.iter_mut().zip(&bias[panel]) {
                        *value = gelu(*value + bias);
                    }
                }
            }
        }
    }
}

/// Adds the products of one depth to up to [`ROWS`] rows of a panel, or starts them from zero.
#[inline(always)]
fn packed_block(left: &[[f32; ROWS]], right: &[Lane], out: &mut [Lane], start: bool) {
    let mut sums = [[0.0; LANES]; ROWS];
    if !start {
        for (sums, out) in sums.iter_mut().zip(&*out) {
            *sums = *out;
        }
    }
    for (left, right) in left.iter().zip(right) {
        for (sums, factor) in sums.iter_mut().zip(left) {
            for (sum, value) in sums.iter_mut().zip(right) {
                *sum = factor.mul_add(*value, *sum);
            }
        }
    }
    // Copied lane by lane: one copy of the whole array would keep it in memory during the loop.
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = sums;
    }
}

/// One panel of the result: `out[row] = sum over k of left[row][k] * right[k]`.
#[inline(always)]
pub(crate) fn panel_product(left: Left<'_>, right: &[Lane], out: &mut [Lane]) {
    let mut row = 0;
    while row + ROWS <= left.rows {
        block::<ROWS>(left, row, right, out);
        row += ROWS;
    }
    match left.rows - row {
        1 => block::<1>(left, row, right, out),
        2 => block::<2>(left, row, right, out),
        3 => block::<3>(left, row, right, out),
        4 => block::<4>(left, row, right, out),
        5 => block::<5>(left, row, right, out),
        _ => {}
    }
}

/// `R` rows of [`panel_product`]; the sums stay in registers from the first term to the last.
#[inline(always)]
fn block<const R: usize>(left: Left<'_>, row: usize, right: &[Lane], out: &mut [Lane]) {
    let mut sums = [[0.0; LANES]; R];
    let panels = left.lanes.chunks_exact(left.stride);
    for (panel, right) in panels.zip(right.chunks(LANES)) {
        let start = left.first_row + row;
        let Some(rows) = panel[start..].first_chunk::<R>() else { return };
        for (k, right) in right.iter().enumerate() {
            for (sums, left) in sums.iter_mut().zip(rows) {
                let factor = left[k % LANES];
                for (sum, value) in sums.iter_mut().zip(right) {
                    *sum = factor.mul_add(*value, *sum);
                }
            }
        }
    }
    // Copied lane by lane: one copy of the whole array would keep it in memory during the loop.
    for (out, sums) in out[row..row + R].iter_mut().zip(sums) {
        *out = sums;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::panels::Panels, *};

    /// The definition, term by term.
    fn expected(left: &[Vec<f32>], right: &[Lane], inputs: usize) -> Vec<Lane> {
        let mut out = Vec::new();
        for right in right.chunks_exact(inputs) {
            for row in left {
                out.push(std::array::from_fn(|lane| {
                    row.iter().zip(right).fold(0.0, |sum, (x, right)| x.mul_add(right[lane], sum))
                }));
            }
        }
        out
    }

    proptest! {
        #[test]
        fn every_element_is_its_sum_in_ascending_order(
            rows in 1_usize..20, inputs in 1_usize..70, panels in 1_usize..4, seed in any::<u32>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            };
            let padded = inputs.next_multiple_of(LANES);
            let mut left: Vec<Vec<f32>> =
                (0..rows).map(|_| (0..padded).map(|_| next()).collect()).collect();
            let matrix = Panels::from_rows(left.iter().map(Vec::as_slice), padded);
            let right: Vec<Lane> =
                (0..panels * inputs).map(|_| std::array::from_fn(|_| next())).collect();
            left.iter_mut().for_each(|row| row.truncate(inputs));

            let bias: Vec<Lane> = (0..panels).map(|_| std::array::from_fn(|_| next())).collect();
            let whole = Left { lanes: &matrix.lanes, stride: rows, first_row: 0, rows };
            let tail = Left { first_row: rows / 2, rows: rows - rows / 2, ..whole };
            for threads in [Threads::Alone, Threads::Spread] {
                for view in [whole, tail] {
                    let sums = expected(&left[view.first_row..], &right, inputs);
                    let with_bias = |index: usize, lane: usize| {
                        sums[index][lane] + bias[index / view.rows][lane]
                    };
                    let mut out = vec![[0.0; LANES]; panels * view.rows];
                    product(view, &right, inputs, &mut out, Finish::Bias(&bias), threads);
                    for (index, lanes) in out.iter().enumerate() {
                        prop_assert_eq!(*lanes, std::array::from_fn(|lane| with_bias(index, lane)));
                    }
                    let mut narrow = out.clone();
                    narrow_product(view, &right, inputs, &mut narrow, Finish::Bias(&bias), threads);
                    prop_assert_eq!(&out, &narrow);
                    product(view, &right, inputs, &mut out, Finish::BiasGelu(&bias), threads);
                    for (index, lanes) in out.iter().enumerate() {
                        let expected = std::array::from_fn(|lane| gelu(with_bias(index, lane)));
                        prop_assert_eq!(*lanes, expected);
                    }
                }
            }
        }
    }
}
