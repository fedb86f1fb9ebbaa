//! Size against score: a model in several types, each quantised, scored and set beside the source.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use weft_evals::exam;
use weft_evals::journal::write_text;
use weft_evals::report::{self, Point};
use weft_evals::stats::{Interval, Paired, bootstrap, paired};

use crate::{Error, Result, interrupt, output};

/// What one type gave.
struct Row {
    name: String,
    bytes: u64,
    score: Interval,
    /// Beside the source: the score's difference.
    beside: Option<Paired>,
    divergence: Option<Value>,
}

/// Flags that take a value and that each call of ours has its own of.
const OWN: [&str; 8] =
    ["--types", "--types-imatrix", "-m", "--model", "-o", "--output", "--suite", "--against"];

pub(super) fn run(f: &super::Flags) -> Result<()> {
    let e = &f.exam;
    let source =
        f.model.model.as_deref().ok_or_else(|| Error::input("--types needs -m FILE, best in F16 or BF16"))?;
    let folder = e
        .output
        .as_deref()
        .ok_or_else(|| Error::input("--types needs --output DIR, for files and results"))?;
    std::fs::create_dir_all(folder).map_err(|err| Error::io(folder, err))?;
    interrupt::install(2);
    let mut rows = vec![row(f, folder, "source", source, None)?];
    for name in &e.types {
        let file = folder.join(format!("{}.gguf", name.to_lowercase()));
        if !file.exists() {
            let mut args = vec!["quantize".to_owned(), text(source), text(&file), name.to_uppercase()];
            args.push("--requantize".to_owned());
            if let Some(imatrix) = &e.types_imatrix {
                args.extend(["--imatrix".to_owned(), text(imatrix)]);
            }
            call(&args)?;
        }
        rows.push(row(f, folder, name, &file, Some((&rows[0], source)))?);
        write(f, folder, &rows)?;
    }
    if f.json {
        return output::json(&rows_json(&rows));
    }
    output::text(&table(&rows))?;
    output::note(&format!("types.md, types.svg and types.json are in {}", folder.display()));
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What was typed, without what each call has its own of.
fn typed() -> Vec<String> {
    let (mut out, mut skip) = (Vec::new(), false);
    for arg in std::env::args().skip(1) {
        let own = OWN.iter().any(|o| arg == *o || o.starts_with("--") && arg.starts_with(&format!("{o}=")));
        if !skip && !own && arg != "--json" {
            out.push(arg.clone());
        }
        skip = !skip && own && !arg.contains('=');
    }
    out
}

/// Runs this program, whose memory on the device is free again afterwards, and gives what it prints.
fn call(args: &[String]) -> Result<String> {
    let io = |e| Error::Io { file: "weft".to_owned(), source: e };
    let program = std::env::current_exe().map_err(io)?;
    let done =
        Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::piped()).output().map_err(io)?;
    if interrupt::asked() {
        return Err(Error::Interrupted);
    }
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&done.stderr);
            let line = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Err(Error::input(format!("weft {}: {line}", args.join(" "))))
        }
    }
}

/// Scores one file, and measures how far it is from the source.
fn row(
    f: &super::Flags,
    folder: &Path,
    name: &str,
    file: &Path,
    source: Option<(&Row, &Path)>,
) -> Result<Row> {
    output::note(&format!("{name}: scoring ..."));
    let results: PathBuf = folder.join(name.to_lowercase());
    let mut args = typed();
    args.extend(["--suite", &f.suite, "-m", &text(file), "-o", &text(&results), "--json"].map(str::to_owned));
    call(&args)?;
    let scores = exam::scores(&exam::lines(&results)?);
    let mut row = Row {
        name: name.to_owned(),
        bytes: std::fs::metadata(file).map_err(|e| Error::io(file, e))?.len(),
        score: bootstrap(&scores.values().copied().collect::<Vec<_>>()),
        beside: None,
        divergence: None,
    };
    if let Some((_, source)) = source {
        let whole = exam::scores(&exam::lines(&folder.join("source"))?);
        let (own, other): (Vec<f64>, Vec<f64>) =
            scores.iter().filter_map(|(k, s)| Some((*s, *whole.get(k)?))).unzip();
        row.beside = Some(paired(&own, &other));
        let mut args = vec!["eval".to_owned(), "-m".to_owned(), text(file)];
        args.extend(["--suite", "divergence", "--against", &text(source), "--json"].map(str::to_owned));
        args.extend(f.divergence.typed());
        let said: Value = serde_json::from_str(&call(&args)?).unwrap_or_default();
        row.divergence = Some(json!({ "kl": said["kl"]["mean"], "same_top": said["same_top"]["share"] }));
    }
    Ok(row)
}

fn rows_json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|r| {
            json!({
                "type": r.name, "bytes": r.bytes, "score": report::interval_json(r.score),
                "beside_source": r.beside.as_ref().map(report::paired_json), "divergence": r.divergence,
            })
        })
        .collect()
}

fn table(rows: &[Row]) -> String {
    let mut text = "| type | MB | score, % | 95 % interval | points beside the source | KL divergence, nats | same top token, % \
                    |\n|---|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for r in rows {
        let number = |key: &str| r.divergence.as_ref().and_then(|d| d[key].as_f64());
        let beside = r.beside.as_ref().map_or_else(String::new, |p| {
            let d = p.difference;
            format!("{:+.2} [{:+.2}, {:+.2}]", 100.0 * d.mean, 100.0 * d.low, 100.0 * d.high)
        });
        text += &format!(
            "| {} | {:.1} | {:.2} | {:.2} to {:.2} | {beside} | {} | {} |\n",
            r.name,
            r.bytes as f64 / 1e6,
            100.0 * r.score.mean,
            100.0 * r.score.low,
            100.0 * r.score.high,
            number("kl").map_or_else(String::new, |v| format!("{v:.1e}")),
            number("same_top").map_or_else(String::new, |v| format!("{:.2}", 100.0 * v)),
        );
    }
    text
}

fn write(f: &super::Flags, folder: &Path, rows: &[Row]) -> Result<()> {
    let title = format!("{}, {}: size against score", f.model.name(), f.suite);
    let points: Vec<Point> = rows.iter().map(|r| (r.name.clone(), r.bytes as f64 / 1e6, r.score)).collect();
    write_text(&folder.join("types.md"), &format!("# {title}\n\n{}", table(rows)))?;
    write_text(&folder.join("types.json"), &format!("{:#}\n", rows_json(rows)))?;
    Ok(write_text(&folder.join("types.svg"), &report::plot(&title, "MB", &points))?)
}
