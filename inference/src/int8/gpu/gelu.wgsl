// GELU of states in place, by the table of `fixed.rs`, which lies behind that of powers.

const POWERS: u32 = 1024u;

@group(0) @binding(0) var<storage, read_write> states: array<i32>;
@group(0) @binding(1) var<storage, read_write> tables: array<i32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var column = thread; column < WIDTH; column += THREADS) {
        let x = states[group.x * WIDTH + column];
        let index = min((abs(x) + 8) >> 4u, 2048);
        states[group.x * WIDTH + column] = max(x, 0) - tables[POWERS + u32(index)];
    }
}
