//! From a file to weights on a device.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use weft_formats::chat::Template;
use weft_formats::gguf::{File, TensorInfo};
use weft_formats::hex;
use weft_formats::tokenizer::Tokenizer;
use weft_kernels::{Cut, Feed};
use weft_runtime::{Gpu, Slice, Stopwatch, Wait};

use crate::model::{Inner, Opening};
use crate::plan::{Choices, MemoryPlan};
use crate::synthetic::Patterns;
use crate::weights::{Layout, Matrix, Ring, refuse_unknown, upload};
use crate::{Error, Message, Model, Options, Progress, Result, Source, Spec};

/// Bytes of each tensor that go into [`Model::identity`].
const SAMPLE: usize = 64;

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
        Model::begin(source, options)?.finish(progress)
    }

    /// As [`Model::open`], without blocking.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub async fn open_async(source: impl Into<Source>, options: &Options) -> Result<Model> {
        let loading = begin(source.into(), options).await?;
        loading.finish_async(&mut |_| ControlFlow::Continue(())).await
    }

    /// The first half of [`Model::open`]: the file is read and checked, the device open and its memory taken.
    /// Weights come with [`Loading::finish`]; kernels can compile meanwhile, see [`Loading::prepare`].
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn begin(source: impl Into<Source>, options: &Options) -> Result<Loading> {
        pollster::block_on(begin(source.into(), options))
    }

    /// As [`Model::begin`], without blocking.
    ///
    /// # Errors
    /// As [`Model::begin`].
    pub async fn begin_async(source: impl Into<Source>, options: &Options) -> Result<Loading> {
        begin(source.into(), options).await
    }
}

/// Bytes of weights that may wait for a device which is fed piece by piece.
const MOST_WAITING: usize = 32 << 20;

/// A model whose weights are not there yet.
#[derive(Debug)]
pub struct Loading {
    model: Model,
    file: Arc<File>,
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

    /// Has the kernels compiled, in other threads and while weights load, of what `record` records with the model, whose
    /// weights hold nothing yet: [`Engine::prepare`](crate::engine::Engine::prepare) does.
    ///
    /// # Errors
    /// What `record` says.
    pub fn prepare(&mut self, record: impl FnOnce(&Model) -> Result<()>) -> Result<()> {
        let start = Stopwatch::start();
        record(&self.model)?;
        self.opening.prepare += start.elapsed();
        Ok(())
    }

