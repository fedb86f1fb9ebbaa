//! Metadata keys of an architecture, checked.

use std::cell::RefCell;
use std::collections::BTreeSet;

use weft_formats::gguf::{Array, File, Metadata, Value};
use weft_kernels::ops::rope::{Pairing, Rotation, Scaling};

use crate::spec::{Pooling, Spec};
use crate::{Error, Result};

/// Largest numbers that are believed: far above any model, far below overflow.
const MAX_VALUE: u64 = 1 << 24;

/// A file's metadata under the name of its architecture, with errors that name file and key.
pub(super) struct Keys<'a> {
    pub(super) file: &'a File,
    /// The name of the architecture, with which keys begin.
    pub(super) arch: &'a str,
    /// The names of those that were asked for.
    asked: RefCell<BTreeSet<String>>,
}

/// Keys that change nothing here, whatever they say: what other programs note, and how a scaling works that is read where
/// there is one.
const HARMLESS: &[&str] = &[
    "vocab_size",
    "tensor_data_layout",
    "token_type_count",
    "classifier.output_labels",
    "feed_forward_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "rope.scale_linear",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
];

/// What the keys of other parts of a model begin with, of which only the text is run.
const OTHER_PARTS: &[&str] = &["mm.", "vision.", "audio.", "clip."];

impl<'a> Keys<'a> {
    pub(super) fn new(file: &'a File, arch: &'a str) -> Keys<'a> {
        Keys { file, arch, asked: RefCell::default() }
    }

    /// Refuses a key of the architecture that nobody asked for, unless it says what is done anyway.
    ///
    /// # Errors
    /// The first such key.
    pub(super) fn check_unread(&self, spec: &Spec) -> Result<()> {
        let prefix = self.key("");
        let meta = self.meta();
        for (key, given) in meta.iter() {
            let Some(name) = key.strip_prefix(&prefix) else { continue };
            if self.asked.borrow().contains(name) || self.is_harmless(key, name, spec) {
                continue;
            }
            let number = || meta.f32(key).map(|x| x.to_string()).or(meta.u64(key).map(|n| n.to_string()));
            let text = || meta.str(key).map(|text| format!("{text:?}"));
            let value = meta.bool(key).map(|on| on.to_string()).or_else(number).or_else(text);
            let value = value.unwrap_or_else(|| format!("of the type {}", given.kind()));
            let why = "asks for what this architecture does not do here (if it means nothing, remove the key: \
                       gguf_new_metadata.py --remove-metadata)";
            return Err(self.bad(key.to_owned(), value, why));
        }
        Ok(())
    }

    /// Whether a key that nobody asked for says nothing, or what is done anyway.
    fn is_harmless(&self, key: &str, name: &str, spec: &Spec) -> bool {
        if HARMLESS.contains(&name) || OTHER_PARTS.iter().any(|part| name.starts_with(part)) {
            return true;
        }
        if let Some(on) = self.meta().bool(key) {
            return on == (name == "attention.causal");
        }
        let Some(number) = self.meta().f32(key).or(self.meta().u64(key).map(|n| n as f32)) else {
            return false;
        };
        let is = |wanted: f32| (number - wanted).abs() <= 1e-4 * wanted.abs();
        // None of it would be YaRN without its blend.
        (number == 0.0 && name != "rope.scaling.yarn_ext_factor")
            || match name {
                "attention.scale" => is(spec.blocks[0].attention.scale),
                "attention.sliding_window" => number >= spec.context as f32,
                "attention.key_length_swa" | "attention.value_length_swa" => is(spec.head_dim() as f32),
                "rope.dimension_count_swa" => spec.ropes.iter().all(|r| is(2.0 * r.pairs() as f32)),
                _ => (name.ends_with("scale") || name.ends_with("factor")) && is(1.0),
            }
    }

    /// The file's path.
    pub(super) fn path(&self) -> String {
        self.file.path().display().to_string()
    }

    fn meta(&self) -> &'a Metadata {
        self.file.metadata()
    }

    /// The full name of a key.
    pub(super) fn key(&self, name: &str) -> String {
        self.asked.borrow_mut().insert(name.to_owned());
        format!("{}.{name}", self.arch)
    }

    /// An error about a key: its value, and why that will not do.
    pub(super) fn bad(&self, key: String, value: impl ToString, why: &str) -> Error {
        Error::BadKey { file: self.path(), key, value: value.to_string(), why: why.into() }
    }

    /// A count from 1 to `MAX_VALUE`; arrays must repeat one value (per-layer sizes are another graph).
    pub(super) fn count(&self, name: &str) -> Result<Option<u32>> {
        let key = self.key(name);
        let value = match self.meta().get(&key) {
            None => return Ok(None),
            Some(Value::Array(a)) => {
                let all: Vec<u64> = match a {
                    Array::U32(v) => v.iter().map(|&x| x.into()).collect(),
                    Array::I32(v) => v.iter().map(|&x| x.max(0) as u64).collect(),
                    Array::U64(v) => v.clone(),
                    _ => Vec::new(),
                };
                match all.first() {
                    Some(&first) if all.iter().all(|&x| x == first) => Some(first),
                    _ => return Err(self.bad(key, "an array", "differs from layer to layer")),
                }
            }
            Some(_) => self.meta().u64(&key),
        };
        match value {
            Some(v @ 1..=MAX_VALUE) => Ok(Some(v as u32)),
            Some(v) => Err(self.bad(key, v, "is out of range")),
            None => Err(self.bad(key, "of another type", "is not a count")),
        }
    }

    /// As [`Keys::count`], of a key that must be there.
    pub(super) fn required(&self, name: &str) -> Result<u32> {
        self.count(name)?.ok_or_else(|| Error::MissingKey { file: self.path(), key: self.key(name) })
    }

    /// A finite number.
    pub(super) fn float(&self, name: &str) -> Result<Option<f32>> {
        let key = self.key(name);
        match self.meta().get(&key) {
            None => Ok(None),
            Some(_) => match self.meta().f32(&key) {
                Some(v) if v.is_finite() => Ok(Some(v)),
                _ => Err(self.bad(key, "of another type", "is not a finite number")),
            },
        }
    }

    /// How sequences become vectors, if they do: the file's pooling type, and the classes of a reranker, whose
    /// classifier reads the token that `rank` names.
    pub(super) fn pooling(&self, rank: Pooling) -> Result<(Option<Pooling>, Option<u32>)> {
        let key = self.key("pooling_type");
        let classes = || match self.file.tensor("cls.output.weight").and_then(|t| t.shape.get(1)) {
            Some(&n) => n as u32,
            // Rows of the token table: see `weights`.
            None => {
                if rank == Pooling::Last {
                    2
                } else {
                    1
                }
            }
        };
        match self.meta().get(&key).map(|_| self.meta().u64(&key)) {
            None | Some(Some(0)) => Ok((None, None)),
            Some(Some(1)) => Ok((Some(Pooling::Mean), None)),
            Some(Some(2)) => Ok((Some(Pooling::Cls), None)),
            Some(Some(3)) => Ok((Some(Pooling::Last), None)),
            Some(Some(4)) => Ok((Some(rank), Some(classes()))),
            Some(other) => {
                let value = other.map_or("of another type".into(), |n| n.to_string());
                Err(self.bad(key, value, "is not 0 (none), 1 (mean), 2 (cls), 3 (last) or 4 (rank)"))
            }
        }
    }

    /// How many layers there are.
    pub(super) fn layers(&self) -> Result<usize> {
        let layers = self.required("block_count")? as usize;
        // Each has tensors: a larger number is no model's, and would take memory.
        match layers > self.file.tensors().len().max(1024) {
            true => Err(self.bad(self.key("block_count"), layers, "is more than the file has tensors")),
            false => Ok(layers),
        }
    }

    /// Rows of the token table, whose columns must be `width`.
    pub(super) fn vocabulary(&self, width: u32) -> Result<u32> {
        let name = "token_embd.weight".to_owned();
        let Some(table) = self.file.tensor(&name) else {
            return Err(Error::MissingTensor { file: self.path(), name });
        };
        match table.shape.as_slice() {
            [_, rows @ 1..=MAX_VALUE] => Ok(*rows as u32),
            found => Err(Error::TensorShape {
                file: self.path(),
                name,
                found: found.to_vec(),
                expected: vec![width.into(), 0],
            }),
        }
    }
}

