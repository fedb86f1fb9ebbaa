//! Tables in Parquet files, by the `parquet` crate without its C codecs. It panics on some damaged files, which is an error here.

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use serde_json::Value as Json;

use crate::guard::guard;

/// An open table.
pub struct Table(SerializedFileReader<Bytes>);

impl Table {
    /// Opens the bytes of a file.
    ///
    /// # Errors
    /// Bytes that are no Parquet file, or one in a codec that is not read; the text says what and the way out.
    pub fn open(bytes: Vec<u8>) -> Result<Table, String> {
        let broken =
            |e: parquet::errors::ParquetError| format!("is no Parquet file that can be read ({})", line(&e));
        let reader = guard(|| SerializedFileReader::new(Bytes::from(bytes)))
            .ok_or("is no Parquet file that can be read")?
            .map_err(broken)?;
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
    pub fn rows(&self) -> u64 {
        self.0.metadata().file_metadata().num_rows().try_into().unwrap_or(0)
    }

    /// Each row as an object.
    ///
    /// # Errors
    /// A damaged file, here or at the row where that shows.
    pub fn iter(&self) -> Result<impl Iterator<Item = Result<Json, String>> + '_, String> {
        const DAMAGED: &str = "cannot be read: the file is damaged";
        let mut rows =
            Some(guard(|| RowIter::from_file(None, &self.0)).ok_or(DAMAGED)?.map_err(|e| line(&e))?);
        Ok(std::iter::from_fn(move || {
            // Behind an error there is nothing to be had.
            let mut all = rows.take()?;
            let next = guard(|| all.next().map(|row| row.map(|r| r.to_json_value())));
            match next {
                None => Some(Err(DAMAGED.to_owned())),
                Some(None) => None,
                Some(Some(Err(e))) => Some(Err(line(&e))),
                Some(Some(Ok(row))) => {
                    rows = Some(all);
                    Some(Ok(row))
                }
            }
        }))
    }
}

fn codec_is_read(codec: &parquet::basic::Compression) -> bool {
    use parquet::basic::Compression as C;
    matches!(codec, C::UNCOMPRESSED | C::SNAPPY | C::GZIP(_) | C::BROTLI(_) | C::LZ4 | C::LZ4_RAW)
}

fn line(e: &parquet::errors::ParquetError) -> String {
    e.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
