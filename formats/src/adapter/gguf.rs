//! GGUF: `general.type` = "adapter", `adapter.type` = "lora", `adapter.lora.alpha`, and for each matrix
//! `NAME.lora_a` `[cols, rank]` and `NAME.lora_b` `[rank, rows]` (columns first), as llama.cpp's
//! convert_lora_to_gguf.py writes them.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Adapter, Base, Error, Pair};
use crate::gguf::{File, Metadata, TensorInfo, Value, Writer};
use crate::hf::clip;
use crate::quant::{Type, dequantize};

pub(super) fn read(path: &Path, base: &Base) -> Result<Adapter, Error> {
    let file = File::open(path)?;
    let name = path.display().to_string();
    let metadata = file.metadata();
    let is = |key: &'static str, expected: &'static str| match metadata.str(key) {
        Some(found) if found == expected => Ok(()),
        found => Err(Error::Key {
            file: name.clone(),
            key,
            found: found.map_or("absent".to_owned(), |f| format!("{f:?}")),
            expected,
        }),
    };
    is("general.type", "adapter")?;
    is("adapter.type", "lora")?;
    // llama.cpp's converter writes two more that describe; any other may say that this is no plain LoRA.
    const KNOWN: [&str; 4] =
        ["adapter.type", "adapter.lora.alpha", "adapter.lora.task_name", "adapter.lora.prompt_prefix"];
    let unknown = |key: &str| (key.starts_with("adapter.") || key.contains("alora")) && !KNOWN.contains(&key);
    if let Some((key, _)) = metadata.iter().find(|(key, _)| unknown(key)) {
        return Err(Error::Unsupported { file: name, what: format!("the key {}", clip(key)) });
    }
    let found = metadata.str("general.architecture").unwrap_or("");
    if found != base.architecture {
        let (found, expected) = (found.to_owned(), base.architecture.clone());
        return Err(Error::Architecture { file: name, found, expected });
    }
    let alpha = metadata.f32("adapter.lora.alpha");
    let found = alpha.map_or("absent".to_owned(), |a| a.to_string());
    let alpha = alpha.filter(|a| a.is_finite()).ok_or_else(|| Error::Key {
        file: name.clone(),
        key: "adapter.lora.alpha",
        found,
        expected: "a finite number",
    })?;
    let mut halves: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
    for t in file.tensors() {
        let (matrix, half) = match (t.name.strip_suffix(".lora_a"), t.name.strip_suffix(".lora_b")) {
            (Some(m), _) => (m, 0),
            (_, Some(m)) => (m, 1),
            _ => {
                let why = "is neither a .lora_a nor a .lora_b".to_owned();
                return Err(Error::Tensor { file: name, name: t.name.clone(), why });
            }
        };
        if matrix == "token_embd.weight" {
            let why = "adapts the embedding, which is not supported".to_owned();
            return Err(Error::Tensor { file: name, name: t.name.clone(), why });
        }
        if t.shape.len() != 2 {
            let why = format!("has the shape {:?}, not that of a matrix", t.shape);
            return Err(Error::Tensor { file: name, name: t.name.clone(), why });
        }
        halves.entry(matrix).or_default()[half] = Some(t);
    }
    let mut pairs = Vec::new();
    for (matrix, halves) in halves {
        let [Some(a), Some(b)] = halves else {
            let missing = if halves[0].is_none() { "lora_a" } else { "lora_b" };
            let why = "is missing".to_owned();
            return Err(Error::Tensor { file: name, name: format!("{matrix}.{missing}"), why });
        };
        if a.shape[1] != b.shape[0] {
            let why = format!("has the rank {}, its .lora_a {}", b.shape[0], a.shape[1]);
            return Err(Error::Tensor { file: name, name: b.name.clone(), why });
        }
        let values = |t: &TensorInfo| {
            let mut out = vec![0.0; t.elements() as usize];
            dequantize(t.ty, file.bytes(t), &mut out).map_err(|e| Error::Tensor {
                file: name.clone(),
                name: t.name.clone(),
                why: format!("cannot be read: {e}"),
            })?;
            Ok::<_, Error>(out)
        };
        pairs.push(Pair {
            tensor: matrix.to_owned(),
            rank: a.shape[1] as usize,
            rows: b.shape[1] as usize,
            cols: a.shape[0] as usize,
            a: values(a)?,
            b: values(b)?,
        });
    }
    Ok(Adapter { alpha, rslora: false, pairs })
}

pub(super) fn write(adapter: &Adapter, path: &Path, base: &Base, name: &str) -> Result<(), Error> {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::Str(base.architecture.clone()));
    metadata.set("general.type", Value::Str("adapter".to_owned()));
    metadata.set("general.name", Value::Str(name.to_owned()));
    metadata.set("adapter.type", Value::Str("lora".to_owned()));
    // The format knows alpha / rank alone; a rank-stabilised scale is an alpha larger by the root of the rank.
    let root = adapter.pairs.first().map_or(1.0, |p| (p.rank as f32).sqrt());
    let mixed = adapter.pairs.iter().find(|p| p.rank != adapter.pairs[0].rank);
    if let (true, Some(p)) = (adapter.rslora, mixed) {
        let why = "has another rank than others, which GGUF cannot say together with a scale by its root";
        let name = format!("{}.lora_b", p.tensor);
        return Err(Error::Tensor { file: path.display().to_string(), name, why: why.to_owned() });
    }
    let alpha = if adapter.rslora { adapter.alpha * root } else { adapter.alpha };
    metadata.set("adapter.lora.alpha", Value::F32(alpha));
    let mut table = Vec::new();
    let mut data: Vec<&[f32]> = Vec::new();
    for p in &adapter.pairs {
        let [rank, rows, cols] = [p.rank, p.rows, p.cols].map(|n| n as u64);
        table.push((format!("{}.lora_a", p.tensor), vec![cols, rank], Type::F32));
        table.push((format!("{}.lora_b", p.tensor), vec![rank, rows], Type::F32));
        data.extend([&p.a[..], &p.b[..]]);
    }
    let mut data = data.into_iter();
    let writer = Writer::new(&metadata, table)?;
    writer.write_to(path, |_, out| {
        out.extend(data.next().into_iter().flatten().flat_map(|v| v.to_le_bytes()));
        Ok::<_, Error>(())
    })
}
