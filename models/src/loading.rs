//! From a file to weights on a device.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use weft_formats::chat::Template;
use weft_formats::gguf::{File, TensorInfo};
use weft_formats::tokenizer::Tokenizer;
use weft_kernels::ops::attention::CacheType;
use weft_kernels::select::{self, CallShape};
use weft_kernels::{Weight, WeightShape};
use weft_runtime::{Caps, DeviceKind, Gpu, Pool, Slice, Stopwatch};

use crate::decoder::{Layer, Part, Weights};
use crate::load::Inner;
use crate::plan::{cache_type, weight_type};
use crate::spec::QkNorm;
use crate::synthetic::Patterns;
use crate::{Error, MemoryPlan, Message, Model, Options, Progress, Result, Source, Spec, plan};

/// How long the parts of opening a model took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Opening {
    /// Reading and checking the file's header.
    pub file: Duration,
    /// The tokenizer and the template, while the device was opened.
    pub tokenizer: Duration,
    /// Opening the device.
    pub device: Duration,
    /// Memory for the weights, and vectors.
    pub memory: Duration,
    /// Recording programs whose kernels then compile beside the upload.
    pub prepare: Duration,
    /// Uploading the weights: reading, repacking, copying.
    pub upload: Duration,
    /// Bytes of the file that were uploaded.
    pub bytes: u64,
}

/// A model whose weights are not there yet.
#[derive(Debug)]
pub struct Loading {
    model: Model,
    file: File,
    matrices: Vec<Matrix>,
    opening: Opening,
}

impl Loading {
    /// Hyper-parameters.
    pub fn spec(&self) -> &Spec {
        self.model.spec()
    }

    /// The model, whose weights hold nothing yet: for recording programs.
    #[doc(hidden)]
    pub fn outline(&self) -> Model {
        self.model.clone()
    }

    /// As [`Model::tokenizer`].
    ///
    /// # Errors
    /// The same.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.model.tokenizer()
    }

    /// As [`Model::chat`].
    ///
    /// # Errors
    /// The same.
    pub fn chat(&self, messages: &[Message], thinking: Option<bool>) -> Result<Vec<u32>> {
        self.model.chat(messages, thinking)
    }

    /// Has the kernels compiled, in other threads and while weights load, that a session of `context` positions
    /// needs for a prompt of `prompt` tokens and its answer.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn prepare(&mut self, context: u32, prompt: u32) -> Result<()> {
        let start = Stopwatch::start();
        self.model.session(context)?.prepare(prompt)?;
        self.opening.prepare += start.elapsed();
        Ok(())
    }

    /// Uploads the weights, telling `progress` as they arrive; `Break` cancels.
    ///
    /// # Errors
    /// A fault of the device; [`Error::Cancelled`].
    pub fn finish(mut self, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Model> {
        let start = Stopwatch::start();
        let (mut pieces, mut tensors) = (Vec::new(), Vec::new());
        for (weight, parts) in &self.matrices {
            let bytes: Vec<&[u8]> = parts.iter().map(|t| self.file.bytes(t)).collect();
            for piece in weight.pieces(&bytes) {
                tensors.push(&parts[piece.part.0]);
                pieces.push(piece);
            }
        }
        let total = pieces.iter().map(|p| p.part.1.len() as u64).sum();
        let mut at = Progress { done: 0, total };
        let flow = weft_kernels::fill(self.model.gpu(), &pieces, &mut |i| {
            let part = pieces[i].part.1.clone();
            at.done += part.len() as u64;
            self.file.release_part(tensors[i], part);
            progress(at)
        })?;
        if flow.is_break() {
            return Err(Error::Cancelled);
        }
        self.opening.upload = start.elapsed();
        self.opening.bytes = total;
        let _ = self.model.0.opening.set(self.opening);
        Ok(self.model)
    }
}

/// A matrix and the tensors that make it up.
type Matrix = (Weight, Vec<TensorInfo>);

