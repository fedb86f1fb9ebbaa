//! Memory for weights, and what is to be written there.

use std::collections::BTreeMap;

use weft_formats::gguf::{File, TensorInfo};
use weft_kernels::Weight;
use weft_kernels::ops::rope::Pairing;
use weft_runtime::{Gpu, Pool, Slice};

use super::layout::{Layout, Stack, shaped};
use super::ring::{Parts, Ring, parts};
use super::stream::Slots;
use super::{Classifier, Layer, Part, Weights, names};
use crate::sites::{Group, NormSite};
use crate::spec::{Norm, QkNorm, Spec};
use crate::synthetic::Patterns;
use crate::{Error, Result};

/// A matrix and what makes it up.
pub(crate) type Matrix = (Weight, Parts);

/// Takes memory for all weights, writes the vectors, and says which matrices are still to be written, and with a ring
/// which come when they are needed.
///
/// # Errors
/// A vector that is missing, or of another shape or type; memory.
pub(crate) fn upload(
    file: &File,
    spec: &Spec,
    layout: &Layout,
    gpu: &Gpu,
    (patterns, ring): (Option<Patterns>, Option<Ring>),
) -> Result<(Weights, Vec<Matrix>, Option<Slots>)> {
    // Blocks of their own, so that a copy into one does not wait for what reads others.
    let mut slots = ring.map(|ring| Slots::new(gpu, ring)).transpose()?;
    gpu.reserve(Pool::Weights, layout.resident(gpu.budget(), slots.is_some()));
    let mut u = Upload { file, gpu, patterns, matrices: Vec::new() };
    let embedding = u.part(&layout.embedding)?;
    let mut layers = Vec::with_capacity(layout.layers.len());
    let mut norms = BTreeMap::new();
    let sites = spec.norm_sites();
    for (i, (block, stacks)) in (0..).zip(spec.blocks.iter().zip(&layout.layers)) {
        let mine =
            [NormSite::Attention(i), NormSite::AfterAttention(i), NormSite::Ffn(i), NormSite::AfterFfn(i)];
        for site in mine.into_iter().filter(|s| sites.contains(s)) {
            norms.insert(site, u.norm(spec, site)?);
        }
        let mut groups: [Vec<Part>; 4] = Default::default();
        match &mut slots {
            None => {
                for (parts, stacks) in groups.iter_mut().zip(stacks) {
                    *parts = stacks.iter().map(|s| u.part(s)).collect::<Result<_>>()?;
                }
            }
            Some(slots) => {
                for ((parts, stacks), weights) in groups.iter_mut().zip(stacks).zip(slots.layer(stacks)) {
                    let part = |(weight, s): (Weight, &Stack)| Ok(Part { weight, bias: u.bias(s)? });
                    *parts = weights.into_iter().zip(stacks).map(part).collect::<Result<_>>()?;
                }
            }
        }
        let a = &block.attention;
        let sizes = match a.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some([a.head_dim; 2]),
            QkNorm::Width => Some([a.q_width(), a.kv_width()]),
        };
        let qk_norm = sizes.map(|sizes| {
            let mut both = Vec::new();
            for (name, len) in names::qk_norm(i).iter().zip(sizes) {
                both.extend(u.floats(name, len)?);
            }
            Ok::<_, Error>(both)
        });
        let qk_norm = qk_norm.transpose()?;
        let even = qk_norm.as_ref().filter(|_| a.qk_norm == QkNorm::Head);
        let even = even.map(|both| u.vector(&evened(both, spec.turned(block)), "QK-norm, evened"));
        let qk_norm = qk_norm.map(|both| u.vector(&both, "QK-norm"));
        let router = layout.routers[i as usize].as_ref().map(|s| u.part(s)).transpose()?;
        let key_bias = spec.bias_comes_apart(block).then(|| {
            let qkv = stacks[Group::Qkv as usize].iter().flat_map(|s| &s.tensors);
            let mut all = Vec::new();
            for (name, rows) in qkv {
                all.extend(u.floats(&format!("{name}.bias"), *rows)?);
            }
            u.vector(&all[a.q_width() as usize..][..a.kv_width() as usize], "bias of keys")
        });
        let (qk_norm, qk_norm_even) = (qk_norm.transpose()?, even.transpose()?);
        layers.push(Layer { groups, qk_norm, qk_norm_even, key_bias: key_bias.transpose()?, router });
    }
    for site in [NormSite::Embedding, NormSite::Output].into_iter().filter(|s| sites.contains(s)) {
        norms.insert(site, u.norm(spec, site)?);
    }
    let head = layout.head.as_ref().map(|s| u.part(s)).transpose()?;
    let [positions, types] = layout.tables.each_ref().map(|t| t.as_ref().map(|s| u.part(s)).transpose());
    let classifier = spec.out.classes.map(|n| u.classifier(spec, n)).transpose()?;
    let weights = Weights { embedding, layers, norms, head, tables: [positions?, types?], classifier };
    Ok((weights, u.matrices, slots))
}

