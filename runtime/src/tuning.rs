//! Measured constants of a device, as names and numbers of the layer above.

use std::path::PathBuf;

/// Constants that are faster on a device than those that a kernel would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuned {
    /// The kernel family.
    pub op: String,
    /// Its type, whatever its case.
    pub ty: String,
    /// The first and the last of the shapes they are for, dimension by dimension.
    pub shape: Vec<[u32; 2]>,
    /// What the family makes of them.
    pub constants: [u32; 4],
}

/// What is tuned on a device; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Where it comes from, where anything does.
    pub file: Option<PathBuf>,
    /// The first entry for a shape counts.
    pub entries: Vec<Tuned>,
    /// What was wrong with a file, a line each.
    pub notes: Vec<String>,
}

impl Tuned {
    /// Whether it is for this kernel, type and shape.
    pub fn takes(&self, op: &str, ty: &str, shape: &[u32]) -> bool {
        let inside = self.shape.iter().zip(shape).all(|(&[first, last], n)| (first..=last).contains(n));
        self.op == op && self.ty.eq_ignore_ascii_case(ty) && self.shape.len() == shape.len() && inside
    }
}

impl Tuning {
    /// The constants for a kernel, a type and a shape.
    pub fn find(&self, op: &str, ty: &str, shape: &[u32]) -> Option<[u32; 4]> {
        self.entries.iter().find(|e| e.takes(op, ty, shape)).map(|e| e.constants)
    }
}
