//! A backend that computes with hashes and needs no GPU: for tests of everything in front of the engine.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use weft_formats::tokenizer::{StreamDecoder, Tokenizer};
use weft_models::engine::{Event, Finish, Id, Logprobs, Request, Usage};
use weft_models::{Error, Result};

use super::Backend;

/// Draws tokens by a hash of everything before them and of the seed, one a step for each answer.
pub struct Fake {
    tokenizer: Tokenizer,
    slots: usize,
    context: usize,
    /// How long a step takes.
    pub step_time: Duration,
    /// After so many steps the device is lost.
    pub lost_after: Option<u64>,
    queue: VecDeque<Id>,
    lives: BTreeMap<Id, Live>,
    last: u64,
    steps: u64,
}

/// What is told of a token.
fn likelihoods(token: u32, n: usize) -> Logprobs {
    let top = (0..n as u32).map(|i| ((token + i) % 256, -0.5 - i as f32)).collect();
    Logprobs { logprob: -0.5, top }
}

struct Live {
    request: Request,
    known: Vec<u32>,
    decoder: StreamDecoder,
    held: String,
    started: bool,
    asked: Instant,
    usage: Usage,
}

impl Fake {
    /// With so many slots, and positions in each.
    pub fn new(tokenizer: Tokenizer, slots: usize, context: usize) -> Fake {
        Fake {
            tokenizer,
            slots,
            context,
            step_time: Duration::ZERO,
            lost_after: None,
            queue: VecDeque::new(),
            lives: BTreeMap::new(),
            last: 0,
            steps: 0,
        }
    }

