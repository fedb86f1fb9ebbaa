//! The tensors that a model's file holds, by the parts of its spec. A tensor that is not among them is refused.

use std::collections::BTreeSet;

use weft_formats::gguf::File;

use crate::sites::{Group, NormSite, Target};
use crate::spec::{Ffn, Norm, Norms, QkNorm, Spec};
use crate::{Error, Result};

/// The table of learnt positions, and that of token types.
pub(super) const POSITIONS: &str = "position_embd";
pub(super) const TYPES: &str = "token_types";

/// The layers of a classifier: the one before the last, and the last.
pub(super) const CLASSIFIER: [&str; 2] = ["cls", "cls.output"];

/// Tensors that lie one after the other as one matrix, and its biases: names without their ending, and rows.
pub(super) struct Rows {
    pub(super) tensors: Vec<(String, u32)>,
    /// Columns of all of them.
    pub(super) cols: u32,
    /// Whether each has a bias.
    pub(super) bias: bool,
    /// How many matrices of so many rows and columns each tensor has, where those are experts'.
    pub(super) experts: Option<u32>,
}

/// The matrices of a group of a layer.
pub(super) fn group(spec: &Spec, file: &File, layer: u32, group: Group) -> Rows {
    let a = &spec.blocks[layer as usize].attention;
    let cols = group.targets()[0].inputs(spec);
    if let (Some(e), Group::GateUp | Group::Down) = (spec.experts(layer), group) {
        let one = |part: &str, rows| (format!("blk.{layer}.ffn_{part}_exps"), rows);
        let tensors = match group {
            Group::Down => vec![one("down", spec.width)],
            // Newer files may hold gate and up of an expert as one matrix.
            _ if file.tensor(&format!("blk.{layer}.ffn_gate_up_exps.weight")).is_some() => {
                vec![one("gate_up", 2 * e.width)]
            }
            _ => vec![one("gate", e.width), one("up", e.width)],
        };
        return Rows { tensors, cols, bias: false, experts: Some(e.count) };
    }
    let bias = match group {
        Group::Qkv => a.bias,
        Group::Output => a.output_bias,
        Group::GateUp | Group::Down => {
            matches!(spec.blocks[layer as usize].ffn, Ffn::Plain { bias: true, .. })
        }
    };
    // Without a gate there is up alone.
    let plain = matches!(spec.blocks[layer as usize].ffn, Ffn::Plain { .. });
    let there = |t: &&Target| !(plain && **t == Target::Gate);
    // Newer files may hold Q, K and V as one tensor: their rows follow each other in it.
    let fused = format!("blk.{layer}.attn_qkv");
    let tensors = match group == Group::Qkv && file.tensor(&format!("{fused}.weight")).is_some() {
        true => vec![(fused, a.qkv_width())],
        false => {
            group.targets().iter().filter(there).map(|t: &Target| (t.stem(layer), t.outputs(spec))).collect()
        }
    };
    Rows { tensors, cols, bias, experts: None }
}

/// The matrix that a layer's experts are chosen by, if it has some.
pub(super) fn router(spec: &Spec, layer: u32) -> Option<Rows> {
    let e = spec.experts(layer)?;
    let tensors = vec![(format!("blk.{layer}.ffn_gate_inp"), e.count)];
    Some(Rows { tensors, cols: spec.width, bias: false, experts: None })
}

/// The name of a norm, without its ending.
pub(super) fn norm(spec: &Spec, site: NormSite) -> String {
    // Without a norm before a half, the one behind it has another name.
    let only = |l: u32| spec.blocks[l as usize].norms == Norms::Post;
    match site {
        NormSite::Embedding => "token_embd_norm".into(),
        NormSite::Attention(l) => format!("blk.{l}.attn_norm"),
        NormSite::AfterAttention(l) if only(l) => format!("blk.{l}.attn_output_norm"),
        NormSite::AfterFfn(l) if only(l) => format!("blk.{l}.layer_output_norm"),
        NormSite::AfterAttention(l) => format!("blk.{l}.post_attention_norm"),
        NormSite::Ffn(l) => format!("blk.{l}.ffn_norm"),
        NormSite::AfterFfn(l) => format!("blk.{l}.post_ffw_norm"),
        NormSite::Output => "output_norm".into(),
    }
}

/// The names of a layer's norms of queries and of keys.
pub(super) fn qk_norm(layer: u32) -> [String; 2] {
    ["q", "k"].map(|x| format!("blk.{layer}.attn_{x}_norm.weight"))
}

/// Tensors that the graph has no use for and that change nothing: angles that follow from other keys.
fn harmless(name: &str) -> bool {
    name == "rope_freqs.weight"
        || name.ends_with(".attn_rot_embd.weight")
        || name.ends_with(".rotary_emb.inv_freq")
}

/// Refuses a file with a tensor that the graph has no place for: ignoring it would change the answer.
///
/// # Errors
/// [`Error::UnknownTensor`] names the first.
pub(crate) fn refuse_unknown(spec: &Spec, file: &File) -> Result<()> {
    let mut known = BTreeSet::new();
    let mut add = |name: String| {
        known.insert(name);
    };
    add("token_embd.weight".into());
    if !spec.out.tied {
        add("output.weight".into());
    }
    for (name, there) in [(POSITIONS, spec.embed.positions), (TYPES, spec.embed.types)] {
        if there.is_some() {
            add(format!("{name}.weight"));
        }
    }
    for name in CLASSIFIER.iter().filter(|_| spec.out.classes.is_some()) {
        add(format!("{name}.weight"));
        add(format!("{name}.bias"));
    }
    for site in spec.norm_sites() {
        add(format!("{}.weight", norm(spec, site)));
        if matches!(spec.norm(site), Some(Norm::Layer { .. })) {
            add(format!("{}.bias", norm(spec, site)));
        }
    }
    for layer in 0..spec.layers() {
        if spec.blocks[layer as usize].attention.qk_norm != QkNorm::None {
            for name in qk_norm(layer) {
                add(name);
            }
        }
        let groups = Group::ALL.map(|g| group(spec, file, layer, g));
        for rows in groups.into_iter().chain(router(spec, layer)) {
            for (name, _) in rows.tensors {
                if rows.bias {
                    add(format!("{name}.bias"));
                }
                add(format!("{name}.weight"));
            }
        }
    }
    match file.tensors().iter().find(|t| !known.contains(&t.name) && !harmless(&t.name)) {
        Some(t) => {
            Err(Error::UnknownTensor { file: file.path().display().to_string(), name: t.name.clone() })
        }
        None => Ok(()),
    }
}
