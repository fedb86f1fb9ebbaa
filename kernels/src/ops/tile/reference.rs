//! Rows and tiles: the layout itself is the reference.

pub use crate::layout::{rows, tiles};
