//! `cache[position, :] = x[t, :]` in the cache's type

use crate::ops::attention::CacheType;

/// Writes x `[tokens, width]` at `position` into the cache's bytes, `[positions, width]`.
pub fn kv_write(cache: &mut [u8], ty: CacheType, x: &[f32], position: usize, width: usize) {
    for (i, &v) in x.iter().enumerate() {
        let at = ty.bytes((position * width + i) as u64) as usize;
        match ty {
            CacheType::F32 => cache[at..at + 4].copy_from_slice(&v.to_le_bytes()),
            CacheType::F16 => cache[at..at + 2].copy_from_slice(&half::f16::from_f32(v).to_le_bytes()),
        }
    }
}
