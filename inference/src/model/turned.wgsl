// Four components of a head, turned to their position. The halves of a head are the two coordinates of each
// pair; a position has its cosines and then its sines.
fn turned(from_quarter: u32, quarter: u32, position: u32) -> vec4<f32> {
    let half = QUARTERS / 2u;
    let pair = quarter % half;
    let cosine = turns[position * QUARTERS + pair];
    let sine = turns[position * QUARTERS + half + pair];
    let x = loaded(from_quarter - quarter + pair);
    let y = loaded(from_quarter - quarter + pair + half);
    return select(y * cosine + x * sine, x * cosine - y * sine, quarter < half);
}
