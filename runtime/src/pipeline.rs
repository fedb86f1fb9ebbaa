//! Shaders and the pipelines that they become.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use crate::Result;

/// How a shader uses a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Storage, read.
    Read,
    /// Storage, read and written.
    ReadWrite,
    /// `texture_2d<u32>` over the memory of a weight: see [`Caps::texels`](crate::Caps::texels).
    Texels,
}

/// A composed shader. `@binding(0)` is the uniform with the parameters, the others follow from 1 in the order of `bindings`; the entry point is `main`.
#[derive(Debug, Clone)]
pub struct Shader {
    /// Unique: `op_variant_dtype`.
    pub name: String,
    /// Plain WGSL.
    pub source: String,
    /// Bindings from 1 on.
    pub bindings: Vec<Access>,
}

/// Bytes of parameters that every device with immediates takes.
pub(crate) const IMMEDIATE_BYTES: u32 = 128;

/// A shader with its layout, which may still be compiling.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) name: String,
    pub(crate) layout: wgpu::BindGroupLayout,
    pub(crate) bindings: Vec<Access>,
    /// A hash of the text that is compiled.
    pub(crate) digest: u64,
    pub(crate) raw: OnceLock<Result<wgpu::ComputePipeline>>,
}

impl Pipeline {
    /// The shader's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it is compiled.
    pub(crate) fn ready(&self) -> Result<()> {
        // In a browser it was compiled when it was requested.
        self.raw.wait().as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// The compiled shader, after [`Pipeline::ready`].
    pub(crate) fn raw(&self) -> &wgpu::ComputePipeline {
        self.raw.wait().as_ref().expect("it was found to be right when its program was recorded")
    }
}

/// What has been compiled so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Compiled {
    /// Pipelines that the driver compiled.
    pub compiled: u32,
    /// Those that came from the disk.
    pub cached: u32,
    /// The time that both took, of all threads together.
    pub seconds: f64,
}

/// Pipelines that wait for a thread.
#[derive(Default)]
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
pub(crate) struct Compiler {
    pub(crate) waiting: VecDeque<CompileJob>,
    pub(crate) threads: usize,
    pub(crate) done: Compiled,
}

pub(crate) struct CompileJob {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) source: String,
    pub(crate) checked: bool,
    pub(crate) checks: wgpu::ShaderRuntimeChecks,
}
