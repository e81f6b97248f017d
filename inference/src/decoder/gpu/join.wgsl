// Joins the chunks of one token's attention in one head.

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if QUARTERS <= thread {
        return;
    }
    let position = info[ROWS_AT + 4u * group.x + 1u];
    var first = 0u;
    if 0u < WINDOW && WINDOW <= position {
        first = position + 1u - WINDOW;
    }
    let count = position / CHUNK + 1u - first / CHUNK;
    let place = group.x * HEADS + group.y;
    let start = place * info[CHUNKS_AT] * (QUARTERS + 1u);
    var ends = chunks[start].xy;
    var kept = chunks[start + 1u + thread];
    for (var index = 1u; index < count; index += 1u) {
        let slot = start + index * (QUARTERS + 1u);
        let next = chunks[slot].xy;
        kept = join(kept, ends, chunks[slot + 1u + thread], next);
        ends = join_ends(ends, next);
    }
    out[place * QUARTERS + thread] = kept / ends.y;
}
