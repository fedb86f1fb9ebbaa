//! Texts to vectors, and pairs of texts to scores: whole sequences packed into one batch, without a cache.

use std::ops::ControlFlow;

use weft_kernels::ops::rope::Rotation;
use weft_runtime::{Pool, Recorder, Slice};

use crate::graph::{Graph, Memory, Packed, Pass, Vectors};
use crate::kv::{Cache, Shapes};
use crate::plan::MemoryPlan;
use crate::spec::Pooling;
use crate::weights::Classifier;
use crate::{Error, Model, Result};

/// A text, or two, as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The ids, with whatever begins and ends a text for this model.
    pub ids: Vec<u32>,
    /// How many of them belong to the first text; the others have type 1 where the model knows two types.
    pub first: usize,
}

impl From<Vec<u32>> for Sequence {
    fn from(ids: Vec<u32>) -> Sequence {
        Sequence { first: ids.len(), ids }
    }
}

/// Turns texts into vectors, or judges pairs of them.
///
/// ```no_run
/// # fn main() -> Result<(), weft_models::Error> {
/// # use std::ops::ControlFlow;
/// let model = weft_models::Model::open("minilm.gguf", &Default::default())?;
/// let mut embedder = model.embedder(None, None)?;
/// let texts = [embedder.sequence("hello world")?, embedder.sequence("good morning")?];
/// let vectors = embedder.embed(&texts, &mut |_| ControlFlow::Continue(()))?;
/// println!("{:?}", vectors[0]);
/// # Ok(())
/// # }
/// ```
pub struct Embedder {
    model: Model,
    pooling: Pooling,
    context: u32,
    /// Tokens of a batch of several sequences.
    batch: u32,
    /// `[tokens]` u32.
    ids: Slice,
    packed: Packed,
    /// The angles of each rotary embedding.
    tables: Vec<Slice>,
    /// Stands for what only sessions have.
    nothing: Slice,
    cache: Cache,
    activations: Slice,
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedder({:?}, {:?})", self.model, self.pooling)
    }
}

/// What [`Embedder::hidden`] brings back, for comparing layer by layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Hidden {
    /// The residual stream behind the embedding and behind each layer, `[layers + 1]` of `[tokens, width]`.
    pub residual: Vec<Vec<f32>>,
    /// The pooled vectors, not normalised, `[sequences, width]`.
    pub pooled: Vec<f32>,
}

impl Model {
    /// For texts of at most `context` tokens [default: as many as the model takes, at most 4,096], with a pooling in
    /// place of the file's.
    ///
    /// # Errors
    /// A model without a pooling where none is named, a reranker likewise; a context of 0 or beyond the model's
    /// table of positions; more memory than the device has left.
    pub fn embedder(&self, pooling: Option<Pooling>, context: Option<u32>) -> Result<Embedder> {
        let (file, out) = (|| self.0.file.clone(), &self.0.spec.out);
        match (pooling, out.pooling) {
            (Some(named), _) => Embedder::new(self.clone(), named, context),
            (None, None) => Err(Error::NoPooling { file: file() }),
            (None, Some(_)) if out.classes.is_some() => Err(Error::Reranker { file: file() }),
            (None, Some(own)) => Embedder::new(self.clone(), own, context),
        }
    }

    /// For pairs of a query and a document, of at most `context` tokens together.
    ///
    /// # Errors
    /// A model that is no reranker; otherwise as [`Model::embedder`].
    pub fn reranker(&self, context: Option<u32>) -> Result<Embedder> {
        match (self.0.spec.out.pooling, &self.0.weights.classifier) {
            (Some(pooling), Some(_)) => Embedder::new(self.clone(), pooling, context),
            _ => Err(Error::NoReranker { file: self.0.file.clone() }),
        }
    }
}

impl Embedder {
    fn new(model: Model, pooling: Pooling, context: Option<u32>) -> Result<Embedder> {
        model.check_resident()?;
        let (gpu, spec) = (&model.0.gpu, &model.0.spec);
        let most = spec.embed.positions.unwrap_or(1 << 24);
        let context = context.unwrap_or(spec.default_context());
        if context == 0 || context > most {
            return Err(Error::Context { wanted: context, most });
        }
        let shapes = Shapes::none();
        let plan = MemoryPlan::packed(&model.0.frame(&shapes, None), model.0.chunk, context);
        let state = |bytes: u32, label| gpu.alloc(Pool::State, u64::from(bytes), label);
        let n = plan.chunk;
        let table = |r: &Rotation| {
            gpu.alloc_init(Pool::State, bytemuck::cast_slice(&r.table(context)), "rotary table")
        };
        Ok(Embedder {
            pooling,
            context,
            batch: model.0.chunk,
            ids: state(n * 4, "token ids")?,
            packed: Packed {
                spans: state(n * 8, "spans")?,
                bounds: state(n * 8, "bounds")?,
                rows: [state(n * 4, "positions")?, state(n * 4, "token types")?],
            },
            tables: spec.rotations().iter().map(table).collect::<std::result::Result<_, _>>()?,
            nothing: state(4, "nothing")?,
            cache: Cache::new(gpu, shapes, Pool::KvCache, "no KV cache")?,
            activations: gpu.alloc(Pool::Activations, plan.activations, "activations")?,
            model,
        })
    }

