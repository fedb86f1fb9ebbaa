//! The products of the training graph with their adapters: forward, and from the gradient of what they make
//! to those of what goes in, of A and of B.

use weft_kernels::Weight;
use weft_kernels::ops::dropout::{Mask, dropout};
use weft_kernels::ops::matmul::{
    Columns, Epilogue, Gradient, Input, LowRank, Variant, linear, linear_gradient,
};
use weft_kernels::ops::{Format, lora};
use weft_runtime::{Recorder, Slice};

use super::graph::{Graph, RANGE};
use super::product::Product;
use crate::Result;
use crate::sites::Group;

/// Adapters of a group whose B lie one after the other.
struct Run {
    /// Where each one's matrix lies in the product.
    windows: Vec<lora::Window>,
    /// Where the first one's ranks lie in t.
    t: Columns,
    b: Slice,
}

impl Run {
    /// Each adapter: its columns of t, its window, its B.
    fn each(&self, rank: u32) -> Vec<(Columns, lora::Window, Slice)> {
        let mut at = 0;
        let each = |(j, &window): (u32, &lora::Window)| {
            let bytes = u64::from(window.width) * u64::from(rank) * 4;
            at += bytes;
            let t = Columns { column: self.t.column + j * rank, ..self.t };
            (t, window, self.b.range(at - bytes, bytes))
        };
        (0..).zip(&self.windows).map(each).collect()
    }

    /// If adapters of the run are those of all `rows` from `column` on, three at most: where their ranks
    /// begin in t, their B, and the rows at which the second's and the third's begin.
    fn part(&self, column: u32, rows: u32, rank: u32) -> Option<(Columns, Slice, [u32; 2])> {
        let all = self.each(rank);
        let first = all.iter().position(|a| a.1.columns.column == column)?;
        let mut bounds = [u32::MAX; 2];
        let mut at = 0;
        for (n, (_, window, _)) in all[first..].iter().enumerate() {
            if at == rows {
                break;
            }
            if window.columns.column != column + at {
                return None;
            }
            if n > 0 {
                *bounds.get_mut(n - 1)? = at;
            }
            at += window.width;
        }
        let row = u64::from(rank) * 4;
        let before: u64 = self.windows[..first].iter().map(|w| u64::from(w.width) * row).sum();
        (at == rows).then(|| (all[first].0, self.b.range(before, u64::from(rows) * row), bounds))
    }
}

