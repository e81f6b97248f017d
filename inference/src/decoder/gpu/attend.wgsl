// Attention of one token, in the heads that share one of keys, to chunks of what was read before it. A
// chunk is as many positions as there are threads; its softmax and its sum of values depend on nothing
// else, and chunks are joined in their order, here or by `join.wgsl`, by the same function. The order of
// every sum therefore depends on the positions alone.

const PARTS: u32 = THREADS / QUARTERS;
const LANES: u32 = 32u;

var<workgroup> query: array<vec4<f32>, TOGETHER * QUARTERS>;
var<workgroup> weights: array<array<f32, THREADS>, TOGETHER>;
var<workgroup> in_lanes: array<array<f32, LANES>, TOGETHER>;
var<workgroup> largest: array<f32, TOGETHER>;
var<workgroup> total: array<f32, TOGETHER>;
var<workgroup> partial: array<vec4<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x;
    let head = group.y * TOGETHER;
    let key_head = head / GROUP;
    let position = info[ROWS_AT + 4u * row + 1u];
    let table = info[ROWS_AT + 4u * row + 2u];
    var first = 0u;
    if 0u < WINDOW && WINDOW <= position {
        first = position + 1u - WINDOW;
    }
    for (var index = thread; index < TOGETHER * QUARTERS; index += THREADS) {
        query[index] = queries[(row * HEADS + head) * QUARTERS + index];
    }
    var chunk = first / THREADS;
    var end = position / THREADS + 1u;
    if SPLIT {
        chunk += group.z;
        if end <= chunk {
            return;
        }
        end = chunk + 1u;
    }
    let first_chunk = chunk;
    var kept: array<vec4<f32>, TOGETHER>;
    var kept_ends: array<vec2<f32>, TOGETHER>;
    for (; chunk < end; chunk += 1u) {
        let start = chunk * THREADS;
        let count = min(position + 1u - start, THREADS);
        workgroupBarrier();

        let at = start + thread;
        let seen = first <= at && at <= position;
        var scores: array<f32, TOGETHER>;
        for (var index = 0u; index < TOGETHER; index += 1u) {
            scores[index] = 0.0f;
        }
        if seen {
            let block = info[table + at / BLOCK];
            let base = (block * KEY_HEADS + key_head) * QUARTERS * BLOCK + at % BLOCK;
            for (var quarter = 0u; quarter < QUARTERS; quarter += 1u) {
                let key = keys[base + quarter * BLOCK];
                for (var index = 0u; index < TOGETHER; index += 1u) {
                    let q = query[index * QUARTERS + quarter];
                    scores[index] = fma(q.w, key.w, fma(q.z, key.z, fma(q.y, key.y, fma(q.x, key.x, scores[index]))));
                }
            }
        }
        for (var index = 0u; index < TOGETHER; index += 1u) {
            weights[index][thread] = select(LOWEST, scores[index], seen);
        }
        workgroupBarrier();
        for (var index = thread / LANES; index < TOGETHER; index += THREADS / LANES) {
            var high = LOWEST;
            for (var lane = thread % LANES; lane < THREADS; lane += LANES) {
                high = max(high, weights[index][lane]);
            }
            in_lanes[index][thread % LANES] = high;
        }
        workgroupBarrier();
        if thread < TOGETHER {
            var high = LOWEST;
            for (var lane = 0u; lane < LANES; lane += 1u) {
                high = max(high, in_lanes[thread][lane]);
            }
            largest[thread] = high;
        }
        workgroupBarrier();
        for (var index = 0u; index < TOGETHER; index += 1u) {
            let weight = exp_of((scores[index] - largest[index]) * SCALE);
            weights[index][thread] = select(0.0f, weight, seen);
        }
        workgroupBarrier();
        for (var index = thread / LANES; index < TOGETHER; index += THREADS / LANES) {
            var sum = 0.0f;
            for (var lane = thread % LANES; lane < THREADS; lane += LANES) {
                sum += weights[index][lane];
            }
            in_lanes[index][thread % LANES] = sum;
        }
        workgroupBarrier();
        if thread < TOGETHER {
            var sum = 0.0f;
            for (var lane = 0u; lane < LANES; lane += 1u) {
                sum += in_lanes[thread][lane];
            }
            total[thread] = sum;
        }

        let quarter = thread % QUARTERS;
        var sums: array<vec4<f32>, TOGETHER>;
        for (var index = 0u; index < TOGETHER; index += 1u) {
            sums[index] = vec4<f32>(0.0f);
        }
        if thread < PARTS * QUARTERS {
            for (var slot = thread / QUARTERS; slot < count; slot += PARTS) {
                let block = info[table + (start + slot) / BLOCK];
                let base = (block * KEY_HEADS + key_head) * BLOCK + (start + slot) % BLOCK;
                let value = values[base * QUARTERS + quarter];
                for (var index = 0u; index < TOGETHER; index += 1u) {
                    sums[index] = fma(vec4<f32>(weights[index][slot]), value, sums[index]);
                }
            }
        }
        for (var index = 0u; index < TOGETHER; index += 1u) {
            workgroupBarrier();
            partial[thread] = sums[index];
            workgroupBarrier();
            if thread < QUARTERS {
                var sum = vec4<f32>(0.0f);
                for (var part = 0u; part < PARTS; part += 1u) {
                    sum += partial[part * QUARTERS + thread];
                }
                let ends = vec2<f32>(largest[index], total[index]);
                if chunk == first_chunk {
                    kept[index] = sum;
                    kept_ends[index] = ends;
                } else {
                    kept[index] = join(kept[index], kept_ends[index], sum, ends);
                    kept_ends[index] = join_ends(kept_ends[index], ends);
                }
            }
        }
    }
    if thread < QUARTERS {
        for (var index = 0u; index < TOGETHER; index += 1u) {
            let place = row * HEADS + head + index;
            if SPLIT {
                let slot = (place * info[CHUNKS_AT] + group.z) * (QUARTERS + 1u);
                if thread == 0u {
                    out[slot] = vec4<f32>(kept_ends[index], 0.0f, 0.0f);
                }
                out[slot + 1u + thread] = kept[index];
            } else {
                out[place * QUARTERS + thread] = kept[index] / kept_ends[index].y;
            }
        }
    }
}
