//! Parts of the data: lines of JSON and a Parquet table of the same rows.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use weft_formats::AtomicFile;

use crate::hash::sha256;
use crate::journal::write_lines;
use crate::{Error, Result};

/// The columns, all of them texts.
const COLUMNS: [&str; 9] =
    ["id", "text", "kind", "style", "question", "options", "answer", "student", "passage"];

/// Writes the rows of a shard, and says what the files are; none where there are no rows.
pub(super) fn part(folder: &Path, shard: usize, rows: &[Value]) -> Result<Vec<Value>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let lines: Vec<Value> = rows.iter().map(row).collect();
    let (json_path, table_path) =
        (folder.join(format!("part-{shard:05}.jsonl")), folder.join(format!("part-{shard:05}.parquet")));
    write_lines(&json_path, &lines)?;
    table(&table_path, &lines)?;
    let about = |path: &Path| -> Result<Value> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        Ok(json!({ "file": name, "rows": rows.len(), "bytes": bytes.len(), "sha256": sha256(&bytes) }))
    };
    Ok(vec![about(&json_path)?, about(&table_path)?])
}

/// A row with what is published of it.
fn row(row: &Value) -> Value {
    COLUMNS.iter().map(|c| ((*c).to_owned(), row[*c].clone())).collect::<serde_json::Map<_, _>>().into()
}

fn table(path: &Path, rows: &[Value]) -> Result<()> {
    let wrong = |e: parquet::errors::ParquetError| Error::file(path, e.to_string());
    let fields: String = COLUMNS.iter().map(|c| format!("optional binary {c} (UTF8);\n")).collect();
    let schema = Arc::new(parse_message_type(&format!("message document {{\n{fields}}}")).map_err(wrong)?);
    let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
    let out = AtomicFile::create(path)?;
    let mut writer = SerializedFileWriter::new(out, schema, properties).map_err(wrong)?;
    let mut group = writer.next_row_group().map_err(wrong)?;
    for column in COLUMNS {
        let text = |v: &Value| match v {
            Value::Null => None,
            Value::String(s) => Some(s.clone()),
            other => Some(other.to_string()),
        };
        let texts: Vec<Option<String>> = rows.iter().map(|r| text(&r[column])).collect();
        let levels: Vec<i16> = texts.iter().map(|t| i16::from(t.is_some())).collect();
        let values: Vec<ByteArray> =
            texts.into_iter().flatten().map(|t| ByteArray::from(t.into_bytes())).collect();
        let Some(mut next) = group.next_column().map_err(wrong)? else { break };
        next.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).map_err(wrong)?;
        next.close().map_err(wrong)?;
    }
    group.close().map_err(wrong)?;
    Ok(writer.into_inner().map_err(wrong)?.finish()?)
}

/// Removes parts that are not among these.
pub(super) fn remove_others(folder: &Path, parts: &[Value]) -> Result<()> {
    let io = |e| Error::io(folder, e);
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("part-") && !parts.iter().any(|p| p["file"] == name.as_str()) {
            std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
        }
    }
    Ok(())
}
