//! A decode step's attention in one dispatch, with QK-norm, RoPE and the cache write before it.

use weft_runtime::{Access, Caps, Cost, Recorder, Shader, Slice};

use super::forward::combine;
use super::kernel::Variant;
use super::shape::{self, Scratch};
use crate::compose::fragment;
use crate::layout::{BLOCK, CacheShape, CacheType, Format, Sequences};
use crate::ops::quantize::{Quantized, UNIT, quantize};
use crate::ops::rope::{Pairing, Rotation};
use crate::plan::dispatch_specialised;
use crate::select::{self, CallShape};
use crate::{Fields, PlanError, Result, compose, params};

params! {
    /// Parameters of the fused dispatch.
    pub struct DecodeParams {
        pub heads: u32,
        pub kv_heads: u32,
        pub pairs: u32,
        pub positions: u32,
        pub splits: u32,
        pub window: u32,
        pub scale: f32,
        pub mscale: f32,
        pub eps: f32,
        pub slots: u32,
        pub context: u32,
        pub table: u32,
    }
}

/// What the attention of one token, or of one token of each of several slots, computes.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Query heads.
    pub heads: u32,
    /// The cache, in one chunk.
    pub cache: &'a CacheShape,
    /// RoPE.
    pub rotation: &'a Rotation,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Sliding window in positions; 0 for none.
    pub window: u32,
    /// Scale of the scores, usually 1 / sqrt(head_dim).
    pub scale: f32,
    /// How it is cut.
    pub split: SplitConfig,
    /// What each slot's cache holds at most; of its cost alone.
    pub positions: u32,
    /// One, or as many as there are slots.
    pub tokens: u32,
    /// Whose the tokens are.
    pub sequences: Sequences,
}

/// How a decode step's attention is cut into workgroups and lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitConfig {
    /// Query heads of a workgroup, which share what it reads: 1 to 4.
    pub heads: u32,
    /// Parts of the keys; several cost another dispatch, which merges them.
    pub splits: u32,
    /// Values of a key that a lane takes: 8, 16 or 32. Fewer lanes a key exchange less and hold more.
    pub values: u32,
    /// Loads of 8 keys' values that a lane has in flight, and of values as many: 4 or 8.
    pub prefetch: u32,
    /// Subgroups of a workgroup, up to 256 invocations: 8, or 4 where slots are many and short.
    pub subgroups: u32,
}

/// Subgroups of a workgroup of one token's attention.
pub const SUBGROUPS: u32 = 8;

impl SplitConfig {
    /// The split for a cache that holds up to `positions` of each of `slots`: for one, the fastest on an H200
    /// of those that `weft kernels perf` tries. Several slots need fewer splits to keep a GPU busy.
    pub fn pick(heads: u32, kv_heads: u32, ty: CacheType, positions: u32, slots: u32) -> SplitConfig {
        let (group, all) = (heads / kv_heads, heads * slots);
        let most = group.div_ceil(group.div_ceil(4));
        let busy = all > 256;
        // Where slots fill the GPU and are short, more workgroups on a multiprocessor are worth more than keys that are
        // read once for all query heads.
        let short = busy && positions <= 512;
        // A workgroup that holds many heads and loads has a multiprocessor to itself: as many as those, not twice.
        let long = slots > 1 && positions > 2048;
        let (heads, splits) = match positions {
            _ if short => (2.min(most), 1),
            _ if busy => (most, 1),
            2049..=8192 if long => (most, 8),
            0..=512 => (1, 1),
            513..=2048 => (1, 8),
            2049..=8192 => (2.min(most), 8),
            _ => (most, 16),
        };
        let workgroups = kv_heads * group.div_ceil(heads) * slots;
        let at_once = if long { 128 } else { 256 };
        let splits = if slots > 1 { (at_once / workgroups).clamp(1, splits) } else { splits };
        // Loads in flight take registers, too: the fewer slots there are, the more a workgroup may have for itself.
        let (prefetch, subgroups) = match all {
            _ if positions > 512 => (prefetch(ty), SUBGROUPS),
            ..256 => (prefetch(ty), SUBGROUPS),
            256 => (4, SUBGROUPS),
            257..=512 => (prefetch(ty), SUBGROUPS / 2),
            _ => (4, SUBGROUPS / 2),
        };
        SplitConfig { heads, splits, values: 8, prefetch, subgroups }
    }

