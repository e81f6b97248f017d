// Outputs are a gate and what passes it, in turn; the first half of the weights are gates.

fn weight_row(column: u32) -> u32 {
    return (min(column, COUNT - 1u) & 1u) * (COUNT / 2u) + min(column, COUNT - 1u) / 2u;
}

fn finish(row: u32, column: u32, sums: vec2<f32>) {
    if column < COUNT {
        out[row * (COUNT / 2u) + column / 2u] = silu(sums.x) * sums.y;
    }
}
