//! Pipelines: compiled on first use, kept by name.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::gpu::{Gpu, one_line};
use crate::{Error, Result};

/// How a shader uses a storage binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Access {
    Read,
    ReadWrite,
}

/// A composed shader. `@binding(0)` is the uniform with the parameters, storage bindings follow from
/// 1 in the order of `bindings`; the entry point is `main`.
#[derive(Debug, Clone)]
pub struct Shader {
    /// Unique: `op_variant_dtype`.
    pub name: String,
    /// Plain WGSL.
    pub source: String,
    /// Storage bindings from 1 on.
    pub bindings: Vec<Access>,
}

/// Bytes of parameters that every device with immediates takes.
pub(crate) const IMMEDIATE_BYTES: u32 = 128;

/// The uniform as every kernel declares it, and what stands for it on a device with immediates: a kernel's
/// first instructions need its parameters, and the command stream brings them without a load.
const UNIFORM: &str = "@group(0) @binding(0) var<uniform> p: Params;";
const IMMEDIATE: &str = "var<immediate> p: Params;";

/// A compiled shader with its layout.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) name: String,
    pub(crate) raw: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
    pub(crate) bindings: Vec<Access>,
}

impl Pipeline {
    /// The shader's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Gpu {
    /// The pipeline of the shader called `name`, composed by `shader` at the first request.
    ///
    /// # Errors
    /// [`Error::Shader`] with the driver's or naga's message.
    pub fn pipeline(&self, name: &str, shader: impl FnOnce() -> Shader) -> Result<Arc<Pipeline>> {
        if let Some(p) = self.0.pipelines.lock().unwrap().get(name) {
            return Ok(p.clone());
        }
        let made = Arc::new(self.compile(shader())?);
        debug_assert_eq!(made.name, name);
        self.0.pipelines.lock().unwrap().insert(name.to_owned(), made.clone());
        Ok(made)
    }

    fn compile(&self, shader: Shader) -> Result<Pipeline> {
        let device = &self.0.device;
        tracing::debug!(name = shader.name, "compile");
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let immediates = self.immediates();
        let mut entries = Vec::new();
        if !immediates {
            entries.push(entry(0, wgpu::BufferBindingType::Uniform));
        }
        let source =
            if immediates { shader.source.replacen(UNIFORM, IMMEDIATE, 1) } else { shader.source.clone() };
        for (i, access) in shader.bindings.iter().enumerate() {
            let ty = wgpu::BufferBindingType::Storage { read_only: *access == Access::Read };
            entries.push(entry(i as u32 + 1, ty));
        }
        let build = || {
            let desc = wgpu::ShaderModuleDescriptor {
                label: Some(&shader.name),
                source: wgpu::ShaderSource::Wgsl(source.as_str().into()),
            };
            let mut checks = wgpu::ShaderRuntimeChecks::unchecked();
            checks.bounds_checks = self.0.bounds.load(Ordering::Relaxed);
            let module = if self.0.checked {
                device.create_shader_module(desc)
            } else {
                // SAFETY: every index of our kernels is bounded by the parameters that the same plan
                // computed from the bound sizes, and each kernel's cases run with checks on in CI.
                unsafe { device.create_shader_module_trusted(desc, checks) }
            };
            let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(&shader.name),
                entries: &entries,
            });
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&shader.name),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: if immediates { IMMEDIATE_BYTES } else { 0 },
            });
            let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&shader.name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    zero_initialize_workgroup_memory: self.0.checked,
                },
                cache: None,
            });
            (raw, layout)
        };
        // naga 30 panics on a few inputs that its validator accepts; that is an error here as well.
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.creating(build, |message, _| Error::Shader { name: shader.name.clone(), message })
        }));
        let (raw, layout) = caught.unwrap_or_else(|p| {
            let text = p.downcast_ref::<String>().cloned().unwrap_or_else(|| "compiler panicked".into());
            Err(Error::Shader { name: shader.name.clone(), message: one_line(&text) })
        })?;
        Ok(Pipeline { name: shader.name, raw, layout, bindings: shader.bindings })
    }
}
