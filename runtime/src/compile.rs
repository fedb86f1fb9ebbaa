//! Pipelines are compiled in the background from their first request on, and kept by name.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use crate::cache::Entry;
use crate::clock::Stopwatch;
use crate::error::one_line;
use crate::gpu::Gpu;
use crate::pipeline::{Access, CompileJob, Compiled, IMMEDIATE_BYTES, Pipeline, Shader};
use crate::{Error, Result};

/// The uniform as every kernel declares it, and what stands for it on a device with immediates: a kernel's
/// first instructions need its parameters, and the command stream brings them without a load.
const UNIFORM: &str = "@group(0) @binding(0) var<uniform> p: Params;";
const IMMEDIATE: &str = "var<immediate> p: Params;";

/// A driver that keeps nothing, as lavapipe's, gives wgpu's header and its own and no more.
const HEADERS: usize = 256;

impl Gpu {
    /// The pipeline of the shader called `name`, composed by `shader` at the first request. It compiles in
    /// another thread; what uses it waits for it, and has the error if the driver or naga refuses it.
    ///
    /// # Errors
    /// A layout that the device cannot have.
    pub fn pipeline(&self, name: &str, shader: impl FnOnce() -> Shader) -> Result<Arc<Pipeline>> {
        self.known(name, name, shader, if self.immediates() { IMMEDIATE } else { UNIFORM })
    }

    /// As [`Gpu::pipeline`], with the parameters in the shader's text: `literal` is their value in WGSL, and a
    /// dispatch then gets `&()`. A pipeline for each value, so this is for kernels that see few and must start at
    /// once: on an H200 immediates that change from dispatch to dispatch cost each 0.5 us.
    ///
    /// # Errors
    /// As [`Gpu::pipeline`].
    pub fn specialised(
        &self,
        name: &str,
        literal: &str,
        shader: impl FnOnce() -> Shader,
    ) -> Result<Arc<Pipeline>> {
        self.known(&format!("{name} {literal}"), name, shader, &format!("const p = {literal};"))
    }

    /// The pipeline that is kept by `key`.
    fn known(
        &self,
        key: &str,
        name: &str,
        shader: impl FnOnce() -> Shader,
        params: &str,
    ) -> Result<Arc<Pipeline>> {
        let key = self.key(key);
        let mut known = self.0.pipelines.lock().unwrap();
        if let Some(p) = known.get(&key) {
            return Ok(p.clone());
        }
        let mut shader = shader();
        debug_assert_eq!(shader.name, name);
        debug_assert!(shader.source.contains(UNIFORM), "{name} declares its parameters otherwise");
        shader.source = shader.source.replacen(UNIFORM, params, 1);
        if let Some(emulated) = self.0.emulated {
            shader.source = emulated(&shader.source);
        }
        let pipeline = Arc::new(self.layout(&shader)?);
        known.insert(key, pipeline.clone());
        drop(known);
        if self.0.records_only {
            return Ok(pipeline);
        }
        let mut checks = wgpu::ShaderRuntimeChecks::unchecked();
        checks.bounds_checks = self.0.bounds.load(Ordering::Relaxed);
        self.enqueue(CompileJob {
            pipeline: pipeline.clone(),
            source: shader.source,
            checked: self.0.checked,
            checks,
        });
        Ok(pipeline)
    }

    /// What was compiled since the device was opened.
    pub fn compiled(&self) -> Compiled {
        self.0.compiler.lock().unwrap().done
    }

