// Attention of a sequence to itself in one head: a thread for each of THREADS queries, all of which read the
// same keys and values, a few of them at a time. Weights are powers of differences from the largest score so
// far; when that grows, the sums shrink.

// A number below every score; WGSL has no infinities.
const LOWEST: f32 = -3.0e38f;

var<workgroup> key_tile: array<vec4<f32>, KEYS * QUARTERS>;
var<workgroup> value_tile: array<vec4<f32>, KEYS * QUARTERS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = places[4u * group.x];
    let length = places[4u * group.x + 1u];
    let query = places[4u * group.x + 2u] + thread;
    let head = group.y * QUARTERS;
    let at = min(query, length - 1u);
    var queries: array<vec4<f32>, QUARTERS>;
    var sums: array<vec4<f32>, QUARTERS>;
    for (var quarter = 0u; quarter < QUARTERS; quarter += 1u) {
        queries[quarter] = turned((first + at) * ROW + head + quarter, quarter, at) * SCALE;
        sums[quarter] = vec4<f32>(0.0f);
    }
    var largest = LOWEST;
    var total = 0.0f;
    for (var start = 0u; start < length; start += KEYS) {
        workgroupBarrier();
        for (var index = thread; index < KEYS * QUARTERS; index += THREADS) {
            let position = min(start + index / QUARTERS, length - 1u);
            let quarter = index % QUARTERS;
            let key = (first + position) * ROW + HEADS * QUARTERS + head + quarter;
            key_tile[index] = turned(key, quarter, position);
            value_tile[index] = loaded(key + HEADS * QUARTERS);
        }
        workgroupBarrier();
        let count = min(KEYS, length - start);
        var scores: array<f32, KEYS>;
        var high = largest;
        for (var key = 0u; key < KEYS; key += 1u) {
            var products = vec4<f32>(0.0f);
            for (var quarter = 0u; quarter < QUARTERS; quarter += 1u) {
                products = fma(queries[quarter], key_tile[key * QUARTERS + quarter], products);
            }
            let score = products.x + products.y + products.z + products.w;
            scores[key] = select(LOWEST, score, key < count);
            high = max(high, scores[key]);
        }
        let shrink = exp(largest - high);
        largest = high;
        total *= shrink;
        for (var quarter = 0u; quarter < QUARTERS; quarter += 1u) {
            sums[quarter] *= shrink;
        }
        for (var key = 0u; key < KEYS; key += 1u) {
            let weight = select(0.0f, exp(scores[key] - high), key < count);
            total += weight;
            for (var quarter = 0u; quarter < QUARTERS; quarter += 1u) {
                sums[quarter] = fma(vec4<f32>(weight), value_tile[key * QUARTERS + quarter], sums[quarter]);
            }
        }
    }
    if query < length {
        for (var quarter = 0u; quarter < QUARTERS; quarter += 1u) {
            keep((first + at) * (HEADS * QUARTERS) + head + quarter, sums[quarter] / total);
        }
    }
}
