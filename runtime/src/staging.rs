//! Uploads of much: host memory that the device copies from, kept and used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::one_line;
use crate::gpu::Gpu;
use crate::{Error, Result, Slice};

/// Two buffers of host memory that take turns: one is filled while the device copies from the other. For one
/// thread; several threads that upload have one each. A write through [`Gpu::write`] takes fresh memory each
/// time, which costs more than the copy does.
pub struct Staging {
    gpu: Gpu,
    bytes: u64,
    halves: [Half; 2],
}

#[derive(Default)]
struct Half {
    buffer: Option<wgpu::Buffer>,
    /// The submit that copies from it, where one was made.
    copied: Option<wgpu::SubmissionIndex>,
    /// Whether it is mapped again since then.
    mapped: Arc<AtomicBool>,
}

impl Gpu {
    /// Host memory for uploads of up to `bytes` at a time, allocated at the first of them.
    pub fn staging(&self, bytes: u64) -> Staging {
        Staging { gpu: self.clone(), bytes: bytes.next_multiple_of(8), halves: Default::default() }
    }
}

impl Staging {
    /// Uploads pieces (bytes, to where, at which offset there), in one submit. Lengths and offsets are
    /// multiples of 4. Returns when the bytes are taken, which is before they arrive.
    ///
    /// # Errors
    /// Out of memory; a fault of the device.
    ///
    /// # Panics
    /// With more bytes in all than it was made for.
    pub fn put(&mut self, pieces: &[(&[u8], &Slice, u64)]) -> Result<()> {
        // A browser maps from its event loop, for which nothing may wait here.
        if cfg!(target_arch = "wasm32") {
            return pieces.iter().try_for_each(|&(bytes, to, at)| self.gpu.write(to, at, bytes));
        }
        let device = &self.gpu.0.device;
        let half = &mut self.halves[0];
        if half.buffer.is_none() {
            let descriptor = wgpu::BufferDescriptor {
                label: Some("staging"),
                size: self.bytes,
                usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            };
            let made = self.gpu.creating(|| device.create_buffer(&descriptor), |m, _| Error::Gpu(m))?;
            half.buffer = Some(made);
        }
        let buffer = half.buffer.as_ref().expect("just made");
        if let Some(index) = half.copied.take() {
            // Another thread's wait may have found the copy done and be about to tell.
            while !half.mapped.swap(false, Ordering::Acquire) {
                self.gpu.wait(Some(index.clone()))?;
                std::thread::yield_now();
            }
        }
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut view =
            buffer.slice(..).get_mapped_range_mut().map_err(|e| Error::Gpu(one_line(&e.to_string())))?;
        let mut from = 0;
        for &(bytes, to, at) in pieces {
            assert!(at + bytes.len() as u64 <= to.size(), "write past the end of {}", to.size());
            view.slice(from..from + bytes.len()).copy_from_slice(bytes);
            let len = bytes.len() as u64;
            encoder.copy_buffer_to_buffer(buffer, from as u64, to.buffer(), to.offset() + at, len);
            from += bytes.len();
        }
        drop(view);
        buffer.unmap();
        let index = self.gpu.0.queue.submit([encoder.finish()]);
        let mapped = half.mapped.clone();
        // A failed mapping shows as a fault of the device, for which the wait looks.
        buffer.map_async(wgpu::MapMode::Write, .., move |_| mapped.store(true, Ordering::Release));
        half.copied = Some(index);
        self.halves.swap(0, 1);
        Ok(())
    }
}
