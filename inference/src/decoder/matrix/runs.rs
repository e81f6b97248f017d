//! Which tiles of a product a thread computes next.

use super::floats::TILES;
use crate::kernels::Lane;

/// A product's tiles that no thread has taken. The first runs are long, because memory is read fastest in
/// order; the last ones are single tiles, so that all threads end together, also where one was held up.
pub(super) struct Runs<'a, W> {
    first: usize,
    lanes: &'a mut [Lane],
    /// Lanes of a tile.
    rows: usize,
    weights: &'a [W],
    /// Weights of a tile.
    units: usize,
    threads: usize,
}

/// Neighbouring tiles.
pub(super) struct Run<'a, W> {
    /// Number of the first one.
    pub(super) first: usize,
    pub(super) lanes: &'a mut [Lane],
    pub(super) weights: &'a [W],
}

impl<'a, W> Runs<'a, W> {
    /// All tiles of `lanes`, with `rows` lanes and `units` of `weights` each.
    pub(super) fn new(lanes: &'a mut [Lane], rows: usize, weights: &'a [W], units: usize) -> Self {
        Self { first: 0, lanes, rows, weights, units, threads: rayon::current_num_threads() }
    }
}

impl<'a, W> Iterator for Runs<'a, W> {
    type Item = Run<'a, W>;

    fn next(&mut self) -> Option<Self::Item> {
        let tiles = self.lanes.len() / self.rows;
        if tiles == 0 {
            return None;
        }
        // Half of an equal share of what is left; with several rows, what is computed together stays together.
        let mut run = tiles.div_ceil(2 * self.threads);
        if 1 < self.rows {
            run = run.next_multiple_of(TILES);
        }
        let run = run.min(tiles);
        let (lanes, later) = std::mem::take(&mut self.lanes).split_at_mut(run * self.rows);
        self.lanes = later;
        let (weights, later) = self.weights.split_at(run * self.units);
        self.weights = later;
        let first = self.first;
        self.first += run;
        Some(Run { first, lanes, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::LANES;

    #[test]
    fn every_tile_is_in_one_run_and_the_last_runs_are_short() {
        for (rows, threads) in [(1, 1), (1, 2), (3, 2), (5, 64)] {
            for tiles in [0, 1, 2, 55, 608] {
                let mut lanes = vec![[0.0; LANES]; tiles * rows];
                let weights: Vec<usize> = (0..tiles * 7).collect();
                let mut runs = Runs::new(&mut lanes, rows, &weights, 7);
                runs.threads = threads;
                let (mut next, mut length) = (0, usize::MAX);
                for run in runs {
                    assert_eq!(run.first, next);
                    let count = run.lanes.len() / rows;
                    assert_eq!(run.weights, (next * 7..(next + count) * 7).collect::<Vec<_>>());
                    assert!(0 < count && count <= length);
                    (next, length) = (next + count, count);
                }
                assert_eq!(next, tiles);
                assert!(tiles == 0 || threads == 1 || length <= TILES);
            }
        }
    }
}
