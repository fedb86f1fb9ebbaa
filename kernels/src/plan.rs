//! Plans: what an op dispatches for a shape under a budget.

use std::ops::Range;
use std::sync::Arc;

use weft_runtime::{Budget, Cost, Pipeline, Recorder, Shader, Slice};

use crate::error::{PlanError, Result};

/// Declares the uniform of a kernel: a `Pod` struct whose field names and offsets a test compares with
/// the WGSL's. Fields called `pad` only fill up to a multiple of 16 bytes.
macro_rules! params {
    ($(#[$meta:meta])* pub struct $name:ident { $(pub $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $field: $ty,)* }

        impl $name {
            /// Name and byte offset of each field.
            pub const FIELDS: $crate::plan::Fields =
                &[$((stringify!($field), std::mem::offset_of!($name, $field))),*];
        }

        impl $crate::plan::Literal for $name {
            fn literal(&self) -> String {
                let fields = [$((stringify!($field), $crate::plan::Literal::literal(&self.$field))),*];
                let kept: Vec<String> = fields.into_iter().filter(|f| f.0 != "pad").map(|f| f.1).collect();
                format!("Params({})", kept.join(", "))
            }
        }
    };
}
pub(crate) use params;

/// Parameters or a field of them.
pub(crate) trait Literal {
    /// The value in WGSL.
    fn literal(&self) -> String;
}

impl Literal for u32 {
    fn literal(&self) -> String {
        format!("{self}u")
    }
}

impl Literal for f32 {
    fn literal(&self) -> String {
        // The shortest text that reads back as the same number.
        format!("{self:e}f")
    }
}

impl<const N: usize> Literal for [u32; N] {
    fn literal(&self) -> String {
        format!("vec{N}<u32>({})", self.map(|v| v.literal()).join(", "))
    }
}

/// Name and byte offset of each field of a uniform.
pub type Fields = &'static [(&'static str, usize)];

/// The part of operand `operand` that a dispatch binds, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Index into the operands of the op.
    pub operand: usize,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// One dispatch of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch<P> {
    /// The uniform.
    pub params: P,
    /// The storage bindings from 1 on.
    pub binds: Vec<Bind>,
    /// Workgroups.
    pub grid: [u32; 3],
    /// What it moves and computes.
    pub cost: Cost,
}

impl<P> Dispatch<P> {
    /// What it binds.
    fn slices(&self, operands: &[&Slice]) -> Vec<Slice> {
        self.binds.iter().map(|b| operands[b.operand].range(b.offset, b.size)).collect()
    }
}

/// Records a plan. All dispatches use one pipeline.
pub fn record<P: bytemuck::NoUninit>(
    rec: &mut Recorder,
    pipeline: &Arc<Pipeline>,
    operands: &[&Slice],
    plan: &[Dispatch<P>],
) {
    for d in plan {
        let slices = d.slices(operands);
        let refs: Vec<&Slice> = slices.iter().collect();
        rec.dispatch(pipeline, &d.params, &refs, d.grid, d.cost);
    }
}

/// As [`record`], with each dispatch's parameters in the text of its shader, see [`Gpu::specialised`](weft_runtime::Gpu::specialised).
///
/// # Errors
/// A shader the device refuses.
pub(crate) fn record_specialised<P: Literal>(
    rec: &mut Recorder,
    name: &str,
    shader: impl Fn() -> Shader,
    operands: &[&Slice],
    plan: &[Dispatch<P>],
) -> Result<()> {
    for d in plan {
        let slices = d.slices(operands);
        let refs: Vec<&Slice> = slices.iter().collect();
        dispatch_specialised(rec, name, &shader, &d.params, &refs, d.grid, d.cost)?;
    }
    Ok(())
}

/// Records one dispatch whose parameters are in the text of its shader, see [`Gpu::specialised`](weft_runtime::Gpu::specialised).
///
/// # Errors
/// A shader the device refuses.
pub(crate) fn dispatch_specialised(
    rec: &mut Recorder,
    name: &str,
    shader: impl FnOnce() -> Shader,
    params: &impl Literal,
    bindings: &[&Slice],
    grid: [u32; 3],
    cost: Cost,
) -> Result<()> {
    let pipeline = rec.gpu().specialised(name, &params.literal(), shader)?;
    rec.dispatch(&pipeline, &(), bindings, grid, cost);
    Ok(())
}

/// Splits `rows` so that in each range every operand's rows fit one binding and start at an aligned
/// offset. `row_bytes` has the bytes of a row of each operand that is split.
///
/// # Errors
/// [`PlanError::DoesNotFit`] where the smallest aligned range is too large.
pub fn split_rows(
    op: &'static str,
    rows: u32,
    row_bytes: &[u64],
    budget: &Budget,
) -> std::result::Result<Vec<Range<u32>>, PlanError> {
    let widest = row_bytes.iter().copied().max().unwrap_or(1).max(1);
    let fits = budget.max_binding / widest;
    if u64::from(rows) <= fits {
        return Ok(std::iter::once(0..rows).filter(|r| !r.is_empty()).collect());
    }
    // A start is aligned for all operands when it is a multiple of each one's align / gcd.
    let step = row_bytes.iter().map(|&b| budget.align / gcd(budget.align, b)).max().unwrap_or(1);
    let per = fits / step * step;
    if per == 0 {
        return Err(PlanError::DoesNotFit {
            op,
            what: "a row",
            needed: widest * step,
            allowed: budget.max_binding,
        });
    }
    Ok((0..rows).step_by(per as usize).map(|r| r..(r + per as u32).min(rows)).collect())
}

/// A grid of `n` workgroups folded into two dimensions; the kernel computes `x + y * grid.x`.
pub fn fold(n: u32, budget: &Budget) -> [u32; 3] {
    let x = n.min(budget.max_workgroups);
    [x, if x == 0 { 0 } else { n.div_ceil(x) }, 1]
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
#[allow(dead_code, unreachable_pub)]
mod tests {
    use super::Literal;

    params! {
        pub struct Few {
            pub planes: [u32; 4],
            pub rows: u32,
            pub eps: f32,
            pub scale: f32,
            pub pad: u32,
        }
    }

    /// What the GPU gets is what the parameters hold, to the bit, without what only fills up.
    #[test]
    fn literals_are_the_parameters() {
        let few = Few { planes: [1, 2, 3, u32::MAX], rows: 7, eps: 1e-6, scale: 1.0 / 3.0, pad: 9 };
        assert_eq!(few.literal(), "Params(vec4<u32>(1u, 2u, 3u, 4294967295u), 7u, 1e-6f, 3.3333334e-1f)");
    }
}
