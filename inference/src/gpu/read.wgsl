// Reads every word once, in the widest loads there are; neighbouring threads read neighbouring words.

var<workgroup> partial: array<u32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var sum = vec4<u32>(0u);
    for (var index = group.x * THREADS + thread; index < COUNT; index += STRIDE) {
        sum += source[index];
    }
    partial[thread] = sum.x + sum.y + sum.z + sum.w;
    workgroupBarrier();
    // The sum is of no interest, but without it nothing would be read.
    if thread == 0u {
        var total = 0u;
        for (var index = 0u; index < THREADS; index += 1u) {
            total += partial[index];
        }
        sums[group.x] = total;
    }
}
