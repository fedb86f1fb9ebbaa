//! What files call a model's tensors: one table for GGUF, Hugging Face and PEFT.
//!
//! GGUF's name is the key of a row ([`Module::gguf`]); the same row has the name that Hugging Face's
//! checkpoints use, the shape, and whether the rows of a head change their order. PEFT's name is Hugging
//! Face's with a prefix. Conversion, adapters and merging read nothing else.
//!
//! [`ARCHITECTURES`] is the only list of Hugging Face classes. Crates above this one (the table of graphs
//! in `models`) take a class's architecture from [`of_class`] and repeat none of it.

/// A dimension, as a number of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the fields of `Sizes` say what they are
pub enum Size {
    Width,
    Vocabulary,
    /// Query heads times the size of a head.
    Queries,
    /// Key-value heads times the size of a head.
    Keys,
    /// Queries, keys and values one after the other.
    Fused,
    Head,
    FeedForward,
    Experts,
    ExpertFeedForward,
    Positions,
    Types,
    Labels,
}

/// The numbers that shapes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Values of the residual stream for each token.
    pub width: usize,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Values of a head.
    pub head: usize,
    /// Width of the feed-forward block.
    pub feed_forward: usize,
    /// Experts of a layer, 0 where there are none.
    pub experts: usize,
    /// Width of one expert.
    pub expert_feed_forward: usize,
    /// Rows of the position embedding, 0 where there is none.
    pub positions: usize,
    /// Rows of the token-type embedding, 0 where there is none.
    pub types: usize,
    /// Scores of a classifier, 0 where there is none.
    pub labels: usize,
}

impl Sizes {
    /// What `size` is in this model.
    pub fn of(&self, size: Size) -> usize {
        match size {
            Size::Width => self.width,
            Size::Vocabulary => self.vocabulary,
            Size::Queries => self.heads * self.head,
            Size::Keys => self.kv_heads * self.head,
            Size::Fused => (self.heads + 2 * self.kv_heads) * self.head,
            Size::Head => self.head,
            Size::FeedForward => self.feed_forward,
            Size::Experts => self.experts,
            Size::ExpertFeedForward => self.expert_feed_forward,
            Size::Positions => self.positions,
            Size::Types => self.types,
            Size::Labels => self.labels,
        }
    }
}

/// Where a module stands in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Under the body's prefix, before or behind the layers.
    Body,
    /// Beside the body, without its prefix.
    Beside,
    /// In every layer; GGUF's name is `blk.N.` and [`Module::gguf`].
    Layer,
    /// In every layer once for each expert; GGUF stacks them, the experts being the slowest dimension.
    Experts,
}

/// Whether a module has a bias beside its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Bias {
    Never,
    Optional,
    Always,
}

/// Which heads the rows of a matrix belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Heads {
    None,
    Query,
    Key,
}

/// A weight and its bias, by all its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module {
    /// GGUF's name without `blk.N.` and `.weight`.
    pub gguf: &'static str,
    /// Hugging Face's, without the prefix of its [`Place`] and without `.weight`; of experts `{}` is the
    /// number.
    pub hf: &'static str,
    /// Rows first, without the dimension of the experts.
    pub shape: &'static [Size],
    /// Where it stands.
    pub place: Place,
    /// Whether it has a bias, of as many values as the weight has rows.
    pub bias: Bias,
    /// Whether the weight may be absent.
    pub optional: bool,
    /// Heads whose rows GGUF stores in pairs where [`Architecture::permutes`] says so.
    pub heads: Heads,
}

impl Module {
    /// Whether it is the weight of a norm.
    pub fn is_norm(&self) -> bool {
        self.gguf.ends_with("norm")
    }

    /// GGUF's whole name of the weight in layer `layer`.
    pub fn gguf_name(&self, layer: usize) -> String {
        match self.place {
            Place::Body | Place::Beside => format!("{}.weight", self.gguf),
            Place::Layer | Place::Experts => format!("blk.{layer}.{}.weight", self.gguf),
        }
    }
}

