//! Quantised blocks: the table of types, the normative decoder to f32, and the encoders.
//!
//! The decoders here are plain loops, one block at a time, and define what a type means; the
//! shaders are checked against them, and they against the `gguf` Python package.

mod book;
mod encode;
mod fourbit;
mod grid;
mod grids;
mod iq;
mod k;
mod legacy;
mod plain;
mod reference;
mod rows;
mod search;
mod ternary;
mod types;
mod vector;

pub use grid::Grid;
pub use rows::convert_rows;
pub use types::Type;

/// Why a conversion was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No decoder for this type.
    #[error("{ty} cannot be dequantised (types that can: {})", names(DECODES))]
    NoDecoder {
        /// The type asked for.
        ty: Type,
    },
    /// No encoder for this type.
    #[error("{ty} cannot be quantised to (types that can: {})", names(ENCODES))]
    NoEncoder {
        /// The type asked for.
        ty: Type,
    },
    /// The values are not a whole number of blocks.
    #[error("{values} values are not a whole number of {ty} blocks of {}", ty.block_len())]
    Partial {
        /// The type asked for.
        ty: Type,
        /// How many values were given.
        values: usize,
    },
    /// Bytes and values do not belong together.
    #[error("{values} values of {ty} take {expected} bytes, not {bytes}")]
    Length {
        /// The type asked for.
        ty: Type,
        /// Length of the output in values.
        values: usize,
        /// Bytes that so many values take.
        expected: usize,
        /// Bytes given.
        bytes: usize,
    },
    /// Importance that does not match the rows.
    #[error(
        "importance has {importance} values, which does not divide {values} values into rows of whole {ty} blocks"
    )]
    Importance {
        /// The type asked for.
        ty: Type,
        /// How many values were given.
        values: usize,
        /// Length of the importance.
        importance: usize,
    },
    /// An importance that is no weight.
    #[error("importance {index} is {value}, not a finite number of at least 0")]
    Weight {
        /// Where it is.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A value that the type cannot hold.
    #[error("value {index} is {value}, which {ty} cannot hold")]
    Range {
        /// The type asked for.
        ty: Type,
        /// Where it is in the source.
        index: usize,
        /// The value.
        value: f32,
    },
}

fn names(types: &[Type]) -> String {
    types.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ")
}

/// The types that [`dequantize`] reads.
pub const DECODES: &[Type] = &[
    Type::F32,
    Type::F16,
    Type::BF16,
    Type::F64,
    Type::Q4_0,
    Type::Q4_1,
    Type::Q5_0,
    Type::Q5_1,
    Type::Q8_0,
    Type::Q2_K,
    Type::Q3_K,
    Type::Q4_K,
    Type::Q5_K,
    Type::Q6_K,
    Type::IQ4_NL,
    Type::IQ4_XS,
    Type::IQ1_S,
    Type::IQ1_M,
    Type::IQ2_XXS,
    Type::IQ2_XS,
    Type::IQ2_S,
    Type::IQ3_XXS,
    Type::IQ3_S,
    Type::TQ1_0,
    Type::TQ2_0,
    Type::MXFP4,
    Type::NVFP4,
];

/// The types that [`quantize`] writes.
pub const ENCODES: &[Type] = &[
    Type::F32,
    Type::F16,
    Type::BF16,
    Type::Q4_0,
    Type::Q4_1,
    Type::Q5_0,
    Type::Q5_1,
    Type::Q8_0,
    Type::Q2_K,
    Type::Q3_K,
    Type::Q4_K,
    Type::Q5_K,
    Type::Q6_K,
    Type::IQ4_NL,
    Type::IQ4_XS,
    Type::IQ1_S,
    Type::IQ1_M,
    Type::IQ2_XXS,
    Type::IQ2_XS,
    Type::IQ2_S,
    Type::IQ3_XXS,
    Type::IQ3_S,
    Type::TQ1_0,
    Type::TQ2_0,
    Type::MXFP4,
];

/// Decodes whole blocks of `ty` to f32. `bytes` holds exactly the blocks of `out.len()` values.
pub fn dequantize(ty: Type, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    let block: fn(&[u8], &mut [f32]) = match ty {
        Type::F32 => plain::f32,
        Type::F16 => plain::f16,
        Type::BF16 => plain::bf16,
        Type::F64 => plain::f64,
        Type::Q4_0 => legacy::q4_0,
        Type::Q4_1 => legacy::q4_1,
        Type::Q5_0 => legacy::q5_0,
        Type::Q5_1 => legacy::q5_1,
        Type::Q8_0 => legacy::q8_0,
        Type::Q2_K => k::q2_k,
        Type::Q3_K => k::q3_k,
        Type::Q4_K => k::q4_k,
        Type::Q5_K => k::q5_k,
        Type::Q6_K => k::q6_k,
        Type::IQ4_NL => fourbit::iq4_nl,
        Type::IQ4_XS => fourbit::iq4_xs,
        Type::IQ1_S => iq::iq1_s,
        Type::IQ1_M => iq::iq1_m,
        Type::IQ2_XXS => iq::iq2_xxs,
        Type::IQ2_XS => iq::iq2_xs,
        Type::IQ2_S => iq::iq2_s,
        Type::IQ3_XXS => iq::iq3_xxs,
        Type::IQ3_S => iq::iq3_s,
        Type::MXFP4 => fourbit::mxfp4,
        Type::NVFP4 => fourbit::nvfp4,
        Type::TQ1_0 => ternary::tq1_0,
        Type::TQ2_0 => ternary::tq2_0,
        _ => return Err(Error::NoDecoder { ty }),
    };
    let (len, size) = (ty.block_len(), ty.block_bytes());
    let values = out.len();
    if !values.is_multiple_of(len) {
        return Err(Error::Partial { ty, values });
    }
    // `out` is a slice of f32 in memory, so a block count times at most 292 cannot overflow 64 bits.
    let expected = values / len * size;
    if bytes.len() != expected {
        return Err(Error::Length { ty, values, expected, bytes: bytes.len() });
    }
    if len == 1 {
        block(bytes, out);
        return Ok(());
    }
    for (b, y) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(len)) {
        block(b, y);
    }
    Ok(())
}

