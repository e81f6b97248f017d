//! Sums of products in `f32`, every one of them a fused multiply-add in ascending order of the inputs.

use crate::LANES;

/// Rows that are computed together.
pub const ROWS: usize = 8;

/// Panels that are computed together: with the rows they fill 24 of AVX-512's 32 registers.
pub const PANELS: usize = 3;

/// One input of each column of a panel, or [`LANES`] neighbouring inputs of a row.
pub type Lane = [f32; LANES];

/// One input of each column of a panel, as the bits of finite `f16`s.
pub type Halves = [u16; LANES];

/// [`LANES`] neighbouring inputs of each row.
pub type Tile = [Lane; ROWS];

/// The proof that this CPU has the instructions.
#[derive(Clone, Copy, Debug)]
pub struct Floats(());

impl Floats {
    /// Asks the CPU.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            return Some(Self(()));
        }
        None
    }

    /// Writes, for each panel, row and column, the sum over all inputs of the row's value times the
    /// column's, and then the column's bias on it. All panels have [`LANES`] inputs for each of
    /// `left`'s tiles, or fewer for the last one. Each of `out` has up to [`ROWS`] rows; what there is
    /// more of anything is not read or not written.
    pub fn block(
        self,
        left: &[Tile],
        panels: [&[Lane]; PANELS],
        bias: [&Lane; PANELS],
        out: [&mut [Lane]; PANELS],
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: `self` exists only where `detect` found the feature.
            #[expect(unsafe_code, reason = "a call into code for instructions that were detected")]
            unsafe {
                x86::block(left, panels, bias, out);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        plain(left, panels, bias, out);
    }

    /// Writes, for each of `P` panels and `R` rows, the sums over all inputs of the row's value times the columns'. Of `left`,
    /// each element has [`LANES`] inputs of each row; all panels have as many inputs, or fewer for the last element, and what
    /// there is more of anything is not read.
    pub fn sums<const R: usize, const P: usize>(
        self,
        left: &[[Lane; R]],
        panels: [&[Lane]; P],
        out: [&mut [Lane; R]; P],
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: `self` exists only where `detect` found the feature.
            #[expect(unsafe_code, reason = "a call into code for instructions that were detected")]
            unsafe {
                x86::sums(left, panels, out);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (left, panels, out);
            unreachable!("only x86 has the instructions");
        }
    }

    /// [`sums`](Self::sums) with panels of `f16`.
    pub fn sums_of_halves<const R: usize, const P: usize>(
        self,
        left: &[[Lane; R]],
        panels: [&[Halves]; P],
        out: [&mut [Lane; R]; P],
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: `self` exists only where `detect` found the feature.
            #[expect(unsafe_code, reason = "a call into code for instructions that were detected")]
            unsafe {
                x86::sums_of_halves(left, panels, out);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (left, panels, out);
            unreachable!("only x86 has the instructions");
        }
    }
}

