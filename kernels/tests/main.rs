//! Tests of the crate, in one binary.

mod cases;
mod emulated;
mod shaders;
