//! What an adapter offers.

use crate::{Budget, Error, Profile, Result, Tuning, texels};

/// The kind of device behind an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DeviceKind {
    Discrete,
    Integrated,
    Virtual,
    Cpu,
    Other,
}

/// A cooperative-matrix shape `[m, n, k]` with f16 inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coop {
    /// Rows of A and C.
    pub m: u32,
    /// Columns of B and C.
    pub n: u32,
    /// Depth.
    pub k: u32,
    /// Whether C may be f32 (else f16).
    pub f32_accumulate: bool,
}

/// Features to leave unused although the adapter has them (`--without` on the command line).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Without {
    pub f16: bool,
    pub subgroups: bool,
    pub dot: bool,
    pub coop: bool,
    pub immediates: bool,
    pub texels: bool,
}

impl Without {
    /// Every optional feature off: core WebGPU only.
    pub const ALL: Without =
        Without { f16: true, subgroups: true, dot: true, coop: true, immediates: true, texels: true };

    /// Reads a comma-separated list such as `f16,subgroups`.
    ///
    /// # Errors
    /// The first unknown name.
    pub fn parse(list: &str) -> std::result::Result<Without, String> {
        let mut w = Without::default();
        for name in list.split(',').map(str::trim).filter(|s| !s.is_empty()) {
            match name {
                "f16" => w.f16 = true,
                "subgroups" => w.subgroups = true,
                "dot" => w.dot = true,
                "coop" => w.coop = true,
                "immediates" => w.immediates = true,
                "texels" => w.texels = true,
                other => {
                    return Err(format!(
                        "unknown feature \"{other}\" (known: f16, subgroups, dot, coop, immediates, texels)"
                    ));
                }
            }
        }
        Ok(w)
    }
}

/// What a device can do, after features were switched off.
#[derive(Debug, Clone)]
pub struct Caps {
    /// Adapter name as the driver gives it.
    pub name: String,
    /// PCI vendor id.
    pub vendor: u32,
    /// Kind of device.
    pub kind: DeviceKind,
    /// "vulkan", "metal", "dx12" or "webgpu".
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// f16 arithmetic and storage in shaders.
    pub f16: bool,
    /// Subgroup operations, with the smallest and largest subgroup size.
    pub subgroups: Option<(u32, u32)>,
    /// `dot4I8Packed` in hardware (Vulkan and DX12; elsewhere it is emulated).
    pub dot: bool,
    /// Cooperative-matrix shapes that WGSL can express (square, 8 or 16).
    pub coop: Vec<Coop>,
    /// Parameters of a dispatch in the command stream instead of a uniform buffer.
    pub immediates: bool,
    /// Weights that can be read as textures, which lie over their buffers: on llvmpipe, see texels.rs.
    pub texels: bool,
    /// GPU timestamps at pass boundaries.
    pub timestamps: bool,
    /// Device-local memory in bytes, where the backend tells.
    pub memory: Option<u64>,
    /// The limits of the device as opened (of the adapter, in a listing).
    pub limits: wgpu::Limits,
    /// Kernel variants to take where they can run, whatever else would be picked: names of the layer above.
    pub variants: Vec<String>,
    /// Constants measured on this device, which the layer above asks before its own.
    pub tuning: Tuning,
}

/// The features we use where they exist.
const OPTIONAL: wgpu::Features = wgpu::Features::SUBGROUP
    .union(wgpu::Features::SUBGROUP_BARRIER)
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::IMMEDIATES)
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);

/// The optional features to request from `adapter`.
pub(crate) fn features(adapter: &wgpu::Adapter, without: Without) -> wgpu::Features {
    let mut f = adapter.features() & OPTIONAL;
    let subgroups = f.contains(wgpu::Features::SUBGROUP) && !without.subgroups;
    f.set(wgpu::Features::SUBGROUP, subgroups);
    f.set(wgpu::Features::SUBGROUP_BARRIER, f.contains(wgpu::Features::SUBGROUP_BARRIER) && subgroups);
    f.set(wgpu::Features::SHADER_F16, f.contains(wgpu::Features::SHADER_F16) && !without.f16);
    // The kernels with matrices have barriers of subgroups, which all devices have that have matrices and subgroups.
    let coop = f.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
        && f.contains(wgpu::Features::SHADER_F16)
        && (!subgroups || f.contains(wgpu::Features::SUBGROUP_BARRIER))
        && !without.coop;
    f.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, coop);
    f.set(wgpu::Features::IMMEDIATES, f.contains(wgpu::Features::IMMEDIATES) && !without.immediates);
    f
}

impl Caps {
    /// Core WebGPU under these limits and nothing optional, of no adapter: a stand-in for tests to add to.
    pub fn core(kind: DeviceKind, budget: &Budget) -> Caps {
        Caps {
            name: "stand-in".into(),
            vendor: 0,
            kind,
            backend: "vulkan".into(),
            driver: String::new(),
            f16: false,
            subgroups: None,
            dot: false,
            coop: Vec::new(),
            immediates: false,
            texels: false,
            timestamps: false,
            memory: None,
            limits: budget.limits(),
            variants: Vec::new(),
            tuning: Tuning::default(),
        }
    }

    /// Whether a browser compiles the shaders, which proves more of them than drivers do.
    pub fn is_browser(&self) -> bool {
        self.backend == "webgpu"
    }

