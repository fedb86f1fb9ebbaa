//! Encoders of the types with code books: IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S.
//!
//! A block of 256 values has a scale d, and each of its parts a scale of a few bits: x ≈ t l with
//! t = d unit (2 s + 1). A part alone tries scales and takes the best, in closed form for the entries that a
//! scale chose. Then d and the s are fitted to each other: each part tries the s about its own, with the
//! entries that are best there, and d follows from all of them.

use std::sync::LazyLock;

use super::book::{Book, Found, Values};
use super::encode::put_f16;
use super::grids;
use super::iq::{DELTA_1, LEVELS_2, LEVELS_3_S, LEVELS_3_XXS};

/// Largest magnitudes below this are all zero once stored as f16.
const TINY: f32 = 1e-20;

/// How the signs of a type are stored.
#[derive(Clone, Copy, PartialEq)]
enum Signs {
    /// Levels have signs of their own.
    None,
    /// One bit a value.
    All,
    /// Seven bits for eight values, whose minus signs are even in number.
    Even,
}

/// A type, for the search.
struct Shape<const N: usize> {
    book: Book<N>,
    /// Values that share a scale.
    len: usize,
    /// The largest s.
    top: i32,
    unit: f32,
    signs: Signs,
    /// Whether a part, rather than an entry, has a shift.
    shared: bool,
    /// The scales that a part tries, as quotients of its largest value.
    tries: Vec<f32>,
    /// The d that a block tries, as quotients of that which the largest scale asks for.
    starts: &'static [f32],
}

/// What a part of a block becomes.
#[derive(Clone, Copy, Default)]
struct Part {
    entries: [u16; 8],
    shifts: [u8; 8],
    total: Found,
    s: i32,
}

/// What a block becomes.
struct Block {
    d: f32,
    /// The code of each entry stands in the order of the values.
    entries: Vec<u16>,
    shifts: Vec<u8>,
    /// Each byte holds the signs of eight values.
    signs: [u8; 32],
    /// Each part has one.
    scales: Vec<u8>,
}

/// `n` numbers from `low` to `high`, each the same times the one before.
fn spread(low: f32, high: f32, n: i32) -> Vec<f32> {
    (0..n).map(|k| low * (high / low).powf(k as f32 / (n - 1) as f32)).collect()
}

impl<const N: usize> Shape<N> {
    /// The entries of a part at scale t, above 0.
    fn part(&self, values: &[Values<N>], t: f32) -> Part {
        let fixed = |shift: usize| {
            let mut part = Part::default();
            for (g, v) in values.iter().enumerate() {
                part.set(g, shift, self.book.nearest(shift, v, t));
            }
            part
        };
        if self.book.shifts() == 1 {
            return fixed(0);
        }
        if self.shared {
            let (a, b) = (fixed(0), fixed(1));
            return if b.total.error(t) < a.total.error(t) { b } else { a };
        }
        let mut part = Part::default();
        for (g, v) in values.iter().enumerate() {
            let (a, b) = (self.book.nearest(0, v, t), self.book.nearest(1, v, t));
            let shift = usize::from(b.error(t) < a.error(t));
            part.set(g, shift, if shift == 1 { b } else { a });
        }
        part
    }

    /// The scale that suits a part alone, 0 where it is all zeros.
    fn scale(&self, values: &[Values<N>]) -> f32 {
        let largest = values.iter().flat_map(|v| v.x).fold(0.0, |m: f32, x| m.max(x.abs()));
        if largest < TINY {
            return 0.0;
        }
        let mut best = (0.0, 0.0);
        for quotient in &self.tries {
            let Found { xl, ll, .. } = self.part(values, largest * quotient).total;
            if xl > 0.0 && xl * xl > best.0 * ll {
                best = (xl * xl / ll, xl / ll);
            }
        }
        best.1
    }

    /// The best s for each part at d, near those that `about` gives, and what that costs.
    fn parts(
        &self,
        values: &[Values<N>],
        d: f32,
        reach: i32,
        about: impl Fn(usize) -> i32,
    ) -> (Vec<Part>, f32) {
        let groups = self.len / N;
        let mut cost = 0.0;
        let parts = values.chunks_exact(groups).enumerate().map(|(j, values)| {
            let middle = about(j);
            let mut best: Option<(f32, Part)> = None;
            for s in (middle - reach).max(0)..=(middle + reach).min(self.top) {
                let t = d * self.unit * (2 * s + 1) as f32;
                let mut part = self.part(values, t);
                part.s = s;
                let error = part.total.error(t);
                if best.is_none_or(|b| error < b.0) {
                    best = Some((error, part));
                }
            }
            let (error, part) = best.unwrap_or_default();
            cost += error;
            part
        });
        (parts.collect(), cost)
    }

    /// The d that is best for parts as they are, 0 where nothing is left.
    fn fit(parts: &[Part], unit: f32) -> f32 {
        let (mut xl, mut ll) = (0.0, 0.0);
        for p in parts {
            let m = unit * (2 * p.s + 1) as f32;
            xl += m * p.total.xl;
            ll += m * m * p.total.ll;
        }
        if ll > 0.0 { (xl / ll).max(0.0) } else { 0.0 }
    }

