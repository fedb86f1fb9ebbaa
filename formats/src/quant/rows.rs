//! Whole tensors from one type to another, a batch of rows at a time on every core.

use rayon::prelude::*;

use super::{Error, Type, dequantize, quantize};

/// Values in one batch: its f32 copy stays in a core's cache.
const BATCH: usize = 1 << 16;

/// Appends `src`, rows of `cols` values of type `from`, as rows of type `to`. `importance`, where
/// given, has one weight a column; see [`quantize`]. The bytes do not depend on the number of cores.
///
/// # Errors
/// As [`dequantize`] and [`quantize`]; an [`Error::Range`] counts from the start of `src`. Nothing is
/// appended then.
pub fn convert_rows(
    from: Type,
    src: &[u8],
    to: Type,
    cols: usize,
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    if from == to {
        out.extend(src);
        return Ok(());
    }
    let partial = |ty| Error::Partial { ty, values: cols };
    let bytes = |ty: Type| ty.row_bytes(cols as u64).filter(|b| *b > 0).ok_or(partial(ty));
    let (row, _) = (bytes(from)? as usize, bytes(to)?);
    if !src.len().is_multiple_of(row) {
        let values = src.len() / from.block_bytes() * from.block_len();
        return Err(Error::Length { ty: from, values, expected: src.len() / row * row, bytes: src.len() });
    }
    let rows = (BATCH / cols).max(1);
    let parts: Vec<Result<Vec<u8>, Error>> = src
        .par_chunks(rows * row)
        .enumerate()
        .map(|(i, part)| {
            let mut values = vec![0.0; part.len() / row * cols];
            dequantize(from, part, &mut values)?;
            let mut encoded = Vec::new();
            match quantize(to, &values, importance, &mut encoded) {
                Err(Error::Range { ty, index, value }) => {
                    Err(Error::Range { ty, index: i * rows * cols + index, value })
                }
                other => other.map(|()| encoded),
            }
        })
        .collect();
    let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
    parts.iter().for_each(|p| out.extend(p));
    Ok(())
}
