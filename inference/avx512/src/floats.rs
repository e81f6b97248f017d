//! Sums of products in `f32`, every one of them a fused multiply-add in ascending order of the inputs.

use crate::LANES;

/// Rows that are computed together.
pub const ROWS: usize = 8;

/// Panels that are computed together: with the rows they fill 24 of AVX-512's 32 registers.
pub const PANELS: usize = 3;

/// One input of each row.
pub type Group = [f32; ROWS];

/// One input of each column of a panel.
pub type Lane = [f32; LANES];

/// Sums of [`ROWS`] rows for [`PANELS`] panels.
pub type Sums = [[Lane; ROWS]; PANELS];

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
    /// column's. `left` and all panels have the same length; what one has more is not read.
    pub fn block(self, left: &[Group], panels: [&[Lane]; PANELS], sums: &mut Sums) {
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: `self` exists only where `detect` found the feature.
            #[expect(unsafe_code, reason = "a call into code for instructions that were detected")]
            unsafe {
                x86::block(left, panels, sums);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        plain(left, panels, sums);
    }
}

/// [`Floats::block`] in plain arithmetic, on every CPU.
pub fn plain(left: &[Group], panels: [&[Lane]; PANELS], sums: &mut Sums) {
    for (sums, panel) in sums.iter_mut().zip(panels) {
        *sums = [[0.0; LANES]; ROWS];
        for (group, lane) in left.iter().zip(panel) {
            for (sums, factor) in sums.iter_mut().zip(group) {
                for (sum, value) in sums.iter_mut().zip(lane) {
                    *sum = factor.mul_add(*value, *sum);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m512, _mm512_fmadd_ps, _mm512_set1_ps, _mm512_setzero_ps};

    use super::{Group, Lane, PANELS, ROWS, Sums};

    #[target_feature(enable = "avx512f")]
    pub(super) fn block(left: &[Group], panels: [&[Lane]; PANELS], out: &mut Sums) {
        let mut sums = [[_mm512_setzero_ps(); PANELS]; ROWS];
        let [first, second, third] = panels;
        for (((group, first), second), third) in left.iter().zip(first).zip(second).zip(third) {
            let values = [load(first), load(second), load(third)];
            for (sums, factor) in sums.iter_mut().zip(group) {
                let factor = _mm512_set1_ps(*factor);
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = _mm512_fmadd_ps(factor, value, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (out, sum) in out.iter_mut().zip(sums) {
                store(*sum, &mut out[row]);
            }
        }
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
        fn the_instructions_give_the_plain_sums(length in 0_usize..70, seed in any::<u32>()) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            };
            let left: Vec<Group> = (0..length).map(|_| std::array::from_fn(|_| next())).collect();
            let panels: [Vec<Lane>; PANELS] = std::array::from_fn(|_| {
                (0..length).map(|_| std::array::from_fn(|_| next())).collect()
            });
            let panels = panels.each_ref().map(Vec::as_slice);
            let mut expected = [[[1.0; LANES]; ROWS]; PANELS];
            plain(&left, panels, &mut expected);
            if let Some(floats) = Floats::detect() {
                let mut sums = [[[2.0; LANES]; ROWS]; PANELS];
                floats.block(&left, panels, &mut sums);
                let bits = |sums: Sums| sums.map(|panel| panel.map(|row| row.map(f32::to_bits)));
                prop_assert_eq!(bits(sums), bits(expected));
            }
        }
    }
}
