//! How much of a device one dispatch, one binding, one buffer and one submit may use.

/// The limits every plan must stay inside. Sizes are bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Largest range one binding may cover.
    pub max_binding: u64,
    /// Largest buffer.
    pub max_buffer: u64,
    /// Most workgroups in each dimension of a dispatch.
    pub max_workgroups: u32,
    /// Workgroup memory.
    pub workgroup_bytes: u32,
    /// Invocations in a workgroup.
    pub max_invocations: u32,
    /// Storage buffers that one shader may bind.
    pub storage_buffers: u32,
    /// Binding offsets are multiples of this.
    pub align: u64,
    /// Most dispatches in one submit.
    pub submit_dispatches: usize,
    /// Longest estimated time of one submit, in milliseconds: under every driver's watchdog.
    pub submit_ms: f64,
    /// Most operations of one dispatch, as far as a smaller batch helps: nothing interrupts a dispatch.
    pub dispatch_flops: f64,
    /// Whether there may be cooperative matrices, whose products read tiles: plans have room for these.
    pub matrices: bool,
}

const MIB: u64 = 1 << 20;

impl Budget {
    /// What core WebGPU guarantees everywhere.
    pub const WEBGPU: Budget = Budget {
        max_binding: 128 * MIB,
        max_buffer: 256 * MIB,
        max_workgroups: 65_535,
        workgroup_bytes: 16_384,
        max_invocations: 256,
        storage_buffers: 8,
        align: 256,
        submit_dispatches: 512,
        submit_ms: 50.0,
        dispatch_flops: f64::INFINITY,
        // Where the device is not known, a plan has room for whichever it is.
        matrices: true,
    };

    /// The wgpu limits that allow so much and no more.
    pub(crate) fn limits(&self) -> wgpu::Limits {
        wgpu::Limits {
            max_storage_buffer_binding_size: self.max_binding,
            max_buffer_size: self.max_buffer,
            max_compute_workgroups_per_dimension: self.max_workgroups,
            max_compute_workgroup_storage_size: self.workgroup_bytes,
            max_compute_invocations_per_workgroup: self.max_invocations,
            max_compute_workgroup_size_x: self.max_invocations,
            max_compute_workgroup_size_y: self.max_invocations,
            max_storage_buffers_per_shader_stage: self.storage_buffers,
            min_storage_buffer_offset_alignment: self.align as u32,
            ..wgpu::Limits::downlevel_defaults()
        }
    }

    pub(crate) fn from_limits(limits: &wgpu::Limits) -> Budget {
        Budget {
            // Bindings of 2 GiB and more miscompute on Metal (wgpu #10305) and are refused by Vulkan.
            max_binding: limits.max_storage_buffer_binding_size.min((1 << 31) - 256) & !255,
            max_buffer: limits.max_buffer_size,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            align: u64::from(limits.min_storage_buffer_offset_alignment).max(256),
            ..Budget::WEBGPU
        }
    }
}

/// A named set of limits to open a device with, whatever the adapter offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Qualcomm phones: 128 MiB a binding.
    Adreno,
    /// Arm phones: 128 MiB a binding, 256 MiB a buffer, coarse offsets.
    Mali,
    /// Exactly what core WebGPU promises.
    WebGpu,
    /// So small that every tensor of a real model is split. For tests.
    Minimal,
}

impl Profile {
    /// All profiles, in the order of `--help`.
    pub const ALL: [Profile; 4] = [Profile::Adreno, Profile::Mali, Profile::WebGpu, Profile::Minimal];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Adreno => "adreno",
            Profile::Mali => "mali",
            Profile::WebGpu => "webgpu",
            Profile::Minimal => "minimal",
        }
    }

    /// The profile called `name`.
    pub fn parse(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|p| p.name() == name)
    }

    /// The limits this profile stands for.
    pub fn budget(self) -> Budget {
        match self {
            Profile::Adreno => Budget {
                max_buffer: 1024 * MIB,
                workgroup_bytes: 32_768,
                max_invocations: 1024,
                ..Budget::WEBGPU
            },
            Profile::Mali => Budget {
                workgroup_bytes: 32_768,
                max_invocations: 512,
                submit_dispatches: 128,
                ..Budget::WEBGPU
            },
            Profile::WebGpu => Budget::WEBGPU,
            Profile::Minimal => Budget {
                max_binding: MIB,
                max_buffer: 4 * MIB,
                max_workgroups: 1024,
                submit_dispatches: 32,
                ..Budget::WEBGPU
            },
        }
    }

    /// The wgpu limits to request, and the first one the adapter cannot give.
    pub(crate) fn limits(self, adapter: &wgpu::Limits) -> Result<wgpu::Limits, (&'static str, u64, u64)> {
        let b = self.budget();
        let lacking = [
            ("max_storage_buffer_binding_size", b.max_binding, adapter.max_storage_buffer_binding_size),
            ("max_buffer_size", b.max_buffer, adapter.max_buffer_size),
            (
                "max_compute_workgroup_storage_size",
                b.workgroup_bytes.into(),
                adapter.max_compute_workgroup_storage_size.into(),
            ),
            (
                "max_compute_invocations_per_workgroup",
                b.max_invocations.into(),
                adapter.max_compute_invocations_per_workgroup.into(),
            ),
            (
                "max_storage_buffers_per_shader_stage",
                b.storage_buffers.into(),
                adapter.max_storage_buffers_per_shader_stage.into(),
            ),
        ]
        .into_iter()
        .find(|(_, wanted, available)| wanted > available);
        match lacking {
            Some(l) => Err(l),
            None => Ok(b.limits()),
        }
    }
}
