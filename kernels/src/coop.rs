//! The cooperative matrices of a device.

use weft_runtime::Caps;

use crate::drivers;

/// The cooperative matrices of a device; constants of the shaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coop {
    /// Side of a matrix: 8 or 16.
    pub side: u32,
    /// Invocations of a subgroup.
    pub subgroup: u32,
}

impl Coop {
    /// Those of the devices that there are, for validation without one.
    pub(crate) const DEVICES: [Coop; 3] =
        [Coop { side: 16, subgroup: 32 }, Coop { side: 8, subgroup: 8 }, Coop { side: 8, subgroup: 32 }];

    /// Those of a device that has matrices with f32 sums and subgroups of one fixed size.
    pub fn of(caps: &Caps) -> Option<Coop> {
        let (least, most) = caps.subgroups?;
        let works = |c: &&weft_runtime::Coop| {
            let name = if c.m == 16 { "coop16" } else { "coop8" };
            c.f32_accumulate && drivers::failure(caps, "matmul", name).is_none()
        };
        let side = caps.coop.iter().filter(works).map(|c| c.m).max()?;
        (least == most && caps.f16).then_some(Coop { side, subgroup: least })
    }
}

/// Whether a device has workgroups of so many bytes and invocations.
pub(crate) fn has_room(caps: &Caps, bytes: u32, invocations: u32) -> bool {
    bytes <= caps.limits.max_compute_workgroup_storage_size
        && invocations <= caps.limits.max_compute_invocations_per_workgroup
}
