//! The thread that drives a backend.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use weft_models::engine::{Event, Id, Request};

use super::queue::{Door, Full, Limits, Queue, Waiting};
use super::totals::{Totals, add, add_time};
use super::{Backend, Fault, Said, Start};

/// Commands that may be on their way to the thread.
const COMMANDS: usize = 1024;

enum Command {
    Submit(Vec<Request>, u64, Out),
    Look(oneshot::Sender<Look>),
    /// No request is taken any more, and none runs beyond this moment.
    End(Instant),
}

/// What is said is sent with the number of the request among those that were submitted together. The channel has no
/// bound of its own: an answer says at most as much as its context has tokens, and a slow reader must not hold up the
/// others.
type Out = UnboundedSender<(u32, Said)>;

/// What a slot does.
#[derive(Debug, Clone)]
pub struct SlotLook {
    /// The request.
    pub id: u64,
    /// Tokens of its prompt, and of those how many are computed.
    pub prompt: (usize, usize),
    /// Tokens drawn.
    pub generated: usize,
    /// The most that may be.
    pub max_tokens: usize,
}

/// What there is to see of an engine.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// What runs.
    pub running: Vec<SlotLook>,
    /// How many wait.
    pub waiting: usize,
    /// Blocks of the cache that answers have, and all there are.
    pub blocks: (usize, usize),
}

/// The async side of a worker.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: SyncSender<Command>,
    door: Arc<Door>,
    limits: Limits,
    slots: Arc<AtomicUsize>,
    /// Sums since the start.
    pub totals: Arc<Totals>,
}

impl Handle {
    /// Asks for answers, one a request, drawn together; `key` says who asks. What comes of them is received; dropping
    /// the receiver cancels them all.
    ///
    /// # Errors
    /// There is no room.
    pub fn submit(&self, requests: Vec<Request>, key: u64) -> Result<UnboundedReceiver<(u32, Said)>, Full> {
        let n = requests.len();
        let refused = |full: Full| {
            add(&self.totals.refused, n);
            full
        };
        self.door.enter(key, n, self.slots.load(Ordering::Relaxed), &self.limits).map_err(refused)?;
        let (out, said) = unbounded_channel();
        if self.commands.try_send(Command::Submit(requests, key, out)).is_err() {
            (0..n).for_each(|_| self.door.leave(key, false));
            return Err(refused(Full::Queue { retry_after: 1 }));
        }
        Ok(said)
    }

    /// What the engine does now; None where it does not answer.
    pub async fn look(&self) -> Option<Look> {
        let (to, back) = oneshot::channel();
        self.commands.try_send(Command::Look(to)).ok()?;
        back.await.ok()
    }

    /// Requests that wait, and those that run.
    pub fn load(&self) -> (usize, usize) {
        self.door.load()
    }

    /// Takes no more requests; those that are there may go on until `deadline`.
    pub fn end(&self, deadline: Instant) {
        self.door.close();
        // Where the channel is full or the thread is gone, there is nobody to tell.
        let _ = self.commands.try_send(Command::End(deadline));
    }
}

/// The thread.
#[derive(Debug)]
pub struct Worker {
    thread: JoinHandle<()>,
    handle: Handle,
}

impl Worker {
    /// Makes a backend on a thread of its own and drives it there.
    ///
    /// # Errors
    /// What `start` says, or the system, which gives no thread.
    pub fn spawn(mut start: Start, limits: Limits) -> Result<Worker, String> {
        let (commands, from) = sync_channel(COMMANDS);
        let handle =
            Handle { commands, door: Arc::default(), limits, slots: Arc::default(), totals: Arc::default() };
        let (ready, is_ready) = sync_channel(1);
        let own = handle.clone();
        let run = move || {
            let backend = match start() {
                Ok(backend) => backend,
                Err(why) => return drop(ready.send(Err(why))),
            };
            own.slots.store(backend.slots(), Ordering::Relaxed);
            // Who spawned the thread waits for this.
            let _ = ready.send(Ok(()));
            let Handle { door, limits, totals, .. } = own;
            let queue = Queue::new();
            let lives = HashMap::new();
            Driver { backend: Some(backend), start, from, door, limits, totals, queue, lives, end: None }
                .run();
        };
        let thread =
            std::thread::Builder::new().name("engine".into()).spawn(run).map_err(|e| e.to_string())?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Worker { thread, handle }),
            Ok(Err(why)) => Err(why),
            Err(_) => Err("the engine's thread ended before it began".into()),
        }
    }

    /// The async side.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Takes no more requests, lets those that are there go on until `deadline`, and waits for the thread.
    pub fn end(self, deadline: Instant) {
        self.handle.end(deadline);
        let Worker { thread, handle } = self;
        // The thread ends when nobody can ask it any more, too.
        drop(handle);
        // Its panics were told already.
        let _ = thread.join();
    }
}

