// One head of one token, where a model normalises heads: queries and keys are normalised and turned to their
// position; keys and values go into the cache. One workgroup for each.

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
    let factor = factor_from(thread, sum, SIZE);
    if turned {
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
            let both = turn(head_values[pair], head_values[pair + HALF], position, pair);
            value = select(both.y, both.x, index < HALF);
        }
        keep(row, head, position, index, value);
    }
}
