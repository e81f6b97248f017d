// Values times SiLU of the gates behind them, by the table of `fixed.rs`, which lies behind those of powers
// and of GELU.

const TAILS: u32 = 1024u + 2049u;

@group(0) @binding(0) var<storage, read_write> expanded: array<i32>;
@group(0) @binding(1) var<storage, read_write> tables: array<i32>;
@group(0) @binding(2) var<storage, read_write> out: array<i32>;

fn times(left: i32, right: i32) -> i32 {
    let whole = left * (right >> STATE_BITS);
    let high = left * ((right >> (STATE_BITS / 2u)) & 63);
    let low = left * (right & 63);
    let product = whole + (high >> (STATE_BITS / 2u)) + (low >> STATE_BITS);
    return clamp(product, -STATE_MAX, STATE_MAX);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var column = thread; column < WIDTH; column += THREADS) {
        let gate = expanded[group.x * 2u * WIDTH + WIDTH + column];
        let index = min((abs(gate) + 8) >> 4u, 4096);
        let opened = max(gate, 0) - tables[TAILS + u32(index)];
        out[group.x * WIDTH + column] = times(expanded[group.x * 2u * WIDTH + column], opened);
    }
}
