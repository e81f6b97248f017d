// A row of queries, keys and values in fours.
const ROW: u32 = 3u * HEADS * QUARTERS;

fn loaded(index: u32) -> vec4<f32> {
    return projected[index];
}

fn keep(index: u32, value: vec4<f32>) {
    out[index] = value;
}

