//! `d = max |x| / 127`, `X = round(x / d)` over units of 16

/// The values that the integers stand for, and `d sum X` of each unit.
pub fn quantize(x: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (mut values, mut sums) = (Vec::new(), Vec::new());
    for unit in x.chunks_exact(16) {
        let d = f64::from(unit.iter().fold(0f32, |m, v| m.max(v.abs()))) / 127.0;
        let ints: Vec<f64> =
            unit.iter().map(|&v| if d == 0.0 { 0.0 } else { (f64::from(v) / d).round() }).collect();
        sums.push(d * ints.iter().sum::<f64>());
        values.extend(ints.iter().map(|i| i * d));
    }
    (values, sums)
}