/// QK-norm's weights of queries and of keys, with queries multiplied and keys divided by what makes them of one size.
/// Scores stay the same, since RoPE turns both values of a pair, which share a factor; but a head of keys is rounded as
/// its largest channels ask, and what rounding costs is weighed by the queries. By the inequality of Cauchy and Schwarz
/// the square root of the quotient makes the product of both least.
fn evened(both: &[f32], (pairs, pairing): (usize, Pairing)) -> Vec<f32> {
    let mut out = both.to_vec();
    let (q, k) = out.split_at_mut(both.len() / 2);
    for i in 0..q.len() {
        // The other value of the pair, each pair once.
        let other = match pairing {
            _ if i >= 2 * pairs => i,
            Pairing::HalfSplit if i < pairs => i + pairs,
            Pairing::Adjacent if i % 2 == 0 => i + 1,
            _ => continue,
        };
        let size = |x: &[f32]| x[i].hypot(x[other]);
        let by = (size(k) / size(q)).sqrt();
        if by.is_finite() && (1e-3..1e3).contains(&by) {
            for d in if other == i { vec![i] } else { vec![i, other] } {
                q[d] *= by;
                k[d] /= by;
            }
        }
    }
    out
}

struct Upload<'a> {
    file: &'a File,
    gpu: &'a Gpu,
    /// Where weights come from in place of a file that is an outline.
    patterns: Option<Patterns>,
    /// What is to be uploaded, when there is memory for all of it.
    matrices: Vec<Matrix>,
}

