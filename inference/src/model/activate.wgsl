@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let quarter = group.x * THREADS + thread;
    if quarter < INNER {
        out[group.y * INNER + quarter] = narrow(activated(group.y, quarter));
    }
}
