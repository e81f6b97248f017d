// Adds an update to a row of states and normalises it in place, one workgroup for each row: `norm.rs`.

const ROOT_BITS: i32 = 26;
const DIFFERENCE_BITS: i32 = 13;

@group(0) @binding(0) var<storage, read_write> states: array<i32>;
@group(0) @binding(1) var<storage, read_write> addend: array<i32>;
// The columns' scales, then their shifts, then fraction bits of the scales, root of the width, and
// bits of the differences that are squared.
@group(0) @binding(2) var<storage, read_write> affine: array<i32>;

var<workgroup> differences: array<i32, WIDTH>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let start = group.x * WIDTH;
    var sum = 0;
    for (var column = thread; column < WIDTH; column += THREADS) {
        let value = clamp(states[start + column] + addend[start + column], -STATE_MAX, STATE_MAX);
        differences[column] = value;
        sum += value;
    }
    let total = sum_of(thread, sum);
    // Rounded down, also below zero.
    let quotient = total / i32(WIDTH);
    let mean = quotient - select(0, 1, total < quotient * i32(WIDTH));

    var high = 0;
    for (var column = thread; column < WIDTH; column += THREADS) {
        differences[column] -= mean;
        high = max(high, abs(differences[column]));
    }
    let largest = max_of(thread, high);

    let square_bits = affine[2u * WIDTH + 2u];
    let down = bits(largest) - square_bits;
    var squares = 0;
    for (var column = thread; column < WIDTH; column += THREADS) {
        let value = shift(differences[column], down);
        squares += value * value;
    }
    let square = max(sum_of(thread, squares), 1);
    let up = max((30 - bits(square)) / 2, 0);
    let inverse = affine[2u * WIDTH + 1u] / square_root(square << u32(2 * up));
    let narrow = bits(largest) - DIFFERENCE_BITS;
    let out = ROOT_BITS - i32(STATE_BITS) + DIFFERENCE_BITS - square_bits - up;
    let gamma_bits = u32(affine[2u * WIDTH]);
    for (var column = thread; column < WIDTH; column += THREADS) {
        let normal = shift(shift(differences[column], narrow) * inverse, out);
        let scaled = (normal * affine[column]) >> gamma_bits;
        states[start + column] = clamp(scaled + affine[WIDTH + column], -STATE_MAX, STATE_MAX);
    }
}
