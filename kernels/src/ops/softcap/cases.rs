//! Cases of the soft cap.

use weft_runtime::Recorder;

use super::Softcap;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng};

/// One value, several rows and workgroups, logits far below and far beyond the cap.
pub fn cases() -> Vec<Case> {
    let shapes = [
        ([1, 1], 1.0, 30.0),
        ([3, 4099], 10.0, 30.0),
        ([40, 1000], 10.0, 50.0),
        ([2, 300], 1e6, 30.0),
        ([2, 300], 1e-6, 30.0),
    ];
    shapes.map(|(shape, magnitude, cap)| case(shape, magnitude, cap)).into()
}

fn case([rows, cols]: [u32; 2], magnitude: f32, cap: f32) -> Case {
    let name = format!("rows {rows} cols {cols} magnitude {magnitude:e} cap {cap}");
    Case::new("softcap", BASELINE, name, 1e-7, move |gpu, _, seed| {
        let mut rng = Rng::seeded(rows * cols, seed);
        let values: Vec<f32> = rng.values((rows * cols) as usize).iter().map(|v| v * magnitude).collect();
        let x = Guarded::new(gpu, values.len(), Some(&values))?;
        let mut rec = Recorder::new(gpu);
        Softcap { x: &x.slice, rows, cols, cap }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        x.compare(gpu, &super::reference::softcap(&values, cap))
    })
}
