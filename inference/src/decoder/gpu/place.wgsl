// One head of one token: queries and keys are normalised where the model does that, and turned to their
// position; keys and values go into the cache. One workgroup for each.

const HALF: u32 = SIZE / 2u;

var<workgroup> head_values: array<f32, SIZE>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x;
    let head = group.y;
    let position = info[ROWS_AT + 4u * row + 1u];
    let start = (row * (HEADS + 2u * KEY_HEADS) + head) * SIZE;
    let turned = head < HEADS + KEY_HEADS;
    var sum = 0.0f;
    for (var index = thread; index < SIZE; index += THREADS) {
        let value = projected[start + index];
        head_values[index] = value;
        sum = fma(value, value, sum);
    }
    let mean = sum_of(thread, sum) / f32(SIZE);
    if HEAD_NORM && turned {
        let factor = 1.0f / sqrt(mean + EPSILON);
        let scales = select(0u, SIZE, HEADS <= head);
        for (var index = thread; index < SIZE; index += THREADS) {
            head_values[index] = head_values[index] * factor * head_scales[scales + index];
        }
    }
    workgroupBarrier();
    for (var index = thread; index < SIZE; index += THREADS) {
        var value = head_values[index];
        if turned {
            let pair = index % HALF;
            let cosine = turns[position * SIZE + pair];
            let sine = turns[position * SIZE + HALF + pair];
            let x = head_values[pair];
            let y = head_values[pair + HALF];
            value = select(y * cosine + x * sine, x * cosine - y * sine, index < HALF);
        }
        store(row, head, position, index, value);
    }
}

fn store(row: u32, head: u32, position: u32, index: u32, value: f32) {
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
