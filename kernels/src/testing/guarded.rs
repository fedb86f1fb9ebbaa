//! Inputs on the device, and outputs that show when a kernel writes past them.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

use weft_runtime::{Gpu, Pool, Slice};

use crate::Result;
use crate::layout::{self, Format};

thread_local! {
    /// A hash of what the references gave in this thread.
    static WANTED: Cell<u64> = const { Cell::new(0) };
}

/// Adds what a reference gave to the trace of the case that runs in this thread.
pub(crate) fn expects(want: &[f64]) {
    let mut hash = DefaultHasher::new();
    WANTED.get().hash(&mut hash);
    want.iter().for_each(|w| w.to_bits().hash(&mut hash));
    WANTED.set(hash.finish());
}

/// What [`expects`] added since the last call.
pub(super) fn take_expected() -> u64 {
    WANTED.take()
}

/// Normalised mean squared error: sum (got - want)^2 / sum want^2; infinite where something is no number, so that
/// the largest of several errors is one.
pub fn nmse(got: &[f32], want: &[f64]) -> f64 {
    expects(want);
    assert_eq!(got.len(), want.len());
    let error: f64 = got.iter().zip(want).map(|(&g, &w)| (f64::from(g) - w).powi(2)).sum();
    let norm: f64 = want.iter().map(|w| w * w).sum();
    let error = if norm == 0.0 { error } else { error / norm };
    if error.is_nan() { f64::INFINITY } else { error }
}

const SENTINELS: usize = 1024;
const SENTINEL: f32 = 12_345.678;

/// An output buffer: poisoned, with sentinels behind it.
pub(crate) struct Guarded {
    whole: Slice,
    /// The output itself.
    pub(crate) slice: Slice,
    len: usize,
}

impl Guarded {
    /// `len` floats of NaN, or `initial`.
    pub(crate) fn new(gpu: &Gpu, len: usize, initial: Option<&[f32]>) -> Result<Guarded> {
        let mut data = initial.map_or_else(|| vec![f32::NAN; len], <[f32]>::to_vec);
        data.extend([SENTINEL; SENTINELS]);
        let whole = gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(&data), "case output")?;
        let slice = whole.range(0, len as u64 * 4);
        Ok(Guarded { whole, slice, len })
    }

    /// The output, or `None` where a sentinel changed.
    pub(crate) fn read(&self, gpu: &Gpu) -> Result<Option<Vec<f32>>> {
        if gpu.records_only() {
            return Ok(Some(vec![0.0; self.len]));
        }
        let mut data: Vec<f32> = gpu.read_vec(&self.whole)?;
        let intact = data[self.len..].iter().all(|&s| s == SENTINEL);
        data.truncate(self.len);
        Ok(intact.then_some(data))
    }

    /// As [`Guarded::read`], of `[rows, cols]` in a format of choice.
    pub(crate) fn read_as(
        &self,
        gpu: &Gpu,
        format: Format,
        [rows, cols]: [u32; 2],
    ) -> Result<Option<Vec<f32>>> {
        let Some(words) = self.read(gpu)? else { return Ok(None) };
        Ok(Some(match format {
            Format::F32 => words,
            Format::F16 => halves(&words),
            Format::Tiles { side } => {
                layout::rows(&halves(&words), rows as usize, cols as usize, side as usize)
            }
        }))
    }

    /// As [`Guarded::compare`], of `[rows, cols]` in a format of choice. What f16 does not hold must be infinite there.
    pub(crate) fn compare_as(
        &self,
        gpu: &Gpu,
        format: Format,
        [rows, cols]: [u32; 2],
        want: &[f64],
    ) -> Result<f64> {
        let Some(got) = self.read_as(gpu, format, [rows, cols])? else { return Ok(f64::INFINITY) };
        if format == Format::F32 || gpu.records_only() {
            return Ok(nmse(&got, want));
        }
        // From halfway to the next number on f16 rounds to infinity.
        let beyond = |w: f64| w.abs() >= 65_520.0;
        let mut got = got;
        for (g, &w) in got.iter_mut().zip(want).filter(|(_, w)| beyond(**w)) {
            if !(g.is_infinite() && g.is_sign_negative() == (w < 0.0)) {
                return Ok(f64::INFINITY);
            }
            *g = 0.0;
        }
        Ok(nmse(&got, &want.iter().map(|&w| if beyond(w) { 0.0 } else { w }).collect::<Vec<_>>()))
    }

    /// NMSE of the output against `want`; infinite where a sentinel changed.
    pub(crate) fn compare(&self, gpu: &Gpu, want: &[f64]) -> Result<f64> {
        Ok(self.read(gpu)?.map_or(f64::INFINITY, |got| nmse(&got, want)))
    }
}

/// Pairs of f16 as their values.
fn halves(words: &[f32]) -> Vec<f32> {
    bytemuck::cast_slice::<f32, u16>(words).iter().map(|&h| half::f16::from_bits(h).to_f32()).collect()
}

/// An input among the activations.
pub(crate) fn input(gpu: &Gpu, data: &[f32]) -> Result<Slice> {
    Ok(gpu.alloc_init(Pool::Activations, bytemuck::cast_slice(data), "case input")?)
}
