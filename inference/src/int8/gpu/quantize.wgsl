// States as bytes, one workgroup for each row: `quantize` of `linear.rs`. A row of the result is its
// bytes, four to a word, its reach and its zero.

const BYTE_MAX: i32 = 127;
const QUANTIZER_BITS: u32 = 22u;
const STRIDE: u32 = WIDTH / 4u + 2u;

@group(0) @binding(0) var<storage, read_write> states: array<i32>;
@group(0) @binding(1) var<storage, read_write> out: array<i32>;

fn whole_steps(value: i32, quantizer: i32) -> i32 {
    return (value * quantizer + (1 << (QUANTIZER_BITS - 1u))) >> QUANTIZER_BITS;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let start = group.x * WIDTH;
    var low = 0;
    var high = 0;
    for (var column = thread; column < WIDTH; column += THREADS) {
        low = max(low, -states[start + column]);
        high = max(high, states[start + column]);
    }
    let lowest = -max_of(thread, low);
    let highest = max_of(thread, high);
    let middle = (lowest + highest) >> 1u;
    let reach = max(max(highest - middle, middle - lowest), 1);
    let quantizer = (BYTE_MAX << QUANTIZER_BITS) / reach;
    let zero = whole_steps(middle, quantizer);
    for (var word = thread; word < WIDTH / 4u; word += THREADS) {
        var packed = 0u;
        for (var index = 0u; index < 4u; index += 1u) {
            let value = whole_steps(states[start + 4u * word + index], quantizer) - zero;
            let byte = clamp(value, -BYTE_MAX, BYTE_MAX);
            packed |= (u32(byte) & 255u) << (8u * index);
        }
        out[group.x * STRIDE + word] = i32(packed);
    }
    if thread == 0u {
        out[group.x * STRIDE + WIDTH / 4u] = reach;
        out[group.x * STRIDE + WIDTH / 4u + 1u] = zero;
    }
}
