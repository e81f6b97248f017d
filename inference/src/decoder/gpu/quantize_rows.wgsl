@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = group.x * THREADS + thread;
    if WIDTH / 32u <= block {
        return;
    }
    let place = group.y * (WIDTH / 32u) + block;
    var values: array<vec4<f32>, 8>;
    for (var index = 0u; index < 8u; index += 1u) {
        values[index] = rows[place * 8u + index];
    }
    store_block(place, values);
}
