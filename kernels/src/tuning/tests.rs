//! Tuning files, and what families take from them.

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
    let residual = |rows, cols| chain::constants(&tuned, ChainEpilogue::Residual, q4, [rows, cols], 1);
    assert_eq!(residual(2560, 4096).numbers(), [256, 16, 1, 2]);
    for (rows, cols) in [(1999, 4096), (2560, 5001)] {
        assert_eq!(
            residual(rows, cols),
            chain::constants(&caps, ChainEpilogue::Residual, q4, [rows, cols], 1)
        );
    }
    let matvec = |caps: &Caps, ty, tokens| Matvec::tuned(caps, Variant::Matvec, ty, 6144, 2560, tokens);
    assert_eq!(matvec(&tuned, WeightType::F16, 1).numbers(), [128, 32, 2, 2]);
    for (ty, tokens) in [(WeightType::BF16, 1), (WeightType::F16, 2)] {
        assert_eq!(matvec(&tuned, ty, tokens), matvec(&caps, ty, tokens));
    }
    let split = |caps: &Caps, positions, slots| {
        decode::SplitConfig::tuned(caps, [32, 8, 128], CacheType::F16, positions, slots)
    };
    assert_eq!(split(&tuned, 512, 1).numbers(), [2, 4, 16, 8]);
    // Not where no memory is planned for so many splits, nor for several slots.
    for (positions, slots) in [(128, 1), (512, 2), (1024, 1)] {
        assert_eq!(split(&tuned, positions, slots), split(&caps, positions, slots));
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
        assert!(entries == 0 && notes.len() == 1 && notes[0].contains("ignored"), "cut at {at}: {notes:?}");
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
        for ty in [WeightType::Q4_K, WeightType::Q6_K, WeightType::Q8_0, WeightType::F16, WeightType::IQ2_XS]
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
                        let kind = ChainEpilogue::ALL.into_iter().find(|k| k.family() == op).expect("a kind");
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
            let numbers: Vec<u32> =
                name.split('_').filter_map(|w| w.strip_prefix('r').and_then(|n| n.parse().ok())).collect();
            let book = if name.ends_with("IQ2_XS") { 8 << 10 } else { 0 };
            4 * size * (numbers[0] + 1) + book + 1024
        }
    };
    assert!(bytes <= most, "{name}: {bytes} bytes of workgroup memory, {most} planned");
}