    /// Values of a vector.
    pub fn width(&self) -> u32 {
        self.model.0.spec.width
    }

    /// The most tokens of a text.
    pub fn context(&self) -> u32 {
        self.context
    }

    /// How sequences become vectors.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// A text as the model takes it. Special tokens in it are read as such, as the tokenizers of these models do.
    ///
    /// # Errors
    /// No tokenizer.
    pub fn sequence(&self, text: &str) -> Result<Sequence> {
        let tokenizer = self.model.tokenizer()?;
        let mut ids = tokenizer.encode_prompt(text);
        // The last token is what counts here, and older files do not ask for it.
        let own = self.model.0.spec.out.pooling == Some(Pooling::Last);
        if let Some(end) = tokenizer.eos().filter(|&end| own && ids.last() != Some(&end)) {
            ids.push(end);
        }
        Ok(ids.into())
    }

    /// A query and a document as a reranker takes them: the pair of a cross-encoder, or a question to a decoder.
    ///
    /// # Errors
    /// No tokenizer.
    pub fn pair(&self, query: &str, document: &str) -> Result<Sequence> {
        let tokenizer = self.model.tokenizer()?;
        if self.model.0.spec.is_encoder() {
            let (ids, first) = tokenizer.encode_pair(query, document);
            return Ok(Sequence { ids, first });
        }
        let own = self.model.0.metadata.str("tokenizer.chat_template.rerank");
        // The document first: a query that names {document} would otherwise be filled in.
        let prompt = own.unwrap_or(RERANK_PROMPT);
        let (before, behind) = prompt.split_once("{document}").unwrap_or((prompt, ""));
        let fill = |part: &str| part.replace("{query}", query);
        Ok(tokenizer.encode(&format!("{}{document}{}", fill(before), fill(behind)), true).into())
    }