    /// `x` are 256 values and `w` their weights.
    fn block(&self, x: &[f32], w: &[f32]) -> Block {
        let mut signs = [0u8; 32];
        let mut magnitudes = [0.0; 256];
        magnitudes.copy_from_slice(x);
        if self.signs != Signs::None {
            for (g, x) in magnitudes.chunks_exact_mut(8).enumerate() {
                signs[g] = take_signs(x, &w[8 * g..][..8], self.signs == Signs::Even);
            }
        }
        let (x, w) = (magnitudes.as_chunks::<N>().0, w.as_chunks::<N>().0);
        let values: Vec<Values<N>> = x.iter().zip(w).map(|(x, w)| Values::new(*x, *w)).collect();
        let scales: Vec<f32> = values.chunks_exact(self.len / N).map(|v| self.scale(v)).collect();
        let largest = scales.iter().copied().fold(0.0, f32::max);
        let stored = |d: f32| half::f16::from_f32(d.min(65504.0)).to_f32();
        let mut best: Option<(f32, f32, Vec<Part>)> = None;
        for start in self.starts {
            let mut d = stored(start * largest / (self.unit * (2 * self.top + 1) as f32));
            let mut last: Option<Vec<Part>> = None;
            for _ in 0..3 {
                if d == 0.0 {
                    break;
                }
                let (parts, cost) = match &last {
                    None => self.parts(&values, d, 1, |j| {
                        let s = 0.5 * (scales[j] / (d * self.unit) - 1.0);
                        (s.round() as i32).clamp(0, self.top)
                    }),
                    Some(last) => self.parts(&values, d, 1, |j| last[j].s),
                };
                if best.as_ref().is_none_or(|b| cost < b.0) {
                    best = Some((cost, d, parts.clone()));
                }
                d = stored(Self::fit(&parts, self.unit));
                last = Some(parts);
            }
        }
        let parts_of_block = 256 / self.len;
        let (_, d, parts) = best.unwrap_or((0.0, 0.0, vec![Part::default(); parts_of_block]));
        let groups = self.len / N;
        Block {
            d,
            entries: parts.iter().flat_map(|p| p.entries[..groups].iter().copied()).collect(),
            shifts: parts.iter().flat_map(|p| p.shifts[..groups].iter().copied()).collect(),
            signs,
            scales: parts.iter().map(|p| p.s as u8).collect(),
        }
    }
}

impl Part {
    fn set(&mut self, group: usize, shift: usize, found: Found) {
        self.entries[group] = found.entry;
        self.shifts[group] = shift as u8;
        self.total.xl += found.xl;
        self.total.ll += found.ll;
    }
}

/// The signs of eight values, which become magnitudes. Where minus signs must be even in number, the value
/// whose sign costs least gets the wrong one, and stays negative.
fn take_signs(x: &mut [f32], w: &[f32], even: bool) -> u8 {
    let mut signs = 0u8;
    for (i, x) in x.iter_mut().enumerate() {
        signs |= u8::from(*x < 0.0) << i;
        *x = x.abs();
    }
    if even && signs.count_ones() % 2 == 1 {
        let cost = |i: usize| w[i] * x[i] * x[i];
        let cheapest = (1..8).fold(0, |c, i| if cost(i) < cost(c) { i } else { c });
        x[cheapest] = -x[cheapest];
        signs ^= 1 << cheapest;
    }
    signs
}

/// Nibbles, low ones first.
fn put_scales(scales: &[u8], out: &mut Vec<u8>) {
    out.extend(scales.chunks_exact(2).map(|s| s[0] | s[1] << 4));
}

/// Four times seven signs, and a scale above them.
fn signs_and_scale(signs: &[u8], scale: u8) -> [u8; 4] {
    let seven = signs.iter().enumerate().fold(0, |b, (i, s)| b | u32::from(s & 127) << (7 * i));
    (seven | u32::from(scale) << 28).to_le_bytes()
}

static IQ2_XXS: LazyLock<Shape<8>> = LazyLock::new(|| Shape {
    book: Book::new(&grids::IQ2_XXS, &LEVELS_2[..3], &[0.0], 24),
    len: 32,
    top: 15,
    unit: 0.125,
    signs: Signs::Even,
    shared: false,
    tries: spread(1.0 / 62.0, 1.0 / 36.0, 12),
    starts: &[1.0],
});

pub(super) fn iq2_xxs(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let b = IQ2_XXS.block(x, w);
    put_f16(out, b.d);
    for (j, scale) in b.scales.iter().enumerate() {
        out.extend(b.entries[4 * j..][..4].iter().map(|e| *e as u8));
        out.extend(signs_and_scale(&b.signs[4 * j..][..4], *scale));
    }
}