/// [`Floats::block`] in plain arithmetic, on every CPU.
pub fn plain(
    left: &[Tile],
    panels: [&[Lane]; PANELS],
    bias: [&Lane; PANELS],
    out: [&mut [Lane]; PANELS],
) {
    for ((panel, bias), out) in panels.into_iter().zip(bias).zip(out) {
        for (row, out) in out.iter_mut().enumerate().take(ROWS) {
            *out = [0.0; LANES];
            for (tile, lanes) in left.iter().zip(panel.chunks(LANES)) {
                for (factor, lane) in tile[row].iter().zip(lanes) {
                    for (sum, value) in out.iter_mut().zip(lane) {
                        *sum = factor.mul_add(*value, *sum);
                    }
                }
            }
            for (sum, bias) in out.iter_mut().zip(bias) {
                *sum += bias;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512, _mm512_add_ps, _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_set1_ps,
        _mm512_setzero_ps,
    };

    use super::{Halves, LANES, Lane, PANELS, ROWS, Tile};

    type Sums = [[__m512; PANELS]; ROWS];

    #[target_feature(enable = "avx512f")]
    pub(super) fn block(
        left: &[Tile],
        panels: [&[Lane]; PANELS],
        bias: [&Lane; PANELS],
        out: [&mut [Lane]; PANELS],
    ) {
        let mut sums = [[_mm512_setzero_ps(); PANELS]; ROWS];
        let [first, second, third] = panels.map(|panel| panel.as_chunks::<LANES>());
        let whole = first.0.iter().zip(second.0).zip(third.0);
        for (tile, ((first, second), third)) in left.iter().zip(whole) {
            for input in 0..LANES {
                add(&mut sums, tile, input, [&first[input], &second[input], &third[input]]);
            }
        }
        if let Some(tile) = left.get(first.0.len()) {
            let rest = first.1.iter().zip(second.1).zip(third.1);
            for (input, ((first, second), third)) in rest.enumerate() {
                add(&mut sums, tile, input, [first, second, third]);
            }
        }
        for (panel, (bias, out)) in bias.into_iter().zip(out).enumerate() {
            let bias = load(bias);
            for (out, sums) in out.iter_mut().zip(&sums) {
                store(_mm512_add_ps(sums[panel], bias), out);
            }
        }
    }

    /// Adds the products of one input.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn add(sums: &mut Sums, tile: &Tile, input: usize, lanes: [&Lane; PANELS]) {
        let values = lanes.map(|lane| load(lane));
        for (sums, row) in sums.iter_mut().zip(tile) {
            let factor = _mm512_set1_ps(row[input]);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = _mm512_fmadd_ps(factor, value, *sum);
            }
        }
    }

    /// A function of this name that reads panels of `$unit` with `$load`.
    macro_rules! sums {
        ($name:ident, $unit:ty, $load:ident) => {
            #[target_feature(enable = "avx512f")]
            pub(super) fn $name<const R: usize, const P: usize>(
                left: &[[Lane; R]],
                panels: [&[$unit]; P],
                out: [&mut [Lane; R]; P],
            ) {
                let mut sums = [[_mm512_setzero_ps(); P]; R];
                let inputs = panels.iter().map(|panel| panel.len()).min().unwrap_or(0);
                let panels = panels.map(|panel| panel[..inputs].as_chunks::<LANES>());
                for (index, rows) in left.iter().enumerate().take(inputs / LANES) {
                    let units = panels.map(|panel| &panel.0[index]);
                    for input in 0..LANES {
                        let values = units.map(|units| $load(&units[input]));
                        multiply(&mut sums, rows, input, values);
                    }
                }
                if let Some(rows) = left.get(inputs / LANES) {
                    for input in 0..inputs % LANES {
                        let values = panels.map(|panel| $load(&panel.1[input]));
                        multiply(&mut sums, rows, input, values);
                    }
                }
                for (panel, out) in out.into_iter().enumerate() {
                    for (out, sums) in out.iter_mut().zip(&sums) {
                        store(sums[panel], out);
                    }
                }
            }
        };
    }

    sums!(sums, Lane, load);
    sums!(sums_of_halves, Halves, load_halves);

    /// Adds the products of one input.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn multiply<const R: usize, const P: usize>(
        sums: &mut [[__m512; P]; R],
        rows: &[Lane; R],
        input: usize,
        values: [__m512; P],
    ) {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let factor = _mm512_set1_ps(row[input]);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = _mm512_fmadd_ps(factor, value, *sum);
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load_halves(halves: &Halves) -> __m512 {
        // SAFETY: both are 32 bytes, and every pattern of bits is one.
        #[expect(unsafe_code, reason = "an array as a register")]
        let halves = unsafe { std::mem::transmute::<Halves, __m256i>(*halves) };
        _mm512_cvtph_ps(halves)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load(lane: &Lane) -> __m512 {
        // SAFETY: both are 16 floats, and every pattern of bits is one. The intrinsic that loads would be
        // checked at every call in builds with debug assertions.
        #[expect(unsafe_code, reason = "an array as a register")]
        unsafe {
            std::mem::transmute::<Lane, __m512>(*lane)
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn store(values: __m512, out: &mut Lane) {
        // SAFETY: as in `load`.
        #[expect(unsafe_code, reason = "a register as an array")]
        unsafe {
            *out = std::mem::transmute::<__m512, Lane>(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_instructions_give_the_plain_sums(
            length in 0_usize..70, rows in 0..=ROWS, seed in any::<u32>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            };
            let mut lane = || -> Lane { std::array::from_fn(|_| next()) };
            let left: Vec<Tile> =
                (0..length.div_ceil(LANES)).map(|_| std::array::from_fn(|_| lane())).collect();
            let panels: [Vec<Lane>; PANELS] =
                std::array::from_fn(|_| (0..length).map(|_| lane()).collect());
            let panels = panels.each_ref().map(Vec::as_slice);
            let bias: [Lane; PANELS] = std::array::from_fn(|_| lane());
            let mut expected = vec![vec![[1.0; LANES]; rows]; PANELS];
            let mut sums = vec![vec![[2.0; LANES]; rows]; PANELS];
            let block = |out: &mut [Vec<Lane>], run: &dyn Fn([&mut [Lane]; PANELS])| {
                let [first, second, third] = out else { unreachable!("three panels") };
                run([first, second, third]);
            };
            block(&mut expected, &|out| plain(&left, panels, bias.each_ref(), out));
            if let Some(floats) = Floats::detect() {
                block(&mut sums, &|out| floats.block(&left, panels, bias.each_ref(), out));
                let bits = |out: &[Vec<Lane>]| -> Vec<u32> {
                    out.iter().flatten().flatten().map(|value| value.to_bits()).collect()
                };
                prop_assert_eq!(bits(&sums), bits(&expected));
            }
        }

        #[test]
        fn any_number_of_rows_and_panels_gives_the_plain_sums(
            inputs in 0_usize..70, seed in any::<u32>(),
        ) {
            check_sums::<1, 1>(inputs, seed);
            check_sums::<4, 3>(inputs, seed);
            check_sums::<8, 3>(inputs, seed);
        }
    }

    /// Halves are powers of two, whose bits are easily read.
    fn check_sums<const R: usize, const P: usize>(inputs: usize, seed: u32) {
        let Some(floats) = Floats::detect() else { return };
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut rows = Vec::<[Lane; R]>::new();
        for _ in 0..inputs.div_ceil(LANES) {
            let mut value = || next() as f32 / 8_388_608.0 - 1.0;
            rows.push(std::array::from_fn(|_| std::array::from_fn(|_| value())));
        }
        let halves: [Vec<Halves>; P] = std::array::from_fn(|_| {
            let mut bits = || ((next() % 30 + 1) as u16 * 0x400) ^ ((next() % 2) as u16 * 0x8000);
            (0..inputs).map(|_| std::array::from_fn(|_| bits())).collect()
        });
        let value = |bits: u16| {
            let magnitude = 2.0_f32.powi(i32::from(bits >> 10 & 31) - 15);
            if bits < 0x8000 { magnitude } else { -magnitude }
        };
        let wide = halves
            .each_ref()
            .map(|panel| -> Vec<Lane> { panel.iter().map(|halves| halves.map(value)).collect() });
        let mut expected = [[[0.0_f32; LANES]; R]; P];
        for (out, panel) in expected.iter_mut().zip(&wide) {
            for (input, lanes) in panel.iter().enumerate() {
                for (row, out) in out.iter_mut().enumerate() {
                    let factor = rows[input / LANES][row][input % LANES];
                    for (sum, value) in out.iter_mut().zip(lanes) {
                        *sum = factor.mul_add(*value, *sum);
                    }
                }
            }
        }
        let mut out = [[[1.0; LANES]; R]; P];
        floats.sums(&rows, wide.each_ref().map(Vec::as_slice), out.each_mut());
        assert_eq!(out, expected);
        out = [[[1.0; LANES]; R]; P];
        floats.sums_of_halves(&rows, halves.each_ref().map(Vec::as_slice), out.each_mut());
        assert_eq!(out, expected);
    }
}
