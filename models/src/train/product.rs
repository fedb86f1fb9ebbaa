//! The matrices of a product of training programs, and how what it reads is written.

use weft_kernels::Weight;
use weft_kernels::ops::matmul::{Columns, Direction, Variant, tiles_of};
use weft_kernels::ops::{Format, lora};
use weft_runtime::{Budget, Caps, Slice};

use super::AdapterShape;
use crate::sites::{Site, Target};
use crate::spec::Spec;
use crate::weights::Weights;

/// The fewest rows that are laid in tiles for a product: with 128, forward and loss of a 1.7B model in Q8_0 took 11.4 ms
/// on an H200 where rows had 10.4.
pub(super) const TILED_ROWS: u32 = 256;

/// A product with its adapter: y `[tokens, stride]` = x W'.
pub(super) struct Product<'a> {
    pub(super) site: Site,
    pub(super) weights: Vec<(&'a Weight, Option<&'a Slice>)>,
}

impl Product<'_> {
    pub(super) fn stride(&self) -> u32 {
        self.weights.iter().map(|(w, _)| w.shape.rows).sum()
    }

    pub(super) fn inputs(&self) -> u32 {
        self.weights[0].0.shape.cols
    }

    /// Where A lies in the input: all of it.
    pub(super) fn window(&self) -> lora::Window {
        lora::Window { columns: Columns::all(self.inputs()), width: self.inputs() }
    }

    /// Where the outputs of one of its adapters lie in what it makes.
    pub(super) fn outputs(&self, target: Target, spec: &Spec) -> lora::Window {
        let columns = Columns { stride: self.stride(), column: target.column(spec) };
        lora::Window { columns, width: target.outputs(spec) }
    }

    /// The sums of stacked A, of so many ranks in all.
    pub(super) fn pass_a<'w>(
        &self,
        form: lora::Form,
        tokens: u32,
        ranks: u32,
        format: Format,
        windows: &'w [lora::Window],
    ) -> lora::PassShape<'w> {
        let (matrix, narrow) = (lora::Matrix::A, Columns::all(ranks));
        lora::PassShape { form, matrix, tokens, rank: ranks, narrow, format, windows }
    }

    /// The tiles that its left side should be written in, if there are enough rows.
    pub(super) fn tiles(&self, caps: &Caps, direction: Direction, rows: u32) -> Option<Format> {
        let stride = self.stride();
        let mut column = 0;
        let weights = self.weights.iter().map(|(w, _)| {
            let columns = match direction {
                Direction::Forward => Columns::all(w.shape.rows),
                _ => Columns { stride, column },
            };
            column += w.shape.rows;
            (&w.shape, columns)
        });
        if rows >= TILED_ROWS { tiles_of(caps, direction, weights, rows) } else { None }
    }
}

pub(super) fn product(w: &Weights, site: Site) -> Product<'_> {
    Product { site, weights: w.parts(site).iter().map(|p| (&p.weight, p.bias.as_ref())).collect() }
}

/// What says how the left sides of products are written.
pub(super) struct Formats<'a> {
    pub(super) spec: &'a Spec,
    pub(super) w: &'a Weights,
    pub(super) caps: &'a Caps,
    pub(super) budget: &'a Budget,
    pub(super) adapter: &'a AdapterShape,
    pub(super) dropout: f32,
    /// Whether there is room for tiles.
    pub(super) tiles: bool,
}

impl Formats<'_> {
    /// The adapters of a product: how many, and where each one's outputs lie.
    fn windows(&self, p: &Product<'_>) -> Vec<lora::Window> {
        let Site::Layer(layer, group) = p.site else { return Vec::new() };
        self.adapter.targets(layer, group).into_iter().map(|t| p.outputs(t, self.spec)).collect()
    }

    /// The tiles that the left side of a product should be written in, if there is room and both sums of its adapters
    /// read them.
    fn tiles(
        &self,
        (p, direction): (&Product<'_>, Direction),
        rows: u32,
        reads: impl Fn(lora::Form, Format) -> bool,
    ) -> Option<Format> {
        let both = |format: &Format| [lora::Form::Down, lora::Form::Outer].iter().all(|&f| reads(f, *format));
        p.tiles(self.caps, direction, rows).filter(|_| self.tiles).filter(both)
    }

    /// How the input of a product of `rows` rows is written: in tiles or in f16 where all of its matrices would round it
    /// to that, and its adapters take it.
    pub(super) fn input(&self, site: Site, rows: u32) -> Format {
        let (p, rank) = (product(self.w, site), self.adapter.rank);
        let takes = match site {
            Site::Layer(..) => rank.is_multiple_of(4) && p.inputs().is_multiple_of(4) && self.dropout == 0.0,
            Site::Head => true,
            Site::Router(_) => false,
        };
        let coop = |w: &Weight| Variant::pick(self.caps, w.shape.ty, rows) == Variant::Coop;
        if !takes || !p.weights.iter().all(|(w, _)| coop(w)) {
            return Format::F32;
        }
        let (ranks, windows) = (self.windows(&p).len() as u32 * rank, [p.window()]);
        let reads = |form, format| {
            ranks == 0 || p.pass_a(form, rows, ranks, format, &windows).takes_tiles(self.caps, self.budget)
        };
        self.tiles((&p, Direction::Forward), rows, reads).unwrap_or(Format::F16)
    }

    /// How the gradient of what a product of `rows` rows makes is written: in tiles where its matrices and its adapters
    /// take them.
    pub(super) fn gradient(&self, site: Site, rows: u32) -> Format {
        let (p, rank) = (product(self.w, site), self.adapter.rank);
        let windows = self.windows(&p);
        let narrow = Columns::all(windows.len() as u32 * rank);
        let reads = |form, format| {
            let (matrix, tokens, windows) = (lora::Matrix::B, rows, &windows);
            let shape = lora::PassShape { form, matrix, tokens, rank, narrow, format, windows };
            windows.is_empty() || shape.takes_tiles(self.caps, self.budget)
        };
        self.tiles((&p, Direction::Gradient), rows, reads).unwrap_or(Format::F32)
    }
}
