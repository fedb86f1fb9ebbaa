//! `q = rope(norm(q))`, `k_cache[position] = rope(norm(k))`, `v_cache[position] = v`

use crate::ops::attention::CacheType;
use crate::ops::rmsnorm::reference::rmsnorm;
use crate::ops::rope::Rotation;
use crate::ops::rope::reference::rope_f64;

/// x `[tokens, heads, head_dim]` from `position` on, normed with `norm` where given, and rotated.
pub fn turned(
    x: &[f32],
    norm: Option<&[f32]>,
    eps: f64,
    position: u32,
    heads: usize,
    head_dim: usize,
    r: &Rotation,
) -> Vec<f64> {
    let x = match norm {
        Some(w) => rmsnorm(x, w, eps),
        None => x.iter().map(|&v| f64::from(v)).collect(),
    };
    rope_f64(x, position, heads, head_dim, r)
}

/// Writes values into a cache's bytes, one after the other from value `at` on.
pub fn store(cache: &mut [u8], ty: CacheType, values: &[f32], at: usize) {
    for (i, &v) in values.iter().enumerate() {
        let at = ty.bytes((at + i) as u64) as usize;
        match ty {
            CacheType::F32 => cache[at..at + 4].copy_from_slice(&v.to_le_bytes()),
            CacheType::F16 => cache[at..at + 2].copy_from_slice(&half::f16::from_f32(v).to_le_bytes()),
        }
    }
}

/// The values that a cache's bytes hold.
pub fn load(cache: &[u8], ty: CacheType) -> Vec<f32> {
    match ty {
        CacheType::F32 => bytemuck::pod_collect_to_vec(cache),
        CacheType::F16 => {
            bytemuck::pod_collect_to_vec::<u8, half::f16>(cache).iter().map(|h| h.to_f32()).collect()
        }
    }
}
