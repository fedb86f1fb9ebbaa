//! The mixtures against those that llama.cpp publishes: tests/snapshots/qwen3-0.6b.schema (28 layers, 2 query
//! heads a group) and qwen3-14b.schema (40 layers, 5) of its repository, which list for every file type the
//! tensors that get another type than the base. Those made without an importance matrix.

use weft_formats::gguf::{Array, Metadata, Value};
use weft_formats::quant::{ENCODES, Type};
use weft_formats::recipe::{Choice, Model, RECIPES, Recipe, Tensor, Wishes, choose, needs_importance};

const PARTS: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// Tensors other than of the base type: part, type, layers ("0-2,5").
type Rows = &'static [(&'static str, Type, &'static str)];

/// Recipe, type of the head, what is else: for 28 layers and for 40.
const SNAPSHOTS: &[(&str, Type, Rows, Rows)] = &[
    ("F32", Type::F32, &[], &[]),
    ("F16", Type::F16, &[], &[]),
    ("BF16", Type::BF16, &[], &[]),
    ("Q8_0", Type::Q8_0, &[], &[]),
    ("Q4_0", Type::Q6_K, &[], &[]),
    ("Q4_1", Type::Q6_K, &[], &[]),
    ("Q5_0", Type::Q6_K, &[], &[]),
    ("Q5_1", Type::Q6_K, &[], &[]),
    (
        "Q2_K",
        Type::Q6_K,
        &[
            ("attn_output", Type::Q3_K, "0-27"),
            ("attn_v", Type::Q3_K, "0-27"),
            ("ffn_down", Type::Q3_K, "0-27"),
        ],
        &[
            ("attn_output", Type::Q3_K, "0-39"),
            ("attn_v", Type::Q4_K, "0-39"),
            ("ffn_down", Type::Q3_K, "0-39"),
        ],
    ),
    ("Q3_K_S", Type::Q6_K, &[], &[]),
    (
        "Q3_K_M",
        Type::Q6_K,
        &[
            ("attn_output", Type::Q4_K, "0-27"),
            ("attn_v", Type::Q5_K, "0-1"),
            ("attn_v", Type::Q4_K, "2-27"),
            ("ffn_down", Type::Q5_K, "0"),
            ("ffn_down", Type::Q4_K, "1-27"),
        ],
        &[
            ("attn_output", Type::Q4_K, "0-39"),
            ("attn_v", Type::Q5_K, "0-1"),
            ("attn_v", Type::Q4_K, "2-39"),
            ("ffn_down", Type::Q5_K, "0-1"),
            ("ffn_down", Type::Q4_K, "2-39"),
        ],
    ),
    (
        "Q3_K_L",
        Type::Q6_K,
        &[
            ("attn_output", Type::Q5_K, "0-27"),
            ("attn_v", Type::Q5_K, "0-27"),
            ("ffn_down", Type::Q5_K, "0-27"),
        ],
        &[
            ("attn_output", Type::Q5_K, "0-39"),
            ("attn_v", Type::Q5_K, "0-39"),
            ("ffn_down", Type::Q5_K, "0-39"),
        ],
    ),
    (
        "Q4_K_S",
        Type::Q6_K,
        &[("attn_v", Type::Q5_K, "0-3"), ("ffn_down", Type::Q5_K, "0-2")],
        &[("attn_v", Type::Q5_K, "0-3"), ("ffn_down", Type::Q5_K, "0-4")],
    ),
    (
        "Q4_K_M",
        Type::Q6_K,
        &[
            ("attn_v", Type::Q6_K, "0-2,5,8,11,14,17,20,23,24-27"),
            ("ffn_down", Type::Q6_K, "0-2,5,8,11,14,17,20,23,24-27"),
        ],
        &[
            ("attn_v", Type::Q6_K, "0-4,7,10,13,16,19,22,25,28,31,34,35-39"),
            ("ffn_down", Type::Q6_K, "0-4,7,10,13,16,19,22,25,28,31,34,35-39"),
        ],
    ),
    ("Q5_K_S", Type::Q6_K, &[], &[]),
    (
        "Q5_K_M",
        Type::Q6_K,
        &[
            ("attn_v", Type::Q6_K, "0-2,5,8,11,14,17,20,23,24-27"),
            ("ffn_down", Type::Q6_K, "0-2,5,8,11,14,17,20,23,24-27"),
        ],
        &[
            ("attn_v", Type::Q6_K, "0-4,7,10,13,16,19,22,25,28,31,34,35-39"),
            ("ffn_down", Type::Q6_K, "0-4,7,10,13,16,19,22,25,28,31,34,35-39"),
        ],
    ),
    ("Q6_K", Type::Q6_K, &[], &[]),
    // The rows of 40 layers are from the rule in src/llama-quant.cpp.
    (
        "IQ4_NL",
        Type::Q6_K,
        &[("ffn_down", Type::Q5_K, "0-2")],
        &[("attn_v", Type::Q5_K, "0-39"), ("ffn_down", Type::Q5_K, "0-4")],
    ),
    (
        "IQ4_XS",
        Type::Q6_K,
        &[("ffn_down", Type::Q5_K, "0-2")],
        &[("attn_v", Type::Q5_K, "0-39"), ("ffn_down", Type::Q5_K, "0-4")],
    ),
    (
        "IQ1_S",
        Type::Q5_K,
        &[
            ("attn_v", Type::Q2_K, "0-27"),
            ("ffn_down", Type::Q2_K, "0-2"),
            ("attn_output", Type::IQ2_XXS, "0-27"),
        ],
        &[
            ("attn_v", Type::Q4_K, "0-39"),
            ("ffn_down", Type::Q2_K, "0-4"),
            ("attn_output", Type::IQ2_XXS, "0-39"),
        ],
    ),
    (
        "IQ1_M",
        Type::Q5_K,
        &[
            ("attn_v", Type::Q2_K, "0-27"),
            ("ffn_down", Type::Q2_K, "0-2"),
            ("attn_output", Type::IQ2_XXS, "0-27"),
        ],
        &[
            ("attn_v", Type::Q4_K, "0-39"),
            ("ffn_down", Type::Q2_K, "0-4"),
            ("attn_output", Type::IQ2_XXS, "0-39"),
        ],
    ),
    (
        "IQ2_XXS",
        Type::Q5_K,
        &[("attn_v", Type::Q2_K, "0-27"), ("ffn_down", Type::Q2_K, "0-2")],
        &[("attn_v", Type::Q4_K, "0-39"), ("ffn_down", Type::Q2_K, "0-4")],
    ),
    (
        "IQ2_XS",
        Type::Q5_K,
        &[("attn_v", Type::Q2_K, "0-27"), ("ffn_down", Type::Q2_K, "0-2")],
        &[("attn_v", Type::Q4_K, "0-39"), ("ffn_down", Type::Q2_K, "0-4")],
    ),
    (
        "IQ2_S",
        Type::Q5_K,
        &[
            ("attn_v", Type::IQ3_S, "0-27"),
            ("ffn_down", Type::IQ3_S, "0-2"),
            ("attn_output", Type::IQ3_S, "0-27"),
        ],
        &[
            ("attn_v", Type::Q4_K, "0-39"),
            ("ffn_down", Type::IQ3_S, "0-4"),
            ("attn_output", Type::IQ3_S, "0-39"),
        ],
    ),
    (
        "IQ2_M",
        Type::Q5_K,
        &[
            ("attn_v", Type::IQ3_S, "0-27"),
            ("ffn_down", Type::IQ3_S, "0-2"),
            ("attn_output", Type::IQ3_S, "0-27"),
        ],
        &[
            ("attn_v", Type::Q4_K, "0-39"),
            ("ffn_down", Type::IQ3_S, "0-4"),
            ("attn_output", Type::IQ3_S, "0-39"),
        ],
    ),
    (
        "IQ3_XXS",
        Type::Q5_K,
        &[
            ("attn_q", Type::IQ2_S, "0-27"),
            ("attn_k", Type::IQ2_S, "0-27"),
            ("attn_v", Type::IQ3_S, "0-27"),
            ("attn_output", Type::IQ3_S, "0-27"),
            ("ffn_down", Type::Q4_K, "0-2"),
            ("ffn_down", Type::Q3_K, "3-27"),
        ],
        &[
            ("attn_q", Type::IQ2_S, "0-39"),
            ("attn_k", Type::IQ2_S, "0-39"),
            ("attn_v", Type::Q4_K, "0-39"),
            ("attn_output", Type::IQ3_S, "0-39"),
            ("ffn_down", Type::Q4_K, "0-4"),
            ("ffn_down", Type::Q3_K, "5-39"),
        ],
    ),
    (
        "IQ3_XS",
        Type::Q6_K,
        &[
            ("attn_q", Type::IQ3_XXS, "0-27"),
            ("attn_k", Type::IQ3_XXS, "0-27"),
            ("ffn_gate", Type::IQ3_XXS, "3-23"),
            ("ffn_up", Type::IQ3_XXS, "3-23"),
        ],
        &[
            ("attn_q", Type::IQ3_XXS, "0-39"),
            ("attn_k", Type::IQ3_XXS, "0-39"),
            ("attn_v", Type::Q4_K, "0-39"),
            ("ffn_gate", Type::IQ3_XXS, "5-34"),
            ("ffn_up", Type::IQ3_XXS, "5-34"),
        ],
    ),
    ("IQ3_S", Type::Q6_K, &[], &[("attn_v", Type::Q4_K, "0-39")]),
    (
        "IQ3_M",
        Type::Q6_K,
        &[
            ("attn_v", Type::Q4_K, "0-27"),
            ("attn_output", Type::Q4_K, "0-27"),
            ("ffn_down", Type::Q4_K, "0-2"),
        ],
        &[
            ("attn_v", Type::Q4_K, "0-39"),
            ("attn_output", Type::Q4_K, "0-39"),
            ("ffn_down", Type::Q4_K, "0-4"),
        ],
    ),
    ("TQ1_0", Type::Q6_K, &[], &[]),
    ("TQ2_0", Type::Q6_K, &[], &[]),
    // Ours: llama.cpp has MXFP4 for stacked experts only, and makes a dense model all Q8_0.
    ("MXFP4", Type::Q8_0, &[], &[]),
];