    /// As [`SplitConfig::pick`], unless another was measured on this device ([`crate::tuning`]), for one token and within
    /// [`most_splits`].
    pub fn tuned(
        caps: &Caps,
        [heads, kv_heads, head_dim]: [u32; 3],
        ty: CacheType,
        positions: u32,
        slots: u32,
    ) -> SplitConfig {
        let found = caps.tuning.find("attention_decode", ty.name(), &[positions, heads, head_dim]);
        let fits = |c: &SplitConfig| slots == 1 && c.splits <= most_splits(positions);
        let pick = || SplitConfig::pick(heads, kv_heads, ty, positions, slots);
        found.map(SplitConfig::of).filter(fits).unwrap_or_else(pick)
    }

    /// The split of a tuning file.
    pub(crate) fn of([heads, splits, values, prefetch]: [u32; 4]) -> SplitConfig {
        SplitConfig { heads, splits, values, prefetch, subgroups: SUBGROUPS }
    }

    /// As a tuning file has it.
    pub fn numbers(self) -> [u32; 4] {
        [self.heads, self.splits, self.values, self.prefetch]
    }
}

/// Loads that a lane has in flight where nothing else was measured: widening integers takes registers.
pub(super) fn prefetch(ty: CacheType) -> u32 {
    if ty == CacheType::F16 { 8 } else { 4 }
}

/// The most splits of a token's attention when the cache holds up to `positions`: what memory is planned for.
pub fn most_splits(positions: u32) -> u32 {
    (positions / 64).clamp(1, MAX_SPLITS)
}

/// The most splits there are.
pub const MAX_SPLITS: u32 = 16;

/// Whether the device can run [`decode`] on this cache.
///
/// # Errors
/// What is lacking.
pub fn supports(caps: &Caps, cache: &CacheShape) -> std::result::Result<(), &'static str> {
    let Some((least, most)) = caps.subgroups else { return Err("no subgroups") };
    if least != most || !(8..=64).contains(&least) {
        return Err("subgroups vary in size");
    }
    if ![32, 64, 128, 256].contains(&cache.head_dim) {
        return Err("heads are not of 32, 64, 128 or 256");
    }
    if cache.chunks() > 1 {
        return Err("the cache is cut into chunks");
    }
    // A workgroup may take fewer of large heads.
    let heads = if cache.head_dim > 128 { 1 } else { 4 };
    match most_heads(caps, cache.head_dim, cache.apart) < heads {
        true => Err("too little workgroup memory"),
        false => Ok(()),
    }
}

/// The most query heads of a workgroup that its memory holds, 4 at most.
fn most_heads(caps: &Caps, head_dim: u32, apart: bool) -> u32 {
    let least = caps.subgroups.map_or(1, |s| s.0);
    let subgroups = (8 * least).min(256) / least;
    // Heads as they are turned, key and value, sums of each subgroup where heads were as they are normed. And the
    // coefficients of a bias.
    let more = |heads: u32| if apart { heads } else { 0 };
    let bytes =
        |heads: u32| 4 * head_dim * (heads + 2 + (heads * subgroups).max(heads + 1) + more(heads)) + 1024;
    (1..=4).rev().find(|&g| bytes(g) <= caps.limits.max_compute_workgroup_storage_size).unwrap_or(0)
}

/// Whether the table gives [`decode`] to a step of one token on this cache.
pub fn picked(caps: &Caps, cache: &CacheShape) -> bool {
    let at = CallShape { tokens: 1, rows: 1, head_dim: cache.head_dim };
    let can = |name: &str| match Variant::ALL.into_iter().find(|v| v.name() == name) {
        Some(v) => v.supports(caps, cache).is_ok(),
        None => supports(caps, cache).is_ok(),
    };
    select::variant("attention", caps, at, can) == "decode"
}

/// A variant of the shader.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    head_dim: u32,
    norm: bool,
    pairing: Pairing,
    ty: CacheType,
    split: SplitConfig,
    subgroup: u32,
    /// The output in integers.
    ints: bool,
    /// The output in f32 or in tiles, where it is not in integers.
    out: Format,
    /// A cache that is a ring, or several.
    ring: bool,
    /// A cache in blocks.
    paged: bool,
    /// Keys without their bias.
    apart: bool,
    /// Queries in integers, which keys in integers are multiplied by.
    dot: bool,
}

