//! Random matrices of every type.

use weft_runtime::Gpu;

use super::case::Oracle;
use super::inputs::Rng;
use crate::{Result, Weight, WeightShape, WeightType};

/// Random blocks of `ty` with finite scales, as a file holds them.
pub fn random_blocks(ty: WeightType, rows: usize, cols: usize, rng: &mut Rng) -> Vec<u8> {
    let layout = ty.layout();
    let blocks = rows * cols / layout.block;
    match ty {
        WeightType::F32 => return bytemuck::cast_slice(&rng.values(rows * cols)).to_vec(),
        WeightType::F16 => {
            return rng
                .values(rows * cols)
                .into_iter()
                .flat_map(|v| half::f16::from_f32(v).to_le_bytes())
                .collect();
        }
        WeightType::BF16 => {
            return rng
                .values(rows * cols)
                .into_iter()
                .flat_map(|v| half::bf16::from_f32(v).to_le_bytes())
                .collect();
        }
        _ => {}
    }
    let mut out: Vec<u8> = (0..blocks * layout.bytes).map(|_| rng.bits() as u8).collect();
    for block in out.chunks_exact_mut(layout.bytes) {
        put_scales(ty, block, || half::f16::from_f32(rng.normal() * 0.01));
        match ty {
            // Exponents about 2^-6.
            WeightType::MXFP4 => block[0] = 118 + rng.below(6) as u8,
            // Scales about 1, some with the bit that is ignored, some the NaN that is read as 0.
            WeightType::NVFP4 => {
                block[..4].fill_with(|| [40, 40, 168, 127][rng.below(4)] | rng.below(24) as u8);
            }
            _ => {}
        }
    }
    out
}

/// Writes the f16 scales of a block, wherever its type has them.
pub(crate) fn put_scales(ty: WeightType, block: &mut [u8], mut d: impl FnMut() -> half::f16) {
    let at: &[usize] = match ty {
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4_K | WeightType::Q5_K => &[0, 2],
        WeightType::Q2_K => &[80, 82],
        WeightType::Q3_K => &[108],
        WeightType::Q6_K => &[208],
        WeightType::TQ1_0 => &[52],
        WeightType::TQ2_0 => &[64],
        WeightType::MXFP4 | WeightType::NVFP4 => &[],
        WeightType::IQ1_M => {
            // In the top nibbles of the last four u16.
            let d = d().to_bits();
            for i in 0..4 {
                let high = &mut block[49 + 2 * i];
                *high = *high & 15 | ((d >> (4 * i)) as u8) << 4;
            }
            &[]
        }
        _ => &[0],
    };
    for &at in at {
        block[at..at + 2].copy_from_slice(&d().to_le_bytes());
    }
}

/// Random weights on the GPU and, dequantised by the oracle, on the host.
pub(crate) fn random_weight(
    gpu: &Gpu,
    oracle: Oracle,
    ty: WeightType,
    rows: u32,
    cols: u32,
    rng: &mut Rng,
) -> Result<(Weight, Vec<f32>)> {
    weight_of(gpu, oracle, ty, rows, cols, &random_blocks(ty, rows as usize, cols as usize, rng))
}

/// The weights of a file's blocks on the GPU and, dequantised by the oracle, on the host.
pub(crate) fn weight_of(
    gpu: &Gpu,
    oracle: Oracle,
    ty: WeightType,
    rows: u32,
    cols: u32,
    bytes: &[u8],
) -> Result<(Weight, Vec<f32>)> {
    let mut values = vec![0.0; (rows * cols) as usize];
    oracle(ty, bytes, &mut values);
    let shape = WeightShape::new(ty, rows, cols, gpu.budget())?;
    Ok((Weight::upload(gpu, shape, &[bytes], "case weight")?, values))
}
