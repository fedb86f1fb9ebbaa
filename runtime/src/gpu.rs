//! The open device: the one handle that everything else holds.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher as Trace, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::cache::Cache;
use crate::caps::{self, Caps, Without};
use crate::error::one_line;
use crate::pipeline::{Compiler, IMMEDIATE_BYTES};
use crate::slice::Pools;
use crate::{Budget, DeviceKind, Error, Pipeline, Profile, Result, Slice, Tuning};

/// How to open a device.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Adapter number or part of its name; the first real GPU if `None`.
    pub device: Option<String>,
    /// Limits to open with; the adapter's own if `None`.
    pub profile: Option<Profile>,
    /// Features to leave unused.
    pub without: Without,
    /// Keep naga's bounds checks and loop bounds in every shader (slow; for finding faults).
    pub checked: bool,
    /// Becomes [`Caps::variants`].
    pub variants: Vec<String>,
    /// Replaces the budget that follows from the limits: tests force splits with it.
    pub budget: Option<Budget>,
    /// Folder for compiled pipelines, such as [`default_cache`](crate::default_cache) gives; without one, nothing is
    /// read or written. Used where the driver can (Vulkan).
    pub cache: Option<PathBuf>,
    /// A file of measured constants, or a folder that may hold one for this device. The layer above reads it and
    /// hands what is in it to [`Gpu::tune`]; without one, nothing is read.
    pub tuning: Option<PathBuf>,
    /// Capabilities to plan and record for in place of the adapter's own, such as [`Caps::core`] gives. Nothing is
    /// compiled then, so that programs are listed ([`Recorder::listing`](crate::Recorder::listing)) and never
    /// run: they finish at once, and running them does nothing.
    pub stand_in: Option<Caps>,
    /// Keep a hash of all that is recorded and uploaded, for [`Gpu::take_trace`].
    pub traced: bool,
    /// What this device takes another one's kernels as: tests run those of hardware that is not here.
    pub emulation: Option<Emulation>,
}

/// Another device on this one.
#[derive(Debug, Clone, Copy)]
pub struct Emulation {
    /// Its capabilities, from this device's.
    pub caps: fn(Caps) -> Caps,
    /// The WGSL that is compiled for a kernel's.
    pub text: fn(&str) -> String,
}

pub(crate) struct Inner {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) checked: bool,
    /// Whether the capabilities are a stand-in's: nothing is compiled.
    pub(crate) records_only: bool,
    /// What is compiled for a kernel's text, where that is not the text itself.
    pub(crate) emulated: Option<fn(&str) -> String>,
    /// What [`Gpu::take_trace`] gives, where it is asked for.
    pub(crate) trace: Option<Mutex<Trace>>,
    pub(crate) bounds: AtomicBool,
    pub(crate) pools: Mutex<Pools>,
    pub(crate) pipelines: Mutex<HashMap<String, Arc<Pipeline>>>,
    pub(crate) compiler: Mutex<Compiler>,
    pub(crate) cache: Option<Cache>,
    pub(crate) in_flight: Mutex<VecDeque<wgpu::SubmissionIndex>>,
    pub(crate) unflushed: Mutex<u64>,
    /// How much longer submits take here than was estimated.
    pub(crate) pace: Mutex<f64>,
    fault: Arc<Mutex<Option<Error>>>,
}

/// An open device. Cheap to clone; all clones are one device.
#[derive(Clone)]
pub struct Gpu(pub(crate) Arc<Inner>, Arc<View>);

/// What is recorded on a device may use.
#[derive(Clone)]
struct View {
    caps: Caps,
    budget: Budget,
    /// Whether it is that of [`Gpu::without_f16`].
    without_f16: bool,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({})", self.caps().name)
    }
}

/// Bytes of uploads that may wait in driver staging before we make the device take them: host memory
/// stays this small however large the model is.
const UPLOAD_WINDOW: u64 = 64 << 20;

/// Submits that may be queued. Two hide the CPU's recording; more only add latency to Ctrl-C.
const MAX_IN_FLIGHT: usize = 3;

