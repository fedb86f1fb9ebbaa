//! Benches of the paths that do not need a GPU to be told slow.

use criterion::{Criterion, criterion_group, criterion_main};

fn main() {}
