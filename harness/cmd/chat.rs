//! `weft chat`: a conversation in the terminal.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use clap::Args;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};
use serde_json::json;
use weft_formats::chat::Template;
use weft_models::engine::{Finish, Request};
use weft_models::{Message, Model, Sampling};

use super::draw::{DraftFlags, Drawer, most};
use crate::options::{self, CacheFlag, DeviceFlags, LoraFlag, ModelFlag, TemplateFlag, context};
use crate::sampling::SamplingFlags;
use crate::{Error, Result, interrupt, output, report};

/// Talk with a model
///
/// Ctrl-C stops the answer, Ctrl-D ends the program, /help lists the commands. What was said stays in the
/// KV cache, so that a turn costs its own tokens only, and one that is taken back (/undo) what follows it. Once the context
/// is full the oldest turns are left out, which is said.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft chat
  weft chat -m model.gguf -c 16384 --system \"Answer in one sentence.\"
  weft chat -m model.gguf --lora adapter.gguf
  printf 'Hello\\nWho are you?\\n' | weft chat -m model.gguf")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    #[command(flatten)]
    lora: LoraFlag,
    /// Most tokens of one answer; -1 goes on until the model ends or the context is full
    #[arg(short, long = "max-tokens", visible_alias = "n-predict", alias = "predict", value_name = "N",
          default_value_t = -1, value_parser = clap::value_parser!(i64).range(-1..))]
    n: i64,
    /// Context in tokens; 0 is all that the model was trained for [default: that, at most 4096]
    #[arg(short, long = "ctx", alias = "ctx-size", value_name = "N")]
    c: Option<u32>,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    template: TemplateFlag,
    /// Text for the system's turn
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Ask a model that can think to answer at once (the template's enable_thinking = false)
    #[arg(long)]
    no_think: bool,
    #[command(flatten)]
    draft: DraftFlags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    cache: CacheFlag,
    /// The model's file
    #[arg(value_name = "MODEL")]
    file: Option<std::path::PathBuf>,
}