    /// The vector of each sequence, `[width]` f32 of length 1, in their order. `progress` is told how many are done
    /// after each batch; `Break` cancels.
    ///
    /// # Errors
    /// An empty sequence or one longer than the context, an id out of range; a fault of the device;
    /// [`Error::Cancelled`].
    pub fn embed(
        &mut self,
        sequences: &[Sequence],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f32>>> {
        self.vectors(sequences, true, progress)
    }

    /// The score of each pair, in their order: of a cross-encoder what its first class gives, of a decoder the
    /// probability of "yes" beside "no". Larger is better.
    ///
    /// # Errors
    /// As [`Embedder::embed`]; a model that is no reranker.
    pub fn score(
        &mut self,
        pairs: &[Sequence],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<f32>> {
        let model = self.model.clone();
        let Some(classifier) = &model.0.weights.classifier else {
            return Err(Error::NoReranker { file: model.0.file.clone() });
        };
        let pooled = self.vectors(pairs, false, progress)?;
        let encoder = model.0.spec.is_encoder();
        Ok(pooled.iter().map(|x| classifier.score(x, encoder)).collect())
    }

    /// The residual streams and the pooled vectors of sequences that fit one batch.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    #[doc(hidden)]
    pub fn hidden(&mut self, sequences: &[Sequence]) -> Result<Hidden> {
        self.check(sequences)?;
        let tokens: usize = sequences.iter().map(|s| s.ids.len()).sum();
        let (gpu, width) = (self.model.0.gpu.clone(), u64::from(self.width()));
        let tap = |_| gpu.alloc(Pool::State, tokens as u64 * width * 4, "tap");
        let taps = (0..=self.model.0.spec.layers()).map(tap).collect::<std::result::Result<Vec<_>, _>>()?;
        let pooled = self.batch(sequences, false, &taps)?;
        let residual = taps.iter().map(|t| gpu.read_vec(t)).collect::<std::result::Result<_, _>>()?;
        Ok(Hidden { residual, pooled })
    }

    fn check(&self, sequences: &[Sequence]) -> Result<()> {
        for (i, s) in sequences.iter().enumerate() {
            let (number, tokens, context) = (i + 1, s.ids.len(), self.context);
            if tokens == 0 {
                return Err(Error::EmptyText { number });
            }
            if tokens > context as usize {
                return Err(Error::TextTooLong { number, tokens, context });
            }
            self.model.check_ids(&s.ids)?;
        }
        Ok(())
    }

    fn vectors(
        &mut self,
        sequences: &[Sequence],
        normalised: bool,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f32>>> {
        self.check(sequences)?;
        let width = self.width() as usize;
        let mut out = Vec::with_capacity(sequences.len());
        while out.len() < sequences.len() {
            let rest = &sequences[out.len()..];
            let mut tokens = 0;
            let fits = |s: &&Sequence| {
                tokens += s.ids.len();
                tokens <= self.batch as usize
            };
            // One that is longer than a batch is one of its own.
            let n = rest.iter().take_while(fits).count().max(1);
            let values = self.batch(&rest[..n], normalised, &[])?;
            out.extend(values.chunks_exact(width).map(<[f32]>::to_vec));
            if progress(out.len()).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(out)
    }

    /// The vectors of a batch, `[sequences, width]` f32.
    fn batch(&mut self, sequences: &[Sequence], normalised: bool, taps: &[Slice]) -> Result<Vec<f32>> {
        let inner = self.model.0.clone();
        let gpu = &inner.gpu;
        let (mut ids, mut spans, mut bounds) = (Vec::new(), Vec::new(), Vec::new());
        let (mut positions, mut types) = (Vec::new(), Vec::new());
        let second = u32::from(inner.spec.embed.types.is_some_and(|n| n > 1));
        for s in sequences {
            let bound = [ids.len() as u32, (ids.len() + s.ids.len()) as u32];
            ids.extend_from_slice(&s.ids);
            bounds.push(bound);
            spans.extend(s.ids.iter().map(|_| bound));
            positions.extend(0..s.ids.len() as u32);
            types.extend((0..s.ids.len()).map(|i| if i < s.first { 0 } else { second }));
        }
        let n = sequences.len() as u32;
        let vectors = Vectors { sequences: n, pooling: self.pooling, normalised, taps: !taps.is_empty() };
        let frame = inner.frame(&self.cache.shapes, None);
        let graph = Graph::plan(&frame, Pass::packed(ids.len() as u32, vectors));
        if graph.bytes() > self.activations.size() {
            // Taps, and several sequences where the plan had one.
            self.activations = gpu.alloc(Pool::Activations, graph.bytes(), "activations")?;
        }
        let p = &self.packed;
        for (to, from) in [(&self.ids, &ids), (&p.rows[0], &positions), (&p.rows[1], &types)] {
            gpu.write(to, 0, bytemuck::cast_slice(from))?;
        }
        gpu.write(&p.spans, 0, bytemuck::cast_slice(&spans))?;
        gpu.write(&p.bounds, 0, bytemuck::cast_slice(&bounds))?;
        let memory = Memory {
            state: &self.nothing,
            ids: &self.ids,
            history: &self.nothing,
            tables: &self.tables,
            last_row: &self.nothing,
            cache: &self.cache,
            activations: &self.activations,
            lora: None,
            taps,
            sums: None,
            packed: Some(p),
            chosen: None,
        };
        let mut rec = Recorder::new(gpu);
        let out = graph.record(&mut rec, &frame, &inner.weights, &memory)?.expect("asked for");
        let used = out.range(0, u64::from(n) * u64::from(inner.spec.width) * 4);
        let submission = gpu.run(&rec.finish()?, Some(&used))?;
        Ok(bytemuck::pod_collect_to_vec(&submission.readback.expect("asked for").wait()?))
    }
}

/// What Qwen3-Reranker was trained to answer, for files that do not hold it.
const RERANK_PROMPT: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: {query}\n<Document>: {document}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

impl Classifier {
    /// The score of a pooled vector `[width]`.
    fn score(&self, x: &[f32], encoder: bool) -> f32 {
        let layer = |w: &[f32], bias: &[f32], x: &[f32]| -> Vec<f32> {
            let dot =
                |row: &[f32]| row.iter().zip(x).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
            w.chunks_exact(x.len()).zip(bias).map(|(row, &b)| (dot(row) + f64::from(b)) as f32).collect()
        };
        let hidden = self.dense.as_ref().map(|[w, b]| {
            let mut hidden = layer(w, b, x);
            hidden.iter_mut().for_each(|v| *v = v.tanh());
            hidden
        });
        let classes = layer(&self.output, &self.bias, hidden.as_deref().unwrap_or(x));
        match *classes.as_slice() {
            [yes, no, ..] if !encoder => 1.0 / (1.0 + (no - yes).exp()),
            [first, ..] => first,
            [] => f32::NAN,
        }
    }
}
