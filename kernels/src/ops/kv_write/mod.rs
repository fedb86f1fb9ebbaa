//! Writes keys and values into the KV cache.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::ops::attention::{CacheShape, CacheType};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub token0: u32,
        pub tokens: u32,
        pub pairs: u32,
        pub position0: u32,
        pub positions: u32,
        pub grid_x: u32,
        pub pad: [u32; 2],
    }
}

const WG: u32 = 64;

/// The dispatches for chunk `chunk` of the cache. Operands: state, k, v, chunk of k, chunk of v.
///
/// # Errors
/// A token's keys that exceed a binding.
pub fn plan(
    tokens: u32,
    cache: &CacheShape,
    chunk: usize,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let width = cache.kv_heads * cache.head_dim;
    let row = u64::from(width) * 4;
    let positions = cache.chunk(chunk);
    let bytes = cache.chunk_bytes(chunk);
    Ok(split_rows("kv_write", tokens, &[row], budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let grid = fold((n * (width / 2)).div_ceil(WG), budget);
            let part = |operand| Bind { operand, offset: u64::from(t.start) * row, size: u64::from(n) * row };
            Dispatch {
                params: Params {
                    token0: t.start,
                    tokens: n,
                    pairs: width / 2,
                    position0: positions.start,
                    positions: positions.end - positions.start,
                    grid_x: grid[0],
                    pad: [0; 2],
                },
                binds: vec![
                    Bind { operand: 0, offset: 0, size: 4 },
                    part(1),
                    part(2),
                    Bind { operand: 3, offset: 0, size: bytes },
                    Bind { operand: 4, offset: 0, size: bytes },
                ],
                grid,
                cost: Cost { bytes: f64::from(n) * row as f64 * 3.0, flops: 0.0 },
            }
        })
        .collect())
}

fn name(ty: CacheType) -> &'static str {
    match ty {
        CacheType::F32 => "kv_write_f32",
        CacheType::F16 => "kv_write_f16",
    }
}

fn shader(ty: CacheType) -> Shader {
    let store = match ty {
        CacheType::F32 => include_str!("store_f32.wgsl"),
        CacheType::F16 => include_str!("store_f16.wgsl"),
    };
    Shader {
        name: name(ty).into(),
        source: compose(&[], &[("WG", WG)], &[store, include_str!("kernel.wgsl")]),
        bindings: [&[Access::Read][..], &[Access::ReadWrite; 4]].concat(),
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    CacheType::ALL.map(|ty| (shader(ty), Params::FIELDS)).into()
}

/// Records `cache[position + t] = k[t], v[t]`; `chunks` are the cache's (keys, values).
///
/// # Errors
/// No plan under the budget, or a shader the device refuses.
pub fn kv_write(
    rec: &mut Recorder,
    state: &Slice,
    k: &Slice,
    v: &Slice,
    cache: &CacheShape,
    chunks: &[(Slice, Slice)],
    tokens: u32,
) -> Result<()> {
    let pipeline = rec.gpu().pipeline(name(cache.ty), || shader(cache.ty))?;
    for (i, (kc, vc)) in chunks.iter().enumerate() {
        let plan = plan(tokens, cache, i, rec.gpu().budget())?;
        record(rec, &pipeline, &[state, k, v, kc, vc], &plan);
    }
    Ok(())
}