/// How the files of one kind of model name and store its tensors.
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// `general.architecture`. Kinds whose checkpoints differ may share it.
    pub name: &'static str,
    /// What config.json calls the class.
    pub classes: &'static [&'static str],
    /// What may stand before the names of the body; the first that a checkpoint has counts.
    pub prefixes: &'static [&'static str],
    /// What stands between that and the number of a layer.
    pub layers: &'static str,
    /// Whether GGUF stores the rows of a query or key head for rotation of adjacent pairs, where
    /// checkpoints have two halves.
    pub permutes: bool,
    /// Whether checkpoints store the weights of norms less 1.
    pub norms_less_one: bool,
    /// Its modules, in the order of the file.
    pub modules: &'static [&'static [Module]],
    /// Parts of the names of tensors that no graph needs.
    pub unused: &'static [&'static str],
}

const fn module(gguf: &'static str, hf: &'static str, shape: &'static [Size]) -> Module {
    Module { gguf, hf, shape, place: Place::Layer, bias: Bias::Never, optional: false, heads: Heads::None }
}

impl Module {
    const fn at(self, place: Place) -> Module {
        Module { place, ..self }
    }

    const fn optional(self) -> Module {
        Module { optional: true, ..self }
    }

    const fn biased(self, bias: Bias) -> Module {
        Module { bias, ..self }
    }

    const fn of_heads(self, heads: Heads) -> Module {
        Module { heads, ..self }
    }
}

use Size::*;

const EMBEDDING: &[Module] = &[module("token_embd", "embed_tokens", &[Vocabulary, Width]).at(Place::Body)];
const HEAD: &[Module] = &[
    module("output_norm", "norm", &[Width]).at(Place::Body),
    module("output", "lm_head", &[Vocabulary, Width]).at(Place::Beside).optional(),
];
/// One norm before attention and one before the feed-forward block.
const PRE_NORMS: &[Module] = &[
    module("attn_norm", "input_layernorm", &[Width]),
    module("ffn_norm", "post_attention_layernorm", &[Width]),
];
/// Gemma's: a norm before and behind each block.
const SANDWICH_NORMS: &[Module] = &[
    module("attn_norm", "input_layernorm", &[Width]),
    module("post_attention_norm", "post_attention_layernorm", &[Width]),
    module("ffn_norm", "pre_feedforward_layernorm", &[Width]),
    module("post_ffw_norm", "post_feedforward_layernorm", &[Width]),
];
const ATTENTION: &[Module] = &[
    module("attn_q", "self_attn.q_proj", &[Queries, Width]).biased(Bias::Optional).of_heads(Heads::Query),
    module("attn_k", "self_attn.k_proj", &[Keys, Width]).biased(Bias::Optional).of_heads(Heads::Key),
    module("attn_v", "self_attn.v_proj", &[Keys, Width]).biased(Bias::Optional),
    module("attn_output", "self_attn.o_proj", &[Width, Queries]),
];
const QK_NORMS: &[Module] = &[
    module("attn_q_norm", "self_attn.q_norm", &[Head]).optional(),
    module("attn_k_norm", "self_attn.k_norm", &[Head]).optional(),
];
/// OLMoE's run over all heads together.
const WIDE_QK_NORMS: &[Module] = &[
    module("attn_q_norm", "self_attn.q_norm", &[Queries]),
    module("attn_k_norm", "self_attn.k_norm", &[Keys]),
];
const GATED: &[Module] = &[
    module("ffn_gate", "mlp.gate_proj", &[FeedForward, Width]),
    module("ffn_up", "mlp.up_proj", &[FeedForward, Width]),
    module("ffn_down", "mlp.down_proj", &[Width, FeedForward]),
];
const EXPERTS: &[Module] = &[
    module("ffn_gate_inp", "mlp.gate", &[Experts, Width]),
    module("ffn_gate_exps", "mlp.experts.{}.gate_proj", &[ExpertFeedForward, Width]).at(Place::Experts),
    module("ffn_up_exps", "mlp.experts.{}.up_proj", &[ExpertFeedForward, Width]).at(Place::Experts),
    module("ffn_down_exps", "mlp.experts.{}.down_proj", &[Width, ExpertFeedForward]).at(Place::Experts),
];

