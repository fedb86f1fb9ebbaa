//! Which type each tensor of a quantised model gets: llama.cpp's mixtures, tensor by tensor.
//!
//! The name of a file's quantisation (`Q4_K_M`) is a recipe: a base type, and rules that give tensors
//! where errors cost most a larger one. The rules are those of src/llama-quant.cpp; its published
//! results (tests/snapshots) are compared in tests/quant_recipe.rs.

use regex::Regex;

use crate::quant::Type;

/// A named mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// As people and file names call it.
    pub name: &'static str,
    /// What most tensors get.
    pub base: Type,
    /// The value of `general.file_type` (`llama_ftype` in llama.h).
    pub file_type: u32,
}

const fn recipe(name: &'static str, base: Type, file_type: u32) -> Recipe {
    Recipe { name, base, file_type }
}

/// Every recipe, from small to large.
pub const RECIPES: &[Recipe] = &[
    recipe("IQ1_S", Type::IQ1_S, 24),
    recipe("TQ1_0", Type::TQ1_0, 36),
    recipe("IQ1_M", Type::IQ1_M, 31),
    recipe("IQ2_XXS", Type::IQ2_XXS, 19),
    recipe("TQ2_0", Type::TQ2_0, 37),
    recipe("IQ2_XS", Type::IQ2_XS, 20),
    recipe("IQ2_S", Type::IQ2_XS, 28),
    recipe("IQ2_M", Type::IQ2_S, 29),
    recipe("Q2_K", Type::Q2_K, 10),
    recipe("IQ3_XXS", Type::IQ3_XXS, 23),
    recipe("IQ3_XS", Type::IQ3_S, 22),
    recipe("Q3_K_S", Type::Q3_K, 11),
    recipe("IQ3_S", Type::IQ3_S, 26),
    recipe("IQ3_M", Type::IQ3_S, 27),
    recipe("Q3_K_M", Type::Q3_K, 12),
    recipe("Q3_K_L", Type::Q3_K, 13),
    recipe("IQ4_XS", Type::IQ4_XS, 30),
    recipe("MXFP4", Type::MXFP4, 38),
    recipe("IQ4_NL", Type::IQ4_NL, 25),
    recipe("Q4_0", Type::Q4_0, 2),
    recipe("Q4_K_S", Type::Q4_K, 14),
    recipe("Q4_K_M", Type::Q4_K, 15),
    recipe("Q4_1", Type::Q4_1, 3),
    recipe("Q5_0", Type::Q5_0, 8),
    recipe("Q5_K_S", Type::Q5_K, 16),
    recipe("Q5_K_M", Type::Q5_K, 17),
    recipe("Q5_1", Type::Q5_1, 9),
    recipe("Q6_K", Type::Q6_K, 18),
    recipe("Q8_0", Type::Q8_0, 7),
    recipe("F16", Type::F16, 1),
    recipe("BF16", Type::BF16, 32),
    recipe("F32", Type::F32, 0),
];

impl Recipe {
    /// The recipe of this name, in any case; `Q3_K`, `Q4_K` and `Q5_K` mean their `_M`.
    pub fn parse(name: &str) -> Option<Recipe> {
        let medium = ["Q3_K", "Q4_K", "Q5_K"].iter().any(|n| n.eq_ignore_ascii_case(name));
        let name = if medium { format!("{name}_M") } else { name.to_owned() };
        RECIPES.iter().find(|r| r.name.eq_ignore_ascii_case(&name)).copied()
    }
}

/// What the rules look at besides a tensor's name and shape.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// `general.architecture`.
    pub architecture: String,
    /// Layers.
    pub layers: u64,
    /// Query heads for each key-value head, at least 1.
    pub gqa: u64,
    /// Experts, 0 where there are none.
    pub experts: u64,
}

