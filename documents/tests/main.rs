//! One test binary.

mod kill;
mod pdf;
mod speed;
mod support;
mod whole;