static IQ2_XS: LazyLock<Shape<8>> = LazyLock::new(|| Shape {
    book: Book::new(&grids::IQ2_XS, &LEVELS_2[..3], &[0.0], 24),
    len: 16,
    top: 15,
    unit: 0.125,
    signs: Signs::Even,
    shared: false,
    tries: spread(1.0 / 62.0, 1.0 / 36.0, 12),
    starts: &[1.0],
});

pub(super) fn iq2_xs(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let b = IQ2_XS.block(x, w);
    put_f16(out, b.d);
    let codes = b.entries.iter().zip(b.signs).map(|(e, s)| e | u16::from(s & 127) << 9);
    out.extend(codes.flat_map(u16::to_le_bytes));
    put_scales(&b.scales, out);
}

static IQ2_S: LazyLock<Shape<8>> = LazyLock::new(|| Shape {
    book: Book::new(&grids::IQ2_S, &LEVELS_2[..3], &[0.0], 24),
    len: 16,
    top: 15,
    unit: 0.125,
    signs: Signs::All,
    shared: false,
    tries: spread(1.0 / 62.0, 1.0 / 36.0, 12),
    starts: &[1.0],
});

pub(super) fn iq2_s(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let b = IQ2_S.block(x, w);
    put_f16(out, b.d);
    out.extend(b.entries.iter().map(|e| *e as u8));
    out.extend(b.signs);
    out.extend(b.entries.chunks_exact(4).map(|e| (0..4).fold(0, |b, i| b | ((e[i] >> 8) as u8) << (2 * i))));
    put_scales(&b.scales, out);
}

static IQ3_XXS: LazyLock<Shape<4>> = LazyLock::new(|| Shape {
    book: Book::new(&grids::IQ3_XXS, &LEVELS_3_XXS, &[0.0], 16),
    len: 32,
    top: 15,
    unit: 0.25,
    signs: Signs::Even,
    shared: false,
    tries: spread(1.0 / 76.0, 1.0 / 50.0, 12),
    starts: &[1.0],
});

pub(super) fn iq3_xxs(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let b = IQ3_XXS.block(x, w);
    put_f16(out, b.d);
    out.extend(b.entries.iter().map(|e| *e as u8));
    for (signs, scale) in b.signs.chunks_exact(4).zip(&b.scales) {
        out.extend(signs_and_scale(signs, *scale));
    }
}

static IQ3_S: LazyLock<Shape<4>> = LazyLock::new(|| Shape {
    book: Book::new(&grids::IQ3_S, &LEVELS_3_S, &[0.0], 16),
    len: 32,
    top: 15,
    unit: 1.0,
    signs: Signs::All,
    shared: false,
    tries: spread(1.0 / 18.0, 1.0 / 12.0, 12),
    starts: &[1.0],
});

pub(super) fn iq3_s(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let b = IQ3_S.block(x, w);
    put_f16(out, b.d);
    out.extend(b.entries.iter().map(|e| *e as u8));
    out.extend(b.entries.chunks_exact(8).map(|e| (0..8).fold(0, |b, i| b | ((e[i] >> 8) as u8) << i)));
    out.extend(b.signs);
    put_scales(&b.scales, out);
}

/// IQ1_S and IQ1_M have one book.
fn ternary(len: usize, shared: bool) -> Shape<8> {
    Shape {
        book: Book::new(&grids::IQ1_S, &[-1.0, 0.0, 1.0], &[DELTA_1, -DELTA_1], 24),
        len,
        top: 7,
        unit: 1.0,
        signs: Signs::None,
        shared,
        tries: spread(0.3, 1.0, 16),
        starts: &[1.0],
    }
}

static IQ1_S: LazyLock<Shape<8>> = LazyLock::new(|| ternary(32, true));

pub(super) fn iq1_s(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let b = IQ1_S.block(x, w);
    put_f16(out, b.d);
    out.extend(b.entries.iter().map(|e| *e as u8));
    for (j, scale) in b.scales.iter().enumerate() {
        let high = (0..4).fold(0, |bits, i| bits | (b.entries[4 * j + i] >> 8) << (3 * i));
        let code = high | u16::from(*scale) << 12 | u16::from(b.shifts[4 * j]) << 15;
        out.extend(code.to_le_bytes());
    }
}

static IQ1_M: LazyLock<Shape<8>> = LazyLock::new(|| ternary(16, false));

pub(super) fn iq1_m(x: &[f32], w: &[f32], out: &mut Vec<u8>) {
    let b = IQ1_M.block(x, w);
    out.extend(b.entries.iter().map(|e| *e as u8));
    let high: Vec<u8> = b.entries.iter().zip(&b.shifts).map(|(e, s)| (e >> 8) as u8 | s << 3).collect();
    put_scales(&high, out);
    let d = half::f16::from_f32(b.d).to_bits();
    for (i, scales) in b.scales.chunks_exact(4).enumerate() {
        let scales = (0..4).fold(0, |b, k| b | u16::from(scales[k]) << (3 * k));
        out.extend((scales | (d >> (4 * i) & 15) << 12).to_le_bytes());
    }
}