fn layers(text: &str) -> Vec<u64> {
    let number = |s: &str| s.parse::<u64>().unwrap();
    text.split(',')
        .flat_map(|r| match r.split_once('-') {
            Some((a, b)) => number(a)..number(b) + 1,
            None => number(r)..number(r) + 1,
        })
        .collect()
}

fn model(layers: u64, gqa: u64) -> Model {
    Model { architecture: "qwen3".into(), layers, gqa, experts: 0 }
}

/// Names and shapes of a model, in an order that no rule may depend on.
fn names(layers: u64, cols: u64, tied: bool) -> Vec<(String, Vec<u64>)> {
    let mut names = vec![("token_embd.weight".to_owned(), vec![cols, 4096])];
    for i in (0..layers).rev() {
        names.extend(PARTS.iter().map(|p| (format!("blk.{i}.{p}.weight"), vec![cols, 1024])));
        names.push((format!("blk.{i}.attn_norm.weight"), vec![cols]));
        names.push((format!("blk.{i}.attn_q.bias"), vec![cols]));
    }
    if !tied {
        names.push(("output.weight".to_owned(), vec![cols, 4096]));
    }
    names
}

fn chosen(
    recipe: &str,
    model: &Model,
    names: &[(String, Vec<u64>)],
    wishes: &Wishes,
) -> Vec<(String, Choice)> {
    let tensors: Vec<_> = names
        .iter()
        .map(|(name, shape)| {
            let ty = if shape.len() == 1 { Type::F32 } else { Type::F16 };
            Tensor { name, shape, ty }
        })
        .collect();
    let choices = choose(Recipe::parse(recipe).unwrap(), model, wishes, &tensors);
    names.iter().map(|n| n.0.clone()).zip(choices).collect()
}

