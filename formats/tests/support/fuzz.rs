//! What fuzz targets share: mutations of bytes and of JSON, and reading them under bounds.
//!
//! `WEFT_FUZZ=20000 cargo test --release -p weft-formats --test file_fuzz` tries so many mutations a target; without
//! the variable there are a few hundred, with the same seeds. `WEFT_FUZZ_ROUND=N` tries the Nth alone, whose file is
//! left in target/tmp/fuzz where it fails.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value as Json, json};

#[path = "alloc.rs"]
mod alloc;

pub(crate) use alloc::{Counting, peak_of};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Mutations that each target tries.
pub(crate) fn rounds(default: usize) -> usize {
    std::env::var("WEFT_FUZZ").map_or(default, |n| n.parse().expect("WEFT_FUZZ is a number"))
}

/// Numbers that break arithmetic.
pub(crate) const HUGE: [u64; 10] =
    [0, 1, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 60, i64::MAX as u64, u64::MAX - 31, u64::MAX];

/// Bytes flipped, cut, put in, taken out, overwritten by numbers that are absurd or by others of the file.
pub(crate) fn mutate(bytes: &mut Vec<u8>, r: &mut Random) {
    let other = bytes.clone();
    let at = r.below(bytes.len());
    match r.below(7) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << r.below(8)),
        1 => bytes.truncate(at),
        2 => {
            let value = HUGE[r.below(HUGE.len())].to_le_bytes();
            let n = [1, 2, 4, 8][r.below(4)].min(bytes.len() - at);
            bytes[at..at + n].copy_from_slice(&value[..n]);
        }
        3 => {
            let from = r.below(other.len());
            let n = r.below(64).min(other.len() - from).min(bytes.len() - at);
            bytes[at..at + n].copy_from_slice(&other[from..from + n]);
        }
        4 => drop(bytes.drain(at..at + r.below(32).min(other.len() - at))),
        5 => {
            let from = r.below(other.len());
            let n = r.below(64).min(other.len() - from);
            bytes.splice(at..at, other[from..from + n].iter().copied());
        }
        _ => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = r.below(45) as u8),
    }
}

/// A value that no reader expects.
fn absurd(r: &mut Random) -> Json {
    match r.below(16) {
        0 => json!(null),
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(1e308),
        5 => json!(4_294_967_295u64),
        6 => json!(u64::MAX),
        7 => json!(2_147_483_648u64),
        8 => json!(""),
        9 => json!("\u{0}\u{feff}a\u{301}"),
        10 => json!("x".repeat(1 << r.below(15))),
        11 => json!([]),
        12 => json!({}),
        13 => (0..r.below(100)).fold(json!(1), |v, _| json!([v])),
        14 => (0..r.below(100)).fold(json!(1), |v, _| json!({ "a": v })),
        _ => json!([[1, 2], {"id": "a"}, null, 0.5, "b"]),
    }
}

/// Changes one value somewhere inside: replaces it, removes it, doubles it, or gives it another's place.
fn change(value: &mut Json, r: &mut Random) {
    match value {
        Json::Object(map) if !map.is_empty() && r.below(8) > 0 => {
            let key = map.keys().nth(r.below(map.len())).cloned().unwrap_or_default();
            match r.below(10) {
                0 => drop(map.remove(&key)),
                1 => {
                    let other = map.keys().nth(r.below(map.len())).cloned().unwrap_or_default();
                    let taken = map[&other].clone();
                    map.insert(key, taken);
                }
                2 => {
                    let taken = map[&key].clone();
                    map.insert(format!("{key}{}", ["", "_", ".0", "\u{e9}"][r.below(4)]), taken);
                }
                _ => change(&mut map[&key], r),
            }
        }
        Json::Array(list) if !list.is_empty() && r.below(8) > 0 => {
            let at = r.below(list.len());
            match r.below(10) {
                0 => drop(list.remove(at)),
                1 => list.insert(at, list[r.below(list.len())].clone()),
                2 => {
                    let n = 1 << r.below(10);
                    let taken = list[at].clone();
                    list.extend(std::iter::repeat_n(taken, n));
                }
                _ => change(&mut list[at], r),
            }
        }
        Json::String(text) if r.below(2) > 0 => {
            let mut chars: Vec<char> = text.chars().collect();
            let at = r.below(chars.len() + 1);
            match r.below(4) {
                0 => chars.truncate(at),
                1 => chars
                    .insert(at, ['\u{0}', '\u{2581}', ' ', '{', '\\', '\u{10ffff}', '0', 'B'][r.below(8)]),
                2 => chars = chars.repeat(1 << r.below(6)),
                _ => chars.reverse(),
            }
            *text = chars.into_iter().collect();
        }
        other => *other = absurd(r),
    }
}

/// A JSON text with some values changed, or some bytes.
pub(crate) fn mutate_json(good: &[u8], r: &mut Random) -> Vec<u8> {
    let mut value: Json = serde_json::from_slice(good).unwrap_or_else(|_| Json::Object(Map::new()));
    (0..1 + r.below(4)).for_each(|_| change(&mut value, r));
    let mut bytes = value.to_string().into_bytes();
    if r.below(4) == 0 {
        mutate(&mut bytes, r);
    }
    bytes
}

/// Mutates the header of a safetensors file, whose length stays right, or bytes anywhere.
pub(crate) fn mutate_safetensors(good: &[u8], r: &mut Random) -> Vec<u8> {
    let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let header = mutate_json(&good[8..8 + length], r);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(&good[8 + length..]);
    if r.below(4) == 0 {
        mutate(&mut bytes, r);
    }
    bytes
}

pub(crate) fn mutate_bytes(good: &[u8], r: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    (0..1 + r.below(4)).for_each(|_| mutate(&mut bytes, r));
    bytes
}

/// What a small file may take of memory, whatever it holds.
pub(crate) const MAX_BYTES: usize = 512 << 20;

/// Reads mutations of one file under bounds of time and memory, and gives how many were read. An error is one line.
pub(crate) fn fuzz(
    path: &Path,
    rounds: usize,
    mutation: fn(&[u8], &mut Random) -> Vec<u8>,
    read: &dyn Fn() -> Result<(), String>,
) -> usize {
    let good = std::fs::read(path).unwrap();
    let seed = good.len() as u64;
    read().unwrap();
    let mut opened = 0;
    let only: Option<usize> = std::env::var("WEFT_FUZZ_ROUND").ok().and_then(|n| n.parse().ok());
    for round in (0..rounds).filter(|r| only.is_none_or(|o| o == *r)) {
        // Each from a seed of its own, so that one that fails is found again.
        let bytes = mutation(&good, &mut Random(seed ^ (round as u64) << 20));
        // The bounds are those of small files.
        if bytes.len() > 1 << 20 {
            continue;
        }
        std::fs::write(path, &bytes).unwrap();
        let start = Instant::now();
        let (out, peak) = peak_of(read);
        let first = start.elapsed();
        let shown = format!("round {round} of {} ({} bytes)", path.display(), bytes.len());
        match out {
            Ok(()) => opened += 1,
            Err(line) => assert!(!line.contains(['\n', '\r']), "{shown}: {line}"),
        }
        let most = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 5 });
        if first >= most {
            // A machine that is busy may have let it wait; not twice.
            let again = Instant::now();
            let _ = read();
            assert!(again.elapsed() < most, "{shown}: {first:?} and {:?}", again.elapsed());
        }
        assert!(peak <= MAX_BYTES, "{shown}: {} MiB", peak >> 20);
    }
    std::fs::write(path, good).unwrap();
    opened
}
