//! Many answers from one model: requests are asked for at any time, share the keys and values of what their prompts begin
//! with, and are drawn together, each step one token of each, while prompts are computed in pieces in between.
//!
//! ```no_run
//! use weft_models::engine::{Engine, Event, Options, Request};
//! use weft_models::{Model, Sampling};
//!
//! # fn main() -> Result<(), weft_models::Error> {
//! let model = Model::open("model.gguf", &Default::default())?;
//! let mut engine = Engine::new(&model, &Options::default())?;
//! for question in ["What is 17 + 25?", "Name a prime."] {
//!     let prompt = model.chat(&[weft_models::Message::user(question)], None)?;
//!     engine.submit(Request::new(prompt, Sampling::default(), 256))?;
//! }
//! loop {
//!     let events = engine.step()?;
//!     if events.is_empty() {
//!         break;
//!     }
//!     for event in events {
//!         if let Event::Token { id, text, .. } = event {
//!             println!("{id}: {text}");
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here has threads or does I/O. All policy is in `schedule.rs`, which runs on any `Device`: its tests have one
//! that computes with hashes, and a clock of their own.

mod answer;
mod choose;
mod device;
mod draft;
mod gpu;
mod pace;
mod packed;
mod pieces;
mod pool;
#[cfg(not(target_arch = "wasm32"))]
mod prefix;
mod request;
mod room;
mod schedule;
mod score;
mod spread;
#[cfg(test)]
mod tests;
mod text;
mod told;
mod verify;

use std::time::Instant;

pub use request::{Event, Finish, Id, Logprobs, Mask, Request, Usage};
pub use weft_kernels::layout::BLOCK;

pub use room::{GUESSES, MAX_SLOTS, Plan, plan};
pub use spread::side_by_side;

use weft_runtime::{Caps, DeviceKind};

use crate::{AdapterFile, Error, Model, Result};
use device::Device;
use draft::Smaller;
use gpu::Gpu;
use room::Room;
use schedule::{Next, Scheduler};
use text::Text;

/// What an engine has room for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Answers that are drawn at a time; others wait.
    pub slots: u32,
    /// Positions of each at most; None for the model's own, at most 4,096.
    pub context: Option<u32>,
    /// Positions of all together, at least those of one; None for as many as all may have. With fewer, answers wait for
    /// room, or are sent back to the queue and computed again, and share what their prompts begin with all the more.
    pub positions: Option<u64>,
    /// Rows of a step besides those of slots, for guesses that are verified ([`Request::draft`]), such as [`GUESSES`]; 0
    /// for none. Slots that nobody has serve as well.
    pub guesses: u32,
    /// Whether short prompts that wait at the same time are computed in one program. None for where that gains: a GPU reads
    /// the weights once for all of them, and a CPU waits for its products whoever they are for.
    pub together: Option<bool>,
}

impl Default for Options {
    fn default() -> Options {
        Options { slots: 4, context: None, positions: None, guesses: 0, together: None }
    }
}

impl Options {
    /// Whether short prompts share programs on a device.
    fn shares(&self, caps: &Caps) -> bool {
        self.together.unwrap_or(caps.kind != DeviceKind::Cpu)
    }
}

/// Draws answers, many at a time.
pub struct Engine {
    model: Model,
    scheduler: Scheduler<Gpu>,
}

impl Engine {
    /// Takes the memory of all slots.
    ///
    /// # Errors
    /// A context of 0, no slots or too many, more memory than the device has left.
    pub fn new(model: &Model, options: &Options) -> Result<Engine> {
        Engine::with_adapters(model, options, &[])
    }

    /// The same, with adapters that each request takes by number and at strengths of its own ([`Request::adapters`]).
    /// Answers with any of them, and with none, are rows of the same steps; where no answer has one, a step computes what
    /// it would without them.
    ///
    /// # Errors
    /// As [`Engine::new`]; an adapter of another model (see [`open_adapter`](crate::open_adapter), which checks), or a
    /// model that has adapters for all requests already.
    pub fn with_adapters(model: &Model, options: &Options, adapters: &[&AdapterFile]) -> Result<Engine> {
        model.check_resident()?;
        let device = Gpu::new(model, options, adapters)?;
        Ok(Engine { model: model.clone(), scheduler: Scheduler::new(device, Instant::now()) })
    }

    /// What [`Engine::new`] would take.
    ///
    /// # Errors
    /// As [`Engine::new`], but for memory.
    pub fn plan(model: &Model, options: &Options) -> Result<Plan> {
        Ok(Room::of(model, options, None)?.plan)
    }

