//! Adapters added into tensors, and how much of them is left there.
//!
//! A change much smaller than half a step of a quantised type's grid rounds back to what was there before, in
//! silence. What is left of a change Δ is its share: the projection on Δ of what the tensor becomes with it, less
//! what it becomes without, over Δ's own square. [`Change::measure`] measures it. Where a tensor keeps its type,
//! [`Change::write`] can keep its scales as well and move codes alone: to the nearest where that leaves enough of the
//! change, and else by carrying what a value lacks of a whole step along the row ([`Grid::moved`]), which leaves all of
//! it and errs more. To enlarge a change until enough of it rounds up would have the same share and be wrong: rows
//! of a low-rank change have their largest values in the same columns, so all would move those, and what they err
//! by would add up in the change's own direction (SmolLM2 wrote one word over and over).

use rayon::prelude::*;

use crate::adapter::{Base, Pair};
use crate::gguf::File;
use crate::names;
use crate::quant::{self, Grid, Type, dequantize, quantize};

/// Rows that are looked at to measure a share.
const SAMPLE: usize = 64;

/// How a change is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Each value as the nearest that the type has; where a tensor keeps its type, on its own grid.
    Nearest,
    /// The same, with scales made anew: a large change goes beyond the ends of the grid that was there.
    Fresh,
    /// Values are rounded so that the whole change is left on average where a tensor stays on its own grid, and else to the
    /// nearest.
    Kept,
}

/// What becomes of a change, as measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// What is left of it: 1 is all, 0 nothing.
    pub share: f32,
    /// The square of how far values are from where they should be, in squares of the change.
    pub error: f32,
}

/// What is added to one tensor.
#[derive(Debug, Clone, Default)]
pub struct Change<'a> {
    /// Each a pair, the scale of its product, and the first of the tensor's rows that it is added to.
    pub parts: Vec<(&'a Pair, f32, usize)>,
}

/// A number from 0 to 1 for each row, as far from those of its neighbours as can be (the golden ratio's multiples).
fn phase(row: usize) -> f32 {
    (row as f64 * 0.618_033_988_749_894_9).fract() as f32
}

/// Refuses values that are no numbers, which F32 and others would take as they are; the first of them is value `first`.
fn finite(values: &[f32], ty: Type, first: usize) -> Result<(), quant::Error> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(quant::Error::Range { ty, index: first + at, value: values[at] }),
        None => Ok(()),
    }
}

/// The tensor of `file` that holds the matrix `name` (`blk.0.attn_q.weight`): its index in the table, its first
/// row there, its rows and columns. Newer files hold queries, keys and values as one tensor.
pub fn place(file: &File, base: &Base, name: &str) -> Option<(usize, usize, usize, usize)> {
    let at = |name: &str| file.tensors().iter().position(|t| t.name == name && t.shape.len() == 2);
    let shape = |i: usize| (file.tensors()[i].shape[1] as usize, file.tensors()[i].shape[0] as usize);
    if let Some(i) = at(name) {
        let (rows, cols) = shape(i);
        return Some((i, 0, rows, cols));
    }
    let (fused, parts) = names::FUSED;
    let (layer, part) = name.strip_suffix(".weight")?.rsplit_once('.')?;
    let i = at(&format!("{layer}.{fused}.weight"))?;
    let (rows, cols) = shape(i);
    let head = rows / (base.heads + 2 * base.kv_heads).max(1);
    let sizes = names::Sizes { heads: base.heads, kv_heads: base.kv_heads, head, ..Default::default() };
    let module = names::of_gguf(&base.architecture)?.module(part)?;
    let (_, before) = parts.into_iter().find(|(p, _)| *p == part)?;
    let first = before.iter().map(|s| sizes.of(*s)).sum();
    let rows = sizes.of(*module.shape.first()?);
    Some((i, first, rows, cols))
}

