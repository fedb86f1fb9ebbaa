//! Tests of the crate, in one binary, but for those that count what they allocate.

mod adapter;
mod chat_templates;
mod gguf_file;
mod gguf_pieces;
mod hf_convert;
mod merge;
mod quant_blocks;
mod quant_encode;
mod quant_imatrix;
mod quant_recipe;
mod tokenizer_shared;
mod tokenizer_vectors;
