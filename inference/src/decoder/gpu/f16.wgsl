// Weights of 16 bits, two in a word: a unit is 16 inputs of one output.

struct Unit { low: vec4<u32>, high: vec4<u32> }

fn halves(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn unit_of(row: u32, unit: u32) -> Unit {
    let at = (row * UNITS + unit) * 2u;
    return Unit(weights[at], weights[at + 1u]);
}

fn quarter_of(row: u32, unit: u32, quarter: u32) -> vec4<f32> {
    let words = weights[(row * UNITS + unit) * 2u + quarter / 2u];
    return halves(select(words.xy, words.zw, quarter % 2u == 1u));
}

fn first_quarter(unit: Unit) -> vec4<f32> { return halves(unit.low.xy); }
fn second_quarter(unit: Unit) -> vec4<f32> { return halves(unit.low.zw); }
fn third_quarter(unit: Unit) -> vec4<f32> { return halves(unit.high.xy); }
fn fourth_quarter(unit: Unit) -> vec4<f32> { return halves(unit.high.zw); }

fn weight_at(row: u32, input: u32) -> f32 {
    let word = weights[row * (INPUTS / 8u) + input / 8u][(input / 2u) % 4u];
    return unpack2x16float(word)[input % 2u];
}