impl Change<'_> {
    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds the change of rows `first..` to `rows`, `[count, cols]`.
    pub fn add_to(&self, first: usize, cols: usize, rows: &mut [f32]) {
        let count = rows.len() / cols;
        for (pair, scale, at) in &self.parts {
            let (from, end) = (first.max(*at), (first + count).min(at + pair.rows));
            if from < end {
                let rows = &mut rows[(from - first) * cols..(end - first) * cols];
                pair.add_to(*scale, from - at, rows);
            }
        }
    }

    /// What becomes of it in the rows `bytes` of `cols` values of type `from`, stored as `to`. Up to 64 rows are looked
    /// at.
    ///
    /// # Errors
    /// A type that cannot be read or written, a value that it cannot hold.
    pub fn measure(
        &self,
        from: Type,
        bytes: &[u8],
        cols: usize,
        to: Type,
        rounding: Rounding,
    ) -> Result<Measured, quant::Error> {
        let row = from.row_bytes(cols as u64).unwrap_or(0).max(1) as usize;
        let changed: Vec<usize> = (0..bytes.len() / row)
            .filter(|r| self.parts.iter().any(|(pair, _, at)| (*at..at + pair.rows).contains(r)))
            .collect();
        let step = changed.len().div_ceil(SAMPLE).max(1);
        let rows: Vec<usize> = changed.into_iter().step_by(step).collect();
        let one = |r: &usize| self.left(*r, from, &bytes[r * row..][..row], cols, to, rounding);
        let sums: Result<Vec<[f64; 3]>, _> = rows.par_iter().map(one).collect();
        let add = |a: [f64; 3], b: [f64; 3]| [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
        let [product, square, error] = sums?.into_iter().fold([0.0; 3], add);
        // A change of nothing is kept whole.
        Ok(match square > 0.0 {
            true => Measured { share: (product / square) as f32, error: (error / square) as f32 },
            false => Measured { share: 1.0, error: 0.0 },
        })
    }

    /// The product of the change of row `r` with what becomes of it, its square, and the square of the error.
    fn left(
        &self,
        r: usize,
        from: Type,
        bytes: &[u8],
        cols: usize,
        to: Type,
        rounding: Rounding,
    ) -> Result<[f64; 3], quant::Error> {
        let mut delta = vec![0.0; cols];
        self.add_to(r, cols, &mut delta);
        let square = delta.iter().map(|d| f64::from(*d) * f64::from(*d)).sum();
        let mut before = vec![0.0; cols];
        dequantize(from, bytes, &mut before)?;
        let aim: Vec<f32> = before.iter().zip(&delta).map(|(w, d)| w + d).collect();
        let error = |after: &[f32]| after.iter().zip(&aim).map(|(v, w)| f64::from(v - w).powi(2)).sum();
        if from == to
            && rounding != Rounding::Fresh
            && let Some(grid) = Grid::new(from, bytes)?
        {
            let (bytes, product) = match rounding {
                Rounding::Kept => grid.moved(&delta, phase(r)),
                _ => grid.nearest(&delta),
            };
            let mut after = vec![0.0; cols];
            dequantize(from, &bytes, &mut after)?;
            return Ok([product, square, error(&after)]);
        }
        let mut after = aim.clone();
        for values in [&mut before, &mut after] {
            let mut encoded = Vec::new();
            quantize(to, values, None, &mut encoded)?;
            dequantize(to, &encoded, values)?;
        }
        let terms = before.iter().zip(&after).zip(&delta);
        let product = terms.map(|((w, v), d)| f64::from(v - w) * f64::from(*d)).sum();
        Ok([product, square, error(&after)])
    }

    /// Appends the rows `bytes` of `cols` values of type `from`, the first of which is the tensor's row `first`, as
    /// rows of type `to` with the change in them.
    ///
    /// # Errors
    /// As [`Change::measure`]; nothing is appended then. A value that cannot be held is counted from `bytes`' start.
    pub fn write(
        &self,
        first: usize,
        from: Type,
        bytes: &[u8],
        cols: usize,
        (to, rounding): (Type, Rounding),
        out: &mut Vec<u8>,
    ) -> Result<(), quant::Error> {
        let partial = quant::Error::Partial { ty: from, values: cols };
        let row = from.row_bytes(cols as u64).filter(|b| *b > 0).ok_or(partial)? as usize;
        let one = |(i, bytes): (usize, &[u8])| -> Result<Vec<u8>, quant::Error> {
            let mut delta = vec![0.0; cols];
            self.add_to(first + i, cols, &mut delta);
            finite(&delta, to, i * cols)?;
            if from == to && delta.iter().all(|d| *d == 0.0) {
                return Ok(bytes.to_vec());
            }
            if from == to
                && rounding != Rounding::Fresh
                && let Some(grid) = Grid::new(from, bytes)?
            {
                return Ok(match rounding {
                    Rounding::Kept => grid.moved(&delta, phase(first + i)).0,
                    _ => grid.nearest(&delta).0,
                });
            }
            let mut values = vec![0.0; cols];
            dequantize(from, bytes, &mut values)?;
            values.iter_mut().zip(&delta).for_each(|(w, d)| *w += d);
            finite(&values, to, i * cols)?;
            let mut encoded = Vec::new();
            quantize(to, &values, None, &mut encoded).map_err(|e| match e {
                quant::Error::Range { ty, index, value } => {
                    quant::Error::Range { ty, index: i * cols + index, value }
                }
                other => other,
            })?;
            Ok(encoded)
        };
        let parts: Result<Vec<_>, _> = bytes.par_chunks(row).enumerate().map(one).collect();
        parts?.iter().for_each(|p| out.extend(p));
        Ok(())
    }
}
