// Rows of a table: a workgroup copies the row that `COLUMN` of its token's place names.

@group(0) @binding(0) var<storage, read_write> table: array<i32>;
@group(0) @binding(1) var<storage, read_write> rows: array<i32>;
@group(0) @binding(2) var<storage, read_write> out: array<i32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let from_row = u32(rows[4u * (group.x + 1u) + COLUMN]) * WIDTH;
    for (var column = thread; column < WIDTH; column += THREADS) {
        out[group.x * WIDTH + column] = table[from_row + column];
    }
}
