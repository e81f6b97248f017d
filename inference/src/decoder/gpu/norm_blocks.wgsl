fn store(row: u32, start: u32, thread: u32, factor: f32) {
    for (var block = thread; block < WIDTH / 32u; block += THREADS) {
        var values: array<vec4<f32>, 8>;
        for (var index = 0u; index < 8u; index += 1u) {
            values[index] = normed(start, block * 8u + index, factor);
        }
        store_block(row * (WIDTH / 32u) + block, values);
    }
}