impl Model {
    /// Reads the keys of `metadata`; what is missing counts as 0 layers, one head a group, no experts.
    pub fn read(metadata: &crate::gguf::Metadata) -> Model {
        use crate::gguf::{Array, Value};
        let architecture = metadata.str("general.architecture").unwrap_or_default().to_owned();
        // Where layers differ, the first decides.
        let number = |key: &str| match metadata.get(&format!("{architecture}.{key}")) {
            Some(Value::Array(Array::I32(v))) => v.first().and_then(|v| u64::try_from(*v).ok()),
            Some(Value::Array(Array::U32(v))) => v.first().map(|v| u64::from(*v)),
            _ => metadata.u64(&format!("{architecture}.{key}")),
        };
        let heads = number("attention.head_count").unwrap_or(1);
        let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
        Model {
            layers: number("block_count").unwrap_or(0),
            gqa: heads.checked_div(kv_heads).unwrap_or(1).max(1),
            experts: number("expert_count").unwrap_or(0),
            architecture,
        }
    }

    /// The 70B models of Llama and Qwen, whose value projection is small beside the rest.
    fn is_70b(&self) -> bool {
        let known = (self.architecture == "llama" && self.gqa > 1) || self.architecture == "qwen2";
        self.layers == 80 && known
    }
}

/// What the caller wants otherwise.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Leave the output head as it is: `output.weight`, or the embedding where it serves as one.
    pub keep_output: bool,
    /// The first that is found in a tensor's name decides its type.
    pub overrides: Vec<(Regex, Type)>,
    /// An importance matrix will be used.
    pub importance: bool,
}

/// A tensor of the model as it is.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its dimensions, columns first.
    pub shape: &'a [u64],
    /// Its type now.
    pub ty: Type,
}

/// What becomes of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The type it gets.
    pub ty: Type,
    /// The type it would have got if its rows were whole blocks of it.
    pub instead_of: Option<Type>,
}

/// The type of each of `tensors`, in their order.
pub fn choose(recipe: Recipe, model: &Model, wishes: &Wishes, tensors: &[Tensor]) -> Vec<Choice> {
    let tied = !tensors.iter().any(|t| t.name == "output.weight");
    let head = if tied { "token_embd.weight" } else { "output.weight" };
    // The counters below run through the layers in order, whatever the order in the file.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (layer(tensors[i].name), tensors[i].name));
    let mut counts = Counts {
        values: tensors.iter().filter(|t| role(t.name) == TensorRole::Value).count(),
        ..Counts::default()
    };
    let mut choices: Vec<Choice> = tensors.iter().map(|t| Choice { ty: t.ty, instead_of: None }).collect();
    for i in order {
        let t = tensors[i];
        if !quantisable(&t) || (wishes.keep_output && t.name == head) {
            continue;
        }
        let ty = match wishes.overrides.iter().find(|(pattern, _)| pattern.is_match(t.name)) {
            Some((_, ty)) => *ty,
            None if recipe.base.block_len() == 1 => recipe.base,
            None => mixed(recipe, model, wishes, &t, t.name == head, &mut counts),
        };
        choices[i] = fitted(ty, t.shape[0]);
    }
    choices
}

/// Matrices of weights, but for norms and the small ones that decide much (routers, positions).
fn quantisable(t: &Tensor) -> bool {
    const KEPT: [&str; 6] =
        ["_norm.weight", "ffn_gate_inp.weight", "altup", "laurel", "ssm_conv1d", "shortconv.conv.weight"];
    // A matrix of one row counts as a vector, as in ggml.
    let matrix = t.shape.iter().skip(1).any(|d| *d > 1);
    matrix
        && t.name.ends_with("weight")
        && !["position_embd.weight", "token_types.weight"].contains(&t.name)
        && !KEPT.iter().any(|k| t.name.contains(k))
        && crate::quant::DECODES.contains(&t.ty)
}

/// Whether a tensor of this name would be of no use as `ty` without an importance matrix: two bits a value and less
/// leave so little that where an error costs most decides. Embeddings and heads, for which there often is no
/// importance, are excepted. llama.cpp refuses the same.
pub fn needs_importance(name: &str, ty: Type) -> bool {
    const TYPES: [Type; 6] =
        [Type::IQ1_S, Type::IQ1_M, Type::IQ2_XXS, Type::IQ2_XS, Type::IQ2_S, Type::IQ3_XXS];
    TYPES.contains(&ty) && !["token_embd.weight", "output.weight"].contains(&name)
}