/// The first half of opening a model.
pub(crate) async fn begin(source: Source, options: &Options) -> Result<Loading> {
    let mut opening = Opening::default();
    let patterns = matches!(source, Source::Synthetic(_)).then(Patterns::default);
    let start = Stopwatch::start();
    let file = match source {
        #[cfg(not(target_arch = "wasm32"))]
        Source::File(path) => File::open(&path)?,
        #[cfg(target_arch = "wasm32")]
        Source::File(path) => {
            return Err(Error::NotAModel {
                file: path.display().to_string(),
                kind: "a path, which a browser cannot open: pass its bytes".into(),
            });
        }
        Source::Bytes(bytes) => File::from_bytes(bytes)?,
        Source::Synthetic(synthetic) => synthetic.outline()?,
    };
    let spec = Spec::read(&file)?;
    opening.file = start.elapsed();
    // Half a second each, for a large vocabulary and a large driver.
    #[cfg(not(target_arch = "wasm32"))]
    let device = {
        let device = options.device.clone();
        std::thread::spawn(move || {
            let start = Stopwatch::start();
            (pollster::block_on(weft_kernels::open(&device)), start.elapsed())
        })
    };
    let start = Stopwatch::start();
    let metadata = file.metadata().clone();
    let tokenizer = Tokenizer::from_metadata(&metadata);
    let text = |id: Option<u32>| {
        let t = tokenizer.as_ref().ok()?;
        Some(t.token_text(id?)?.to_owned())
    };
    let (bos, eos) = match &tokenizer {
        Ok(t) => (text(t.bos()).unwrap_or_default(), text(t.eos()).unwrap_or_default()),
        Err(_) => Default::default(),
    };
    let template = Template::from_metadata(&metadata, &bos, &eos);
    opening.tokenizer = start.elapsed();
    #[cfg(not(target_arch = "wasm32"))]
    let (gpu, took) = device.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    #[cfg(target_arch = "wasm32")]
    let (gpu, took) = (weft_kernels::open(&options.device).await, Duration::ZERO);
    let gpu = gpu?;
    opening.device = took;

    let start = Stopwatch::start();
    let chunk = options.chunk.unwrap_or_else(|| default_chunk(gpu.caps())).max(1);
    let context = options.context.unwrap_or(spec.default_context()).max(1);
    let cache = options.cache.unwrap_or_else(|| cache_type(&file));
    let chained = || select::variant("matmul", gpu.caps(), CallShape::tokens(1), |_| true) == "chain";
    let integers = options.integers.unwrap_or_else(chained);
    let needs = check_memory(&file, &spec, &gpu, context, chunk, cache)?;
    gpu.reserve(Pool::Weights, needs.weights);
    let mut upload = Upload { file: &file, patterns, gpu: &gpu, matrices: Vec::new() };
    let weights = upload.all(&spec)?;
    let matrices = upload.matrices;
    opening.memory = start.elapsed();
    let inner = Inner {
        file: file.path().display().to_string(),
        gpu,
        spec,
        weights,
        chunk,
        integers,
        cache,
        parameters: file.tensors().iter().map(TensorInfo::elements).sum(),
        bytes: file.tensors().iter().map(|t| t.size).sum(),
        metadata,
        tokenizer,
        template,
        opening: OnceLock::new(),
    };
    Ok(Loading { model: Model(Arc::new(inner), None), file, matrices, opening })
}

/// Tokens of a prefill batch: as many as a device needs to be busy.
fn default_chunk(caps: &Caps) -> u32 {
    match caps.kind {
        // Slow enough that a large batch would hold Ctrl-C and the progress bar.
        DeviceKind::Cpu => 64,
        // Products of 512 tokens leave half of a large GPU idle.
        DeviceKind::Discrete if caps.memory.is_some_and(|m| m >= 16 << 30) => 2048,
        _ => 512,
    }
}

