//! Weight types: for each, how its GGUF blocks are repacked into planes at upload, and the WGSL
//! fragment that turns 16 stored weights into `mat4x4<f32>`.
//!
//! A plane holds one field of every block, back to back, so that it loads as aligned `u32` or
//! `vec4<u32>` although a Q6_K block has 210 bytes. Repacking moves bits and loses none: the planes of
//! a type hold exactly its block's bytes.
//!
//! Group order. The values of a unit of 16 form four groups of four, one group to a `u32` when a value
//! is a byte: (0, 4, 1, 5), (2, 6, 3, 7), (8, 12, 9, 13), (10, 14, 11, 15). A plane of 4-bit fields has
//! groups 0 and 1 in the low and high nibbles of its first word; 2-bit and 1-bit fields have group g in
//! bits 2g and g of each byte. So one shift and one mask give four values as bytes, whatever their
//! width, ready for `dot4I8Packed` and for byte-wise arithmetic between planes; and values 2j and 2j+1
//! lie 16 bits apart, ready to become a pair of f16.
//!
//! A type whose weights are `scale * integer + offset` with one scale and one offset to a unit defines,
//! for the two units of 32 weights or, where that saves loads, the four of two 32s that lie half a block of
//! 256 apart,
//! ```wgsl
//! struct Head { .. }                                      // what they share
//! fn head_of(planes: vec4<u32>, v: u32) -> Head
//! struct Ints { q: vec4<u32>, scale: f32, offset: f32 }   // four groups of signed bytes
//! fn ints_of(planes: vec4<u32>, h: Head, v: u32, part: u32) -> Ints
//! ```
//! and takes `ints16` and `dequant16` from `from_ints.wgsl`; any other defines
//! ```wgsl
//! fn dequant16(planes: vec4<u32>, u: u32) -> mat4x4<f32>
//! ```
//! itself. `u` counts units along the rows of a slab, `planes` are the word offsets of the planes, and
//! the slab is bound twice, for `load4(i)`, which reads the i-th four words, and as `w1: array<u32>`. The
//! matrix's columns are weights 0-3, 4-7, 8-11, 12-15. Matmul, matvec, the token embedding and the input gradient all use
//! this one fragment.
//!
//! Where offset is scale times something simple, `fn center_of(h: Head, part: u32) -> f32` gives that as well.
//!
//! A type with a code book finds it from word 0 of the slab on, in front of the planes: in GPU memory
//! it is bound already and cached, where a WGSL array indexed at run time would be copied to each
//! invocation's private memory. Fragments read it through `book(i)` alone (`book2(i)` where entries are pairs
//! of words), so that a kernel can keep copies of it in workgroup memory.

mod bf16;
mod f16;
mod f32;
mod grids;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod nvfp4;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod tq1_0;
mod tq2_0;

/// How one weight type is stored in a file and on the GPU.
#[derive(Debug)]
pub struct Layout {
    /// ggml's name.
    pub name: &'static str,
    /// Weights in a block.
    pub block: usize,
    /// Bytes of a block in a file.
    pub bytes: usize,
    /// Bytes of a block in each plane.
    pub planes: &'static [usize],
    /// Writes one file block into its place in each plane.
    pub repack: fn(&[u8], &mut [&mut [u8]]),
    /// Words of the code book that every slab begins with; most types have none.
    pub table: &'static [u32],
    /// The `dequant16` fragment, after the shared pieces it needs.
    pub dequant: &'static [&'static str],
}

macro_rules! weight_types {
    ($($variant:ident $module:ident),* $(,)?) => {
        /// A weight type that the kernels read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, non_camel_case_types)]
        pub enum WeightType { $($variant),* }

        impl WeightType {
            /// All of them.
            pub const ALL: &'static [WeightType] = &[$(WeightType::$variant),*];

            /// Its layout.
            pub fn layout(self) -> &'static Layout {
                match self { $(WeightType::$variant => &$module::LAYOUT),* }
            }
        }
    };
}

