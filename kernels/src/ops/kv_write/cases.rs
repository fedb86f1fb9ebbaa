//! Cases of the KV cache write.

use weft_runtime::{Pool, Recorder};

use crate::ops::attention::CacheShape;
use crate::ops::attention::cases::cache_on_gpu;
use crate::registry::{Case, Rng, input, nmse};

/// The first position, the last, and a batch that crosses a chunk's edge when the budget makes one.
pub fn cases() -> Vec<Case> {
    [(16, 1, 8, 1, 0), (40, 2, 64, 7, 33), (513, 8, 128, 1, 512), (300, 4, 96, 130, 100)]
        .map(|(context, kv_heads, head_dim, tokens, position)| {
            case(context, kv_heads, head_dim, tokens, position)
        })
        .into()
}

fn case(context: u32, kv_heads: u32, head_dim: u32, tokens: u32, position: u32) -> Case {
    let name = format!("context {context} heads {kv_heads} x {head_dim} tokens {tokens} at {position}");
    // Rounding to f16 is the op: the result is compared bit for bit with another rounding.
    Case::new("kv_write", name, 0.0, move |gpu, _| {
        let width = (kv_heads * head_dim) as usize;
        let shape = CacheShape::new(context, kv_heads, head_dim, gpu.budget())?;
        let mut rng = Rng::new(u64::from(context + tokens));
        let (mut k, mut v) = (vec![0u16; context as usize * width], vec![0u16; context as usize * width]);
        let chunks = cache_on_gpu(gpu, &shape, &k, &v)?;
        let (x, z) = (rng.values(tokens as usize * width), rng.values(tokens as usize * width));
        let state = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&position), "state")?;
        let (xg, zg) = (input(gpu, &x)?, input(gpu, &z)?);
        let mut rec = Recorder::new(gpu);
        super::kv_write(&mut rec, &state, &xg, &zg, &shape, &chunks, tokens)?;
        gpu.run(&rec.finish()?, None)?;
        super::reference::kv_write(&mut k, &x, position as usize, width);
        super::reference::kv_write(&mut v, &z, position as usize, width);
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for (kc, vc) in &chunks {
            got.extend(gpu.read_vec::<u16>(kc)?.into_iter().map(f32::from));
            got.extend(gpu.read_vec::<u16>(vc)?.into_iter().map(f32::from));
        }
        for i in 0..shape.chunks() {
            let r = shape.chunk(i);
            let r = r.start as usize * width..r.end as usize * width;
            want.extend(k[r.clone()].iter().chain(&v[r]).map(|&b| f64::from(b)));
        }
        Ok(nmse(&got, &want))
    })
}
