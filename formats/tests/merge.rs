//! What survives of an adapter in every type, measured on weft-mini's weights.

use std::path::Path;

use weft_formats::adapter::{Base, Pair};
use weft_formats::gguf::{File, Metadata, Writer};
use weft_formats::merge::{Change, Rounding, place};
use weft_formats::quant::{ENCODES, Grid, Type, convert_rows, dequantize};

fn base() -> Base {
    Base { architecture: "qwen3".to_owned(), heads: 2, kv_heads: 1 }
}

/// A file with one matrix of weft-mini, made 256 columns wide, as `ty`.
fn of_type(ty: Type) -> File {
    let mini =
        File::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/assets/weft-mini.gguf")).unwrap();
    let t = mini.tensors().iter().find(|t| t.name == "blk.0.ffn_down.weight").unwrap();
    let mut values = vec![0.0; t.elements() as usize];
    dequantize(t.ty, mini.bytes(t), &mut values).unwrap();
    values.truncate(values.len() / 256 * 256);
    let rows = values.len() / 256;
    let mut bytes = Vec::new();
    convert_rows(Type::F32, bytemuck::cast_slice(&values), ty, 256, None, &mut bytes).unwrap();
    let table = [("blk.0.ffn_down.weight", vec![256, rows as u64], ty)];
    let writer = Writer::new(&Metadata::new(), table).unwrap();
    File::from_bytes(writer.to_bytes(&[bytes]).unwrap()).unwrap()
}

/// Rank 4, with a product of a hundredth of what the weights are.
fn pair(file: &File) -> Pair {
    let t = &file.tensors()[0];
    let (cols, rows, rank) = (t.shape[0] as usize, t.shape[1] as usize, 4);
    let mut weights = vec![0.0; t.elements() as usize];
    dequantize(t.ty, file.bytes(t), &mut weights).unwrap();
    let size = |v: &[f32]| (v.iter().map(|v| v * v).sum::<f32>() / v.len() as f32).sqrt();
    let wave = |n: usize, step: f32| (0..n).map(|i| ((i * i) as f32 * step).sin()).collect::<Vec<f32>>();
    let mut p = Pair {
        tensor: t.name.clone(),
        rank,
        rows,
        cols,
        a: wave(rank * cols, 0.37),
        b: wave(rows * rank, 0.71),
    };
    let mut product = vec![0.0; weights.len()];
    p.add_to(1.0, 0, &mut product);
    let scale = 0.01 * size(&weights) / size(&product);
    p.b.iter_mut().for_each(|b| *b *= scale);
    p
}

/// What is left of a small change in every type, from its own grid and from exact weights. The lines that it prints
/// are what `weft merge --help` is based on.
#[test]
fn small_types_lose_a_change_unless_it_is_kept() {
    let exact = of_type(Type::F32);
    for ty in ENCODES {
        let file = of_type(*ty);
        let (t, p) = (&file.tensors()[0], pair(&file));
        let (bytes, change) = (file.bytes(t), Change { parts: vec![(&p, 1.0, 0)] });
        let share = |to, rounding| change.measure(t.ty, bytes, 256, to, rounding).unwrap().share;
        let (nearest, kept) = (share(*ty, Rounding::Nearest), share(*ty, Rounding::Kept));
        let (q8, f16) = (share(Type::Q8_0, Rounding::Nearest), share(Type::F16, Rounding::Nearest));
        let fresh = change
            .measure(Type::F32, exact.bytes(&exact.tensors()[0]), 256, *ty, Rounding::Nearest)
            .unwrap()
            .share;
        eprintln!(
            "{ty}: {nearest:.3}, kept {kept:.3}, as Q8_0 {q8:.3}, as F16 {f16:.3}, from F32 {fresh:.3}"
        );
        assert!((0.97..1.03).contains(&f16), "F16 from {ty}: {f16}");
        assert!((0.9..1.1).contains(&q8), "Q8_0 from {ty}: {q8}");
        match ty {
            Type::F32 | Type::F16 => assert!((0.99..1.01).contains(&nearest), "{ty}: {nearest}"),
            // At least 200 levels for the largest value of a block.
            Type::BF16 | Type::Q8_0 => assert!((0.7..1.3).contains(&nearest), "{ty}: {nearest}"),
            Type::Q5_0 | Type::Q5_1 | Type::Q5_K | Type::Q6_K => assert!(nearest < 0.9, "{ty}: {nearest}"),
            _ => assert!(nearest < 0.3, "{ty}: {nearest}"),
        }
        // Where eight values share a code of a book, none of them can be moved alone.
        let book = ["IQ1", "IQ2", "IQ3"].iter().any(|name| ty.to_string().starts_with(name));
        let plain = matches!(ty, Type::F32 | Type::F16 | Type::BF16 | Type::TQ1_0 | Type::TQ2_0);
        assert_eq!(Grid::has(*ty), !book && !plain, "{ty}");
        if Grid::has(*ty) {
            assert!((0.75..1.15).contains(&kept), "{ty}: {kept}");
        }
    }
}