weight_types! {
    F32 f32, F16 f16, BF16 bf16, Q4_0 q4_0, Q4_1 q4_1, Q5_0 q5_0, Q5_1 q5_1, Q8_0 q8_0,
    Q2_K q2_k, Q3_K q3_k, Q4_K q4_k, Q5_K q5_k, Q6_K q6_k,
    IQ1_S iq1_s, IQ1_M iq1_m, IQ2_XXS iq2_xxs, IQ2_XS iq2_xs, IQ2_S iq2_s, IQ3_XXS iq3_xxs, IQ3_S iq3_s,
    IQ4_NL iq4_nl, IQ4_XS iq4_xs, TQ1_0 tq1_0, TQ2_0 tq2_0, MXFP4 mxfp4, NVFP4 nvfp4,
}

impl WeightType {
    /// ggml's name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.layout().name
    }

    /// The type called `name`, in any case.
    pub fn parse(name: &str) -> Option<WeightType> {
        Self::ALL.iter().copied().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a row of `cols` weights in a file. `cols` is a multiple of the block.
    pub fn row_bytes(self, cols: usize) -> usize {
        let l = self.layout();
        cols / l.block * l.bytes
    }
}

impl std::fmt::Display for WeightType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Group and byte of value `i` in group order.
const fn place(i: usize) -> (usize, usize) {
    let (eight, pair) = (i / 8, i % 8 / 2);
    (2 * eight + pair % 2, pair / 2 + 2 * (i % 2))
}

/// Which 32 weights of a block of 256 with heads of 64 come at place `at`: those of a head lie half a block
/// apart, so that neighbours read neighbouring activations.
const fn thirty_two(at: usize) -> usize {
    at / 2 + at % 2 * 4
}

/// Four indices of 9 bits as `nines.wgsl` reads them: a word, and four bits.
fn four_nines(index: impl Fn(usize) -> u32) -> (u32, u32) {
    (index(0) | index(1) << 9 | index(2) << 18 | index(3) << 27, index(3) >> 5)
}

