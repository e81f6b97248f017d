// Blocks of 32 inputs in 8 bits, each with its scale and the sum of its levels: `matrix/blocks.rs`. A
// thread makes a block.

fn store_block(block: u32, values: array<vec4<f32>, 8>) {
    var block_values = values;
    var high = vec4<f32>(0.0f);
    for (var index = 0u; index < 8u; index += 1u) {
        high = max(high, abs(block_values[index]));
    }
    let largest = max(max(high.x, high.y), max(high.z, high.w));
    var factor = 0.0f;
    if 0.0f < largest {
        factor = 127.0f / largest;
    }
    var words: array<u32, 8>;
    var sum = vec4<i32>(0);
    for (var index = 0u; index < 8u; index += 1u) {
        let level = vec4<i32>(round(block_values[index] * factor));
        sum += level;
        let bytes = vec4<u32>(level) & vec4<u32>(255u);
        words[index] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
    }
    levels[block * 2u] = vec4<u32>(words[0], words[1], words[2], words[3]);
    levels[block * 2u + 1u] = vec4<u32>(words[4], words[5], words[6], words[7]);
    // A sum of 32 levels is exact as a float.
    block_scales[block] = vec2<f32>(largest / 127.0f, f32(sum.x + sum.y + sum.z + sum.w));
}
