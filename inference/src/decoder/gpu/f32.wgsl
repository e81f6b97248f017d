// Weights of 32 bits: a unit is 16 inputs of one output.

struct Unit { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32> }

fn unit_of(row: u32, unit: u32) -> Unit {
    let at = (row * UNITS + unit) * 4u;
    return Unit(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
}

fn quarter_of(row: u32, unit: u32, quarter: u32) -> vec4<f32> {
    return weights[(row * UNITS + unit) * 4u + quarter];
}

fn first_quarter(unit: Unit) -> vec4<f32> { return unit.a; }
fn second_quarter(unit: Unit) -> vec4<f32> { return unit.b; }
fn third_quarter(unit: Unit) -> vec4<f32> { return unit.c; }
fn fourth_quarter(unit: Unit) -> vec4<f32> { return unit.d; }

fn weight_at(row: u32, input: u32) -> f32 {
    return weights[row * (INPUTS / 4u) + input / 4u][input % 4u];
}
