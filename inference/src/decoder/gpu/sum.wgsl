// The sum of every thread's value, always in the same order.

var<workgroup> parts_of_sum: array<f32, THREADS>;

fn sum_of(thread: u32, value: f32) -> f32 {
    parts_of_sum[thread] = value;
    workgroupBarrier();
    for (var width = THREADS / 2u; 0u < width; width /= 2u) {
        if thread < width {
            parts_of_sum[thread] += parts_of_sum[thread + width];
        }
        workgroupBarrier();
    }
    return parts_of_sum[0];
}

fn squares(value: vec4<f32>) -> f32 {
    return fma(value.w, value.w, fma(value.z, value.z, fma(value.y, value.y, value.x * value.x)));
}

// What norms a row of so many columns, from every thread's share of its squares.
fn factor_from(thread: u32, value: f32, columns: u32) -> f32 {
    let factor = 1.0f / sqrt(sum_of(thread, value) / f32(columns) + EPSILON);
    // The next sum begins when everybody has this one.
    workgroupBarrier();
    return factor;
}
