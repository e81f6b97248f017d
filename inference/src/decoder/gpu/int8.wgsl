// Weights of 8 bits: a unit is a block of 32 inputs of one output, and a step.

struct Unit { low: vec4<u32>, high: vec4<u32>, step: f32 }

fn step_of(row: u32, unit: u32) -> f32 {
    let place = row * UNITS + unit;
    return unpack2x16float(steps[place / 2u])[place % 2u];
}

fn unit_of(row: u32, unit: u32) -> Unit {
    let at = (row * UNITS + unit) * 2u;
    return Unit(weights[at], weights[at + 1u], step_of(row, unit));
}

fn product(unit: Unit, low: vec4<u32>, high: vec4<u32>, sum: i32) -> i32 {
    return dot4I8Packed(unit.low.x, low.x) + dot4I8Packed(unit.low.y, low.y)
        + dot4I8Packed(unit.low.z, low.z) + dot4I8Packed(unit.low.w, low.w)
        + dot4I8Packed(unit.high.x, high.x) + dot4I8Packed(unit.high.y, high.y)
        + dot4I8Packed(unit.high.z, high.z) + dot4I8Packed(unit.high.w, high.w);
}

// What a product of levels has too much, for each unit of the sum of the inputs' levels.
const EXCESS: i32 = 0;

// A word of the unit's levels.
fn word_of(row: u32, unit: u32, word: u32) -> u32 {
    return weights[(row * UNITS + unit) * 2u + word / 4u][word % 4u];
}

fn weight_at(row: u32, input: u32) -> f32 {
    let word = i32(word_of(row, input / 32u, input % 32u / 4u));
    return f32(extractBits(word, 8u * (input % 4u), 8u)) * step_of(row, input / 32u);
}