const HELP: &str = "/undo          take the last question and its answer back
/clear         start again (the system text stays)
/system TEXT   set the system text; without TEXT, remove it
/save FILE     write the conversation: JSON if FILE ends in .json, else text
/help          this list
/exit          end (as Ctrl-D)
Ctrl-C stops an answer.";

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Nothing,
    Say(&'a str),
    Undo,
    Clear,
    System(&'a str),
    Save(&'a str),
    Help,
    Exit,
    Unknown(&'a str),
}

fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    if line.is_empty() {
        return Line::Nothing;
    }
    // A path such as /etc/hosts is something to say, not a command.
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if !word.starts_with('/') || word[1..].contains('/') {
        return Line::Say(line);
    }
    match word {
        "/undo" => Line::Undo,
        "/clear" => Line::Clear,
        "/system" => Line::System(rest.trim()),
        "/save" => Line::Save(rest.trim()),
        "/help" | "/?" => Line::Help,
        "/exit" | "/quit" | "/bye" => Line::Exit,
        other => Line::Unknown(other),
    }
}

/// Where lines come from: an editor on a terminal, else stdin as it is.
enum Input {
    Editor(Box<Editor<(), MemHistory>>),
    Plain,
}

impl Input {
    fn new() -> Input {
        let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let config = Config::builder().auto_add_history(true).build();
        match terminal.then(|| Editor::with_history(config, MemHistory::new())) {
            Some(Ok(editor)) => Input::Editor(Box::new(editor)),
            _ => Input::Plain,
        }
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Result<Option<String>> {
        let failed = |source| Error::Io { file: "stdin".to_owned(), source };
        match self {
            Input::Editor(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => return Ok(Some(line)),
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(ReadlineError::Interrupted) => output::note("(Ctrl-D or /exit ends)"),
                    Err(e) => return Err(failed(io::Error::other(e.to_string()))),
                }
            },
            Input::Plain => {
                let mut line = Vec::new();
                match io::stdin().lock().read_until(b'\n', &mut line).map_err(failed)? {
                    0 => Ok(None),
                    _ => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
                }
            }
        }
    }
}

/// A conversation and its cache.
struct Chat<'a> {
    flags: &'a Flags,
    model: &'a Model,
    drawer: Drawer,
    sampling: Sampling,
    template: Option<Template>,
    system: Option<String>,
    turns: Vec<Message>,
    /// How many of the oldest turns no longer fit the context.
    left_out: usize,
}

impl Chat<'_> {
    fn messages(&self) -> Vec<Message> {
        self.messages_from(0)
    }

    /// The conversation without its first turns.
    fn messages_from(&self, first: usize) -> Vec<Message> {
        let system = self.system.as_deref().map(|s| Message::new("system", s));
        system.into_iter().chain(self.turns[first..].iter().cloned()).collect()
    }

    /// Takes back what was said last.
    fn undo(&mut self) -> Result<()> {
        if self.turns.is_empty() {
            return Err(Error::input("there is nothing to take back"));
        }
        self.turns.truncate(self.turns.len() - 2);
        self.left_out = self.left_out.min(self.turns.len());
        output::note("(the last question and its answer are taken back)");
        Ok(())
    }

    fn clear(&mut self) {
        self.turns.clear();
        self.left_out = 0;
    }

    /// The conversation as token ids, without as many of its oldest turns as leave room for an answer.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let context = self.drawer.engine.context();
        // An answer that nobody can read is none.
        let room = most(self.flags.n).min(context / 4).clamp(1, 512);
        let before = self.left_out;
        loop {
            let messages = self.messages_from(self.left_out);
            let thinking = self.flags.no_think.then_some(false);
            let ids = match &self.template {
                Some(t) => self.flags.template.encode(t, self.model.tokenizer()?, &messages, thinking)?,
                None => self.model.chat(&messages, thinking)?,
            };
            // Each time a question and its answer.
            let more = self.left_out + 2 < self.turns.len();
            if ids.len() + room <= context || (!more && ids.len() < context) {
                if before == 0 && self.left_out > 0 {
                    output::note(
                        "(the context is full: from here on the oldest turns are left out; /clear starts again, -c N \
                         makes it larger)",
                    );
                }
                return Ok(ids);
            }
            if !more {
                self.left_out = before;
                return Err(Error::input(format!(
                    "this message alone has {} tokens, more than the context of {context} holds; shorten it, or raise \
                     the context with -c",
                    ids.len()
                )));
            }
            self.left_out += 2;
        }
    }

    /// Answers `text`. Where that fails the turn is taken back, so that the next can be shorter.
    fn say(&mut self, text: &str) -> Result<()> {
        self.turns.push(Message::new("user", text));
        interrupt::reset();
        match self.reply() {
            Ok(text) => {
                self.turns.push(Message::new("assistant", text));
                Ok(())
            }
            Err(e) => {
                self.turns.pop();
                Err(e)
            }
        }
    }

    fn reply(&mut self) -> Result<String> {
        let prompt = self.prompt()?;
        let request = Request::new(prompt, self.sampling, most(self.flags.n));
        let done = self.drawer.answer(request, &mut |part| output::text(part))?;
        if done.finish.is_none() && done.ids.is_empty() {
            return Err(Error::Interrupted);
        }
        // Another draw each turn, and the same ones for the same seed and turns.
        self.sampling.seed = self.sampling.seed.wrapping_add(1);
        if !done.text.ends_with('\n') {
            output::line("")?;
        }
        match done.finish {
            Some(Finish::Context) => output::note(
                "(the context is full, so the answer ends here; /clear starts again, -c N makes it larger)",
            ),
            Some(Finish::MaxTokens) => output::note("(stopped by -n)"),
            None => output::note("(stopped)"),
            Some(_) => {}
        }
        if io::stderr().is_terminal() {
            let reused =
                if done.reused > 0 { format!(", {} from the cache", done.reused) } else { String::new() };
            let rate = done.timings.decode_rate().map_or_else(String::new, |r| format!(", {r:.1} t/s"));
            let (used, all) = (done.prompt_tokens + done.timings.generated, self.drawer.engine.context());
            output::note(&format!("[{used} of {all} tokens{reused}{rate}]"));
            done.drafts().iter().for_each(|line| output::note(line));
        }
        Ok(done.text)
    }

    fn save(&self, path: &str) -> Result<()> {
        let path = Path::new(path);
        let messages = self.messages();
        let text = if path.extension().is_some_and(|e| e == "json") {
            let messages: Vec<_> =
                messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect();
            format!("{:#}\n", json!({ "model": self.flags.model.name(), "messages": messages }))
        } else {
            messages.iter().map(|m| format!("{}: {}\n\n", m.role, m.content)).collect()
        };
        if path.exists() {
            return Err(Error::input(format!("{}: is there already; give another name", path.display())));
        }
        let mut whole = weft_formats::AtomicFile::create(path)?;
        io::Write::write_all(&mut whole, text.as_bytes()).map_err(|e| Error::io(path, e))?;
        whole.finish()?;
        output::note(&format!("({} messages saved to {})", messages.len(), path.display()));
        Ok(())
    }
}

