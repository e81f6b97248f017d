// What four outputs gain from one unit of a row of floats: a chain of fused multiply-adds for each, input
// after input.

fn add_quarter(
    sums: vec4<f32>, x: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>,
) -> vec4<f32> {
    var all = fma(vec4<f32>(x.x), vec4<f32>(a.x, b.x, c.x, d.x), sums);
    all = fma(vec4<f32>(x.y), vec4<f32>(a.y, b.y, c.y, d.y), all);
    all = fma(vec4<f32>(x.z), vec4<f32>(a.z, b.z, c.z, d.z), all);
    return fma(vec4<f32>(x.w), vec4<f32>(a.w, b.w, c.w, d.w), all);
}

// Four inputs of a row, whose states are normalised by `factor` where that is not done before.
fn input_of(row: u32, quarter: u32, factor: f32) -> vec4<f32> {
    let value = inputs[row * (UNITS * 4u) + quarter];
    if NORM {
        return value * factor * norm_scale(quarter);
    }
    return value;
}

fn add_unit(
    sums: vec4<f32>, row: u32, unit: u32, factor: f32, a: Unit, b: Unit, c: Unit, d: Unit,
) -> vec4<f32> {
    let at = unit * 4u;
    var all = add_quarter(sums, input_of(row, at, factor),
        first_quarter(a), first_quarter(b), first_quarter(c), first_quarter(d));
    all = add_quarter(all, input_of(row, at + 1u, factor),
        second_quarter(a), second_quarter(b), second_quarter(c), second_quarter(d));
    all = add_quarter(all, input_of(row, at + 2u, factor),
        third_quarter(a), third_quarter(b), third_quarter(c), third_quarter(d));
    return add_quarter(all, input_of(row, at + 3u, factor),
        fourth_quarter(a), fourth_quarter(b), fourth_quarter(c), fourth_quarter(d));
}

// What norms a row; the same sum as in `norm.wgsl`, which has as many threads.
fn factor_of(row: u32, thread: u32) -> f32 {
    if !NORM {
        return 1.0f;
    }
    var sum = 0.0f;
    for (var quarter = thread; quarter < UNITS * 4u; quarter += THREADS) {
        sum += squares(inputs[row * (UNITS * 4u) + quarter]);
    }
    return factor_from(thread, sum, UNITS * 16u);
}