/// The rotary embedding with whatever scaling the file asks for.
///
/// # Errors
/// A key or a tensor of frequencies that makes no rotation.
pub(super) fn rotation(k: &Keys<'_>, head_dim: u32, context: u32, pairing: Pairing) -> Result<Rotation> {
    let dims = k.count("rope.dimension_count")?.unwrap_or(head_dim);
    if dims > head_dim || dims % 2 != 0 {
        return Err(k.bad(k.key("rope.dimension_count"), dims, "is odd or more than a head has"));
    }
    let base = f64::from(k.float("rope.freq_base")?.unwrap_or(10_000.0));
    if base <= 1.0 {
        return Err(k.bad(k.key("rope.freq_base"), base, "makes no rotation"));
    }
    let (name, factor) = match k.float("rope.scaling.factor")? {
        Some(f) => ("rope.scaling.factor", f),
        None => ("rope.scale_linear", k.float("rope.scale_linear")?.unwrap_or(1.0)),
    };
    if factor < 0.0 {
        return Err(k.bad(k.key(name), factor, "makes no rotation"));
    }
    let factor = f64::from(factor);
    let kind = match k.file.metadata().get(&k.key("rope.scaling.type")) {
        None => "linear",
        Some(Value::Str(kind)) => kind,
        Some(other) => {
            return Err(k.bad(
                k.key("rope.scaling.type"),
                format!("of the type {}", other.kind()),
                "is no name",
            ));
        }
    };
    let scaling = match kind {
        // A factor of 1 leaves nothing of those that are known; what others do is not known.
        "none" | "linear" | "yarn" if factor == 1.0 || factor == 0.0 => Scaling::None,
        "none" => Scaling::None,
        "linear" => Scaling::Linear { factor },
        "yarn" => Scaling::Yarn {
            factor,
            original_context: k.count("rope.scaling.original_context_length")?.unwrap_or(context).into(),
            beta_fast: k.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0).into(),
            beta_slow: k.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0).into(),
            attention: (1.0 + 0.1 * factor.ln())
                * f64::from(k.float("rope.scaling.attn_factor")?.unwrap_or(1.0)),
        },
        other => return Err(k.bad(k.key("rope.scaling.type"), other, "is not none, linear or yarn")),
    };
    let mut factors = None;
    if let Some(t) = k.file.tensor("rope_freqs.weight") {
        let expected = vec![u64::from(dims / 2)];
        if t.shape != expected || t.ty != weft_formats::quant::Type::F32 {
            return Err(Error::TensorShape {
                file: k.path(),
                name: t.name.clone(),
                found: t.shape.clone(),
                expected,
            });
        }
        factors = Some(bytemuck::pod_collect_to_vec::<u8, f32>(&k.file.read_all(t)?));
    }
    Ok(Rotation::new(dims, base, factors.as_deref(), scaling, pairing))
}
