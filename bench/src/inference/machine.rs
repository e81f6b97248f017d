//! What the machine can do at most.

use std::time::Instant;

/// Bytes that are read: far more than any cache holds.
const READ_BYTES: usize = 512 * 1024 * 1024;

/// Values that one thread reads at a time, in as many sums as its registers take.
const BLOCK: usize = 64;

/// Width of the square matrices of the peer's product: large enough for its best speed.
pub(crate) fn sgemm_size() -> usize {
    1536
}

/// Memory read by all cores together, in GB/s.
pub(crate) fn read_bandwidth() -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let values = vec![1_u64; READ_BYTES / size_of::<u64>()];
    let started = Instant::now();
    let total: u64 = std::thread::scope(|scope| {
        let parts: Vec<_> = values
            .chunks(values.len().div_ceil(threads))
            .map(|part| scope.spawn(move || sum(part)))
            .collect();
        parts.into_iter().filter_map(|part| part.join().ok()).sum()
    });
    let elapsed = started.elapsed().as_secs_f64();
    // The sum is used, so the reading cannot be left out.
    debug_assert_eq!(total, values.len() as u64);
    READ_BYTES as f64 / elapsed / 1e9
}

fn sum(values: &[u64]) -> u64 {
    let mut sums = [0_u64; BLOCK];
    for block in values.as_chunks::<BLOCK>().0 {
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(*value);
        }
    }
    sums.iter().sum()
}
