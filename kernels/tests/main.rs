//! Tests of the crate, in one binary.

mod cases;
mod shaders;