/// `ty`, or what takes its place where rows of `cols` values are no whole blocks of it.
fn fitted(ty: Type, cols: u64) -> Choice {
    let fits = |ty: Type| cols.is_multiple_of(ty.block_len() as u64);
    if fits(ty) {
        return Choice { ty, instead_of: None };
    }
    let smaller = match ty {
        Type::IQ1_S | Type::IQ1_M | Type::IQ2_XXS | Type::IQ2_XS | Type::IQ2_S => Type::IQ4_NL,
        Type::IQ3_XXS | Type::IQ3_S | Type::IQ4_XS => Type::IQ4_NL,
        Type::Q2_K | Type::Q3_K | Type::TQ1_0 | Type::TQ2_0 => Type::Q4_0,
        Type::Q4_K => Type::Q5_0,
        Type::Q5_K => Type::Q5_1,
        Type::Q6_K => Type::Q8_0,
        _ => Type::F16,
    };
    Choice { ty: if fits(smaller) { smaller } else { Type::F16 }, instead_of: Some(ty) }
}

/// The number in `blk.N.`; `None` comes first.
fn layer(name: &str) -> Option<u64> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

#[derive(PartialEq)]
enum TensorRole {
    /// The tensor attn_v, or a fused tensor that holds it.
    Value,
    Query,
    Key,
    Output,
    Down,
    Widen,
    Other,
}

fn role(name: &str) -> TensorRole {
    let has = |s: &str| name.contains(s);
    match () {
        () if has("attn_v.weight") || has("attn_qkv.weight") || has("attn_kv_b.weight") => TensorRole::Value,
        () if has("attn_q.weight") => TensorRole::Query,
        () if has("attn_k.weight") => TensorRole::Key,
        () if has("attn_output.weight") => TensorRole::Output,
        () if has("ffn_down") => TensorRole::Down,
        () if has("ffn_gate") || has("ffn_up") => TensorRole::Widen,
        () => TensorRole::Other,
    }
}

/// How many tensors of a kind there are and went by.
#[derive(Default)]
struct Counts {
    values: usize,
    value: usize,
    down: u64,
}

/// The first and last eighth of the layers, and every third between.
fn more_bits(i: u64, n: u64) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

