// Attention of one token in one head, one workgroup for each: `attention.rs`.

const SCORE_BITS: u32 = 8u;
const SCORE_MAX: i32 = 4095;
const VALUE_BITS: u32 = 10u;
const VALUE_MAX: i32 = 32767;
const FACTOR_BITS: u32 = 15u;
const OCTAVE_BITS: u32 = 10u;

@group(0) @binding(0) var<storage, read_write> projected: array<i32>;
@group(0) @binding(1) var<storage, read_write> tables: array<i32>;
@group(0) @binding(2) var<storage, read_write> places: array<i32>;
@group(0) @binding(3) var<storage, read_write> out: array<i32>;

var<workgroup> query: array<i32, SIZE>;
var<workgroup> weights: array<i32, TOKENS_MAX>;

fn score(value: i32) -> i32 {
    return clamp(value >> (STATE_BITS - SCORE_BITS), -SCORE_MAX, SCORE_MAX);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x;
    let head = group.y * SIZE;
    let first = u32(places[4u * (row + 1u) + 2u]);
    let length = u32(places[4u * (row + 1u) + 3u]);
    for (var index = thread; index < SIZE; index += THREADS) {
        query[index] = score(projected[row * 3u * HIDDEN + head + index]);
    }
    workgroupBarrier();

    var high = -2147483647 - 1;
    for (var key = thread; key < length; key += THREADS) {
        let start = (first + key) * 3u * HIDDEN + HIDDEN + head;
        var product = 0;
        for (var index = 0u; index < SIZE; index += 1u) {
            product += query[index] * score(projected[start + index]);
        }
        weights[key] = product;
        high = max(high, product);
    }
    let largest = max_of(thread, high);

    var sum = 0;
    for (var key = thread; key < length; key += THREADS) {
        // Two scores may differ by more than 31 bits, but not by more than 32.
        let difference = min(u32(largest) - u32(weights[key]), 2147483647u) >> (2u * SCORE_BITS - OCTAVE_BITS);
        let octaves = (i32(min(difference, 65535u)) * FACTOR) >> FACTOR_BITS;
        let weight = tables[octaves & 1023] >> u32(min(octaves >> 10u, 31));
        weights[key] = weight;
        sum += weight;
    }
    let total = sum_of(thread, sum);

    let down = u32(bits(total) - 16);
    let inverse = (1 << 30u) / (total >> down);
    for (var index = thread; index < SIZE; index += THREADS) {
        var value = 0;
        for (var key = 0u; key < length; key += 1u) {
            let share = (weights[key] * inverse) >> (15u + down);
            let state = projected[(first + key) * 3u * HIDDEN + 2u * HIDDEN + head + index];
            value += share * clamp(state >> (STATE_BITS - VALUE_BITS), -VALUE_MAX, VALUE_MAX);
        }
        out[row * HIDDEN + head + index] = value >> (15u + VALUE_BITS - STATE_BITS);
    }
}
