//! Constants that were measured on a device: which kernels have some to choose, from what, and the file that
//! `weft tune` writes. Where nothing was measured, kernels take what their own tables say.
//!
//! A file is for one adapter and driver. An entry counts only if its constants are among the family's
//! [`candidates`], so that whatever a file holds, no kernel runs that no test has seen.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weft_runtime::{Caps, Tuned, Tuning};

use crate::WeightType;
use crate::layout::CacheType;

/// Kernels with constants to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub op: &'static str,
    /// What a shape is made of.
    pub shape: &'static [&'static str],
    /// What there is to choose.
    pub constants: [&'static str; 4],
}

const PRODUCT: Family =
    Family { op: "matvec", shape: &["rows", "cols"], constants: ["wg", "lanes", "rows", "steps"] };

/// All of them.
pub const FAMILIES: [Family; 5] = [
    Family {
        op: "attention_decode",
        shape: &["positions", "heads", "head_dim"],
        constants: ["heads", "splits", "values", "prefetch"],
    },
    Family { op: "chain_rows", ..PRODUCT },
    Family { op: "chain_residual", ..PRODUCT },
    Family { op: "chain_swiglu", ..PRODUCT },
    PRODUCT,
];

/// The number of the file's format. Another one is another file.
const FORMAT: u64 = 1;

/// A file that is longer is none of ours.
const LONGEST: u64 = 1 << 20;

/// The constants that a family can have for a type on a device; none for a type that it does not take.
pub fn candidates(op: &str, ty: &str, caps: &Caps) -> Vec<[u32; 4]> {
    let weight = WeightType::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(ty));
    let limits = &caps.limits;
    let fits = |&[wg, lanes, rows, steps]: &[u32; 4], ty: WeightType| {
        // Sums of all invocations, with one of squares; a book; values of a workgroup's rows.
        let book = if ty.layout().table.is_empty() { 0 } else { 8 << 10 };
        let bytes = 4 * wg * (rows + 1) + book + 1024;
        lanes <= wg
            && rows * steps <= 4
            && wg <= limits.max_compute_invocations_per_workgroup
            && bytes <= limits.max_compute_workgroup_storage_size
    };
    let products = |groups: &dyn Fn(&[u32; 4]) -> bool, rows: &[u32]| {
        let mut all = Vec::new();
        for (wg, lanes) in [128, 256, 512, 1024].into_iter().flat_map(|wg| LANES.map(|lanes| (wg, lanes))) {
            for (&rows, steps) in rows.iter().flat_map(|r| [1, 2, 4].map(|s| (r, s))) {
                let c = [wg, lanes, rows, steps];
                if weight.is_some_and(|ty| fits(&c, ty)) && groups(&c) {
                    all.push(c);
                }
            }
        }
        all
    };
    let ints = weight.is_some_and(|t| t.layout().has_ints());
    match op {
        // More rows a workgroup are for throughput, fewer for latency.
        "matvec" => products(&|&[wg, lanes, rows, _]| wg <= 256 && wg / lanes * rows <= 64, &[1, 2, 4]),
        "chain_rows" if ints => {
            products(&|&[wg, lanes, rows, _]| wg <= 256 && wg / lanes * rows <= 64, &[1, 2, 4])
        }
        // Whole units of 16 rows, and of gate and up a row each.
        "chain_residual" if ints => {
            products(&|&[wg, lanes, rows, _]| [16, 32].contains(&(wg / lanes * rows)), &[1, 2, 4])
        }
        "chain_swiglu" if ints => products(&|&[wg, lanes, ..]| [16, 32].contains(&(wg / lanes)), &[2]),
        "attention_decode" if CacheType::ALL.iter().any(|t| t.name().eq_ignore_ascii_case(ty)) => CUTS
            .into_iter()
            .flat_map(|(heads, splits)| READS.map(|(values, prefetch)| [heads, splits, values, prefetch]))
            .collect(),
        _ => Vec::new(),
    }
}

/// Lanes of a row: multiples of the heads of a block of 256.
const LANES: [u32; 5] = [8, 16, 32, 64, 128];

/// Query heads of a workgroup, and splits.
const CUTS: [(u32, u32); 12] =
    [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (2, 1), (2, 4), (2, 8), (2, 16), (4, 4), (4, 8), (4, 16)];

/// Values of a key a lane, and loads in flight.
const READS: [(u32, u32); 5] = [(8, 8), (8, 4), (16, 8), (16, 4), (32, 8)];

/// The name of a device's file in a folder.
pub fn file_name(caps: &Caps) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let words: Vec<String> = caps
        .name
        .chars()
        .map(plain)
        .collect::<String>()
        .split('-')
        .filter(|w| !w.is_empty())
        .map(str::to_owned)
        .collect();
    let name: String = words.join("-").chars().take(48).collect();
    // FNV-1a: the same in every build of this program.
    let key = format!("{}\n{}\n{:x}\n{}", caps.backend, caps.name, caps.vendor, caps.driver);
    let hash =
        key.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("tune-{name}-{hash:016x}.json")
}

/// The file that [`read`] would read.
pub fn file_of(path: &Path, caps: &Caps) -> PathBuf {
    if path.is_dir() { path.join(file_name(caps)) } else { path.to_owned() }
}