fn of(all: &[(String, Choice)], name: &str) -> Choice {
    all.iter().find(|(n, _)| n == name).unwrap().1
}

#[test]
fn mixtures_are_those_of_the_snapshots() {
    assert_eq!(SNAPSHOTS.len(), RECIPES.len());
    for (name, head, few, many) in SNAPSHOTS {
        for (n, gqa, rows) in [(28, 2, few), (40, 5, many)] {
            let recipe = Recipe::parse(name).unwrap();
            let names = names(n, 1024, false);
            for (tensor, choice) in chosen(name, &model(n, gqa), &names, &Wishes::default()) {
                let row = rows.iter().find(|(part, _, l)| {
                    layers(l).iter().any(|i| tensor == format!("blk.{i}.{part}.weight"))
                });
                let expected = match (tensor.as_str(), row) {
                    (t, _) if t.contains("norm") || t.contains("bias") => Type::F32,
                    ("output.weight", _) => *head,
                    ("token_embd.weight", _) => match *name {
                        "TQ1_0" | "TQ2_0" => Type::Q4_K,
                        "IQ2_S" | "IQ2_M" | "IQ3_XXS" => Type::IQ3_S,
                        "IQ1_S" | "IQ1_M" | "IQ2_XXS" | "IQ2_XS" => Type::Q2_K,
                        _ => recipe.base,
                    },
                    (_, Some((_, ty, _))) => *ty,
                    _ => recipe.base,
                };
                assert_eq!(
                    choice,
                    Choice { ty: expected, instead_of: None },
                    "{name}: {tensor} of {n} layers"
                );
            }
        }
    }
}

