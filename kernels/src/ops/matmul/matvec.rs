//! The kernels for a few tokens (decode), bound by the weights' bytes: their constants and shaders.

use weft_runtime::{Access, Caps, DeviceKind, Gpu, Shader};

use super::variant::Variant;
use crate::compose::{compose, fragment};
use crate::ops::{LOAD4, WEIGHT, with_dequant};
use crate::select::MATVEC_TOKENS;
use crate::{Result, WeightType};

/// How the matvec kernels spread their work; constants of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matvec {
    /// Invocations.
    pub wg: u32,
    /// Invocations that share a row: a power of two, at most `wg`.
    pub lanes: u32,
    /// Rows of each group of lanes.
    pub rows: u32,
    /// Loads of a row that an invocation starts before it uses the first.
    pub steps: u32,
    /// Tokens.
    pub tokens: u32,
}

impl Matvec {
    /// The constants for a type and a shape in a chain of products that wait for each other, as in
    /// decode: many invocations a row, so that each walks it in a few rounds, as the chain waits for the
    /// slowest; only where rows fill the device many times over, several rows for each, so that x is read
    /// less often. Measured by `weft kernels perf --sweep`.
    pub fn pick(
        kind: DeviceKind,
        variant: Variant,
        ty: WeightType,
        rows: u32,
        cols: u32,
        tokens: u32,
    ) -> Matvec {
        if kind == DeviceKind::Cpu && variant == Variant::Matvec {
            // A software GPU walks its lanes one by one at each load, whatever they load: what counts is how
            // often x is loaded, which more rows share, up to eight sums.
            let rows = (8 / tokens.next_power_of_two()).max(2);
            return Matvec { wg: 64, lanes: 8, rows, steps: 1, tokens };
        }
        // Rounds of loads that a row takes at one lane.
        let (each, most) = if variant == Variant::MatvecDot { (32, 64) } else { (16, 128) };
        let many = rows >= 16_384;
        let lanes = match cols / each {
            0..=31 => 8,
            32..=63 => 16,
            _ if many => 16,
            64..=127 => 32,
            128..=255 => 64,
            _ => most,
        };
        let few_tokens = tokens <= 2;
        let (per_group, steps) = match (variant, ty) {
            // As many bytes as two of the others, so two loads in flight instead of two rows.
            (Variant::MatvecDot, WeightType::Q8_0) => (1, 2),
            (Variant::MatvecDot, _) => (if many { 2 } else { 1 }, 1),
            // f32 values of x cost more loads than w.
            _ => (2, 1),
        };
        let (rows, steps) = if few_tokens { (per_group, steps) } else { (1, 1) };
        // A code book is loaded once a workgroup.
        let wg = if variant == Variant::MatvecDot && !ty.layout().table.is_empty() { 256 } else { 128 };
        Matvec { wg, lanes, rows, steps, tokens }
    }

    /// As [`Matvec::pick`], unless others were measured on this device ([`crate::tuning`]).
    pub fn tuned(caps: &Caps, variant: Variant, ty: WeightType, rows: u32, cols: u32, tokens: u32) -> Matvec {
        // A product of integers is the same with and without a chain around it.
        let op = if variant == Variant::MatvecDot { "chain_rows" } else { "matvec" };
        let tuned = caps.tuning.find(op, ty.name(), &[rows, cols]).filter(|_| tokens == 1);
        let pick = || Matvec::pick(caps.kind, variant, ty, rows, cols, tokens);
        tuned.map_or_else(pick, Matvec::of)
    }

    /// The constants of a tuning file, for one token.
    pub(crate) fn of([wg, lanes, rows, steps]: [u32; 4]) -> Matvec {
        Matvec { wg, lanes, rows, steps, tokens: 1 }
    }

    /// As a tuning file has them.
    pub fn numbers(self) -> [u32; 4] {
        [self.wg, self.lanes, self.rows, self.steps]
    }

    /// What comes closest to the memory's speed where products do not wait for each other: a few to try.
    pub fn throughput(tokens: u32) -> [Matvec; 9] {
        [
            (128, 8, 4, 1),
            (128, 64, 2, 1),
            (128, 64, 4, 1),
            (256, 16, 4, 1),
            (256, 32, 4, 1),
            (256, 16, 1, 2),
            (256, 16, 8, 1),
            (128, 16, 8, 1),
            (256, 32, 8, 1),
        ]
        .map(|(wg, lanes, rows, steps)| Matvec { wg, lanes, rows, steps, tokens })
    }

    /// Every kernel that [`Matvec::pick`] gives for `ty`, for validation without a GPU.
    pub(super) fn all(ty: WeightType) -> Vec<(Variant, Matvec)> {
        let mut all = Vec::new();
        let kinds = [DeviceKind::Discrete, DeviceKind::Cpu];
        for (kind, variant) in kinds.into_iter().flat_map(|k| [(k, Variant::Matvec), (k, Variant::MatvecDot)])
        {
            for tokens in 1..=MATVEC_TOKENS {
                for (rows, cols) in [(1024, 16), (1024, 1024), (1024, 4096), (1024, 14_336), (65_536, 4096)] {
                    let one = (variant, Matvec::pick(kind, variant, ty, rows, cols, tokens));
                    let can = variant == Variant::Matvec || ty.layout().has_ints();
                    if can && !all.contains(&one) {
                        all.push(one);
                    }
                }
            }
        }
        all
    }

    /// The pipeline's name.
    pub(crate) fn name(self, variant: Variant, ty: WeightType) -> String {
        format!("{}_{}", variant.name(), self.suffix(ty))
    }

