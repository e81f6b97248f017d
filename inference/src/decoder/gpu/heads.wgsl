// Where components of heads go: queries to the attention of this pass, keys and values into the cache.

const HALF: u32 = SIZE / 2u;

// One pair of a head's components at its position.
fn turn(x: f32, y: f32, position: u32, pair: u32) -> vec2<f32> {
    let cosine = turns[position * SIZE + pair];
    let sine = turns[position * SIZE + HALF + pair];
    return vec2<f32>(fma(x, cosine, -(y * sine)), fma(y, cosine, x * sine));
}

fn keep(row: u32, head: u32, position: u32, index: u32, value: f32) {
    if head < HEADS {
        queries[(row * HEADS + head) * SIZE + index] = value;
        return;
    }
    let block = info[info[ROWS_AT + 4u * row + 2u] + position / BLOCK];
    let slot = position % BLOCK;
    if head < HEADS + KEY_HEADS {
        // Components of neighbouring positions lie side by side in fours, as threads read them.
        let base = (block * KEY_HEADS + head - HEADS) * SIZE * BLOCK;
        keys[base + (index / 4u * BLOCK + slot) * 4u + index % 4u] = value;
    } else {
        let base = (block * KEY_HEADS + head - HEADS - KEY_HEADS) * SIZE * BLOCK;
        values[base + slot * SIZE + index] = value;
    }
}
