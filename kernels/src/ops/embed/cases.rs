//! Cases of the token embedding.

use weft_runtime::{Pool, Recorder};

use crate::WeightType;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, random_weight};

/// Every type; a single row, first and last rows, repeats, more tokens than a workgroup, long rows,
/// and tensors larger than a small binding.
pub fn cases() -> Vec<Case> {
    let shapes =
        [(1u32, 256u32, 1u32), (5, 256, 1), (301, 256, 67), (1000, 512, 9), (7, 14_336, 5), (1600, 512, 200)];
    WeightType::ALL
        .iter()
        .flat_map(|&ty| shapes.map(|(rows, cols, tokens)| case(ty, rows, cols, tokens)))
        .collect()
}

fn case(ty: WeightType, rows: u32, cols: u32, tokens: u32) -> Case {
    let name = format!("rows {rows} cols {cols} tokens {tokens}");
    Case::new("embed", BASELINE, name, 1e-7, move |gpu, oracle, seed| {
        let mut rng = Rng::seeded(rows * tokens, seed);
        let (w, values) = random_weight(gpu, oracle, ty, rows, cols, &mut rng)?;
        let mut ids: Vec<u32> = (0..tokens).map(|_| rng.below(rows as usize) as u32).collect();
        ids[0] = rows - 1;
        *ids.last_mut().unwrap() = if tokens > 1 { 0 } else { rows - 1 };
        let ids_gpu = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&ids), "ids")?;
        let y = Guarded::new(gpu, (tokens * cols) as usize, None)?;
        let mut rec = Recorder::new(gpu);
        super::embed(&mut rec, &w, &ids_gpu, &y.slice, tokens)?;
        gpu.run(&rec.finish()?, None)?;
        y.compare(gpu, &super::reference::embed(&values, &ids, cols as usize))
    })
    .of_type(ty.name())
}
