//! Importance: sums of squares of the activations that meet each column of a matrix, over a text.

use std::collections::HashMap;
use std::ops::ControlFlow;

use weft_formats::imatrix;
use weft_kernels::ops::experts;
use weft_runtime::{Pool, Program, Slice};

use crate::graph::{Sums, Want};
use crate::session::Extra;
use crate::sites::{Group, Site};
use crate::{Error, Model, Result, Sampling, Session};

/// Observes what a model's matrices multiply while it reads.
///
/// ```no_run
/// # fn main() -> Result<(), weft_models::Error> {
/// # use std::ops::ControlFlow;
/// # let model = weft_models::Model::open("model.gguf", &Default::default())?;
/// # let tokens = vec![1u32; 1024];
/// let mut importance = model.importance(512, false)?;
/// for chunk in tokens.chunks_exact(512) {
///     importance.read(chunk, &mut |_| ControlFlow::Continue(()))?;
/// }
/// for (tensor, sums) in importance.sums()? {
///     println!("{tensor}: {:?} over {:?} tokens", sums.squares, sums.counts);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Importance {
    session: Session,
    sums: Sums,
    /// By the tokens of a batch.
    programs: HashMap<u32, Program>,
    tokens: u64,
}

impl Model {
    /// Sums of nothing yet, for texts of at most `context` tokens; with `head` of the output head's input as
    /// well, where the head is a tensor of its own.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn importance(&self, context: u32, head: bool) -> Result<Importance> {
        let c = self.spec();
        let zeros = |values: u64| {
            let zeros = vec![0f32; values as usize];
            self.gpu().alloc_init(Pool::State, bytemuck::cast_slice(&zeros), "sums of squares")
        };
        let layer = |layer: u32| -> Result<[Slice; 4]> {
            let of = |group: Group| {
                let inputs = group.targets()[0].inputs(c);
                zeros(match c.experts(layer) {
                    Some(e) if group.by_experts() => experts::imatrix::sums(e.count, inputs),
                    _ => u64::from(inputs),
                })
            };
            let [qkv, output, gate_up, down] = Group::ALL.map(of);
            Ok([qkv?, output?, gate_up?, down?])
        };
        let sums = Sums {
            layers: (0..c.layers()).map(layer).collect::<Result<_>>()?,
            head: (head && !c.out.tied).then(|| zeros(c.width.into())).transpose()?,
        };
        Ok(Importance { session: self.session(context)?, sums, programs: HashMap::new(), tokens: 0 })
    }
}

impl Importance {
    /// Tokens of a full batch.
    pub fn batch(&self) -> u32 {
        self.session.chunk()
    }

    /// What a batch of `tokens` records.
    ///
    /// # Errors
    /// An op that does not fit the device.
    #[doc(hidden)]
    pub fn recording(&self, tokens: u32) -> Result<weft_runtime::Recorder> {
        let want = Want::Sums { head: self.sums.head.is_some() };
        Ok(self.session.recording(tokens, self.session.context(), want, &Extra::sums(&self.sums))?.0)
    }

    /// Tokens read so far: what each sum is over.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Reads one text from its beginning and adds to the sums. `progress` is told its tokens so far after each
    /// batch; `Break` cancels.
    ///
    /// # Errors
    /// As [`Session::generate`]; [`Error::Cancelled`].
    pub fn read(&mut self, tokens: &[u32], progress: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<()> {
        let session = &self.session;
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if tokens.len() > session.context() as usize {
            return Err(Error::PromptTooLong { tokens: tokens.len(), context: session.context() });
        }
        session.model.check_ids(tokens)?;
        let gpu = session.model.gpu();
        let mut done = 0;
        for batch in tokens.chunks(session.chunk() as usize) {
            let n = batch.len() as u32;
            if !self.programs.contains_key(&n) {
                self.programs.insert(n, self.recording(n)?.finish()?);
            }
            session.write_state(done as u32, &Sampling::greedy())?;
            gpu.write(&session.ids, 0, bytemuck::cast_slice(batch))?;
            gpu.run(&self.programs[&n], None)?;
            done += batch.len();
            self.tokens += u64::from(n);
            if progress(done).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// The sums, by the name of the tensor whose columns they are for, and over how many tokens each is: an expert's
    /// are over those that were sent to it.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn sums(&self) -> Result<Vec<(String, imatrix::Sums)>> {
        let model = &self.session.model;
        let tokens = self.tokens as f32;
        let mut all = Vec::new();
        for (layer, groups) in (0..).zip(&self.sums.layers) {
            for (group, sums) in Group::ALL.into_iter().zip(groups) {
                let mut squares = model.gpu().read_vec::<f32>(sums)?;
                let experts = model.spec().experts(layer).filter(|_| group.by_experts());
                let counts = match experts {
                    Some(e) => squares.split_off(squares.len() - e.count as usize),
                    None => vec![tokens],
                };
                let sums = imatrix::Sums { squares, counts };
                let tensors = model.0.layout.tensors(Site::Layer(layer, group));
                all.extend(tensors.map(|name| (format!("{name}.weight"), sums.clone())));
            }
        }
        if let Some(head) = &self.sums.head {
            let sums = imatrix::Sums { squares: model.gpu().read_vec(head)?, counts: vec![tokens] };
            all.push(("output.weight".to_owned(), sums));
        }
        Ok(all)
    }
}
