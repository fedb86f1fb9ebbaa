//! Which variant a device and a shape get: a table. `weft kernels list --explain` prints it.

use std::ops::RangeInclusive;

use weft_runtime::{Caps, DeviceKind};

use crate::drivers;

/// The variant of an op that has but one, in core WebGPU.
pub const BASELINE: &str = "baseline";

/// Up to this many tokens, each weight is read once and multiplied with all of them in registers;
/// past it the tiled kernels win although they compute whole tiles.
pub const MATVEC_TOKENS: u32 = 8;

/// Up to this many rows of a step hand integers from product to product.
pub const CHAIN_TOKENS: u32 = 8;

/// The fewest tokens whose products are worth a tile of matrices that is not full.
pub const MATRIX_TOKENS: u32 = 6;

/// What a device may have or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Need {
    F16,
    Subgroups,
    Dot,
    Coop,
    Coop16,
    Discrete,
    Software,
}

impl Need {
    /// As `--without` calls it, if it does.
    pub fn name(self) -> &'static str {
        match self {
            Need::F16 => "f16",
            Need::Subgroups => "subgroups",
            Need::Dot => "dot",
            Need::Coop => "coop",
            Need::Coop16 => "coop of 16 x 16",
            Need::Discrete => "memory of its own",
            Need::Software => "a GPU in software",
        }
    }

    fn met(self, caps: &Caps) -> bool {
        match self {
            Need::F16 => caps.f16,
            Need::Subgroups => caps.subgroups.is_some(),
            Need::Dot => caps.dot,
            Need::Coop => !caps.coop.is_empty(),
            Need::Coop16 => caps.coop.iter().any(|c| c.m == 16),
            Need::Discrete => caps.kind == DeviceKind::Discrete,
            Need::Software => caps.kind == DeviceKind::Cpu,
        }
    }
}

/// A row of the table. Where several rows of an op hold, the first one counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The op.
    pub op: &'static str,
    /// The variant it gets.
    pub variant: &'static str,
    /// For batches of so many tokens,
    pub tokens: RangeInclusive<u32>,
    /// so many query rows that share a KV head,
    pub rows: RangeInclusive<u32>,
    /// and heads of such a size.
    pub head_dim: RangeInclusive<u32>,
    /// On devices that have all of this.
    pub needs: &'static [Need],
    /// On software GPUs as well.
    pub software: bool,
    /// Why.
    pub why: &'static str,
}

/// What tells one call of an op from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallShape {
    /// Tokens of the batch.
    pub tokens: u32,
    /// Query rows that share a KV head.
    pub rows: u32,
    /// Size of a head.
    pub head_dim: u32,
}

impl CallShape {
    /// A product of so many tokens.
    pub fn tokens(tokens: u32) -> CallShape {
        CallShape { tokens, rows: tokens, head_dim: 0 }
    }
}

const ANY: RangeInclusive<u32> = 0..=u32::MAX;

/// Takes everything on every device.
const fn rule(op: &'static str, variant: &'static str, why: &'static str) -> Rule {
    Rule { op, variant, tokens: ANY, rows: ANY, head_dim: ANY, needs: &[], software: true, why }
}

/// On real GPUs that have this.
const fn on(op: &'static str, variant: &'static str, needs: &'static [Need], why: &'static str) -> Rule {
    Rule { needs, software: false, ..rule(op, variant, why) }
}

const FEW: RangeInclusive<u32> = 0..=MATVEC_TOKENS;