    fn layout(&self, shader: &Shader) -> Result<Pipeline> {
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty,
            count: None,
        };
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let storage = |read_only| buffer(wgpu::BufferBindingType::Storage { read_only });
        let mut entries = Vec::new();
        if !self.immediates() {
            entries.push(entry(0, buffer(wgpu::BufferBindingType::Uniform)));
        }
        for (i, access) in shader.bindings.iter().enumerate() {
            let ty = match access {
                Access::Read => storage(true),
                Access::ReadWrite => storage(false),
                Access::Texels => wgpu::BindingType::Texture {
                    sample_type: wgpu::TextureSampleType::Uint,
                    view_dimension: wgpu::TextureViewDimension::D2,
                    multisampled: false,
                },
            };
            entries.push(entry(i as u32 + 1, ty));
        }
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(&shader.name), entries: &entries };
        let layout = self.creating(
            || self.0.device.create_bind_group_layout(&descriptor),
            |message, _| Error::Shader { name: shader.name.clone(), message },
        )?;
        let (name, bindings) = (shader.name.clone(), shader.bindings.clone());
        let mut digest = DefaultHasher::new();
        shader.source.hash(&mut digest);
        Ok(Pipeline { name, layout, bindings, digest: digest.finish(), raw: OnceLock::new() })
    }

    #[cfg(target_arch = "wasm32")]
    fn enqueue(&self, job: CompileJob) {
        self.finish(&job);
    }

    /// Starts a thread for it unless there are enough.
    #[cfg(not(target_arch = "wasm32"))]
    fn enqueue(&self, job: CompileJob) {
        let most = std::thread::available_parallelism().map_or(1, |n| n.get());
        let mut compiler = self.0.compiler.lock().unwrap();
        compiler.waiting.push_back(job);
        if compiler.threads < most {
            compiler.threads += 1;
            let gpu = self.clone();
            std::thread::spawn(move || {
                loop {
                    let mut compiler = gpu.0.compiler.lock().unwrap();
                    let Some(job) = compiler.waiting.pop_front() else {
                        compiler.threads -= 1;
                        break;
                    };
                    drop(compiler);
                    gpu.finish(&job);
                }
            });
        }
    }

    fn finish(&self, job: &CompileJob) {
        tracing::debug!(name = job.pipeline.name, "compile");
        let start = Stopwatch::start();
        let entry = self
            .0
            .cache
            .as_ref()
            .map(|c| c.entry(&format!("{} {:?}\n{}", job.checked, job.checks, job.source)));
        let kept = entry.as_ref().and_then(Entry::read).and_then(|data| self.driver_cache(Some(&data)));
        let cached = kept.is_some();
        let cache = kept.or_else(|| entry.as_ref().and_then(|_| self.driver_cache(None)));
        let result = self.compile(job, cache.as_ref());
        let failed = result.is_err();
        {
            let done = &mut self.0.compiler.lock().unwrap().done;
            *(if cached { &mut done.cached } else { &mut done.compiled }) += 1;
            done.seconds += start.elapsed().as_secs_f64();
        }
        // Set once: the job is in no other hands.
        let _ = job.pipeline.raw.set(result);
        if !cached
            && !failed
            && let (Some(entry), Some(data)) = (entry, cache.and_then(|c| c.get_data()))
            && data.len() > HEADERS
        {
            entry.write(&data);
        }
    }

    /// The driver's own cache, of one pipeline: filled, or empty to be filled. `None` where the driver does not
    /// take the data.
    fn driver_cache(&self, data: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data, fallback: false };
        // SAFETY: the data came from `get_data`, for the same adapter and driver: their names and a hash of the
        // data are kept beside it.
        let make = || unsafe { self.0.device.create_pipeline_cache(&descriptor) };
        self.creating(make, |message, _| Error::Gpu(message)).ok()
    }

    /// The shader as wgpu gets it.
    fn source<'a>(&self, job: &'a CompileJob) -> wgpu::ShaderSource<'a> {
        #[cfg(not(target_arch = "wasm32"))]
        if self.caps().backend == "vulkan"
            && let Some(module) =
                crate::barriers::ordered(&job.source, self.caps().kind == crate::DeviceKind::Cpu)
        {
            return wgpu::ShaderSource::Naga(std::borrow::Cow::Owned(module));
        }
        wgpu::ShaderSource::Wgsl(job.source.as_str().into())
    }

    fn compile(
        &self,
        job: &CompileJob,
        cache: Option<&wgpu::PipelineCache>,
    ) -> Result<wgpu::ComputePipeline> {
        let device = &self.0.device;
        let name = &job.pipeline.name;
        let build = || {
            let desc = wgpu::ShaderModuleDescriptor { label: Some(name), source: self.source(job) };
            let module = if job.checked {
                device.create_shader_module(desc)
            } else {
                // SAFETY: every index of our kernels is bounded by the parameters that the same plan
                // computed from the bound sizes, and each kernel's cases run with checks on in CI.
                unsafe { device.create_shader_module_trusted(desc, job.checks) }
            };
            let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(name),
                bind_group_layouts: &[Some(&job.pipeline.layout)],
                immediate_size: if self.immediates() { IMMEDIATE_BYTES } else { 0 },
            });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    zero_initialize_workgroup_memory: job.checked,
                },
                cache,
            })
        };
        // naga 30 panics on a few inputs that its validator accepts; that is an error here as well.
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.creating(build, |message, _| Error::Shader { name: name.clone(), message })
        }));
        caught.unwrap_or_else(|p| {
            let text = p.downcast_ref::<String>().cloned().unwrap_or_else(|| "compiler panicked".into());
            Err(Error::Shader { name: name.clone(), message: one_line(&text) })
        })
    }
}
