//! The sums over a matrix's width and over tokens with cooperative matrices, for several adapters at once.

use weft_runtime::{Access, Caps, Cost, Recorder, Shader, Slice};

use super::{Form, Matrix, Pass};
use crate::coop::{Coop, has_room};
use crate::layout::{Columns, Format};
use crate::ops::split_k;
use crate::{Bind, Dispatch, Fields, Result, compose, params, record};

params! {
    pub struct Params {
        pub columns: [u32; 4],
        pub places: [u32; 4],
        pub widths: [u32; 4],
        pub tokens: u32,
        pub ranks: u32,
        pub narrow_stride: u32,
        pub narrow_column: u32,
        pub wide_stride: u32,
        pub chunk: u32,
        pub part: u32,
        pub flags: u32,
        pub by: f32,
        pub times: f32,
        pub scale: f32,
        pub pad: u32,
    }
}

const ADD: u32 = 2;
/// Values of the sum at a time.
const BK: u32 = 64;
/// Steps of a part of a sum, at least.
const LEAST: u32 = 4;
/// Adapters' own values are multiplied by this: those of a young B are about a learning rate.
const OWN: f32 = 256.0;

/// A kernel: what its text depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kernel {
    form: Form,
    matrix: Matrix,
    format: Format,
    coop: Coop,
    /// Matrices of ranks that a subgroup keeps.
    nt: u32,
}

impl Kernel {
    fn name(self) -> String {
        let (c, nt) = (self.coop, self.nt);
        format!(
            "lora_{}_{:?}_coop{}_s{}_n{nt}_{}",
            self.form.name(),
            self.matrix,
            c.side,
            c.subgroup,
            self.format.name()
        )
        .to_lowercase()
    }

    fn ranks(self) -> u32 {
        self.nt * self.coop.side
    }

    fn workgroup_bytes(self) -> u32 {
        let (t, rn) = (self.coop.side, self.ranks());
        let x = (4 * t * (BK + 8)).max(BK * (4 * t + 8));
        2 * (x + (rn * (BK + 8)).max(BK * (rn + 8))) + 16 * t * t
    }

    fn shader(self) -> Shader {
        let c = self.coop;
        let (t, rn, wg) = (c.side, self.ranks(), 4 * c.subgroup);
        let by_a = u32::from(self.matrix == Matrix::A);
        let kernel = match self.form {
            Form::Down => include_str!("down_coop.wgsl"),
            _ => include_str!("outer_coop.wgsl"),
        };
        let (matrices, put_x) = match t {
            16 => (include_str!("../matmul/coop16.wgsl"), include_str!("../matmul/coop16_x.wgsl")),
            _ => (include_str!("../matmul/coop8.wgsl"), include_str!("../matmul/coop8_x.wgsl")),
        };
        let wide = match self.format {
            Format::F32 => "alias Wide = vec4<f32>;",
            _ => "alias Wide = vec4<f16>;",
        };
        let constants = [
            ("SG", c.subgroup),
            ("WG", wg),
            ("BM", 4 * t),
            ("BK", BK),
            ("RN", rn),
            ("NT", self.nt),
            ("BY_A", by_a),
            ("MROWS", if by_a == 1 { rn } else { BK }),
            // Loads of an invocation.
            ("XL", 4 * t * BK / 4 / wg),
            ("ML", rn * BK / 4 / wg),
        ];
        let enables = ["f16", "wgpu_cooperative_matrix"];
        let parts = [include_str!("params_coop.wgsl"), kernel, matrices, put_x, wide];
        let mut bindings = vec![Access::ReadWrite; 3];
        if self.form == Form::Down {
            bindings[2] = Access::Read;
        }
        Shader { name: self.name(), source: compose(&enables, &constants, &parts), bindings }
    }
}

