// Four components of a head at `from`, which is the row's `quarter`, where positions are not rotary.
fn turned(from_quarter: u32, quarter: u32, position: u32) -> vec4<f32> {
    return loaded(from_quarter);
}
