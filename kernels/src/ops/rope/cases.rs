//! Cases of RoPE.

use weft_runtime::{Pool, Recorder};

use super::{Pairing, Rotation, Scaling};
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng};

/// Both pairings, every scaling, partial rotation, and positions up to the end of a long context.
pub fn cases() -> Vec<Case> {
    let yarn = Scaling::Yarn {
        factor: 4.0,
        original_context: 32_768.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention: 1.138_629_4,
    };
    let mut all = Vec::new();
    for pairing in [Pairing::Adjacent, Pairing::HalfSplit] {
        for (tokens, heads, head_dim, dims, position, magnitude) in [
            (1, 1, 2, 2, 0, 1.0),
            (1, 4, 128, 128, 40_959, 1.0),
            (7, 3, 80, 80, 113, 65_504.0),
            (130, 2, 64, 64, 100, 1.0),
            (5, 2, 96, 32, 131_071, 1.0),
            (33, 8, 256, 256, 1000, 1.0),
        ] {
            for (label, scaling, factors) in [
                ("plain", Scaling::None, false),
                ("linear", Scaling::Linear { factor: 8.0 }, false),
                ("yarn", yarn, false),
                ("factors", Scaling::None, true),
            ] {
                let shape = (tokens, heads, head_dim, dims, position, magnitude);
                all.push(case(pairing, shape, label, scaling, factors));
            }
        }
    }
    all
}

fn case(
    pairing: Pairing,
    (tokens, heads, head_dim, dims, position, magnitude): (u32, u32, u32, u32, u32, f32),
    label: &str,
    scaling: Scaling,
    with_factors: bool,
) -> Case {
    let name = format!(
        "{pairing:?} {label} tokens {tokens} heads {heads} x {head_dim} ({dims}) at {position} magnitude {magnitude:e}"
    );
    Case::new("rope", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(tokens * head_dim + position, seed);
        let factors: Vec<f32> = (0..dims / 2).map(|i| 1.0 + i as f32 * 0.3).collect();
        let factors = with_factors.then_some(&factors[..]);
        let rotation = Rotation::new(dims, 1e6, factors, scaling, pairing);
        let x = rng.values((tokens * heads * head_dim) as usize);
        let x: Vec<f32> = x.iter().map(|v| v * magnitude).collect();
        let state = gpu.alloc_init(Pool::State, bytemuck::bytes_of(&position), "state")?;
        let table = rotation.table(position + tokens);
        let table = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&table), "rope table")?;
        let y = Guarded::new(gpu, x.len(), Some(&x))?;
        let mut rec = Recorder::new(gpu);
        super::Rope {
            state: &state,
            table: &table,
            x: &y.slice,
            tokens,
            heads,
            head_dim,
            rotation: &rotation,
        }
        .record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        y.compare(gpu, &super::reference::rope(&x, position, heads as usize, head_dim as usize, &rotation))
    })
}
