//! One test binary.

mod kill;
mod pdf;
mod support;
mod whole;
