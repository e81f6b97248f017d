//! Products with blocks of small integers, by the VNNI instruction: the weights are its unsigned bytes,
//! the rows its signed ones. A block's products are summed exactly, then scaled and added by one fused
//! multiply-add, block after block.

use crate::{LANES, Vnni};

/// Inputs that share a scale.
pub const BLOCK: usize = 32;

/// Groups of four inputs in a block.
pub const QUADS: usize = BLOCK / 4;

/// Quads of a block whose weights have 8 bits.
pub const BYTES: usize = QUADS;

/// Words of a block whose weights have 4 bits: quad `n` in the low halves of bytes, quad
/// `n + NIBBLES` in the high ones.
pub const NIBBLES: usize = QUADS / 2;

/// [`BLOCK`] inputs to [`LANES`] outputs; `N` is [`BYTES`] or [`NIBBLES`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block<const N: usize> {
    /// What one step is worth, as `f16`, for each output.
    pub scales: [u16; LANES],
    /// Four neighbouring levels of each output, raised by [`Block::OFFSET`], the first one lowest.
    pub quads: [[i32; LANES]; N],
}

/// [`BLOCK`] inputs of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Four signed bytes in a word, the first one lowest.
    pub quads: [i32; QUADS],
    /// The sum of all bytes.
    pub sum: i32,
}

/// For each block of inputs its levels of `R` rows.
pub type RowLevels<const R: usize> = [[Levels; R]];

/// For each block of inputs what one step of its levels is worth in each of `R` rows.
pub type RowScales<const R: usize> = [[f32; R]];

impl<const N: usize> Block<N> {
    /// What is added to a weight's level, so that it is not negative.
    pub const OFFSET: i32 = if N == BYTES { 128 } else { 8 };

    /// The level of one input of one output.
    pub fn level(&self, lane: usize, input: usize) -> i32 {
        let (quad, byte) = (input / 4, input % 4);
        let raised = i32::from(self.quads[quad % N][lane].to_le_bytes()[byte]);
        let level = if N == BYTES { raised } else { raised >> (4 * (quad / N)) & 15 };
        level - Self::OFFSET
    }

    /// Sets the levels of one output, which are in the range of their bits.
    pub fn set(&mut self, lane: usize, levels: [i32; BLOCK]) {
        for quad in self.quads.iter_mut() {
            quad[lane] = 0;
        }
        for (input, level) in levels.into_iter().enumerate() {
            let (quad, byte) = (input / 4, input % 4);
            let half = if N == BYTES { 0 } else { 4 * (quad / N) };
            self.quads[quad % N][lane] |= (level + Self::OFFSET) << (8 * byte + half);
        }
    }
}

/// What a row's values are multiplied by to become levels, if `largest` of a block is their largest magnitude. Zero where there
/// is nothing to distinguish, and where the steps would be too small for an `f32`.
#[inline(always)]
pub fn row_factor(largest: f32) -> f32 {
    let factor = 127.0 / largest;
    if factor.is_finite() { factor } else { 0.0 }
}

impl Vnni {
    /// Rounds a row to 8 bits, block by block: its levels and what one step is worth become every `step`th element from `first`
    /// on of `levels` and `scales`. The step of a block is 127th of its largest magnitude; ties go to even levels, and what is
    /// no number becomes zero.
    pub fn round(
        self,
        row: &[[f32; BLOCK]],
        levels: &mut [Levels],
        scales: &mut [f32],
        first: usize,
        step: usize,
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: `self` exists only where `detect` found both features.
            #[expect(unsafe_code, reason = "a call into code for instructions that were detected")]
            unsafe {
                x86::round(row, levels, scales, first, step);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (row, levels, scales, first, step);
            unreachable!("only x86 has the instruction");
        }
    }