impl Graph<'_> {
    /// How the input of a product is written: in f16 where all of its matrices would round it to that, and
    /// nothing else wants it.
    pub(super) fn format(&self, p: &Product<'_>) -> Format {
        let (caps, tokens) = (self.gpu.caps(), self.tokens);
        let coop = |w: &Weight| Variant::pick(caps, w.shape.ty, tokens) == Variant::Coop;
        let fours = self.adapter.rank.is_multiple_of(4) && p.inputs().is_multiple_of(4);
        match p.weights.iter().all(|(w, _)| coop(w)) && fours && self.dropout == 0.0 {
            true => Format::F16,
            false => Format::F32,
        }
    }

    /// The input that an adapter sees: x, or with dropout what is left of it.
    fn adapter_input(
        &self,
        rec: &mut Recorder,
        i: u32,
        p: &Product<'_>,
        (x, format): (&Slice, Format),
    ) -> Result<(Slice, Format)> {
        let Some([dropped, _]) = self.dropped() else { return Ok((x.clone(), format)) };
        self.drop(rec, i, p, x, &dropped, false)?;
        Ok((dropped, Format::F32))
    }

    /// With dropout: where what is left of an input lies, and its gradient.
    fn dropped(&self) -> Option<[Slice; 2]> {
        let dropped = self.buffers.dropped.filter(|_| self.dropout > 0.0)?;
        Some(dropped.map(|p| self.at(p)))
    }

    fn drop(
        &self,
        rec: &mut Recorder,
        i: u32,
        p: &Product<'_>,
        x: &Slice,
        y: &Slice,
        add: bool,
    ) -> Result<()> {
        let mask = Mask { probability: self.dropout, salt: i * 4 + p.group as u32 };
        Ok(dropout(rec, x, y, self.tokens * p.inputs(), &self.m.seed, mask, add)?)
    }

    /// A group's stacked A in `flat` memory.
    fn a(&self, i: u32, group: Group, flat: &Slice) -> Option<Slice> {
        let targets = self.adapter.targets(i, group);
        (!targets.is_empty()).then(|| {
            let (offset, bytes) = self.flat.group(i, &targets).0;
            flat.range(offset, bytes)
        })
    }

    /// The B of a group in `flat` memory, in runs that lie without a gap.
    fn runs(&self, i: u32, p: &Product<'_>, flat: &Slice) -> Vec<Run> {
        let targets = self.adapter.targets(i, p.group);
        if targets.is_empty() {
            return Vec::new();
        }
        let (_, places) = self.flat.group(i, &targets);
        let mut runs: Vec<(Run, (u64, u64))> = Vec::new();
        for ((j, target), (offset, bytes)) in (0..).zip(&targets).zip(places) {
            let columns = Columns { stride: p.stride(), column: target.column(self.c) };
            let window = lora::Window { columns, width: target.outputs(self.c) };
            match runs.last_mut().filter(|(_, (at, length))| at + length == offset) {
                Some((run, (_, length))) => {
                    run.windows.push(window);
                    *length += bytes;
                }
                None => {
                    let t = Columns {
                        stride: self.adapter.rank * targets.len() as u32,
                        column: j * self.adapter.rank,
                    };
                    runs.push((Run { windows: vec![window], t, b: flat.clone() }, (offset, bytes)));
                }
            }
        }
        runs.into_iter().map(|(run, (at, length))| Run { b: flat.range(at, length), ..run }).collect()
    }

    /// The ranks of all adapters of a group.
    fn ranks(&self, i: u32, group: Group) -> u32 {
        self.adapter.targets(i, group).len() as u32 * self.adapter.rank
    }

    /// A sum over the width of a group's stacked A, or the gradient of that A.
    fn pass_a(
        &self,
        rec: &mut Recorder,
        (form, scale): (lora::Form, f32),
        ranks: u32,
        t: &Slice,
        (x, format): (&Slice, Format),
        (a, width): (&Slice, u32),
    ) -> Result<()> {
        let parts = self.at(self.buffers.parts);
        let windows = [lora::Window { columns: Columns::all(width), width }];
        let pass = lora::Pass {
            form,
            matrix: lora::Matrix::A,
            tokens: self.tokens,
            rank: ranks,
            narrow: (t, Columns::all(ranks)),
            wide: (x, format),
            windows: &windows,
            m: a,
            scale,
            range: if form == lora::Form::Outer { RANGE } else { 1.0 },
            scratch: Some(&parts),
        };
        Ok(pass.record(rec)?)
    }

    /// From the gradient of a product's output, that of t, or of the group's B.
    fn pass_b(
        &self,
        rec: &mut Recorder,
        (form, scale): (lora::Form, f32),
        runs: &[Run],
        t: &Slice,
        dy: &Slice,
    ) -> Result<()> {
        let parts = self.at(self.buffers.parts);
        for run in runs {
            let pass = lora::Pass {
                form,
                matrix: lora::Matrix::B,
                tokens: self.tokens,
                rank: self.adapter.rank,
                narrow: (t, run.t),
                wide: (dy, Format::F32),
                windows: &run.windows,
                m: &run.b,
                scale,
                range: RANGE,
                scratch: Some(&parts),
            };
            pass.record(rec)?;
        }
        Ok(())
    }

    /// t = scale x A^T.
    pub(super) fn down(
        &self,
        rec: &mut Recorder,
        i: u32,
        p: &Product<'_>,
        x: (&Slice, Format),
        t: &Slice,
    ) -> Result<()> {
        let Some(a) = self.a(i, p.group, &self.m.parameters) else { return Ok(()) };
        let (x, format) = self.adapter_input(rec, i, p, x)?;
        let what = (lora::Form::Down, self.scale);
        self.pass_a(rec, what, self.ranks(i, p.group), t, (&x, format), (&a, p.inputs()))
    }

    /// t = scale x A^T, y = x W + t B^T.
    pub(super) fn forward_product(
        &self,
        rec: &mut Recorder,
        i: u32,
        p: &Product<'_>,
        x: (&Slice, Format),
        t: &Slice,
        y: &Slice,
    ) -> Result<()> {
        self.down(rec, i, p, x, t)?;
        let (stride, rank) = (p.stride(), self.adapter.rank);
        let runs = self.runs(i, p, &self.m.parameters);
        let parts = self.at(self.buffers.parts);
        let input = Input { x: x.0, ints: None, format: x.1 };
        let mut column = 0;
        for &(w, bias) in &p.weights {
            let rows = w.shape.rows;
            // The adapters of this matrix, as far as they follow each other and leave out no row.
            let low = runs.iter().find_map(|r| r.part(column, rows, rank));
            let epilogue = Epilogue {
                bias,
                low: low.as_ref().map(|(t_columns, m, bounds)| LowRank {
                    t,
                    columns: *t_columns,
                    m,
                    rank,
                    bounds: *bounds,
                }),
                scratch: Some(&parts),
                ..Epilogue::default()
            };
            linear(rec, w, input, (y, Columns { stride, column }), self.tokens, epilogue)?;
            if low.is_none() {
                for (t_columns, window, b) in runs.iter().flat_map(|r| r.each(rank)) {
                    if (column..column + rows).contains(&window.columns.column) {
                        let shape = lora::Shape { tokens: self.tokens, rank, width: window.width };
                        lora::up(rec, (t, t_columns), &b, (y, window.columns), 1.0, shape)?;
                    }
                }
            }
            column += rows;
        }
        Ok(())
    }

    /// From dy, the gradient of y = x W', to that of t, which stays in scratch, and to dx where anybody
    /// needs it.
    pub(super) fn input_gradient(
        &self,
        rec: &mut Recorder,
        i: u32,
        p: &Product<'_>,
        dy: &Slice,
        dx: Option<&Slice>,
    ) -> Result<()> {
        let (dt, parts) = (self.at(self.buffers.d.t), self.at(self.buffers.parts));
        let runs = self.runs(i, p, &self.m.parameters);
        self.pass_b(rec, (lora::Form::Down, self.scale), &runs, &dt, dy)?;
        let Some(dx) = dx else { return Ok(()) };
        let (a, ranks) = (self.a(i, p.group, &self.m.parameters), self.ranks(i, p.group));
        let low = a.as_ref().map(|m| LowRank {
            t: &dt,
            columns: Columns::all(ranks),
            m,
            rank: ranks,
            bounds: [u32::MAX; 2],
        });
        let dropped = self.dropped();
        let mut column = 0;
        for &(w, _) in &p.weights {
            let columns = Columns { stride: p.stride(), column };
            let low = low.filter(|_| column == 0 && dropped.is_none());
            let dy = Gradient { low, scratch: Some(&parts), ..Gradient::new(dy, columns, RANGE) };
            linear_gradient(rec, w, dy, dx, self.tokens, column > 0)?;
            column += w.shape.rows;
        }
        let (Some(a), Some([_, whole])) = (a, dropped) else { return Ok(()) };
        // The gradient passes where the input did.
        let shape = lora::Shape { tokens: self.tokens, rank: ranks, width: p.inputs() };
        lora::grad_x(rec, (&dt, Columns::all(ranks)), &a, &whole, shape, false)?;
        self.drop(rec, i, p, &whole, dx, true)
    }

    /// Adds to the gradients of A and B, from dy, that of t in scratch, and the x and t that there were.
    pub(super) fn adapter_gradient(
        &self,
        rec: &mut Recorder,
        i: u32,
        p: &Product<'_>,
        dy: &Slice,
        x: (&Slice, Format),
        t: &Slice,
    ) -> Result<()> {
        let Some(da) = self.a(i, p.group, &self.m.gradient) else { return Ok(()) };
        // t has the scale in it.
        self.pass_b(rec, (lora::Form::Outer, 1.0), &self.runs(i, p, &self.m.gradient), t, dy)?;
        let (x, format) = self.adapter_input(rec, i, p, x)?;
        let (dt, what) = (self.at(self.buffers.d.t), (lora::Form::Outer, 1.0));
        self.pass_a(rec, what, self.ranks(i, p.group), &dt, (&x, format), (&da, p.inputs()))
    }
}
