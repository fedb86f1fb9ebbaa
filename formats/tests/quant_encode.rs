//! Encoders: how close they come, and what they refuse.

use weft_formats::quant::{ENCODES, Error, Type, dequantize, quantize};

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
        (Type::F32, 0.0, 0.0),
        (Type::F16, 5e-8, 5e-8),
        (Type::BF16, 3e-6, 3.3e-6),
        (Type::Q8_0, 3.1e-5, 6.1e-5),
        (Type::Q6_K, 3.2e-4, 5.7e-4),
        (Type::Q5_K, 1.3e-3, 1.8e-3),
        (Type::Q5_1, 1.25e-3, 1.7e-3),
        (Type::Q5_0, 1.8e-3, 3.7e-3),
        (Type::Q4_K, 5.4e-3, 7.2e-3),
        (Type::Q4_1, 5.4e-3, 7.2e-3),
        (Type::Q4_0, 7.3e-3, 1.5e-2),
        (Type::IQ4_NL, 6.1e-3, 9.7e-3),
        (Type::IQ4_XS, 6.2e-3, 1e-2),
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
    for ty in [Type::Q4_0, Type::Q4_1, Type::Q5_0, Type::Q5_1] {
        assert_eq!(round_trip(ty, &on_grid, None), on_grid, "{ty}");
    }
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
            // Levels of -4 to 3 or -8 to 7 make 65504 and -65504 together costly.
            assert!(error < 0.09, "{ty}: pattern {i}: {error:.2e}");
        }
    }
}

#[test]
fn importance_moves_the_error_to_where_it_matters_less() {
    let x = rows(4, true);
    let mut r = Random(5);
    let importance: Vec<f32> = (0..1024).map(|_| (2.0 * r.gaussian()).exp()).collect();
    let weigh = |i: usize| importance[i % 1024];
    for &ty in ENCODES.iter().filter(|t| t.block_len() > 1 && **t != Type::Q8_0) {
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
    let error = quantize(Type::IQ1_S, &[0.0; 256], None, &mut out).unwrap_err();
    assert_eq!(error, Error::NoEncoder { ty: Type::IQ1_S });
    assert_eq!(out, [7], "a refusal writes nothing");
}
