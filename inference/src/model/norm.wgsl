// A row of states with an update added, less its mean and over the root of its variance; one workgroup for
// each. HIDDEN counts fours.

var<workgroup> row_values: array<vec4<f32>, HIDDEN>;
var<workgroup> partial: array<f32, THREADS>;

fn mean_of(thread: u32, value: f32) -> f32 {
    workgroupBarrier();
    partial[thread] = value;
    workgroupBarrier();
    for (var width = THREADS / 2u; 0u < width; width /= 2u) {
        if thread < width {
            partial[thread] += partial[thread + width];
        }
        workgroupBarrier();
    }
    return partial[0] / f32(4u * HIDDEN);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let start = group.x * HIDDEN;
    var sum = vec4<f32>(0.0f);
    for (var quarter = thread; quarter < HIDDEN; quarter += THREADS) {
        let value = states[start + quarter] + wide(update[start + quarter]) + bias_of(quarter);
        row_values[quarter] = value;
        sum += value;
    }
    let mean = mean_of(thread, sum.x + sum.y + sum.z + sum.w);
    var squares = vec4<f32>(0.0f);
    for (var quarter = thread; quarter < HIDDEN; quarter += THREADS) {
        let difference = row_values[quarter] - mean;
        squares += difference * difference;
    }
    let variance = mean_of(thread, squares.x + squares.y + squares.z + squares.w);
    let factor = 1.0f / sqrt(variance + EPSILON);
    for (var quarter = thread; quarter < HIDDEN; quarter += THREADS) {
        let value = (row_values[quarter] - mean) * factor * gamma[quarter] + beta[quarter];
        states[start + quarter] = value;
        out[start + quarter] = narrow(value);
    }
}
