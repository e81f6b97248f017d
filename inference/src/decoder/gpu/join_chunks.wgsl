// How two neighbouring parts of an attention become one. The ends of a part are its largest score and the
// sum of its weights, which are powers of differences from that score.

fn join_ends(left: vec2<f32>, right: vec2<f32>) -> vec2<f32> {
    let high = max(left.x, right.x);
    let of_left = exp_of((left.x - high) * SCALE);
    let of_right = exp_of((right.x - high) * SCALE);
    return vec2<f32>(high, fma(right.y, of_right, left.y * of_left));
}

fn join(left: vec4<f32>, left_ends: vec2<f32>, right: vec4<f32>, right_ends: vec2<f32>) -> vec4<f32> {
    let high = max(left_ends.x, right_ends.x);
    let of_left = exp_of((left_ends.x - high) * SCALE);
    let of_right = exp_of((right_ends.x - high) * SCALE);
    return fma(right, vec4<f32>(of_right), left * of_left);
}
