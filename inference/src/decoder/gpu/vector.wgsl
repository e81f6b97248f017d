// The product of a few rows: LANES threads share an output's units in turn, and each has four outputs, so
// that many loads are on their way at once. The lanes' sums are added in their order: an element has the
// same bits here and in the kernels for tiles.

const LANES: u32 = 32u;
const COLUMNS: u32 = 4u;

// Pairs of outputs of a workgroup.
const PAIRS: u32 = THREADS / LANES * COLUMNS / 2u;

var<workgroup> partial: array<array<vec4<f32>, THREADS>, ROWS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let count = info[COUNT_AT];
    let lane = thread % LANES;
    let first_column = group.y * (THREADS / LANES) * COLUMNS;
    let column = first_column + thread / LANES * COLUMNS;
    let first_row = group.x * ROWS;
    let a = weight_row(column);
    let b = weight_row(column + 1u);
    let c = weight_row(column + 2u);
    let d = weight_row(column + 3u);
    // Rows that are not there are computed as the last one that is.
    var sums: array<vec4<f32>, ROWS>;
    var factors: array<f32, ROWS>;
    for (var row = 0u; row < ROWS; row += 1u) {
        sums[row] = vec4<f32>(0.0f);
        factors[row] = factor_of(min(first_row + row, count - 1u), thread);
    }
    for (var unit = lane; unit < UNITS; unit += LANES) {
        let of_a = unit_of(a, unit);
        let of_b = unit_of(b, unit);
        let of_c = unit_of(c, unit);
        let of_d = unit_of(d, unit);
        for (var row = 0u; row < ROWS; row += 1u) {
            let from_row = min(first_row + row, count - 1u);
            sums[row] = add_unit(sums[row], from_row, unit, factors[row], of_a, of_b, of_c, of_d);
        }
    }
    for (var row = 0u; row < ROWS; row += 1u) {
        partial[row][thread] = sums[row];
    }
    workgroupBarrier();
    // Two neighbouring outputs of one row for each thread.
    let row = thread / PAIRS;
    if ROWS <= row || count <= first_row + row {
        return;
    }
    let pair = thread % PAIRS;
    let start = pair / 2u * LANES;
    var total = vec2<f32>(0.0f);
    for (var index = 0u; index < LANES; index += 1u) {
        let part = partial[row][start + index];
        total += select(part.xy, part.zw, pair % 2u == 1u);
    }
    finish(first_row + row, first_column + 2u * pair, total);
}