/// The memory that will be taken; refuses what cannot fit before anything is uploaded, where the device says
/// how much it has.
fn check_memory(
    file: &File,
    spec: &Spec,
    gpu: &Gpu,
    context: u32,
    chunk: u32,
    cache: CacheType,
) -> Result<MemoryPlan> {
    let needs = plan(file, spec, context, chunk, Some(cache), gpu.budget())?;
    let Some(available) = gpu.caps().memory else { return Ok(needs) };
    if needs.total() <= available {
        return Ok(needs);
    }
    let spare = available.saturating_sub(needs.weights + needs.activations + needs.state);
    let fitting = (spare as f64 / needs.kv_cache as f64 * f64::from(context)) as u32;
    let parameters: u64 = file.tensors().iter().map(TensorInfo::elements).sum();
    let bits = available.saturating_sub(needs.total() - needs.weights) as f64 * 8.0 / parameters as f64;
    let way_out = if fitting >= 256 {
        format!("a context of {} would fit (-c {0})", fitting / 256 * 256)
    } else if bits >= 1.5 {
        format!("a quantisation of at most {bits:.1} bits a weight would fit")
    } else {
        format!("about {:.1} billion weights of 4.5 bits would fit", available as f64 * 0.9 * 8.0 / 4.5 / 1e9)
    };
    Err(Error::TooLarge {
        file: file.path().display().to_string(),
        device: gpu.caps().name.clone(),
        needed: needs.total(),
        weights: needs.weights,
        cache: needs.kv_cache,
        context,
        available,
        way_out,
    })
}

struct Upload<'a> {
    file: &'a File,
    /// Where weights come from in place of a file that is an outline.
    patterns: Option<Patterns>,
    gpu: &'a Gpu,
    /// What is to be uploaded, when there is memory for all of it.
    matrices: Vec<Matrix>,
}

impl<'a> Upload<'a> {
    fn name(&self) -> String {
        self.file.path().display().to_string()
    }

