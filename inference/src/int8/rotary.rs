//! Rotary positions of integers.

use crate::rope::{Rope, RopeScaling};

/// Fraction bits of cosines and sines.
const TURN_BITS: u32 = 13;

/// Largest magnitude of a component that is turned, 32 in real terms, twice what attention keeps of
/// it: two such components times a cosine and a sine have 31 bits together.
const TURNED_MAX: i32 = (1 << 17) - 1;

/// Cosines and sines of every position.
#[derive(Debug)]
pub(super) struct Turns {
    /// For each position a cosine for each pair of a head's components, then the sines.
    table: Vec<i32>,
    size: usize,
}

impl Turns {
    /// For heads of `size` components, an even number, and positions below `positions`.
    pub(super) fn new(theta: f64, size: usize, positions: usize) -> Self {
        let rope = Rope::new(theta, size, RopeScaling::Default);
        let values = (0..positions).flat_map(|position| rope.position(position));
        let table = values.map(|value| (value * (1 << TURN_BITS) as f32).round() as i32);
        Self { table: table.collect(), size }
    }

    /// All numbers, for a GPU.
    pub(super) fn numbers(&self) -> Vec<i32> {
        self.table.clone()
    }

    /// Turns `heads`, which lie one behind the other, by `position`.
    #[inline(always)]
    pub(super) fn turn(&self, heads: &mut [i32], position: usize) {
        let turns = &self.table[position * self.size..(position + 1) * self.size];
        let (cosines, sines) = turns.split_at(self.size / 2);
        for head in heads.chunks_exact_mut(self.size) {
            let (left, right) = head.split_at_mut(self.size / 2);
            let pairs = left.iter_mut().zip(right);
            for ((left, right), (cosine, sine)) in pairs.zip(cosines.iter().zip(sines)) {
                let x = (*left).clamp(-TURNED_MAX, TURNED_MAX);
                let y = (*right).clamp(-TURNED_MAX, TURNED_MAX);
                *left = (x * cosine - y * sine) >> TURN_BITS;
                *right = (y * cosine + x * sine) >> TURN_BITS;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_near_the_real_ones_up_to_the_largest_components() {
        let size = 16;
        let turns = Turns::new(1000.0, size, 300);
        let rope = Rope::new(1000.0, size, RopeScaling::Default);
        for position in [0, 1, 7, 299] {
            for scale in [3, 500, 9_000, TURNED_MAX / 8] {
                let mut head: Vec<i32> = (0..16).map(|index| (index - 8) * scale).collect();
                let mut real: Vec<f32> = head.iter().map(|value| *value as f32).collect();
                turns.turn(&mut head, position);
                rope.turn(&mut real, &rope.position(position));
                for (value, real) in head.iter().zip(&real) {
                    // The unit that is cut off, and half a step of the cosine and of the sine.
                    let bound = 1.0 + scale as f32 * 16.0 / (1 << TURN_BITS) as f32;
                    assert!((*value as f32 - real).abs() <= bound, "{position} {value} {real}");
                }
            }
        }
    }
}
