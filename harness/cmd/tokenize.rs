//! `weft tokenize`: text to ids and back; needs no GPU and no tensors.

use clap::Args;
use weft_formats::chat::{self, Template};
use weft_formats::tokenizer::Tokenizer;

use crate::options::{ModelFlag, ids_from_json};
use crate::{Error, Result, output};

/// Turn text into token ids, or ids into text
///
/// Works without a GPU, also on a file that holds a vocabulary and no tensors. Text from stdin is taken byte
/// for byte, its last line feed included.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  weft tokenize -m model.gguf \"Hello world\"
  weft tokenize -m model.gguf --special --json \"<|im_start|>user\"
  weft tokenize -m model.gguf - < text.txt
  weft tokenize -m model.gguf --batch --json '[\"Hello world\", \"Good morning\"]'
  weft tokenize -m model.gguf --decode 9707 1879
  weft tokenize -m model.gguf --json \"Hello\" | weft tokenize -m model.gguf --decode -
  weft tokenize -m model.gguf --render '[{\"role\": \"user\", \"content\": \"Hi\"}]'")]
pub(super) struct Flags {
    #[command(flatten)]
    model: ModelFlag,
    /// Read control tokens in the text, and add the beginning and end tokens that the file asks for;
    /// with --decode, print control tokens
    #[arg(long)]
    special: bool,
    /// Print one JSON array of ids; with --decode, one JSON string
    #[arg(long)]
    json: bool,
    /// Take ids and print their text
    #[arg(long)]
    decode: bool,
    /// Take a JSON array of messages (role, content) and print the prompt that the file's chat template makes
    /// of them, in place of ids
    #[arg(long, conflicts_with_all = ["special", "decode"])]
    render: bool,
    /// Take a JSON array of texts and print the ids of each on a line of its own, in place of one text's
    #[arg(long, conflicts_with_all = ["decode", "render"])]
    batch: bool,
    /// The text, or with --decode the ids (numbers, or one JSON array); "-" or nothing reads stdin
    #[arg(value_name = "TEXT")]
    input: Vec<String>,
}

pub(super) fn run(f: Flags) -> Result<()> {
    // Before stdin is read, so that a wrong file is told at once.
    let tokenizer = f.model.open_tokenizer()?;
    let stdin = f.input.is_empty() || f.input == ["-"];
    if !f.decode && f.input.len() > 1 {
        return Err(Error::usage("more than one text was given; put quotes around it"));
    }
    let text = if stdin { output::stdin_text()? } else { f.input.join(" ") };
    if f.render {
        let text = rendered(&f.model, &tokenizer, &text)?;
        return print(&text, f.json);
    }
    if !f.decode {
        let texts = if f.batch { texts(&text)? } else { vec![text] };
        return texts.iter().try_for_each(|text| output::line(&encoded(&tokenizer, &f, text)));
    }
    let ids = parse_ids(&text)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
        let size = tokenizer.vocab_size();
        return Err(Error::input(format!(
            "{}: token id {id} is out of range: the vocabulary has {size} tokens",
            f.model.name()
        )));
    }
    print(&tokenizer.decode(&ids, f.special), f.json)
}

/// The ids of a text, as they are printed.
fn encoded(tokenizer: &Tokenizer, f: &Flags, text: &str) -> String {
    let ids = if f.special { tokenizer.encode_prompt(text) } else { tokenizer.encode(text, false) };
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    if f.json { format!("[{}]", ids.join(", ")) } else { ids.join(" ") }
}

/// The texts of a JSON array.
fn texts(json: &str) -> Result<Vec<String>> {
    serde_json::from_str(json).map_err(|e| {
        Error::input(format!("--batch takes a JSON array of texts, such as [\"a\", \"b\"]: {e}"))
    })
}

/// A text as it is, or as a JSON string; a terminal gets a line feed behind it.
fn print(text: &str, json: bool) -> Result<()> {
    match json {
        true => output::line(&serde_json::Value::from(text).to_string()),
        false if output::to_terminal() => output::line(text),
        false => output::text(text),
    }
}

/// The prompt that the file's template makes of messages in JSON, up to where the model answers.
fn rendered(model: &ModelFlag, tokenizer: &Tokenizer, json: &str) -> Result<String> {
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
    let wrong = |source| weft_models::Error::Template { file: model.name(), source };
    let file = model.open_file()?;
    let template = Template::from_metadata(file.metadata(), text(tokenizer.bos()), text(tokenizer.eos()))
        .map_err(wrong)?;
    let messages = serde_json::from_str(json)
        .map_err(|e| e.to_string())
        .and_then(|json| chat::messages(json, &template));
    let messages = messages.map_err(|e| {
        Error::input(format!(
            "not a list of messages ({e}); expected [{{\"role\": \"user\", \"content\": \"Hi\"}}]"
        ))
    })?;
    let options = chat::Options { add_generation_prompt: true, ..chat::Options::default() };
    Ok(template.render(&messages, &options).map_err(wrong)?)
}

/// Ids apart by spaces, commas or line feeds, or as a JSON array.
fn parse_ids(text: &str) -> Result<Vec<u32>> {
    if text.trim_start().starts_with('[') {
        return ids_from_json(text, "the ids");
    }
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|_| Error::usage(format!("{word:?} is not a token id"))))
        .collect()
}