    /// Writes, for each row and output of `weights`, the sum over all blocks of `step of the row *
    /// step of the weight * sum of the products of levels`. Rows and `weights` have the same number of
    /// blocks; what one has more is not read.
    pub fn blocks<const N: usize, const R: usize>(
        self,
        levels: &RowLevels<R>,
        scales: &RowScales<R>,
        weights: &[Block<N>],
        out: &mut [[f32; LANES]; R],
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: `self` exists only where `detect` found both features.
            #[expect(unsafe_code, reason = "a call into code for instructions that were detected")]
            unsafe {
                x86::blocks(levels, scales, weights, out);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (levels, scales, weights, out);
            unreachable!("only x86 has the instruction");
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256i, __m512, __m512i, _mm512_abs_ps, _mm512_add_epi32, _mm512_and_si512,
        _mm512_cmpord_ps_mask, _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtph_ps,
        _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_maskz_cvtps_epi32, _mm512_max_ps,
        _mm512_mul_ps, _mm512_reduce_add_epi32, _mm512_reduce_max_ps, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_srli_epi32,
    };

    use super::{BLOCK, BYTES, Block, LANES, Levels, QUADS, RowLevels, RowScales, row_factor};

    #[target_feature(enable = "avx512f")]
    pub(super) fn round(
        row: &[[f32; BLOCK]],
        levels: &mut [Levels],
        scales: &mut [f32],
        first: usize,
        step: usize,
    ) {
        let into = levels.iter_mut().zip(scales).skip(first).step_by(step);
        for (values, (levels, scale)) in row.iter().zip(into) {
            let halves = halves(values);
            let mut largest = _mm512_setzero_ps();
            for values in halves {
                // Where one of both is no number, the instruction gives the second one.
                largest = _mm512_max_ps(_mm512_abs_ps(values), largest);
            }
            let largest = _mm512_reduce_max_ps(largest);
            *scale = largest / 127.0;
            let factor = _mm512_set1_ps(row_factor(largest));
            let rounded = halves.map(|values| {
                let values = _mm512_mul_ps(values, factor);
                _mm512_maskz_cvtps_epi32(_mm512_cmpord_ps_mask(values, values), values)
            });
            levels.sum = _mm512_reduce_add_epi32(_mm512_add_epi32(rounded[0], rounded[1]));
            levels.quads = quads(rounded.map(|levels| _mm512_cvtepi32_epi8(levels)));
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn halves(values: &[f32; BLOCK]) -> [__m512; 2] {
        // SAFETY: both are 32 floats, and every pattern of bits is one.
        #[expect(unsafe_code, reason = "an array as registers")]
        unsafe {
            std::mem::transmute::<[f32; BLOCK], [__m512; 2]>(*values)
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn quads(bytes: [__m128i; 2]) -> [i32; QUADS] {
        // SAFETY: both are 32 bytes, and every pattern of bits is a number.
        #[expect(unsafe_code, reason = "registers as an array")]
        unsafe {
            std::mem::transmute::<[__m128i; 2], [i32; QUADS]>(bytes)
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn blocks<const N: usize, const R: usize>(
        levels: &RowLevels<R>,
        scales: &RowScales<R>,
        weights: &[Block<N>],
        out: &mut [[f32; LANES]; R],
    ) {
        let mut sums = [_mm512_setzero_ps(); R];
        for ((block, levels), scales) in weights.iter().zip(levels).zip(scales) {
            let mut products = [_mm512_set1_epi32(0); R];
            for (products, levels) in products.iter_mut().zip(levels) {
                // What the raised levels give too much.
                *products = _mm512_set1_epi32(-Block::<N>::OFFSET * levels.sum);
            }
            for quad in 0..QUADS {
                let weights = quad_of(block, quad);
                for (products, levels) in products.iter_mut().zip(levels) {
                    let inputs = _mm512_set1_epi32(levels.quads[quad]);
                    *products = _mm512_dpbusd_epi32(*products, weights, inputs);
                }
            }
            let steps = _mm512_cvtph_ps(load_halves(block.scales));
            for ((sum, products), scale) in sums.iter_mut().zip(products).zip(scales) {
                let step = _mm512_mul_ps(_mm512_set1_ps(*scale), steps);
                *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), step, *sum);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            // SAFETY: both are 16 floats, and every pattern of bits is one.
            #[expect(unsafe_code, reason = "a register as an array")]
            unsafe {
                *out = std::mem::transmute::<__m512, [f32; LANES]>(sum);
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn quad_of<const N: usize>(block: &Block<N>, quad: usize) -> __m512i {
        // SAFETY: both are 64 bytes, and every pattern of bits is one. The intrinsic that loads would be
        // checked at every call in builds with debug assertions.
        #[expect(unsafe_code, reason = "an array as a register")]
        let words = unsafe { std::mem::transmute::<[i32; LANES], __m512i>(block.quads[quad % N]) };
        if N == BYTES {
            return words;
        }
        let words = if quad < N { words } else { _mm512_srli_epi32::<4>(words) };
        _mm512_and_si512(words, _mm512_set1_epi32(0x0f0f_0f0f))
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load_halves(scales: [u16; LANES]) -> __m256i {
        // SAFETY: both are 32 bytes, and every pattern of bits is one.
        #[expect(unsafe_code, reason = "an array as a register")]
        unsafe {
            std::mem::transmute::<[u16; LANES], __m256i>(scales)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition. Scales are powers of two, whose halves are easily written.
    fn plain<const N: usize>(
        levels: &[Levels],
        scales: &[f32],
        weights: &[Block<N>],
    ) -> [f32; LANES] {
        std::array::from_fn(|lane| {
            let mut sum = 0.0_f32;
            for (index, block) in weights.iter().enumerate() {
                let mut product = 0;
                for input in 0..BLOCK {
                    let level = levels[index].quads[input / 4].to_le_bytes()[input % 4];
                    product += block.level(lane, input) * i32::from(level.cast_signed());
                }
                let step = f32::from_bits((u32::from(block.scales[lane] >> 10) + 112) << 23);
                sum = (product as f32).mul_add(scales[index] * step, sum);
            }
            sum
        })
    }

    fn check<const N: usize>(blocks: usize, seed: u32) {
        let Some(vnni) = Vnni::detect() else { return };
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 9).cast_signed()
        };
        let levels = |mut next: Box<dyn FnMut() -> i32 + '_>| -> Vec<Levels> {
            let block = |_| {
                let bytes: [[u8; 4]; QUADS] = std::array::from_fn(|_| {
                    std::array::from_fn(|_| ((next() % 255) - 127).cast_unsigned() as u8)
                });
                let sum = bytes.iter().flatten().map(|byte| i32::from(byte.cast_signed())).sum();
                Levels { quads: bytes.map(i32::from_le_bytes), sum }
            };
            (0..blocks).map(block).collect()
        };
        let (first, second) = (levels(Box::new(&mut next)), levels(Box::new(&mut next)));
        let scales: Vec<f32> = (0..blocks).map(|_| 1.0 / (1 + next() % 97) as f32).collect();
        let mut weights = Vec::new();
        for _ in 0..blocks {
            let exponents = std::array::from_fn(|_| ((8 + next() % 12) as u16) << 10);
            let mut block = Block::<N> { scales: exponents, quads: [[0; LANES]; N] };
            for lane in 0..LANES {
                let (range, offset) = (2 * Block::<N>::OFFSET - 1, Block::<N>::OFFSET - 1);
                let levels = std::array::from_fn(|_| next() % range - offset);
                block.set(lane, levels);
                let read: [i32; BLOCK] = std::array::from_fn(|input| block.level(lane, input));
                assert_eq!(read, levels);
            }
            weights.push(block);
        }
        let together: Vec<[Levels; 2]> =
            first.iter().zip(&second).map(|(first, second)| [*first, *second]).collect();
        let both: Vec<[f32; 2]> = scales.iter().map(|scale| [*scale, 0.5 * scale]).collect();
        let mut out = [[1.0; LANES]; 2];
        vnni.blocks(&together, &both, &weights, &mut out);
        let halves: Vec<f32> = scales.iter().map(|scale| 0.5 * scale).collect();
        let bits = |values: [f32; LANES]| values.map(f32::to_bits);
        assert_eq!(bits(out[0]), bits(plain(&first, &scales, &weights)));
        assert_eq!(bits(out[1]), bits(plain(&second, &halves, &weights)));
    }

    proptest! {
        #[test]
        fn the_instruction_gives_the_plain_sums(blocks in 0_usize..20, seed in any::<u32>()) {
            check::<BYTES>(blocks, seed);
            check::<NIBBLES>(blocks, seed);
        }
    }
}