const BERT_EMBEDDINGS: &[Module] = &[
    module("token_embd", "embeddings.word_embeddings", &[Vocabulary, Width]).at(Place::Body),
    module("token_types", "embeddings.token_type_embeddings", &[Types, Width]).at(Place::Body).optional(),
    module("position_embd", "embeddings.position_embeddings", &[Positions, Width]).at(Place::Body),
    module("token_embd_norm", "embeddings.LayerNorm", &[Width]).at(Place::Body).biased(Bias::Always),
];
const BERT_LAYER: &[Module] = &[
    module("attn_q", "attention.self.query", &[Queries, Width]).biased(Bias::Always),
    module("attn_k", "attention.self.key", &[Keys, Width]).biased(Bias::Always),
    module("attn_v", "attention.self.value", &[Keys, Width]).biased(Bias::Always),
    module("attn_output", "attention.output.dense", &[Width, Queries]).biased(Bias::Always),
    module("attn_output_norm", "attention.output.LayerNorm", &[Width]).biased(Bias::Always),
    module("ffn_up", "intermediate.dense", &[FeedForward, Width]).biased(Bias::Always),
    module("ffn_down", "output.dense", &[Width, FeedForward]).biased(Bias::Always),
    module("layer_output_norm", "output.LayerNorm", &[Width]).biased(Bias::Always),
];
/// The first row through a matrix and a tanh, then the scores.
const BERT_CLASSIFIER: &[Module] = &[
    module("cls", "pooler.dense", &[Width, Width]).at(Place::Body).biased(Bias::Always),
    module("cls.output", "classifier", &[Labels, Width]).at(Place::Beside).biased(Bias::Always),
];
const ROBERTA_CLASSIFIER: &[Module] = &[
    module("cls", "classifier.dense", &[Width, Width]).at(Place::Beside).biased(Bias::Always),
    module("cls.output", "classifier.out_proj", &[Labels, Width]).at(Place::Beside).biased(Bias::Always),
];
const NOMIC: &[Module] = &[
    module("token_embd", "embeddings.word_embeddings", &[Vocabulary, Width]).at(Place::Body),
    module("token_types", "embeddings.token_type_embeddings", &[Types, Width]).at(Place::Body).optional(),
    module("token_embd_norm", "emb_ln", &[Width]).at(Place::Body).biased(Bias::Always),
    module("attn_qkv", "attn.Wqkv", &[Fused, Width]),
    module("attn_output", "attn.out_proj", &[Width, Queries]),
    module("attn_output_norm", "norm1", &[Width]).biased(Bias::Always),
    module("ffn_up", "mlp.fc11", &[FeedForward, Width]),
    module("ffn_gate", "mlp.fc12", &[FeedForward, Width]),
    module("ffn_down", "mlp.fc2", &[Width, FeedForward]),
    module("layer_output_norm", "norm2", &[Width]).biased(Bias::Always),
];

const DECODER: Architecture = Architecture {
    name: "llama",
    classes: &["LlamaForCausalLM"],
    prefixes: &["model.", ""],
    layers: "layers.",
    permutes: true,
    norms_less_one: false,
    modules: &[EMBEDDING, PRE_NORMS, ATTENTION, QK_NORMS, GATED, HEAD],
    // Older checkpoints keep a table of frequencies, which config.json says as well.
    unused: &["rotary_emb.inv_freq"],
};
const ENCODER: Architecture = Architecture {
    name: "bert",
    classes: &["BertModel", "BertForMaskedLM"],
    prefixes: &["", "bert."],
    layers: "encoder.layer.",
    permutes: false,
    norms_less_one: false,
    modules: &[BERT_EMBEDDINGS, BERT_LAYER],
    unused: &[
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "pooler.dense.",
        "cls.predictions.",
        "cls.seq_relationship.",
    ],
};

