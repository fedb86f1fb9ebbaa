// The 16 values of the non-linear 4-bit types, as signed bytes.
const CODEBOOK = array<u32, 4>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);

// The values of the four nibbles that lie in the low half of each byte.
fn coded(w: u32) -> u32 {
    var book = CODEBOOK;
    var out = 0u;
    for (var b = 0u; b < 4u; b++) {
        let q = (w >> (8u * b)) & 15u;
        out |= ((book[q >> 2u] >> (8u * (q & 3u))) & 255u) << (8u * b);
    }
    return out;
}

fn coded_groups(w: vec2<u32>) -> vec4<u32> {
    return vec4<u32>(coded(w.x), coded(w.x >> 4u), coded(w.y), coded(w.y >> 4u));
}
