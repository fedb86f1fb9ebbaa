//! Where weights sit in a model: matrices, and norms.

use crate::spec::{Norm, Norms, Spec};

/// The seven matrices of a layer that an adapter can sit on.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Target {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention's output.
    O,
    /// The feed-forward network's gate.
    Gate,
    /// The gate's other factor.
    Up,
    /// The feed-forward network's output.
    Down,
}

/// Name on a command line, in GGUF, in PEFT.
const NAMES: [(&str, &str, &str); 7] = [
    ("q", "attn_q", "self_attn.q_proj"),
    ("k", "attn_k", "self_attn.k_proj"),
    ("v", "attn_v", "self_attn.v_proj"),
    ("o", "attn_output", "self_attn.o_proj"),
    ("gate", "ffn_gate", "mlp.gate_proj"),
    ("up", "ffn_up", "mlp.up_proj"),
    ("down", "ffn_down", "mlp.down_proj"),
];

impl Target {
    /// All of them, in the order in which a layer uses them.
    pub const ALL: [Target; 7] =
        [Target::Q, Target::K, Target::V, Target::O, Target::Gate, Target::Up, Target::Down];
    /// Those of attention.
    pub const ATTENTION: [Target; 4] = [Target::Q, Target::K, Target::V, Target::O];
    /// Those of the feed-forward block.
    pub const MLP: [Target; 3] = [Target::Gate, Target::Up, Target::Down];

    /// Short name: `q`, `k`, `v`, `o`, `gate`, `up`, `down`.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].0
    }

    /// The target whose short name, GGUF name (`attn_q`) or PEFT name (`q_proj`) is `name`.
    pub fn parse(name: &str) -> Option<Target> {
        let is = |n: &(&str, &str, &str)| n.0 == name || n.1 == name || n.2.ends_with(&format!(".{name}"));
        NAMES.iter().position(is).map(|i| Target::ALL[i])
    }

    /// The matrix's name in a GGUF file, without its ending: `blk.0.attn_q`.
    pub(crate) fn stem(self, layer: u32) -> String {
        format!("blk.{layer}.{}", NAMES[self as usize].1)
    }

    /// The matrix's name in a GGUF file: `blk.0.attn_q.weight`.
    pub fn tensor(self, layer: u32) -> String {
        format!("{}.weight", self.stem(layer))
    }

    /// The module's name below `model.layers.N.` in transformers: `self_attn.q_proj`.
    pub fn peft(self) -> &'static str {
        NAMES[self as usize].2
    }

    /// Those of attention, and where no layer has experts in place of them, those of the feed-forward block.
    pub fn of(spec: &Spec) -> &'static [Target] {
        if spec.has_experts() { &Target::ATTENTION } else { &Target::ALL }
    }

    /// Whether a layer has this matrix.
    pub(crate) fn exists(self, spec: &Spec, layer: u32) -> bool {
        spec.experts(layer).is_none() || Target::ATTENTION.contains(&self)
    }

    /// Inputs of the matrix.
    pub fn inputs(self, spec: &Spec) -> u32 {
        match self {
            Target::O => spec.attention().q_width(),
            Target::Down => spec.feed_forward(),
            _ => spec.width,
        }
    }

    /// Outputs of the matrix.
    pub fn outputs(self, spec: &Spec) -> u32 {
        match self {
            Target::Q => spec.attention().q_width(),
            Target::K | Target::V => spec.attention().kv_width(),
            Target::Gate | Target::Up => spec.feed_forward(),
            Target::O | Target::Down => spec.width,
        }
    }

    /// The product of a layer that the matrix belongs to.
    pub(crate) fn group(self) -> Group {
        match self {
            Target::Q | Target::K | Target::V => Group::Qkv,
            Target::O => Group::Output,
            Target::Gate | Target::Up => Group::GateUp,
            Target::Down => Group::Down,
        }
    }

    /// The first column of the matrix in its output where Q, K and V, or gate and up, lie side by side.
    pub fn column(self, spec: &Spec) -> u32 {
        match self {
            Target::K => spec.attention().q_width(),
            Target::V => spec.attention().q_width() + spec.attention().kv_width(),
            Target::Up => spec.feed_forward(),
            _ => 0,
        }
    }
}

/// Matrices with one input, in the order in which a layer uses them.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub(crate) enum Group {
    Qkv,
    Output,
    GateUp,
    Down,
}

impl Group {
    pub(crate) const ALL: [Group; 4] = [Group::Qkv, Group::Output, Group::GateUp, Group::Down];

    /// Whether a layer of experts has matrices of each expert here.
    pub(crate) fn by_experts(self) -> bool {
        matches!(self, Group::GateUp | Group::Down)
    }

    /// Its matrices.
    pub(crate) fn targets(self) -> &'static [Target] {
        match self {
            Group::Qkv => &[Target::Q, Target::K, Target::V],
            Group::Output => &[Target::O],
            Group::GateUp => &[Target::Gate, Target::Up],
            Group::Down => &[Target::Down],
        }
    }
}

/// Matrices with one input, whose outputs lie side by side.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub(crate) enum Site {
    /// Those of a layer. Where a layer has experts, its feed-forward groups are the matrices of all of them.
    Layer(u32, Group),
    /// What gives the logits that a layer's experts are chosen by.
    Router(u32),
    /// The output head.
    Head,
}

/// A norm of a model.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub(crate) enum NormSite {
    /// That of the embedding.
    Embedding,
    /// Before a layer's attention.
    Attention(u32),
    /// Behind it.
    AfterAttention(u32),
    /// Before a layer's feed-forward network.
    Ffn(u32),
    /// Behind it.
    AfterFfn(u32),
    /// Before the output head.
    Output,
}

impl Spec {
    /// The norm at a site, if the model has one there.
    pub(crate) fn norm(&self, site: NormSite) -> Option<Norm> {
        let (layer, behind) = match site {
            NormSite::Embedding => return self.embed.norm,
            NormSite::Output => return self.out.norm,
            NormSite::Attention(l) | NormSite::Ffn(l) => (l, false),
            NormSite::AfterAttention(l) | NormSite::AfterFfn(l) => (l, true),
        };
        let block = &self.blocks[layer as usize];
        let there = match block.norms {
            Norms::Pre => !behind,
            Norms::Post => behind,
            Norms::Sandwich => true,
        };
        there.then_some(block.norm)
    }

    /// All norms.
    pub(crate) fn norm_sites(&self) -> Vec<NormSite> {
        let layer = |l| {
            [NormSite::Attention(l), NormSite::AfterAttention(l), NormSite::Ffn(l), NormSite::AfterFfn(l)]
        };
        let mut all = vec![NormSite::Embedding];
        all.extend((0..self.layers()).flat_map(layer));
        all.push(NormSite::Output);
        all.retain(|&site| self.norm(site).is_some());
        all
    }
}
