//! Rows whose blocks keep their scales while their codes move: what a change of a weight becomes on the grid
//! that is there already.
//!
//! A block is its scales and a code for each value. With all codes of a block set to c its decoder gives what c
//! means at each place, so that no scale is unpacked here.

use super::{Error, Type, dequantize};

/// Bits of a code: byte of the block, the lowest bit there, how many.
type Bits = (usize, usize, usize);

/// Where value i of a block has its code: the low bits, and the rest where they lie elsewhere.
fn places(ty: Type, i: usize) -> Option<[Bits; 2]> {
    const NONE: Bits = (0, 0, 0);
    let nibble = |first: usize, n: usize| (first + i % n, i / n * 4, 4);
    let (half, run, l) = (i / 128, i % 128 / 32, i % 32);
    Some(match ty {
        Type::Q4_0 | Type::IQ4_NL => [nibble(2, 16), NONE],
        Type::Q4_1 => [nibble(4, 16), NONE],
        Type::MXFP4 => [nibble(1, 16), NONE],
        Type::Q5_0 => [nibble(6, 16), (2 + i / 8, i % 8, 1)],
        Type::Q5_1 => [nibble(8, 16), (4 + i / 8, i % 8, 1)],
        Type::Q8_0 => [(2 + i, 0, 8), NONE],
        Type::Q2_K => [(16 + half * 32 + l, run * 2, 2), NONE],
        Type::Q3_K => [(32 + half * 32 + l, run * 2, 2), (l, i / 32, 1)],
        Type::Q4_K => [(16 + i / 64 * 32 + l, i / 32 % 2 * 4, 4), NONE],
        Type::Q5_K => [(48 + i / 64 * 32 + l, i / 32 % 2 * 4, 4), (16 + l, i / 32, 1)],
        Type::Q6_K => [(half * 64 + run % 2 * 32 + l, run / 2 * 4, 4), (128 + half * 32 + l, run * 2, 2)],
        Type::IQ4_XS => [(8 + i / 32 * 16 + i % 16, i % 32 / 16 * 4, 4), NONE],
        _ => return None,
    })
}

/// Bits of a code; 0 for types whose values have none of their own.
fn bits(ty: Type) -> usize {
    places(ty, 0).map_or(0, |p| p[0].2 + p[1].2)
}

/// Whether codes are evenly spaced, so that two of them tell all.
fn is_even(ty: Type) -> bool {
    !matches!(ty, Type::IQ4_NL | Type::IQ4_XS | Type::MXFP4)
}

fn get(ty: Type, block: &[u8], i: usize) -> u8 {
    let [low, high] = places(ty, i).unwrap_or_default();
    let part = |(byte, shift, n): Bits| block[byte] >> shift & ((1u16 << n) - 1) as u8;
    let code = part(low) | part(high).checked_shl(low.2 as u32).unwrap_or(0);
    // Q8_0 is two's complement; here codes rise.
    if ty == Type::Q8_0 { code ^ 0x80 } else { code }
}

fn put(ty: Type, block: &mut [u8], i: usize, code: u8) {
    let code = if ty == Type::Q8_0 { code ^ 0x80 } else { code };
    let [low, high] = places(ty, i).unwrap_or_default();
    let mut part = |(byte, shift, n): Bits, code: u8| {
        let mask = (((1u16 << n) - 1) as u8) << shift;
        block[byte] = block[byte] & !mask | code << shift & mask;
    };
    part(low, code);
    if high.2 > 0 {
        part(high, code >> low.2);
    }
}

/// A row of one type on the grid of its own scales.
#[derive(Debug)]
pub struct Grid {
    ty: Type,
    bytes: Vec<u8>,
    /// What the row holds.
    values: Vec<f32>,
    codes: Vec<u8>,
    /// What code 0 and code 1 mean at each place, where codes are evenly spaced.
    ends: [Vec<f32>; 2],
    /// What every code means at each place, `[codes, columns]`, where they are not.
    levels: Vec<f32>,
}

impl Grid {
    /// Whether rows of a type have such a grid.
    pub fn has(ty: Type) -> bool {
        bits(ty) > 0
    }

