//! Opens devices.

use weft_runtime::{Gpu, Options};

use crate::drivers::{UNCHECKED, failure};
use crate::tuning;

/// Opens a device as its driver needs it: with bounds checks where it fails without them, and with what
/// [`Options::tuning`] has for it.
///
/// # Errors
/// As [`Gpu::open`].
pub async fn open(options: &Options) -> weft_runtime::Result<Gpu> {
    let mut gpu = Gpu::open(options).await?;
    if let Some(path) = &options.tuning {
        let tuning = tuning::read(path, gpu.caps());
        gpu.tune(tuning);
    }
    if failure(gpu.caps(), "*", UNCHECKED).is_some() {
        gpu.check_bounds();
    }
    Ok(gpu)
}
