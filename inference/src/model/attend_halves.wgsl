// A row of queries, keys and values in fours; their bias is added here.
const ROW: u32 = 3u * HEADS * QUARTERS;

fn loaded(index: u32) -> vec4<f32> {
    return wide(projected[index]) + bias_of(index % ROW);
}

fn keep(index: u32, value: vec4<f32>) {
    out[index] = narrow(value);
}

