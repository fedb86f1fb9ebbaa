//! Encoders: how close they come, and what they refuse.

use weft_formats::quant::{ENCODES, Error, Type, convert_rows, dequantize, quantize};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f32 {
        let (u, v) = (self.uniform(), self.uniform());
        ((-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()) as f32
    }
}

fn round_trip(ty: Type, x: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mut bytes = Vec::new();
    quantize(ty, x, importance, &mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, ty.row_bytes(x.len() as u64).unwrap());
    let mut y = vec![f32::NAN; x.len()];
    dequantize(ty, &bytes, &mut y).unwrap();
    assert!(y.iter().all(|v| v.is_finite()), "{ty}");
    y
}

/// Σ w (x − y)² / Σ w x².
fn nmse(x: &[f32], y: &[f32], w: impl Fn(usize) -> f32) -> f64 {
    let sum = |f: &dyn Fn(usize) -> f32| (0..x.len()).map(|i| f64::from(w(i) * f(i) * f(i))).sum::<f64>();
    sum(&|i| x[i] - y[i]) / sum(&|i| x[i])
}

/// Gaussian rows, every one with a scale of its own.
fn rows(seed: u64, outliers: bool) -> Vec<f32> {
    let mut r = Random(seed);
    let mut x = Vec::new();
    for row in 0..32 {
        let scale = 0.02 * 1.1f32.powi(row);
        x.extend((0..1024).map(|_| scale * r.gaussian()));
    }
    if outliers {
        for _ in 0..200 {
            let i = r.next() as usize % x.len();
            x[i] *= 8.0;
        }
    }
    x
}

