// A token's key and value in workgroup memory, on their way to the cache: `key` and `value`, each
// array<f32, HD>. Blocks of 32 get one scale, from their least and their largest value or zero; BLOCKS is 0
// where the cache has no scales.

var<workgroup> extremes: array<vec2<f32>, 2u * BLOCKS + 1u>;

// Ends with a barrier where there are scales.
fn find_extremes(lid: u32) {
    if (BLOCKS > 0u) {
        for (var b = lid; b < 2u * BLOCKS; b += WG) {
            var extreme = vec2<f32>();
            // What is infinite or no number must not be stored as if it were one: the scale takes it over.
            var strange = 0u;
            for (var i = 0u; i < 32u; i++) {
                let at = b * 32u + i;
                let x = select(value[at % HD], key[at % HD], at < HD);
                extreme = vec2<f32>(min(extreme.x, x), max(extreme.y, x));
                let bits = bitcast<u32>(x);
                strange = select(strange, bits, (bits & 0x7f800000u) == 0x7f800000u);
            }
            extremes[b] = select(extreme, vec2<f32>(0.0, bitcast<f32>(strange)), strange != 0u);
        }
        workgroupBarrier();
    }
}

fn eight_keys(c: u32) -> mat2x4<f32> {
    let i = 8u * c;
    return mat2x4<f32>(
        key[i], key[i + 1u], key[i + 2u], key[i + 3u], key[i + 4u], key[i + 5u], key[i + 6u], key[i + 7u]);
}

fn eight_values(c: u32) -> mat2x4<f32> {
    let i = 8u * c;
    return mat2x4<f32>(
        value[i], value[i + 1u], value[i + 2u], value[i + 3u],
        value[i + 4u], value[i + 5u], value[i + 6u], value[i + 7u]);
}