fn mixed(
    recipe: Recipe,
    model: &Model,
    wishes: &Wishes,
    t: &Tensor,
    head: bool,
    counts: &mut Counts,
) -> Type {
    let base = recipe.base;
    let name = recipe.name;
    if head {
        let whole = t.shape[0].is_multiple_of(base.block_len() as u64);
        return match name {
            "Q8_0" | "MXFP4" => Type::Q8_0,
            _ if !whole => Type::Q8_0,
            "IQ3_XXS" => Type::Q5_K,
            _ if is_tiny(name) => Type::Q5_K,
            _ => Type::Q6_K,
        };
    }
    if t.name == "token_embd.weight" {
        return match name {
            "TQ1_0" | "TQ2_0" => Type::Q4_K,
            "IQ2_S" | "IQ2_M" | "IQ3_XXS" => Type::IQ3_S,
            _ if is_tiny(name) => Type::Q2_K,
            _ => base,
        };
    }
    if is_tiny(name) {
        return tiny(recipe, model, t, counts);
    }
    let experts = model.experts == 8;
    match role(t.name) {
        TensorRole::Value => {
            let i = counts.value;
            counts.value += 1;
            if experts {
                return Type::Q8_0;
            }
            let ty = match name {
                "Q2_K" if model.gqa >= 4 => Type::Q4_K,
                "Q2_K" => Type::Q3_K,
                "Q3_K_M" if i < 2 => Type::Q5_K,
                "Q3_K_M" => Type::Q4_K,
                "Q3_K_L" => Type::Q5_K,
                "IQ3_XXS" | "IQ3_XS" | "IQ3_S" if model.gqa >= 4 => Type::Q4_K,
                "IQ3_XXS" if !wishes.importance => Type::IQ3_S,
                "IQ3_M" => Type::Q4_K,
                "IQ4_NL" | "IQ4_XS" if model.gqa >= 4 => Type::Q5_K,
                "Q4_K_M" | "Q5_K_M" if more_bits(i as u64, counts.values as u64) => Type::Q6_K,
                "Q4_K_S" if i < 4 => Type::Q5_K,
                _ => base,
            };
            if model.is_70b() && matches!(ty, Type::Q3_K | Type::Q4_K) { Type::Q5_K } else { ty }
        }
        TensorRole::Key if experts => Type::Q8_0,
        TensorRole::Query | TensorRole::Key => match name {
            "IQ3_XS" => Type::IQ3_XXS,
            "IQ3_XXS" => Type::IQ2_S,
            _ => base,
        },
        TensorRole::Widen => {
            let (i, n) = (layer(t.name).unwrap_or(0), model.layers);
            if name == "IQ3_XS" && (n / 8..7 * n / 8).contains(&i) { Type::IQ3_XXS } else { base }
        }
        TensorRole::Down => {
            let i = if model.experts > 1 { layer(t.name).unwrap_or(0) } else { counts.down };
            counts.down += 1;
            let n = model.layers;
            match name {
                "Q2_K" => Type::Q3_K,
                "Q3_K_M" if i < n / 16 => Type::Q5_K,
                "Q3_K_M" => Type::Q4_K,
                "Q3_K_L" => Type::Q5_K,
                "IQ3_XXS" if wishes.importance => base,
                "IQ3_XXS" if i < n / 8 => Type::Q4_K,
                "IQ3_XXS" => Type::Q3_K,
                "IQ3_M" if i < n / 8 || (experts && more_bits(i, n)) => Type::Q4_K,
                "Q4_K_M" | "Q5_K_M" if more_bits(i, n) => Type::Q6_K,
                "IQ4_NL" | "IQ4_XS" if i < n / 8 && !wishes.importance => Type::Q5_K,
                "Q4_K_S" if i < n / 8 => Type::Q5_K,
                "Q4_0" if i < n / 8 && wishes.importance => Type::Q4_1,
                "Q5_0" if i < n / 8 && wishes.importance => Type::Q5_1,
                _ => base,
            }
        }
        TensorRole::Output => match name {
            "Q2_K" | "Q3_K_S" | "Q3_K_M" | "IQ4_NL" | "Q4_K_S" | "Q4_K_M" | "IQ4_XS" if experts => Type::Q5_K,
            "IQ3_XXS" | "IQ3_XS" | "IQ3_S" | "IQ3_M" if experts => Type::Q5_K,
            _ if experts => base,
            "Q2_K" => Type::Q3_K,
            "IQ3_XXS" => Type::IQ3_S,
            "Q3_K_M" | "IQ3_M" => Type::Q4_K,
            "Q3_K_L" => Type::Q5_K,
            _ => base,
        },
        _ => base,
    }
}

/// The recipes of about two bits a value and less.
fn is_tiny(name: &str) -> bool {
    name.starts_with("IQ1_") || name.starts_with("IQ2_")
}

/// The rules of the recipes that [`is_tiny`] names, for all but embedding and head.
fn tiny(recipe: Recipe, model: &Model, t: &Tensor, counts: &mut Counts) -> Type {
    let larger = matches!(recipe.name, "IQ2_S" | "IQ2_M");
    let better = if larger { Type::IQ3_S } else { Type::Q2_K };
    let experts = model.experts == 8;
    match role(t.name) {
        TensorRole::Value if model.gqa >= 4 || model.experts >= 4 => Type::Q4_K,
        TensorRole::Value => better,
        TensorRole::Key if experts => Type::Q4_K,
        TensorRole::Down => {
            let i = if model.experts > 1 { layer(t.name).unwrap_or(0) } else { counts.down };
            counts.down += 1;
            if i < model.layers / 8 { better } else { recipe.base }
        }
        TensorRole::Output if experts => Type::Q5_K,
        TensorRole::Output if larger => Type::IQ3_S,
        TensorRole::Output if recipe.name.starts_with("IQ1_") => Type::IQ2_XXS,
        _ => recipe.base,
    }
}
