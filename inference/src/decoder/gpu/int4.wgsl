// Weights of 4 bits, each level plus 8: a unit is a block of 32 inputs of one output, and a step. Word n
// has inputs 8n to 8n + 3 in the low halves of its bytes and the next four in the high ones.

struct Unit { levels: vec4<u32>, step: f32 }

fn step_of(row: u32, unit: u32) -> f32 {
    let place = row * UNITS + unit;
    return unpack2x16float(steps[place / 2u])[place % 2u];
}

fn unit_of(row: u32, unit: u32) -> Unit {
    return Unit(weights[row * UNITS + unit], step_of(row, unit));
}

fn pair(word: u32, first: u32, second: u32) -> i32 {
    return dot4I8Packed(word & 0x0f0f0f0fu, first) + dot4I8Packed((word >> 4u) & 0x0f0f0f0fu, second);
}

fn product(unit: Unit, low: vec4<u32>, high: vec4<u32>, sum: i32) -> i32 {
    return pair(unit.levels.x, low.x, low.y) + pair(unit.levels.y, low.z, low.w)
        + pair(unit.levels.z, high.x, high.y) + pair(unit.levels.w, high.z, high.w) - EXCESS * sum;
}

// What a product of levels has too much, for each unit of the sum of the inputs' levels.
const EXCESS: i32 = 8;

// A word of the unit's levels, each plus 8, one in a byte.
fn word_of(row: u32, unit: u32, word: u32) -> u32 {
    let nibbles = weights[row * UNITS + unit][word / 2u];
    return (nibbles >> (4u * (word % 2u))) & 0x0f0f0f0fu;
}
