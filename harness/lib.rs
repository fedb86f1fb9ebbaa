//! Everything a person runs.
pub mod curriculum;
