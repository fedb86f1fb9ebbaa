//! Programs: dispatches recorded once, replayed many times.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Instant;

use crate::pipeline::IMMEDIATE_BYTES;
use crate::readback::Readback;
use crate::timestamps::Clock;
use crate::{Access, Budget, DeviceKind, Error, Gpu, Pipeline, Pool, Result, Slice};

/// What a dispatch moves and computes, for bounding submits and for `perf`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Bytes read and written.
    pub bytes: f64,
    /// Floating-point operations.
    pub flops: f64,
}

pub(crate) enum Step {
    Dispatch {
        pipeline: Arc<Pipeline>,
        group: wgpu::BindGroup,
        /// The parameters, where they are no uniform.
        immediates: Vec<u8>,
        grid: [u32; 3],
        ms: f64,
    },
    Copy {
        from: Slice,
        to: Slice,
    },
}

impl Step {
    /// Estimated.
    fn ms(&self) -> f64 {
        match self {
            Step::Dispatch { ms, .. } => *ms,
            Step::Copy { .. } => 0.0,
        }
    }
}

/// A recorded list of dispatches. Replaying it patches nothing: what changes lives in GPU buffers.
pub struct Program {
    pub(crate) steps: Vec<Step>,
    _params: Option<Slice>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({} steps)", self.steps.len())
    }
}

impl Program {
    /// Number of dispatches.
    pub fn dispatches(&self) -> usize {
        self.steps.iter().filter(|s| matches!(s, Step::Dispatch { .. })).count()
    }

    /// Each dispatch's pipeline name and grid, in order.
    pub fn listing(&self) -> impl Iterator<Item = (&str, [u32; 3])> {
        self.steps.iter().filter_map(|s| match s {
            Step::Dispatch { pipeline, grid, .. } => Some((pipeline.name(), *grid)),
            Step::Copy { .. } => None,
        })
    }
}

enum Recorded {
    Dispatch {
        pipeline: Arc<Pipeline>,
        params: Range<usize>,
        bindings: Vec<Slice>,
        grid: [u32; 3],
        cost: Cost,
    },
    Copy {
        from: Slice,
        to: Slice,
    },
}

/// Records a [`Program`].
pub struct Recorder {
    gpu: Gpu,
    steps: Vec<Recorded>,
    params: Vec<u8>,
}

/// Parameter blocks start at multiples of this: the largest uniform alignment WebGPU allows.
const PARAM_STRIDE: usize = 256;

impl Recorder {
    /// An empty recording on `gpu`.
    pub fn new(gpu: &Gpu) -> Recorder {
        Recorder { gpu: gpu.clone(), steps: Vec::new(), params: Vec::new() }
    }

    /// The device recorded for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Adds a dispatch. `params` becomes the uniform at binding 0, or the immediates, `bindings` what
    /// stands from 1 on.
    ///
    /// # Panics
    /// If the number of bindings is not the shader's, or the grid exceeds the budget: a plan is wrong.
    pub fn dispatch<P: bytemuck::NoUninit>(
        &mut self,
        pipeline: &Arc<Pipeline>,
        params: &P,
        bindings: &[&Slice],
        grid: [u32; 3],
        cost: Cost,
    ) {
        assert_eq!(bindings.len(), pipeline.bindings.len(), "bindings of {}", pipeline.name);
        let most = self.gpu.budget().max_workgroups;
        assert!(grid.iter().all(|&g| g <= most), "{}: grid {grid:?} over {most}", pipeline.name);
        for (i, b) in bindings.iter().enumerate() {
            assert!(
                b.size() <= self.gpu.budget().max_binding && b.offset() % self.gpu.budget().align == 0,
                "{}: binding {} of {} bytes at {}",
                pipeline.name,
                i + 1,
                b.size(),
                b.offset()
            );
        }
        if grid.contains(&0) {
            return;
        }
        let bytes = bytemuck::bytes_of(params);
        assert!(bytes.len() <= IMMEDIATE_BYTES as usize);
        let at = self.params.len();
        self.params.extend_from_slice(bytes);
        self.params.resize(at + PARAM_STRIDE, 0);
        self.steps.push(Recorded::Dispatch {
            pipeline: pipeline.clone(),
            params: at..at + bytes.len(),
            bindings: bindings.iter().map(|&s| s.clone()).collect(),
            grid,
            cost,
        });
    }

