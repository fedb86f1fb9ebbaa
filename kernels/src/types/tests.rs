//! What the cases cannot see because it is small beside everything else.

use weft_runtime::{Gpu, Options, Pool, Recorder};

use super::WeightType;
use crate::testing::{Guarded, Rng, put_scales, random_blocks};
use crate::{Weight, WeightShape, ops};

/// Scales that are subnormal in f16 keep their value: none is flushed to zero.
#[test]
fn subnormal_scales_are_exact() {
    let gpu = pollster::block_on(Gpu::open(&Options::default())).expect("a Vulkan adapter");
    let (rows, cols) = (4u32, 256u32);
    for &ty in WeightType::ALL {
        let mut rng = Rng::new(7);
        let mut bytes = random_blocks(ty, rows as usize, cols as usize, &mut rng);
        for block in bytes.chunks_exact_mut(ty.layout().bytes) {
            // Below 2^10 in steps of 2^-24, either sign.
            let mut bits = || (1 + rng.below(1023) as u16) | (rng.below(2) as u16) << 15;
            match ty {
                WeightType::F32 | WeightType::BF16 | WeightType::MXFP4 => {}
                WeightType::F16 => {
                    block.chunks_exact_mut(2).for_each(|v| v.copy_from_slice(&bits().to_le_bytes()))
                }
                WeightType::NVFP4 => block[..4].fill_with(|| 1 + rng.below(7) as u8),
                _ => put_scales(ty, block, || half::f16::from_bits(bits())),
            }
        }
        let mut values = vec![0.0; (rows * cols) as usize];
        let file_type = weft_formats::quant::Type::parse(ty.name()).unwrap();
        weft_formats::quant::dequantize(file_type, &bytes, &mut values).unwrap();

        let shape = WeightShape::new(ty, rows, cols, gpu.budget()).unwrap();
        let w = Weight::upload(&gpu, shape, &[&bytes], "weight").unwrap();
        let ids = gpu.alloc_init(Pool::State, bytemuck::cast_slice(&[0u32, 1, 2, 3]), "ids").unwrap();
        let y = Guarded::new(&gpu, values.len(), None).unwrap();
        let mut rec = Recorder::new(&gpu);
        ops::embed::Embed::new(&w, &ids, &y.slice, rows).record(&mut rec).unwrap();
        gpu.run(&rec.finish().unwrap(), None).unwrap();
        let want: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        let nmse = y.compare(&gpu, &want).unwrap();
        assert!(nmse < 1e-12, "{ty}: {nmse:e}");
    }
}

/// Repacking neither adds nor drops bytes, but for the types that would take more arithmetic than the
/// bytes are worth: digits in base 3, signs that others imply, scales between the bits of others.
#[test]
fn planes_hold_exactly_the_block() {
    for ty in WeightType::ALL {
        let l = ty.layout();
        let bytes = match ty {
            WeightType::TQ1_0 => 66,
            WeightType::IQ1_M => 64,
            WeightType::IQ2_XXS | WeightType::IQ2_XS | WeightType::IQ3_XXS => l.bytes + 4,
            _ => l.bytes,
        };
        assert_eq!(l.planes.iter().sum::<usize>(), bytes, "{ty}");
        assert!(l.planes.len() <= 4, "{ty}");
    }
}
