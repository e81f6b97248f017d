// The embeddings of tokens, as far as this part of the table has them: one workgroup for each row.

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let token = info[ROWS_AT + 4u * group.x];
    if token < FIRST || FIRST + COUNT <= token {
        return;
    }
    for (var input = thread; input < INPUTS; input += THREADS) {
        states[group.x * INPUTS + input] = weight_at(token - FIRST, input);
    }
}