/// Every kind of model whose checkpoints are known.
pub static ARCHITECTURES: [Architecture; 12] = [
    DECODER,
    Architecture { name: "qwen2", classes: &["Qwen2ForCausalLM"], permutes: false, ..DECODER },
    Architecture { name: "qwen3", classes: &["Qwen3ForCausalLM"], permutes: false, ..DECODER },
    Architecture {
        name: "qwen3moe",
        classes: &["Qwen3MoeForCausalLM"],
        permutes: false,
        modules: &[EMBEDDING, PRE_NORMS, ATTENTION, QK_NORMS, EXPERTS, HEAD],
        ..DECODER
    },
    Architecture {
        name: "olmoe",
        classes: &["OlmoeForCausalLM"],
        permutes: false,
        modules: &[EMBEDDING, PRE_NORMS, ATTENTION, WIDE_QK_NORMS, EXPERTS, HEAD],
        ..DECODER
    },
    Architecture { name: "smollm3", classes: &["SmolLM3ForCausalLM"], ..DECODER },
    Architecture {
        name: "gemma3",
        classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
        prefixes: &["model.", "model.language_model.", "language_model.model.", ""],
        permutes: false,
        norms_less_one: true,
        modules: &[EMBEDDING, SANDWICH_NORMS, ATTENTION, QK_NORMS, GATED, HEAD],
        unused: &["rotary_emb.inv_freq", "vision_tower.", "multi_modal_projector."],
        ..DECODER
    },
    ENCODER,
    Architecture {
        classes: &["BertForSequenceClassification"],
        prefixes: &["bert."],
        modules: &[BERT_EMBEDDINGS, BERT_LAYER, BERT_CLASSIFIER],
        unused: &["embeddings.position_ids", "embeddings.token_type_ids"],
        ..ENCODER
    },
    Architecture {
        classes: &["XLMRobertaModel", "XLMRobertaForMaskedLM"],
        prefixes: &["", "roberta."],
        unused: &["embeddings.position_ids", "embeddings.token_type_ids", "pooler.dense.", "lm_head."],
        ..ENCODER
    },
    Architecture {
        classes: &["XLMRobertaForSequenceClassification"],
        prefixes: &["roberta."],
        modules: &[BERT_EMBEDDINGS, BERT_LAYER, ROBERTA_CLASSIFIER],
        unused: &["embeddings.position_ids", "embeddings.token_type_ids", "pooler.dense."],
        ..ENCODER
    },
    Architecture {
        name: "nomic-bert",
        classes: &["NomicBertModel"],
        layers: "encoder.layers.",
        modules: &[NOMIC],
        ..ENCODER
    },
];

/// The matrices that newer files hold as one tensor, and the row of it at which each starts.
pub const FUSED: (&str, [(&str, &[Size]); 3]) =
    ("attn_qkv", [("attn_q", &[]), ("attn_k", &[Queries]), ("attn_v", &[Queries, Keys])]);

/// The kind of model that config.json calls `class`.
pub fn of_class(class: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|a| a.classes.contains(&class))
}

/// The first kind of model whose `general.architecture` is `name`.
pub fn of_gguf(name: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|a| a.name == name)
}

/// Every class that is known, for messages.
pub fn classes() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().flat_map(|a| a.classes).copied()
}

