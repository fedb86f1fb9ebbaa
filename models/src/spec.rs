//! What a model is: plain data, which no file key and no GPU type enters. `arch` reads it, `weights` and `graph` are
//! built from it.
//!
//! ```text
//! x = embed(ids)            for each block: x = mix(x), x = feed_forward(x)            out(x)
//! Pre:      x += f(norm(x))
//! Post:     x  = norm(x + f(x))
//! Sandwich: x += norm'(f(norm(x)))
//! ```

use weft_kernels::ops::rope::{Pairing, Rotation};

/// A model.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The name of the architecture, such as `qwen3`.
    pub architecture: String,
    /// What the file calls the model.
    pub name: Option<String>,
    /// Width of the residual stream.
    pub width: u32,
    /// Tokens that there are.
    pub vocabulary: u32,
    /// Positions that the model was trained for.
    pub context: u32,
    /// From token ids to the residual stream.
    pub embed: Embed,
    /// Rotary embeddings, which blocks name by index.
    pub ropes: Vec<Rotation>,
    /// The layers, in order.
    pub blocks: Vec<Block>,
    /// From the residual stream to what the model says.
    pub out: Out,
}

/// How token ids become the residual stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embed {
    /// What rows of the token table are multiplied by.
    pub scale: f32,
    /// Rows of a table of learnt positions, one of which is added to each token.
    pub positions: Option<u32>,
    /// Rows of a table of token types, one of which is added to each token.
    pub types: Option<u32>,
    /// The norm of the sum.
    pub norm: Option<Norm>,
}

/// A norm over a token's values, `eps` added to their mean square or variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Norm {
    /// `x / rms(x) * w`.
    Rms {
        /// Epsilon.
        eps: f32,
    },
    /// `(x - mean) / deviation * w + b`.
    Layer {
        /// Epsilon.
        eps: f32,
    },
}

impl Norm {
    /// The epsilon.
    pub fn eps(self) -> f32 {
        match self {
            Norm::Rms { eps } | Norm::Layer { eps } => eps,
        }
    }
}

/// Where a block's norms stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// Before each half.
    Pre,
    /// Behind each half's sum.
    Post,
    /// Before each half, and of what it gives before that is added.
    Sandwich,
}

/// A layer: a mixer of tokens, then a feed-forward network.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Where norms stand.
    pub norms: Norms,
    /// Which norm they are.
    pub norm: Norm,
    /// The half that lets tokens see each other.
    pub attention: Attention,
    /// The half that is each token's own.
    pub ffn: Ffn,
}

/// Attention of several heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Size of a head, which need not be width / heads.
    pub head_dim: u32,
    /// Which of the rotary embeddings; `None` for none.
    pub rope: Option<usize>,
    /// The norm of queries and keys before RoPE.
    pub qk_norm: QkNorm,
    /// Whether Q, K and V have biases.
    pub bias: bool,
    /// Whether the output has one.
    pub output_bias: bool,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// Which keys a query sees.
    pub mask: Mask,
}

impl Attention {
    /// Values of a token's queries.
    pub fn q_width(&self) -> u32 {
        self.heads * self.head_dim
    }

    /// Values of a token's keys, or values.
    pub fn kv_width(&self) -> u32 {
        self.kv_heads * self.head_dim
    }

    /// Values of a token's queries, keys and values.
    pub fn qkv_width(&self) -> u32 {
        self.q_width() + 2 * self.kv_width()
    }
}

/// The norm of queries and keys, with a weight for each value that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// There is none.
    None,
    /// Each head is normed alone, all by the same weights.
    Head,
    /// All heads are normed as one.
    Width,
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Those up to its own position.
    Causal,
    /// The last so many up to its own position.
    Window(u32),
    /// All of its sequence.
    Full,
    /// Those at most so many positions away.
    SymmetricWindow(u32),
}

impl Mask {
    /// Positions of the window; 0 where there is none.
    pub fn window(self) -> u32 {
        match self {
            Mask::Window(n) | Mask::SymmetricWindow(n) => n,
            Mask::Causal | Mask::Full => 0,
        }
    }
}

/// The feed-forward half of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ffn {
    /// `(act(x Wgate) * (x Wup)) Wdown`.
    Gated {
        /// The activation of the gate.
        act: Act,
        /// Columns of gate and of up.
        width: u32,
    },
    /// `act(x Wup + b) Wdown + b`.
    Plain {
        /// The activation.
        act: Act,
        /// Columns of up.
        width: u32,
        /// Whether there are biases.
        bias: bool,
    },
    /// A router's choice of gated networks, weighed and summed.
    Experts(Experts),
}

/// A mixture of experts, all of one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: u32,
    /// How many a token uses.
    pub used: u32,
    /// The activation of each one's gate.
    pub act: Act,
    /// Columns of each one's gate and up.
    pub width: u32,
    /// Whether the weights of those used are divided by their sum.
    pub normalised: bool,
    /// What the weights are multiplied by.
    pub scale: f32,
}

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU by its approximation with tanh.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
}

/// What follows the last block.
#[derive(Debug, Clone, PartialEq)]
pub struct Out {
    /// The last norm.
    pub norm: Option<Norm>,
    /// Whether the output head is the token table.
    pub tied: bool,
    /// Logits become `cap * tanh(logit / cap)`.
    pub softcap: Option<f32>,
    /// How a sequence becomes one vector, where the model is one of embeddings.
    pub pooling: Option<Pooling>,
    /// Classes of a classifier on the pooled vector, where the model is a reranker.
    pub classes: Option<u32>,
}