/// What is written is what was measured, keeps every scale, and errs no more than rounding to the nearest has to.
#[test]
fn a_kept_change_moves_codes_alone() {
    for ty in ENCODES.iter().filter(|t| Grid::has(**t)) {
        let file = of_type(*ty);
        let (t, p) = (&file.tensors()[0], pair(&file));
        let (bytes, change) = (file.bytes(t), Change { parts: vec![(&p, 1.0, 0)] });
        let mut out = Vec::new();
        change.write(0, *ty, bytes, 256, (*ty, Rounding::Kept), &mut out).unwrap();
        assert_eq!(out.len(), bytes.len());
        let n = t.elements() as usize;
        let (mut before, mut after, mut delta) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        dequantize(*ty, bytes, &mut before).unwrap();
        dequantize(*ty, &out, &mut after).unwrap();
        change.add_to(0, 256, &mut delta);
        let moved: Vec<f32> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let share = dot(&moved, &delta) / dot(&delta, &delta);
        assert!((0.7..1.2).contains(&share), "{ty}: {share}");
        // Few values move where the steps are wide, and each toward its change.
        let count = moved.iter().filter(|m| **m != 0.0).count() as f64 / n as f64;
        assert!(moved.iter().zip(&delta).all(|(m, d)| m * d >= 0.0), "{ty}");
        assert!(matches!(ty, Type::Q8_0) || count < 0.5, "{ty}: {count}");
        // Nothing else of a block has changed: with the old codes it is the old block.
        let again = Grid::new(*ty, &out).unwrap().unwrap();
        let back: Vec<f32> = before.iter().zip(again.values()).map(|(b, a)| b - a).collect();
        assert_eq!(again.moved(&back, 0.5).0, bytes, "{ty}");
    }
}

/// The nearest errs less than carrying along a row does, and new scales less than the grid of the old ones where a change
/// goes beyond its ends. What was measured is what is written.
#[test]
fn rounding_errs_as_little_as_it_has_to() {
    for ty in [Type::Q8_0, Type::Q6_K, Type::Q5_K, Type::Q5_0] {
        let file = of_type(ty);
        let (t, p) = (&file.tensors()[0], pair(&file));
        let (n, bytes) = (t.elements() as usize, file.bytes(t));
        for strength in [10.0, 30.0] {
            let change = Change { parts: vec![(&p, strength, 0)] };
            let (mut before, mut delta) = (vec![0.0; n], vec![0.0; n]);
            dequantize(ty, bytes, &mut before).unwrap();
            change.add_to(0, 256, &mut delta);
            let square: f64 = delta.iter().map(|d| f64::from(*d).powi(2)).sum();
            let [nearest, fresh, kept] =
                [Rounding::Nearest, Rounding::Fresh, Rounding::Kept].map(|rounding| {
                    let measured = change.measure(ty, bytes, 256, ty, rounding).unwrap();
                    let (mut out, mut after) = (Vec::new(), vec![0.0; n]);
                    change.write(0, ty, bytes, 256, (ty, rounding), &mut out).unwrap();
                    dequantize(ty, &out, &mut after).unwrap();
                    let wrong = after.iter().zip(&before).zip(&delta);
                    let wrong = wrong.map(|((a, b), d)| f64::from(a - b - d).powi(2)).sum::<f64>() / square;
                    eprintln!("{ty} {strength}: {rounding:?} {measured:?} {wrong:.5}");
                    assert!(
                        (wrong / f64::from(measured.error) - 1.0).abs() < 0.3,
                        "{ty}: {measured:?} {wrong}"
                    );
                    wrong
                });
            assert!(nearest < kept && nearest.min(fresh) < 0.7 * kept, "{ty}: {nearest} {fresh} {kept}");
        }
    }
}

