//! Sum of the parts of a product: where its tiles are too few for a large GPU, several workgroups share
//! the depth of each, and leave a part of the sum.

pub mod cases;
pub mod reference;

use weft_runtime::{Access, Caps, Cost, DeviceKind, Recorder, Shader, Slice};

use crate::layout::Columns;
use crate::select::MATRIX_TOKENS;
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record};

params! {
    pub struct Params {
        pub rows: u32,
        pub cols: u32,
        pub count: u32,
        pub stride: u32,
        pub column: u32,
        pub grid_x: u32,
        pub flags: u32,
        pub scale: f32,
    }
}

const ADD: u32 = 2;
const WG: u32 = 256;

/// Workgroups that fill a large GPU: two for each of an H200's 132 multiprocessors.
pub(super) const WANTED: u32 = 264;

/// The most tokens that are a few slots.
pub const SLOTS: u32 = 64;

/// Bytes of activations with which the products of a few slots can be shared as far as it pays: tiles of 64
/// outputs. None for a single token, whose products are of another kind, for many, and where those of
/// [`SLOTS`] were much of what a binding holds.
pub fn few_slots_bytes(tokens: u32, budget: &Budget) -> u64 {
    let bytes = |tokens: u32| u64::from(WANTED) * 64 * 4 * u64::from(tokens);
    let room = bytes(SLOTS) <= budget.max_binding / 16;
    if room && (FEW..=SLOTS).contains(&tokens) { bytes(tokens) } else { 0 }
}

/// The most tokens whose products are worth sharing: of more, tiles fill a large GPU.
pub const SHARED: u32 = 512;

/// As [`few_slots_bytes`], of a prompt of more tokens than that, whose activations come in tiles.
pub fn short_prompt_bytes(tokens: u32, budget: &Budget) -> u64 {
    let bytes = |tokens: u32| u64::from(WANTED) * 64 * 4 * u64::from(tokens);
    let room = bytes(SHARED) <= budget.max_binding / 4;
    if room && (SLOTS + 1..=SHARED).contains(&tokens) { bytes(tokens) } else { 0 }
}

/// The fewest tokens whose products tile.
const FEW: u32 = MATRIX_TOKENS;

/// How to share a sum of `depth` values among workgroups, of which `tiles` would be without: how many
/// parts, and the values of each, a multiple of `step`. A part has `least` steps at least, and all parts of
/// the result, of `bytes` each, fit `scratch`.
pub(super) fn share(
    caps: &Caps,
    tiles: u32,
    (depth, step, least): (u32, u32, u32),
    bytes: u64,
    scratch: u64,
) -> (u32, u32) {
    let most = match caps.kind {
        DeviceKind::Discrete if depth >= DEEP && tiles > WANTED / 2 => balanced(tiles),
        DeviceKind::Discrete => WANTED / tiles.max(1),
        // Enough to see that it works.
        DeviceKind::Cpu => 3,
        _ => 16 / tiles.max(1),
    };
    let room = u32::try_from(scratch / bytes.max(1)).unwrap_or(u32::MAX);
    let least = if caps.kind == DeviceKind::Cpu { 1 } else { least };
    let count = most.min(room).min(depth / (step * least)).max(1);
    let chunk = depth.div_ceil(count).next_multiple_of(step);
    (depth.div_ceil(chunk), chunk)
}

/// The depth from which on the parts of a sum cost nothing beside what makes them.
const DEEP: u32 = 1 << 15;

/// Into how many parts, four at most, the sums of tiles are cut that fill a large GPU once or a few times, so that the
/// last turn leaves few of its multiprocessors idle: one workgroup keeps one of them busy. 160 tiles of a sum over
/// 151,936 values leave 104 of an H200's idle for half of the time, and three parts of each leave a twelfth.
fn balanced(tiles: u32) -> u32 {
    let turns = |parts: u32| (tiles * parts).div_ceil(WANTED / 2) * 12 / parts;
    (1..=4).min_by_key(|&parts| turns(parts)).unwrap_or(1)
}

/// Whether so many tiles keep a GPU busy, so that their workgroups share no sums.
pub(super) fn fills(caps: &Caps, tiles: u32) -> bool {
    match caps.kind {
        DeviceKind::Discrete => tiles > WANTED / 2,
        DeviceKind::Cpu => true,
        _ => tiles > 8,
    }
}

/// The dispatch. Operands: parts, y.
///
/// # Errors
/// Sizes that are no multiples of 4, tensors that exceed a binding.
pub fn plan(
    [count, rows, cols]: [u32; 3],
    columns: Columns,
    scale: f32,
    add: bool,
    budget: &Budget,
) -> std::result::Result<Dispatch<Params>, PlanError> {
    let fours = [cols, columns.stride, columns.column].iter().all(|v| v.is_multiple_of(4));
    if !fours || columns.column + cols > columns.stride {
        let what = format!("{cols} columns at {} of {}", columns.column, columns.stride);
        return Err(PlanError::Shape { op: "split_k", what });
    }
    let values = u64::from(rows) * u64::from(cols);
    let sizes = [u64::from(count) * values * 4, u64::from(rows) * u64::from(columns.stride) * 4];
    let allowed = budget.max_binding;
    if let Some(&needed) = sizes.iter().find(|&&n| n > allowed) {
        return Err(PlanError::DoesNotFit { op: "split_k", what: "a tensor", needed, allowed });
    }
    let grid = fold((values / 4).div_ceil(u64::from(WG)) as u32, budget);
    Ok(Dispatch {
        params: Params {
            rows,
            cols: cols / 4,
            count,
            stride: columns.stride / 4,
            column: columns.column / 4,
            grid_x: grid[0],
            flags: if add { ADD } else { 0 },
            scale,
        },
        binds: (0..).zip(sizes).map(|(operand, size)| Bind { operand, offset: 0, size }).collect(),
        grid,
        cost: Cost {
            bytes: values as f64 * 4.0 * (f64::from(count) + if add { 2.0 } else { 1.0 }),
            flops: values as f64 * f64::from(count),
        },
    })
}

fn shader() -> Shader {
    Shader {
        name: "split_k".into(),
        source: compose(&[], &[("WG", WG)], &[include_str!("kernel.wgsl")]),
        bindings: vec![Access::ReadWrite; 2],
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    vec![(shader(), Params::FIELDS)]
}

/// Records `y = scale sum_z parts[z]`, added to what y holds if `add`: parts `[count, rows, cols]` f32, y
/// f32 `[rows, columns.stride]`, of which `cols` columns are written.
///
/// # Errors
/// As [`plan`], or a shader the device refuses.
pub fn sum_splits(
    rec: &mut Recorder,
    parts: &Slice,
    shape: [u32; 3],
    (y, columns): (&Slice, Columns),
    scale: f32,
    add: bool,
) -> Result<()> {
    let pipeline = rec.gpu().pipeline("split_k", shader)?;
    let plan = plan(shape, columns, scale, add, rec.gpu().budget())?;
    record(rec, &pipeline, &[parts, y], &[plan]);
    Ok(())
}
