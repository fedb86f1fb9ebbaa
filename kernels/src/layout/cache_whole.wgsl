// Values of a cache without scales, by the names that decode_keys.wgsl has for those whose scales come apart.
alias Packed = Held;

fn packed_key(i: u32) -> Packed {
    return held_key(i);
}

fn packed_value(i: u32) -> Packed {
    return held_value(i);
}

fn values(q: Packed) -> mat2x4<f32> {
    return wide(q);
}