#[test]
fn a_change_of_some_rows_is_measured_there() {
    let file = of_type(Type::F32);
    let (t, mut p) = (&file.tensors()[0], pair(&file));
    p.rows = 3;
    p.b.truncate(3 * p.rank);
    let change = Change { parts: vec![(&p, 2.0, 5)] };
    let mut rows = vec![0.0; 8 * 256];
    change.add_to(2, 256, &mut rows);
    let mut want = vec![0.0; 3 * 256];
    p.add_to(2.0, 0, &mut want);
    assert_eq!(rows[3 * 256..6 * 256], want[..]);
    assert!(rows[..3 * 256].iter().chain(&rows[6 * 256..]).all(|v| *v == 0.0));
    let share = |change: &Change<'_>, to| {
        change.measure(Type::F32, file.bytes(t), 256, to, Rounding::Nearest).unwrap().share
    };
    assert!((share(&change, Type::F32) - 1.0).abs() < 1e-3);
    assert_eq!(share(&Change::default(), Type::Q4_0), 1.0);
    // Rows that nothing changes are copied, bit by bit.
    for ty in [Type::Q4_K, Type::Q8_0] {
        let file = of_type(ty);
        let (bytes, mut out) = (file.bytes(&file.tensors()[0]), Vec::new());
        change.write(0, ty, bytes, 256, (ty, Rounding::Kept), &mut out).unwrap();
        let row = ty.row_bytes(256).unwrap() as usize;
        assert!(out[..5 * row] == bytes[..5 * row] && out[8 * row..] == bytes[8 * row..]);
        assert!(out[5 * row..8 * row] != bytes[5 * row..8 * row]);
    }
}

#[test]
fn matrices_are_found_alone_and_side_by_side() {
    let table = [
        ("blk.0.attn_qkv.weight", vec![8, 16], Type::F32),
        ("blk.0.attn_output.weight", vec![8, 8], Type::F32),
        ("blk.0.attn_norm.weight", vec![8], Type::F32),
    ];
    let writer = Writer::new(&Metadata::new(), table).unwrap();
    let file =
        File::from_bytes(writer.to_bytes(&[vec![0; 512], vec![0; 256], vec![0; 32]]).unwrap()).unwrap();
    let at = |part: &str| place(&file, &base(), &format!("blk.0.{part}.weight"));
    assert_eq!(at("attn_output"), Some((1, 0, 8, 8)));
    // Two query heads and one of keys and of values, of four rows each.
    assert_eq!(
        (at("attn_q"), at("attn_k"), at("attn_v")),
        (Some((0, 0, 8, 8)), Some((0, 8, 4, 8)), Some((0, 12, 4, 8)))
    );
    assert_eq!((at("attn_norm"), at("ffn_up"), place(&file, &base(), "output.weight")), (None, None, None));
}

/// F32 could hold what is no number; a merged model with it would be useless.
#[test]
fn a_change_that_is_no_number_is_refused() {
    for ty in [Type::F32, Type::F16, Type::Q8_0, Type::Q4_0] {
        let file = of_type(ty);
        let t = &file.tensors()[0];
        let mut p = pair(&file);
        // The second row alone: its product is infinite.
        p.b[p.rank] = 1e30;
        let change = Change { parts: vec![(&p, 1e30, 0)] };
        for rounding in [Rounding::Nearest, Rounding::Fresh, Rounding::Kept] {
            let mut out = Vec::new();
            let written = change.write(0, ty, file.bytes(t), 256, (ty, rounding), &mut out);
            let line = written.expect_err("infinite").to_string();
            assert!(line.starts_with("value ") && line.contains("cannot hold"), "{ty}: {line}");
            assert!(out.is_empty(), "{ty}");
        }
    }
}
