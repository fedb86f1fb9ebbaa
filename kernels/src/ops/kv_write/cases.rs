//! Cases of the KV cache write.

use weft_runtime::{Pool, Recorder};

use crate::ops::attention::cases::cache_on_gpu;
use crate::ops::attention::{CacheShape, CacheType};
use crate::registry::{BASELINE, Case, Rng, input, nmse};

/// The first position, the last, and a batch that crosses a chunk's edge when the budget makes one.
pub fn cases() -> Vec<Case> {
    let shapes = [(16, 1, 8, 1, 0), (40, 2, 64, 7, 33), (513, 8, 128, 1, 512), (300, 4, 96, 130, 100)];
    CacheType::ALL.into_iter().flat_map(|ty| shapes.map(|shape| case(ty, shape))).collect()
}

fn case(ty: CacheType, (context, kv_heads, head_dim, tokens, position): (u32, u32, u32, u32, u32)) -> Case {
    let name = format!("context {context} heads {kv_heads} x {head_dim} tokens {tokens} at {position}");
    // Rounding to the cache's type is the op: the result is compared bit for bit with another rounding.
    Case::new("kv_write", BASELINE, name, 0.0, move |gpu, _, seed| {
        let width = (kv_heads * head_dim) as usize;
        let shape = CacheShape::new(ty, context, kv_heads, head_dim, gpu.budget())?;
        let mut rng = Rng::seeded(context + tokens, seed);
        let size = ty.bytes((context as usize * width) as u64) as usize;
        let (mut k, mut v) = (vec![0u8; size], vec![0u8; size]);
        let chunks = cache_on_gpu(gpu, &shape, &k, &v)?;
        let (x, z) = (rng.values(tokens as usize * width), rng.values(tokens as usize * width));
        let state = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&position), "state")?;
        let (xg, zg) = (input(gpu, &x)?, input(gpu, &z)?);
        let mut rec = Recorder::new(gpu);
        super::kv_write(&mut rec, &state, &xg, &zg, &shape, &chunks, tokens)?;
        gpu.run(&rec.finish()?, None)?;
        super::reference::kv_write(&mut k, ty, &x, position as usize, width);
        super::reference::kv_write(&mut v, ty, &z, position as usize, width);
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for (i, (kc, vc)) in chunks.iter().enumerate() {
            got.extend(gpu.read_vec::<u8>(kc)?.into_iter().chain(gpu.read_vec(vc)?).map(f32::from));
            let r = shape.chunk(i);
            let at = |position: u32| ty.bytes((position as usize * width) as u64) as usize;
            let r = at(r.start)..at(r.end);
            want.extend(k[r.clone()].iter().chain(&v[r]).map(|&b| f64::from(b)));
        }
        Ok(nmse(&got, &want))
    })
    .of_type(ty.name())
}
