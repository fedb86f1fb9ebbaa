//! Results as text, Markdown and SVG.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::exam::{Compared, Outcome};
use crate::stats::Interval;
use crate::suites::Mean;

/// An interval as JSON, shares between 0 and 1.
pub fn interval_json(i: Interval) -> Value {
    json!({ "mean": i.mean, "low": i.low, "high": i.high, "n": i.n })
}

/// An outcome as JSON.
pub fn outcome_json(o: &Outcome) -> Value {
    let subjects: serde_json::Map<String, Value> =
        o.subjects.iter().map(|(name, i)| (name.clone(), interval_json(*i))).collect();
    json!({
        "score": interval_json(o.all),
        "subjects": subjects,
        "runs": o.runs,
        "readable": interval_json(o.readable),
        "cut": o.cut,
        "tokens": o.tokens,
        "rules": o.rules,
    })
}

fn percent(i: Interval) -> String {
    format!("{:.2} [{:.2}, {:.2}]", 100.0 * i.mean, 100.0 * i.low, 100.0 * i.high)
}

/// An outcome as lines for a terminal.
pub fn outcome_text(o: &Outcome, generated: bool) -> String {
    let mut text = String::new();
    let line = |name: &str, i: Interval| format!("  {name:<32} {:>24} %  of {}\n", percent(i), i.n);
    text += &line("all", o.all);
    if o.subjects.len() > 1 {
        o.subjects.iter().for_each(|(name, i)| text += &line(name, *i));
    }
    if generated {
        text += &line("answers that name one option", o.readable);
        let _ =
            writeln!(text, "  {:.1} tokens an answer, {:.1} % cut at their most", o.tokens, 100.0 * o.cut);
    }
    if o.runs.len() > 1 {
        let runs: Vec<String> = o.runs.iter().map(|r| format!("{:.2}", 100.0 * r)).collect();
        let _ = writeln!(text, "  runs: {} %", runs.join(", "));
    }
    text
}

/// An outcome as a Markdown table under a title, behind lines that say how it was made.
pub fn outcome_markdown(title: &str, how: &[String], o: &Outcome) -> String {
    let mut text = format!("# {title}\n\n");
    how.iter().for_each(|line| text += &format!("- {line}\n"));
    text += "\n| | score, % | 95 % interval | questions |\n|---|---:|---:|---:|\n";
    let row = |name: &str, i: Interval| {
        format!(
            "| {} | {:.2} | {:.2} to {:.2} | {} |\n",
            name.replace('|', "\\|"),
            100.0 * i.mean,
            100.0 * i.low,
            100.0 * i.high,
            i.n
        )
    };
    text += &row("**all**", o.all);
    if o.subjects.len() > 1 {
        o.subjects.iter().for_each(|(name, i)| text += &row(name, *i));
    }
    text
}

/// A comparison as lines for a terminal; `over` is how the scores were made.
pub fn paired_text(first: &str, second: &str, c: &Compared, over: Mean) -> String {
    let d = c.paired.difference;
    let each = match over {
        Mean::Subjects => ", each subject counting the same",
        Mean::Questions => "",
    };
    let p = match c.paired.p {
        p if p < 0.0001 => "p < 0.0001".to_owned(),
        p => format!("p = {p:.4}"),
    };
    format!(
        "{first} less {second}, {} questions that both answered{each}\n  scores      {} %  and  {} %\n  difference  {:+.2} \
         points  [{:+.2}, {:+.2}]\n  only the first right  {}, only the second  {}, McNemar's {p}\n",
        d.n,
        percent(c.first),
        percent(c.second),
        100.0 * d.mean,
        100.0 * d.low,
        100.0 * d.high,
        c.paired.only_first,
        c.paired.only_second,
    )
}

/// A comparison as JSON.
pub fn paired_json(c: &Compared) -> Value {
    let p = &c.paired;
    json!({
        "first": interval_json(c.first),
        "second": interval_json(c.second),
        "difference": interval_json(p.difference),
        "only_first": p.only_first,
        "only_second": p.only_second,
        "p": p.p,
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text of a drawing, with its place.
fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n", escaped(text))
}

fn line(from: (f64, f64), to: (f64, f64), colour: &str) -> String {
    format!(
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>\n",
        from.0, from.1, to.0, to.1
    )
}

fn svg(width: f64, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// Bars of scores between 0 and 100 %, each with its interval.
pub fn bars(title: &str, rows: &[(String, Interval)]) -> String {
    let (left, width, step) = (240.0, 760.0, 24.0);
    let height = 60.0 + step * rows.len() as f64 + 24.0;
    let x = |share: f64| left + (width - left - 60.0) * share.clamp(0.0, 1.0);
    let mut body = label(16.0, 26.0, "start", title);
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        body += &line((x(share), 44.0), (x(share), height - 28.0), "#ddd");
        body += &label(x(share), height - 10.0, "middle", &format!("{:.0} %", 100.0 * share));
    }
    for (i, (name, v)) in rows.iter().enumerate() {
        let y = 50.0 + step * i as f64;
        let short: String = name.chars().take(32).collect();
        body += &label(left - 8.0, y + 14.0, "end", &short);
        let bar = x(v.mean) - left;
        let _ = writeln!(
            body,
            "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{bar:.1}\" height=\"16\" fill=\"#4a7db5\"/>"
        );
        body += &line((x(v.low), y + 8.0), (x(v.high), y + 8.0), "#222");
        body += &label(x(v.high.max(v.mean)) + 6.0, y + 13.0, "start", &format!("{:.1}", 100.0 * v.mean));
    }
    svg(width, height, &body)
}

/// One point of [`plot`]: its name, its place from left to right, its score.
pub type Point = (String, f64, Interval);

/// Scores over sizes, each with its interval and its name.
pub fn plot(title: &str, across: &str, points: &[Point]) -> String {
    let (width, height, left, bottom) = (760.0, 420.0, 60.0, 370.0);
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let room = ((high - low) * 0.08).max(1e-9);
        (low - room, high + room)
    };
    let (x0, x1) = ends(&mut points.iter().map(|p| p.1));
    let (y0, y1) = ends(&mut points.iter().flat_map(|p| [p.2.low, p.2.high]));
    let x = |v: f64| left + (width - left - 40.0) * (v - x0) / (x1 - x0);
    let y = |v: f64| bottom - (bottom - 50.0) * (v - y0) / (y1 - y0);
    let mut body = label(16.0, 26.0, "start", title);
    body += &label(width / 2.0, height - 10.0, "middle", across);
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let (vx, vy) = (x0 + (x1 - x0) * share, y0 + (y1 - y0) * share);
        body += &line((left, y(vy)), (width - 40.0, y(vy)), "#ddd");
        body += &label(left - 6.0, y(vy) + 4.0, "end", &format!("{:.1}", 100.0 * vy));
        body += &label(x(vx), bottom + 18.0, "middle", &format!("{vx:.1}"));
    }
    for (name, at, v) in points {
        body += &line((x(*at), y(v.low)), (x(*at), y(v.high)), "#222");
        let _ =
            writeln!(body, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"#4a7db5\"/>", x(*at), y(v.mean));
        body += &label(x(*at) + 6.0, y(v.mean) - 6.0, "start", name);
    }
    svg(width, height, &body)
}