impl Architecture {
    /// All its modules, in the order of the file.
    pub fn modules(&self) -> impl Iterator<Item = &'static Module> + use<> {
        self.modules.iter().flat_map(|part| part.iter())
    }

    /// The module that GGUF calls `gguf`.
    pub fn module(&self, gguf: &str) -> Option<&'static Module> {
        self.modules().find(|m| m.gguf == gguf)
    }

    /// How many heads the rows of `module` belong to where GGUF stores them in another order.
    pub fn permuted(&self, module: &Module, heads: usize, kv_heads: usize) -> Option<usize> {
        match module.heads {
            _ if !self.permutes => None,
            Heads::None => None,
            Heads::Query => Some(heads),
            Heads::Key => Some(kv_heads),
        }
    }

    /// Hugging Face's name of `module` in layer `layer`, without `.weight`; `prefix` is what stands before
    /// the body's names.
    pub fn hf_name(&self, module: &Module, prefix: &str, layer: usize) -> String {
        let Module { hf, place, .. } = module;
        match place {
            Place::Beside => (*hf).to_owned(),
            Place::Body => format!("{prefix}{hf}"),
            Place::Layer | Place::Experts => format!("{prefix}{}{layer}.{hf}", self.layers),
        }
    }

    /// The layer and the module that Hugging Face calls `name` (without `.weight`). Prefixes that this kind
    /// of model has for its body may stand in front.
    pub fn of_hf_name(&self, name: &str) -> Option<(usize, &'static Module)> {
        let find = |place: Place, hf: &str| self.modules().find(|m| m.place == place && m.hf == hf);
        if let Some(module) = find(Place::Beside, name) {
            return Some((0, module));
        }
        self.prefixes.iter().find_map(|prefix| {
            let rest = name.strip_prefix(prefix)?;
            let Some(rest) = rest.strip_prefix(self.layers) else {
                return Some((0, find(Place::Body, rest)?));
            };
            let (number, rest) = rest.split_once('.')?;
            let layer: usize = number.parse().ok()?;
            // A number spelt in one way only, so that no two names mean one matrix.
            (layer.to_string() == number).then_some((layer, find(Place::Layer, rest)?))
        })
    }

    /// The layer and the module of GGUF's whole name of a weight, `blk.3.attn_q.weight` or `output.weight`.
    pub fn of_gguf_name(&self, name: &str) -> Option<(usize, &'static Module)> {
        let part = name.strip_suffix(".weight")?;
        let Some(rest) = part.strip_prefix("blk.") else {
            let module = self.module(part)?;
            return matches!(module.place, Place::Body | Place::Beside).then_some((0, module));
        };
        let (number, part) = rest.split_once('.')?;
        let layer: usize = number.parse().ok()?;
        let module = self.module(part)?;
        (layer.to_string() == number && matches!(module.place, Place::Layer | Place::Experts))
            .then_some((layer, module))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        let mut all: Vec<_> = classes().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for a in &ARCHITECTURES {
            for m in a.modules() {
                assert_eq!(a.modules().filter(|o| o.gguf == m.gguf).count(), 1, "{} {}", a.name, m.gguf);
                let layer = if matches!(m.place, Place::Body | Place::Beside) { 0 } else { 12 };
                assert_eq!(a.of_gguf_name(&m.gguf_name(layer)), Some((layer, m)));
                if m.place != Place::Experts {
                    for prefix in a.prefixes {
                        assert_eq!(a.of_hf_name(&a.hf_name(m, prefix, layer)), Some((layer, m)));
                    }
                }
            }
        }
        let llama = of_gguf("llama").unwrap();
        assert_eq!(of_class("LlamaForCausalLM"), Some(llama));
        let (layer, q) = llama.of_hf_name("model.layers.3.self_attn.q_proj").unwrap();
        assert_eq!((layer, q.gguf, llama.permuted(q, 8, 2)), (3, "attn_q", Some(8)));
        assert_eq!(llama.of_hf_name("model.layers.03.self_attn.q_proj"), None);
        assert_eq!(llama.of_gguf_name("blk.+3.attn_q.weight"), None);
        assert_eq!(of_gguf("qwen3").unwrap().permuted(q, 8, 2), None);
    }
}