    /// Uploads the weights, telling `progress` as they arrive; `Break` cancels.
    ///
    /// # Errors
    /// A fault of the device; [`Error::Cancelled`].
    pub fn finish(self, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Model> {
        if self.file.is_in_pieces() {
            return pollster::block_on(self.finish_pieces(progress, Wait::Block));
        }
        let start = Stopwatch::start();
        let (mut pieces, mut tensors) = (Vec::new(), Vec::new());
        for (weight, parts) in &self.matrices {
            let bytes: Vec<&[u8]> = parts.iter().map(|(t, part)| &self.file.bytes(t)[part.clone()]).collect();
            for piece in weight.pieces(&bytes) {
                let (tensor, part) = &parts[piece.cut.part.0];
                tensors.push((tensor, part.start));
                pieces.push(piece);
            }
        }
        let total = pieces.iter().map(|p| p.cut.part.1.len() as u64).sum();
        let mut at = Progress { done: 0, total };
        let mut samples = self.streamed();
        let flow = weft_kernels::fill(self.model.gpu(), &pieces, &mut |i| {
            let (part, (tensor, start)) = (pieces[i].cut.part.1.clone(), tensors[i]);
            at.done += part.len() as u64;
            let whole = start + part.start..start + part.end;
            samples.take(tensor, whole.start, &self.file.bytes(tensor)[whole.clone()]);
            self.file.release_part(tensor, whole);
            progress(at)
        })?;
        if flow.is_break() {
            return Err(Error::Cancelled);
        }
        Ok(self.finished(start, total, &samples))
    }

    fn finished(mut self, start: Stopwatch, bytes: u64, samples: &Samples) -> Model {
        self.opening.upload = start.elapsed();
        self.opening.bytes = bytes;
        let _ = self.model.0.opening.set(self.opening);
        let _ = self.model.0.identity.set(samples.identity(self.model.spec()));
        self.model
    }

    /// What the tensors begin with that are not uploaded here.
    fn streamed(&self) -> Samples {
        let mut samples = Samples::default();
        let streamed = self.model.0.stream.iter().flat_map(|s| s.beginnings(SAMPLE));
        streamed.for_each(|(tensor, bytes)| samples.take(tensor, 0, bytes));
        samples
    }

    /// As [`Loading::finish`], without blocking where the file is read piece by piece, and in a browser.
    ///
    /// # Errors
    /// As [`Loading::finish`].
    pub async fn finish_async(self, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Model> {
        if self.file.is_in_pieces() || cfg!(target_arch = "wasm32") {
            return self.finish_pieces(progress, Wait::Await).await;
        }
        self.finish(progress)
    }

    /// One piece after the other, of which at most a few wait for the device.
    async fn finish_pieces(
        self,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
        wait: Wait,
    ) -> Result<Model> {
        let start = Stopwatch::start();
        let cuts = |(weight, parts): &Matrix| -> Vec<(Cut, Slice, Arc<TensorInfo>, usize)> {
            let sizes: Vec<usize> = parts.iter().map(|(_, part)| part.len()).collect();
            let tensor = |c: Cut| {
                let (tensor, part) = &parts[c.part.0];
                let to = weight.slices[c.slab].clone();
                (c, to, tensor.clone(), part.start)
            };
            weight.shape.cuts(&sizes).into_iter().map(tensor).collect()
        };
        let cuts: Vec<_> = self.matrices.iter().flat_map(cuts).collect();
        let total = cuts.iter().map(|(c, ..)| c.part.1.len() as u64).sum();
        let gpu = self.model.gpu().clone();
        let mut feed = Feed::new(&gpu, cuts.iter().map(|(c, ..)| c.bytes()).max().unwrap_or(0));
        let (mut at, mut waiting) = (Progress { done: 0, total }, 0);
        let mut samples = Samples::default();
        for (cut, to, tensor, from) in &cuts {
            let part = &cut.part.1;
            let bytes = self.file.read(tensor, from + part.start..from + part.end)?;
            samples.take(tensor, from + part.start, &bytes);
            feed.put(cut, to, &bytes)?;
            at.done += part.len() as u64;
            waiting += part.len();
            if waiting >= MOST_WAITING || at.done == total {
                waiting = 0;
                gpu.settle(wait).await?;
            }
            if progress(at).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(self.finished(start, total, &samples))
    }
}

/// What tensors begin with, which tells models apart and is read in any case.
#[derive(Default)]
struct Samples(BTreeMap<String, String>);

impl Samples {
    /// Takes bytes of a tensor from `at` on. How tensors are cut differs by device, so that only what they begin with
    /// counts.
    fn take(&mut self, tensor: &TensorInfo, at: usize, bytes: &[u8]) {
        if at == 0 {
            let begin = &bytes[..bytes.len().min(SAMPLE)];
            self.0.insert(tensor.name.clone(), format!("{:?} {:?} {begin:?}", tensor.ty, tensor.shape));
        }
    }

    fn identity(&self, spec: &Spec) -> String {
        let mut sum = Sha256::new_with_prefix(format!("{spec:?}"));
        self.0.iter().for_each(|sample| sum.update(format!("{sample:?}")));
        hex(&sum.finalize())
    }
}

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
        Source::Pieces(name, pieces) => File::from_pieces(&name, pieces)?,
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
    if let Some(tokens) = tokenizer.as_ref().ok().map(Tokenizer::vocab_size)
        && tokens > spec.vocabulary as usize
    {
        return Err(Error::BadKey {
            file: file.path().display().to_string(),
            key: "tokenizer.ggml.tokens".into(),
            value: format!("{tokens} tokens"),
            why: format!("are more than the {} rows of token_embd.weight", spec.vocabulary),
        });
    }
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
    let (gpu, took) = (weft_kernels::open(&options.device).await, std::time::Duration::ZERO);
    let gpu = gpu?;
    opening.device = took;

    let start = Stopwatch::start();
    refuse_unknown(&spec, &file)?;
    let layout = Layout::of(&file, &spec, gpu.budget())?;
    let choices = Choices::of(&file, gpu.caps(), options);
    let ring = ring(&file, &layout, &gpu, (options, patterns.is_some()))?;
    check_memory(&file, (&spec, &layout, ring.as_ref()), &gpu, options, &choices)?;
    let (weights, matrices, slots) = upload(&file, &spec, &layout, &gpu, (patterns, ring))?;
    opening.memory = start.elapsed();
    let file = Arc::new(file);
    let inner = Inner {
        file: file.path().display().to_string(),
        gpu,
        spec,
        layout,
        weights,
        stream: slots.map(|s| s.stream(file.clone())),
        chunk: choices.chunk,
        integers: choices.integers,
        cache: choices.cache,
        parameters: file.tensors().iter().map(TensorInfo::elements).sum(),
        bytes: file.tensors().iter().map(|t| t.size).sum(),
        metadata,
        tokenizer,
        template,
        opening: OnceLock::new(),
        identity: OnceLock::new(),
    };
    Ok(Loading { model: Model(Arc::new(inner), None), file, matrices, opening })
}

/// Where layers lie that are to be streamed.
///
/// # Errors
/// [`Error::Unsupported`] where nothing can be read from when a layer is needed.
fn ring(
    file: &File,
    layout: &Layout,
    gpu: &Gpu,
    (options, made_up): (&Options, bool),
) -> Result<Option<Ring>> {
    if !options.stream_weights {
        return Ok(None);
    }
    let why = match () {
        () if made_up => Some("made-up weights are in no file"),
        () if cfg!(target_arch = "wasm32") => Some("nothing may wait in a browser"),
        () if file.is_in_pieces() => Some("the file is read piece by piece"),
        () => None,
    };
    match why {
        None => Ok(Some(Ring::of(file, layout, gpu.budget())?)),
        Some(why) => {
            let file = file.path().display();
            Err(Error::Unsupported { what: format!("{file}: its layers cannot be streamed: {why}") })
        }
    }
}

/// The memory that will be taken; refuses what cannot fit before anything is uploaded, where the device says
/// how much it has.
fn check_memory(
    file: &File,
    (spec, layout, ring): (&Spec, &Layout, Option<&Ring>),
    gpu: &Gpu,
    options: &Options,
    choices: &Choices,
) -> Result<()> {
    let context = options.context.unwrap_or(spec.default_context()).max(1);
    let mut needs = MemoryPlan::of(spec, layout, (gpu.caps(), gpu.budget()), choices, context)?;
    if let Some(ring) = ring {
        // There is no session: training plans what else it takes.
        let weights = layout.resident(gpu.budget(), true) + ring.bytes().iter().sum::<u64>();
        needs = MemoryPlan { weights, ..MemoryPlan::default() };
    }
    let Some(available) = gpu.caps().memory else { return Ok(()) };
    if needs.total() <= available {
        return Ok(());
    }
    let spare = available.saturating_sub(needs.weights + needs.activations + needs.state);
    let fitting = (spare as f64 / needs.kv_cache as f64 * f64::from(context)) as u32;
    let parameters: u64 = file.tensors().iter().map(TensorInfo::elements).sum();
    let bits = available.saturating_sub(needs.total() - needs.weights) as f64 * 8.0 / parameters as f64;
    let way_out = if ring.is_some() {
        "its embedding, its output matrix and one layer do not fit; take a smaller model or a smaller quantisation".into()
    } else if fitting >= 256 {
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
