//! Products by experts for many tokens, sorted by expert: the tiles of `matmul`, each of one expert.

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use super::sort::most_tiles;
use super::{Experts, Left, Order, Route, whole};
use crate::ops::matmul::tiles::{PLAIN, Params};
use crate::ops::matmul::{Direction, Tile};
use crate::ops::{WEIGHT, slab_operands, with_dequant};
use crate::{Fields, PlanError, Result, WeightType, compose};

/// Register tiles, by their side.
const TILED: [Tile; 3] = [
    Tile { bm: 32, bn: 64, bk: 16, tm: 4, tn: 8 },
    Tile { bm: 64, bn: 64, bk: 16, tm: 8, tn: 8 },
    Tile { bm: 128, bn: 64, bk: 16, tm: 8, tn: 4 },
];

fn name(direction: Direction, ty: WeightType, t: Tile, left: Left) -> String {
    let op = match direction {
        Direction::Forward => "experts",
        Direction::Gradient => "experts_dx",
    };
    let left = if left == Left::Tokens { "_gathered" } else { "" };
    format!("{op}_tiled_{}x{}x{}/{}x{}_{ty}{left}", t.bm, t.bn, t.bk, t.tm, t.tn)
}

fn shader(direction: Direction, ty: WeightType, t: Tile, left: Left) -> Shader {
    let gathered = u32::from(left == Left::Tokens);
    let constants = [
        ("WG", t.bm / t.tm * (t.bn / t.tn)),
        ("BM", t.bm),
        ("BN", t.bn),
        ("BK", t.bk),
        ("TM", t.tm),
        ("TN", t.tn),
        ("TQ", t.tn / 4),
        ("COOPERATIVE", 0),
        ("ROUTED", 1),
        ("TILES", 5),
        ("TOKENS", 6),
        ("GATHERED", gathered),
    ];
    let mut parts = match direction {
        Direction::Forward => with_dequant(ty, include_str!("../matmul/tiled.wgsl")),
        Direction::Gradient => with_dequant(ty, include_str!("../matmul/gradient.wgsl")),
    };
    parts.extend([include_str!("../matmul/params.wgsl"), include_str!("tile.wgsl")]);
    if direction == Direction::Forward {
        parts.push(include_str!("tile_store.wgsl"));
    }
    Shader {
        name: name(direction, ty, t, left),
        source: compose(&[], &constants, &parts),
        bindings: [&WEIGHT[..], &vec![Access::ReadWrite; 3 + gathered as usize]].concat(),
    }
}

pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for &ty in WeightType::ALL {
        for direction in [Direction::Forward, Direction::Gradient] {
            for (t, left) in TILED.into_iter().flat_map(|t| [(t, Left::Tokens), (t, Left::Positions)]) {
                all.push((shader(direction, ty, t, left), PLAIN));
            }
        }
    }
    all
}

/// Records a product or its input gradient, from `left` to `right`: one dispatch a slab, whose tiles have nothing to
/// do where their expert is in another.
pub(super) fn record(
    rec: &mut Recorder,
    direction: Direction,
    experts: &Experts,
    (order, route): (&Order, Route<'_>),
    left: Left,
    (from, to): (&Slice, &Slice),
) -> Result<()> {
    let gpu = rec.gpu().clone();
    let (w, rows) = (&experts.weight, experts.rows);
    let (ty, cols, choices) = (w.shape.ty, w.shape.cols, route.choices());
    let (depth, outputs) = match direction {
        Direction::Forward => (cols, rows),
        Direction::Gradient => (rows, cols),
    };
    let inputs = if left == Left::Tokens { route.tokens } else { choices };
    let from = whole(rec, from, "the experts' inputs", inputs, depth)?;
    let to = whole(rec, to, "the experts' outputs", choices, outputs)?;
    let tokens = whole(rec, &order.tokens, "the list of choices", choices, 1)?;
    let t = TILED.into_iter().find(|t| t.bm == order.side).unwrap_or(TILED[0]);
    let pipeline = gpu.pipeline(&name(direction, ty, t, left), || shader(direction, ty, t, left))?;
    let tiles = most_tiles(choices, w.shape.rows / rows, order.side);
    let list = whole(rec, &order.tiles, "the list of tiles", tiles, 4)?;
    let grid = [tiles, outputs.div_ceil(t.bn), 1];
    if grid.iter().any(|&g| g > gpu.budget().max_workgroups) {
        let what = format!("{tiles} tiles of {outputs} columns are more than a grid has");
        return Err(PlanError::Shape { op: "experts", what }.into());
    }
    for (at, slab) in w.shape.slabs.iter().enumerate() {
        let params = Params {
            planes: slab.planes,
            row0: slab.rows.start,
            rows: slab.count(),
            units: w.shape.units(),
            y_stride: rows,
            flags: 0,
            extent: choices,
            column: 0,
            scale: 1.0,
            chunk: 0,
            ranks: 0,
            t_stride: 0,
            t_column: 0,
            bounds: [0; 2],
            pad: [0; 2],
        };
        let [a, b] = slab_operands(w, at);
        let mut operands = vec![a, b, &from, &to, &list];
        if left == Left::Tokens {
            operands.push(&tokens);
        }
        let part = f64::from(choices) / w.shape.slabs.len() as f64;
        let cost = Cost {
            bytes: slab.bytes as f64 + part * f64::from(depth + outputs) * 4.0,
            flops: 2.0 * part * f64::from(rows) * f64::from(cols),
        };
        rec.dispatch(&pipeline, &params, &operands, grid, cost);
    }
    Ok(())
}
