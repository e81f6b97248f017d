// The functions that kernels share. They are put together from operations that are rounded exactly, as on
// the CPU, because a driver's own exponential is as exact as the driver likes.

// A number below every score; WGSL has no infinities.
const LOWEST: f32 = -3.0e38f;

// e^x for x <= 0: `kernels/exp.rs`.
fn exp_of(x: f32) -> f32 {
    let bounded = max(x, -87.0f);
    let n = round(bounded * 1.442695f);
    let r = fma(n, -1.4286068e-6f, fma(n, -0.69314575f, bounded));
    var p = fma(0.001381454f, r, 0.008368745f);
    p = fma(p, r, 0.04166839f);
    p = fma(p, r, 0.16666521f);
    p = fma(p, r, 0.49999994f);
    p = fma(p, r, 1.0f);
    p = fma(p, r, 1.0f);
    return p * bitcast<f32>((i32(n) + 127) << 23u);
}

fn silu(x: f32) -> f32 {
    let e = exp_of(-abs(x));
    return x * (select(1.0f, e, x < 0.0f) / (1.0f + e));
}
