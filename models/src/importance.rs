//! Importance: sums of squares of the activations that meet each column of a matrix, over a text.

use std::collections::HashMap;
use std::ops::ControlFlow;

use weft_runtime::{Pool, Program, Slice};

use crate::graph::{Sums, Want};
use crate::session::Extra;
use crate::sites::Target;
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
///     println!("{tensor}: {sums:?} over {} tokens", importance.tokens());
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
        if c.has_experts() {
            let what = "an importance matrix of experts is not collected (supported: models without experts)";
            return Err(Error::Unsupported { what: what.into() });
        }
        let zeros = |columns: u32| {
            let zeros = vec![0f32; columns as usize];
            self.gpu().alloc_init(Pool::State, bytemuck::cast_slice(&zeros), "sums of squares")
        };
        let layer = || -> Result<[Slice; 4]> {
            let of = |t: Target| zeros(t.inputs(c));
            Ok([of(Target::Q)?, of(Target::O)?, of(Target::Gate)?, of(Target::Down)?])
        };
        let sums = Sums {
            layers: (0..c.layers()).map(|_| layer()).collect::<Result<_>>()?,
            head: (head && !c.out.tied).then(|| zeros(c.width)).transpose()?,
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

    /// The sums, by the name of the tensor whose columns they are for.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn sums(&self) -> Result<Vec<(String, Vec<f32>)>> {
        let gpu = self.session.model.gpu();
        let mut all = Vec::new();
        for (layer, groups) in self.sums.layers.iter().enumerate() {
            let sums =
                groups.iter().map(|s| gpu.read_vec::<f32>(s)).collect::<std::result::Result<Vec<_>, _>>()?;
            for t in Target::ALL {
                all.push((t.tensor(layer as u32), sums[t.group() as usize].clone()));
            }
        }
        if let Some(head) = &self.sums.head {
            all.push(("output.weight".to_owned(), gpu.read_vec(head)?));
        }
        Ok(all)
    }
}