    /// What tells kernels of one variant apart.
    pub(super) fn suffix(self, ty: WeightType) -> String {
        let Matvec { wg, lanes, rows, steps, tokens } = self;
        format!("{wg}_l{lanes}_r{rows}_s{steps}_t{tokens}_{ty}")
    }

    /// The shader of [`Variant::Matvec`] or [`Variant::MatvecDot`].
    pub(crate) fn shader(self, variant: Variant, ty: WeightType) -> Shader {
        let end =
            [include_str!("lanes.wgsl"), include_str!("matvec_store.wgsl"), include_str!("plain_input.wgsl")];
        let dot_end = [&[include_str!("matvec_dot.wgsl")][..], &end].concat();
        // x, or its integers and their scales.
        let (source, inputs) = match variant {
            Variant::MatvecDot => (self.dot_source(ty, None, false, 0, false, &dot_end), 2),
            _ => {
                let parts = [&with_dequant(ty, include_str!("matvec.wgsl"))[..], &end].concat();
                (compose(&[], &self.constants(0), &parts), 1)
            }
        };
        let bindings = [&WEIGHT[..], &[Access::Read], &vec![Access::ReadWrite; 1 + inputs]].concat();
        Shader { name: self.name(variant, ty), source, bindings }
    }

    /// What an invocation sums: a sum for each row and token, and `squares` more.
    pub(super) fn sums(self, squares: u32) -> u32 {
        self.rows * self.tokens + squares
    }

    pub(crate) fn constants(self, squares: u32) -> Vec<(&'static str, u32)> {
        vec![
            ("WG", self.wg),
            ("LANES", self.lanes),
            ("ROWS", self.rows),
            ("STEPS", self.steps),
            ("TOKENS", self.tokens),
            ("SUMS", self.sums(squares)),
        ]
    }

    /// The walk of the integer kernel with its entry point and what that ends with; `normed` if its input comes with
    /// sums of squares, with a `second` type if the rows behind the first type's are of that (see [`mixed_pair`]).
    /// Lanes are counted along subgroups of `subgroup` invocations, if that is not 0; `halved` if there are twice as many
    /// tokens, which two workgroups share.
    pub(crate) fn dot_source(
        self,
        ty: WeightType,
        second: Option<WeightType>,
        normed: bool,
        subgroup: u32,
        halved: bool,
        end: &[&str],
    ) -> String {
        let (book, book_constants) = ty.shared_book();
        // Without subgroups, squares are summed as rows are.
        let mut constants = self.constants(if normed && subgroup == 0 { self.tokens } else { 0 });
        constants.extend(book_constants);
        constants.extend([
            ("BLOCKS", u32::from(blocks(ty))),
            ("PARTS", ty.layout().parts()),
            ("PER_BLOCK", 16 / ty.layout().parts()),
            ("PAIRS_OF_PARTS", ty.layout().parts() / 2),
            ("NORMED", u32::from(normed)),
            ("SG", subgroup),
            ("SHUFFLED", u32::from(subgroup > 0)),
            ("MIXED", u32::from(second.is_some())),
            ("HALVED", u32::from(halved)),
        ]);
        // How the parts of a head become sums: with one scale for both of a pair or one for each, and with a
        // center, an offset, or neither.
        let [shared, center, offset] = match second {
            None => [ty.span() == 32, ty.has_center(), ty.has_offset()],
            // What every type has.
            Some(_) => [false, false, true],
        };
        let sums = [("SHARED", shared), ("CENTER", center), ("OFFSET", offset)];
        constants.extend(sums.map(|(name, has)| (name, u32::from(has))));
        let first = ty.layout().dequant;
        let walk = include_str!("matvec_walk.wgsl");
        let second = second.map_or(String::new(), |ty2| own(ty, ty2).concat() + &second_of(walk));
        let shared = [LOAD4, book, include_str!("dot16.wgsl"), walk, &second];
        let parts = [first, &shared, end].concat();
        compose(&[], &constants, &parts)
    }

    /// Compiles the kernel for a type, unless it is compiled already.
    ///
    /// # Errors
    /// A shader the device refuses.
    pub fn prepare(self, gpu: &Gpu, variant: Variant, ty: WeightType) -> Result<()> {
        gpu.pipeline(&self.name(variant, ty), || self.shader(variant, ty))?;
        Ok(())
    }

    /// Rows of a workgroup.
    pub fn rows_per_group(self) -> u32 {
        self.wg / self.lanes * self.rows
    }
}

/// Whether a type's blocks are of 256 weights. Lanes are a multiple of the heads of such a block, and so are
/// those of a row.
fn blocks(ty: WeightType) -> bool {
    ty.layout().block == 256
}

/// Whether one kernel can have rows of both types.
pub(super) fn mixed_pair(first: WeightType, second: WeightType) -> bool {
    let plain = |ty: WeightType| ty.layout().has_ints() && ty.layout().table.is_empty();
    let apart = own(first, second).iter().any(|f| f.contains("fn head_of"));
    apart && plain(first) && plain(second) && blocks(first) == blocks(second)
}

/// The fragments that the second type does not share with the first, under names of their own.
pub(super) fn own(first: WeightType, second: WeightType) -> Vec<String> {
    let shared = first.layout().dequant;
    second.layout().dequant.iter().filter(|f| !shared.contains(f)).map(|f| second_of(f)).collect()
}

/// A fragment as the second type of a pair has it, where it has names that the first type's has as well.
pub(super) fn second_of(text: &str) -> String {
    if text.contains("$NTH") { fragment(text, &[("NTH", "_2")]) } else { text.to_owned() }
}
