// A row of states over the root of its mean square, times the scales; one workgroup for each row. `store`
// keeps it as it is or in blocks of 8 bits.

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var row = group.x;
    if CHOSEN {
        row = info[CHOSEN_AT + group.x];
    }
    let start = row * (WIDTH / 4u);
    var sum = 0.0f;
    for (var index = thread; index < WIDTH / 4u; index += THREADS) {
        sum += squares(states[start + index]);
    }
    let factor = factor_from(thread, sum, WIDTH);
    store(group.x, start, thread, factor);
}

fn normed(start: u32, index: u32, factor: f32) -> vec4<f32> {
    return states[start + index] * factor * scales[index];
}
