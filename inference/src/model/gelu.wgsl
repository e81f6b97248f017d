// GELU by the error function, four values at a time: `kernels/gelu.rs`.
fn activated(row: u32, quarter: u32) -> vec4<f32> {
    let x = wide(expanded[row * INNER + quarter]) + bias_of(quarter);
    let magnitude = min(abs(x), vec4<f32>(100.0f));
    let t = magnitude * 0.70710677f;
    let u = min(t, vec4<f32>(4.2f));
    var slope = vec4<f32>(-6.1618166e-6f);
    slope = slope * u + 8.652099e-5f;
    slope = slope * u - 0.0005051267f;
    slope = slope * u + 0.0013900293f;
    slope = slope * u + 0.00018334262f;
    slope = slope * u - 0.019399746f;
    slope = slope * u + 0.10287615f;
    slope = slope * u + 0.6365999f;
    slope = slope * u + 1.1283805f;
    return max(x, vec4<f32>(0.0f)) - 0.5f * magnitude * exp(-slope * t);
}

