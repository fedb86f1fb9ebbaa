//! How a file's tensors become matrices, before any memory is taken: a pure function of file, spec and budget.

use weft_formats::gguf::{File, TensorInfo};
use weft_kernels::ops::attention::CacheType;
use weft_kernels::{Budget, WeightShape, WeightType};

use super::names::{self, Rows};
use crate::sites::{Group, Site};
use crate::spec::{Norm, QkNorm, Spec};
use crate::{Error, Result};

/// A matrix that is made of tensors of one type and width, their rows one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    /// Names without their ending, and rows.
    pub(crate) tensors: Vec<(String, u32)>,
    pub(crate) shape: WeightShape,
    /// Whether each tensor has a bias.
    pub(crate) bias: bool,
    /// How many experts each tensor has matrices of, if any. Those of one expert lie one after the other.
    pub(crate) experts: Option<u32>,
}

/// All matrices of a model.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) embedding: Stack,
    /// For each layer and each of its [`Group`]s.
    pub(crate) layers: Vec<[Vec<Stack>; 4]>,
    /// For each layer what its experts are chosen by, if it has some.
    pub(crate) routers: Vec<Option<Stack>>,
    /// `None`: the embedding.
    pub(crate) head: Option<Stack>,
    /// The tables of learnt positions, and of token types.
    pub(crate) tables: [Option<Stack>; 2],
    /// Bytes of vectors.
    vectors: u64,
}

impl Layout {
    /// Lays out the tensors of `file`.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, a type that is not read, a matrix that no split fits into the
    /// budget.
    pub(crate) fn of(file: &File, spec: &Spec, budget: &Budget) -> Result<Layout> {
        let table = |name: &str, rows| {
            let tensors = vec![(name.into(), rows)];
            let rows = Rows { tensors, cols: spec.width, bias: false, experts: None };
            Ok::<_, Error>(stacks(file, &rows, budget)?.remove(0))
        };
        let embedding = table("token_embd", spec.vocabulary)?;
        let tables = [(names::POSITIONS, spec.embed.positions), (names::TYPES, spec.embed.types)];
        let [positions, types] = tables.map(|(name, rows)| rows.map(|n| table(name, n)).transpose());
        let layer = |l: u32| {
            let mut groups: [Vec<Stack>; 4] = Default::default();
            for g in Group::ALL {
                let rows = names::group(spec, file, l, g);
                groups[g as usize] = match rows.experts {
                    Some(count) => vec![experts(file, &rows, count, budget)?],
                    None => stacks(file, &rows, budget)?,
                };
            }
            Ok(groups)
        };
        let layers = (0..spec.layers()).map(layer).collect::<Result<Vec<_>>>()?;
        let router = |l: u32| {
            let rows = names::router(spec, l);
            rows.map(|r| Ok(stacks(file, &r, budget)?.remove(0))).transpose()
        };
        let routers = (0..spec.layers()).map(router).collect::<Result<Vec<_>>>()?;
        let head = if spec.out.tied { None } else { Some(table("output", spec.vocabulary)?) };
        let aligned = |floats: u32| (u64::from(floats) * 4).next_multiple_of(budget.align);
        let norms = spec.norm_sites().into_iter().map(|s| match spec.norm(s) {
            Some(Norm::Layer { .. }) => aligned(2 * spec.width),
            _ => aligned(spec.width),
        });
        let heads = spec.blocks.iter().map(|b| match b.attention.qk_norm {
            QkNorm::None => 0,
            QkNorm::Head => 2 * aligned(2 * b.attention.head_dim),
            QkNorm::Width => aligned(b.attention.q_width() + b.attention.kv_width()),
        });
        let biases = layers.iter().flatten().flatten().filter(|s| s.bias).map(|s| aligned(s.shape.rows));
        let keys =
            spec.blocks.iter().filter(|b| spec.bias_comes_apart(b)).map(|b| aligned(b.attention.kv_width()));
        let vectors = norms.chain(heads).chain(biases).chain(keys).sum();
        Ok(Layout { embedding, layers, routers, head, tables: [positions?, types?], vectors })
    }

    /// The matrices of a site.
    fn stacks(&self, site: Site) -> &[Stack] {
        match site {
            Site::Layer(layer, group) => &self.layers[layer as usize][group as usize],
            Site::Router(layer) => self.routers[layer as usize].as_slice(),
            Site::Head => std::slice::from_ref(self.head.as_ref().unwrap_or(&self.embedding)),
        }
    }

    /// The names of the tensors of a site, without their ending.
    pub(crate) fn tensors(&self, site: Site) -> impl Iterator<Item = &str> {
        self.stacks(site).iter().flat_map(|s| &s.tensors).map(|(name, _)| &name[..])
    }

    /// The shapes of the matrices of a site.
    pub(crate) fn shapes(&self, site: Site) -> impl Iterator<Item = &WeightShape> {
        self.stacks(site).iter().map(|s| &s.shape)
    }

    /// Outputs of a site, side by side.
    pub(crate) fn outputs(&self, site: Site) -> u32 {
        self.shapes(site).map(|s| s.rows).sum()
    }

