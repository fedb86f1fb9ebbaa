//! Every decoder against the `gguf` Python package (tests/reference/quant_blocks.py).

use weft_formats::quant::{DECODES, Error, Type, dequantize};

const REFERENCE: &[u8] = include_bytes!("data/quant_blocks.safetensors");

fn reference(file: &safetensors::SafeTensors, ty: Type) -> Option<(Vec<u8>, Vec<f32>)> {
    let blocks = file.tensor(&format!("{ty}.blocks")).ok()?.data().to_vec();
    let values = file.tensor(&format!("{ty}.values")).ok()?;
    let values = values.data().chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()));
    Some((blocks, values.collect()))
}

#[test]
fn decoders_match_the_reference_bit_for_bit() {
    let file = safetensors::SafeTensors::deserialize(REFERENCE).unwrap();
    let mut checked = Vec::new();
    for ty in Type::all() {
        let Some((blocks, expected)) = reference(&file, ty) else { continue };
        let mut values = vec![f32::NAN; expected.len()];
        dequantize(ty, &blocks, &mut values).unwrap();
        for (i, (v, e)) in values.iter().zip(&expected).enumerate() {
            assert!(v == e, "{ty}: value {i} of block {} is {v}, not {e}", i / ty.block_len());
        }
        checked.push(ty);
    }
    // F32 is the format of the reference itself, and the package has no decoder for F64.
    let missing: Vec<_> = DECODES.iter().filter(|t| !checked.contains(t)).collect();
    assert_eq!(missing, [&Type::F32, &Type::F64]);
}

#[test]
fn plain_types() {
    let mut y = [0.0; 2];
    dequantize(Type::F32, bytes(&[1.5f32.to_le_bytes(), (-2f32).to_le_bytes()]), &mut y).unwrap();
    assert_eq!(y, [1.5, -2.0]);
    dequantize(Type::F64, bytes(&[1.5f64.to_le_bytes(), (-2f64).to_le_bytes()]), &mut y).unwrap();
    assert_eq!(y, [1.5, -2.0]);
}

fn bytes<const N: usize>(arrays: &[[u8; N]]) -> &[u8] {
    arrays.as_flattened()
}

#[test]
fn a_decoder_refuses_what_does_not_fit() {
    let error = dequantize(Type::Q4_K, &[0; 144], &mut [0.0; 255]).unwrap_err();
    assert_eq!(error.to_string(), "255 values are not a whole number of Q4_K blocks of 256");
    let error = dequantize(Type::Q4_K, &[0; 143], &mut [0.0; 256]).unwrap_err();
    assert_eq!(error.to_string(), "256 values of Q4_K take 144 bytes, not 143");
    let error = dequantize(Type::Q8_1, &[0; 36], &mut [0.0; 32]).unwrap_err();
    assert_eq!(error, Error::NoDecoder { ty: Type::Q8_1 });
    assert!(error.to_string().starts_with("Q8_1 cannot be dequantised (types that can: F32, F16, "));
    dequantize(Type::Q4_K, &[], &mut []).unwrap();
}

/// Whatever the bytes, a value comes out; only an infinite or NaN scale may make it not finite.
#[test]
fn every_byte_pattern_decodes() {
    for &ty in DECODES {
        for byte in 0..=255 {
            let block = vec![byte; ty.block_bytes()];
            dequantize(ty, &block, &mut vec![0.0; ty.block_len()]).unwrap();
        }
    }
}