/// A request that waits.
struct Asked {
    request: Request,
    index: u32,
    out: Out,
}

/// A request that the backend has.
struct Live {
    index: u32,
    out: Out,
    since: Instant,
    waited: Duration,
    look: SlotLook,
}

struct Driver {
    backend: Option<Box<dyn Backend>>,
    start: Start,
    from: Receiver<Command>,
    door: Arc<Door>,
    limits: Limits,
    totals: Arc<Totals>,
    queue: Queue<Asked>,
    lives: HashMap<Id, Live>,
    end: Option<Instant>,
}

impl Driver {
    fn run(mut self) {
        loop {
            if !self.listen() {
                break;
            }
            self.drop_the_gone();
            if self.is_over() {
                break;
            }
            self.feed();
            if !self.lives.is_empty() {
                self.step();
            }
        }
        self.door.close();
        self.fail_all(&Fault::Ending);
    }

    /// Takes commands: waits for one where there is nothing else to do. False where nobody is left to send any.
    fn listen(&mut self) -> bool {
        let mut busy = !self.lives.is_empty() || !self.queue.is_empty() || self.end.is_some();
        loop {
            let next = match busy {
                true => self.from.try_recv(),
                false => self.from.recv().map_err(|_| TryRecvError::Disconnected),
            };
            match next {
                Ok(Command::Submit(requests, key, out)) => {
                    let since = Instant::now();
                    for (index, request) in (0..).zip(requests) {
                        let what = Asked { request, index, out: out.clone() };
                        self.queue.push(Waiting { key, since, what });
                    }
                }
                Ok(Command::Look(to)) => {
                    // Who asked may be gone.
                    let _ = to.send(self.look());
                    continue;
                }
                Ok(Command::End(at)) => self.end = Some(at),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !self.lives.is_empty() || !self.queue.is_empty(),
            }
            busy = true;
        }
    }

    fn look(&self) -> Look {
        let mut running: Vec<_> = self.lives.values().map(|l| l.look.clone()).collect();
        running.sort_by_key(|l| l.id);
        let backend = self.backend.as_ref();
        Look { running, waiting: self.door.load().0, blocks: backend.map_or((0, 0), |b| b.blocks()) }
    }

    /// Whether the server ends and nothing is left to do, or no time for it.
    fn is_over(&self) -> bool {
        let idle = self.lives.is_empty() && self.queue.is_empty();
        self.end.is_some_and(|at| idle || Instant::now() >= at)
    }

    /// Cancels requests that nobody listens to, and those that waited too long.
    fn drop_the_gone(&mut self) {
        let now = Instant::now();
        let age = self.limits.age;
        let leaves = |w: &Waiting<Asked>| w.what.out.is_closed() || now - w.since > age;
        for w in self.queue.take_out(leaves) {
            self.door.leave(w.key, false);
            let counter = if w.what.out.is_closed() { &self.totals.cancelled } else { &self.totals.failed };
            counter.fetch_add(1, Ordering::Relaxed);
            send(&w.what.out, w.what.index, Said::Failed(Fault::Overdue(now - w.since)));
        }
        let gone: Vec<Id> = self.lives.iter().filter(|(_, l)| l.out.is_closed()).map(|(id, _)| *id).collect();
        for id in gone {
            self.lives.remove(&id);
            self.door.done(None);
            self.totals.cancelled.fetch_add(1, Ordering::Relaxed);
            if let Some(backend) = &mut self.backend {
                backend.cancel(id);
            }
        }
    }

    /// Gives the backend what it has slots for.
    fn feed(&mut self) {
        let Some(backend) = &mut self.backend else { return self.restart() };
        while self.lives.len() < backend.slots() {
            let Some(Waiting { key, since, what: Asked { request, index, out } }) = self.queue.pop() else {
                return;
            };
            let (prompt, max_tokens) = (request.prompt.len(), request.max_tokens);
            match backend.submit(request) {
                Ok(id) => {
                    self.door.leave(key, true);
                    let look = SlotLook { id: id.0, prompt: (prompt, 0), generated: 0, max_tokens };
                    let waited = since.elapsed();
                    self.lives.insert(id, Live { index, out, since: Instant::now(), waited, look });
                }
                Err(e) => {
                    self.door.leave(key, false);
                    self.totals.failed.fetch_add(1, Ordering::Relaxed);
                    send(&out, index, Said::Failed(Fault::Refused(e.to_string())));
                }
            }
        }
    }

