//! A row of the table of cases.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use weft_runtime::{Gpu, Shader};

use super::gradients::Gradients;
use super::guarded::take_expected;
use crate::{Fields, Result, WeightType, drivers};

/// Dequantises blocks of a type: somebody else's code, so that a fragment and its repacking are not
/// checked against themselves. The harness passes `weft_formats::quant::dequantize`.
pub type Oracle = fn(WeightType, &[u8], &mut [f32]);

/// What a case runs: on a device, with an oracle, its inputs drawn from a seed; gives the NMSE.
type Run = dyn Fn(&Gpu, Oracle, u64) -> Result<f64> + Send + Sync;

/// One row of the table.
pub struct Case {
    /// The op, as in `ops/`.
    pub op: &'static str,
    /// The way it is computed; [`BASELINE`] for an op with one way.
    pub variant: &'static str,
    /// The type it reads or writes besides f32: of the weights, or of the cache.
    pub ty: Option<&'static str>,
    /// Shape and parameters, readable.
    pub name: String,
    /// Largest NMSE that passes.
    pub tolerance: f64,
    run: Box<Run>,
    /// What a backward op has: the same against differences of the forward op.
    differences: Option<Box<Run>>,
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// NMSE within the tolerance.
    Passed(f64),
    /// NMSE beyond it; infinite where a value is no number or a sentinel is overwritten.
    Failed(f64),
    /// The op has no plan here; the reason.
    Unsupported(String),
    /// The device refused or failed.
    Error(String),
}

impl Case {
    pub(crate) fn new(
        op: &'static str,
        variant: &'static str,
        name: String,
        tolerance: f64,
        run: impl Fn(&Gpu, Oracle, u64) -> Result<f64> + Send + Sync + 'static,
    ) -> Case {
        Case { op, variant, ty: None, name, tolerance, run: Box::new(run), differences: None }
    }

    /// A case of an op that computes gradients: `weft kernels test` compares them with the reference of
    /// that op, `weft kernels grad` with central differences of the reference of the op whose gradient it is.
    pub(crate) fn backward(
        op: &'static str,
        variant: &'static str,
        name: String,
        tolerance: f64,
        run: impl Fn(&Gpu, Oracle, u64) -> Result<Gradients> + Send + Sync + 'static,
    ) -> Case {
        let run = Arc::new(run);
        let again = run.clone();
        let differences =
            move |gpu: &Gpu, oracle: Oracle, seed| Ok(again(gpu, oracle, seed)?.by_differences(seed));
        let case = Case::new(op, variant, name, tolerance, move |gpu, oracle, seed| {
            Ok(run(gpu, oracle, seed)?.by_reference())
        });
        Case { differences: Some(Box::new(differences)), ..case }
    }

    /// The case that compares with differences, where the op computes gradients.
    pub(crate) fn by_differences(self) -> Option<Case> {
        Some(Case { run: self.differences?, differences: None, ..self })
    }

    pub(crate) fn of_type(self, ty: &'static str) -> Case {
        Case { ty: Some(ty), ..self }
    }

    /// Where it belongs.
    pub fn cell(&self) -> Cell {
        (self.op, self.variant, self.ty)
    }

    /// As [`Case::run`], with a hash of what decided about the outcome where `gpu` keeps a trace: the composed shaders,
    /// their parameters and sizes, the inputs, and what the reference gave.
    pub fn run_traced(&self, gpu: &Gpu, oracle: Oracle, seed: u64) -> (Outcome, Option<u64>) {
        gpu.take_trace();
        take_expected();
        let outcome = self.run(gpu, oracle, seed);
        let trace = gpu.take_trace().map(|trace| {
            let mut hash = DefaultHasher::new();
            let row = (self.op, self.variant, self.ty, &self.name, self.tolerance.to_bits(), seed);
            (row, trace, take_expected()).hash(&mut hash);
            hash.finish()
        });
        (outcome, trace)
    }

    /// Runs it on `gpu` with the inputs of `seed`; what is known to fail there only on demand.
    pub fn run(&self, gpu: &Gpu, oracle: Oracle, seed: u64) -> Outcome {
        let asked = gpu.caps().variants.iter().any(|v| v == self.variant);
        if let Some(f) = drivers::failure(gpu.caps(), self.op, self.variant).filter(|_| !asked) {
            return Outcome::Unsupported(format!("known to fail here: {} ({})", f.what, f.link));
        }
        match (self.run)(gpu, oracle, seed) {
            Ok(nmse) if nmse <= self.tolerance => Outcome::Passed(nmse),
            Ok(nmse) => Outcome::Failed(nmse),
            Err(crate::Error::Plan(e)) => Outcome::Unsupported(e.to_string()),
            Err(e) => Outcome::Error(e.to_string()),
        }
    }
}