    /// Bytes and operations a second that even a slow device of this kind reaches: estimates err on the
    /// side of shorter submits.
    pub(crate) fn rates(&self) -> (f64, f64) {
        match self.kind {
            // With matrices, what computes much runs on them.
            DeviceKind::Discrete if !self.coop.is_empty() => (200e9, 20e12),
            DeviceKind::Discrete => (200e9, 2e12),
            DeviceKind::Integrated | DeviceKind::Virtual | DeviceKind::Other => (20e9, 100e9),
            DeviceKind::Cpu => (2e9, 2e9),
        }
    }

    pub(crate) fn of(adapter: &wgpu::Adapter, features: wgpu::Features, without: Without) -> Caps {
        let info = adapter.get_info();
        let coop = if features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            use wgpu::CooperativeScalarType as S;
            adapter
                .cooperative_matrix_properties()
                .into_iter()
                .filter(|p| p.ab_type == S::F16 && p.m_size == p.n_size && p.n_size == p.k_size)
                .map(|p| Coop { m: p.m_size, n: p.n_size, k: p.k_size, f32_accumulate: p.cr_type == S::F32 })
                .collect()
        } else {
            Vec::new()
        };
        Caps {
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
                wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
                wgpu::DeviceType::Cpu => DeviceKind::Cpu,
                wgpu::DeviceType::Other => DeviceKind::Other,
            },
            vendor: info.vendor,
            backend: info.backend.to_str().to_owned(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features
                .contains(wgpu::Features::SUBGROUP)
                .then_some((info.subgroup_min_size, info.subgroup_max_size)),
            dot: matches!(info.backend, wgpu::Backend::Vulkan | wgpu::Backend::Dx12) && !without.dot,
            coop,
            immediates: features.contains(wgpu::Features::IMMEDIATES),
            texels: texels::possible(&info, &adapter.limits()) && !without.texels,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            memory: device_memory(adapter),
            limits: adapter.limits(),
            name: info.name,
            variants: Vec::new(),
            tuning: Tuning::default(),
        }
    }
}

impl Profile {
    /// Whether a device with these limits could open under this profile.
    pub fn fits(self, caps: &Caps) -> bool {
        self.limits(&caps.limits).is_ok()
    }
}

/// One line of an adapter listing.
#[derive(Debug, Clone)]
pub struct AdapterSummary {
    /// Position, as `--device N` takes it.
    pub index: usize,
    /// What it offers with nothing switched off.
    pub caps: Caps,
}

pub(crate) fn instance() -> wgpu::Instance {
    let mut d = wgpu::InstanceDescriptor::new_without_display_handle();
    d.backends = wgpu::Backends::VULKAN
        | wgpu::Backends::METAL
        | wgpu::Backends::DX12
        | wgpu::Backends::BROWSER_WEBGPU;
    // The default flags cap buffers at 4 GiB and inject work around indirect dispatches.
    d.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(d)
}

/// Adapters in a stable order: real GPUs before software ones, otherwise as the drivers list them.
pub(crate) async fn enumerate(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    // A browser has no list; it has a GPU that is fast, and one that saves power.
    #[cfg(target_arch = "wasm32")]
    let mut list: Vec<wgpu::Adapter> = {
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let options = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
        instance.request_adapter(&options).await.into_iter().collect()
    };
    #[cfg(not(target_arch = "wasm32"))]
    let mut list = instance.enumerate_adapters(wgpu::Backends::all()).await;
    list.sort_by_key(|a| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    list
}

/// The adapters of this machine, real GPUs first.
pub async fn adapters() -> Vec<AdapterSummary> {
    enumerate(&instance())
        .await
        .iter()
        .enumerate()
        .map(|(index, a)| AdapterSummary {
            index,
            caps: Caps::of(a, features(a, Without::default()), Without::default()),
        })
        .collect()
}

/// Picks an adapter by number, or by a case-insensitive part of its name.
pub(crate) async fn pick(instance: &wgpu::Instance, wanted: Option<&str>) -> Result<wgpu::Adapter> {
    let mut list = enumerate(instance).await;
    if list.is_empty() {
        return Err(Error::NoAdapter);
    }
    let index = match wanted {
        None => Some(0),
        Some(w) => {
            let number = w.parse::<usize>().ok().filter(|i| *i < list.len());
            let name = w.to_lowercase();
            // A number that no adapter has may be a part of a name, such as 4090.
            number.or_else(|| list.iter().position(|a| a.get_info().name.to_lowercase().contains(&name)))
        }
    };
    match index {
        Some(i) => Ok(list.swap_remove(i)),
        None => Err(Error::NoSuchAdapter {
            wanted: wanted.unwrap_or_default().to_owned(),
            available: list
                .iter()
                .enumerate()
                .map(|(i, a)| format!("{i}: {}", a.get_info().name))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Bytes of the largest device-local heap, asked of Vulkan itself because wgpu does not say.
#[cfg(all(not(target_arch = "wasm32"), not(target_vendor = "apple")))]
fn device_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the raw handles are used for one query while `adapter` is alive, and nothing is kept.
    unsafe {
        let hal = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = hal.shared_instance().raw_instance();
        let m = instance.get_physical_device_memory_properties(hal.raw_physical_device());
        m.memory_heaps[..m.memory_heap_count as usize]
            .iter()
            .filter(|h| h.flags.as_raw() & 1 != 0) // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
            .map(|h| h.size)
            .max()
    }
}

#[cfg(any(target_arch = "wasm32", target_vendor = "apple"))]
fn device_memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}
