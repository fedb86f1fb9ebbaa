//! Caches with known values, and the sequences of a training batch.

use weft_runtime::{Gpu, Pool, Slice};

use crate::Result;
use crate::layout::{CacheShape, CacheType};

/// First token and one past the last of each token's sequence.
pub(crate) fn spans(lengths: &[u32]) -> Vec<[u32; 2]> {
    let mut end = 0;
    let of = |&n: &u32| {
        end += n;
        std::iter::repeat_n([end - n, end], n as usize)
    };
    lengths.iter().flat_map(of).collect()
}

/// The bytes of each chunk of a cache that holds `values`, `[positions, kv_heads, head_dim]`.
pub(crate) fn chunk_bytes(shape: &CacheShape, values: &[f32]) -> Vec<Vec<u8>> {
    let row = (shape.kv_heads * shape.head_dim) as usize;
    let chunks = (0..shape.chunks()).map(|i| shape.chunk(i));
    chunks
        .map(|r| {
            let values = &values[r.start as usize * row..r.end as usize * row];
            encode_cache(values, shape.ty, shape.head_dim as usize)
        })
        .collect()
}

/// The values that the bytes of chunk `i` hold.
pub(crate) fn chunk_values(shape: &CacheShape, i: usize, bytes: &[u8]) -> Vec<f32> {
    let rows = shape.chunk(i).len() * shape.kv_heads as usize;
    decode_cache(bytes, shape.ty, rows, shape.head_dim as usize)
}

/// A cache on the GPU with the given bytes of keys and of values, chunk by chunk.
pub(crate) fn cache_on_gpu(gpu: &Gpu, k: &[Vec<u8>], v: &[Vec<u8>]) -> Result<Vec<(Slice, Slice)>> {
    let upload = |bytes: &[u8]| gpu.alloc_init(Pool::KvCache, bytes, "cache");
    k.iter().zip(v).map(|(k, v)| Ok((upload(k)?, upload(v)?))).collect()
}

/// The bytes of a cache, or of a chunk of one, that holds these heads of `head_dim`.
pub(crate) fn encode_cache(values: &[f32], ty: CacheType, head_dim: usize) -> Vec<u8> {
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
            let byte = |q: &[i32]| {
                [(q[0], q[2]), (q[4], q[6]), (q[1], q[3]), (q[5], q[7])]
                    .map(|(low, high)| low as u8 | (high as u8) << 4)
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
        let least = block.iter().fold(0.0f32, |m, &v| m.min(v));
        let largest = block.iter().fold(0.0f32, |m, &v| m.max(v));
        let (d, zero, low, high) = match ty {
            CacheType::Q4_0 => {
                let zero = (30.0 * least / (least - largest).min(-1e-30) + 0.5) as u16;
                let bits = half::f16::from_f32((largest - least) / 15.0).to_bits();
                let d = half::f16::from_bits((bits + 16).saturating_sub(zero) & !31 | zero);
                (d, f64::from(zero) / 2.0, 0, 15)
            }
            _ => (half::f16::from_f32(largest.max(-least) / 127.0), 0.0, -127, 127),
        };
        let inverse = if d.to_f32() == 0.0 { 0.0 } else { 1.0 / f64::from(d.to_f32()) };
        let round = |v: &f32| ((f64::from(*v) * inverse + zero + 0.5).floor() as i32).clamp(low, high);
        (d, std::array::from_fn(|i| round(&block[i])))
    })
}

/// The values of the `rows` heads of `head_dim` that a cache's bytes hold.
pub(crate) fn decode_cache(cache: &[u8], ty: CacheType, rows: usize, head_dim: usize) -> Vec<f32> {
    let (rows64, dim) = (rows as u64, head_dim as u32);
    let (values, scales) = cache.split_at(ty.value_bytes(rows64, dim) as usize);
    let scale = |at: usize| {
        let words = ty.blocks(dim).div_ceil(2) as usize;
        let at = at / head_dim * words * 4 + at % head_dim / 32 * 2;
        half::f16::from_le_bytes([scales[at], scales[at + 1]])
    };
    match ty {
        CacheType::F32 => bytemuck::pod_collect_to_vec(values),
        CacheType::F16 => {
            bytemuck::pod_collect_to_vec::<u8, half::f16>(values).iter().map(|h| h.to_f32()).collect()
        }
        CacheType::Q8_0 => (0..rows * head_dim)
            .map(|i| scale(i).to_f32() * (f32::from(values[i / 4 * 4 + [0, 2, 1, 3][i % 4]]) - 128.0))
            .collect(),
        CacheType::Q4_0 => (0..rows * head_dim)
            .map(|i| {
                let nibble = i % 8 / 2 + 4 * (i % 2);
                let q = f32::from(values[i / 8 * 4 + nibble / 2] >> (4 * (nibble % 2)) & 15);
                let zero = f32::from(scale(i).to_bits() & 31) / 2.0;
                scale(i).to_f32() * (q - zero)
            })
            .collect(),
    }
}