/// Why a device cannot.
pub(super) fn supports(caps: &Caps, pass: &Pass<'_>) -> std::result::Result<(), &'static str> {
    let kernel = Coop::of(caps).map(|c| kernel(pass, c)).ok_or("no cooperative matrices in f16 and f32")?;
    let room = has_room(caps, kernel.workgroup_bytes(), 4 * kernel.coop.subgroup);
    let fours = [pass.rank, pass.narrow.1.stride, pass.narrow.1.column];
    let of_windows = pass.windows.iter().flat_map(|w| [w.width, w.columns.stride, w.columns.column]);
    match room {
        false => Err("too little workgroup memory"),
        true if pass.windows.len() > 4 => Err("more than four adapters"),
        true if !fours.into_iter().chain(of_windows).all(|v| v.is_multiple_of(4)) => {
            Err("sizes that are no multiples of 4")
        }
        true => Ok(()),
    }
}

fn kernel(pass: &Pass<'_>, coop: Coop) -> Kernel {
    let nt = pass.rank.div_ceil(coop.side).min(4);
    Kernel { form: pass.form, matrix: pass.matrix, format: pass.wide.1, coop, nt }
}

/// Records a pass that [`supports`] has found possible; `false` where the budget would have to cut it.
///
/// # Errors
/// A shader the device refuses.
pub(super) fn run(rec: &mut Recorder, pass: &Pass<'_>) -> Result<bool> {
    let gpu = rec.gpu().clone();
    let budget = gpu.budget();
    let Some(kernel) = Coop::of(gpu.caps()).map(|c| kernel(pass, c)) else { return Ok(false) };
    let (tokens, rank, count) = (pass.tokens, pass.rank, pass.windows.len() as u32);
    let (tile, ranks) = (4 * kernel.coop.side, rank.div_ceil(kernel.ranks()));
    let widest = pass.windows.iter().map(|w| w.width).max().unwrap_or(0);
    let (narrow, columns) = pass.narrow;
    let (wide, format) = pass.wide;
    let values: u32 = pass.windows.iter().map(|w| w.width * rank).sum();
    let wide_stride = pass.windows[0].columns.stride;
    let sizes = [
        u64::from(tokens) * u64::from(columns.stride) * 4,
        u64::from(tokens) * u64::from(wide_stride) * format.bytes(),
        u64::from(values) * 4,
    ];
    let own = tokens.div_ceil(tile).max(widest.div_ceil(tile));
    if sizes.iter().any(|&n| n > budget.max_binding) || own > budget.max_workgroups {
        return Ok(false);
    }
    // Tiles along the first dimension of the grid, the depth of the sum, values of the result.
    let (tiles, depth, result) = match pass.form {
        Form::Down => (tokens.div_ceil(tile), widest, tokens * count * rank),
        _ => (widest.div_ceil(tile), tokens, values),
    };
    let (bytes, room) = (u64::from(result) * 4, pass.scratch.map_or(0, Slice::size).min(budget.max_binding));
    let (n, chunk) = split_k::share(gpu.caps(), tiles * count * ranks, (depth, BK, LEAST), bytes, room);
    let part = pass.scratch.filter(|_| n > 1).map(|s| s.range(0, bytes * u64::from(n)));
    let mut places = [0; 4];
    let mut at = 0;
    for (place, w) in places.iter_mut().zip(pass.windows) {
        *place = at;
        at += w.width * rank;
    }
    let four =
        |of: &dyn Fn(usize) -> u32| std::array::from_fn(|i| if i < pass.windows.len() { of(i) } else { 0 });
    let to = match (pass.form, &part) {
        (Form::Down, Some(_)) => Columns::all(count * rank),
        _ => columns,
    };
    // Sums of tokens are gradients, which come scaled as wide does; A and B are scaled by a constant.
    let gradients = pass.matrix == Matrix::A && pass.form == Form::Outer;
    let (by, times) = match pass.form {
        Form::Down => (pass.range, OWN),
        _ if gradients => (1.0, pass.range),
        _ => (pass.range, 1.0),
    };
    let adds = pass.form == Form::Outer && part.is_none();
    let params = Params {
        columns: four(&|i| pass.windows[i].columns.column),
        places,
        widths: four(&|i| pass.windows[i].width),
        tokens,
        ranks: rank,
        narrow_stride: to.stride,
        narrow_column: to.column,
        wide_stride,
        chunk,
        part: result,
        flags: if adds { ADD } else { 0 },
        by,
        times,
        scale: pass.scale / (by * times),
        pad: 0,
    };
    let mut bound = sizes;
    let mut operands = [narrow, wide, pass.m];
    if let Some(part) = &part {
        let at = if pass.form == Form::Down { 0 } else { 2 };
        (bound[at], operands[at]) = (part.size(), part);
    }
    let wide_values = f64::from(tokens) * pass.windows.iter().map(|w| f64::from(w.width)).sum::<f64>();
    let dispatch = Dispatch {
        params,
        binds: (0..).zip(bound).map(|(operand, size)| Bind { operand, offset: 0, size }).collect(),
        grid: [tiles, count * ranks, n],
        cost: Cost {
            bytes: wide_values * format.bytes() as f64 + sizes[0] as f64 + sizes[2] as f64,
            flops: 2.0 * wide_values * f64::from(rank),
        },
    };
    let pipeline = gpu.pipeline(&kernel.name(), || kernel.shader())?;
    record(rec, &pipeline, &operands, &[dispatch]);
    match (&part, pass.form) {
        (None, _) => {}
        (Some(part), Form::Down) => {
            let to = (narrow, columns);
            split_k::sum_splits(rec, part, [n, tokens, count * rank], to, 1.0, false)?;
        }
        (Some(part), _) => {
            let to = (pass.m, Columns::all(values));
            split_k::sum_splits(rec, part, [n, 1, values], to, 1.0, true)?;
        }
    }
    Ok(true)
}

/// Every shader with its parameters' fields.
pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for coop in Coop::DEVICES {
        for (form, matrix, format) in [
            (Form::Down, Matrix::A, Format::F32),
            (Form::Down, Matrix::A, Format::F16),
            (Form::Down, Matrix::B, Format::F32),
            (Form::Outer, Matrix::A, Format::F32),
            (Form::Outer, Matrix::A, Format::F16),
            (Form::Outer, Matrix::B, Format::F32),
        ] {
            for nt in 1..=4 {
                all.push((Kernel { form, matrix, format, coop, nt }.shader(), Params::FIELDS));
            }
        }
    }
    all
}