impl Kernel {
    fn name(self) -> String {
        let pairing = if self.pairing == Pairing::Adjacent { "adjacent" } else { "half_split" };
        let norm = if self.norm { "_norm" } else { "" };
        let ints = match (self.ints, self.out) {
            (true, _) => "_ints".into(),
            (false, Format::F32) => String::new(),
            (false, tiles) => format!("_{}", tiles.name()),
        };
        let ring = if self.ring { "_ring" } else { "" };
        let ring = if self.paged { "_paged" } else { ring };
        let apart = if self.apart { "_apart" } else { "" };
        let dot = if self.dot { "_dot" } else { "" };
        let (SplitConfig { heads, values, prefetch, .. }, hd, ty) =
            (self.split, self.head_dim, self.ty.name());
        let work = format!("g{heads}_l{values}x{prefetch}w{}", self.split.subgroups);
        format!(
            "attention_decode{ints}{ring}{apart}{dot}{norm}_{pairing}_{work}_h{hd}_s{}_{ty}",
            self.subgroup
        )
    }

    fn shader(self) -> Shader {
        let wg = (self.split.subgroups * self.subgroup).min(256);
        // At least the four that have a block of the cache.
        let lanes = (self.head_dim / self.split.values).min(self.subgroup).max(4);
        let chunks = self.head_dim / (8 * lanes);
        // Keys of a team in a round, and what lies between two keys of a lane that have a block each.
        let (keys, teams) = ((self.split.prefetch / chunks).clamp(1, 8), wg / lanes);
        let stride = teams.max(BLOCK);
        let (out, needs) = self.out.out();
        let tiles = !self.ints && self.out != Format::F32;
        let scaled = self.ty.blocks(self.head_dim) > 0;
        // Scales are of four lanes.
        let folded = keys.min(if scaled || lanes < 8 { 4 } else { 8 });
        let constants = [
            ("HD", self.head_dim),
            ("NORM", u32::from(self.norm)),
            ("ADJACENT", u32::from(self.pairing == Pairing::Adjacent)),
            ("BLOCKS", self.ty.blocks(self.head_dim)),
            ("G", self.split.heads),
            ("SG", self.subgroup),
            // Values of a head that a lane norms.
            ("EACH", self.head_dim.div_ceil(self.subgroup)),
            ("APART", u32::from(self.apart)),
            ("SPREAD", u32::from(self.ty.spread(self.head_dim) > 0)),
            // Vec4 of a head that a lane turns.
            ("QUADS", self.head_dim.div_ceil(4 * self.subgroup)),
            ("WG", wg),
            // Sums that become one in the end.
            ("PARTS", wg / self.subgroup),
            ("LK", lanes),
            ("CH", chunks),
            // Keys of a team of lanes in a round.
            ("U", keys),
            // Lanes that their scores are folded to, and keys of a lane then.
            ("FOLDED", folded),
            ("EIGHTH", u32::from(folded == 8)),
            ("MINE", keys / folded),
            ("TWO", u32::from(keys >= 2)),
            ("FOUR", u32::from(keys >= 4)),
            ("EIGHT", u32::from(keys >= 8)),
            ("SCALED", u32::from(scaled)),
            ("DOT", u32::from(self.dot)),
            ("MIDDLE", u32::from(self.dot && self.ty == CacheType::Q4_0)),
            ("PAGED", u32::from(self.paged)),
            ("STRIDE", stride),
            ("ENTRIES", (keys * teams).div_ceil(stride)),
            ("INTS", u32::from(self.ints)),
            ("TILES", u32::from(tiles)),
            ("RING", u32::from(self.ring)),
        ];
        let folds = [("folded", "Score"), ("folded_apart", "f32")]
            .map(|(name, score)| fragment(include_str!("folded.wgsl"), &[("NAME", name), ("SCORE", score)]));
        let parts = [
            folds[0].as_str(),
            if self.apart { folds[1].as_str() } else { "" },
            if self.paged { include_str!("../../layout/pages.wgsl") } else { "" },
            include_str!("extremes.wgsl"),
            self.ty.word(),
            self.ty.loads(),
            if self.dot { self.ty.integers() } else { "" },
            self.ty.stores(),
            self.ty.kept(),
            if self.ints { UNIT } else { "" },
            if tiles { out } else { "" },
            include_str!("decode.wgsl"),
            include_str!("decode_keys.wgsl"),
        ];
        Shader {
            name: self.name(),
            source: compose(if tiles { needs } else { &[] }, &constants, &parts),
            bindings: [&[Access::Read; 3][..], &[Access::ReadWrite; 5]].concat(),
        }
    }
}

