// Rotary positions of queries and keys, one workgroup for each token: `rotary.rs`.

const TURN_BITS: u32 = 13u;
const TURNED_MAX: i32 = 131071;
const HALF: u32 = SIZE / 2u;

// A row is a token's queries, keys and values.
@group(0) @binding(0) var<storage, read_write> projected: array<i32>;
@group(0) @binding(1) var<storage, read_write> turns: array<i32>;
@group(0) @binding(2) var<storage, read_write> places: array<i32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let position = group.x - u32(places[4u * (group.x + 1u) + 2u]);
    for (var pair = thread; pair < WIDTH / 3u; pair += THREADS) {
        let left = group.x * WIDTH + pair / HALF * SIZE + pair % HALF;
        let x = clamp(projected[left], -TURNED_MAX, TURNED_MAX);
        let y = clamp(projected[left + HALF], -TURNED_MAX, TURNED_MAX);
        let cosine = turns[position * SIZE + pair % HALF];
        let sine = turns[position * SIZE + HALF + pair % HALF];
        projected[left] = (x * cosine - y * sine) >> TURN_BITS;
        projected[left + HALF] = (y * cosine + x * sine) >> TURN_BITS;
    }
}
