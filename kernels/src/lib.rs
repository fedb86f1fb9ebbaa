//! Weft kernels.