impl Gpu {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], [`Error::NoSuchAdapter`], [`Error::LimitTooHigh`] where the adapter has
    /// less than the profile asks, [`Error::OpenDevice`] otherwise.
    pub async fn open(options: &Options) -> Result<Gpu> {
        let instance = caps::instance();
        let adapter = caps::pick(&instance, options.device.as_deref()).await?;
        let mut features = caps::features(&adapter, options.without);
        let cache =
            options.cache.as_ref().filter(|_| adapter.features().contains(wgpu::Features::PIPELINE_CACHE));
        features.set(wgpu::Features::PIPELINE_CACHE, cache.is_some());
        let cache = cache.map(|folder| Cache::new(folder, &adapter.get_info(), features));
        let mut caps = Caps::of(&adapter, features, options.without);
        let limits = match options.profile {
            None => adapter.limits(),
            Some(p) => p.limits(&adapter.limits()).map_err(|(what, wanted, available)| {
                Error::LimitTooHigh { adapter: caps.name.clone(), what, wanted, available }
            })?,
        };
        caps.limits = limits.clone();
        caps.variants.clone_from(&options.variants);
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("weft"),
                required_features: features,
                required_limits: limits.clone(),
                // SAFETY: cooperative matrices are behind this gate; every shader of ours that uses
                // them is validated and run against its reference.
                experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                trace: wgpu::Trace::Off,
            })
            .await
            .map_err(|e| Error::OpenDevice(e.to_string()))?;

        let fault = Arc::new(Mutex::new(None));
        let lost = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Destroyed is what dropping the last handle reports: nobody is left to tell.
            if reason != wgpu::DeviceLostReason::Destroyed {
                *lost.lock().unwrap() = Some(Error::DeviceLost(one_line(&message)));
            }
        });
        let uncaptured = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            uncaptured.lock().unwrap().get_or_insert_with(|| Error::Gpu(one_line(&e.to_string())));
        }));

        let records_only = options.stand_in.is_some();
        if let Some(stand_in) = &options.stand_in {
            caps = Caps { variants: caps.variants, ..stand_in.clone() };
        }
        if let Some(emulation) = &options.emulation {
            caps = (emulation.caps)(caps);
        }
        let mut budget = Budget::from_limits(&caps.limits);
        if let Some(p) = options.profile {
            let named = p.budget();
            budget.submit_dispatches = named.submit_dispatches;
            budget.submit_ms = named.submit_ms;
        }
        if caps.kind == DeviceKind::Cpu {
            budget.submit_ms = 400.0;
        }
        budget.dispatch_flops = 10.0 * caps.rates().1 * budget.submit_ms * 1e-3;
        budget.matrices = !caps.coop.is_empty();
        if let Some(b) = &options.budget {
            budget = b.clone();
        }
        let inner = Inner {
            device,
            queue,
            checked: options.checked,
            records_only,
            emulated: options.emulation.map(|e| e.text),
            trace: options.traced.then(Mutex::default),
            bounds: AtomicBool::new(false),
            pools: Mutex::default(),
            pipelines: Mutex::default(),
            compiler: Mutex::default(),
            cache,
            in_flight: Mutex::default(),
            unflushed: Mutex::default(),
            pace: Mutex::new(1.0),
            fault,
        };
        Ok(Gpu(Arc::new(inner), Arc::new(View { caps, budget, without_f16: false })))
    }

    /// The same device and memory, for programs that use neither f16 arithmetic nor cooperative matrices: what is
    /// beyond f16 stays finite in them. `None` where programs use neither as it is.
    pub fn without_f16(&self) -> Option<Gpu> {
        let before = &*self.1;
        if !before.caps.f16 && before.caps.coop.is_empty() {
            return None;
        }
        let mut view = View { without_f16: true, ..before.clone() };
        view.caps.f16 = false;
        view.caps.coop.clear();
        view.budget.dispatch_flops *= view.caps.rates().1 / before.caps.rates().1;
        Some(Gpu(self.0.clone(), Arc::new(view)))
    }

    /// By what a pipeline is kept: kernels of one name may differ in what they use.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.1.without_f16 { format!("{name} without f16") } else { name.to_owned() }
    }

    /// What the device can do.
    pub fn caps(&self) -> &Caps {
        &self.1.caps
    }

    /// Whether parameters come as immediates.
    pub(crate) fn immediates(&self) -> bool {
        self.caps().immediates && self.caps().limits.max_immediate_size >= IMMEDIATE_BYTES
    }

    /// Keeps naga's bounds checks in the shaders compiled from now on, and no other checks.
    pub fn check_bounds(&self) {
        self.0.bounds.store(true, Ordering::Relaxed);
    }

    /// Becomes [`Caps::tuning`].
    ///
    /// # Panics
    /// If the device was cloned before.
    pub fn tune(&mut self, tuning: Tuning) {
        Arc::get_mut(&mut self.1).expect("a device just opened").caps.tuning = tuning;
    }

    /// A hash of all that was recorded and uploaded since the last call: composed shaders, parameters, sizes of
    /// bindings, grids and bytes, in order. The same on every device that is opened with the same
    /// [`Options`], a stand-in or not. `None` without [`Options::traced`].
    pub fn take_trace(&self) -> Option<u64> {
        self.0.trace.as_ref().map(|t| std::mem::take(&mut *t.lock().unwrap()).finish())
    }

    /// Adds to the trace.
    pub(crate) fn trace(&self, what: &impl Hash) {
        if let Some(trace) = &self.0.trace {
            what.hash(&mut *trace.lock().unwrap());
        }
    }

    /// Whether nothing that is recorded here runs.
    pub fn records_only(&self) -> bool {
        self.0.records_only
    }

    /// What plans must stay inside.
    pub fn budget(&self) -> &Budget {
        &self.1.budget
    }

    /// The first fault since the device was opened, as an error; faults stay.
    pub fn check(&self) -> Result<()> {
        match &*self.0.fault.lock().unwrap() {
            Some(e) => Err(e.clone()),
            None => Ok(()),
        }
    }

    /// Writes `bytes` into `slice` at `offset`, in queue order. Lengths are multiples of 4.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn write(&self, slice: &Slice, offset: u64, bytes: &[u8]) -> Result<()> {
        assert!(offset + bytes.len() as u64 <= slice.size(), "write past the end of {}", slice.size());
        self.trace(&(offset, bytes));
        if self.0.records_only {
            return Ok(());
        }
        self.upload(slice, offset, bytes)
    }

    /// As [`Gpu::write`], of what the trace has already.
    pub(crate) fn upload(&self, slice: &Slice, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.queue.write_buffer(slice.buffer(), slice.offset() + offset, bytes);
        let mut waiting = self.0.unflushed.lock().unwrap();
        *waiting += bytes.len() as u64;
        if *waiting >= UPLOAD_WINDOW {
            *waiting = 0;
            drop(waiting);
            self.flush()?;
        }
        Ok(())
    }

    /// Makes the device take all uploads and waits for them, so that their staging memory is freed.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn flush(&self) -> Result<()> {
        let index = self.0.queue.submit([]);
        self.wait(Some(index))
    }

    /// Waits for a submission (`None`: for all). On the web this returns at once.
    pub(crate) fn wait(&self, index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let poll = self.0.device.poll(wgpu::PollType::Wait { submission_index: index, timeout: None });
        self.check()?;
        poll.map(|_| ()).map_err(|e| Error::Gpu(one_line(&e.to_string())))
    }

    /// Waits until the device is idle.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn sync(&self) -> Result<()> {
        self.0.in_flight.lock().unwrap().clear();
        self.wait(None)
    }

    /// Submits and keeps the queue bounded.
    pub(crate) fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        let index = self.0.queue.submit([encoder.finish()]);
        let mut queue = self.0.in_flight.lock().unwrap();
        queue.push_back(index.clone());
        // A software GPU computes on the host's cores, which gain nothing from a second submit in the queue.
        let most = if self.caps().kind == DeviceKind::Cpu { 0 } else { MAX_IN_FLIGHT };
        let oldest = (queue.len() > most).then(|| queue.pop_front()).flatten();
        drop(queue);
        if let Some(oldest) = oldest {
            // A fault shows at the next check; here it only ends the wait.
            let _ = self.wait(Some(oldest));
        }
        index
    }

    /// Runs `f`, which creates a GPU object, and turns what wgpu reports into an error.
    pub(crate) fn creating<T>(
        &self,
        f: impl FnOnce() -> T,
        to_error: impl Fn(String, bool) -> Error,
    ) -> Result<T> {
        // A browser answers scopes from its event loop, for which nothing may wait here: there, faults
        // show at the next check.
        if cfg!(target_arch = "wasm32") {
            return Ok(f());
        }
        let oom = self.0.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.0.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.0.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = f();
        let v = pollster::block_on(validation.pop());
        let i = pollster::block_on(internal.pop());
        let o = pollster::block_on(oom.pop());
        match (v.or(i), o) {
            (None, None) => Ok(made),
            (_, Some(e)) => Err(to_error(one_line(&e.to_string()), true)),
            (Some(e), None) => Err(to_error(one_line(&e.to_string()), false)),
        }
    }
}
