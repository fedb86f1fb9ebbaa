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
use crate::ops::attention::CacheType;

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
mod tests {
    use super::{FAMILIES, Finding, candidates, file_name, read, text};
    use crate::WeightType;
    use crate::drivers::tests::{adreno, fake};
    use crate::ops::attention::{CacheType, decode};
    use crate::ops::matmul::chain::{self, ChainEpilogue};
    use crate::ops::matmul::{Matvec, Variant};
    use std::path::{Path, PathBuf};
    use weft_runtime::{Caps, DeviceKind, Shader, Tuned};

    fn h200() -> Caps {
        fake("vulkan", "NVIDIA H200", "NVIDIA 580.159.04", DeviceKind::Discrete, 16)
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("weft-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn finding(op: &str, ty: &str, shape: &[[u32; 2]], constants: [u32; 4]) -> Finding {
        let tuned = Tuned { op: op.into(), ty: ty.into(), shape: shape.to_vec(), constants };
        Finding { tuned, us: [10.0, 9.0] }
    }

    fn findings() -> Vec<Finding> {
        vec![
            finding("chain_residual", "q4_k", &[[2000, 3000], [3000, 5000]], [256, 16, 1, 2]),
            finding("attention_decode", "f16", &[[0, 512], [24, 42], [128, 128]], [2, 4, 16, 8]),
            finding("matvec", "f16", &[[4000, 8000], [2000, 3000]], [128, 32, 2, 2]),
        ]
    }

    /// What is written is read again, and taken for the shapes it names and no others.
    #[test]
    fn what_is_written_is_found() {
        let (folder, caps) = (folder("tune-found"), h200());
        assert_eq!(read(&folder, &caps), Default::default());
        let file = folder.join(file_name(&caps));
        std::fs::write(&file, text(&caps, "2026-11-28", &findings())).expect("a file");
        let tuning = read(&folder, &caps);
        assert_eq!((tuning.file.as_deref(), tuning.notes.len()), (Some(&*file), 0), "{:?}", tuning.notes);
        assert!(tuning.entries.iter().eq(findings().iter().map(|f| &f.tuned)));
        let tuned = Caps { tuning, ..caps.clone() };
        let q4 = WeightType::Q4_K;
        let residual = |rows, cols| chain::constants(&tuned, ChainEpilogue::Residual, q4, rows, cols);
        assert_eq!(residual(2560, 4096).numbers(), [256, 16, 1, 2]);
        for (rows, cols) in [(1999, 4096), (2560, 5001)] {
            assert_eq!(
                residual(rows, cols),
                chain::constants(&caps, ChainEpilogue::Residual, q4, rows, cols)
            );
        }
        let matvec = |caps: &Caps, ty, tokens| Matvec::tuned(caps, Variant::Matvec, ty, 6144, 2560, tokens);
        assert_eq!(matvec(&tuned, WeightType::F16, 1).numbers(), [128, 32, 2, 2]);
        for (ty, tokens) in [(WeightType::BF16, 1), (WeightType::F16, 2)] {
            assert_eq!(matvec(&tuned, ty, tokens), matvec(&caps, ty, tokens));
        }
        let split = |caps: &Caps, positions, streams| {
            decode::SplitConfig::tuned(caps, [32, 8, 128], CacheType::F16, positions, streams)
        };
        assert_eq!(split(&tuned, 512, 1).numbers(), [2, 4, 16, 8]);
        // Not where no memory is planned for so many splits, nor for several streams.
        for (positions, streams) in [(128, 1), (512, 2), (1024, 1)] {
            assert_eq!(split(&tuned, positions, streams), split(&caps, positions, streams));
        }
        // Another driver has another file, and ignores this one.
        let other = Caps { driver: "NVIDIA 590".into(), ..caps.clone() };
        assert_eq!(read(&folder, &other), Default::default());
        let strange = read(&file, &other);
        assert!(strange.entries.is_empty() && strange.file.is_none());
        assert!(strange.notes[0].contains("another driver"), "{:?}", strange.notes);
        std::fs::remove_dir_all(&folder).expect("its folder");
    }

    fn notes(file: &Path, text: &str, caps: &Caps) -> (usize, Vec<String>) {
        std::fs::write(file, text).expect("a file");
        let tuning = read(file, caps);
        (tuning.entries.len(), tuning.notes)
    }

    /// A file that is cut off, or edited by hand, is worth a line, never a wrong kernel.
    #[test]
    fn what_is_wrong_is_ignored_and_said() {
        let (folder, caps) = (folder("tune-wrong"), h200());
        let file = folder.join("tune.json");
        let whole = text(&caps, "2026-11-28", &findings());
        for at in 0..whole.trim_end().len() {
            let (entries, notes) = notes(&file, &whole[..at], &caps);
            assert!(
                entries == 0 && notes.len() == 1 && notes[0].contains("ignored"),
                "cut at {at}: {notes:?}"
            );
        }
        for (from, to, left, part) in [
            ("\"wg\":256", "\"wg\":257", 2, "entry 1 (\"chain_residual\" \"q4_k\") has constants"),
            ("\"wg\":256", "\"wg\":4294967552", 2, "lacks constants"),
            ("\"lanes\":16,", "", 2, "lacks constants"),
            ("\"rows\":[2000,3000]", "\"rows\":[2000]", 2, "lacks a shape"),
            ("chain_residual", "chain_reverse", 2, "is of no kernel"),
            ("\"type\":\"q4_k\"", "\"type\":\"f16\"", 2, "has constants that this device cannot have"),
            ("\"steps\":2", "\"steps\":9", 1, "and 1 more"),
            ("\"format\": 1", "\"format\": 2", 0, "another format"),
            ("\"entries\"", "\"others\"", 0, "no entries"),
        ] {
            assert!(whole.contains(from), "{from}");
            let (entries, notes) = notes(&file, &whole.replace(from, to), &caps);
            assert!(entries == left && notes.len() == 1, "{to}: {entries} {notes:?}");
            assert!(notes[0].contains(part) && notes[0].contains("tune.json"), "{to}: {notes:?}");
        }
        // More than a file of ours can be; and none, which is nothing to say.
        assert_eq!(notes(&file, &(whole.clone() + &" ".repeat(1 << 20)), &caps).0, 0);
        std::fs::remove_dir_all(&folder).expect("its folder");
        assert_eq!(read(&file, &caps), weft_runtime::Tuning::default());
    }

    #[test]
    fn devices_of_one_name_have_files_of_their_own() {
        let name = file_name(&h200());
        assert!(name.starts_with("tune-nvidia-h200-") && name.ends_with(".json"), "{name}");
        assert_ne!(name, file_name(&Caps { driver: "NVIDIA 580.159.05".into(), ..h200() }));
        assert_ne!(name, file_name(&Caps { backend: "dx12".into(), ..h200() }));
        let strange = file_name(&Caps { name: "../..\\a:b\n\u{f6}".repeat(40), ..h200() });
        assert!(strange.len() < 80 && !strange.contains(['/', '\\', '.', ':']) || strange.ends_with(".json"));
        assert!(!strange.contains("..") && !strange.contains(['/', '\\', ':', '\n']), "{strange}");
    }

    /// Every candidate is a shader that naga takes, within what `candidates` says a device needs for it.
    #[test]
    fn every_candidate_is_a_shader() {
        let caps = h200();
        let mut count = 0;
        for family in FAMILIES {
            // Types of each kind of walk: blocks of 256 and others, with an offset, a center, a book.
            for ty in
                [WeightType::Q4_K, WeightType::Q6_K, WeightType::Q8_0, WeightType::F16, WeightType::IQ2_XS]
            {
                for c in candidates(family.op, ty.name(), &caps) {
                    let shaders = match family.op {
                        "attention_decode" => [(64, 8), (128, 32)]
                            .map(|(dim, sg)| {
                                let ty = if ty == WeightType::F16 { CacheType::F16 } else { CacheType::Q8_0 };
                                decode::shader(ty, dim, sg, decode::SplitConfig::of(c))
                            })
                            .to_vec(),
                        "matvec" => vec![Matvec::of(c).shader(Variant::Matvec, ty)],
                        op => {
                            let kind =
                                ChainEpilogue::ALL.into_iter().find(|k| k.family() == op).expect("a kind");
                            vec![chain::shader(kind, ty, Matvec::of(c))]
                        }
                    };
                    shaders.iter().for_each(|s| check(s, &caps));
                    count += shaders.len();
                }
            }
        }
        assert!(count > 300, "{count}");
        // A phone has fewer, but some.
        let phone = Caps { dot: true, ..adreno() };
        let mut small = phone.clone();
        small.limits.max_compute_invocations_per_workgroup = 256;
        small.limits.max_compute_workgroup_storage_size = 16 << 10;
        for op in ["chain_rows", "chain_residual", "chain_swiglu", "matvec"] {
            let few = candidates(op, "q4_k", &small);
            assert!(!few.is_empty() && few.iter().all(|c| c[0] <= 256), "{op}");
        }
        assert!(candidates("attention_decode", "q4_k", &caps).is_empty());
        assert!(candidates("chain_rows", "f16", &caps).is_empty());
    }

    fn check(shader: &Shader, caps: &Caps) {
        use naga::valid::{Capabilities, ValidationFlags, Validator};
        let name = &shader.name;
        let module = naga::front::wgsl::parse_str(&shader.source)
            .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&shader.source)));
        let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SUBGROUP;
        Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&shader.source)));
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("a layout");
        let shared = |v: &naga::GlobalVariable| v.space == naga::AddressSpace::WorkGroup;
        let bytes: u32 =
            module.global_variables.iter().filter(|(_, v)| shared(v)).map(|(_, v)| layouter[v.ty].size).sum();
        let most = match name.starts_with("attention") {
            true => caps.limits.max_compute_workgroup_storage_size,
            false => {
                let size = module.entry_points[0].workgroup_size[0];
                let numbers: Vec<u32> = name
                    .split('_')
                    .filter_map(|w| w.strip_prefix('r').and_then(|n| n.parse().ok()))
                    .collect();
                let book = if name.ends_with("IQ2_XS") { 8 << 10 } else { 0 };
                4 * size * (numbers[0] + 1) + book + 1024
            }
        };
        assert!(bytes <= most, "{name}: {bytes} bytes of workgroup memory, {most} planned");
    }
}
