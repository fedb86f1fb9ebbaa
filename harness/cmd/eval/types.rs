//! Size against score: a model in several types, each quantised, scored and set beside the source.
//!
//! A type's row is a file of its own, `NAME/row.json`, so a run that was stopped makes no row again; the model of a
//! type goes as soon as its row is there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use weft_evals::exam;
use weft_evals::journal::write_text;
use weft_evals::report::{self, Point};
use weft_evals::stats::Interval;
use weft_formats::gguf::File;
use weft_formats::recipe::{self, Model, RECIPES, Recipe, Wishes};
use weft_runtime::human;

use crate::options::read_text;
use crate::{Error, Result, answers, interrupt, output};

/// Flags that take a value and that each call of ours has its own of.
const OWN: [&str; 16] = [
    "--types",
    "--imatrix",
    "--types-imatrix",
    "--imatrix-text",
    "-m",
    "--model",
    "-o",
    "--output",
    "--suite",
    "--against",
    // The divergence is a call of its own.
    "-c",
    "--ctx",
    "--ctx-size",
    "-f",
    "--file",
    "--positions",
];

/// What is read for an importance matrix: chunks of 256 tokens.
const CHUNKS: [&str; 4] = ["-c", "256", "--chunks", "64"];

/// What is needed of the source, its results and the place.
struct Run<'a> {
    f: &'a super::Flags,
    source: &'a Path,
    folder: &'a Path,
    file: File,
    imatrix: Option<PathBuf>,
}

pub(super) fn run(f: &super::Flags) -> Result<()> {
    let e = &f.exam;
    let source =
        f.model.model.as_deref().ok_or_else(|| Error::usage("--types needs -m FILE, best in F16 or BF16"))?;
    let folder = e
        .output
        .as_deref()
        .ok_or_else(|| Error::usage("--types needs --output DIR, for files and results"))?;
    let mut recipes: Vec<Recipe> = Vec::new();
    for name in &e.types {
        let recipe = Recipe::parse(name).ok_or_else(|| {
            let known: Vec<_> = RECIPES.iter().map(|r| r.name).collect();
            Error::usage(format!("--types: unknown type {name:?}; known: {}", known.join(", ")))
        })?;
        if !recipes.contains(&recipe) {
            recipes.push(recipe);
        }
    }
    let file = File::open(source)?;
    std::fs::create_dir_all(folder).map_err(|err| Error::io(folder, err))?;
    interrupt::install(2);
    let mut run = Run { f, source, folder, file, imatrix: e.imatrix.clone() };
    check_space(&run, &recipes)?;
    if run.imatrix.is_none() {
        run.imatrix = collected(&run, &recipes)?;
    }
    let mut rows = vec![run.row("source", None)?];
    for recipe in recipes {
        rows.push(run.row(recipe.name, Some(recipe))?);
        write(f, folder, &rows)?;
    }
    if f.json {
        return output::json(&Value::Array(rows));
    }
    output::text(&table(&rows))?;
    output::note(&format!("types.md, types.svg and types.json are in {}", folder.display()));
    Ok(())
}

/// What the tensors of a recipe take, and whether some would be of no use without importance.
fn planned(file: &File, recipe: Recipe, importance: bool) -> (u64, bool) {
    let own = file.tensors().iter().map(|t| recipe::Tensor { name: &t.name, shape: &t.shape, ty: t.ty });
    let wishes = Wishes { importance, ..Wishes::default() };
    let choices = recipe::choose(recipe, &Model::read(file.metadata()), &wishes, &own.collect::<Vec<_>>());
    let pairs = || file.tensors().iter().zip(&choices);
    let bytes = pairs().map(|(t, c)| {
        let columns = t.shape.first().copied().unwrap_or(1);
        c.ty.row_bytes(columns).unwrap_or(0) * t.shape.iter().skip(1).product::<u64>()
    });
    (bytes.sum(), pairs().any(|(t, c)| t.ty != c.ty && recipe::needs_importance(&t.name, c.ty)))
}

/// Says what will be taken of the disk, and refuses what it has not got.
fn check_space(run: &Run<'_>, recipes: &[Recipe]) -> Result<()> {
    // Vocabulary and keys come on top of the tensors.
    let rest = run.file.size().saturating_sub(run.file.tensors().iter().map(|t| t.size).sum());
    let sizes = recipes.iter().map(|r| planned(&run.file, *r, true).0 + rest);
    let kept = run.f.exam.keep_files;
    let needed = if kept { sizes.sum() } else { sizes.max().unwrap_or(0) };
    let place = run.folder.display();
    let what = if kept { "the models take" } else { "one model at a time takes up to" };
    let Some(free) = weft_hub::free(run.folder) else {
        output::note(&format!("{what} {} of {place}", human(needed)));
        return Ok(());
    };
    output::note(&format!("{what} {} of {place}, which has {} free", human(needed), human(free)));
    match needed <= free {
        true => Ok(()),
        false => Err(Error::input(format!(
            "{place}: {what} {} and {} are free; take another --output{}",
            human(needed),
            human(free),
            if kept { ", or leave --keep-files out" } else { "" }
        ))),
    }
}

