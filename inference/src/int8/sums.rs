//! Sums of products of bytes and of 16-bit numbers, by the instructions that the CPU has. They are
//! exact, so all ways give the same bits.

use auspex_avx512::{
    Vnni,
    bytes::{Group, Quads, ROWS as VNNI_ROWS, Sums as Tile},
};

use crate::kernels::LANES;

/// Rows whose pairs are multiplied together: with two registers for each they fill 12 of AVX2's 16.
pub(super) const ROWS: usize = 6;

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = VNNI_ROWS;

/// What is added to a signed byte of a row where an instruction wants unsigned ones.
const OFFSET: i32 = 128;

const _: () = assert!(TILE_ROWS == 2 * ROWS && auspex_avx512::LANES == LANES);

/// Sums of one row of a panel.
pub(super) type Sums = [i32; LANES];

/// Two neighbouring inputs of each row.
pub(super) type RowPairs = [[i16; 2]; ROWS];

/// Two neighbouring inputs of each column of a panel.
pub(super) type Pairs = [[i16; 2]; LANES];

/// How bytes are multiplied.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Widened to 16 bits, two by two, which AVX2 has an instruction for.
    Pairs,
    /// Four by four.
    Quads(Vnni),
}

impl Way {
    /// The fastest one on this CPU.
    pub(super) fn best() -> Self {
        Vnni::detect().map_or(Self::Pairs, Self::Quads)
    }
}

/// Bytes of a layer's weights, by panels of columns.
#[derive(Debug)]
pub(super) enum Weights {
    Pairs(Vec<Pairs>),
    Quads(Vnni, Vec<Quads>),
}

/// Bytes of rows, by tiles; rows behind the last are zero.
#[derive(Debug)]
pub(super) enum Rows {
    Pairs(Vec<RowPairs>),
    Quads(Vec<Group>),
}

impl Weights {
    /// Packs `bytes[output][input]`; outputs are whole panels, inputs whole quads.
    pub(super) fn pack(bytes: &[i8], inputs: usize, way: Way) -> Self {
        let panels = bytes.chunks_exact(LANES * inputs);
        match way {
            Way::Pairs => {
                let mut packed = Vec::with_capacity(bytes.len() / 2 / LANES);
                for panel in panels {
                    for input in (0..inputs).step_by(2) {
                        packed.push(std::array::from_fn(|lane| {
                            let at = lane * inputs + input;
                            [i16::from(panel[at]), i16::from(panel[at + 1])]
                        }));
                    }
                }
                Self::Pairs(packed)
            }
            Way::Quads(vnni) => {
                let mut packed = Vec::with_capacity(bytes.len() / 4 / LANES);
                for panel in panels {
                    for input in (0..inputs).step_by(4) {
                        packed.push(std::array::from_fn(|lane| {
                            let at = lane * inputs + input;
                            let quad = [0, 1, 2, 3].map(|index| panel[at + index].cast_unsigned());
                            i32::from_le_bytes(quad)
                        }));
                    }
                }
                Self::Quads(vnni, packed)
            }
        }
    }

    /// One byte.
    pub(super) fn byte(&self, output: usize, input: usize, inputs: usize) -> i8 {
        let (panel, lane) = (output / LANES, output % LANES);
        match self {
            Self::Pairs(pairs) => pairs[(panel * inputs + input) / 2][lane][input % 2] as i8,
            Self::Quads(_, quads) => {
                let word = quads[(panel * inputs + input) / 4][lane];
                word.to_le_bytes()[input % 4].cast_signed()
            }
        }
    }

    /// How their rows have to be packed.
    pub(super) fn way(&self) -> Way {
        match self {
            Self::Pairs(_) => Way::Pairs,
            Self::Quads(vnni, _) => Way::Quads(*vnni),
        }
    }

    /// What is added to each byte of a row before it is multiplied.
    pub(super) fn offset(&self) -> i32 {
        match self {
            Self::Pairs(_) => 0,
            Self::Quads(..) => OFFSET,
        }
    }

    /// The sums of a tile of rows for panel `panel` and the one behind it; where there is none, those
    /// of the panel twice.
    pub(super) fn tile(
        &self,
        rows: &Rows,
        tile: usize,
        panel: usize,
        inputs: usize,
        out: &mut Tile,
    ) {
        match (self, rows) {
            (Self::Pairs(weights), Rows::Pairs(rows)) => {
                let depth = inputs / 2;
                let rows = &rows[2 * tile * depth..2 * (tile + 1) * depth];
                for (panel, out) in two(weights, depth, panel).into_iter().zip(out) {
                    for (left, out) in rows.chunks_exact(depth).zip(out.chunks_mut(ROWS)) {
                        pairs(left, panel, out);
                    }
                }
            }
            (Self::Quads(vnni, weights), Rows::Quads(rows)) => {
                let depth = inputs / 4;
                let rows = &rows[tile * depth..(tile + 1) * depth];
                vnni.block(rows, two(weights, depth, panel), out);
            }
            // Rows are packed the way that the model's weights are.
            (Self::Pairs(_), Rows::Quads(_)) | (Self::Quads(..), Rows::Pairs(_)) => {
                unreachable!("rows and weights of different ways")
            }
        }
    }
}