/// What a file, or the file for this device in a folder, has for it. Where there is none, nothing; all else that is
/// wrong with a file is a line of [`Tuning::notes`], and what is wrong does not count.
pub fn read(path: &Path, caps: &Caps) -> Tuning {
    let file = file_of(path, caps);
    if !file.exists() {
        return Tuning::default();
    }
    // A pipe would be waited for, a device read for ever.
    if !file.is_file() {
        let notes = vec![format!("tuning file {}: is no file; ignored", file.display())];
        return Tuning { notes, ..Tuning::default() };
    }
    let note = |what: String| format!("tuning file {}: {what}", file.display());
    match parse(&file, caps) {
        Err(what) => Tuning { notes: vec![note(format!("{what}; ignored"))], ..Tuning::default() },
        Ok((entries, wrong)) => {
            let note = wrong.first().map(|first| match wrong.len() {
                1 => note(format!("{first}; ignored")),
                n => note(format!("{first}; ignored, and {} more", n - 1)),
            });
            Tuning { file: Some(file), entries, notes: note.into_iter().collect() }
        }
    }
}

/// The entries that count, and what is wrong with others.
fn parse(file: &Path, caps: &Caps) -> Result<(Vec<Tuned>, Vec<String>), String> {
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|f| f.take(LONGEST + 1).read_to_string(&mut text))
        .map_err(|e| format!("cannot be read ({e})"))?;
    let whole = || serde_json::from_str::<Value>(&text).ok().filter(|_| text.len() as u64 <= LONGEST);
    let value = whole().ok_or("is no whole JSON file")?;
    if value["format"].as_u64() != Some(FORMAT) {
        return Err(format!("has another format than {FORMAT}"));
    }
    for (key, want) in [("device", &caps.name), ("backend", &caps.backend), ("driver", &caps.driver)] {
        if value[key].as_str() != Some(want) {
            return Err(format!("was measured with another {key} ({} here: {want})", value[key]));
        }
    }
    let all = value["entries"].as_array().ok_or("has no entries")?;
    let (mut entries, mut wrong) = (Vec::new(), Vec::new());
    for (i, e) in (1..).zip(all) {
        match entry(e, caps) {
            Ok(e) => entries.push(e),
            Err(what) => wrong.push(format!("entry {i} ({} {}) {what}", e["op"], e["type"])),
        }
    }
    Ok((entries, wrong))
}

fn entry(e: &Value, caps: &Caps) -> Result<Tuned, &'static str> {
    let number = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    let (op, ty) = (e["op"].as_str().unwrap_or_default(), e["type"].as_str().unwrap_or_default());
    let family =
        FAMILIES.iter().find(|f| f.op == op).ok_or("is of no kernel that has constants to choose")?;
    let range = |name: &&str| {
        let [first, last] = e["shape"][name].as_array()?.as_slice() else { return None };
        Some([number(first)?, number(last)?])
    };
    let shape: Option<Vec<[u32; 2]>> = family.shape.iter().map(range).collect();
    let constants: Option<Vec<u32>> = family.constants.iter().map(|n| number(&e["constants"][n])).collect();
    let constants = constants.and_then(|c| <[u32; 4]>::try_from(c).ok()).ok_or("lacks constants")?;
    if !candidates(op, ty, caps).contains(&constants) {
        return Err("has constants that this device cannot have");
    }
    Ok(Tuned { op: op.into(), ty: ty.into(), shape: shape.ok_or("lacks a shape")?, constants })
}

/// Something found by measuring.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What it is for, with what is faster there.
    pub tuned: Tuned,
    /// Microseconds of the constants that the table has, and of these.
    pub us: [f64; 2],
}

impl Finding {
    /// As an entry of a file.
    pub fn json(&self) -> Value {
        let t = &self.tuned;
        let named = |names: &[&str], values: Vec<Value>| -> Value {
            names.iter().map(|n| (*n).to_owned()).zip(values).collect::<serde_json::Map<_, _>>().into()
        };
        let family = FAMILIES.iter().find(|f| f.op == t.op).unwrap_or(&PRODUCT);
        let round = |us: f64| (us * 1000.0).round() / 1000.0;
        json!({
            "op": t.op,
            "type": t.ty,
            "shape": named(family.shape, t.shape.iter().map(|s| json!(s)).collect()),
            "constants": named(&family.constants, t.constants.iter().map(|c| json!(c)).collect()),
            "default_us": round(self.us[0]),
            "us": round(self.us[1]),
        })
    }
}

/// The text of a file.
pub fn text(caps: &Caps, date: &str, findings: &[Finding]) -> String {
    let head = json!({
        "format": FORMAT,
        "device": caps.name,
        "backend": caps.backend,
        "driver": caps.driver,
        "weft": env!("CARGO_PKG_VERSION"),
        "date": date,
    });
    // An entry a line.
    let mut text = format!("{head:#}");
    text.truncate(text.rfind('\n').unwrap_or_default());
    let _ = write!(text, ",\n  \"entries\": [");
    for (i, f) in findings.iter().enumerate() {
        let _ = write!(text, "{}\n    {}", if i == 0 { "" } else { "," }, f.json());
    }
    text + "\n  ]\n}\n"
}

/// Constants, readable: `256 l16 r2 s1` of a product, `1 x 8, 16 x 4` of attention.
pub fn constants_text(op: &str, c: [u32; 4]) -> String {
    let [a, b, x, y] = c;
    match op {
        "attention_decode" => format!("{a} x {b}, {x} x {y}"),
        _ => format!("{a} l{b} r{x} s{y}"),
    }
}

#[cfg(test)]
mod tests;
