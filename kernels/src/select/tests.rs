//! What devices get.

use super::{ANY, CallShape, RULES, variant, variants};
use crate::drivers::tests::{adreno, fake, mali};
use crate::layout::Format;
use crate::ops::{attention, matmul};
use crate::registry::cases;
use crate::{WeightShape, WeightType};
use weft_runtime::{Caps, DeviceKind};

#[test]
fn the_last_row_of_an_op_takes_everything() {
    for r in &RULES {
        let last = RULES.iter().rfind(|l| l.op == r.op).expect("itself");
        assert_eq!((&last.tokens, &last.rows, &last.head_dim), (&ANY, &ANY, &ANY), "{}", r.op);
        assert!(last.needs.is_empty() && last.software, "{}", r.op);
        assert!(cases().iter().any(|c| (c.op, c.variant) == (r.op, r.variant)), "{} {}", r.op, r.variant);
    }
    // And no op has a choice that is not in the table.
    for c in cases() {
        let plain = [super::BASELINE, "out_f16", "out_tiles"].contains(&c.variant);
        assert!(plain || variants().contains(&c.variant), "{} {}", c.op, c.variant);
    }
}

fn products(caps: &Caps) -> [matmul::Variant; 3] {
    [1, 5, 64].map(|tokens| matmul::Variant::pick(caps, WeightType::Q4_K, tokens))
}

#[test]
fn devices_get_what_they_can() {
    use matmul::Variant::{Broadcast, Coop, Matvec, MatvecDot, Tiled, TiledF16};
    let h200 = fake("vulkan", "NVIDIA H200", "NVIDIA 580.159.04", DeviceKind::Discrete, 16);
    assert_eq!(products(&h200), [MatvecDot, MatvecDot, Coop]);
    assert_eq!([6, 8].map(|tokens| matmul::Variant::pick(&h200, WeightType::Q4_K, tokens)), [Coop; 2]);
    // Where activations come in tiles, subgroups share the sums of a few rows.
    let sliced = |caps: &Caps, n| variant("matmul", caps, CallShape::tokens(n), |v| v != "chain");
    assert_eq!([5, 6, 64, 65].map(|n| sliced(&h200, n)), ["matvec_dot", "sliced", "sliced", "direct"]);
    assert_eq!(matmul::Variant::pick(&h200, WeightType::F32, 64), Tiled);
    assert_eq!(matmul::Variant::pick(&h200, WeightType::F16, 1), Matvec);
    let chain = |caps: &Caps| variant("matmul", caps, CallShape::tokens(1), |_| true);
    assert_eq!(chain(&h200), "chain");
    let software = fake("vulkan", "llvmpipe", "llvmpipe Mesa 22.3.6", DeviceKind::Cpu, 8);
    assert_eq!(products(&software), [Broadcast; 3]);
    let plain = Caps { subgroups: None, ..software };
    assert_eq!(products(&plain), [Matvec, Matvec, Tiled]);
    // A driver that rejects packed dots and has no matrices gets tiles of f16.
    let phone = Caps { coop: Vec::new(), ..adreno() };
    assert_eq!(products(&phone), [Matvec, Matvec, TiledF16]);
    assert_eq!(chain(&phone), "matvec");
    // The same chip with other failures: packed dots stay.
    assert_eq!(products(&mali()), [MatvecDot, MatvecDot, Coop]);
    // Without matrices of its size a device has none.
    let metal16 = fake("metal", "Apple M9", "", DeviceKind::Integrated, 16);
    assert_eq!(matmul::Coop::of(&metal16), None);
    assert!(matmul::Coop::of(&Caps { backend: "vulkan".into(), ..metal16.clone() }).is_some());
    let metal8 = fake("metal", "Apple M3", "", DeviceKind::Integrated, 8);
    assert_eq!(products(&metal8), [Matvec, Matvec, Coop]);
}

#[test]
fn a_few_rows_come_in_tiles_where_that_is_faster() {
    let h200 = fake("vulkan", "NVIDIA H200", "NVIDIA 580.159.04", DeviceKind::Discrete, 16);
    let side = |ty, rows, tokens| {
        let w = WeightShape::new(ty, rows, 2560, &crate::Budget::WEBGPU).expect("a weight");
        matmul::left_side(&h200, &[&w], tokens)
    };
    let tiles = Format::Tiles { side: 16 };
    assert_eq!([6, 32, 64].map(|n| side(WeightType::Q4_K, 19_456, n)), [tiles; 3]);
    assert_eq!([32, 33].map(|n| side(WeightType::Q8_0, 19_456, n)), [Format::F16, tiles]);
    assert_eq!([5, 32].map(|n| side(WeightType::Q8_0, 6144, n)), [Format::F32, tiles]);
}

#[test]
fn attention_by_head_and_driver() {
    use attention::{CacheShape, CacheType, Sequences, Shape, Variant};
    let pick = |caps: &Caps, tokens, head_dim| {
        let cache =
            CacheShape::new(CacheType::F16, 64, 2, head_dim, &crate::Budget::WEBGPU).expect("a cache");
        let s = Shape { tokens, heads: 8, window: 0, scale: 1.0, splits: 1, sequences: Sequences::One };
        Variant::pick(caps, &s, &cache)
    };
    let h200 = fake("vulkan", "NVIDIA H200", "NVIDIA 580.159.04", DeviceKind::Discrete, 16);
    assert_eq!([1, 7, 8].map(|n| pick(&h200, n, 64)), [Variant::Rows, Variant::Rows, Variant::Coop]);
    assert_eq!(pick(&h200, 8, 128), Variant::CoopWide);
    assert_eq!([1, 64].map(|n| pick(&adreno(), n, 128)), [Variant::Rows, Variant::Tiled]);
    let plain = Caps { coop: Vec::new(), ..h200 };
    assert_eq!([7, 64].map(|n| pick(&plain, n, 128)), [Variant::Rows, Variant::TiledWide]);
    assert_eq!([64, 80].map(|d| pick(&plain, 64, d)), [Variant::TiledWide, Variant::Rows]);
}

#[test]
fn what_is_asked_for_comes_first() {
    let mut caps = fake("vulkan", "NVIDIA H200", "NVIDIA 580.159.04", DeviceKind::Discrete, 16);
    caps.variants = vec!["tiled".into(), "matvec".into()];
    assert_eq!(matmul::Variant::pick(&caps, WeightType::Q4_K, 64), matmul::Variant::Tiled);
    assert_eq!(matmul::Variant::pick(&caps, WeightType::Q4_K, 1), matmul::Variant::Matvec);
    // Even where it is known to fail, but never what the device or the type has not.
    let mut caps = adreno();
    caps.variants = vec!["matvec_dot".into()];
    assert_eq!(matmul::Variant::pick(&caps, WeightType::Q4_K, 1), matmul::Variant::MatvecDot);
    assert_eq!(matmul::Variant::pick(&caps, WeightType::F16, 1), matmul::Variant::Matvec);
    caps.dot = false;
    assert_eq!(matmul::Variant::pick(&caps, WeightType::Q4_K, 1), matmul::Variant::Matvec);
}