    /// Adds a copy between buffers of different pools, or of one pool's different blocks.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn copy(&mut self, from: &Slice, to: &Slice) {
        assert_eq!(from.size(), to.size());
        self.steps.push(Recorded::Copy { from: from.clone(), to: to.clone() });
    }

    /// Each dispatch and copy so far, in order: the pipeline's name (`copy`), the grid, and the bytes that each
    /// binding covers.
    pub fn listing(&self) -> Vec<(String, [u32; 3], Vec<u64>)> {
        let line = |step: &Recorded| match step {
            Recorded::Copy { from, to } => ("copy".to_owned(), [0; 3], vec![from.size(), to.size()]),
            Recorded::Dispatch { pipeline, bindings, grid, .. } => {
                (pipeline.name().to_owned(), *grid, bindings.iter().map(Slice::size).collect())
            }
        };
        self.steps.iter().map(line).collect()
    }

    /// Uploads the parameters, makes the bind groups and waits for pipelines that are still compiling.
    ///
    /// # Errors
    /// [`Error::Shader`] with the driver's or naga's message; out of memory, or a fault of the device.
    pub fn finish(self) -> Result<Program> {
        let Recorder { gpu, steps, params: bytes } = self;
        for step in &steps {
            match step {
                Recorded::Copy { from, to } => gpu.trace(&(from.size(), to.size())),
                Recorded::Dispatch { pipeline, params, bindings, grid, .. } => {
                    let sizes: Vec<u64> = bindings.iter().map(Slice::size).collect();
                    gpu.trace(&(pipeline.digest, &bytes[params.clone()], sizes, grid));
                }
            }
        }
        if gpu.0.records_only {
            return Ok(Program { steps: Vec::new(), _params: None });
        }
        let params = match gpu.immediates() || bytes.is_empty() {
            true => None,
            false => {
                let params = gpu.alloc(Pool::Params, bytes.len() as u64, "parameters")?;
                gpu.upload(&params, 0, &bytes)?;
                Some(params)
            }
        };
        let rates = gpu.caps().rates();
        let step = |step| match step {
            Recorded::Copy { from, to } => Ok(Step::Copy { from, to }),
            Recorded::Dispatch { pipeline, params: at, bindings, grid, cost } => {
                let uniform = params.as_ref().map(|p| p.range(at.start as u64, PARAM_STRIDE as u64));
                let textures: Vec<Option<wgpu::TextureView>> = (bindings.iter().zip(&pipeline.bindings))
                    .map(|(s, access)| {
                        (*access == Access::Texels).then(|| s.texels(&gpu.0.device)).transpose()
                    })
                    .collect::<Result<_>>()?;
                let resources = bindings.iter().zip(&textures).map(|(s, texture)| match texture {
                    Some(view) => wgpu::BindingResource::TextureView(view),
                    None => storage(s),
                });
                let entries: Vec<_> = (uniform.iter())
                    .map(|u| (0, storage(u)))
                    .chain((1..).zip(resources))
                    .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
                    .collect();
                let group = gpu.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(&pipeline.name),
                    layout: &pipeline.layout,
                    entries: &entries,
                });
                let ms = (cost.bytes / rates.0).max(cost.flops / rates.1) * 1e3 + 0.003;
                let immediates = match uniform {
                    Some(_) => Vec::new(),
                    None => bytes[at].to_vec(),
                };
                Ok(Step::Dispatch { pipeline, group, immediates, grid, ms })
            }
        };
        let make = || steps.into_iter().map(step).collect::<Result<Vec<Step>>>();
        let steps = gpu.creating(make, |message, _| Error::Gpu(message))??;
        for step in &steps {
            if let Step::Dispatch { pipeline, .. } = step {
                pipeline.ready()?;
            }
        }
        Ok(Program { steps, _params: params })
    }
}

fn storage(s: &Slice) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: s.buffer(),
        offset: s.offset(),
        size: std::num::NonZeroU64::new(s.size()),
    })
}

/// A replay on its way, with the bytes it was asked to bring back.
pub struct Submission {
    /// The read back, if one was asked for.
    pub readback: Option<Readback>,
}