pub(super) fn run(mut f: Flags) -> Result<()> {
    if let Some(file) = f.file.take()
        && f.model.model.replace(file).is_some()
    {
        return Err(Error::usage("two models were given; talk with one of them"));
    }
    f.sampling.check()?;
    interrupt::loading();
    let mut started = f.model.begin(&f.device, None, f.c, f.cache)?;
    let length = context(started.loading.spec(), f.c);
    // A first question has about so many tokens.
    f.draft.prepare(&mut started.loading, length, 32)?;
    let trained = started.loading.spec().context;
    let (model, load) = started.finish()?;
    options::note_context(trained, length);
    let model = f.lora.apply(model)?;
    // A file that cannot chat is told before the first question.
    model.tokenizer()?;
    let template = f.template.open(model.tokenizer()?)?;
    if template.is_none() {
        model.template()?;
    }
    let mut chat = Chat {
        template,
        left_out: 0,
        drawer: Drawer::new(&model, length, &f.draft, (&f.device, None, f.cache))?,
        sampling: f.sampling.sampling(&f.model, model.metadata()),
        system: f.system.clone(),
        turns: Vec::new(),
        flags: &f,
        model: &model,
    };
    output::note(&format!(
        "{} on {}, loaded in {:.1} s, context {}; /help lists the commands",
        f.model.name(),
        report::device_line(model.gpu().caps()),
        load.as_secs_f64(),
        chat.drawer.engine.context()
    ));
    let mut input = Input::new();
    // After the editor, which takes the signal for itself. Three presses end the program also where the
    // device does not answer.
    interrupt::install_idle(3);
    let mut failures = 0;
    while let Some(line) = interrupt::idle(|| input.line())? {
        let done = match parse(&line) {
            Line::Nothing => Ok(()),
            Line::Say(text) => chat.say(text),
            Line::Undo => chat.undo(),
            Line::Clear => {
                chat.clear();
                output::note("(cleared)");
                Ok(())
            }
            Line::System("") => {
                chat.system = None;
                output::note("(no system text)");
                Ok(())
            }
            Line::System(text) => {
                chat.system = Some(text.to_owned());
                output::note("(system text set)");
                Ok(())
            }
            Line::Save("") => Err(Error::input("/save needs a file name")),
            Line::Save(path) => chat.save(path),
            Line::Help => {
                output::note(HELP);
                Ok(())
            }
            Line::Exit => break,
            Line::Unknown(word) => Err(Error::input(format!("there is no command {word}; /help lists them"))),
        };
        match done {
            Err(e @ (Error::StdoutClosed | Error::Model(weft_models::Error::Gpu(_)))) => return Err(e),
            // Ctrl-C before the first token.
            Err(e) if e.exit_code() == 130 => output::note("(stopped)"),
            Err(e) => {
                failures += 1;
                output::note(&format!("error: {}", e.line().unwrap_or_default()));
            }
            Ok(()) => {}
        }
    }
    // On a terminal the user saw the error and went on; in a script nobody did.
    match (&input, failures) {
        (Input::Plain, 1..) => Err(Error::input(format!("{failures} of the lines failed"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(parse(" \n"), Line::Nothing);
        assert_eq!(parse("Hello there\n"), Line::Say("Hello there"));
        assert_eq!((parse("/clear"), parse("/undo")), (Line::Clear, Line::Undo));
        assert_eq!(parse("/system  Be brief. "), Line::System("Be brief."));
        assert_eq!(parse("/save a b.json"), Line::Save("a b.json"));
        assert_eq!(parse("/etc/hosts holds what?"), Line::Say("/etc/hosts holds what?"));
        assert_eq!(parse("/nothing"), Line::Unknown("/nothing"));
        assert_eq!(parse("/bye"), Line::Exit);
    }
}
