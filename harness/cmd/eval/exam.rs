//! Published test sets, and files of questions of one's own.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use weft_evals::ask::prompt::{Likelihood, TEMPLATES, Template};
use weft_evals::ask::{Drawing, Generate, Score};
use weft_evals::columns::Columns;
use weft_evals::exam::{self, Asking, Outcome};
use weft_evals::journal::{Journal, claim, write_text};
use weft_evals::question::{Question, Shard, choose};
use weft_evals::suites::{self, Mean, SUITES, Set};
use weft_evals::{report, stats};

use crate::answers::{self, Local};
use crate::options::read_text;
use crate::{Error, Result, interrupt, output};

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Test sets")]
pub(super) struct Flags {
    /// The test set's file, or a folder with its files
    #[arg(long, value_name = "PATH")]
    pub(super) data: Option<PathBuf>,
    /// Which column holds what, such as question=stem,options=a+b+c+d,answer=key:letter,subject=topic; behind answer's
    /// colon: index0, index1, letter, label, text, option, first
    #[arg(long, value_name = "MAP", value_parser = columns)]
    columns: Option<Columns>,
    /// How an answer is had: written out and read by rules, or the likeliest letter, option, or option by its bytes
    #[arg(long, value_enum, default_value = "generate")]
    mode: Mode,
    /// How a question is put: instruct, plain, question, open, or a file with {question} and {options} in it [default:
    /// instruct to generate, plain for letters, question for options]
    #[arg(long, value_name = "NAME|FILE")]
    template: Option<String>,
    /// System message in front of each question
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Whether the model thinks first, for models that can be told [default: as the model does]
    #[arg(long, value_enum)]
    pub(super) thinking: Option<Switch>,
    /// Temperature; 0 takes the likeliest token each
    #[arg(long, value_name = "T", default_value_t = 0.6)]
    pub(super) temp: f32,
    /// Keep the K likeliest tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 20)]
    pub(super) top_k: u32,
    /// Keep the fewest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub(super) top_p: f32,
    /// How often each question is asked, each time with another seed [default: 3; 1 at temperature 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Questions with answers in front of each, always the first ones of --shots-data
    #[arg(long, value_name = "N", default_value_t = 0, requires = "shots_data")]
    shots: usize,
    /// Where these come from: a file with the test set's columns
    #[arg(long, value_name = "PATH", requires = "shots")]
    shots_data: Option<PathBuf>,
    /// Ask only one of N parts, such as 2/4, so that machines share a set; --merge puts their results together
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub(super) shard: Option<Shard>,
    /// Folder of the results: an answer a line, tables, a drawing; a run that was stopped goes on from there
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Ask an OpenAI-compatible endpoint in place of a model, http://HOST:PORT/v1 or http://HOST:PORT/v1#MODEL
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// Who reads the answers that no rule can: a model's file or an endpoint; it never sees the question
    #[arg(long, value_name = "MODEL|URL")]
    extractor: Option<String>,
    /// Score the model in each of these types too, such as q8_0,q4_k_m, with size and divergence beside; tables and
    /// drawing are in --output, and a type's model goes once it has been scored
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',')]
    pub(super) types: Vec<String>,
    /// Importance matrix for making these types [default: one is collected where a type needs it]
    #[arg(long, alias = "types-imatrix", value_name = "FILE", requires = "types")]
    pub(super) imatrix: Option<PathBuf>,
    /// Collect the importance matrix from this text
    #[arg(long, value_name = "TEXT", requires = "types", conflicts_with = "imatrix")]
    pub(super) imatrix_text: Option<PathBuf>,
    /// Keep the models of --types
    #[arg(long, requires = "types")]
    pub(super) keep_files: bool,
    /// Who judges HealthBench's criteria: a model's file or an endpoint
    #[arg(long, value_name = "MODEL|URL")]
    pub(super) judge: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The model writes its answer, and rules read which option that names
    Generate,
    /// The likeliest of the options' letters, behind a prompt that lists them
    Letter,
    /// The likeliest of the options' texts
    Option,
    /// The same, each log-likelihood divided by the option's bytes
    Normalised,
}