/// The importance matrix that is collected where a text is given, or where a type is of no use without.
fn collected(run: &Run<'_>, recipes: &[Recipe]) -> Result<Option<PathBuf>> {
    let text = run.f.exam.imatrix_text.as_deref();
    let needed = recipes.iter().find(|r| planned(&run.file, **r, true).1);
    if text.is_none() && needed.is_none() {
        return Ok(None);
    }
    let made = run.folder.join("imatrix.gguf");
    if made.exists() {
        output::note(&format!("importance: {} is there already", made.display()));
        return Ok(Some(made));
    }
    let own = run.folder.join("imatrix.txt");
    let from = match (text, needed) {
        (Some(text), _) => {
            read_text(text)?;
            text.to_owned()
        }
        (None, needed) => {
            let name = needed.map_or("", |r| r.name);
            output::note(&format!(
                "{name} needs an importance matrix: it is collected from questions of the curriculum's training split; --imatrix-text FILE gives text like what the model will see"
            ));
            write_text(&own, &questions())?;
            own.clone()
        }
    };
    let args = ["imatrix", "-m", &text_of(run.source), "-f", &text_of(&from), "-o", &text_of(&made)];
    call(&[&args[..], &["--parse-special"], &CHUNKS].concat())?;
    if text.is_none() {
        std::fs::remove_file(&own).map_err(|e| Error::io(&own, e))?;
    }
    Ok(Some(made))
}

/// Questions of the curriculum's training split with their answers, some 20,000 tokens.
fn questions() -> String {
    let of = |format| weft_curriculum::generate(1, 120, weft_curriculum::Split::Train, format, domains());
    let samples = of(weft_curriculum::Format::Chat).zip(of(weft_curriculum::Format::Document));
    samples.flat_map(|(a, b)| [a, b]).map(|s| format!("{}\n{}\n\n", s.prompt, s.target)).collect()
}

fn domains() -> Vec<&'static weft_curriculum::Domain> {
    weft_curriculum::select(&[]).unwrap_or_default()
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

/// What was typed, without what each call has its own of.
fn typed() -> Vec<String> {
    let (mut out, mut skip) = (Vec::new(), false);
    for arg in std::env::args().skip(1) {
        let own = OWN.iter().any(|o| arg == *o || o.starts_with("--") && arg.starts_with(&format!("{o}=")));
        if !skip && !own && !["--json", "--keep-files", "--decode"].contains(&arg.as_str()) {
            out.push(arg.clone());
        }
        skip = !skip && own && !arg.contains('=');
    }
    out
}

