// What four outputs gain from one block of a row in 8 bits: its products are summed exactly, and the sum is
// scaled and added by one fused multiply-add.

fn add_unit(
    sums: vec4<f32>, row: u32, unit: u32, factor: f32, a: Unit, b: Unit, c: Unit, d: Unit,
) -> vec4<f32> {
    let at = row * UNITS + unit;
    let low = inputs[2u * at];
    let high = inputs[2u * at + 1u];
    let scale = input_scales[at];
    let sum = i32(scale.y);
    let products = vec4<i32>(product(a, low, high, sum), product(b, low, high, sum),
        product(c, low, high, sum), product(d, low, high, sum));
    return fma(vec4<f32>(products), scale.x * vec4<f32>(a.step, b.step, c.step, d.step), sums);
}

// Rows in blocks are normalised before they are rounded.
fn factor_of(row: u32, thread: u32) -> f32 {
    return 1.0f;
}