/// The table. The last row of an op takes everything on every device.
pub static RULES: [Rule; 39] = [
    Rule {
        tokens: 1..=CHAIN_TOKENS,
        ..on(
            "matmul",
            "chain",
            &[Need::Dot],
            "decode; five dispatches a layer, where nothing is cut into slabs",
        )
    },
    Rule {
        needs: &[Need::Subgroups, Need::Software],
        ..rule("matmul", "broadcast", "a CPU's loads go lane by lane; what is handed round costs it little")
    },
    Rule {
        tokens: MATRIX_TOKENS..=64,
        ..on(
            "matmul",
            "sliced",
            &[Need::F16, Need::Coop16],
            "shapes of whole tiles; 10 to 30 % less time than coop on an H200",
        )
    },
    Rule {
        tokens: MATRIX_TOKENS..=MATVEC_TOKENS,
        ..on("matmul", "coop", &[Need::F16, Need::Coop], "a tile of 16 costs an H200 what five rows do")
    },
    Rule {
        tokens: FEW,
        ..on("matmul", "matvec_dot", &[Need::Dot], "types of integers: a quarter of the loads of x")
    },
    Rule {
        tokens: FEW,
        ..rule("matmul", "matvec", "each weight is read once for all tokens; a CPU emulates packed dots")
    },
    Rule {
        tokens: 65..=u32::MAX,
        ..on("matmul", "direct", &[Need::F16, Need::Coop], "shapes of whole tiles; 1.5 times coop on an H200")
    },
    on("matmul", "coop", &[Need::F16, Need::Coop], "five times the f32 tiles on an H200"),
    on("matmul", "tiled_dot", &[Need::Dot], "types of integers"),
    on("matmul", "tiled_f16", &[Need::F16], "twice the f32 rate where f16 is packed"),
    rule("matmul", "tiled", "matrices gain a CPU nothing and take seconds to compile there"),
    Rule {
        tokens: 65..=u32::MAX,
        ..on("matmul_dx", "direct", &[Need::F16, Need::Coop], "shapes of whole tiles, as matmul")
    },
    on("matmul_dx", "coop", &[Need::F16, Need::Coop], "outputs that begin at a multiple of 4"),
    rule("matmul_dx", "tiled", "the rest"),
    Rule { tokens: FEW, ..on("experts", "matvec_dot", &[Need::Dot], "as matmul") },
    Rule { tokens: FEW, ..rule("experts", "matvec", "each choice reads its own expert") },
    rule("experts", "tiled", "choices sorted by expert"),
    Rule {
        tokens: 1..=1,
        needs: &[Need::Subgroups],
        ..rule(
            "attention",
            "decode",
            "norm, RoPE, cache write and attention in one dispatch; a cache of one chunk",
        )
    },
    Rule {
        rows: 32..=u32::MAX,
        head_dim: 65..=u32::MAX,
        ..on(
            "attention",
            "coop_wide",
            &[Need::F16, Need::Coop],
            "245 us where coop takes 400, heads of 128 on an H200",
        )
    },
    Rule {
        rows: 32..=u32::MAX,
        ..on(
            "attention",
            "coop",
            &[Need::F16, Need::Coop],
            "188 us where coop_wide takes 198, heads of 64 on an H200",
        )
    },
    Rule {
        rows: 64..=u32::MAX,
        ..on(
            "attention",
            "tiled_wide",
            &[Need::Discrete],
            "64 sums an invocation, which phones have no registers for",
        )
    },
    Rule {
        rows: 32..=u32::MAX,
        ..on(
            "attention",
            "tiled",
            &[],
            "1,964 us where rows take 3,255 and tiled_wide 1,723, heads of 128 on an H200",
        )
    },
    rule("attention", "rows", "few rows fill no tile"),
    Rule {
        head_dim: 65..=u32::MAX,
        ..on("attention_train", "coop_wide", &[Need::F16, Need::Coop], "as attention")
    },
    on("attention_train", "coop", &[Need::F16, Need::Coop], "as attention"),
    on("attention_train", "tiled_wide", &[Need::Discrete], "as attention"),
    on("attention_train", "tiled", &[], "as attention"),
    rule("attention_train", "rows", "the rest"),
    Rule {
        head_dim: 65..=u32::MAX,
        ..on(
            "attention_backward",
            "coop_wide",
            &[Need::F16, Need::Coop],
            "494 us where coop takes 608, heads of 128 on an H200",
        )
    },
    on("attention_backward", "coop", &[Need::F16, Need::Coop], "gradients are scaled into the range of f16"),
    rule("attention_backward", "rows", "the rest"),
    on("lora_down", "coop", &[Need::F16, Need::Coop], SIZES),
    rule("lora_down", BASELINE, "the rest"),
    on("lora_grad_t", "coop", &[Need::F16, Need::Coop], SIZES),
    rule("lora_grad_t", BASELINE, "the rest"),
    on("lora_grad_a", "coop", &[Need::F16, Need::Coop], SIZES),
    rule("lora_grad_a", BASELINE, "the rest"),
    on("lora_grad_b", "coop", &[Need::F16, Need::Coop], SIZES),
    rule("lora_grad_b", BASELINE, "the rest"),
];

const SIZES: &str = "ranks and widths that are multiples of 4, nothing cut";

impl Rule {
    /// Why this device never gets it, if so.
    pub fn lacking(&self, caps: &Caps) -> Option<String> {
        if let Some(f) = drivers::failure(caps, self.op, self.variant) {
            return Some(format!("known to fail: {}", f.what));
        }
        if let Some(need) = self.needs.iter().find(|n| !n.met(caps)) {
            return Some(format!("no {}", need.name()));
        }
        (caps.kind == DeviceKind::Cpu && !self.software).then(|| "not on software GPUs".into())
    }

    fn takes(&self, at: CallShape) -> bool {
        self.tokens.contains(&at.tokens)
            && self.rows.contains(&at.rows)
            && self.head_dim.contains(&at.head_dim)
    }

    /// The shapes it takes, readable.
    pub fn shapes(&self) -> String {
        let part = |range: &RangeInclusive<u32>, what| match (*range.start(), *range.end()) {
            (0, u32::MAX) => None,
            (first, u32::MAX) => Some(format!("{first} {what} and more")),
            (first, last) if first == last => Some(format!("{first} {what}")),
            (0, last) => Some(format!("up to {last} {what}")),
            (first, last) => Some(format!("{first} to {last} {what}")),
        };
        let tokens = if self.tokens == (1..=1) { "token" } else { "tokens" };
        let parts = [
            part(&self.tokens, tokens),
            part(&self.rows, "query rows"),
            part(&self.head_dim, "values a head"),
        ];
        let all: Vec<String> = parts.into_iter().flatten().collect();
        if all.is_empty() { "any".into() } else { all.join(", ") }
    }
}

/// The variant for a call of `op`: one that was asked for ([`Caps::variants`]) if it can, else the first
/// of [`RULES`] that holds and can. What `can` depends on more than the table says: types, sizes, memory.
///
/// # Panics
/// If the table has no such op.
pub fn variant(op: &str, caps: &Caps, at: CallShape, can: impl Fn(&str) -> bool) -> &'static str {
    let rules = || RULES.iter().filter(|r| r.op == op);
    let asked = rules().find(|r| caps.variants.iter().any(|v| v == r.variant) && can(r.variant));
    let picked = || rules().find(|r| r.takes(at) && r.lacking(caps).is_none() && can(r.variant));
    asked.or_else(picked).or_else(|| rules().next_back()).expect("an op of the table").variant
}

/// The names of all variants of the table.
pub fn variants() -> Vec<&'static str> {
    let mut names: Vec<&str> = RULES.iter().map(|r| r.variant).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;