    /// Whether some matrix of a site has a bias.
    pub(crate) fn biased(&self, site: Site) -> bool {
        self.stacks(site).iter().any(|s| s.bias)
    }

    /// Bytes on a device.
    pub(crate) fn bytes(&self, budget: &Budget) -> u64 {
        self.resident(budget, false)
    }

    /// Bytes of what stays on a device; where layers are `streamed`, their matrices come and go.
    pub(crate) fn resident(&self, budget: &Budget, streamed: bool) -> u64 {
        let layers = self.layers.iter().flatten().flatten().filter(|_| !streamed);
        let tables = self.routers.iter().chain(&self.tables).flatten();
        let all = layers.chain([&self.embedding]).chain(&self.head).chain(tables);
        all.map(|s| s.shape.bytes(budget)).sum::<u64>() + self.vectors
    }
}

/// Tensors stacked as far as neighbours share a type.
fn stacks(file: &File, all: &Rows, budget: &Budget) -> Result<Vec<Stack>> {
    let tensor = |(name, rows): &(String, u32)| {
        shaped(file, &format!("{name}.weight"), &[all.cols.into(), (*rows).into()])
    };
    let mut out = Vec::new();
    let mut rest = &all.tensors[..];
    while let Some(first) = rest.first() {
        let ty = tensor(first)?.ty;
        let mut same = 0;
        while let Some(next) = rest.get(same) {
            // A stack's parts end at multiples of 4 rows, see Weight::upload.
            let whole = next.1.is_multiple_of(4);
            if tensor(next)?.ty != ty || (same > 0 && !whole) {
                break;
            }
            same += 1;
            if !whole {
                break;
            }
        }
        let (stack, others) = rest.split_at(same);
        rest = others;
        let ty = weight_type(file, tensor(first)?)?;
        let rows = stack.iter().map(|s| s.1).sum();
        let shape = WeightShape::new(ty, rows, all.cols, budget)?;
        out.push(Stack { tensors: stack.to_vec(), shape, bias: all.bias, experts: None });
    }
    Ok(out)
}

/// The matrices of a layer's experts, those of one expert stacked.
///
/// # Errors
/// A tensor that is missing or of another shape; types that differ from each other.
fn experts(file: &File, all: &Rows, count: u32, budget: &Budget) -> Result<Stack> {
    let mut ty = None;
    for (name, rows) in &all.tensors {
        let name = format!("{name}.weight");
        let t = shaped(file, &name, &[all.cols.into(), (*rows).into(), count.into()])?;
        let first: WeightType = *ty.get_or_insert(weight_type(file, t)?);
        // What is stacked must end at multiples of 4 rows, see Weight::pieces.
        if weight_type(file, t)? != first || (all.tensors.len() > 1 && !rows.is_multiple_of(4)) {
            let expected = match first == weight_type(file, t)? {
                true => "a type of any kind with a multiple of 4 rows".into(),
                false => format!("{first}, as the other tensor of the experts' gate and up"),
            };
            return Err(Error::TensorType {
                file: file.path().display().to_string(),
                name,
                ty: t.ty.name().into(),
                supported: expected,
            });
        }
    }
    let rows = all.tensors.iter().map(|t| t.1).sum();
    let ty = ty.expect("experts have tensors");
    let shape = WeightShape::experts(ty, [count, rows, all.cols], budget)?;
    Ok(Stack { tensors: all.tensors.clone(), shape, bias: false, experts: Some(count) })
}

/// A tensor of this shape, columns first as in the file.
///
/// # Errors
/// It is missing, or of another shape.
pub(super) fn shaped<'f>(file: &'f File, name: &str, expected: &[u64]) -> Result<&'f TensorInfo> {
    let path = || file.path().display().to_string();
    let t = file.tensor(name).ok_or_else(|| Error::MissingTensor { file: path(), name: name.into() })?;
    // A table of one row may be a vector.
    let whole = |shape: &[u64]| shape.iter().rposition(|&n| n != 1).map_or(0, |last| last + 1);
    if t.shape[..whole(&t.shape)] != expected[..whole(expected)] {
        return Err(Error::TensorShape {
            file: path(),
            name: name.into(),
            found: t.shape.clone(),
            expected: expected.to_vec(),
        });
    }
    Ok(t)
}

/// The weight type of a tensor, or an error that lists what is read.
pub(crate) fn weight_type(file: &File, t: &TensorInfo) -> Result<WeightType> {
    WeightType::parse(t.ty.name()).ok_or_else(|| Error::TensorType {
        file: file.path().display().to_string(),
        name: t.name.clone(),
        ty: t.ty.name().into(),
        supported: WeightType::ALL.iter().map(|t| t.name()).collect::<Vec<_>>().join(", "),
    })
}

/// How the KV cache of `file` is stored: f16, but f32 where every matrix is f32, whose owner asked for precision
/// rather than speed.
pub(crate) fn cache_type(file: &File) -> CacheType {
    let precise = |t: &TensorInfo| t.shape.len() < 2 || t.ty == weft_formats::quant::Type::F32;
    if file.tensors().iter().all(precise) { CacheType::F32 } else { CacheType::F16 }
}