/// The shader of a split.
#[cfg(test)]
pub(crate) fn shader(ty: CacheType, head_dim: u32, subgroup: u32, split: SplitConfig) -> Shader {
    Kernel {
        head_dim,
        norm: true,
        pairing: Pairing::HalfSplit,
        ty,
        split,
        subgroup,
        ints: false,
        out: Format::F32,
        ring: false,
        paged: true,
        apart: false,
        dot: ty.blocks(head_dim) > 0,
    }
    .shader()
}

pub(super) fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for (head_dim, subgroup) in [(32, 32), (64, 8), (64, 32), (64, 64), (128, 8), (128, 32), (256, 32)] {
        for ty in CacheType::ALL {
            for (heads, norm, pairing) in [(1, true, Pairing::HalfSplit), (4, false, Pairing::Adjacent)] {
                for (values, prefetch, ints) in [(8, 8, false), (8, 8, true), (8, 4, false), (16, 8, false)] {
                    let split = SplitConfig { heads, splits: 1, values, prefetch, subgroups: 12 - prefetch };
                    let (ring, apart) = (prefetch == 4, false);
                    let paged = false;
                    let dot = ty.blocks(head_dim) > 0 && prefetch == 8;
                    let kernel = Kernel {
                        head_dim,
                        norm,
                        pairing,
                        ty,
                        split,
                        subgroup,
                        ints,
                        out: Format::F32,
                        ring,
                        paged,
                        apart,
                        dot,
                    };
                    all.push((kernel.shader(), DecodeParams::FIELDS));
                    all.push((Kernel { paged: true, ..kernel }.shader(), DecodeParams::FIELDS));
                    if prefetch == 4 {
                        let out = Format::Tiles { side: subgroup.clamp(8, 16) };
                        let kernel = Kernel { paged: true, ring: false, out, ..kernel };
                        all.push((kernel.shader(), DecodeParams::FIELDS));
                    }
                    if ty.spread(head_dim) > 0 && !norm {
                        let kernel = Kernel { apart: true, ..kernel };
                        all.push((kernel.shader(), DecodeParams::FIELDS));
                    }
                }
            }
        }
    }
    all
}

/// The operands of a decode step: QK-norm, RoPE at the position in word 0 of the state, the write of key and value
/// into the cache at that position, and attention over all positions up to it.
///
/// One dispatch, or two if there are several splits. The device must support it ([`supports`]); otherwise
/// [`QkNormRope`](crate::ops::qk_norm_rope::QkNormRope) and [`Attention`](super::Attention) do the same.
#[derive(Debug, Clone, Copy)]
pub struct Decode<'a> {
    /// A [`State`](crate::layout::State), or one for each slot, of u32 and f32.
    pub state: &'a Slice,
    /// The angles, as [`Rotation::table`] gives them, f32.
    pub table: &'a Slice,
    /// The weights of QK-norm, `[2, head_dim]` f32, where the model has it; or the bias of keys, `[kv_heads, head_dim]`
    /// f32, where the cache keeps them without it.
    pub norms: Option<&'a Slice>,
    /// What was projected and is not normed yet, `[tokens, heads + 2 kv_heads, head_dim]` f32.
    pub qkv: &'a Slice,
    /// Keys and values, `[context, kv_heads, head_dim]` of the cache's type.
    pub cache: &'a (Slice, Slice),
    /// Memory for the splits: what [`shape::Shape::scratch_bytes`] says for the tokens and the splits.
    pub scratch: &'a Scratch,
    /// The result, `[tokens, heads, head_dim]` in the format `out`.
    pub o: &'a Slice,
    /// f32, or without splits the tiles of `[tokens, heads * head_dim]` that the product behind it takes.
    pub out: Format,
    /// The result in integers, `[tokens, heads, head_dim]`: without splits at once, and `o` is not written, else by
    /// another dispatch.
    pub ints: Option<&'a Quantized>,
    /// What is computed.
    pub shape: &'a Shape<'a>,
}