#[test]
fn errors_stay_under_their_bounds() {
    // On Gaussian values, then with one value in 160 eight times too large. About a tenth above what
    // was measured, so that a search that stops working shows.
    let bounds = [
        (Type::TQ1_0, 0.7, 0.75),
        (Type::TQ2_0, 0.7, 0.75),
        (Type::MXFP4, 1.5e-2, 2e-2),
        (Type::F32, 0.0, 0.0),
        (Type::F16, 5e-8, 5e-8),
        (Type::BF16, 3e-6, 3.3e-6),
        (Type::Q8_0, 3.1e-5, 6.1e-5),
        (Type::Q6_K, 3.2e-4, 5.7e-4),
        (Type::Q5_K, 1.3e-3, 1.8e-3),
        (Type::Q5_1, 1.55e-3, 2.05e-3),
        (Type::Q5_0, 2e-3, 3.9e-3),
        (Type::Q4_K, 5.4e-3, 7.2e-3),
        (Type::Q4_1, 6.7e-3, 8.9e-3),
        (Type::Q4_0, 8.1e-3, 1.55e-2),
        (Type::IQ4_NL, 6.1e-3, 9.7e-3),
        (Type::IQ4_XS, 6.2e-3, 1e-2),
        (Type::IQ3_S, 2e-2, 3e-2),
        (Type::IQ3_XXS, 3.6e-2, 5e-2),
        (Type::IQ2_S, 7e-2, 0.12),
        (Type::IQ2_XS, 9.5e-2, 0.15),
        (Type::IQ2_XXS, 0.13, 0.2),
        (Type::IQ1_M, 0.2, 0.25),
        (Type::IQ1_S, 0.25, 0.33),
        (Type::Q3_K, 2.3e-2, 3.4e-2),
        (Type::Q2_K, 7.9e-2, 8.7e-2),
    ];
    assert_eq!(bounds.len(), ENCODES.len());
    let mut failed = Vec::new();
    for (ty, gaussian, outliers) in bounds {
        for (bound, x) in [(gaussian, rows(1, false)), (outliers, rows(2, true))] {
            let error = nmse(&x, &round_trip(ty, &x, None), |_| 1.0);
            println!("{ty} {error:.2e} (bound {bound:.1e})");
            if error > bound {
                failed.push(ty)
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Beside libggml's own encoders on the same values: tests/reference/quantize_bounds.py wrote what these come to.
#[test]
fn code_books_are_searched_as_well_as_libggml_searches_them() {
    let mut r = Random(5);
    let importance: Vec<f32> = (0..1024).map(|_| (2.0 * r.gaussian()).exp()).collect();
    let table: serde_json::Value =
        serde_json::from_str(include_str!("data/iq_errors.json")).expect("the committed table");
    let types = table.as_object().expect("types");
    assert_eq!(types.len(), 7);
    for (name, theirs) in types {
        let ty = Type::parse(name).expect("a type");
        for (data, x) in [("gaussian", rows(1, false)), ("outliers", rows(2, true))] {
            for (how, w) in [("plain", None), ("importance", Some(&importance[..]))] {
                let weigh = |i: usize| w.map_or(1.0, |w| w[i % w.len()]);
                let ours = nmse(&x, &round_trip(ty, &x, w), weigh).sqrt();
                let theirs = theirs[data][how].as_f64().expect("an error");
                println!("{ty} {data} {how}: {ours:.4}, libggml {theirs:.4}, {:.3}", ours / theirs);
                assert!(theirs > 0.05 && ours < 1.02 * theirs, "{ty} {data} {how}: {ours} and {theirs}");
            }
        }
    }
}

#[test]
fn exact_where_they_can_be() {
    for &ty in ENCODES {
        assert!(round_trip(ty, &[0.0; 512], None).iter().all(|v| *v == 0.0), "{ty}");
        // Below what f16 scales can hold, everything is zero, or the value's own rounding.
        let tiny: Vec<f32> = (0..512).map(|i| 1e-30 * (i as f32 - 256.0)).collect();
        assert!(round_trip(ty, &tiny, None).iter().all(|v| v.abs() <= 1e-27), "{ty}");
    }
    // Values on the grid of a type come back as they were.
    let on_grid: Vec<f32> = (0..256).map(|i| 0.25 * ((i * 7 % 16) as f32 - 8.0)).collect();
    for ty in [Type::Q4_0, Type::Q4_1, Type::Q5_0] {
        assert_eq!(round_trip(ty, &on_grid, None), on_grid, "{ty}");
    }
    let ternary: Vec<f32> = (0..512).map(|i| 0.75 * ((i * 7 % 3) as f32 - 1.0)).collect();
    for ty in [Type::TQ1_0, Type::TQ2_0, Type::MXFP4] {
        assert_eq!(round_trip(ty, &ternary, None), ternary, "{ty}");
    }
    let levels: Vec<f32> = (0..64).map(|i| [0.0, 0.5, -1.0, 1.5, 2.0, -3.0, 4.0, -6.0][i % 8]).collect();
    assert_eq!(round_trip(Type::MXFP4, &levels, None), levels);
}

/// Bytes of the `gguf` package (tests/reference/quant_encode.py).
#[test]
fn bytes_match_the_reference() {
    let file =
        safetensors::SafeTensors::deserialize(include_bytes!("data/quant_encode.safetensors")).unwrap();
    let values = file.tensor("values").unwrap();
    let cols = values.shape()[1];
    let x: Vec<f32> =
        values.data().chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    let mut checked = Vec::new();
    for &ty in ENCODES {
        let Ok(expected) = file.tensor(ty.name()) else { continue };
        let mut bytes = Vec::new();
        quantize(ty, &x, None, &mut bytes).unwrap();
        let row = ty.row_bytes(cols as u64).unwrap() as usize;
        for (i, (got, expected)) in bytes.chunks(row).zip(expected.data().chunks(row)).enumerate() {
            assert_eq!(got, expected, "{ty}: row {i}");
        }
        assert_eq!(bytes.len(), expected.data().len());
        checked.push(ty);
    }
    let expected = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"];
    assert_eq!(checked.iter().map(|t| t.name()).collect::<Vec<_>>(), expected);
}

#[test]
fn tensors_convert_as_their_rows() {
    let x = rows(7, true);
    let mut f16 = Vec::new();
    quantize(Type::F16, &x, None, &mut f16).unwrap();
    let importance: Vec<f32> = (0..1024).map(|i| 1.0 + (i % 5) as f32).collect();
    let mut rounded = vec![0.0; x.len()];
    dequantize(Type::F16, &f16, &mut rounded).unwrap();
    for ty in [Type::Q4_K, Type::Q4_0, Type::F32, Type::F16] {
        let (mut expected, mut got) = (Vec::new(), vec![1]);
        quantize(ty, &rounded, Some(&importance), &mut expected).unwrap();
        convert_rows(Type::F16, &f16, ty, 1024, Some(&importance), &mut got).unwrap();
        assert!(got[1..] == expected, "{ty}");
    }
    let mut out = vec![7];
    let error = convert_rows(Type::F16, &f16, Type::Q4_K, 1000, None, &mut out).unwrap_err();
    assert_eq!(error, Error::Partial { ty: Type::Q4_K, values: 1000 });
    convert_rows(Type::F16, &f16[..3000], Type::Q8_0, 1024, None, &mut out).unwrap_err();
    convert_rows(Type::F16, &f16, Type::Q8_0, 0, None, &mut out).unwrap_err();
    let at = 30 * 1024 + 5;
    f16[2 * at..2 * at + 2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
    let error = convert_rows(Type::F16, &f16, Type::Q8_0, 1024, None, &mut out).unwrap_err();
    assert_eq!(error.to_string(), format!("value {at} is inf, which Q8_0 cannot hold"));
    assert_eq!(out, [7], "a refusal writes nothing");
}

#[test]
fn extreme_values_stay_finite_and_close() {
    let mut r = Random(3);
    let sign = |r: &mut Random| if r.next() & 1 == 0 { 1.0 } else { -1.0 };
    let patterns: [Vec<f32>; 6] = [
        vec![65504.0; 512],
        vec![-65504.0; 512],
        (0..512).map(|_| 65504.0 * sign(&mut r)).collect(),
        (0..512).map(|_| 65504.0 * r.uniform() as f32 * sign(&mut r)).collect(),
        (0..512).map(|i| if i % 256 == 17 { -65504.0 } else { 0.0 }).collect(),
        (0..512).map(|i| if i % 256 == 17 { 65504.0 } else { 1e-6 }).collect(),
    ];
    for &ty in ENCODES {
        for (i, x) in patterns.iter().enumerate() {
            let error = nmse(x, &round_trip(ty, x, None), |_| 1.0);
            // Levels of -4 to 3 or -8 to 7 make 65504 and -65504 together costly; ternary ones cannot
            // follow uniform values, and three levels hardly. A code book has no zero, and one value
            // among zeros asks for a scale at which their levels add up to nearly as much as it is.
            let book = ["IQ1", "IQ2", "IQ3"].iter().any(|n| ty.name().starts_with(n));
            let bound = match ty {
                Type::TQ1_0 | Type::TQ2_0 => 0.3,
                _ if book && i >= 4 => 1.0,
                _ if book => 0.2,
                _ => 0.09,
            };
            assert!(error < bound, "{ty}: pattern {i}: {error:.2e}");
        }
    }
}

#[test]
fn importance_moves_the_error_to_where_it_matters_less() {
    let x = rows(4, true);
    let mut r = Random(5);
    let importance: Vec<f32> = (0..1024).map(|_| (2.0 * r.gaussian()).exp()).collect();
    let weigh = |i: usize| importance[i % 1024];
    let weighs =
        |t: &Type| !matches!(t, Type::Q8_0 | Type::TQ1_0 | Type::TQ2_0 | Type::MXFP4) && t.block_len() > 1;
    for &ty in ENCODES.iter().filter(|t| weighs(t)) {
        let without = nmse(&x, &round_trip(ty, &x, None), weigh);
        let with = nmse(&x, &round_trip(ty, &x, Some(&importance)), weigh);
        assert!(with < 0.97 * without, "{ty}: {with:.2e} with, {without:.2e} without");
    }
    // Columns that nothing is known of still get what they would.
    for &ty in ENCODES {
        let zero = vec![0.0; 1024];
        assert_eq!(round_trip(ty, &x, Some(&zero)), round_trip(ty, &x, None), "{ty}");
        let mut half = vec![0.0; 1024];
        half[512..].fill(1e20);
        round_trip(ty, &x, Some(&half));
    }
}

#[test]
fn rows_are_independent() {
    let x = rows(6, false);
    let importance: Vec<f32> = (0..1024).map(|i| 1.0 + (i % 5) as f32).collect();
    for &ty in ENCODES {
        let mut whole = Vec::new();
        quantize(ty, &x, Some(&importance), &mut whole).unwrap();
        let mut parts = Vec::new();
        for row in x.chunks_exact(1024) {
            quantize(ty, row, Some(&importance), &mut parts).unwrap();
        }
        assert!(whole == parts, "{ty}");
    }
}

#[test]
fn an_encoder_refuses_what_it_cannot_hold() {
    let mut out = vec![7];
    let error = quantize(Type::Q4_K, &[0.0; 100], None, &mut out).unwrap_err();
    assert_eq!(error.to_string(), "100 values are not a whole number of Q4_K blocks of 256");
    for bad in [f32::NAN, f32::INFINITY, -1e5] {
        for &ty in ENCODES.iter().filter(|t| !matches!(t, Type::F32 | Type::BF16)) {
            let mut x = vec![0.0; 256];
            x[9] = bad;
            let error = quantize(ty, &x, None, &mut out).unwrap_err();
            assert_eq!(error.to_string(), format!("value 9 is {bad}, which {ty} cannot hold"));
        }
    }
    let error = quantize(Type::Q4_K, &[0.0; 512], Some(&[1.0; 384]), &mut out).unwrap_err();
    assert_eq!(error, Error::Importance { ty: Type::Q4_K, values: 512, importance: 384 });
    let error = quantize(Type::Q4_0, &[0.0; 32], Some(&[-1.0; 32]), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "importance 0 is -1, not a finite number of at least 0");
    let error = quantize(Type::NVFP4, &[0.0; 256], None, &mut out).unwrap_err();
    assert_eq!(error, Error::NoEncoder { ty: Type::NVFP4 });
    assert_eq!(out, [7], "a refusal writes nothing");
}
