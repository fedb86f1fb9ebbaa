//! What a model's steps take: bytes and operations by count, time by the clocks.

use std::time::Instant;

use weft_kernels::ops::attention::CacheType;
use weft_runtime::{Cost, Replay};

use crate::graph::Want;
use crate::kv::{Extent, Shapes};
use crate::{Model, Result, Sampling, Session};

impl Model {
    /// Weights in the file.
    pub fn parameters(&self) -> u64 {
        self.0.parameters
    }

    /// Bytes of all weights in the file.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// How its KV caches are stored.
    pub fn cache_type(&self) -> CacheType {
        self.0.cache
    }

    /// The most tokens of a prefill batch.
    pub fn chunk(&self) -> u32 {
        self.0.chunk
    }

    /// What the next `tokens` tokens of each of `slots` sequences cannot do without if each has `position`
    /// tokens before them: every matrix read once, with the keys and values of all positions; the products of
    /// layers for every token, those of the output head for the last; attention of what a token sees.
    pub fn cost(&self, slots: u32, tokens: u32, position: u32) -> Cost {
        let m = &*self.0;
        let context = (position + tokens).max(1);
        let extent = Extent { sequences: 1, rows: 1, context, batch: tokens };
        let kv = Shapes::new(&m.spec, m.cache, extent, m.gpu.budget()).expect("a cache that fits");
        m.frame(&kv, None).cost(slots, tokens, position)
    }
}

impl Session {
    /// Computes `tokens` tokens after the first `position` of the cache once more, whichever they are, and says
    /// how long that took: see [`weft_runtime::Gpu::measure`]. What the cache held from there on is lost.
    ///
    /// # Errors
    /// A fault of the device.
    ///
    /// # Panics
    /// If the context has no room for them.
    pub fn replay(&mut self, tokens: u32, position: u32, apart: bool) -> Result<Replay> {
        let end = position + tokens;
        assert!(tokens > 0 && end <= self.context(), "{end} of {} positions", self.context());
        self.computed = self.computed.min(position as usize);
        self.tokens.truncate(self.computed);
        self.written = self.written.max(end as usize);
        let gpu = self.model.0.gpu.clone();
        let (begin, mut all) = (Instant::now(), None);
        let mut start = position;
        while start < end {
            let to = (start + self.chunk()).min(end);
            self.write_state(start, &Sampling::greedy())?;
            let want = if to == end { Want::Token } else { Want::Cache };
            let program = self.program(want, to - start, to)?;
            let after = begin.elapsed().as_secs_f64();
            let part = gpu.measure(program, apart)?;
            all = Some(match all {
                Some(all) => Replay::then(all, part, after),
                None => part,
            });
            start = to;
        }
        Ok(all.expect("at least one token"))
    }
}
