//! What the server knows of a model without asking its engine: names, numbers, tokenizer and template.

use serde_json::{Map, Value};
use weft_formats::chat::{self, Message, Template};
use weft_formats::tokenizer::Tokenizer;
use weft_models::Sampling;

use crate::error::{ApiError, Result};

/// A model as clients see it.
#[derive(Debug, Clone)]
pub struct Card {
    /// Its name in `model`.
    pub id: String,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its chat template, or why there is none.
    pub template: std::result::Result<Template, String>,
    /// Positions of an answer, its prompt's among them.
    pub context: usize,
    /// Positions that it was trained for.
    pub trained: usize,
    /// Answers that are drawn at a time.
    pub slots: usize,
    /// Tokens that it knows.
    pub vocabulary: u32,
    /// How tokens are drawn where a request says nothing.
    pub sampling: Sampling,
    /// When it was opened, in seconds since 1970.
    pub created: u64,
    /// The names of the adapters that its engine has, each with its strength where a request says none.
    pub adapters: Vec<(String, f32)>,
    /// Those that are in effect under this name: places among them, and strengths.
    pub adapted: Vec<(usize, f32)>,
    /// What else its file says: architecture, parameters, bytes.
    pub facts: Map<String, Value>,
}

/// What a conversation is rendered with beside its messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rendering {
    pub(crate) tools: Option<Value>,
    pub(crate) thinking: Option<bool>,
    /// Further variables of the template.
    pub(crate) extra: Map<String, Value>,
    /// Whether the last message is the beginning of the answer, which goes on there.
    pub(crate) goes_on: bool,
}

impl Card {
    /// Refuses names by which participants of one role are told apart, where the template does not read them; a lenient
    /// server passes them on to `ignored` in place of that.
    ///
    /// # Errors
    /// There is such a name.
    pub(crate) fn check_names(
        &self,
        messages: &[Message],
        ignored: &mut Option<&mut Vec<String>>,
    ) -> Result<()> {
        let render = |m: &[Message]| self.render(m, &Rendering::default()).ok();
        let Some(i) = crate::messages::lost_name(messages, &render) else { return Ok(()) };
        let param = format!("messages[{i}].name");
        match ignored {
            Some(ignored) => {
                ignored.push(param);
                Ok(())
            }
            None => {
                let line = format!(
                    "\"{param}\" is not supported: the template of \"{}\" reads no names, so that participants of one \
                     role would be taken for one; say who speaks in \"content\"",
                    self.id
                );
                Err(ApiError::unsupported(param, line))
            }
        }
    }

    /// The text of a conversation up to where the model answers.
    ///
    /// # Errors
    /// A template that refuses the messages, or is broken.
    pub(crate) fn render(&self, messages: &[Message], with: &Rendering) -> Result<String> {
        Ok(chat::unmarked(&self.marked(messages, with)?.0))
    }

    /// The tokens of a conversation up to where the model answers. What messages say is text: the name of a control
    /// token in them is spelled out and opens no turn.
    ///
    /// # Errors
    /// A template that refuses the messages, or is broken.
    pub(crate) fn prompt(&self, messages: &[Message], with: &Rendering) -> Result<Vec<u32>> {
        let (marked, mark) = self.marked(messages, with)?;
        Ok(chat::encode_marked(&marked, mark, &self.tokenizer))
    }

    /// The rendered text, and the mark that stands in the middle of each control token that a message spells.
    fn marked(&self, messages: &[Message], with: &Rendering) -> Result<(String, Option<char>)> {
        let template = self.template.as_ref().map_err(|why| {
            ApiError::bad("no_chat_template", format!("\"{}\" cannot chat: {why}", self.id)).at("model")
        })?;
        let (messages, mark) = chat::marked(messages, &self.tokenizer);
        let options = chat::Options {
            add_generation_prompt: !with.goes_on,
            enable_thinking: with.thinking,
            tools: with.tools.clone(),
            extra: with.extra.clone(),
            ..chat::Options::default()
        };
        let rendered = template.render(&messages, &options).map_err(|e| {
            let code =
                if matches!(e, chat::Error::Refused(_)) { "template_refused" } else { "template_failed" };
            ApiError::bad(code, e.to_string()).at("messages")
        })?;
        if !with.goes_on {
            return Ok((rendered, mark));
        }
        // The turn stays open behind what its message says.
        let said = messages.last().map(|m| m.content.as_str()).unwrap_or_default();
        let last = said.trim_end();
        match rendered.rfind(last) {
            // Templates take white space off its end, and the answer goes on behind it all the same.
            Some(at) if !last.is_empty() => Ok((rendered[..at].to_owned() + said, mark)),
            _ => Err(ApiError::value(
                "messages",
                "the template does not end with the last message, so the answer cannot go on there",
            )),
        }
    }

    /// A token's text for people, and its bytes.
    pub(crate) fn token(&self, id: u32) -> (String, Vec<u8>) {
        let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    }

    /// Refuses a prompt that leaves no room for an answer.
    ///
    /// # Errors
    /// It is too long, or empty.
    pub(crate) fn check_length(&self, tokens: usize, param: &str) -> Result<()> {
        if tokens == 0 {
            return Err(ApiError::value(
                param,
                format!("\"{param}\" gives no token, so there is nothing to go on from"),
            ));
        }
        if tokens < self.context {
            return Ok(());
        }
        let line = format!(
            "the prompt has {tokens} tokens and the context of \"{}\" has room for {}, the answer's among them; shorten \
             the prompt, or start the server with a larger --ctx",
            self.id, self.context
        );
        Err(ApiError::too_long(line, tokens, self.context).at(param))
    }
}