/// The eight bytes of `bytes` from `at` on as a word, the first lowest: fields are picked out of blocks
/// eight at a time, which is what makes an upload fast.
#[inline(always)]
fn load8(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A byte in each of eight.
const fn eight_of(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Bytes 0, 1, 4 and 5 in the order 0, 4, 1, 5.
#[inline(always)]
const fn group(eight: u64) -> u32 {
    let t = eight & 0x0000_ffff_0000_ffff;
    let t = (t | t << 8) & 0x00ff_00ff_00ff_00ff;
    (t | t >> 24) as u32
}

/// Stores fields of `bits` bits (1, 2 or 4) in group order until `out` is full. `eight(e)` has fields 8 e to
/// 8 e + 7 as its bytes. Inlined so that `bits` is a constant to the compiler.
#[inline(always)]
fn pack(eight: impl Fn(usize) -> u64, bits: usize, out: &mut [u8]) {
    let per_word = 4 / bits;
    for (i, to) in out.chunks_exact_mut(4).enumerate() {
        let mut word = 0;
        for k in 0..per_word {
            let x = eight(i * per_word + k);
            // Values 2 and 3, 6 and 7, above 0 and 1, 4 and 5.
            word |= group(x | x >> (16 - bits)) << (2 * bits * k);
        }
        to.copy_from_slice(&word.to_le_bytes());
    }
}

/// Stores bytes in group order.
#[inline(always)]
fn pack_bytes(bytes: &[u8], out: &mut [u8]) {
    for (from, to) in bytes.chunks_exact(8).zip(out.chunks_exact_mut(8)) {
        let x = load8(from, 0);
        let both = u64::from(group(x)) | u64::from(group(x >> 16)) << 32;
        to.copy_from_slice(&both.to_le_bytes());
    }
}

/// The 4-bit fields of a 32-block as ggml stores them: low nibbles first, then high.
#[inline(always)]
fn nibble32(qs: &[u8]) -> impl Fn(usize) -> u64 + '_ {
    |e| load8(qs, e % 2 * 8) >> (4 * (e / 2)) & eight_of(15)
}

/// The bits of a byte, lowest first.
#[inline(always)]
const fn bits8(byte: u8) -> u64 {
    let each = eight_of(1).wrapping_mul(byte as u64) & 0x8040_2010_0804_0201;
    (each + eight_of(0x7f)) >> 7 & eight_of(1)
}

/// WGSL shared by the types with fields in group order.
const PAIRS: &str = include_str!("pairs.wgsl");

/// `dequant16` for the types that define `ints_of`, with heads of 32 weights.
const FROM_INTS: &str = concat!(include_str!("heads_32.wgsl"), include_str!("from_ints.wgsl"));

/// The same with heads of 64 weights.
const FROM_INTS_64: &str = concat!(include_str!("heads_64.wgsl"), include_str!("from_ints.wgsl"));

impl Layout {
    /// Whether the fragment gives integers, as the int8 kernels need.
    pub fn has_ints(&self) -> bool {
        self.dequant.contains(&FROM_INTS) || self.parts() > 2
    }

    /// Units of 16 weights that share a head.
    pub(crate) fn parts(&self) -> u32 {
        if self.dequant.contains(&FROM_INTS_64) { 4 } else { 2 }
    }
}

impl WeightType {
    /// The fragment of `dequant16h`, which gives `mat4x4<f16>`; beside `dequant16` or `ints16`.
    pub(crate) fn half(self) -> &'static str {
        match self {
            WeightType::F16 => include_str!("f16/half.wgsl"),
            _ if self.layout().has_ints() => include_str!("from_ints_f16.wgsl"),
            _ => include_str!("from_f32_f16.wgsl"),
        }
    }

    /// What types have in common whose fragments the kernels read the same way: integers or none, parts of a head,
    /// blocks of 256 or of less, a code book or none, f32 or less.
    pub(crate) fn kind(self) -> (bool, u32, bool, bool, bool) {
        let l = self.layout();
        (l.has_ints(), l.parts(), l.block == 256, l.table.is_empty(), self == WeightType::F32)
    }

    /// Whether its fragment has `center_of(h, part)`: weights are scale * (integer + center).
    pub(crate) fn has_center(self) -> bool {
        matches!(self, WeightType::IQ1_S | WeightType::IQ1_M | WeightType::IQ3_S)
    }

    /// Whether the offsets of its integers are anything but zero or a center.
    pub(crate) fn has_offset(self) -> bool {
        use WeightType::*;
        !matches!(
            self,
            Q8_0 | IQ1_S
                | IQ1_M
                | IQ3_S
                | IQ2_XXS
                | IQ2_XS
                | IQ2_S
                | IQ3_XXS
                | IQ4_NL
                | IQ4_XS
                | MXFP4
                | NVFP4
        )
    }

    /// Weights that share one scale and one offset: 16, or 32 in two units.
    pub(crate) fn span(self) -> u32 {
        use WeightType::*;
        match self {
            Q2_K | Q3_K | Q6_K | IQ1_M | IQ2_XS | IQ2_S | NVFP4 => 16,
            _ => 32,
        }
    }
}
/// WGSL shared by the types with odd multiples of d for scales.
const ODD: &str = include_str!("odd.wgsl");

/// WGSL shared by the types with indices of 9 bits.
const NINES: &str = include_str!("nines.wgsl");

/// WGSL shared by the types with signs beside a code book.
const SIGNS: &str = include_str!("signs.wgsl");

/// Words of a code book, and of its copies, that a kernel keeps in workgroup memory.
const BOOK_WORDS: usize = 2048;

impl WeightType {
    /// The fragment that reads the code book from the slab, for types that have one.
    pub(crate) fn book(self) -> &'static str {
        if self.layout().table.is_empty() { "" } else { include_str!("book.wgsl") }
    }

    /// The fragment that keeps the code book in workgroup memory, to which [`WeightType::book`] is the
    /// alternative, and its constants.
    pub(crate) fn shared_book(self) -> (&'static str, [(&'static str, u32); 4]) {
        use WeightType::*;
        let words = self.layout().table.len();
        let pairs = matches!(self, IQ2_XXS | IQ2_XS | IQ2_S);
        let entries = if pairs { words / 2 } else { words };
        let constants = [
            ("BOOKED", u32::from(words > 0)),
            ("PAIRS", u32::from(pairs)),
            ("BOOK", entries as u32),
            ("COPIES", (BOOK_WORDS / words.max(1)) as u32),
        ];
        (if words == 0 { "" } else { include_str!("book_shared.wgsl") }, constants)
    }
}

#[cfg(test)]
mod tests;
