//! The model on board.

/// Its name in messages and reports.
pub const NAME: &str = "weft-mini";

/// The GGUF file of weft-mini: a Qwen3 of about 8 million parameters that we trained on our own curriculum.
pub const GGUF: &[u8] = include_bytes!("../models/assets/weft-mini.gguf");
