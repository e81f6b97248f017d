//! From PyTorch's layout, `weight[output][input]`, to tiles.

use auspex_avx512::pages::{Pages, Piece};
use rayon::prelude::*;

use super::blocks::{BLOCK, Block4, Block8};
use crate::kernels::{LANES, Lane};

/// Largest finite `f16`.
const F16_MAX: f32 = 65504.0;

pub(super) fn f32_lanes(pages: &mut Pages, weight: &[f32], inputs: usize) -> Piece<Lane> {
    tiles(pages, weight, inputs, inputs, [0.0; LANES], |rows, input| rows.map(|row| row[input]))
}

pub(super) fn f16_lanes(
    pages: &mut Pages,
    weight: &[f32],
    inputs: usize,
) -> Result<Piece<[u16; LANES]>, String> {
    check_f16(weight)?;
    Ok(tiles(pages, weight, inputs, inputs, [0; LANES], |rows, input| {
        rows.map(|row| to_f16(row[input]))
    }))
}

/// `Err` names a value that `f16` cannot hold.
pub(crate) fn check_f16(weight: &[f32]) -> Result<(), String> {
    weight.iter().find(|value| F16_MAX < value.abs()).map_or(Ok(()), |value| {
        Err(format!("{value} is over the range of f16, {F16_MAX}; choose f32"))
    })
}

/// Each block as `form` makes it of the packed one.
pub(super) fn int8_blocks<B: Copy + Send>(
    pages: &mut Pages,
    weight: &[f32],
    inputs: usize,
    form: impl Fn(&Block8) -> B + Sync,
) -> Piece<B> {
    let nothing = form(&Block8::default());
    tiles(pages, weight, inputs, inputs / BLOCK, nothing, |rows, block| {
        let mut packed = Block8::default();
        for (lane, row) in rows.iter().enumerate() {
            let (scale, levels) = int8_levels(&row[block * BLOCK..(block + 1) * BLOCK]);
            packed.set(lane, scale, levels);
        }
        form(&packed)
    })
}

/// Each block as `form` makes it of the packed one.
pub(super) fn int4_blocks<B: Copy + Send>(
    pages: &mut Pages,
    weight: &[f32],
    inputs: usize,
    form: impl Fn(&Block4) -> B + Sync,
) -> Piece<B> {
    let nothing = form(&Block4::default());
    tiles(pages, weight, inputs, inputs / BLOCK, nothing, |rows, block| {
        let mut packed = Block4::default();
        for (lane, row) in rows.iter().enumerate() {
            let (scale, levels) = int4_levels(&row[block * BLOCK..(block + 1) * BLOCK]);
            packed.set(lane, scale, levels);
        }
        form(&packed)
    })
}

/// What a step of a block is worth, as `f16`, and how many steps each value is: -127 to 127.
pub(crate) fn int8_levels(values: &[f32]) -> (u16, impl Iterator<Item = i8>) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = scale_of(largest, 127.0);
    let levels = values.iter().map(move |value| (value / scale.value).round());
    (scale.bits, levels.map(|level| level.clamp(-127.0, 127.0) as i8))
}

/// As [`int8_levels`], from -8 to 7.
pub(crate) fn int4_levels(values: &[f32]) -> (u16, impl Iterator<Item = i8>) {
    // Sixteen levels have one more below zero than above; the value that is farthest from zero gets
    // that one, so the scale has the other sign where it is positive.
    let farthest =
        values.iter().fold(
            0.0_f32,
            |farthest, value| {
                if farthest.abs() < value.abs() { *value } else { farthest }
            },
        );
    let scale = scale_of(-farthest, 8.0);
    let levels = values.iter().map(move |value| (value / scale.value).round());
    (scale.bits, levels.map(|level| level.clamp(-8.0, 7.0) as i8))
}

/// Packs unit after unit of every tile; the lanes behind the last output are zero.
fn tiles<U: Copy + Send>(
    pages: &mut Pages,
    weight: &[f32],
    inputs: usize,
    units: usize,
    nothing: U,
    unit: impl Fn([&[f32]; LANES], usize) -> U + Sync,
) -> Piece<U> {
    let padding = vec![0.0; inputs];
    let weights = weight.par_chunks(inputs * LANES);
    let mut packed = pages.take(weights.len() * units, nothing);
    packed.par_chunks_exact_mut(units).zip(weights).for_each(|(packed, tile)| {
        let rows: [&[f32]; LANES] = std::array::from_fn(|lane| {
            tile.get(lane * inputs..(lane + 1) * inputs).unwrap_or(&padding)
        });
        for (index, packed) in packed.iter_mut().enumerate() {
            *packed = unit(rows, index);
        }
    });
    packed
}

/// What one step of a block is worth, as it is stored and as it is read back.
struct Scale {
    bits: u16,
    value: f32,
}

fn scale_of(largest: f32, levels: f32) -> Scale {
    let bits = to_f16((largest / levels).clamp(-F16_MAX, F16_MAX));
    let value = super::floats::from_f16(bits);
    // A block of zeros, or of values too small for any scale, becomes zeros.
    Scale { bits, value: if value == 0.0 { f32::INFINITY } else { value } }
}

/// The `f16` nearest to a finite value, ties to even; beyond the range infinity.
pub(crate) fn to_f16(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = value.abs();
    /// 2^-14, the smallest normal `f16`.
    const NORMAL_MIN: f32 = 6.103_515_6e-5;
    /// 2^24: a subnormal `f16` counts steps of 2^-24.
    const SUBNORMAL_STEPS: f32 = 16_777_216.0;
    if magnitude < NORMAL_MIN {
        return sign | (magnitude * SUBNORMAL_STEPS).round_ties_even() as u16;
    }
    // 13 bits of the fraction are cut off; half of them, and one less before an even result, is
    // added first. A carry runs into the exponent, as it should.
    let bits = magnitude.to_bits();
    let rounded = (bits + 0xfff + (bits >> 13 & 1)) >> 13;
    // The exponents' biases are 127 and 15.
    sign | (rounded - (112 << 10)).min(0x7c00) as u16
}
