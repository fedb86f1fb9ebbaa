//! The sums over a matrix's width and over tokens with cooperative matrices, for several adapters at once.

use weft_runtime::{Access, Caps, Cost, Recorder, Shader, Slice};

use super::{Form, Matrix, Pass, PassShape};
use crate::coop::{Coop, has_room};
use crate::layout::{Columns, Format};
use crate::ops::split_k;
use crate::{Bind, Budget, Dispatch, Fields, Result, compose, params, record};

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
pub(super) struct Kernel {
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
        let order = match self.format {
            Format::Tiles { .. } => include_str!("wide_tiles.wgsl"),
            _ => include_str!("wide_rows.wgsl"),
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
        let parts = [include_str!("params_coop.wgsl"), kernel, matrices, put_x, wide, order];
        let mut bindings = vec![Access::ReadWrite; 3];
        if self.form == Form::Down {
            bindings[2] = Access::Read;
        }
        Shader { name: self.name(), source: compose(&enables, &constants, &parts), bindings }
    }
}

/// The kernel of a pass, or why a device has none.
pub(super) fn supports(
    caps: &Caps,
    budget: &Budget,
    s: &PassShape<'_>,
) -> std::result::Result<Kernel, &'static str> {
    let coop = Coop::of(caps).ok_or("no cooperative matrices in f16 and f32")?;
    let nt = s.rank.div_ceil(coop.side).min(4);
    let kernel = Kernel { form: s.form, matrix: s.matrix, format: s.format, coop, nt };
    let fours = [s.rank, s.narrow.stride, s.narrow.column];
    let of_windows = s.windows.iter().flat_map(|w| [w.width, w.columns.stride, w.columns.column]);
    if !has_room(caps, kernel.workgroup_bytes(), 4 * coop.subgroup) {
        return Err("too little workgroup memory");
    }
    if s.windows.len() > 4 {
        return Err("more than four adapters");
    }
    if !fours.into_iter().chain(of_windows).all(|v| v.is_multiple_of(4)) {
        return Err("sizes that are no multiples of 4");
    }
    if let Format::Tiles { side } = s.format
        && (side != coop.side || s.windows.iter().any(|w| !w.columns.stride.is_multiple_of(side)))
    {
        return Err("tiles of another side, or columns that are not whole tiles");
    }
    let tile = 4 * coop.side;
    let own = s.tokens.div_ceil(tile).max(widest(s).div_ceil(tile));
    if sizes(s).iter().any(|&n| n > budget.max_binding) || own > budget.max_workgroups {
        return Err("operands that exceed a binding");
    }
    Ok(kernel)
}

fn widest(s: &PassShape<'_>) -> u32 {
    s.windows.iter().map(|w| w.width).max().unwrap_or(0)
}

/// Values of all the adapters' matrices.
fn values(s: &PassShape<'_>) -> u32 {
    s.windows.iter().map(|w| w.width * s.rank).sum()
}

/// Bytes of the operands: narrow, wide, m.
fn sizes(s: &PassShape<'_>) -> [u64; 3] {
    let stride = s.windows.first().map_or(0, |w| w.columns.stride);
    [
        u64::from(s.tokens) * u64::from(s.narrow.stride) * 4,
        s.format.rows(s.tokens) * u64::from(stride) * s.format.bytes(),
        u64::from(values(s)) * 4,
    ]
}