/// Runs this program, whose memory on the device is free again afterwards, and gives what it prints.
fn call<S: AsRef<str>>(args: &[S]) -> Result<String> {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let io = |e| Error::Io { file: "weft".to_owned(), source: e };
    let program = std::env::current_exe().map_err(io)?;
    let done =
        Command::new(program).args(&args).stdin(Stdio::null()).stderr(Stdio::piped()).output().map_err(io)?;
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

impl Run<'_> {
    /// The row of a type, or of the source: read where it is there, else made.
    fn row(&self, name: &str, recipe: Option<Recipe>) -> Result<Value> {
        let results = self.folder.join(name.to_lowercase());
        let made_as = json!({
            "source": answers::identity(&self.f.model)?,
            "imatrix": recipe.and(self.imatrix.as_ref()).map(|p| p.display().to_string()),
            "flags": typed(),
        });
        let path = results.join("row.json");
        if path.exists() {
            let there: Value = serde_json::from_str(&read_text(&path)?).unwrap_or_default();
            if there["made_as"] == made_as {
                output::note(&format!("{name}: its row is there already"));
                return Ok(there["row"].clone());
            }
        }
        let Some(recipe) = recipe else {
            let row = self.scored(name, self.source, &results, None)?;
            return self.kept(&path, made_as, row);
        };
        let file = self.folder.join(format!("{}.gguf", name.to_lowercase()));
        let (from, to) = (text_of(self.source), text_of(&file));
        let mut args: Vec<String> =
            ["quantize", &from, &to, recipe.name, "--requantize", "--json"].map(str::to_owned).into();
        args.extend(self.imatrix.iter().flat_map(|i| ["--imatrix".to_owned(), text_of(i)]));
        output::note(&format!("{name}: quantising ..."));
        let said: Value = serde_json::from_str(&call(&args)?).unwrap_or_default();
        let row = self.scored(name, &file, &results, said["bits_per_weight_after"].as_f64());
        if !self.f.exam.keep_files {
            std::fs::remove_file(&file).map_err(|e| Error::io(&file, e))?;
        }
        self.kept(&path, made_as, row?)
    }

    fn kept(&self, path: &Path, made_as: Value, row: Value) -> Result<Value> {
        write_text(path, &format!("{:#}\n", json!({ "made_as": made_as, "row": row })))?;
        Ok(row)
    }

    /// Scores one file, and measures how far it is from the source where it is another.
    fn scored(&self, name: &str, file: &Path, results: &Path, bits: Option<f64>) -> Result<Value> {
        output::note(&format!("{name}: scoring ..."));
        let mut args = typed();
        let own = ["--suite", &self.f.suite, "-m", &text_of(file), "-o", &text_of(results), "--json"];
        args.extend(own.map(str::to_owned));
        call(&args)?;
        let (lines, over) = (exam::lines(results)?, super::exam::over(self.f));
        let own_bits = || {
            let weights: u64 = self.file.tensors().iter().map(|t| t.elements()).sum();
            self.file.tensors().iter().map(|t| t.size).sum::<u64>() as f64 * 8.0 / weights.max(1) as f64
        };
        let mut row = json!({
            "type": name,
            "bytes": std::fs::metadata(file).map_err(|e| Error::io(file, e))?.len(),
            "bits_per_weight": bits.unwrap_or_else(own_bits),
            "score": report::interval_json(exam::result(&lines, over).all),
            "beside_source": null,
            "divergence": null,
        });
        if bits.is_none() {
            return Ok(row);
        }
        let whole = exam::lines(&self.folder.join("source"))?;
        row["beside_source"] = exam::compare(&lines, &whole, over).as_ref().map(report::paired_json).into();
        let mut args = vec!["eval".to_owned(), "-m".to_owned(), text_of(file)];
        let more = ["--suite", "divergence", "--against", &text_of(self.source), "--json"];
        args.extend(more.map(str::to_owned));
        args.extend(self.f.divergence.typed());
        output::note(&format!("{name}: divergence ..."));
        let said: Value = serde_json::from_str(&call(&args)?).unwrap_or_default();
        row["divergence"] = json!({ "kl": said["kl"]["mean"], "same_top": said["same_top"]["share"] });
        Ok(row)
    }
}

fn interval(value: &Value) -> Interval {
    let number = |key: &str| value[key].as_f64().unwrap_or_default();
    let n = value["n"].as_u64().unwrap_or_default() as usize;
    Interval { mean: number("mean"), low: number("low"), high: number("high"), n }
}

fn table(rows: &[Value]) -> String {
    let mut text = "| type | MB | bits a weight | score, % | 95 % interval | points beside the source | KL divergence, nats | \
                    same top token, % |\n|---|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for r in rows {
        let number = |key: &str| r["divergence"][key].as_f64();
        let beside = match r["beside_source"].is_null() {
            true => String::new(),
            false => {
                let d = interval(&r["beside_source"]["difference"]);
                format!("{:+.2} [{:+.2}, {:+.2}]", 100.0 * d.mean, 100.0 * d.low, 100.0 * d.high)
            }
        };
        let score = interval(&r["score"]);
        text += &format!(
            "| {} | {:.1} | {:.2} | {:.2} | {:.2} to {:.2} | {beside} | {} | {} |\n",
            r["type"].as_str().unwrap_or_default(),
            r["bytes"].as_f64().unwrap_or_default() / 1e6,
            r["bits_per_weight"].as_f64().unwrap_or_default(),
            100.0 * score.mean,
            100.0 * score.low,
            100.0 * score.high,
            number("kl").map_or_else(String::new, |v| format!("{v:.1e}")),
            number("same_top").map_or_else(String::new, |v| format!("{:.2}", 100.0 * v)),
        );
    }
    text
}

fn write(f: &super::Flags, folder: &Path, rows: &[Value]) -> Result<()> {
    let title = format!("{}, {}: size against score", f.model.name(), f.suite);
    let points: Vec<Point> = rows
        .iter()
        .map(|r| {
            let name = r["type"].as_str().unwrap_or_default().to_owned();
            (name, r["bytes"].as_f64().unwrap_or_default() / 1e6, interval(&r["score"]))
        })
        .collect();
    write_text(&folder.join("types.md"), &format!("# {title}\n\n{}", table(rows)))?;
    write_text(&folder.join("types.json"), &format!("{:#}\n", Value::Array(rows.to_vec())))?;
    Ok(write_text(&folder.join("types.svg"), &report::plot(&title, "MB", &points))?)
}