#[test]
fn every_recipe_can_be_written() {
    for r in RECIPES {
        assert!(ENCODES.contains(&r.base), "{}", r.name);
        assert_eq!(Recipe::parse(&r.name.to_lowercase()), Some(*r));
    }
    assert_eq!(Recipe::parse("q4_k").unwrap().name, "Q4_K_M");
    assert_eq!(Recipe::parse("IQ1_XS"), None);
    assert_eq!(Recipe::parse(""), None);
}

#[test]
fn a_tied_embedding_is_treated_as_the_head() {
    let names = names(4, 1024, true);
    let all = chosen("Q4_K_M", &model(4, 2), &names, &Wishes::default());
    assert_eq!(of(&all, "token_embd.weight").ty, Type::Q6_K);
    let keep = Wishes { keep_output: true, ..Wishes::default() };
    assert_eq!(of(&chosen("Q4_K_M", &model(4, 2), &names, &keep), "token_embd.weight").ty, Type::F16);
}

#[test]
fn rows_that_are_no_whole_blocks_fall_back() {
    // Qwen2.5-0.5B has 896 columns, SmolLM2-135M 576: Q4_K_M files of theirs hold Q5_0 and Q8_0.
    let fallback = |recipe, cols| {
        let all = chosen(recipe, &model(24, 7), &names(24, cols, false), &Wishes::default());
        of(&all, "blk.5.attn_q.weight")
    };
    let cases = [
        ("Q4_K_M", 896, Type::Q5_0, Type::Q4_K),
        ("Q5_K_M", 896, Type::Q5_1, Type::Q5_K),
        ("Q6_K", 896, Type::Q8_0, Type::Q6_K),
        ("Q3_K_S", 896, Type::Q4_0, Type::Q3_K),
        ("Q2_K", 896, Type::Q4_0, Type::Q2_K),
        ("TQ1_0", 896, Type::Q4_0, Type::TQ1_0),
        ("IQ4_XS", 576, Type::IQ4_NL, Type::IQ4_XS),
        ("IQ3_M", 576, Type::IQ4_NL, Type::IQ3_S),
        ("IQ2_XXS", 576, Type::IQ4_NL, Type::IQ2_XXS),
        ("IQ1_M", 100, Type::F16, Type::IQ1_M),
        ("Q4_K_M", 100, Type::F16, Type::Q4_K),
        ("Q8_0", 100, Type::F16, Type::Q8_0),
    ];
    for (recipe, cols, ty, wanted) in cases {
        assert_eq!(fallback(recipe, cols), Choice { ty, instead_of: Some(wanted) }, "{recipe} of {cols}");
    }
    let all = chosen("Q4_0", &model(24, 7), &names(24, 896, false), &Wishes::default());
    assert_eq!(of(&all, "output.weight"), Choice { ty: Type::Q8_0, instead_of: Some(Type::Q6_K) });
    assert_eq!(of(&all, "blk.5.attn_q.weight"), Choice { ty: Type::Q4_0, instead_of: None });
}