/// How a sequence becomes one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The first token's.
    Cls,
    /// The mean over tokens.
    Mean,
    /// The last token's.
    Last,
}

impl Pooling {
    /// All of them.
    pub const ALL: [Pooling; 3] = [Pooling::Cls, Pooling::Mean, Pooling::Last];

    /// The name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Cls => "cls",
            Pooling::Mean => "mean",
            Pooling::Last => "last",
        }
    }

    /// The pooling of this name.
    pub fn parse(name: &str) -> Option<Pooling> {
        Pooling::ALL.into_iter().find(|p| p.name() == name)
    }
}

impl Spec {
    /// Whether tokens see what comes behind them, so that there is no next token to ask for.
    pub fn is_encoder(&self) -> bool {
        self.blocks.iter().any(|b| matches!(b.attention.mask, Mask::Full | Mask::SymmetricWindow(_)))
    }

    /// The context that is used where none is asked for: the model's own, at most 4,096.
    pub fn default_context(&self) -> u32 {
        self.context.min(4096)
    }

    /// Layers.
    pub fn layers(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// The attention of the first layer, whose sizes are those of all.
    pub fn attention(&self) -> &Attention {
        &self.blocks[0].attention
    }

    /// Query heads.
    pub fn heads(&self) -> u32 {
        self.attention().heads
    }

    /// Key and value heads.
    pub fn kv_heads(&self) -> u32 {
        self.attention().kv_heads
    }

    /// Size of a head.
    pub fn head_dim(&self) -> u32 {
        self.attention().head_dim
    }

    /// The first of the rotary embeddings.
    pub fn rotation(&self) -> &Rotation {
        &self.ropes[0]
    }

    /// The rotary embeddings, and one of a pair that does not turn where some layer has none.
    pub fn rotations(&self) -> Vec<Rotation> {
        let pairing = self.ropes.first().map_or(Pairing::HalfSplit, |r| r.pairing);
        let still = || Rotation { frequencies: vec![0.0], mscale: 1.0, pairing };
        self.ropes.iter().cloned().chain(self.skips_rope().then(still)).collect()
    }

    /// The pairs of a head that a block's rotary embedding turns, and which values those are.
    pub(crate) fn turned(&self, b: &Block) -> (usize, Pairing) {
        let rotation = b.attention.rope.map(|r| &self.ropes[r]);
        rotation.map_or((0, Pairing::HalfSplit), |r| (r.pairs() as usize, r.pairing))
    }

    /// Whether the bias of a block's keys can be kept out of a cache: one that is turned as a whole, and not normed.
    pub(crate) fn bias_comes_apart(&self, b: &Block) -> bool {
        let a = &b.attention;
        let whole = a.rope.is_some_and(|r| self.ropes[r].pairs() * 2 == a.head_dim);
        a.bias && a.qk_norm == QkNorm::None && whole
    }

    /// Which of [`Spec::rotations`] a layer takes.
    pub fn rotation_of(&self, layer: u32) -> usize {
        self.blocks[layer as usize].attention.rope.unwrap_or(self.ropes.len())
    }

    /// Whether some layer has no rotary embedding.
    pub fn skips_rope(&self) -> bool {
        self.blocks.iter().any(|b| b.attention.rope.is_none())
    }

    /// The epsilon of the first layer's norms.
    pub fn eps(&self) -> f32 {
        self.blocks[0].norm.eps()
    }

    /// Columns between the matrices of a feed-forward network, of one expert where there are several.
    pub fn feed_forward(&self) -> u32 {
        match self.blocks[0].ffn {
            Ffn::Gated { width, .. } | Ffn::Plain { width, .. } => width,
            Ffn::Experts(e) => e.width,
        }
    }

    /// The experts of a layer, where it has some.
    pub(crate) fn experts(&self, layer: u32) -> Option<&Experts> {
        match &self.blocks[layer as usize].ffn {
            Ffn::Experts(e) => Some(e),
            Ffn::Gated { .. } | Ffn::Plain { .. } => None,
        }
    }

    /// Whether some layer has experts.
    pub fn has_experts(&self) -> bool {
        (0..self.layers()).any(|l| self.experts(l).is_some())
    }

    /// Qwen3 of these sizes: layers, width, feed-forward width, heads, key and value heads, size of a head,
    /// vocabulary, context.
    #[cfg(test)]
    pub(crate) fn qwen3(
        [layers, width, feed_forward, heads, kv_heads, head_dim, vocabulary, context]: [u32; 8],
    ) -> Spec {
        use weft_kernels::ops::rope::Scaling;
        let norm = Norm::Rms { eps: 1e-6 };
        let attention = Attention {
            heads,
            kv_heads,
            head_dim,
            rope: Some(0),
            qk_norm: QkNorm::Head,
            bias: false,
            output_bias: false,
            scale: 1.0 / (head_dim as f32).sqrt(),
            softcap: None,
            mask: Mask::Causal,
        };
        let ffn = Ffn::Gated { act: Act::Silu, width: feed_forward };
        let block = Block { norms: Norms::Pre, norm, attention, ffn };
        Spec {
            architecture: "qwen3".into(),
            name: None,
            width,
            vocabulary,
            context,
            embed: Embed { scale: 1.0, positions: None, types: None, norm: None },
            ropes: vec![Rotation::new(head_dim, 1e6, None, Scaling::None, Pairing::HalfSplit)],
            blocks: vec![block; layers as usize],
            out: Out { norm: Some(norm), tied: true, softcap: None, pooling: None, classes: None },
        }
    }
}