    /// Reads whole blocks of `ty`; `None` for a type without codes a value: see [`Grid::has`].
    ///
    /// # Errors
    /// Bytes that are no whole blocks.
    pub fn new(ty: Type, bytes: &[u8]) -> Result<Option<Grid>, Error> {
        if !Grid::has(ty) {
            return Ok(None);
        }
        let n = bytes.len() / ty.block_bytes() * ty.block_len();
        let mut values = vec![0.0; n];
        dequantize(ty, bytes, &mut values)?;
        let codes: Vec<u8> = bytes
            .chunks_exact(ty.block_bytes())
            .flat_map(|block| (0..ty.block_len()).map(move |i| get(ty, block, i)))
            .collect();
        let mut of_code = bytes.to_vec();
        let mut meaning = |code: u8| {
            for block in of_code.chunks_exact_mut(ty.block_bytes()) {
                (0..ty.block_len()).for_each(|i| put(ty, block, i, code));
            }
            let mut out = vec![0.0; n];
            dequantize(ty, &of_code, &mut out).map(|()| out)
        };
        let (ends, levels) = match is_even(ty) {
            true => ([meaning(0)?, meaning(1)?], Vec::new()),
            false => {
                let all: Result<Vec<_>, _> = (0..1u8 << bits(ty)).map(&mut meaning).collect();
                (Default::default(), all?.concat())
            }
        };
        Ok(Some(Grid { ty, bytes: bytes.to_vec(), values, codes, ends, levels }))
    }

    /// What the row holds.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The codes about a change of value i by `change`, that on the side of the value first, with what they mean,
    /// and how far between them the changed value lies, from 0 to 1. Equal at the ends of the codes.
    fn about(&self, i: usize, change: f32) -> ([(u8, f32); 2], f32) {
        let (was, code) = (self.values[i], self.codes[i]);
        let stays = ([(code, was); 2], 0.0);
        if change == 0.0 {
            return stays;
        }
        let top = (1u16 << bits(self.ty)) - 1;
        if is_even(self.ty) {
            let step = self.ends[1][i] - self.ends[0][i];
            let by = change / step;
            // A block whose scale is 0 stays what it is.
            if !by.is_finite() {
                return stays;
            }
            let meant = |by: f32| {
                let to = (f32::from(code) + by).clamp(0.0, f32::from(top));
                (to as u8, was + (to - f32::from(code)) * step)
            };
            let near = by.trunc();
            return ([meant(near), meant(near + by.signum())], (by - near).abs());
        }
        let (n, aim) = (self.values.len(), was + change);
        let (mut near, mut far) = ((code, was), None::<(u8, f32)>);
        for c in 0..=top as u8 {
            let level = self.levels[usize::from(c) * n + i];
            // Between the value and its aim, or beyond that, on the way there.
            let way = (level - was) * change.signum();
            if way > 0.0 && way <= change.abs() && way > (near.1 - was).abs() {
                near = (c, level);
            }
            if way > change.abs() && far.is_none_or(|f| way < (f.1 - was).abs()) {
                far = Some((c, level));
            }
        }
        let Some(far) = far else { return ([near; 2], 0.0) };
        ([near, far], ((aim - near.1) / (far.1 - near.1)).clamp(0.0, 1.0))
    }

    /// The row's bytes with `delta` added and each value rounded to the nearest, and the product of what the row changes
    /// by with `delta`, which is |`delta`|² where all of it is left.
    pub fn nearest(self, delta: &[f32]) -> (Vec<u8>, f64) {
        self.with(delta, |between| between > 0.5)
    }

    /// The row's bytes with `delta` added so that it is left on average, though each value has whole steps alone:
    /// what one value lacks of a step is carried along the row until it makes one. `phase`, from 0 to 1, is what
    /// is carried at the start. Rows need phases of their own: with one for all they would move the same columns,
    /// and their errors would add up in the direction of the change. Also gives the product of what the row changes
    /// by with `delta`.
    pub fn moved(self, delta: &[f32], phase: f32) -> (Vec<u8>, f64) {
        let mut carried = phase;
        self.with(delta, |between| {
            carried += between;
            let far = carried >= 1.0;
            carried -= if far { 1.0 } else { 0.0 };
            far
        })
    }

    /// The row's bytes with the codes about each changed value, the far one where `far` says so of how far the
    /// value lies between them, from 0 to 1; with the product of what changes with `delta`.
    fn with(mut self, delta: &[f32], mut far: impl FnMut(f32) -> bool) -> (Vec<u8>, f64) {
        let mut product = 0.0f64;
        let mut codes = Vec::with_capacity(delta.len());
        for (i, d) in delta.iter().enumerate() {
            let (about, between) = self.about(i, *d);
            let (code, value) = about[usize::from(far(between))];
            product += f64::from(value - self.values[i]) * f64::from(*d);
            codes.push(code);
        }
        let blocks = self.bytes.chunks_exact_mut(self.ty.block_bytes());
        for (block, codes) in blocks.zip(codes.chunks_exact(self.ty.block_len())) {
            codes.iter().enumerate().for_each(|(i, code)| put(self.ty, block, i, *code));
        }
        (self.bytes, product)
    }
}
