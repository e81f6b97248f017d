// A linear layer: `Linear::apply` of `linear.rs`. A workgroup computes 64 rows of 64 columns, a thread
// four by four of them, from tiles of 16 words of each row and column.

const FACTOR_BITS: i32 = 15;
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
// A row ends with its reach and zero; a column with its factor, bias, total and the factor's bits.
const ROW_STRIDE: u32 = WORDS + 2u;
const COLUMN_STRIDE: u32 = WORDS + 4u;

@group(0) @binding(0) var<storage, read_write> rows: array<i32>;
@group(0) @binding(1) var<storage, read_write> columns: array<i32>;
// Its first value is the number of rows.
@group(0) @binding(2) var<storage, read_write> places: array<i32>;
@group(0) @binding(3) var<storage, read_write> out: array<i32>;

var<workgroup> left: array<u32, 1024>;
var<workgroup> right: array<u32, 1024>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let count = u32(places[0]);
    let first_row = group.y * TILE;
    let first_column = group.x * TILE;
    let row_of_thread = thread / 16u * 4u;
    let column_of_thread = thread % 16u * 4u;
    var sums: array<i32, 16>;
    for (var start = 0u; start < WORDS; start += DEPTH) {
        for (var index = thread; index < TILE * DEPTH; index += THREADS) {
            let word = start + index % DEPTH;
            let row = first_row + index / DEPTH;
            let column = first_column + index / DEPTH;
            left[index] = 0u;
            right[index] = 0u;
            if word < WORDS && row < count {
                left[index] = u32(rows[row * ROW_STRIDE + word]);
            }
            if word < WORDS && column < OUTPUTS {
                right[index] = u32(columns[column * COLUMN_STRIDE + word]);
            }
        }
        workgroupBarrier();
        for (var word = 0u; word < DEPTH; word += 1u) {
            for (var row = 0u; row < 4u; row += 1u) {
                let bytes = left[(row_of_thread + row) * DEPTH + word];
                for (var column = 0u; column < 4u; column += 1u) {
                    let weights = right[(column_of_thread + column) * DEPTH + word];
                    sums[row * 4u + column] += dot4I8Packed(bytes, weights);
                }
            }
        }
        workgroupBarrier();
    }
    for (var row = 0u; row < 4u; row += 1u) {
        for (var column = 0u; column < 4u; column += 1u) {
            store(count, first_row + row_of_thread + row, first_column + column_of_thread + column,
                sums[row * 4u + column]);
        }
    }
}

fn store(count: u32, row: u32, column: u32, sum: i32) {
    if count <= row || OUTPUTS <= column {
        return;
    }
    let reach = rows[row * ROW_STRIDE + WORDS];
    let zero = rows[row * ROW_STRIDE + WORDS + 1u];
    let at = column * COLUMN_STRIDE + WORDS;
    let up = FACTOR_BITS - bits(reach);
    let down = columns[at + 3u] - FACTOR_BITS + up - i32(LOW_BITS);
    let factor = (columns[at] * shift(reach, -up)) >> u32(FACTOR_BITS);
    let whole = sum + zero * columns[at + 2u];
    let low = whole & ((1 << LOW_BITS) - 1);
    let product = (whole >> LOW_BITS) * factor + ((low * factor) >> LOW_BITS);
    let value = (product << u32(clamp(-down, 0, 31))) >> u32(clamp(down, 0, 31));
    out[row * OUTPUTS + column] = clamp(value + columns[at + 1u], -STATE_MAX, STATE_MAX);
}