    /// The next token; every 64th or so ends the text.
    fn draw(&self, live: &mut Live) -> std::result::Result<u32, String> {
        let seed = if live.request.sampling.temperature == 0.0 { 0 } else { live.request.sampling.seed };
        let mut h = u64::from(seed) ^ 0x9e37_79b9_7f4a_7c15;
        for (number, strength) in live.request.adapters.iter().filter(|(_, strength)| *strength != 0.0) {
            let by = (*number as u64 + 1).wrapping_mul(u64::from(strength.to_bits()));
            h = h.wrapping_add(by.wrapping_mul(0x94d0_49bb_1331_11eb));
        }
        for id in live.known.iter().rev().take(32) {
            h = (h ^ u64::from(*id)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(29);
        }
        let vocabulary = self.tokenizer.vocab_size() as u32;
        let mut token = ((h >> 20) % u64::from(vocabulary)) as u32;
        if let Some(mask) = live.request.mask.as_mut().filter(|m| !m.is_free()) {
            let mut bits = vec![0; vocabulary.div_ceil(32) as usize];
            mask.allowed(&mut bits)?;
            let is = |id: u32| bits[(id / 32) as usize] >> (id % 32) & 1 == 1;
            let found = (token..vocabulary).chain(0..token).find(|&id| is(id));
            token = found.ok_or("no token may come next")?;
        } else if h % 64 == 0
            && let Some(end) = self.tokenizer.eos()
        {
            token = end;
        } else if self.tokenizer.is_control(token) {
            token = self.tokenizer.encode("a", false).first().copied().unwrap_or(token);
        }
        if let Some((id, _)) = live.request.logit_bias.iter().find(|(_, by)| *by >= 100.0) {
            token = *id;
        }
        Ok(token)
    }

    fn advance(&self, id: Id, live: &mut Live, events: &mut Vec<Event>) -> bool {
        if !live.started {
            live.started = true;
            live.usage.queued = live.asked.elapsed();
            let prompt = live.request.prompt.len();
            events.push(Event::Started { id, prompt, cached: 0 });
            events.push(Event::Progress { id, done: prompt, total: prompt });
            if let Some(n) = live.request.prompt_logprobs.filter(|_| prompt > 1) {
                let of = |token: &u32| likelihoods(*token, n);
                let logprobs = live.request.prompt[1..].iter().map(of).collect();
                events.push(Event::Prompt { id, first: 1, logprobs });
            }
            return false;
        }
        if live.usage.generated >= live.request.max_tokens {
            events.push(finish(id, live, Finish::MaxTokens));
            return true;
        }
        let token = match self.draw(live) {
            Ok(token) => token,
            Err(what) => {
                events.push(Event::Failed { id, error: Error::Mask { what } });
                return true;
            }
        };
        live.usage.generated += 1;
        live.known.push(token);
        if self.tokenizer.is_eog(token) && !live.request.sampling.ignore_eos {
            events.push(finish(id, live, Finish::EndOfText));
            return true;
        }
        if let Some(Err(what)) = live.request.mask.as_mut().map(|m| m.accept(token)) {
            events.push(Event::Failed { id, error: Error::Mask { what } });
            return true;
        }
        let logprobs = live.request.logprobs.map(|n| likelihoods(token, n));
        live.held += &live.decoder.push(token);
        if let Some((at, stop)) = live
            .request
            .stop
            .iter()
            .filter_map(|s| live.held.find(s.as_str()).map(|at| (at, s.clone())))
            .min()
        {
            let text = live.held[..at].to_owned();
            live.held.clear();
            events.push(Event::Token { id, token, text, logprobs });
            let (reason, usage) = (Finish::StopString(stop), live.usage);
            events.push(Event::Finished { id, reason, text: String::new(), usage });
            return true;
        }
        let open = |stop: &String| {
            (1..stop.len()).rev().find(|&n| live.held.ends_with(stop.get(..n).unwrap_or("\0")))
        };
        let keep = live.request.stop.iter().filter_map(open).max().unwrap_or(0);
        let rest = live.held.split_off(live.held.len() - keep);
        let text = std::mem::replace(&mut live.held, rest);
        events.push(Event::Token { id, token, text, logprobs });
        let reason = match () {
            () if live.usage.generated >= live.request.max_tokens => Finish::MaxTokens,
            () if live.known.len() >= self.context => Finish::Context,
            () => return false,
        };
        events.push(finish(id, live, reason));
        true
    }
}

fn finish(id: Id, live: &mut Live, reason: Finish) -> Event {
    let text = std::mem::take(&mut live.held) + &live.decoder.finish();
    Event::Finished { id, reason, text, usage: live.usage }
}

impl Backend for Fake {
    fn submit(&mut self, request: Request) -> Result<Id> {
        if request.prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let vocabulary = self.tokenizer.vocab_size() as u32;
        if let Some(&id) = request.prompt.iter().find(|&&id| id >= vocabulary) {
            return Err(Error::TokenRange { id, vocabulary });
        }
        self.last += 1;
        let id = Id(self.last);
        let live = Live {
            known: request.prompt.clone(),
            decoder: self.tokenizer.stream(request.special).continuing(),
            held: String::new(),
            started: false,
            asked: Instant::now(),
            usage: Usage { prompt: request.prompt.len(), ..Usage::default() },
            request,
        };
        self.lives.insert(id, live);
        self.queue.push_back(id);
        Ok(id)
    }

    fn cancel(&mut self, id: Id) -> bool {
        self.queue.retain(|i| *i != id);
        self.lives.remove(&id).is_some()
    }

    fn step(&mut self) -> Result<Vec<Event>> {
        std::thread::sleep(self.step_time);
        self.steps += 1;
        if self.lost_after.is_some_and(|n| self.steps > n) {
            return Err(Error::Unsupported { what: "the device is lost".into() });
        }
        let mut events = Vec::new();
        let turn: Vec<Id> = self.queue.iter().take(self.slots).copied().collect();
        for id in turn {
            let Some(mut live) = self.lives.remove(&id) else { continue };
            if self.advance(id, &mut live, &mut events) {
                self.queue.retain(|i| *i != id);
            } else {
                self.lives.insert(id, live);
            }
        }
        Ok(events)
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn blocks(&self) -> (usize, usize) {
        (self.lives.len(), self.slots)
    }

    fn preempted(&self) -> u64 {
        0
    }
}
