// The product of many rows in blocks: a workgroup computes 64 rows of 64 outputs, a thread four by four.
// Blocks are taken lane by lane, as the kernel for a few rows does with many threads, so that an element is
// the same sum in the same order.

const LANES: u32 = 32u;
const TILE: u32 = 64u;
const WORDS: u32 = 8u;

// For each word of a block the tile's rows, and its outputs.
var<workgroup> left: array<array<u32, TILE>, WORDS>;
var<workgroup> right: array<array<u32, TILE>, WORDS>;
var<workgroup> row_scales: array<vec2<f32>, TILE>;
var<workgroup> column_steps: array<f32, TILE>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let count = info[COUNT_AT];
    let first_row = group.x * TILE;
    let first_column = group.y * TILE;
    let row_of_thread = thread / 16u * 4u;
    let column_of_thread = thread % 16u * 4u;
    // What the thread brings: two words of one row and of one output.
    let brought = thread / 4u;
    let word = thread % 4u * 2u;
    let from_row = min(first_row + brought, count - 1u);
    let from_weights = weight_row(first_column + brought);
    var totals = array<vec4<f32>, 4>(vec4<f32>(0.0f), vec4<f32>(0.0f), vec4<f32>(0.0f), vec4<f32>(0.0f));
    for (var lane = 0u; lane < LANES; lane += 1u) {
        var sums = array<vec4<f32>, 4>(vec4<f32>(0.0f), vec4<f32>(0.0f), vec4<f32>(0.0f), vec4<f32>(0.0f));
        for (var unit = lane; unit < UNITS; unit += LANES) {
            let at = from_row * UNITS + unit;
            let levels = inputs[2u * at + word / 4u];
            left[word][brought] = levels[word % 4u];
            left[word + 1u][brought] = levels[word % 4u + 1u];
            right[word][brought] = word_of(from_weights, unit, word);
            right[word + 1u][brought] = word_of(from_weights, unit, word + 1u);
            if word == 0u {
                row_scales[brought] = input_scales[at];
                column_steps[brought] = step_of(from_weights, unit);
            }
            workgroupBarrier();
            var products = array<vec4<i32>, 4>(vec4<i32>(0), vec4<i32>(0), vec4<i32>(0), vec4<i32>(0));
            for (var index = 0u; index < WORDS; index += 1u) {
                let a = right[index][column_of_thread];
                let b = right[index][column_of_thread + 1u];
                let c = right[index][column_of_thread + 2u];
                let d = right[index][column_of_thread + 3u];
                for (var row = 0u; row < 4u; row += 1u) {
                    let x = left[index][row_of_thread + row];
                    products[row] += vec4<i32>(dot4I8Packed(a, x), dot4I8Packed(b, x),
                        dot4I8Packed(c, x), dot4I8Packed(d, x));
                }
            }
            let steps_of_columns = vec4<f32>(column_steps[column_of_thread], column_steps[column_of_thread + 1u],
                column_steps[column_of_thread + 2u], column_steps[column_of_thread + 3u]);
            for (var row = 0u; row < 4u; row += 1u) {
                let scale = row_scales[row_of_thread + row];
                let exact = products[row] - vec4<i32>(EXCESS * i32(scale.y));
                sums[row] = fma(vec4<f32>(exact), scale.x * steps_of_columns, sums[row]);
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