#[test]
fn importance_wishes_and_large_models() {
    let with = Wishes { importance: true, ..Wishes::default() };
    let names32 = names(32, 1024, false);
    let all = chosen("Q4_0", &model(32, 4), &names32, &with);
    assert_eq!(of(&all, "blk.3.ffn_down.weight").ty, Type::Q4_1);
    assert_eq!(of(&all, "blk.4.ffn_down.weight").ty, Type::Q4_0);
    assert_eq!(
        of(&chosen("IQ4_XS", &model(32, 2), &names32, &with), "blk.0.ffn_down.weight").ty,
        Type::IQ4_XS
    );

    let all = chosen("IQ3_XXS", &model(32, 2), &names32, &with);
    for part in ["attn_v", "ffn_down"] {
        assert_eq!(of(&all, &format!("blk.0.{part}.weight")).ty, Type::IQ3_XXS);
    }
    assert!(needs_importance("blk.0.ffn_down.weight", Type::IQ3_XXS));
    assert!(!needs_importance("output.weight", Type::IQ3_XXS));
    assert!(!needs_importance("blk.0.ffn_down.weight", Type::IQ3_S));

    let overrides = vec![
        (regex::Regex::new("attn_(q|k)").unwrap(), Type::Q8_0),
        (regex::Regex::new(r"blk\.0\.").unwrap(), Type::F32),
    ];
    let wishes = Wishes { overrides, ..Wishes::default() };
    let all = chosen("Q4_K_M", &model(32, 4), &names32, &wishes);
    assert_eq!(of(&all, "blk.0.attn_q.weight").ty, Type::Q8_0);
    assert_eq!(of(&all, "blk.0.ffn_up.weight").ty, Type::F32);
    assert_eq!(of(&all, "blk.1.ffn_up.weight").ty, Type::Q4_K);

    // Llama 3 70B: 80 layers, 8 query heads a group.
    let llama = Model { architecture: "llama".into(), ..model(80, 8) };
    let all = chosen("Q3_K_M", &llama, &names(80, 1024, false), &Wishes::default());
    assert_eq!(of(&all, "blk.40.attn_v.weight").ty, Type::Q5_K);
    let moe = Model { experts: 8, ..model(32, 4) };
    let all = chosen("IQ2_XS", &moe, &names32, &with);
    for (part, ty) in [("attn_k", Type::Q4_K), ("attn_v", Type::Q4_K), ("attn_output", Type::Q5_K)] {
        assert_eq!(of(&all, &format!("blk.9.{part}.weight")).ty, ty);
    }
    let all = chosen("Q4_K_M", &moe, &names32, &Wishes::default());
    assert_eq!(of(&all, "blk.9.attn_k.weight").ty, Type::Q8_0);
    assert_eq!(of(&all, "blk.9.attn_output.weight").ty, Type::Q5_K);
}

#[test]
fn what_a_file_says_of_its_model() {
    let mut m = Metadata::new();
    assert_eq!(Model::read(&m).gqa, 1);
    m.set("general.architecture", Value::Str("llama".into()));
    m.set("llama.block_count", Value::U32(32));
    m.set("llama.attention.head_count", Value::U32(32));
    m.set("llama.attention.head_count_kv", Value::Array(Array::I32(vec![8, 4])));
    let model = Model::read(&m);
    assert_eq!((model.layers, model.gqa, model.experts), (32, 4, 0));
    m.set("llama.attention.head_count_kv", Value::U32(0));
    assert_eq!(Model::read(&m).gqa, 1);
}
