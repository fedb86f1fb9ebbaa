//! Parquet files, by the `parquet` crate without its C codecs.

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use serde_json::Value as Json;

/// An open table.
pub(super) struct Table(SerializedFileReader<Bytes>);

impl Table {
    pub(super) fn open(bytes: Vec<u8>) -> Result<Table, String> {
        let broken =
            |e: parquet::errors::ParquetError| format!("is no Parquet file that can be read ({})", line(&e));
        let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(broken)?;
        for group in reader.metadata().row_groups() {
            for column in group.columns() {
                let name = column.column_path().string();
                let codec = column.compression();
                let read = codec_is_read(&codec);
                if !read {
                    return Err(format!(
                        "column \"{name}\" is compressed with {codec}, which is not read; save it with snappy, gzip, \
                         lz4, brotli or without compression"
                    ));
                }
            }
        }
        Ok(Table(reader))
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> u64 {
        self.0.metadata().file_metadata().num_rows().try_into().unwrap_or(0)
    }

    /// Each row as an object.
    pub(super) fn iter(&self) -> Result<impl Iterator<Item = Result<Json, String>> + '_, String> {
        let rows = RowIter::from_file(None, &self.0).map_err(|e| line(&e))?;
        Ok(rows.map(|row| row.map(|r| r.to_json_value()).map_err(|e| line(&e))))
    }
}

fn codec_is_read(codec: &parquet::basic::Compression) -> bool {
    use parquet::basic::Compression as C;
    matches!(codec, C::UNCOMPRESSED | C::SNAPPY | C::GZIP(_) | C::BROTLI(_) | C::LZ4 | C::LZ4_RAW)
}

fn line(e: &parquet::errors::ParquetError) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
