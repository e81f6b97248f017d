// The mean of the rows of a sequence; one workgroup for each.

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = places[2u * group.x];
    let length = places[2u * group.x + 1u];
    let width = HEADS * QUARTERS;
    for (var column = thread; column < width; column += THREADS) {
        var sum = vec4<f32>(0.0f);
        for (var row = 0u; row < length; row += 1u) {
            sum += states[(first + row) * width + column];
        }
        out[group.x * width + column] = sum / f32(length);
    }
}