impl Rows {
    /// Room for `count` rows of `width` bytes.
    pub(super) fn zeros(count: usize, width: usize, way: Way) -> Self {
        let tiles = count.div_ceil(TILE_ROWS);
        match way {
            Way::Pairs => Self::Pairs(vec![[[0; 2]; ROWS]; 2 * tiles * width / 2]),
            Way::Quads(_) => Self::Quads(vec![[0; TILE_ROWS]; tiles * width / 4]),
        }
    }

    /// Sets one row.
    #[inline(always)]
    pub(super) fn set(&mut self, row: usize, bytes: &[i8]) {
        match self {
            Self::Pairs(rows) => {
                let group = &mut rows[row / ROWS * bytes.len() / 2..];
                for (group, pair) in group.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    group[row % ROWS] = pair.map(i16::from);
                }
            }
            Self::Quads(rows) => {
                let group = &mut rows[row / TILE_ROWS * bytes.len() / 4..];
                for (group, quad) in group.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    let raised = quad.map(|byte| byte.cast_unsigned() ^ 0x80);
                    group[row % TILE_ROWS] = i32::from_le_bytes(raised);
                }
            }
        }
    }
}

/// Panel `panel` of `depth` values each and the one behind it, or itself again.
fn two<T>(weights: &[T], depth: usize, panel: usize) -> [&[T]; 2] {
    let first = &weights[panel * depth..(panel + 1) * depth];
    [first, weights.get((panel + 1) * depth..(panel + 2) * depth).unwrap_or(first)]
}

/// Up to [`ROWS`] rows of a panel.
#[inline(always)]
pub(super) fn pairs(left: &[RowPairs], right: &[Pairs], out: &mut [Sums]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        simd.vectorize(avx2::Block { simd, left, right, out });
        return;
    }
    plain(left, right, out);
}

fn plain(left: &[RowPairs], right: &[Pairs], out: &mut [Sums]) {
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

    use super::{LANES, Pairs, ROWS, RowPairs, Sums};

    /// [`plain`](super::plain) by the instruction that multiplies pairs and adds each pair.
    pub(super) struct Block<'a> {
        pub(super) simd: V3,
        pub(super) left: &'a [RowPairs],
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
        fn the_vector_instructions_give_the_plain_sums(
            rows in 1_usize..=ROWS,
            left in prop::collection::vec(any::<[[i8; 2]; ROWS]>(), 1..40),
            seed in any::<u32>(),
        ) {
            let left: Vec<RowPairs> =
                left.iter().map(|rows| rows.map(|pair| pair.map(i16::from))).collect();
            let mut state = seed;
            let right: Vec<Pairs> = left.iter().map(|_| std::array::from_fn(|_| std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                i16::from((state >> 24) as i8)
            }))).collect();
            let (mut fast, mut slow) = (vec![[0; LANES]; rows], vec![[0; LANES]; rows]);
            pairs(&left, &right, &mut fast);
            plain(&left, &right, &mut slow);
            prop_assert_eq!(fast, slow);
        }

        #[test]
        fn both_ways_give_the_same_tiles(
            count in 1_usize..30, quads in 1_usize..40, panels in 1_usize..4, seed in any::<u32>(),
        ) {
            let mut state = seed;
            let mut bytes = |count: usize| -> Vec<i8> {
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((state >> 24) as i8).max(-127)
                };
                (0..count).map(|_| next()).collect()
            };
            let inputs = 4 * quads;
            let weights = bytes(panels * LANES * inputs);
            let left = bytes(count * inputs);
            let whole = |panel: usize, lane: usize, row: usize| -> i32 {
                let column = &weights[(panel * LANES + lane) * inputs..][..inputs];
                let row = &left[row * inputs..][..inputs];
                column.iter().zip(row).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
            };
            let ways = [Some(Way::Pairs), Vnni::detect().map(Way::Quads)];
            for way in ways.into_iter().flatten() {
                let packed = Weights::pack(&weights, inputs, way);
                let mut rows = Rows::zeros(count, inputs, way);
                for (row, bytes) in left.chunks_exact(inputs).enumerate() {
                    rows.set(row, bytes);
                }
                for (tile, panel) in (0..count.div_ceil(TILE_ROWS)).zip((0..panels).cycle()) {
                    let mut out = [[[0; LANES]; TILE_ROWS]; 2];
                    packed.tile(&rows, tile, panel, inputs, &mut out);
                    for row in tile * TILE_ROWS..count.min((tile + 1) * TILE_ROWS) {
                        for lane in 0..LANES {
                            let column = &weights[(panel * LANES + lane) * inputs..][..inputs];
                            let total: i32 = column.iter().map(|weight| i32::from(*weight)).sum();
                            let sum = out[0][row % TILE_ROWS][lane] - packed.offset() * total;
                            prop_assert_eq!(sum, whole(panel, lane, row));
                        }
                    }
                }
            }
        }
    }
}
