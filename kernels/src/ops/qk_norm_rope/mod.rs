//! QK-norm, RoPE and the KV cache write in one dispatch: what happens between the projections and
//! attention.

pub mod cases;
pub mod reference;
pub mod train;

use weft_runtime::{Access, Cost, Recorder, Shader, Slice};

use crate::layout::{CacheShape, CacheType, Sequences};
use crate::ops::rope::{Pairing, Rotation};
use crate::{Bind, Budget, Dispatch, Fields, PlanError, Result, compose, fold, params, record, split_rows};

params! {
    pub struct Params {
        pub token0: u32,
        pub tokens: u32,
        pub heads: u32,
        pub kv_heads: u32,
        pub pairs: u32,
        pub position0: u32,
        pub positions: u32,
        pub queries: u32,
        pub grid_x: u32,
        pub mscale: f32,
        pub eps: f32,
        pub context: u32,
        pub chunk: u32,
        pub chunks: u32,
        pub table: u32,
        pub piece: u32,
    }
}

/// What a batch's heads go through.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Tokens of the batch.
    pub tokens: u32,
    /// Query heads.
    pub heads: u32,
    /// The cache that keys and values go to.
    pub cache: &'a CacheShape,
    /// RoPE.
    pub rotation: &'a Rotation,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Whose the tokens are.
    pub sequences: Sequences,
}

/// What the norms' place has: nothing, weights of norms, or the bias of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    None,
    Norms,
    Bias,
}

/// The dispatches for chunk `chunk` of the cache. Operands: state, table, norms, qkv, q, chunk of k,
/// chunk of v.
///
/// # Errors
/// A token's heads or the table of angles that exceed a binding; a rotation wider than a head.
pub fn plan(
    s: &Shape<'_>,
    chunk: usize,
    table_bytes: u64,
    norm_bytes: u64,
    budget: &Budget,
) -> std::result::Result<Vec<Dispatch<Params>>, PlanError> {
    let (c, pairs) = (s.cache, s.rotation.pairs());
    if pairs * 2 > c.head_dim || c.head_dim % 2 != 0 {
        let what = format!("cannot rotate {} dimensions of a head of {}", pairs * 2, c.head_dim);
        return Err(PlanError::Shape { op: "qk_norm_rope", what });
    }
    if table_bytes > budget.max_binding {
        let (needed, allowed) = (table_bytes, budget.max_binding);
        return Err(PlanError::DoesNotFit {
            op: "qk_norm_rope",
            what: "the table of angles",
            needed,
            allowed,
        });
    }
    if let Some(ring) = c.ring.filter(|&r| s.sequences == Sequences::One && s.tokens > r) {
        let what = format!("{} tokens at a time in a ring of {ring} positions", s.tokens);
        return Err(PlanError::Shape { op: "qk_norm_rope", what });
    }
    if c.apart && (pairs * 2 != c.head_dim || c.ty.spread(c.head_dim) == 0) {
        let what = format!("a cache of {} whose keys lie without their bias", c.ty.name());
        return Err(PlanError::Shape { op: "qk_norm_rope", what });
    }
    let row = |heads: u32| u64::from(heads) * u64::from(c.head_dim) * 4;
    let q_row = u64::from(s.heads) * u64::from(c.q_row()) * 4;
    let all = s.heads + 2 * c.kv_heads;
    let pages = c.pages;
    let positions = if pages.is_some() { 0..c.per_chunk } else { c.chunk(chunk) };
    let cache_bytes = c.chunk_bytes(chunk);
    let queries = u32::from(chunk == 0);
    c.check("qk_norm_rope", s.sequences)?;
    Ok(split_rows("qk_norm_rope", s.tokens, &[row(all), q_row], budget)?
        .into_iter()
        .map(|t| {
            let n = t.end - t.start;
            let grid = fold(n * (s.heads * queries + c.kv_heads), budget);
            let part = |operand, heads| Bind {
                operand,
                offset: u64::from(t.start) * row(heads),
                size: u64::from(n) * row(heads),
            };
            let moved = f64::from(n) * (2 * row(s.heads) + 3 * row(c.kv_heads)) as f64;
            Dispatch {
                params: Params {
                    token0: t.start,
                    tokens: n,
                    heads: s.heads,
                    kv_heads: c.kv_heads,
                    pairs,
                    position0: positions.start,
                    positions: positions.end - positions.start,
                    queries,
                    grid_x: grid[0],
                    mscale: s.rotation.mscale,
                    eps: s.eps,
                    context: pages.map_or(c.ring.unwrap_or(s.sequences.context()), |p| p.width),
                    chunk: chunk as u32,
                    chunks: pages.map_or(1, |p| p.chunks),
                    table: pages.map_or(0, |p| p.table),
                    piece: pages.map_or(0, |p| p.whose(s.sequences)),
                },
                binds: vec![
                    Bind { operand: 0, offset: 0, size: pages.map_or(4, |p| p.state_bytes()) },
                    Bind { operand: 1, offset: 0, size: table_bytes },
                    Bind { operand: 2, offset: 0, size: norm_bytes },
                    part(3, all),
                    Bind { operand: 4, offset: u64::from(t.start) * q_row, size: u64::from(n) * q_row },
                    Bind { operand: 5, offset: 0, size: cache_bytes },
                    Bind { operand: 6, offset: 0, size: cache_bytes },
                ],
                grid,
                cost: Cost { bytes: moved, flops: moved },
            }
        })
        .collect())
}

