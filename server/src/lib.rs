//! The engine behind HTTP, in the shapes that OpenAI's, Anthropic's and Ollama's clients speak.
//!
//! The engine runs on a thread of its own (`engine`); everything in front of it is async and holds no GPU. A field of a
//! request is honoured or refused by name, never dropped.

pub mod grammar;
pub mod tools;
