//! Cases of rows that become tiles.

use weft_runtime::{Pool, Recorder};

use super::Tile;
use crate::PlanError;
use crate::layout::Format;
use crate::ops::matmul::Columns;
use crate::select::BASELINE;
use crate::testing::{Case, Guarded, Rng, input};

/// One tile, rows and columns of several, a last tile that is not full, columns of a wider row, values that
/// f16 does not hold.
pub fn cases() -> Vec<Case> {
    let shapes = [
        ([16, 16], (0, 0), 1.0),
        ([33, 64], (0, 0), 1.0),
        ([100, 2560], (0, 0), 1.0),
        ([40, 48], (16, 4), 1.0),
        ([19, 32], (0, 0), 60_000.0),
        ([19, 32], (0, 0), 1e7),
    ];
    shapes
        .into_iter()
        .flat_map(|(shape, wide, most)| [8, 16].map(|side| case(shape, wide, most, (side, Format::F32))))
        .chain([8, 16].map(|side| case([33, 64], (16, 4), 1.0, (side, Format::F16))))
        .collect()
}

fn case(
    [rows, cols]: [u32; 2],
    (more, column): (u32, u32),
    magnitude: f32,
    (side, from): (u32, Format),
) -> Case {
    let half = if from == Format::F16 { " f16" } else { "" };
    let name = format!("{rows} x {cols} of {}{half} side {side} magnitude {magnitude:e}", cols + more);
    Case::new("tile", BASELINE, name, 5e-7, move |gpu, _, seed| {
        if !gpu.caps().f16 {
            return Err(PlanError::Shape { op: "tile", what: "no f16".into() }.into());
        }
        let stride = cols + more;
        let x = Rng::seeded(rows * stride, seed).values((rows * stride) as usize);
        let mut x: Vec<f32> = x.into_iter().map(|v| v * magnitude).collect();
        let given = match from {
            Format::F16 => {
                let bits: Vec<u16> = x.iter().map(|&v| half::f16::from_f32(v).to_bits()).collect();
                x = bits.iter().map(|&b| half::f16::from_bits(b).to_f32()).collect();
                gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(&bits), "case input")?
            }
            _ => input(gpu, &x)?,
        };
        let format = Format::Tiles { side };
        let y = Guarded::new(gpu, (format.rows(rows) * u64::from(cols)) as usize / 2, None)?;
        let mut rec = Recorder::new(gpu);
        let columns = Columns { stride, column };
        Tile { x: &given, from, columns, y: &y.slice, rows, cols, side, scale: 0.5 }.record(&mut rec)?;
        gpu.run(&rec.finish()?, None)?;
        let read = x.chunks_exact(stride as usize);
        let read: Vec<f64> = read
            .flat_map(|row| &row[column as usize..][..cols as usize])
            .map(|v| f64::from(v * 0.5))
            .collect();
        y.compare_as(gpu, format, [rows, cols], &read)
    })
}

#[cfg(test)]
mod tests {
    use super::super::reference::{rows, tiles};

    #[test]
    fn tiles_are_rows_in_another_order() {
        let x: Vec<f32> = (0..20 * 32).map(|i| i as f32).collect();
        let y = tiles(&x, 32, 16);
        assert_eq!(y.len(), 32 * 32);
        // The second tile of columns begins behind the 256 values of the first.
        assert_eq!((y[0], y[1], y[16], y[256]), (0.0, 1.0, 32.0, 16.0));
        assert_eq!(rows(&y, 20, 32, 16), x);
    }
}