    /// Has a smaller model guess what comes next in answers that are asked for from now on, in place of a look at what
    /// followed before. It takes a session of its own for each slot. Rows for guesses come from [`Options::guesses`].
    ///
    /// # Errors
    /// A model of another vocabulary, or one that has no tokenizer; memory.
    pub fn draft_with(&mut self, smaller: &Model) -> Result<()> {
        let [ours, theirs] = [self.model.tokenizer()?, smaller.tokenizer()?];
        let other = |what: String| {
            Err(Error::Unsupported {
                what: format!("{} cannot guess for {}: {what}", smaller.0.file, self.model.0.file),
            })
        };
        let (n, m) = (ours.vocab_size(), theirs.vocab_size());
        if n != m {
            return other(format!("its vocabulary has {m} tokens, the other {n}"));
        }
        if let Some(id) = (0..n as u32).find(|&id| ours.token_text(id) != theirs.token_text(id)) {
            return other(format!("token {id} is another in its vocabulary"));
        }
        let (slots, context) = (self.slots(), self.context() as u32);
        self.scheduler.drafter = Some(Box::new(Smaller::new(smaller, slots, context)?));
        Ok(())
    }

    /// Requests the kernels for a prompt of so many tokens and its answer, and does not wait for them.
    ///
    /// # Errors
    /// An op that does not fit the device.
    pub fn prepare(&self, prompt: usize) -> Result<()> {
        self.scheduler.device.prepare(prompt)
    }

    /// What a step of so many rows records.
    ///
    /// # Errors
    /// An op that does not fit the device.
    #[doc(hidden)]
    pub fn recording(&self, rows: u32, positions: u32) -> Result<weft_runtime::Recorder> {
        self.scheduler.device.recording(rows, positions)
    }

    /// Has guesses made wherever there are any, whatever they cost: for tests.
    #[doc(hidden)]
    pub fn always_guess(&mut self) {
        self.scheduler.pace.always_guess = true;
    }

    /// Computes the last step once more and says how long that took: see [`weft_runtime::Gpu::measure`]. Answers, and what
    /// the cache holds, are of no use afterwards; None if there was no step.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn replay(&mut self, apart: bool) -> Result<Option<weft_runtime::Replay>> {
        self.scheduler.device.replay(apart)
    }

    /// The model that answers.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Adapters that requests can take.
    pub fn adapters(&self) -> usize {
        self.scheduler.device.layout().adapters
    }

    /// Answers that are drawn at a time.
    pub fn slots(&self) -> usize {
        self.scheduler.device.layout().slots
    }

    /// Positions of an answer at most, its prompt's among them.
    pub fn context(&self) -> usize {
        self.scheduler.device.layout().context
    }

    /// Asks for an answer, which [`Engine::step`] will give.
    ///
    /// # Errors
    /// An empty prompt or one longer than the context, an id out of range, senseless sampling values.
    pub fn submit(&mut self, request: Request) -> Result<Id> {
        let tokenizer = self.model.tokenizer();
        if !request.stop.is_empty() {
            tokenizer
                .as_ref()
                .map_err(|e| Error::Unsupported { what: format!("stop strings need a tokenizer: {e}") })?;
        }
        let text = Text::new(tokenizer.ok(), request.special, request.stop.clone());
        self.scheduler.submit(request, text, Instant::now())
    }

    /// Ends a request, in the queue or on its way, without a further event; whether there was one.
    pub fn cancel(&mut self, id: Id) -> bool {
        self.scheduler.cancel(id)
    }

    /// What happened next, at least one event; none once there is nothing to do.
    ///
    /// # Errors
    /// A fault of the device, which ends all requests; the engine is of no use then.
    pub fn step(&mut self) -> Result<Vec<Event>> {
        loop {
            match self.scheduler.next(Instant::now())? {
                Next::Events(events) => return Ok(events),
                Next::Wait(ticket) => {
                    let words = self.scheduler.device.wait(ticket)?;
                    self.scheduler.landed(words, Instant::now())?;
                }
            }
        }
    }

    /// As [`Engine::step`], without blocking.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub async fn step_async(&mut self) -> Result<Vec<Event>> {
        loop {
            match self.scheduler.next(Instant::now())? {
                Next::Events(events) => return Ok(events),
                Next::Wait(ticket) => {
                    let words = bytemuck::pod_collect_to_vec(&ticket.await?);
                    self.scheduler.landed(words, Instant::now())?;
                }
            }
        }
    }

    /// Requests in the queue, and those that have a slot.
    pub fn load(&self) -> (usize, usize) {
        self.scheduler.load()
    }

    /// Blocks of the cache that answers have, and all there are.
    pub fn blocks(&self) -> (usize, usize) {
        self.scheduler.blocks()
    }

    /// How often an answer lost its slot for want of blocks.
    pub fn preempted(&self) -> u64 {
        self.scheduler.preempted
    }

    /// Whether programs use neither f16 arithmetic nor cooperative matrices because logits were not finite with them; it
    /// stays so, as in [`Session::without_f16`](crate::Session::without_f16).
    pub fn without_f16(&self) -> bool {
        self.scheduler.device.without_f16()
    }

    /// What has run here: each distinct pipeline with how often a replay dispatches it and its largest grid.
    pub fn explain(&self) -> Vec<String> {
        self.scheduler.device.explain()
    }
}
