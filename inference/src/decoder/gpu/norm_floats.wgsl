fn store(row: u32, start: u32, thread: u32, factor: f32) {
    for (var index = thread; index < WIDTH / 4u; index += THREADS) {
        out[row * (WIDTH / 4u) + index] = normed(start, index, factor);
    }
}