impl Decode<'_> {
    /// Records it.
    ///
    /// # Errors
    /// A binding that is too small, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let Decode { state, table, norms, qkv, cache, scratch, o, out, ints, shape: s } = *self;
        let gpu = rec.gpu().clone();
        let c = s.cache;
        if let Err(why) = supports(gpu.caps(), c) {
            return Err(PlanError::Shape { op: "attention", what: why.into() }.into());
        }
        if let Some(ring) = c.ring.filter(|&r| s.window == 0 || r < CacheShape::ring_capacity(s.window, 1)) {
            let what = format!("a window of {} in a ring of {ring} positions", s.window);
            return Err(PlanError::Shape { op: "attention", what }.into());
        }
        c.check("attention", s.sequences)?;
        let (subgroup, group) = (gpu.caps().subgroups.map_or(0, |s| s.0), s.heads / c.kv_heads);
        let per = s.split.heads.min(group).min(most_heads(gpu.caps(), c.head_dim, c.apart));
        let most = gpu.budget().max_binding;
        if let Some(x) = [table, qkv, &cache.0].into_iter().find(|x| x.size() > most) {
            let (needed, allowed) = (x.size(), most);
            return Err(PlanError::DoesNotFit { op: "attention", what: "an operand", needed, allowed }.into());
        }
        if out == Format::F16 || out != Format::F32 && s.split.splits > 1 {
            let what = format!("a result in {} of {} splits", out.name(), s.split.splits);
            return Err(PlanError::Shape { op: "attention", what }.into());
        }
        let at_once = ints.filter(|_| s.split.splits == 1);
        let (norm, pairing) = (norms.is_some() && !c.apart, s.rotation.pairing);
        let kernel = Kernel {
            head_dim: c.head_dim,
            norm,
            pairing,
            ty: c.ty,
            split: SplitConfig { heads: per, ..s.split },
            subgroup,
            ints: at_once.is_some(),
            out,
            ring: c.ring.is_some(),
            paged: c.pages.is_some(),
            apart: c.apart,
            dot: gpu.caps().dot && c.ty.blocks(c.head_dim) > 0,
        };
        let params = DecodeParams {
            heads: s.heads,
            kv_heads: c.kv_heads,
            pairs: s.rotation.pairs(),
            positions: c.context,
            splits: s.split.splits,
            window: s.window,
            scale: s.scale,
            mscale: s.rotation.mscale,
            eps: s.eps,
            slots: s.tokens,
            context: c.pages.map_or(s.sequences.context(), |p| p.width),
            table: c.pages.map_or(0, |p| p.table),
        };
        let whole = shape::Shape {
            tokens: s.tokens,
            heads: s.heads,
            window: s.window,
            scale: s.scale,
            splits: s.split.splits,
            sequences: s.sequences,
        };
        let (o_bytes, lse_bytes) = whole.scratch_bytes(c);
        let (parts, lse) = (scratch.o.range(0, o_bytes), scratch.lse.range(0, lse_bytes));
        let (target, lse) = match at_once {
            Some(ints) => (&ints.q, &ints.meta),
            None => (if s.split.splits > 1 { &parts } else { o }, &lse),
        };
        let keys = u64::from(s.tokens) * u64::from(s.positions);
        let read = c.ty.bytes(keys * u64::from(c.kv_heads), c.head_dim);
        let work = f64::from(s.heads) * f64::from(c.head_dim) * keys as f64;
        let cost = Cost { bytes: 2.0 * read as f64, flops: 4.0 * work };
        // Without norms the table stands in for them: bound, never read.
        let operands = [state, table, norms.unwrap_or(table), qkv, &cache.0, &cache.1, target, lse];
        let grid = [c.kv_heads * group.div_ceil(per), s.split.splits, s.tokens];
        // A link of a chain should start at once. Cuts of long caches, or a batch's number of slots, would be a
        // pipeline each, which a running answer would wait for.
        if at_once.is_some() {
            dispatch_specialised(rec, &kernel.name(), || kernel.shader(), &params, &operands, grid, cost)?;
        } else {
            let pipeline = gpu.pipeline(&kernel.name(), || kernel.shader())?;
            rec.dispatch(&pipeline, &params, &operands, grid, cost);
        }
        combine(rec, &whole, c, scratch, o)?;
        match ints {
            Some(ints) if at_once.is_none() => quantize(rec, o, ints, s.tokens * s.heads * c.head_dim),
            _ => Ok(()),
        }
    }
}
