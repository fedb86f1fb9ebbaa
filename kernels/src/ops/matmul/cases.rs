//! Cases of the matrix products.

use weft_runtime::{Pool, Recorder};

use super::{Epilogue, linear};
use crate::WeightType;
use crate::registry::{Case, Guarded, Rng, input, random_weight};

/// Every type, at token counts on both sides of every threshold and tile edge; one long row; and with
/// F32 the shapes where edges meet.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for &ty in WeightType::ALL {
        for (rows, cols, tokens) in
            [(67, 256, 1), (130, 512, 2), (33, 768, 5), (64, 256, 8), (65, 512, 9), (129, 256, 65)]
        {
            all.push(case(ty, rows, cols, tokens, false, false));
        }
        all.push(case(ty, 48, 1024, 1, true, true));
        all.push(case(ty, 48, 256, 33, true, true));
    }
    for (rows, cols, tokens) in [
        (1, 16, 1),
        (1, 16, 9),
        (3, 48, 7),
        (63, 32, 63),
        (64, 64, 64),
        (65, 80, 66),
        (17, 14_336, 1),
        (17, 14_336, 32),
        (300, 528, 3),
    ] {
        all.push(case(WeightType::F32, rows, cols, tokens, false, true));
        all.push(case(WeightType::F16, rows, cols, tokens, true, false));
    }
    all
}

fn case(ty: WeightType, rows: u32, cols: u32, tokens: u32, bias: bool, add: bool) -> Case {
    let extra = [(bias, " +bias"), (add, " +residual")].map(|(on, s)| if on { s } else { "" }).concat();
    let name = format!("{ty} rows {rows} cols {cols} tokens {tokens}{extra}");
    Case::new("matmul", name, 1e-6, move |gpu, oracle| {
        let mut rng = Rng::new(u64::from(rows * cols + tokens));
        let (w, values) = random_weight(gpu, oracle, ty, rows, cols, &mut rng)?;
        let x = rng.values((tokens * cols) as usize);
        let b = rng.values(rows as usize);
        let before = rng.values((tokens * rows) as usize);
        let b_gpu = gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&b), "bias")?;
        let x_gpu = input(gpu, &x)?;
        let y = Guarded::new(gpu, before.len(), add.then_some(&before[..]))?;
        let mut rec = Recorder::new(gpu);
        let epilogue = Epilogue { bias: bias.then_some(&b_gpu), add };
        linear(&mut rec, &w, &x_gpu, &y.slice, tokens, epilogue)?;
        gpu.run(&rec.finish()?, None)?;
        let want = super::reference::linear(
            &x,
            &values,
            cols as usize,
            bias.then_some(&b[..]),
            add.then_some(&before[..]),
        );
        y.compare(gpu, &want)
    })
    .of_type(ty)
}