impl Mode {
    fn likelihood(self) -> Option<Likelihood> {
        match self {
            Mode::Generate => None,
            Mode::Letter => Some(Likelihood::Letter),
            Mode::Option => Some(Likelihood::Option),
            Mode::Normalised => Some(Likelihood::Normalised),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    /// It thinks
    On,
    /// It does not
    Off,
}

fn columns(text: &str) -> std::result::Result<Columns, String> {
    Columns::parse(text).map_err(|e| e.to_string())
}

fn shard(text: &str) -> std::result::Result<Shard, String> {
    Shard::parse(text).map_err(|e| e.to_string())
}

/// Says what there is.
pub(super) fn list() -> Result<()> {
    let mut text = String::new();
    for (name, what) in super::OWN {
        text += &format!("{name}\n  {what}\n");
    }
    for s in &SUITES {
        let columns = (s.columns)().first().map(Columns::describe).unwrap_or_default();
        text += &format!(
            "{}\n  {}\n  data set   {}, {} (licence {})\n  size       {}, {} questions\n  columns    {columns}\n  checksum   \
             the SHA-256 of what you scored is in each result; nobody publishes one to compare with\n  fetch      {}\n",
            s.name, s.title, s.from, s.file, s.licence, s.size, s.questions, s.fetch
        );
    }
    output::text(&text)
}

/// The file or folder that --data names.
pub(super) fn data(f: &super::Flags) -> Result<&Path> {
    let fetch = suites::find(&f.suite).map_or_else(String::new, |s| format!("; to fetch it: {}", s.fetch));
    f.exam.data.as_deref().ok_or_else(|| {
        Error::usage(format!("--suite {} needs --data PATH, its file or folder{fetch}", f.suite))
    })
}

/// The questions of a path by the suite's columns, or by those of --columns.
pub(super) fn read(f: &super::Flags, path: &Path) -> Result<Set> {
    Ok(match (suites::find(&f.suite), &f.exam.columns) {
        (Some(suite), None) => suite.read(path)?,
        (suite, Some(own)) => {
            let wanted = suite.map_or(&[][..], |s| s.subjects);
            Set::read(path, suite.map(|s| s.word), &f.suite, std::slice::from_ref(own), wanted)?
        }
        (None, None) => Set::read(path, None, &f.suite, &[Columns::default()], &[])?,
    })
}

/// How the score of the whole is made.
pub(super) fn over(f: &super::Flags) -> Mean {
    suites::find(&f.suite).map_or(Mean::Questions, |s| s.mean)
}

/// The template with its shots.
fn template(f: &super::Flags, open: bool) -> Result<Template> {
    let e = &f.exam;
    let default = match e.mode {
        Mode::Generate if open => "open",
        Mode::Generate => "instruct",
        Mode::Letter => "plain",
        Mode::Option | Mode::Normalised => "question",
    };
    let mut template = match e.template.as_deref() {
        None => Template::named(default)?,
        Some(name) if TEMPLATES.iter().any(|t| t.0 == name) || !Path::new(name).exists() => {
            Template::named(name)?
        }
        Some(file) => Template::own(read_text(Path::new(file))?)?,
    };
    if let Some(path) = e.shots_data.as_deref().filter(|_| e.shots > 0) {
        // Within a folder, the set's own files would be those of the test.
        let set = match (suites::find(&f.suite), &e.columns) {
            (Some(suite), None) => Set::read(path, None, suite.name, &(suite.columns)(), suite.subjects)?,
            _ => read(f, path)?,
        };
        template.shots = set.questions.into_iter().take(e.shots).collect();
        if template.shots.len() < e.shots {
            let have = template.shots.len();
            return Err(Error::input(format!("{}: has {have} questions, less than --shots", path.display())));
        }
    }
    Ok(template)
}

/// Says so where a question that is asked stands among the shots, with its answer.
fn note_shown(template: &Template, questions: &[Question]) {
    let is_shot = |q: &&Question| template.shots.iter().any(|s| s.text == q.text && s.options == q.options);
    let shown = questions.iter().filter(is_shot).count();
    if shown > 0 {
        output::note(&format!(
            "warning: {shown} of the {} questions that are asked are among the shots, so that the model reads their \
             answers; --shots-data should name other questions than --data",
            questions.len()
        ));
    }
}

/// What makes a run what it is; a folder of results holds runs of one such description alone.
fn settings(
    f: &super::Flags,
    set: &Set,
    template: &Template,
    asking: &Asking,
    (model, adapters): (Value, Value),
) -> Value {
    let e = &f.exam;
    let files: Vec<Value> = set
        .files
        .iter()
        .map(|(path, bytes, sha)| {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            json!({ "file": name, "bytes": bytes, "sha256": sha })
        })
        .collect();
    let mode = e.mode.likelihood().map_or_else(
        || {
            json!({
                "mode": "generation",
                "temperature": asking.drawing.temperature,
                "top_k": asking.drawing.top_k,
                "top_p": asking.drawing.top_p,
                "max_tokens": asking.max_tokens,
                "thinking": asking.thinking,
                "runs": asking.runs,
                "seed": asking.drawing.seed,
                "system": asking.system,
                "extractor": e.extractor,
            })
        },
        |kind| json!({ "mode": "log-likelihood", "of": kind.name() }),
    );
    json!({
        "suite": f.suite,
        "data": files,
        "model": model,
        "adapters": adapters,
        "cache": f.cache.cache_type.map(weft_models::CacheType::name),
        "asked": mode,
        "template": { "name": template.name, "text": template.text, "shots": e.shots, "sha256": template.sha256() },
        "limit": f.limit,
        "shard": e.shard.map(|s| format!("{}/{}", s.index + 1, s.count)),
    })
}

/// The files of a run: in the folder, or in memory where there is none.
pub(super) fn journals(folder: Option<&Path>, settings: &Value) -> Result<(Journal, Journal)> {
    let Some(folder) = folder else { return Ok((Journal::in_memory(), Journal::in_memory())) };
    claim(folder, settings)?;
    let open = |name: &str| Journal::open(&folder.join(name), &exam::key);
    Ok((open("answers.jsonl")?, open("times.jsonl")?))
}

pub(super) fn run(f: &super::Flags) -> Result<()> {
    let set = read(f, data(f)?)?;
    let records = set.records;
    let questions =
        choose(set.questions.clone(), f.limit.map(|n| n as usize), f.exam.shard.unwrap_or(Shard::ALL));
    let open = questions.first().is_some_and(|q| q.options.is_empty());
    let template = template(f, open)?;
    note_shown(&template, &questions);
    let asking = asking(f, template.clone());
    let model = match &f.exam.endpoint {
        Some(url) => json!({ "endpoint": url }),
        None if f.synthetic.is_some() => json!({ "synthetic": f.synthetic }),
        None => answers::identity(&f.model)?,
    };
    let settings = settings(f, &set, &template, &asking, (model, answers::adapters(&f.lora)?));
    let folder = f.exam.output.as_deref();
    let mut journals = journals(folder, &settings)?;
    interrupt::install(2);
    let start = Instant::now();
    let before = journals.0.len();
    let (who, lines, answering) = answer(f, &questions, &asking, &mut journals)?;
    let outcome = exam::result(&lines, over(f));
    let seconds = start.elapsed().as_secs_f64();
    let mut value = report::outcome_json(&outcome);
    value["settings"] = settings;
    if let Some(folder) = folder {
        write(f, folder, &outcome, &value, &who)?;
    }
    if f.json {
        value["seconds"] = seconds.into();
        value["answering_seconds"] = answering.into();
        return output::json(&value);
    }
    let how = f.exam.mode.likelihood().map_or("generation", |k| match k {
        Likelihood::Letter => "log-likelihood of letters",
        Likelihood::Option => "log-likelihood of options",
        Likelihood::Normalised => "log-likelihood of options by byte",
    });
    let asked = questions.len();
    output::line(&format!("{who}, {}, {asked} questions of {records} records, by {how}", f.suite))?;
    output::text(&report::outcome_text(&outcome, f.exam.mode == Mode::Generate))?;
    let fresh = lines.len().saturating_sub(before);
    output::note(&format!("{fresh} of {} answers in {seconds:.0} s", lines.len()));
    Ok(())
}

/// How a question is asked, where it is to be answered in words.
fn asking(f: &super::Flags, template: Template) -> Asking {
    let e = &f.exam;
    let runs = e.runs.unwrap_or(if e.temp > 0.0 { 3 } else { 1 });
    Asking {
        template,
        system: e.system.clone(),
        drawing: Drawing { temperature: e.temp, top_k: e.top_k, top_p: e.top_p, seed: f.seed as u32 },
        max_tokens: f.n.unwrap_or(16_384),
        thinking: e.thinking.map(|s| s == Switch::On),
        runs: runs as usize,
    }
}

/// Opens who answers, and has the questions answered; who that was, all lines, and the seconds without the opening.
fn answer(
    f: &super::Flags,
    questions: &[Question],
    asking: &Asking,
    (journal, times): &mut (Journal, Journal),
) -> Result<(String, Vec<Value>, f64)> {
    let kind = f.exam.mode.likelihood();
    let total = questions.len() * if kind.is_some() { 1 } else { asking.runs };
    let all_there = journal.len() >= total;
    let bar = output::bar(total as u64, "{msg} {bar:30} {pos} of {len}, {elapsed}, {eta} to go");
    bar.set_message(f.suite.clone());
    let mut told = |n: usize| {
        bar.set_position(n as u64);
        if interrupt::asked() { Err(weft_evals::Error::Stopped) } else { Ok(()) }
    };
    let mut nobody = Nobody(f.model.name());
    let mut local = match f.exam.endpoint {
        None if !all_there => Some(match &f.synthetic {
            Some(made) => Local::made_up(made, &f.model, &f.device, f.cache, f.slots)?,
            None => Local::open(&f.model, &f.device, f.cache, &f.lora, f.slots)?,
        }),
        _ => None,
    };
    let start = Instant::now();
    let answered = match kind {
        Some(kind) => {
            if f.exam.endpoint.is_some() {
                return Err(Error::usage(
                    "an endpoint tells no likelihoods; use --mode generate, or -m FILE",
                ));
            }
            let who: &mut dyn Score = local.as_mut().map_or(&mut nobody as _, |l| l as _);
            let name = who.name();
            let both = (&mut *journal, &mut *times);
            exam::likelihoods(questions, &asking.template, kind, who, both, &mut told).map(|l| (name, l))
        }
        None => {
            let mut endpoint = match &f.exam.endpoint {
                Some(url) => Some(answers::endpoint(url, f.slots)?),
                None => None,
            };
            let who: &mut dyn Generate = match (&mut endpoint, &mut local) {
                (Some(e), _) => e,
                (None, Some(l)) => l,
                (None, None) => &mut nobody,
            };
            let name = Generate::name(who);
            exam::generate(questions, asking, who, journal, times, &mut told).map(|l| (name, l))
        }
    };
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let (name, mut lines) = answered?;
    if let Some(judge) = f.exam.extractor.as_deref().filter(|_| kind.is_none()) {
        drop(local);
        let read =
            exam::reread(questions, &mut lines, answers::somebody(judge, &f.device, f.slots)?.as_mut())?;
        output::note(&format!("{judge} read {read} answers that no rule could"));
        if let Some(folder) = &f.exam.output {
            weft_evals::journal::write_lines(&folder.join("answers.jsonl"), &lines)?;
        }
    }
    Ok((name, lines, seconds))
}

/// Where every answer is there already, nobody is asked.
pub(super) struct Nobody(pub(super) String);

impl Generate for Nobody {
    fn name(&self) -> String {
        self.0.clone()
    }

    fn generate(
        &mut self,
        _: &[weft_evals::Job],
        _: &mut dyn FnMut(usize, weft_evals::Answer) -> weft_evals::Result<()>,
    ) -> weft_evals::Result<()> {
        Ok(())
    }
}

impl Score for Nobody {
    fn name(&self) -> String {
        self.0.clone()
    }

    fn score(
        &mut self,
        _: &[weft_evals::Item],
        _: &mut dyn FnMut(usize, weft_evals::Scored) -> weft_evals::Result<()>,
    ) -> weft_evals::Result<()> {
        Ok(())
    }
}

/// The tables and the drawing of a folder of results.
fn write(f: &super::Flags, folder: &Path, o: &Outcome, value: &Value, who: &str) -> Result<()> {
    let s = &value["settings"];
    let title = format!("{}, {}", Path::new(who).file_name().unwrap_or_default().to_string_lossy(), f.suite);
    let how = [
        format!("asked: `{}`", s["asked"]),
        format!(
            "template: {} (SHA-256 `{}`), {} shots",
            s["template"]["name"], s["template"]["sha256"], s["template"]["shots"]
        ),
        format!("data: `{}`", s["data"]),
        format!(
            "{:.2} % of the answers name one option; {:.2} % were cut at their most tokens",
            100.0 * o.readable.mean,
            100.0 * o.cut
        ),
    ];
    write_text(&folder.join("result.json"), &format!("{value:#}\n"))?;
    write_text(&folder.join("result.md"), &report::outcome_markdown(&title, &how, o))?;
    let mut rows: Vec<(String, stats::Interval)> = vec![("all".to_owned(), o.all)];
    if o.subjects.len() > 1 {
        rows.extend(o.subjects.iter().cloned());
    }
    Ok(write_text(&folder.join("result.svg"), &report::bars(&title, &rows))?)
}