/// Where keys go to: into the cache, stored so; or, as f32, to a training batch.
#[derive(Debug, Clone, Copy)]
enum Target {
    Cache(CacheType),
    /// A prompt's piece, in blocks.
    Piece(CacheType),
    /// A token of each slot, in blocks.
    Paged(CacheType),
    /// Tokens of any slots, in blocks.
    Mixed(CacheType),
    Packed,
}

/// A variant of the shader.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    head_dim: u32,
    extra: Extra,
    pairing: Pairing,
    target: Target,
}

/// What the shaders of a head are told apart by besides what they do: norm, pairing and size.
fn suffix(head_dim: u32, norm: bool, pairing: Pairing) -> String {
    let pairing = if pairing == Pairing::Adjacent { "adjacent" } else { "half_split" };
    format!("{}_{pairing}_h{head_dim}", if norm { "_norm" } else { "" })
}

fn constants(head_dim: u32, norm: bool, pairing: Pairing) -> [(&'static str, u32); 3] {
    let adjacent = u32::from(pairing == Pairing::Adjacent);
    [("HD", head_dim), ("NORM", u32::from(norm)), ("ADJACENT", adjacent)]
}

impl Kernel {
    fn norm(self) -> bool {
        self.extra == Extra::Norms
    }

    fn name(self) -> String {
        let target = match self.target {
            Target::Cache(ty) => ty.name().to_owned(),
            Target::Piece(ty) => format!("piece_{}", ty.name()),
            Target::Paged(ty) => format!("paged_{}", ty.name()),
            Target::Mixed(ty) => format!("mixed_{}", ty.name()),
            Target::Packed => "packed".to_owned(),
        };
        let apart = if self.extra == Extra::Bias { "_apart" } else { "" };
        format!("qk_norm_rope{}_{target}{apart}", suffix(self.head_dim, self.norm(), self.pairing))
    }

    fn shader(self) -> Shader {
        let (place, ty) = match self.target {
            Target::Cache(ty) => (include_str!("cached.wgsl"), ty),
            Target::Piece(ty) => {
                let parts = concat!(
                    include_str!("../../layout/pages.wgsl"),
                    include_str!("../../layout/piece.wgsl"),
                    include_str!("paged.wgsl")
                );
                (parts, ty)
            }
            Target::Paged(ty) => {
                let parts = concat!(
                    include_str!("../../layout/pages.wgsl"),
                    include_str!("../../layout/rows.wgsl"),
                    include_str!("paged.wgsl")
                );
                (parts, ty)
            }
            Target::Mixed(ty) => {
                let parts = concat!(
                    include_str!("../../layout/pages.wgsl"),
                    include_str!("../../layout/mixed.wgsl"),
                    include_str!("paged.wgsl")
                );
                (parts, ty)
            }
            Target::Packed => (include_str!("packed.wgsl"), CacheType::F32),
        };
        let parts = [
            include_str!("../../wgsl/reduce.wgsl"),
            include_str!("rotated.wgsl"),
            place,
            include_str!("../attention/extremes.wgsl"),
            ty.word(),
            ty.stores(),
            include_str!("kernel.wgsl"),
        ];
        let cache = [
            ("BLOCKS", ty.blocks(self.head_dim)),
            ("SPREAD", ty.spread(self.head_dim)),
            ("APART", u32::from(self.extra == Extra::Bias)),
        ];
        let constants = [&constants(self.head_dim, self.norm(), self.pairing)[..], &cache].concat();
        Shader {
            name: self.name(),
            source: compose(&[], &constants, &parts),
            bindings: [&[Access::Read; 3][..], &[Access::ReadWrite; 4]].concat(),
        }
    }
}

/// Every shader of this op with its parameters' fields, for validation without a GPU.
pub fn shaders() -> Vec<(Shader, Fields)> {
    let mut all = Vec::new();
    for head_dim in [64, 80, 128, 256] {
        for norm in [false, true] {
            for pairing in [Pairing::Adjacent, Pairing::HalfSplit] {
                let types = CacheType::ALL.into_iter().filter(|ty| ty.blocks(32) == 0 || head_dim % 32 == 0);
                let slots = [
                    Target::Piece(CacheType::F16),
                    Target::Mixed(CacheType::F16),
                    Target::Paged(CacheType::Q8_0),
                    Target::Packed,
                ];
                let slots =
                    slots.into_iter().filter(|t| !matches!(t, Target::Paged(_)) || head_dim % 32 == 0);
                let extra = if norm { Extra::Norms } else { Extra::None };
                for target in types.map(Target::Cache).chain(slots) {
                    all.push((Kernel { head_dim, extra, pairing, target }.shader(), Params::FIELDS));
                }
                let target = Target::Cache(CacheType::Q8_0);
                if !norm && head_dim % 32 == 0 {
                    all.push((
                        Kernel { head_dim, extra: Extra::Bias, pairing, target }.shader(),
                        Params::FIELDS,
                    ));
                }
                all.push(train::backward_shader(head_dim, norm, pairing));
                all.extend([false, true].map(|back| train::lanes_shader(head_dim, norm, pairing, back)));
            }
        }
    }
    all
}

/// The operands of QK-norm and RoPE of what was projected, and of the write into the cache.
#[derive(Debug, Clone, Copy)]
pub struct QkNormRope<'a> {
    /// A [`State`](crate::layout::State), or one for each slot, of u32 and f32.
    pub state: &'a Slice,
    /// The angles, as [`Rotation::table`] gives them, f32.
    pub table: &'a Slice,
    /// The weights of QK-norm for q and then for k, `[2, head_dim]` f32, where the model has it; or the bias of keys,
    /// `[kv_heads, head_dim]` f32, where the cache keeps them without it.
    pub norms: Option<&'a Slice>,
    /// What was projected, `[tokens, heads + 2 kv_heads, head_dim]` f32.
    pub qkv: &'a Slice,
    /// The queries, `[tokens, heads, q_row]` f32, see [`CacheShape::q_row`].
    pub q: &'a Slice,
    /// The keys and the values of each chunk, `[positions, kv_heads, head_dim]` of the cache's type.
    pub chunks: &'a [(Slice, Slice)],
    /// What is computed.
    pub shape: &'a Shape<'a>,
}