impl Gpu {
    /// Replays `program` in as many submits as the budget asks for, then starts reading `read` back
    /// in the last of them. Does not wait, except to keep the queue bounded.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn run(&self, program: &Program, read: Option<&Slice>) -> Result<Submission> {
        let all = self.run_while(program, read, &mut || ControlFlow::Continue(()))?;
        Ok(all.expect("nothing stops it"))
    }

    /// As [`Gpu::run`], asking `go_on` before each submit but the first: `None` where it said `Break`, which
    /// leaves the rest of the program undone.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn run_while(
        &self,
        program: &Program,
        read: Option<&Slice>,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Submission>> {
        self.check()?;
        let mut rest = &program.steps[..];
        loop {
            let mut encoder = self.0.device.create_command_encoder(&Default::default());
            let (count, estimated) = self.fitting(rest);
            let (now, later) = rest.split_at(count);
            encode(&mut encoder, now, None, false);
            rest = later;
            if !rest.is_empty() {
                self.submit_in(encoder, estimated);
                if go_on().is_break() {
                    return Ok(None);
                }
                continue;
            }
            let staging = read.map(|s| Readback::copy(self, &mut encoder, std::slice::from_ref(s)));
            let submission = self.submit_in(encoder, estimated);
            self.check()?;
            let readback = staging.map(|s| Readback::map(self, s, submission));
            return Ok(Some(Submission { readback }));
        }
    }

    /// How many of `steps` one submit takes, and the milliseconds that they were estimated at.
    pub(crate) fn fitting(&self, steps: &[Step]) -> (usize, f64) {
        fitting(self.budget(), *self.0.pace.lock().unwrap(), steps.iter().map(Step::ms))
    }

    /// As [`Gpu::submit`]. A software GPU, for which that waits, tells here how long `estimated` milliseconds
    /// are: its speed depends on what else the cores do.
    fn submit_in(&self, encoder: wgpu::CommandEncoder, estimated: f64) -> wgpu::SubmissionIndex {
        if self.caps().kind != DeviceKind::Cpu || cfg!(target_arch = "wasm32") {
            return self.submit(encoder);
        }
        let start = Instant::now();
        let index = self.submit(encoder);
        self.learn(estimated, start.elapsed().as_secs_f64() * 1e3);
        index
    }

    /// What `estimated` milliseconds took.
    pub(crate) fn learn(&self, estimated: f64, took: f64) {
        // Most of what a short one takes is not the dispatches.
        if estimated > 1.0 {
            let mut pace = self.0.pace.lock().unwrap();
            *pace = (0.5 * (*pace + took / estimated)).clamp(0.1, 100.0);
        }
    }
}

/// How many steps of so many estimated milliseconds one submit takes, at least one, then as many as the budget
/// allows on a device that takes `pace` times as long as estimated; and their estimates' sum.
fn fitting(budget: &Budget, pace: f64, steps: impl Iterator<Item = f64>) -> (usize, f64) {
    let most = budget.submit_ms / pace;
    let (mut count, mut ms) = (0, 0.0);
    for step in steps {
        if count > 0 && (ms + step > most || count >= budget.submit_dispatches) {
            break;
        }
        ms += step;
        count += 1;
    }
    (count, ms)
}

/// Records `steps`: dispatches that follow each other share a pass. With a clock, passes have time stamps at
/// both ends; with `apart`, every dispatch has a pass of its own.
pub(crate) fn encode(
    encoder: &mut wgpu::CommandEncoder,
    steps: &[Step],
    mut clock: Option<&mut Clock>,
    apart: bool,
) {
    let mut at = 0;
    while let Some(step) = steps.get(at) {
        if let Step::Copy { from, to } = step {
            encoder.copy_buffer_to_buffer(
                from.buffer(),
                from.offset(),
                to.buffer(),
                to.offset(),
                from.size(),
            );
            at += 1;
            continue;
        }
        let timestamp_writes = clock.as_mut().map(|c| c.pass(at));
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
        let mut bound: Option<&Arc<Pipeline>> = None;
        while let Some(Step::Dispatch { pipeline, group, immediates, grid, .. }) = steps.get(at) {
            if !bound.is_some_and(|b| Arc::ptr_eq(b, pipeline)) {
                pass.set_pipeline(pipeline.raw());
                bound = Some(pipeline);
            }
            if !immediates.is_empty() {
                pass.set_immediates(0, immediates);
            }
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
            at += 1;
            if apart {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fitting;
    use crate::Budget;

    fn split(budget: &Budget, pace: f64, mut steps: &[f64]) -> Vec<usize> {
        let mut all = Vec::new();
        while !steps.is_empty() {
            let (count, ms) = fitting(budget, pace, steps.iter().copied());
            assert_eq!(ms, steps[..count].iter().sum::<f64>());
            all.push(count);
            steps = &steps[count..];
        }
        all
    }

    #[test]
    fn submits_are_bounded_in_count_and_time() {
        let budget = Budget { submit_dispatches: 4, submit_ms: 10.0, ..Budget::WEBGPU };
        assert_eq!(split(&budget, 1.0, &[1.0; 9]), [4, 4, 1], "by count");
        assert_eq!(split(&budget, 1.0, &[4.0; 5]), [2, 2, 1], "by time");
        // A step that is too long goes alone, and nothing is left out.
        assert_eq!(split(&budget, 1.0, &[1.0, 50.0, 1.0, 1.0]), [1, 1, 2]);
        assert_eq!(split(&budget, 1.0, &[]), [0; 0]);
        // A device that takes twice as long as estimated gets half as much.
        assert_eq!(split(&budget, 2.0, &[2.0; 4]), [2, 2]);
        assert_eq!(split(&budget, 0.5, &[6.0; 6]), [3, 3]);
    }
}
