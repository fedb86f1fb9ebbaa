//! From a file to weights on a device.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_formats::chat::{self, Template};
use weft_formats::gguf::{File, Metadata, TensorInfo};
use weft_formats::tokenizer::Tokenizer;
use weft_kernels::ops::attention::CacheType;
use weft_kernels::select::{self, At};
use weft_kernels::{Weight, WeightShape};
use weft_runtime::{Caps, DeviceKind, Gpu, Pool, Slice};

use crate::decoder::{Layer, Part, Weights};
use crate::lora::Lora;
use crate::plan::{cache_type, weight_type};
use crate::synthetic::Patterns;
use crate::{Batch, Config, Error, MemoryPlan, Message, Result, Session, Synthetic, plan};

/// How to open a model.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The device and how much of it to use.
    pub device: weft_runtime::Options,
    /// Tokens of a prefill batch; picked by device if `None`.
    pub chunk: Option<u32>,
    /// The context that the check against the device's memory assumes; `None` assumes
    /// [`Model::default_context`].
    pub context: Option<u32>,
    /// How the KV cache is stored; `None` is f16, or f32 where every matrix of the file is f32.
    pub cache: Option<CacheType>,
    /// Multiply in integers of 8 bits when one token is computed, where weights allow; `None` does where the
    /// device has instructions for it.
    pub integers: Option<bool>,
}

/// Where a model comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A GGUF file, or any shard of a split one.
    File(PathBuf),
    /// A GGUF file in memory.
    Bytes(Vec<u8>),
    /// No file: a real shape with made-up weights.
    Synthetic(Synthetic),
}

impl From<&str> for Source {
    fn from(path: &str) -> Source {
        Source::File(path.into())
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Source {
        Source::File(path.into())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        Source::File(path)
    }
}

impl From<Synthetic> for Source {
    fn from(synthetic: Synthetic) -> Source {
        Source::Synthetic(synthetic)
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Source {
        Source::Bytes(bytes)
    }
}

/// Bytes of weights uploaded, of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Uploaded.
    pub done: u64,
    /// In all.
    pub total: u64,
}

pub(crate) struct Inner {
    pub(crate) gpu: Gpu,
    pub(crate) config: Config,
    pub(crate) weights: Weights,
    pub(crate) chunk: u32,
    pub(crate) integers: bool,
    pub(crate) cache: CacheType,
    /// Of all tensors: values, and bytes as the file stores them.
    pub(crate) parameters: u64,
    pub(crate) bytes: u64,
    file: String,
    metadata: Metadata,
    tokenizer: std::result::Result<Tokenizer, weft_formats::tokenizer::Error>,
    template: std::result::Result<Template, chat::Error>,
}

/// A model on a device. Cheap to clone; all clones share the weights.
#[derive(Clone)]
pub struct Model(pub(crate) Arc<Inner>, pub(crate) Option<Arc<Lora>>);

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({} on {})", self.0.file, self.0.gpu.caps().name)
    }
}

impl Model {
    /// Opens a model and waits for it.
    ///
    /// # Errors
    /// Anything wrong with the file or the device; see [`Error`].
    pub fn open(source: impl Into<Source>, options: &Options) -> Result<Model> {
        pollster::block_on(Model::open_async(source, options))
    }

    /// As [`Model::open`], telling `progress` after each batch of weights; `Break` cancels.
    ///
    /// # Errors
    /// As [`Model::open`]; [`Error::Cancelled`].
    pub fn open_with(
        source: impl Into<Source>,
        options: &Options,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Model> {
        pollster::block_on(open(source.into(), options, progress))
    }

    /// As [`Model::open`], without blocking.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn open_async(source: impl Into<Source>, options: &Options) -> Result<Model> {
        open(source.into(), options, &mut |_| ControlFlow::Continue(())).await
    }