impl QkNormRope<'_> {
    /// Records it.
    ///
    /// # Errors
    /// No plan under the budget, or a shader the device refuses.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        let QkNormRope { state, table, norms, qkv, q, chunks, shape: s } = *self;
        let kernel = Kernel {
            head_dim: s.cache.head_dim,
            extra: match norms {
                Some(_) if s.cache.apart => Extra::Bias,
                Some(_) => Extra::Norms,
                None => Extra::None,
            },
            pairing: s.rotation.pairing,
            target: match (s.sequences, s.cache.pages.is_some()) {
                // Slots are of a cache in blocks, which plans see to.
                (_, false) => Target::Cache(s.cache.ty),
                (Sequences::One, true) => Target::Piece(s.cache.ty),
                (Sequences::Slots { .. }, true) => Target::Paged(s.cache.ty),
                (Sequences::Mixed, true) => Target::Mixed(s.cache.ty),
            },
        };
        let pipeline = rec.gpu().pipeline(&kernel.name(), || kernel.shader())?;
        // Without norms the table stands in for them: bound, never read.
        let norms = norms.unwrap_or(table);
        for (i, (kc, vc)) in chunks.iter().enumerate() {
            let plan = plan(s, i, table.size(), norms.size(), rec.gpu().budget())?;
            record(rec, &pipeline, &[state, table, norms, qkv, q, kc, vc], &plan);
        }
        Ok(())
    }
}
