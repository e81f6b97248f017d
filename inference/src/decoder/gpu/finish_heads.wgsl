// Outputs are pairs of components of heads of queries, keys and values; they are turned and kept.

fn weight_row(column: u32) -> u32 {
    let bounded = min(column, COUNT - 1u);
    let within = bounded % SIZE;
    return bounded - within + within / 2u + (within & 1u) * HALF;
}

fn finish(row: u32, column: u32, sums: vec2<f32>) {
    if COUNT <= column {
        return;
    }
    let head = column / SIZE;
    let pair = column % SIZE / 2u;
    let position = info[ROWS_AT + 4u * row + 1u];
    var both = sums + vec2<f32>(bias_of(head * SIZE + pair), bias_of(head * SIZE + pair + HALF));
    if head < HEADS + KEY_HEADS {
        both = turn(both.x, both.y, position, pair);
    }
    keep(row, head, position, pair, both.x);
    keep(row, head, position, pair + HALF, both.y);
}
