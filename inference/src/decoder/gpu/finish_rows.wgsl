// Outputs are stored, or added to what is there.

fn weight_row(column: u32) -> u32 {
    return min(column, COUNT - 1u);
}

fn finish(row: u32, column: u32, sums: vec2<f32>) {
    if column < COUNT {
        store(row * OUTPUTS + FIRST + column, sums.x + bias_of(FIRST + column));
    }
    if column + 1u < COUNT {
        store(row * OUTPUTS + FIRST + column + 1u, sums.y + bias_of(FIRST + column + 1u));
    }
}

fn store(place: u32, value: f32) {
    if ADD {
        out[place] += value;
    } else {
        out[place] = value;
    }
}
