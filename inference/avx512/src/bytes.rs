//! Sums of products of bytes by the VNNI instruction, which multiplies four unsigned bytes by four signed
//! ones and adds all four products to a 32-bit sum.

use crate::LANES;

/// Rows that are computed together: with two registers for each they fill 24 of AVX-512's 32.
pub const ROWS: usize = 12;

/// Four neighbouring inputs of each row, as unsigned bytes, the first one lowest.
pub type Group = [i32; ROWS];

/// Four neighbouring inputs of each column of a panel, as signed bytes, the first one lowest.
pub type Quads = [i32; LANES];

/// Sums of [`ROWS`] rows for two panels.
pub type Sums = [[[i32; LANES]; ROWS]; 2];

/// The proof that this CPU has the instructions.
#[derive(Clone, Copy, Debug)]
pub struct Vnni(());

impl Vnni {
    /// Asks the CPU.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            return Some(Self(()));
        }
        None
    }

    /// Writes, for each row, panel and column, the sum over all inputs of the row's byte times the
    /// column's. `left` and both panels have the same length; what one has more is not read.
    ///
    /// A sum that passes 32 bits wraps around.
    pub fn block(self, left: &[Group], panels: [&[Quads]; 2], sums: &mut Sums) {
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: `self` exists only where `detect` found both features.
            #[expect(unsafe_code, reason = "a call into code for instructions that were detected")]
            unsafe {
                x86::block(left, panels, sums);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        plain(left, panels, sums);
    }
}

/// [`Vnni::block`] in plain arithmetic, on every CPU.
pub fn plain(left: &[Group], panels: [&[Quads]; 2], sums: &mut Sums) {
    for (sums, panel) in sums.iter_mut().zip(panels) {
        for (row, sums) in sums.iter_mut().enumerate() {
            *sums = [0; LANES];
            for (group, quads) in left.iter().zip(panel) {
                let bytes = group[row].to_le_bytes();
                for (sum, quad) in sums.iter_mut().zip(quads) {
                    for (byte, weight) in bytes.iter().zip(quad.to_le_bytes()) {
                        let product = i32::from(*byte) * i32::from(weight as i8);
                        *sum = sum.wrapping_add(product);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    };

    use super::{Group, LANES, Quads, ROWS, Sums};

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn block(left: &[Group], panels: [&[Quads]; 2], out: &mut Sums) {
        let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
        for ((group, first), second) in left.iter().zip(panels[0]).zip(panels[1]) {
            let weights = [load(first), load(second)];
            for (sums, bytes) in sums.iter_mut().zip(group) {
                let bytes = _mm512_set1_epi32(*bytes);
                sums[0] = _mm512_dpbusd_epi32(sums[0], bytes, weights[0]);
                sums[1] = _mm512_dpbusd_epi32(sums[1], bytes, weights[1]);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            store(sums[0], &mut out[0][row]);
            store(sums[1], &mut out[1][row]);
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load(quads: &Quads) -> __m512i {
        // SAFETY: both are 64 bytes, and every pattern of bits is one. The intrinsic that loads would be
        // checked at every call in builds with debug assertions.
        #[expect(unsafe_code, reason = "an array as a register")]
        unsafe {
            std::mem::transmute::<Quads, __m512i>(*quads)
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn store(values: __m512i, out: &mut [i32; LANES]) {
        // SAFETY: as in `load`.
        #[expect(unsafe_code, reason = "a register as an array")]
        unsafe {
            *out = std::mem::transmute::<__m512i, [i32; LANES]>(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_instruction_gives_the_plain_sums(
            left in prop::collection::vec(any::<Group>(), 0..70),
            seed in any::<u32>(),
        ) {
            let mut state = seed;
            let mut panel = || -> Vec<Quads> {
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state ^ (state >> 13)).cast_signed()
                };
                left.iter().map(|_| std::array::from_fn(|_| next())).collect()
            };
            let (first, second) = (panel(), panel());
            let mut expected = [[[1; LANES]; ROWS]; 2];
            plain(&left, [&first, &second], &mut expected);
            if let Some(vnni) = Vnni::detect() {
                let mut sums = [[[2; LANES]; ROWS]; 2];
                vnni.block(&left, [&first, &second], &mut sums);
                prop_assert_eq!(sums, expected);
            }
        }
    }

    #[test]
    fn the_largest_bytes_do_not_saturate() {
        // 255 * -128 * 4 in each step; instructions for pairs of bytes would clip at 16 bits.
        let left = [[-1; ROWS]; 40];
        let panel = [[i32::from_le_bytes([128; 4]); LANES]; 40];
        let mut sums = [[[0; LANES]; ROWS]; 2];
        plain(&left, [&panel, &panel], &mut sums);
        assert_eq!(sums, [[[255 * -128 * 4 * 40; LANES]; ROWS]; 2]);
        if let Some(vnni) = Vnni::detect() {
            let mut fast = [[[0; LANES]; ROWS]; 2];
            vnni.block(&left, [&panel, &panel], &mut fast);
            assert_eq!(fast, sums);
        }
    }
}
