// Values times SiLU of the gates that stand behind them.
fn activated(row: u32, quarter: u32) -> vec4<f32> {
    let start = row * 2u * INNER + quarter;
    let value = wide(expanded[start]) + bias_of(quarter);
    let gate = wide(expanded[start + INNER]) + bias_of(INNER + quarter);
    return value * gate / (1.0f + exp(-gate));
}