/// Op, variant and type: a cell of the capability matrix.
pub type Cell = (&'static str, &'static str, Option<&'static str>);

/// Some of the cases: of each op, variant and type the first and every fourth after it, or every eighth where there are
/// many.
pub fn each_cell(cases: Vec<Case>) -> Vec<Case> {
    one_in(4, cases)
}

/// Cells with more cases than these, as attention has, are tried half as often: they have neighbours enough, and each is a
/// kernel of its own, which takes a software GPU longer to compile than to run.
const MANY: u32 = 25;

/// One in so many cases of each cell, the first of each among them; of those with many, one in twice as many.
fn one_in(step: u32, cases: Vec<Case>) -> Vec<Case> {
    let mut of_cell: HashMap<Cell, u32> = HashMap::new();
    cases.iter().for_each(|c| *of_cell.entry(c.cell()).or_default() += 1);
    let mut seen = HashMap::new();
    let mut turn = |c: &Case| {
        let n: &mut u32 = seen.entry(c.cell()).or_default();
        *n += 1;
        let step = if of_cell[&c.cell()] > MANY { 2 * step } else { step };
        *n % step == 1
    };
    cases.into_iter().filter(|c| turn(c)).collect()
}

/// Fewer of them, for a minute: every op in every variant, and every type; but of the products, whose shaders are many,
/// each type in one variant, whose turn it is.
pub fn quick(cases: Vec<Case>) -> Vec<Case> {
    let product = |c: &Case| c.op.starts_with("matmul") || c.op.starts_with("experts");
    let (products, others): (Vec<_>, Vec<_>) = cases.into_iter().partition(product);
    each_cell(in_turn(products).into_iter().chain(others).collect())
}

/// Those of one variant for each op and type, whose turn it is: another one for the next type.
fn in_turn(cases: Vec<Case>) -> Vec<Case> {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for c in &cases {
        let of_type = all.entry((c.op, c.ty)).or_default();
        if !of_type.contains(&c.variant) {
            of_type.push(c.variant);
        }
    }
    let taken = |c: &Case| {
        let ty = WeightType::ALL.iter().position(|t| Some(t.name()) == c.ty).unwrap_or(0);
        let of = &all[&(c.op, c.ty)];
        of[ty % of.len()] == c.variant
    };
    cases.into_iter().filter(taken).collect()
}

/// Fewer of them, with every kind of fragment in every variant: of products, all cases for the first type of each
/// kind, and of the others, whose fragments are read by the same kernels, some ([`each_cell`]) in one variant each; of
/// other ops, every second one of a cell.
pub fn each_kind(cases: Vec<Case>) -> Vec<Case> {
    let (first, others) = by_kind(cases);
    let (of_weights, plain): (Vec<_>, Vec<_>) = first.into_iter().partition(|c| weight_type(c).is_some());
    of_weights.into_iter().chain(each_cell(in_turn(others))).chain(one_in(2, plain)).collect()
}

/// Fewer shaders, by the same rule: all of those without a weight type in their name and of the first type of each kind,
/// and one in four of the others.
pub fn shaders_of_kinds(all: Vec<(Shader, Fields)>) -> Vec<(Shader, Fields)> {
    let type_in = |name: &str| {
        let named = WeightType::ALL.iter().copied().filter(|t| name.contains(t.name()));
        named.max_by_key(|t| t.name().len())
    };
    let first = |ty: WeightType| WeightType::ALL.iter().find(|t| t.kind() == ty.kind()) == Some(&ty);
    let (firsts, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(s, _)| type_in(&s.name).is_none_or(first));
    firsts.into_iter().chain(others.into_iter().step_by(4)).collect()
}

/// Only those of the first type of each kind, and some of those of no weight type.
pub fn first_of_kinds(cases: Vec<Case>) -> Vec<Case> {
    let (of_weights, plain): (Vec<_>, Vec<_>) =
        by_kind(cases).0.into_iter().partition(|c| weight_type(c).is_some());
    of_weights.into_iter().chain(each_cell(plain)).collect()
}

fn weight_type(c: &Case) -> Option<WeightType> {
    WeightType::ALL.iter().copied().find(|t| Some(t.name()) == c.ty)
}

/// The cases of the first type of its kind that an op has in a variant, with those of no weight type; and the others.
fn by_kind(cases: Vec<Case>) -> (Vec<Case>, Vec<Case>) {
    let mut first = HashMap::new();
    cases.into_iter().partition(|c| {
        weight_type(c).is_none_or(|ty| *first.entry((c.op, c.variant, ty.kind())).or_insert(ty) == ty)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Case, each_kind, first_of_kinds, weight_type};
    use crate::WeightType;
    use crate::registry::cases;

    /// What is left out is no variant, no type of an op and no kind of type in a variant.
    #[test]
    fn the_usual_cases_touch_every_variant_type_and_kind() {
        let kinds = |cases: &[Case]| -> HashSet<_> {
            cases.iter().map(|c| (c.op, c.variant, weight_type(c).map(WeightType::kind))).collect()
        };
        let types = |cases: &[Case]| -> HashSet<_> { cases.iter().map(|c| (c.op, c.ty)).collect() };
        let (all, usual) = (cases(), each_kind(cases()));
        assert_eq!(kinds(&usual), kinds(&all));
        assert_eq!(types(&usual), types(&all));
        assert_eq!(kinds(&first_of_kinds(cases())), kinds(&all));
        let products = |cases: &[Case]| cases.iter().filter(|c| c.op == "matmul").count();
        assert!(products(&usual) * 2 < products(&all));
    }
}
