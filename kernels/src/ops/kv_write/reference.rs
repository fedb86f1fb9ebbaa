//! `cache[position, :] = f16(x[t, :])`

/// The cache after writing x `[tokens, width]` at `position`; f16 bits, other positions unchanged.
pub fn kv_write(cache: &mut [u16], x: &[f32], position: usize, width: usize) {
    for (i, v) in x.iter().enumerate() {
        cache[position * width + i] = half::f16::from_f32(*v).to_bits();
    }
}