    fn step(&mut self) {
        let Some(backend) = &mut self.backend else { return };
        self.totals.steps.fetch_add(1, Ordering::Relaxed);
        let before = backend.preempted();
        let stepped = catch_unwind(AssertUnwindSafe(|| backend.step()));
        // Differences are added up, since a backend that is made again counts from nothing.
        self.totals.preempted.fetch_add(backend.preempted().saturating_sub(before), Ordering::Relaxed);
        let events = match stepped {
            Ok(Ok(events)) if events.is_empty() => return self.lose("the engine forgot its requests"),
            Ok(Ok(events)) => events,
            Ok(Err(e)) => return self.lose(&e.to_string()),
            Err(_) => return self.lose("the engine met a bug of its own"),
        };
        for event in events {
            self.pass_on(event);
        }
    }

    fn pass_on(&mut self, event: Event) {
        let id = event.id();
        let Some(live) = self.lives.get_mut(&id) else { return };
        let t = &self.totals;
        let mut last = None;
        let said = match event {
            Event::Started { prompt, cached, .. } => {
                live.look.prompt.1 = cached;
                // Here, since one that is cancelled or fails was read as well.
                add(&t.prompt, prompt);
                add(&t.cached, cached);
                Said::Started { prompt, cached }
            }
            Event::Progress { done, total, .. } => {
                live.look.prompt.1 = done;
                Said::Progress { done, total }
            }
            Event::Prompt { first, logprobs, .. } => Said::Prompt { first, logprobs },
            Event::Token { token, text, logprobs, .. } => {
                live.look.generated += 1;
                add(&t.generated, 1);
                Said::Token { token, text, logprobs }
            }
            Event::Finished { reason, text, mut usage, .. } => {
                usage.queued += live.waited;
                // The token that ended the text was drawn too, and is told as no token.
                add(&t.generated, usage.generated.saturating_sub(live.look.generated));
                add(&t.drafted, usage.drafted.0);
                add(&t.accepted, usage.drafted.1);
                add_time(&t.queued_us, usage.queued);
                add_time(&t.prefill_us, usage.prefill);
                add_time(&t.decode_us, usage.decode);
                add(&t.finished, 1);
                t.first_token.add(usage.queued + usage.prefill);
                if let Some(gaps) =
                    u32::try_from(usage.generated).ok().and_then(|n| n.checked_sub(1)).filter(|n| *n > 0)
                {
                    t.per_token.add(usage.decode / gaps);
                }
                last = Some(Some(live.since.elapsed()));
                Said::Finished { reason, text, usage }
            }
            Event::Failed { error, .. } => {
                add(&t.failed, 1);
                last = Some(None);
                Said::Failed(Fault::Failed(error.to_string()))
            }
        };
        send(&live.out, live.index, said);
        if let Some(took) = last {
            self.lives.remove(&id);
            self.door.done(took);
        }
    }

    /// Everything that ran is lost with the backend.
    fn lose(&mut self, why: &str) {
        // What is half gone may panic again where it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.backend.take())));
        self.totals.lost.fetch_add(1, Ordering::Relaxed);
        self.fail_lives(&Fault::Lost(why.to_owned()));
    }

    /// Makes a new backend in place of one that was lost.
    fn restart(&mut self) {
        match catch_unwind(AssertUnwindSafe(|| (self.start)())) {
            Ok(Ok(backend)) => self.backend = Some(backend),
            Ok(Err(why)) => self.fail_all(&Fault::Lost(why)),
            Err(_) => self.fail_all(&Fault::Lost("the engine cannot be made again".into())),
        }
    }

    fn fail_lives(&mut self, fault: &Fault) {
        for (_, live) in self.lives.drain() {
            self.door.done(None);
            self.totals.failed.fetch_add(1, Ordering::Relaxed);
            send(&live.out, live.index, Said::Failed(fault.clone()));
        }
    }

    fn fail_all(&mut self, fault: &Fault) {
        self.fail_lives(fault);
        while let Some(w) = self.queue.pop() {
            self.door.leave(w.key, false);
            self.totals.failed.fetch_add(1, Ordering::Relaxed);
            send(&w.what.out, w.what.index, Said::Failed(fault.clone()));
        }
        // Those that are on their way to the thread are told by the end of their channel.
    }
}

/// Who is gone is noticed before the next step.
fn send(out: &Out, index: u32, said: Said) {
    let _ = out.send((index, said));
}
