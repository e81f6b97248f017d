//! Operators for the CPU whose bits do not depend on the machine.
//!
//! Every float operation here is one that IEEE 754 rounds exactly (add, multiply, fused
//! multiply-add, divide, square root), in an order that the source fixes: a sum over `k` runs from
//! the first term to the last, and a sum over a row runs in [`LANES`] partial sums that are
//! joined in one fixed tree. Threads and vector instructions only decide who computes an element,
//! never how, so a vector has the same bits for any batch, any number of threads and any CPU.
//! Only the sign of a zero may differ, where `max` picks one of two zeros; it never reaches a sum,
//! because every sum starts from a positive zero.
//!
//! Loops are written so that the compiler vectorises them: inner loops over `[f32; LANES]`, no
//! bounds checks, no branches. [`vectorized`] lets it use AVX2 and FMA where the CPU has them.

pub(crate) mod attention;
pub(crate) mod exp;
pub(crate) mod gelu;
pub(crate) mod norm;
pub(crate) mod panels;
pub(crate) mod product;
pub(crate) mod silu;

use pulp::NullaryFnOnce;

/// Width of a panel, and number of partial sums of a row: two AVX2 registers of `f32`.
pub(crate) const LANES: usize = 16;

/// One row of a panel.
pub(crate) type Lane = [f32; LANES];

/// Runs `kernel` compiled for AVX2 and FMA if this CPU has them. Without them `f32::mul_add` is a
/// call that rounds the same way, slowly.
///
/// A kernel is a type and not a closure, because only a method can be forced to be compiled into
/// each of its two callers; everything that it calls is `inline(always)` for the same reason.
#[inline(always)]
pub(crate) fn vectorized<K: NullaryFnOnce>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(kernel);
    }
    kernel.call()
}

/// The sum of the lanes, as a tree of fixed shape.
#[inline(always)]
pub(crate) fn sum(mut lanes: Lane) -> f32 {
    let mut width = LANES / 2;
    while 0 < width {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest of the lanes.
#[inline(always)]
pub(crate) fn max(mut lanes: Lane) -> f32 {
    let mut width = LANES / 2;
    while 0 < width {
        for lane in 0..width {
            lanes[lane] = lanes[lane].max(lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}
