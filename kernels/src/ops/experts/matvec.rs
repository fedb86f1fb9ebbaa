//! Products by experts for a few tokens: a matvec for each choice, whose expert the GPU looks up.

use weft_runtime::{Access, Caps, Cost, DeviceKind, Recorder, Shader};

use super::{Left, Product, Variant, whole};
use crate::ops::matmul::{self, Matvec};
use crate::ops::{WEIGHT, quantize, slab_operands, with_dequant};
use crate::select::MATVEC_TOKENS;
use crate::{Fields, PlanError, Result, WeightType, compose, params};

params! {
    /// Parameters of the matvec kernels.
    pub struct Params {
        pub planes: [u32; 4],
        pub row0: u32,
        pub slab_rows: u32,
        pub units: u32,
        pub rows: u32,
        pub per: u32,
        pub pad: [u32; 3],
    }
}

/// The same way as a product of one token of everything, which is what a choice is.
fn same(variant: Variant) -> matmul::Variant {
    match variant {
        Variant::MatvecDot => matmul::Variant::MatvecDot,
        _ => matmul::Variant::Matvec,
    }
}

fn name(variant: Variant, kernel: Matvec, ty: WeightType) -> String {
    format!("experts_{}", kernel.name(same(variant), ty))
}

fn shader(variant: Variant, kernel: Matvec, ty: WeightType) -> Shader {
    let end = [include_str!("../matmul/lanes.wgsl"), include_str!("choice.wgsl")];
    let (source, inputs) = match variant {
        Variant::MatvecDot => {
            let parts = [&[include_str!("matvec_dot.wgsl")][..], &end].concat();
            (kernel.dot_source(ty, None, false, 0, false, &parts), 2)
        }
        _ => {
            let parts = [&with_dequant(ty, include_str!("matvec.wgsl"))[..], &end].concat();
            (compose(&[], &kernel.constants(0), &parts), 1)
        }
    };
    let bindings = [&WEIGHT[..], &vec![Access::ReadWrite; 2 + inputs]].concat();
    Shader { name: name(variant, kernel, ty), source, bindings }
}

pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all: Vec<(Shader, Fields)> = Vec::new();
    for &ty in WeightType::ALL {
        for kind in [DeviceKind::Discrete, DeviceKind::Cpu] {
            for variant in [Variant::Matvec, Variant::MatvecDot] {
                if variant == Variant::MatvecDot && !ty.layout().has_ints() {
                    continue;
                }
                for cols in [256, 768, 2048] {
                    let kernel = Matvec::pick(kind, same(variant), ty, 1024, cols, 1);
                    let s = shader(variant, kernel, ty);
                    if all.iter().all(|(other, _)| other.name != s.name) {
                        all.push((s, Params::FIELDS));
                    }
                }
            }
        }
    }
    all
}

/// In integers if the device and the type allow it and x has them.
fn variant(caps: &Caps, p: &Product<'_>) -> Variant {
    match Variant::pick(caps, p.experts.weight.shape.ty, p.route.tokens.min(MATVEC_TOKENS)) {
        Variant::MatvecDot if p.x.ints.is_some() => Variant::MatvecDot,
        _ => Variant::Matvec,
    }
}

pub(super) fn record(rec: &mut Recorder, p: &Product<'_>) -> Result<()> {
    let variant = variant(rec.gpu().caps(), p);
    record_as(rec, variant, p)
}

/// As a variant for a few tokens, which the device must support.
pub(super) fn record_as(rec: &mut Recorder, variant: Variant, p: &Product<'_>) -> Result<()> {
    let gpu = rec.gpu().clone();
    let (w, rows) = (&p.experts.weight, p.experts.rows);
    let (ty, cols, choices) = (w.shape.ty, w.shape.cols, p.route.choices());
    let (inputs, per) = match p.left {
        Left::Tokens => (p.route.tokens, p.route.used),
        Left::Positions => (choices, 1),
    };
    let kernel = Matvec::pick(gpu.caps().kind, same(variant), ty, rows, cols, 1);
    let grid = [rows.div_ceil(kernel.rows_per_group()), choices, 1];
    if choices > gpu.budget().max_workgroups || grid[0] > gpu.budget().max_workgroups {
        let what = format!("{choices} choices of {rows} rows are more than a grid has");
        return Err(PlanError::Shape { op: "experts", what }.into());
    }
    let ids = whole(rec, p.route.ids, "the list of choices", choices, 1)?;
    let y = whole(rec, p.y, "the experts' outputs", choices, rows)?;
    let x = match (variant, p.x.ints) {
        (Variant::MatvecDot, Some(ints)) => {
            let (q, meta) = quantize::bytes(u64::from(inputs) * u64::from(cols));
            vec![ints.q.range(0, q), ints.meta.range(0, meta)]
        }
        _ => vec![whole(rec, p.x.x, "the experts' inputs", inputs, cols)?],
    };
    let pipeline = gpu.pipeline(&name(variant, kernel, ty), || shader(variant, kernel, ty))?;
    for (at, slab) in w.shape.slabs.iter().enumerate() {
        let params = Params {
            planes: slab.planes,
            row0: slab.rows.start,
            slab_rows: slab.count(),
            units: w.shape.units(),
            rows,
            per,
            pad: [0; 3],
        };
        let operands: Vec<_> = slab_operands(w, at).into_iter().chain([&ids, &y]).chain(&x).collect();
        // The choices whose experts this slab has, on average.
        let part = f64::from(choices) / w.shape.slabs.len() as f64 * f64::from(rows);
        let bytes = part * ty.row_bytes(cols as usize) as f64;
        rec.dispatch(
            &pipeline,
            &params,
            &operands,
            grid,
            Cost { bytes, flops: 2.0 * part * f64::from(cols) },
        );
    }
    Ok(())
}