/// Encodes whole blocks of `src` as `ty`, appended to `out`. `importance`, where given, has one
/// weight for each column, and `src` is then one or more whole rows: an error in column c costs in
/// proportion to `importance[c]` (an importance matrix holds the mean square of the activations
/// that meet the column). Plain types, Q8_0, TQ1_0, TQ2_0 and MXFP4 have nothing to weigh. All zeros
/// say nothing, and are as none.
///
/// Without importance, all but the K-quants and the IQ types give ggml's own bytes.
///
/// Values must be finite and, for all but F32 and BF16, within ±65504: scales are stored as f16.
pub fn quantize(ty: Type, src: &[f32], importance: Option<&[f32]>, out: &mut Vec<u8>) -> Result<(), Error> {
    match ty {
        Type::F32 => {
            out.extend(src.iter().flat_map(|v| v.to_le_bytes()));
            return Ok(());
        }
        Type::BF16 => {
            out.extend(src.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()));
            return Ok(());
        }
        Type::F16 => {
            check_range(ty, src)?;
            out.extend(src.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()));
            return Ok(());
        }
        _ => {}
    }
    let (len, values) = (ty.block_len(), src.len());
    let encoder = encoder(ty).ok_or(Error::NoEncoder { ty })?;
    if !values.is_multiple_of(len) {
        return Err(Error::Partial { ty, values });
    }
    if let Some(w) = importance {
        if w.is_empty() || !values.is_multiple_of(w.len()) || !w.len().is_multiple_of(len) {
            return Err(Error::Importance { ty, values, importance: w.len() });
        }
        if let Some(index) = w.iter().position(|v| !(v.is_finite() && *v >= 0.0)) {
            return Err(Error::Weight { index, value: w[index] });
        }
    }
    let importance = importance.filter(|w| w.iter().any(|v| *v > 0.0));
    check_range(ty, src)?;
    out.reserve(values / len * ty.block_bytes());
    let searched = match encoder {
        Encoder::Searched(f) => f,
        Encoder::Either(_, f) if importance.is_some() => f,
        Encoder::Plain(f) | Encoder::Either(f, _) => {
            src.chunks_exact(len).for_each(|x| f(x, out));
            return Ok(());
        }
    };
    let mut weights = [0.0; 256];
    for (i, x) in src.chunks_exact(len).enumerate() {
        let importance = importance.map(|w| &w[i * len % w.len()..][..len]);
        search::weights(x, importance, &mut weights[..len]);
        searched(x, &weights[..len], out);
    }
    Ok(())
}

/// How a type's blocks are encoded. Each function appends one block: the plain ones take its
/// values, the searched ones also what an error at each costs.
enum Encoder {
    Plain(fn(&[f32], &mut Vec<u8>)),
    Searched(fn(&[f32], &[f32], &mut Vec<u8>)),
    /// Plain without importance, searched with it.
    Either(fn(&[f32], &mut Vec<u8>), fn(&[f32], &[f32], &mut Vec<u8>)),
}

fn encoder(ty: Type) -> Option<Encoder> {
    Some(match ty {
        Type::Q4_0 => Encoder::Either(reference::q4_0, encode::q4_0),
        Type::Q4_1 => Encoder::Either(reference::q4_1, encode::q4_1),
        Type::Q5_0 => Encoder::Either(reference::q5_0, encode::q5_0),
        Type::Q5_1 => Encoder::Either(reference::q5_1, encode::q5_1),
        Type::Q8_0 => Encoder::Plain(reference::q8_0),
        Type::TQ1_0 => Encoder::Plain(reference::tq1_0),
        Type::TQ2_0 => Encoder::Plain(reference::tq2_0),
        Type::MXFP4 => Encoder::Plain(reference::mxfp4),
        Type::Q2_K => Encoder::Searched(encode::q2_k),
        Type::Q3_K => Encoder::Searched(encode::q3_k),
        Type::Q4_K => Encoder::Searched(encode::q4_k),
        Type::Q5_K => Encoder::Searched(encode::q5_k),
        Type::Q6_K => Encoder::Searched(encode::q6_k),
        Type::IQ4_NL => Encoder::Searched(encode::iq4_nl),
        Type::IQ4_XS => Encoder::Searched(encode::iq4_xs),
        Type::IQ1_S => Encoder::Searched(vector::iq1_s),
        Type::IQ1_M => Encoder::Searched(vector::iq1_m),
        Type::IQ2_XXS => Encoder::Searched(vector::iq2_xxs),
        Type::IQ2_XS => Encoder::Searched(vector::iq2_xs),
        Type::IQ2_S => Encoder::Searched(vector::iq2_s),
        Type::IQ3_XXS => Encoder::Searched(vector::iq3_xxs),
        Type::IQ3_S => Encoder::Searched(vector::iq3_s),
        _ => return None,
    })
}

fn check_range(ty: Type, src: &[f32]) -> Result<(), Error> {
    match src.iter().position(|v| v.is_nan() || v.abs() > 65504.0) {
        Some(index) => Err(Error::Range { ty, index, value: src[index] }),
        None => Ok(()),
    }
}

/// The little-endian f16 at byte `at`.
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
