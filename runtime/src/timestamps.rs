//! The device's clock.

use crate::{Gpu, Pool, Result, Slice};

/// Time stamps at both ends of passes.
pub(crate) struct Clock {
    pub(crate) queries: wgpu::QuerySet,
    pub(crate) resolved: wgpu::Buffer,
    pub(crate) ticks: Slice,
    /// The first step of each pass.
    pub(crate) passes: Vec<usize>,
}

/// Passes of which one clock can tell the time: a query set holds 4,096 time stamps.
pub(crate) const MAX_PASSES: usize = 2048;

impl Clock {
    pub(crate) fn new(gpu: &Gpu, passes: usize) -> Result<Clock> {
        let device = &gpu.0.device;
        let stamps = 2 * passes.clamp(1, MAX_PASSES) as u32;
        let bytes = u64::from(stamps) * 8;
        Ok(Clock {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("clock"),
                ty: wgpu::QueryType::Timestamp,
                count: stamps,
            }),
            resolved: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("clock"),
                size: bytes,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
            ticks: gpu.alloc(Pool::State, bytes, "clock")?,
            passes: Vec::new(),
        })
    }

    /// The time stamps of a pass that begins with step `first`.
    pub(crate) fn pass(&mut self, first: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let at = 2 * self.passes.len() as u32;
        self.passes.push(first);
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        }
    }

    pub(crate) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        let stamps = 2 * self.passes.len() as u32;
        if stamps > 0 {
            let (bytes, to) = (u64::from(stamps) * 8, &self.ticks);
            encoder.resolve_query_set(&self.queries, 0..stamps, &self.resolved, 0);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, to.buffer(), to.offset(), bytes);
        }
    }

    /// Start and seconds of each pass, after the submit.
    pub(crate) fn read(&self, gpu: &Gpu) -> Result<Vec<(f64, f64)>> {
        let ticks: Vec<u64> = gpu.read_vec(&self.ticks)?;
        let period = f64::from(gpu.0.queue.get_timestamp_period()) * 1e-9;
        let first = ticks[0];
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 * period;
        let passes = ticks.chunks_exact(2).take(self.passes.len());
        Ok(passes.map(|t| (seconds(first, t[0]), seconds(t[0], t[1]))).collect())
    }
}