    /// Hyper-parameters.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// The file has none, or one that is not supported.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.0
            .tokenizer
            .as_ref()
            .map_err(|e| Error::Tokenizer { file: self.0.file.clone(), source: e.clone() })
    }

    /// The chat template: the file's, or ChatML where it has none.
    ///
    /// # Errors
    /// The file's template does not parse.
    pub fn template(&self) -> Result<&Template> {
        self.0.template.as_ref().map_err(|e| Error::Template { file: self.0.file.clone(), source: e.clone() })
    }

    /// Renders a conversation up to where the model answers, as token ids. `thinking` is Qwen3's
    /// `enable_thinking`.
    ///
    /// # Errors
    /// No tokenizer, or a template that fails on these messages.
    pub fn chat(&self, messages: &[Message], thinking: Option<bool>) -> Result<Vec<u32>> {
        let options =
            chat::Options { add_generation_prompt: true, enable_thinking: thinking, ..Default::default() };
        let text = self
            .template()?
            .render(messages, &options)
            .map_err(|source| Error::Template { file: self.0.file.clone(), source })?;
        Ok(self.tokenizer()?.encode(&text, true))
    }

    /// The context that is used where none is asked for: the model's own, at most 4,096.
    pub fn default_context(&self) -> u32 {
        default_context(&self.0.config)
    }

    /// A KV cache for `context` positions.
    ///
    /// # Errors
    /// A context of 0, or more memory than the device has left.
    pub fn session(&self, context: u32) -> Result<Session> {
        Session::new(self.clone(), context)
    }

    /// KV caches for `streams` answers at a time, of `context` positions each, and one for their prompts.
    ///
    /// # Errors
    /// More streams than [`MOST_STREAMS`](crate::MOST_STREAMS), or none; as [`Model::session`].
    pub fn batch(&self, streams: u32, context: u32) -> Result<Batch> {
        Batch::new(self.clone(), streams, context)
    }

    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocabulary = self.0.config.vocabulary;
        match ids.iter().find(|&&id| id >= vocabulary) {
            Some(&id) => Err(Error::TokenRange { id, vocabulary }),
            None => Ok(()),
        }
    }
}

fn default_context(c: &Config) -> u32 {
    c.context.min(4096)
}

