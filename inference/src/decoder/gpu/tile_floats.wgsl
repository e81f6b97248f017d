// The product of many rows: a workgroup computes 64 rows of 64 outputs, a thread four by four. Units are
// taken lane by lane, as the kernel for a few rows does with many threads, so that an element is the same
// sum in the same order.

const LANES: u32 = 32u;
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;

// For each input of a unit the tile's rows, and its outputs.
var<workgroup> left: array<array<f32, TILE>, DEPTH>;
var<workgroup> right: array<array<f32, TILE>, DEPTH>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let count = info[COUNT_AT];
    let first_row = group.x * TILE;
    let first_column = group.y * TILE;
    let row_of_thread = thread / 16u * 4u;
    let column_of_thread = thread % 16u * 4u;
    // What the thread brings: a quarter of a unit of one row and of one output.
    let brought = thread / 4u;
    let quarter = thread % 4u;
    let from_row = min(first_row + brought, count - 1u);
    let from_weights = weight_row(first_column + brought);
    var totals = array<vec4<f32>, 4>(vec4<f32>(0.0f), vec4<f32>(0.0f), vec4<f32>(0.0f), vec4<f32>(0.0f));
    for (var lane = 0u; lane < LANES; lane += 1u) {
        var sums = array<vec4<f32>, 4>(vec4<f32>(0.0f), vec4<f32>(0.0f), vec4<f32>(0.0f), vec4<f32>(0.0f));
        for (var unit = lane; unit < UNITS; unit += LANES) {
            let x = inputs[(from_row * UNITS + unit) * 4u + quarter];
            let w = quarter_of(from_weights, unit, quarter);
            for (var index = 0u; index < 4u; index += 1u) {
                left[quarter * 4u + index][brought] = x[index];
                right[quarter * 4u + index][brought] = w[index];
            }
            workgroupBarrier();
            for (var input = 0u; input < DEPTH; input += 1u) {
                let w = vec4<f32>(right[input][column_of_thread], right[input][column_of_thread + 1u],
                    right[input][column_of_thread + 2u], right[input][column_of_thread + 3u]);
                for (var row = 0u; row < 4u; row += 1u) {
                    sums[row] = fma(vec4<f32>(left[input][row_of_thread + row]), w, sums[row]);
                }
            }
            workgroupBarrier();
        }
        for (var row = 0u; row < 4u; row += 1u) {
            totals[row] += sums[row];
        }
    }
    for (var row = 0u; row < 4u; row += 1u) {
        if first_row + row_of_thread + row < count {
            finish(first_row + row_of_thread + row, first_column + column_of_thread, totals[row].xy);
            finish(first_row + row_of_thread + row, first_column + column_of_thread + 2u, totals[row].zw);
        }
    }
}
