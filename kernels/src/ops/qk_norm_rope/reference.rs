//! `q = rope(norm(q))`, `k_cache[position] = rope(norm(k))`, `v_cache[position] = v`

use crate::ops::attention::CacheType;
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
    let x = x.iter().map(|&v| f64::from(v)).collect();
    turned_f64(x, norm, eps, position, heads, head_dim, r)
}

/// The same on f64.
pub fn turned_f64(
    mut x: Vec<f64>,
    norm: Option<&[f32]>,
    eps: f64,
    position: u32,
    heads: usize,
    head_dim: usize,
    r: &Rotation,
) -> Vec<f64> {
    if let Some(w) = norm {
        for x in x.chunks_exact_mut(head_dim) {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / head_dim as f64;
            x.iter_mut().zip(w).for_each(|(x, &w)| *x *= f64::from(w) / (mean + eps).sqrt());
        }
    }
    rope_f64(x, position, heads, head_dim, r)
}

/// Gradient of [`turned`] with respect to x, given that with respect to its result: the rotation is undone
/// by turning the other way, then the chain rule through `y = x w / sqrt(mean(x^2) + eps)`.
pub fn turned_backward(
    x: &[f64],
    norm: Option<&[f32]>,
    eps: f64,
    position: u32,
    heads: usize,
    head_dim: usize,
    r: &Rotation,
    dy: &[f64],
) -> Vec<f64> {
    let back = Rotation { frequencies: r.frequencies.iter().map(|f| -f).collect(), ..r.clone() };
    let mut dx = rope_f64(dy.to_vec(), position, heads, head_dim, &back);
    let Some(w) = norm else { return dx };
    for (x, u) in x.chunks_exact(head_dim).zip(dx.chunks_exact_mut(head_dim)) {
        let s = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / head_dim as f64 + eps).sqrt();
        u.iter_mut().zip(w).for_each(|(u, &w)| *u *= f64::from(w));
        let mean = u.iter().zip(x).map(|(u, x)| u * x).sum::<f64>() / head_dim as f64;
        u.iter_mut().zip(x).for_each(|(u, x)| *u = s * (*u - x * s * s * mean));
    }
    dx
}

/// The bytes of a cache, or of a chunk of one, that holds these heads of `head_dim`.
pub fn encode(values: &[f32], ty: CacheType, head_dim: usize) -> Vec<u8> {
    let rows = (values.len() / head_dim) as u64;
    let mut bytes: Vec<u8> = match ty {
        CacheType::F32 => bytemuck::cast_slice(values).to_vec(),
        CacheType::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        CacheType::Q8_0 => {
            let word = |q: &[i32]| [q[0], q[2], q[1], q[3]].map(|q| (q + 128) as u8);
            blocks(values, ty)
                .flat_map(|(_, q)| q.chunks_exact(4).flat_map(word).collect::<Vec<_>>())
                .collect()
        }
        CacheType::Q4_0 => {
            let nibble = |q: i32| (q + 8) as u8;
            let byte = |q: &[i32]| {
                [(q[0], q[2]), (q[4], q[6]), (q[1], q[3]), (q[5], q[7])]
                    .map(|(low, high)| nibble(low) | nibble(high) << 4)
            };
            blocks(values, ty)
                .flat_map(|(_, q)| q.chunks_exact(8).flat_map(byte).collect::<Vec<_>>())
                .collect()
        }
    };
    if ty.blocks(head_dim as u32) > 0 {
        for head in values.chunks_exact(head_dim) {
            let scales: Vec<u8> = blocks(head, ty).flat_map(|(d, _)| d.to_le_bytes()).collect();
            bytes.extend(&scales);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes.resize(ty.bytes(rows, head_dim as u32) as usize, 0);
    bytes
}

/// Scale and integers of each block of 32.
fn blocks(values: &[f32], ty: CacheType) -> impl Iterator<Item = (half::f16, [i32; 32])> {
    values.chunks_exact(32).map(move |block| {
        let extreme = block.iter().fold(0.0f32, |e, &v| if v.abs() > e.abs() { v } else { e });
        let (d, low, high) = match ty {
            CacheType::Q4_0 => (half::f16::from_f32(extreme / -8.0), -8, 7),
            _ => (half::f16::from_f32(extreme.abs() / 127.0), -127, 127),
        };
        let inverse = if d.to_f32() == 0.0 { 0.0 } else { 1.0 / f64::from(d.to_f32()) };
        let round = |v: &f32| ((f64::from(*v) * inverse + 0.5).floor() as i32).clamp(low, high);
        (d, std::array::from_fn(|i| round(&block[i])))
    })
}

/// The values of the `rows` heads of `head_dim` that a cache's bytes hold.
pub fn decode(cache: &[u8], ty: CacheType, rows: usize, head_dim: usize) -> Vec<f32> {
    let (rows64, dim) = (rows as u64, head_dim as u32);
    let (values, scales) = cache.split_at(ty.value_bytes(rows64, dim) as usize);
    let scaled = |at: usize, q: i32| {
        let words = ty.blocks(dim).div_ceil(2) as usize;
        let at = at / head_dim * words * 4 + at % head_dim / 32 * 2;
        half::f16::from_le_bytes([scales[at], scales[at + 1]]).to_f32() * q as f32
    };
    match ty {
        CacheType::F32 => bytemuck::pod_collect_to_vec(values),
        CacheType::F16 => {
            bytemuck::pod_collect_to_vec::<u8, half::f16>(values).iter().map(|h| h.to_f32()).collect()
        }
        CacheType::Q8_0 => (0..rows * head_dim)
            .map(|i| scaled(i, i32::from(values[i / 4 * 4 + [0, 2, 1, 3][i % 4]]) - 128))
            .collect(),
        CacheType::Q4_0 => (0..rows * head_dim)
            .map(|i| {
                let nibble = i % 8 / 2 + 4 * (i % 2);
                scaled(i, i32::from(values[i / 8 * 4 + nibble / 2] >> (4 * (nibble % 2)) & 15) - 8)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{turned_backward, turned_f64};
    use crate::ops::rope::{Pairing, Rotation, Scaling};
    use crate::registry::{Rng, assert_gradient};

    /// The loss is g . y for a random g.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (heads, head_dim, position) = (3, 8, 5);
        for pairing in [Pairing::Adjacent, Pairing::HalfSplit] {
            let mut rotation = Rotation::new(6, 100.0, None, Scaling::None, pairing);
            rotation.mscale = 1.25;
            let mut rng = Rng::new(1);
            let w: Vec<f32> = (0..head_dim).map(|_| rng.normal()).collect();
            let mut random =
                || -> Vec<f64> { (0..2 * heads * head_dim).map(|_| f64::from(rng.normal())).collect() };
            let (x, g) = (random(), random());
            for norm in [None, Some(&w[..])] {
                let dx = turned_backward(&x, norm, 1e-2, position, heads, head_dim, &rotation, &g);
                assert_gradient(&x, &dx, |x| {
                    let y = turned_f64(x.to_vec(), norm, 1e-2, position, heads, head_dim, &rotation);
                    y.iter().zip(&g).map(|(y, g)| y * g).sum()
                });
            }
        }
    }
}
