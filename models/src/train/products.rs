//! The products of training programs with their adapters: forward, and from the gradient of what they make
//! to those of what goes in, of A and of B.

use weft_kernels::ops::dropout::{Mask, dropout};
use weft_kernels::ops::matmul::{
    Columns, Direction, Epilogue, Gradient, Input, LowRank, linear, linear_gradient,
};
use weft_kernels::ops::tile::Tile;
use weft_kernels::ops::{Format, lora};
use weft_runtime::{Recorder, Slice};

use super::product::{Product, product};
use super::record::{RANGE, Recording};
use crate::Result;
use crate::graph::{Info, Room, Step, Value};
use crate::sites::{Site, Target};

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

impl Recording<'_> {
    /// The input that an adapter sees: x, or with dropout what is left of it.
    fn adapter_input(
        &self,
        rec: &mut Recorder,
        p: &Product<'_>,
        x: Value,
        room: Room,
    ) -> Result<(Slice, Format)> {
        let (at, format) = (self.at(x), self.info(x).format);
        let Some(dropped) = self.dropped(room) else { return Ok((at, format)) };
        self.drop(rec, p, &at, &dropped, false)?;
        Ok((dropped, Format::F32))
    }

    /// With dropout: where what is left of an input lies, or its gradient.
    fn dropped(&self, room: Room) -> Option<Slice> {
        room.dropped.filter(|_| self.dropout > 0.0).map(|v| self.at(v))
    }

    fn drop(&self, rec: &mut Recorder, p: &Product<'_>, x: &Slice, y: &Slice, add: bool) -> Result<()> {
        let Site::Layer(layer, group) = p.site else { return Ok(()) };
        let mask = Mask { probability: self.dropout, salt: layer * 4 + group as u32 };
        Ok(dropout(rec, x, y, self.common.tokens * p.inputs(), &self.m.seed, mask, add)?)
    }

    /// Adapted matrices of a product.
    fn targets(&self, site: Site) -> (u32, Vec<Target>) {
        match site {
            Site::Layer(layer, group) => (layer, self.adapter.targets(layer, group)),
            Site::Router(_) | Site::Head => (0, Vec::new()),
        }
    }

    /// A product's stacked A in `flat` memory.
    fn a(&self, site: Site, flat: &Slice) -> Option<Slice> {
        let (layer, targets) = self.targets(site);
        (!targets.is_empty()).then(|| {
            let (offset, bytes) = self.flat.group(layer, &targets).0;
            flat.range(offset, bytes)
        })
    }

    /// The B of a product in `flat` memory, in runs that lie without a gap.
    fn runs(&self, p: &Product<'_>, flat: &Slice) -> Vec<Run> {
        let (layer, targets) = self.targets(p.site);
        if targets.is_empty() {
            return Vec::new();
        }
        let (_, places) = self.flat.group(layer, &targets);
        let mut runs: Vec<(Run, (u64, u64))> = Vec::new();
        for ((j, target), (offset, bytes)) in (0..).zip(&targets).zip(places) {
            let window = p.outputs(*target, self.common.spec);
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

    /// The ranks of all adapters of a product.
    fn ranks(&self, site: Site) -> u32 {
        self.targets(site).1.len() as u32 * self.adapter.rank
    }

    /// A product's input in tiles, where the device's products are faster so, there is room, and it is not there yet.
    fn laid(
        &self,
        rec: &mut Recorder,
        p: &Product<'_>,
        (x, from, rows): (&Slice, Format, u32),
        room: Room,
    ) -> Result<Option<(Slice, Format)>> {
        let Some(y) = room.tiles.map(|v| self.at(v)) else { return Ok(None) };
        let wanted = p.tiles(self.common.caps, Direction::Forward, rows);
        match (from, wanted) {
            (Format::F32 | Format::F16, Some(format @ Format::Tiles { side })) => {
                let (cols, columns) = (p.inputs(), Columns::all(p.inputs()));
                Tile { x, from, columns, y: &y, rows, cols, side, scale: 1.0 }.record(rec)?;
                Ok(Some((y, format)))
            }
            _ => Ok(None),
        }
    }

    /// The gradient of what a product makes: its tiles where there are any.
    fn gradient(&self, dy: Value, room: Room) -> (Slice, Format) {
        match room.tiles.and_then(|v| self.tiled(v)) {
            Some((tiles, side)) => (tiles, Format::Tiles { side }),
            None => (self.at(dy), Format::F32),
        }
    }

    fn parts(&self, room: Room) -> Option<Slice> {
        room.parts.map(|v| self.at(v))
    }

    /// A sum over the width of a product's stacked A, or the gradient of that A.
    fn pass_a(
        &self,
        rec: &mut Recorder,
        (form, scale): (lora::Form, f32),
        (t, x): (&Slice, (&Slice, Format)),
        (a, p): (&Slice, &Product<'_>),
        room: Room,
    ) -> Result<()> {
        let parts = self.parts(room);
        let windows = [p.window()];
        let pass = lora::Pass {
            shape: p.pass_a(form, self.common.tokens, self.ranks(p.site), x.1, &windows),
            narrow: t,
            wide: x.0,
            m: a,
            scale,
            range: if form == lora::Form::Outer { RANGE } else { 1.0 },
            scratch: parts.as_ref(),
        };
        Ok(pass.record(rec)?)
    }

    /// From the gradient of a product's output, that of t, or of the group's B.
    fn pass_b(
        &self,
        rec: &mut Recorder,
        (form, scale): (lora::Form, f32),
        runs: &[Run],
        (t, dy): (&Slice, (&Slice, Format)),
        room: Room,
    ) -> Result<()> {
        let parts = self.parts(room);
        for run in runs {
            let pass = lora::Pass {
                shape: lora::PassShape {
                    form,
                    matrix: lora::Matrix::B,
                    tokens: self.common.tokens,
                    rank: self.adapter.rank,
                    narrow: run.t,
                    format: dy.1,
                    windows: &run.windows,
                },
                narrow: t,
                wide: dy.0,
                m: &run.b,
                scale,
                range: RANGE,
                scratch: parts.as_ref(),
            };
            pass.record(rec)?;
        }
        Ok(())
    }

    /// t = scale x A^T.
    pub(super) fn down(
        &self,
        rec: &mut Recorder,
        (x, site): (Value, Site),
        t: Value,
        room: Room,
    ) -> Result<()> {
        let Some(a) = self.a(site, &self.m.parameters) else { return Ok(()) };
        let p = product(self.common.w, site);
        let (x, format) = self.adapter_input(rec, &p, x, room)?;
        let what = (lora::Form::Down, self.scale);
        self.pass_a(rec, what, (&self.at(t), (&x, format)), (&a, &p), room)
    }

    /// t = scale x A^T, out = x W + t B^T.
    pub(super) fn product(
        &self,
        rec: &mut Recorder,
        (x, site): (Value, Site),
        (out, t): (Value, Option<Value>),
        room: Room,
    ) -> Result<()> {
        if let Some(t) = t {
            self.down(rec, (x, site), t, room)?;
        }
        let p = product(self.common.w, site);
        let Info { rows: tokens, format, .. } = self.info(x);
        let (x, y, t, parts) = (self.at(x), self.at(out), t.map(|t| self.at(t)), self.parts(room));
        let (stride, rank) = (p.stride(), self.adapter.rank);
        let runs = self.runs(&p, &self.m.parameters);
        let (x, format) = self.laid(rec, &p, (&x, format, tokens), room)?.unwrap_or((x, format));
        let input = Input { x: &x, ints: None, format };
        let mut column = 0;
        for &(w, bias) in &p.weights {
            let rows = w.shape.rows;
            // The adapters of this matrix, as far as they follow each other and leave out no row.
            let low = runs.iter().find_map(|r| r.part(column, rows, rank));
            let low = low.as_ref().zip(t.as_ref()).map(|((columns, m, bounds), t)| LowRank {
                t,
                columns: *columns,
                m,
                rank,
                bounds: *bounds,
            });
            let joined = low.is_some();
            let epilogue = Epilogue { bias, low, scratch: parts.as_ref(), ..Epilogue::default() };
            linear(rec, w, input, (&y, Columns { stride, column }), tokens, epilogue)?;
            if let Some(t) = t.as_ref().filter(|_| !joined) {
                for (columns, window, b) in runs.iter().flat_map(|r| r.each(rank)) {
                    if (column..column + rows).contains(&window.columns.column) {
                        let shape = lora::Shape { tokens, rank, width: window.width };
                        lora::up(rec, (t, columns), &b, (&y, window.columns), 1.0, shape)?;
                    }
                }
            }
            column += rows;
        }
        Ok(())
    }

    /// From dy, the gradient of y = x W', to that of t, and to dx where anybody needs it.
    pub(super) fn input_gradient(&self, rec: &mut Recorder, step: &Step) -> Result<()> {
        let Step::InputGradient { site, dy, dt, dx, add, room } = *step else { return Ok(()) };
        let (p, tokens) = (product(self.common.w, site), self.info(dy).rows);
        let (dy, format) = self.gradient(dy, room);
        let (dt, parts) = (dt.map(|t| self.at(t)), self.parts(room));
        if let Some(dt) = &dt {
            let runs = self.runs(&p, &self.m.parameters);
            self.pass_b(rec, (lora::Form::Down, self.scale), &runs, (dt, (&dy, format)), room)?;
        }
        let Some(dx) = dx.map(|v| self.at(v)) else { return Ok(()) };
        let (a, ranks) = (self.a(site, &self.m.parameters), self.ranks(site));
        let adapted = a.as_ref().zip(dt.as_ref());
        let low = adapted.map(|(m, t)| LowRank {
            t,
            columns: Columns::all(ranks),
            m,
            rank: ranks,
            bounds: [u32::MAX; 2],
        });
        let dropped = self.dropped(room);
        let mut column = 0;
        for &(w, _) in &p.weights {
            let columns = Columns { stride: p.stride(), column };
            let low = low.filter(|_| column == 0 && dropped.is_none());
            let dy = Gradient { format, low, scratch: parts.as_ref(), ..Gradient::new(&dy, columns, RANGE) };
            linear_gradient(rec, w, dy, &dx, tokens, add || column > 0)?;
            column += w.shape.rows;
        }
        let (Some((a, dt)), Some(whole)) = (adapted, dropped) else { return Ok(()) };
        // The gradient passes where the input did.
        let shape = lora::Shape { tokens, rank: ranks, width: p.inputs() };
        lora::grad_x(rec, (dt, Columns::all(ranks)), a, &whole, shape, false)?;
        self.drop(rec, &p, &whole, &dx, true)
    }

    /// Adds to the gradients of A and B, from dy, that of t, and the x and t that there were.
    pub(super) fn adapter_gradient(&self, rec: &mut Recorder, step: &Step) -> Result<()> {
        let Step::AdapterGradient { site, dy, x, t, dt, room } = *step else { return Ok(()) };
        let Some(da) = self.a(site, &self.m.gradient) else { return Ok(()) };
        let p = product(self.common.w, site);
        let (runs, what) = (self.runs(&p, &self.m.gradient), (lora::Form::Outer, 1.0));
        // t has the scale in it.
        let (dy, format) = self.gradient(dy, room);
        self.pass_b(rec, what, &runs, (&self.at(t), (&dy, format)), room)?;
        let (x, format) = self.adapter_input(rec, &p, x, room)?;
        self.pass_a(rec, what, (&self.at(dt), (&x, format)), (&da, &p), room)
    }
}