/// Records a pass with the kernel that [`supports`] has for it.
///
/// # Errors
/// A shader the device refuses.
pub(super) fn run(rec: &mut Recorder, pass: &Pass<'_>, kernel: Kernel) -> Result<()> {
    let gpu = rec.gpu().clone();
    let budget = gpu.budget();
    let s = pass.shape;
    let (tokens, rank, count) = (s.tokens, s.rank, s.windows.len() as u32);
    let (tile, ranks) = (4 * kernel.coop.side, rank.div_ceil(kernel.ranks()));
    let (widest, values, sizes) = (widest(&s), values(&s), sizes(&s));
    // Tiles along the first dimension of the grid, the depth of the sum, values of the result.
    let (tiles, depth, result) = match s.form {
        Form::Down => (tokens.div_ceil(tile), widest, tokens * count * rank),
        _ => (widest.div_ceil(tile), tokens, values),
    };
    let (bytes, room) = (u64::from(result) * 4, pass.scratch.map_or(0, Slice::size).min(budget.max_binding));
    let (n, chunk) = split_k::share(gpu.caps(), tiles * count * ranks, (depth, BK, LEAST), bytes, room);
    let part = pass.scratch.filter(|_| n > 1).map(|p| p.range(0, bytes * u64::from(n)));
    let mut places = [0; 4];
    let mut at = 0;
    for (place, w) in places.iter_mut().zip(s.windows) {
        *place = at;
        at += w.width * rank;
    }
    let four =
        |of: &dyn Fn(usize) -> u32| std::array::from_fn(|i| if i < s.windows.len() { of(i) } else { 0 });
    let to = match (s.form, &part) {
        (Form::Down, Some(_)) => Columns::all(count * rank),
        _ => s.narrow,
    };
    // Sums of tokens are gradients, which come scaled as wide does; A and B are scaled by a constant.
    let gradients = s.matrix == Matrix::A && s.form == Form::Outer;
    let (by, times) = match s.form {
        Form::Down => (pass.range, OWN),
        _ if gradients => (1.0, pass.range),
        _ => (pass.range, 1.0),
    };
    let adds = s.form == Form::Outer && part.is_none();
    let params = Params {
        columns: four(&|i| s.windows[i].columns.column),
        places,
        widths: four(&|i| s.windows[i].width),
        tokens,
        ranks: rank,
        narrow_stride: to.stride,
        narrow_column: to.column,
        wide_stride: s.windows[0].columns.stride,
        chunk,
        part: result,
        flags: if adds { ADD } else { 0 },
        // What lies in tiles was multiplied where it was written.
        by: if matches!(s.format, Format::Tiles { .. }) { 1.0 } else { by },
        times,
        scale: pass.scale / (by * times),
        pad: 0,
    };
    let mut bound = sizes;
    let mut operands = [pass.narrow, pass.wide, pass.m];
    if let Some(part) = &part {
        let at = if s.form == Form::Down { 0 } else { 2 };
        (bound[at], operands[at]) = (part.size(), part);
    }
    let wide_values = f64::from(tokens) * s.windows.iter().map(|w| f64::from(w.width)).sum::<f64>();
    let dispatch = Dispatch {
        params,
        binds: (0..).zip(bound).map(|(operand, size)| Bind { operand, offset: 0, size }).collect(),
        grid: [tiles, count * ranks, n],
        cost: Cost {
            bytes: wide_values * s.format.bytes() as f64 + sizes[0] as f64 + sizes[2] as f64,
            flops: 2.0 * wide_values * f64::from(rank),
        },
    };
    let pipeline = gpu.pipeline(&kernel.name(), || kernel.shader())?;
    record(rec, &pipeline, &operands, &[dispatch]);
    match (&part, s.form) {
        (None, _) => {}
        (Some(part), Form::Down) => {
            let to = (pass.narrow, s.narrow);
            split_k::sum_splits(rec, part, [n, tokens, count * rank], to, 1.0, false)?;
        }
        (Some(part), _) => {
            let to = (pass.m, Columns::all(values));
            split_k::sum_splits(rec, part, [n, 1, values], to, 1.0, true)?;
        }
    }
    Ok(())
}

/// Every shader with its parameters' fields.
pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for coop in Coop::DEVICES {
        let tiles = Format::Tiles { side: coop.side };
        for (form, matrix, format) in [
            (Form::Down, Matrix::A, Format::F32),
            (Form::Down, Matrix::A, Format::F16),
            (Form::Down, Matrix::B, Format::F32),
            (Form::Outer, Matrix::A, Format::F32),
            (Form::Outer, Matrix::A, Format::F16),
            (Form::Outer, Matrix::B, Format::F32),
            (Form::Down, Matrix::A, tiles),
            (Form::Down, Matrix::B, tiles),
            (Form::Outer, Matrix::A, tiles),
            (Form::Outer, Matrix::B, tiles),
        ] {
            for nt in 1..=4 {
                all.push((Kernel { form, matrix, format, coop, nt }.shader(), Params::FIELDS));
            }
        }
    }
    all
}
