//! Bytes on their way back from the device.

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::error::one_line;
use crate::gpu::Gpu;
use crate::slice::Slice;
use crate::{Error, Result};

/// How code waits that serves natively and in browsers: the blocking form of a function is its asynchronous form, run
/// with [`Wait::Block`], which never suspends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The thread stops until it is there. A browser cannot.
    Block,
    /// Whoever awaits does something else meanwhile.
    Await,
}

#[derive(Default)]
struct Mapped {
    done: Option<std::result::Result<(), String>>,
    waker: Option<Waker>,
}

/// Bytes on their way back from the GPU: a future, or a blocking [`Readback::wait`].
#[must_use]
pub struct Readback {
    gpu: Gpu,
    staging: wgpu::Buffer,
    size: u64,
    mapped: Arc<Mutex<Mapped>>,
    /// The submit that copies: waiting for it leaves later ones running.
    submission: wgpu::SubmissionIndex,
    #[cfg(not(target_arch = "wasm32"))]
    polling: bool,
}

impl Readback {
    /// Records the copy of slices, one behind the other, into a fresh staging buffer.
    pub(crate) fn copy(
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        slices: &[Slice],
    ) -> (wgpu::Buffer, u64) {
        let size = slices.iter().map(Slice::size).sum();
        let staging = gpu.0.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut at = 0;
        for slice in slices {
            encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset, &staging, at, slice.size);
            at += slice.size;
        }
        (staging, size)
    }

    /// Asks for the mapping, after the copy was submitted.
    pub(crate) fn map(
        gpu: &Gpu,
        (staging, size): (wgpu::Buffer, u64),
        submission: wgpu::SubmissionIndex,
    ) -> Readback {
        let mapped = Arc::new(Mutex::new(Mapped::default()));
        let signal = mapped.clone();
        staging.slice(..).map_async(wgpu::MapMode::Read, move |r| {
            let mut m = signal.lock().unwrap();
            m.done = Some(r.map_err(|e| one_line(&e.to_string())));
            if let Some(w) = m.waker.take() {
                w.wake();
            }
        });
        Readback {
            gpu: gpu.clone(),
            staging,
            size,
            mapped,
            submission,
            #[cfg(not(target_arch = "wasm32"))]
            polling: false,
        }
    }

    fn take<T: bytemuck::Pod>(&self, result: std::result::Result<(), String>) -> Result<Vec<T>> {
        self.gpu.check()?;
        result.map_err(Error::Gpu)?;
        let view = self.staging.get_mapped_range(..).map_err(|e| Error::Gpu(one_line(&e.to_string())))?;
        Ok(bytemuck::pod_collect_to_vec(&view[..self.size as usize]))
    }

    /// Blocks until the bytes are here. Not on the web: await there.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn wait(self) -> Result<Vec<u8>> {
        self.wait_as()
    }

    /// The same as values of another type, which saves a copy of the bytes.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn wait_as<T: bytemuck::Pod>(self) -> Result<Vec<T>> {
        if cfg!(target_arch = "wasm32") {
            return Err(Error::Gpu("a browser cannot wait: await the read back instead".into()));
        }
        loop {
            if let Some(done) = self.mapped.lock().unwrap().done.take() {
                return self.take(done);
            }
            self.gpu.wait(Some(self.submission.clone()))?;
        }
    }
}

impl Readback {
    /// The bytes, waited for as `wait` says.
    ///
    /// # Errors
    /// A fault of the device.
    pub async fn by(self, wait: Wait) -> Result<Vec<u8>> {
        match wait {
            Wait::Block => self.wait(),
            Wait::Await => self.await,
        }
    }
}

impl Gpu {
    /// Waits until all that was submitted and uploaded is done. In a browser this is what keeps the queue short, since
    /// no submit waits there.
    ///
    /// # Errors
    /// A fault of the device.
    pub async fn settle(&self, wait: Wait) -> Result<()> {
        if wait == Wait::Block {
            return self.sync();
        }
        let done = Arc::new(Mutex::new(Mapped::default()));
        let signal = done.clone();
        self.0.queue.on_submitted_work_done(move || {
            let mut d = signal.lock().unwrap();
            d.done = Some(Ok(()));
            if let Some(w) = d.waker.take() {
                w.wake();
            }
        });
        #[cfg(not(target_arch = "wasm32"))]
        {
            let gpu = self.clone();
            std::thread::spawn(move || gpu.wait(None));
        }
        std::future::poll_fn(|cx| {
            let mut d = done.lock().unwrap();
            if d.done.is_some() {
                return Poll::Ready(());
            }
            d.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        self.check()
    }

    /// Reads `slice` back. Await it, or block on it with [`Readback::wait`].
    pub fn read(&self, slice: &Slice) -> Readback {
        self.read_all(std::slice::from_ref(slice))
    }

    /// Reads slices back, one behind the other, by one submit.
    pub fn read_all(&self, slices: &[Slice]) -> Readback {
        let mut encoder = self.0.device.create_command_encoder(&Default::default());
        let staging = Readback::copy(self, &mut encoder, slices);
        let submission = self.submit(encoder);
        Readback::map(self, staging, submission)
    }

    /// Reads `slice` back as a vector of `T`, blocking.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn read_vec<T: bytemuck::Pod>(&self, slice: &Slice) -> Result<Vec<T>> {
        self.read(slice).wait_as()
    }
}

impl Future for Readback {
    type Output = Result<Vec<u8>>;

    #[cfg_attr(target_arch = "wasm32", allow(unused_mut))]
    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let mut mapped = self.mapped.lock().unwrap();
        if let Some(done) = mapped.done.take() {
            drop(mapped);
            return Poll::Ready(self.take(done));
        }
        mapped.waker = Some(cx.waker().clone());
        drop(mapped);
        // In a browser the event loop runs the callback; natively somebody must poll the device.
        #[cfg(not(target_arch = "wasm32"))]
        if !self.polling {
            self.polling = true;
            let (gpu, submission) = (self.gpu.clone(), self.submission.clone());
            std::thread::spawn(move || gpu.wait(Some(submission)));
        }
        Poll::Pending
    }
}
