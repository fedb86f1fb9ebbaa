//! The ways to compute a product, and its two directions.

/// A way to compute the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// A few tokens, f32. Core WebGPU.
    Matvec,
    /// A few tokens, `dot4I8Packed` on activations of 8 bits. Core WebGPU, fast where the device has
    /// the instruction.
    MatvecDot,
    /// Register tiles in f32. Core WebGPU.
    Tiled,
    /// Register tiles in f16, whose sums of 32 columns go to f32.
    TiledF16,
    /// Register tiles in integers, `dot4I8Packed` on activations of 8 bits. Core WebGPU, fast where the
    /// device has the instruction.
    TiledDot,
    /// Rows in registers in f32, activations handed round in subgroups: no workgroup memory.
    Broadcast,
    /// Tiles with cooperative matrices, f16 in and f32 out.
    Coop,
    /// The same with the left side in tiles, [`Format::Tiles`], which go straight into matrices.
    Direct,
    /// The same for a few rows, where the subgroups of a workgroup share the sum.
    Sliced,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 9] = [
        Variant::Matvec,
        Variant::MatvecDot,
        Variant::Tiled,
        Variant::TiledF16,
        Variant::TiledDot,
        Variant::Broadcast,
        Variant::Coop,
        Variant::Direct,
        Variant::Sliced,
    ];

    /// The name used in pipelines and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Matvec => "matvec",
            Variant::MatvecDot => "matvec_dot",
            Variant::Tiled => "tiled",
            Variant::TiledF16 => "tiled_f16",
            Variant::TiledDot => "tiled_dot",
            Variant::Broadcast => "broadcast",
            Variant::Coop => "coop",
            Variant::Direct => "direct",
            Variant::Sliced => "sliced",
        }
    }

    /// The variant of that name.
    pub fn named(name: &str) -> Option<Variant> {
        Variant::ALL.into_iter().find(|v| v.name() == name)
    }

    /// Whether it takes its left side in tiles, [`Format::Tiles`](crate::layout::Format::Tiles).
    pub fn tiles(self) -> bool {
        matches!(self, Variant::Direct | Variant::Sliced)
    }

    /// Whether it is for at most [`MATVEC_TOKENS`].
    pub fn few(self) -> bool {
        matches!(self, Variant::Matvec | Variant::MatvecDot)
    }
}

/// The two products of a weight, from the same planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `y = x w^T`.
    Forward,
    /// `dx = dy w`, the input gradient: the sum goes over the weight's rows.
    Gradient,
}

impl Direction {
    /// The op's name.
    pub fn op(self) -> &'static str {
        match self {
            Direction::Forward => "matmul",
            Direction::Gradient => "matmul_dx",
        }
    }
}