impl Upload<'_> {
    fn part(&mut self, s: &Stack) -> Result<Part> {
        let (label, bias) = (&s.tensors[0].0, self.bias(s)?);
        if let Some(patterns) = &mut self.patterns {
            return Ok(Part { weight: patterns.weight(self.gpu, s.shape.clone(), label)?, bias });
        }
        let weight = Weight::alloc(self.gpu, s.shape.clone(), label)?;
        self.matrices.push((weight.clone(), parts(self.file, s)?));
        Ok(Part { weight, bias })
    }

    /// The biases of a matrix, if it has some.
    fn bias(&self, s: &Stack) -> Result<Option<Slice>> {
        let mut bias = Vec::new();
        for (name, rows) in s.tensors.iter().filter(|_| s.bias) {
            bias.extend(self.floats(&format!("{name}.bias"), *rows)?);
        }
        s.bias.then(|| self.vector(&bias, "bias")).transpose()
    }

    fn norm(&self, spec: &Spec, site: NormSite) -> Result<Slice> {
        let name = names::norm(spec, site);
        let mut values = self.floats(&format!("{name}.weight"), spec.width)?;
        if matches!(spec.norm(site), Some(Norm::Layer { .. })) {
            values.extend(self.floats(&format!("{name}.bias"), spec.width)?);
        }
        self.vector(&values, &name)
    }

    /// The classifier of a reranker. A decoder without a tensor for it judges by two rows of its output head.
    fn classifier(&self, spec: &Spec, classes: u32) -> Result<Classifier> {
        let [dense, last] = names::CLASSIFIER.map(|n| [format!("{n}.weight"), format!("{n}.bias")]);
        let there = |name: &String| self.file.tensor(name).is_some();
        let zeros = |n: u32| vec![0.0; n as usize];
        let bias = |name: &String, n| if there(name) { self.floats(name, n) } else { Ok(zeros(n)) };
        let width = spec.width;
        let dense = match there(&dense[0]) {
            true => Some([self.matrix(&dense[0], [width, width])?, bias(&dense[1], width)?]),
            false => None,
        };
        let output = match there(&last[0]) || spec.is_encoder() {
            true => self.matrix(&last[0], [width, classes])?,
            false => self.yes_and_no(spec)?,
        };
        Ok(Classifier { dense, output, bias: bias(&last[1], classes)? })
    }

    /// The rows of the output head that speak for "yes" and for "no", one after the other.
    fn yes_and_no(&self, spec: &Spec) -> Result<Vec<f32>> {
        let key = "tokenizer.ggml.tokens";
        let missing = || Error::MissingKey { file: self.file.path().display().to_string(), key: key.into() };
        let tokens = self.file.metadata().strs(key).ok_or_else(missing)?;
        let name = if spec.out.tied { "token_embd.weight" } else { "output.weight" };
        let t = shaped(self.file, name, &[spec.width.into(), spec.vocabulary.into()])?;
        let row = (t.size / u64::from(spec.vocabulary)) as usize;
        let mut out = Vec::new();
        for word in ["yes", "no"] {
            let id = tokens.iter().position(|t| t == word).ok_or_else(missing)?;
            let bytes = self.file.read(t, id * row..(id + 1) * row)?;
            out.extend(self.dequantized(t, &bytes, spec.width as usize)?);
        }
        Ok(out)
    }

    /// A matrix of `[columns, rows]` as f32.
    fn matrix(&self, name: &str, [cols, rows]: [u32; 2]) -> Result<Vec<f32>> {
        let t = shaped(self.file, name, &[cols.into(), rows.into()])?;
        self.dequantized(t, &self.file.read_all(t)?, (cols * rows) as usize)
    }

    fn dequantized(&self, t: &TensorInfo, bytes: &[u8], len: usize) -> Result<Vec<f32>> {
        let mut out = vec![0.0; len];
        weft_formats::quant::dequantize(t.ty, bytes, &mut out).map_err(|_| Error::TensorType {
            file: self.file.path().display().to_string(),
            name: t.name.clone(),
            ty: t.ty.name().into(),
            supported: "F32, F16, BF16 for vectors, any block type for a classifier".into(),
        })?;
        Ok(out)
    }

    /// A vector of a float type, as f32.
    fn floats(&self, name: &str, len: u32) -> Result<Vec<f32>> {
        let t = shaped(self.file, name, &[len.into()])?;
        if self.patterns.is_some() {
            // Norms; no synthetic shape has biases.
            return Ok(vec![1.0; len as usize]);
        }
        self.dequantized(t, &self.file.read_all(t)?, len as usize)
    }

    fn vector(&self, values: &[f32], label: &str) -> Result<Slice> {
        Ok(self.gpu.alloc_init(Pool::Weights, bytemuck::cast_slice(values), label)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pairing, evened};

    #[test]
    fn evened_norms_leave_products_and_pairs() {
        let q = [1.0, 2.0, 0.5, 4.0, 3.0, 7.0];
        let k = [9.0, 1.0, 2.0, 0.25, 48.0, 0.0];
        let both = [q, k].concat();
        for (pairing, pairs) in
            [(Pairing::HalfSplit, [(0, 2), (1, 3)]), (Pairing::Adjacent, [(0, 1), (2, 3)])]
        {
            let out = evened(&both, (2, pairing));
            for d in 0..6 {
                assert!((out[d] * out[6 + d] - q[d] * k[d]).abs() < 1e-5);
            }
            for (a, b) in pairs {
                let size = |x: &[f32]| x[a].hypot(x[b]);
                assert!((out[a] / q[a] - out[b] / q[b]).abs() < 1e-5, "a pair has one factor");
                assert!((size(&out[..6]) - size(&out[6..])).abs() < 1e-5, "of one size");
            }
            // Not turned, each alone; and what is zero stays as it is.
            assert!((out[4] - out[10]).abs() < 1e-5 && (out[5], out[11]) == (7.0, 0.0));
        }
    }
}