    fn tensor(&self, name: &str) -> Result<&'a TensorInfo> {
        self.file.tensor(name).ok_or_else(|| Error::MissingTensor { file: self.name(), name: name.into() })
    }

    /// Checks a tensor's shape, columns first as in the file.
    fn shaped(&self, name: &str, expected: &[u64]) -> Result<&'a TensorInfo> {
        let t = self.tensor(name)?;
        if t.shape != expected {
            return Err(Error::TensorShape {
                file: self.name(),
                name: name.into(),
                found: t.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        Ok(t)
    }

    fn all(&mut self, c: &Spec) -> Result<Weights> {
        self.refuse_ignored(c)?;
        let embedding = self.matrix("token_embd.weight", c.vocabulary, c.width)?;
        let layers = (0..c.layers()).map(|i| self.layer(c, i)).collect::<Result<_>>()?;
        let output_norm = self.vector("output_norm.weight", c.width)?;
        let head = match c.out.tied {
            true => None,
            false => Some(self.matrix("output.weight", c.vocabulary, c.width)?),
        };
        Ok(Weights { embedding, layers, output_norm, head })
    }

    /// A bias or a norm that this graph has no place for would change the answer if it were ignored.
    fn refuse_ignored(&self, c: &Spec) -> Result<()> {
        let known = ["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.bias"];
        let norms = ["attn_norm.weight", "ffn_norm.weight", "attn_q_norm.weight", "attn_k_norm.weight"];
        for t in self.file.tensors() {
            let part =
                t.name.strip_prefix("blk.").and_then(|n| n.split_once('.')).map_or(&t.name[..], |n| n.1);
            let used = match part {
                _ if part.ends_with(".bias") => c.attention().bias && known.contains(&part),
                _ if part.contains("_norm.") => norms.contains(&part) || part == "output_norm.weight",
                _ => !part.ends_with("_exps.weight"),
            };
            if !used {
                return Err(Error::UnknownTensor { file: self.name(), name: t.name.clone() });
            }
        }
        Ok(())
    }

    fn layer(&mut self, c: &Spec, i: u32) -> Result<Layer> {
        let n = |part: &str| format!("blk.{i}.{part}");
        let (q, kv) = (c.heads() * c.head_dim(), c.kv_heads() * c.head_dim());
        // Newer files may hold Q, K and V as one tensor: their rows follow each other in it.
        let qkv = match self.file.tensor(&n("attn_qkv.weight")) {
            Some(_) => self.stacked(&[(n("attn_qkv"), q + 2 * kv)], c.width, c.attention().bias)?,
            None => {
                let parts = [("q", q), ("k", kv), ("v", kv)].map(|(w, rows)| (n(&format!("attn_{w}")), rows));
                self.stacked(&parts, c.width, c.attention().bias)?
            }
        };
        let gate_up = [(n("ffn_gate"), c.feed_forward()), (n("ffn_up"), c.feed_forward())];
        let mut qk_norm = None;
        if c.attention().qk_norm != QkNorm::None {
            let mut both = self.floats(&n("attn_q_norm.weight"), c.head_dim())?;
            both.extend(self.floats(&n("attn_k_norm.weight"), c.head_dim())?);
            qk_norm = Some(self.gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&both), "QK-norm")?);
        }
        Ok(Layer {
            attn_norm: self.vector(&n("attn_norm.weight"), c.width)?,
            qkv,
            qk_norm,
            output: self.matrix(&n("attn_output.weight"), c.width, q)?,
            ffn_norm: self.vector(&n("ffn_norm.weight"), c.width)?,
            gate_up: self.stacked(&gate_up, c.width, false)?,
            down: self.matrix(&n("ffn_down.weight"), c.width, c.feed_forward())?,
        })
    }

    fn matrix(&mut self, name: &str, rows: u32, cols: u32) -> Result<Weight> {
        self.upload(&[(name.to_owned(), rows)], cols)
    }

    /// Matrices `NAME.weight` with one input, stacked as far as neighbours share a type, with the
    /// biases `NAME.bias` if `biases`.
    fn stacked(&mut self, parts: &[(String, u32)], cols: u32, biases: bool) -> Result<Vec<Part>> {
        let mut all = Vec::new();
        let mut rest = parts;
        while let Some((name, _)) = rest.first() {
            let ty = self.tensor(&format!("{name}.weight"))?.ty;
            let mut same = 0;
            while let Some((name, rows)) = rest.get(same) {
                // A stack's parts end at multiples of 4 rows, see Weight::upload.
                if self.tensor(&format!("{name}.weight"))?.ty != ty || (same > 0 && rows % 4 != 0) {
                    break;
                }
                same += 1;
                if rows % 4 != 0 {
                    break;
                }
            }
            let (stack, others) = rest.split_at(same);
            rest = others;
            let mut bias = Vec::new();
            if biases {
                for (name, rows) in stack {
                    bias.extend(self.floats(&format!("{name}.bias"), *rows)?);
                }
            }
            let bias = match biases {
                true => Some(self.gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&bias), "bias")?),
                false => None,
            };
            let names: Vec<_> = stack.iter().map(|(name, rows)| (format!("{name}.weight"), *rows)).collect();
            all.push(Part { weight: self.upload(&names, cols)?, bias });
        }
        Ok(all)
    }

    /// A matrix of matrices of one type and width, their rows one after the other.
    fn upload(&mut self, parts: &[(String, u32)], cols: u32) -> Result<Weight> {
        let mut tensors = Vec::with_capacity(parts.len());
        for (name, rows) in parts {
            tensors.push(self.shaped(name, &[cols.into(), (*rows).into()])?);
        }
        let ty = weight_type(self.file, tensors[0])?;
        let rows = parts.iter().map(|p| p.1).sum();
        let shape = WeightShape::new(ty, rows, cols, self.gpu.budget())?;
        if let Some(patterns) = &mut self.patterns {
            return patterns.weight(self.gpu, shape, &parts[0].0);
        }
        let weight = Weight::alloc(self.gpu, shape, &parts[0].0)?;
        self.matrices.push((weight.clone(), tensors.into_iter().cloned().collect()));
        Ok(weight)
    }

    /// A vector of a float type, as f32.
    fn floats(&self, name: &str, len: u32) -> Result<Vec<f32>> {
        let t = self.shaped(name, &[len.into()])?;
        if self.patterns.is_some() {
            // Norms; no synthetic shape has biases.
            return Ok(vec![1.0; len as usize]);
        }
        let mut out = vec![0.0; len as usize];
        weft_formats::quant::dequantize(t.ty, self.file.bytes(t), &mut out).map_err(|_| {
            Error::TensorType {
                file: self.name(),
                name: name.into(),
                ty: t.ty.name().into(),
                supported: "F32, F16, BF16 for vectors".into(),
            }
        })?;
        Ok(out)
    }

    fn vector(&mut self, name: &str, len: u32) -> Result<Slice> {
        let data = self.floats(name, len)?;
        Ok(self.gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&data), name)?)
    }
}
