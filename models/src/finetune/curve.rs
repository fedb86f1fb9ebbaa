//! The loss over the steps, drawn.

use std::fmt::Write;

/// A line of `metrics.jsonl`, as far as the curve needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) step: u64,
    pub(super) loss: f64,
    pub(super) val: Option<f64>,
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 420.0;
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [60.0, 20.0, 40.0, 50.0];

/// An SVG: each step's loss, its running mean, the validation loss where it was measured.
pub(super) fn svg(points: &[Point]) -> String {
    let finite: Vec<&Point> = points.iter().filter(|p| p.loss.is_finite()).collect();
    let values = finite.iter().flat_map(|p| [Some(p.loss), p.val]).flatten().filter(|v| v.is_finite());
    let (low, high) = values.fold((0.0f64, 0.0f64), |(a, b), v| (a.min(v), b.max(v)));
    let (first, last) =
        (finite.first().map_or(0.0, |p| p.step as f64), finite.last().map_or(1.0, |p| p.step as f64));
    let unit = nice((high - low).max(1e-6) / 5.0);
    let top = (high / unit).ceil().max(1.0) * unit;
    let [left, right, above, below] = MARGINS;
    let x = |step: f64| left + (step - first) / (last - first).max(1.0) * (WIDTH - left - right);
    let y = |v: f64| HEIGHT - below - (v - low) / (top - low) * (HEIGHT - above - below);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let decimals = if unit >= 1.0 { 0 } else { (-unit.log10()).ceil() as usize };
    let lines = ((top - low) / unit).round() as usize;
    for i in 0..=lines {
        let v = low + i as f64 * unit;
        let _ = writeln!(
            out,
            "<path d=\"M{left} {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{v:.decimals$}</text>",
            y(v),
            WIDTH - right,
            left - 8.0,
            y(v) + 4.0
        );
    }
    let step = nice(((last - first) / 8.0).max(1.0)).max(1.0);
    let mut at = (first / step).ceil() * step;
    while at <= last {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{at}</text>",
            x(at),
            HEIGHT - below + 20.0
        );
        at += step;
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text>",
        (left + WIDTH - right) / 2.0,
        HEIGHT - 10.0
    );

    let line = |points: &[(f64, f64)]| {
        let mut d = String::new();
        for (i, (a, b)) in points.iter().enumerate() {
            let _ = write!(d, "{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, x(*a), y(*b));
        }
        d
    };
    let raw: Vec<_> = finite.iter().map(|p| (p.step as f64, p.loss)).collect();
    let mut mean: Vec<(f64, f64)> = Vec::new();
    // The weight of older steps: about a twentieth of the run is in the mean.
    let keep = 1.0 - 1.0 / (raw.len() as f64 / 20.0).max(1.0);
    for &(s, v) in &raw {
        let before = mean.last().map_or(v, |m| m.1);
        mean.push((s, keep * before + (1.0 - keep) * v));
    }
    let _ = writeln!(
        out,
        "<path d=\"{}\" fill=\"none\" stroke=\"#a9c9f0\"/>\n<path d=\"{}\" fill=\"none\" stroke=\"#1f62b4\" stroke-width=\"2\"/>",
        line(&raw),
        line(&mean)
    );
    let val: Vec<_> = finite.iter().filter_map(|p| Some((p.step as f64, p.val?))).collect();
    let _ = writeln!(out, "<path d=\"{}\" fill=\"none\" stroke=\"#d0592a\" stroke-width=\"2\"/>", line(&val));
    for (s, v) in &val {
        let _ = writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"#d0592a\"/>", x(*s), y(*v));
    }
    let shown = |v: Option<&(f64, f64)>| v.map_or(String::new(), |v| format!(" {:.4}", v.1));
    let _ = writeln!(out, "<text x=\"{left}\" y=\"24\" fill=\"#1f62b4\">loss{}</text>", shown(mean.last()));
    if !val.is_empty() {
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"24\" fill=\"#d0592a\">validation loss{}</text>",
            left + 140.0,
            shown(val.last())
        );
    }
    out + "</svg>\n"
}

/// 1, 2 or 5 times a power of ten, at least `x`.
fn nice(x: f64) -> f64 {
    let power = 10f64.powf(x.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    factors.into_iter().map(|f| f * power).find(|v| *v >= x * 0.999).unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_any_history() {
        let point = |step, loss, val| Point { step, loss, val };
        for points in [
            vec![],
            vec![point(1, 0.0, None)],
            vec![point(5, 2.5, Some(2.0))],
            vec![point(1, f64::NAN, None), point(2, 1.0, None)],
            (1..300).map(|i| point(i, 3.0 / i as f64, (i % 50 == 0).then_some(1.0))).collect(),
        ] {
            let text = svg(&points);
            assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            let measured = points.iter().filter(|p| p.val.is_some()).count();
            assert_eq!(text.matches("<circle").count(), measured);
        }
        assert_eq!([0.3, 1.0, 1.7, 34.0].map(nice), [0.5, 1.0, 2.0, 50.0]);
    }
}