async fn open(
    source: Source,
    options: &Options,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Model> {
    let patterns = matches!(source, Source::Synthetic(_)).then(Patterns::default);
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
    let config = Config::read(&file)?;
    let gpu = weft_kernels::open(&options.device).await?;
    let chunk = options.chunk.unwrap_or_else(|| default_chunk(gpu.caps())).max(1);
    let context = options.context.unwrap_or(default_context(&config)).max(1);
    let cache = options.cache.unwrap_or_else(|| cache_type(&file));
    let chained = || select::variant("matmul", gpu.caps(), At::tokens(1), |_| true) == "chain";
    let integers = options.integers.unwrap_or_else(chained);
    let needs = check_memory(&file, &config, &gpu, context, chunk, cache)?;
    gpu.expect(Pool::Weights, needs.weights);
    let mut up = Upload { file: &file, patterns, gpu: &gpu, done: 0, total: 0, progress };
    let weights = up.all(&config)?;
    gpu.flush()?;
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
    let inner = Inner {
        file: file.path().display().to_string(),
        gpu,
        config,
        weights,
        chunk,
        integers,
        cache,
        parameters: file.tensors().iter().map(TensorInfo::elements).sum(),
        bytes: file.tensors().iter().map(|t| t.size).sum(),
        metadata,
        tokenizer,
        template,
    };
    Ok(Model(Arc::new(inner), None))
}

/// The memory that will be taken; refuses what cannot fit before anything is uploaded, where the device says how much it has.
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

fn check_memory(
    file: &File,
    config: &Config,
    gpu: &Gpu,
    context: u32,
    chunk: u32,
    cache: CacheType,
) -> Result<MemoryPlan> {
    let needs = plan(file, config, context, chunk, Some(cache), gpu.budget())?;
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
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Upload<'_> {
    fn name(&self) -> String {
        self.file.path().display().to_string()
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.file.tensor(name).ok_or_else(|| Error::MissingTensor { file: self.name(), name: name.into() })
    }

    /// Checks a tensor's shape, columns first as in the file.
    fn shaped(&self, name: &str, expected: &[u64]) -> Result<&TensorInfo> {
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

    fn all(&mut self, c: &Config) -> Result<Weights> {
        // A file that cannot run is refused before the first upload.
        self.refuse_ignored(c)?;
        self.total = self.file.tensors().iter().map(|t| t.size).sum();
        let embedding = self.matrix("token_embd.weight", c.vocabulary, c.width)?;
        let layers = (0..c.layers).map(|i| self.layer(c, i)).collect::<Result<_>>()?;
        let output_norm = self.vector("output_norm.weight", c.width)?;
        let head = match c.tied {
            true => None,
            false => Some(self.matrix("output.weight", c.vocabulary, c.width)?),
        };
        Ok(Weights { embedding, layers, output_norm, head })
    }

    /// A bias or a norm that this graph has no place for would change the answer if it were ignored.
    fn refuse_ignored(&self, c: &Config) -> Result<()> {
        let known = ["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.bias"];
        let norms = ["attn_norm.weight", "ffn_norm.weight", "attn_q_norm.weight", "attn_k_norm.weight"];
        for t in self.file.tensors() {
            let part =
                t.name.strip_prefix("blk.").and_then(|n| n.split_once('.')).map_or(&t.name[..], |n| n.1);
            let used = match part {
                _ if part.ends_with(".bias") => c.biases && known.contains(&part),
                _ if part.contains("_norm.") => norms.contains(&part) || part == "output_norm.weight",
                _ => !part.ends_with("_exps.weight"),
            };
            if !used {
                return Err(Error::UnknownTensor { file: self.name(), name: t.name.clone() });
            }
        }
        Ok(())
    }

    fn layer(&mut self, c: &Config, i: u32) -> Result<Layer> {
        let n = |part: &str| format!("blk.{i}.{part}");
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        // Newer files may hold Q, K and V as one tensor: their rows follow each other in it.
        let qkv = match self.file.tensor(&n("attn_qkv.weight")) {
            Some(_) => self.stacked(&[(n("attn_qkv"), q + 2 * kv)], c.width, c.biases)?,
            None => {
                let parts = [("q", q), ("k", kv), ("v", kv)].map(|(w, rows)| (n(&format!("attn_{w}")), rows));
                self.stacked(&parts, c.width, c.biases)?
            }
        };
        let gate_up = [(n("ffn_gate"), c.feed_forward), (n("ffn_up"), c.feed_forward)];
        let mut qk_norm = None;
        if c.qk_norm {
            let mut both = self.floats(&n("attn_q_norm.weight"), c.head_dim)?;
            both.extend(self.floats(&n("attn_k_norm.weight"), c.head_dim)?);
            qk_norm = Some(self.gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(&both), "QK-norm")?);
        }
        Ok(Layer {
            attn_norm: self.vector(&n("attn_norm.weight"), c.width)?,
            qkv,
            qk_norm,
            output: self.matrix(&n("attn_output.weight"), c.width, q)?,
            ffn_norm: self.vector(&n("ffn_norm.weight"), c.width)?,
            gate_up: self.stacked(&gate_up, c.width, false)?,
            down: self.matrix(&n("ffn_down.weight"), c.width, c.feed_forward)?,
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

    /// Uploads matrices of one type and width as one, their rows one after the other.
    fn upload(&mut self, parts: &[(String, u32)], cols: u32) -> Result<Weight> {
        let mut tensors = Vec::with_capacity(parts.len());
        for (name, rows) in parts {
            tensors.push(self.shaped(name, &[cols.into(), (*rows).into()])?.clone());
        }
        let ty = weight_type(self.file, &tensors[0])?;
        let rows = parts.iter().map(|p| p.1).sum();
        let shape = WeightShape::new(ty, rows, cols, self.gpu.budget())?;
        let mut cancelled = false;
        if let Some(patterns) = &mut self.patterns {
            let weight = patterns.weight(self.gpu, shape, &parts[0].0)?;
            self.done += tensors.iter().map(|t| t.size).sum::<u64>();
            cancelled |= (self.progress)(Progress { done: self.done, total: self.total }).is_break();
            return if cancelled { Err(Error::Cancelled) } else { Ok(weight) };
        }
        let bytes: Vec<&[u8]> = tensors.iter().map(|t| self.file.bytes(t)).collect();
        let weight = Weight::upload(self.gpu, shape, &bytes, &parts[0].0, |i, done| {
            self.done += done.len() as u64;
            self.file.release_part(&tensors[i], done);
            let progress = Progress { done: self.done, total: self.total };
            cancelled |= (self.progress)(progress).is_break();
        })?;
        if cancelled { Err(Error::Cancelled) } else { Ok(weight) }
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
