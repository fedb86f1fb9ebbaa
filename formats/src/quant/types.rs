//! The table of tensor types: id, name, values a block, bytes a block.

/// A ggml tensor type. The variants carry ggml's own names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Type {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ2_XXS,
    IQ2_XS,
    IQ3_XXS,
    IQ1_S,
    IQ4_NL,
    IQ3_S,
    IQ2_S,
    IQ4_XS,
    I8,
    I16,
    I32,
    I64,
    F64,
    IQ1_M,
    BF16,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
    Q2_0,
}

struct Row {
    ty: Type,
    id: u32,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
}

const fn row(ty: Type, id: u32, name: &'static str, block_len: usize, block_bytes: usize) -> Row {
    Row { ty, id, name, block_len, block_bytes }
}

/// In the order of the enum, which is the order of the ids (`ggml_type` in ggml.h). The ids that
/// are absent belonged to types that ggml removed: 4, 5 (Q4_2, Q4_3), 31 to 33 (Q4_0_4_4, …) and
/// 36 to 38 (IQ4_NL_4_4, …).
const TABLE: [Row; 35] = [
    row(Type::F32, 0, "F32", 1, 4),
    row(Type::F16, 1, "F16", 1, 2),
    row(Type::Q4_0, 2, "Q4_0", 32, 18),
    row(Type::Q4_1, 3, "Q4_1", 32, 20),
    row(Type::Q5_0, 6, "Q5_0", 32, 22),
    row(Type::Q5_1, 7, "Q5_1", 32, 24),
    row(Type::Q8_0, 8, "Q8_0", 32, 34),
    row(Type::Q8_1, 9, "Q8_1", 32, 36),
    row(Type::Q2_K, 10, "Q2_K", 256, 84),
    row(Type::Q3_K, 11, "Q3_K", 256, 110),
    row(Type::Q4_K, 12, "Q4_K", 256, 144),
    row(Type::Q5_K, 13, "Q5_K", 256, 176),
    row(Type::Q6_K, 14, "Q6_K", 256, 210),
    row(Type::Q8_K, 15, "Q8_K", 256, 292),
    row(Type::IQ2_XXS, 16, "IQ2_XXS", 256, 66),
    row(Type::IQ2_XS, 17, "IQ2_XS", 256, 74),
    row(Type::IQ3_XXS, 18, "IQ3_XXS", 256, 98),
    row(Type::IQ1_S, 19, "IQ1_S", 256, 50),
    row(Type::IQ4_NL, 20, "IQ4_NL", 32, 18),
    row(Type::IQ3_S, 21, "IQ3_S", 256, 110),
    row(Type::IQ2_S, 22, "IQ2_S", 256, 82),
    row(Type::IQ4_XS, 23, "IQ4_XS", 256, 136),
    row(Type::I8, 24, "I8", 1, 1),
    row(Type::I16, 25, "I16", 1, 2),
    row(Type::I32, 26, "I32", 1, 4),
    row(Type::I64, 27, "I64", 1, 8),
    row(Type::F64, 28, "F64", 1, 8),
    row(Type::IQ1_M, 29, "IQ1_M", 256, 56),
    row(Type::BF16, 30, "BF16", 1, 2),
    row(Type::TQ1_0, 34, "TQ1_0", 256, 54),
    row(Type::TQ2_0, 35, "TQ2_0", 256, 66),
    row(Type::MXFP4, 39, "MXFP4", 32, 17),
    row(Type::NVFP4, 40, "NVFP4", 64, 36),
    row(Type::Q1_0, 41, "Q1_0", 128, 18),
    row(Type::Q2_0, 42, "Q2_0", 64, 18),
];

impl Type {
    fn spec(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Every type, by rising id.
    pub fn all() -> impl ExactSizeIterator<Item = Type> {
        TABLE.iter().map(|r| r.ty)
    }

    /// The id that GGUF stores.
    pub fn id(self) -> u32 {
        self.spec().id
    }

    /// The type with this id; `None` for ids that ggml never had or removed.
    pub fn from_id(id: u32) -> Option<Type> {
        TABLE.iter().find(|r| r.id == id).map(|r| r.ty)
    }

    /// ggml's name in upper case, as in `Q4_K`.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The type with this name, in any case.
    pub fn parse(name: &str) -> Option<Type> {
        TABLE.iter().find(|r| r.name.eq_ignore_ascii_case(name)).map(|r| r.ty)
    }

    /// Values in one block; 1 for the plain types.
    pub fn block_len(self) -> usize {
        self.spec().block_len
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.spec().block_bytes
    }

    /// Bytes of a row of `cols` values; `None` where `cols` is not a whole number of blocks or the
    /// product does not fit.
    pub fn row_bytes(self, cols: u64) -> Option<u64> {
        let len = self.block_len() as u64;
        if !cols.is_multiple_of(len) {
            return None;
        }
        (cols / len).checked_mul(self.block_bytes() as u64)
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_enum_order_and_unique() {
        for (i, r) in TABLE.iter().enumerate() {
            assert_eq!(r.ty as usize, i, "{}", r.name);
            assert_eq!(format!("{:?}", r.ty), r.name);
            assert_eq!(Type::from_id(r.id), Some(r.ty));
            assert_eq!(Type::parse(&r.name.to_lowercase()), Some(r.ty));
        }
        assert!(TABLE.windows(2).all(|w| w[0].id < w[1].id));
        for removed in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(Type::from_id(removed), None);
        }
        assert_eq!(Type::parse("Q4_K_M"), None);
    }

    #[test]
    fn row_bytes_checks_blocks_and_overflow() {
        assert_eq!(Type::Q4_K.row_bytes(512), Some(288));
        assert_eq!(Type::Q4_K.row_bytes(500), None);
        assert_eq!(Type::F64.row_bytes(u64::MAX), None);
        assert_eq!(Type::F32.row_bytes(0), Some(0));
    }
}
