//! What memory is for.

/// What a piece of memory is for. Pools never share a block, so that a buffer bound for writing
/// (activations) is never one bound for reading (weights) in the same dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Pool {
    Weights,
    KvCache,
    Activations,
    State,
    Params,
    /// What a training step keeps from its forward pass for its backward pass.
    Kept,
    /// Trained parameters.
    Adapters,
    /// Their gradients and moments.
    Optimiser,
    /// Host memory of a [`Transfer`](crate::Transfer), which the device copies from.
    Staging,
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Pool::Weights => "weights",
            Pool::KvCache => "KV cache",
            Pool::Activations => "activations",
            Pool::State => "state",
            Pool::Params => "parameters",
            Pool::Kept => "kept activations",
            Pool::Adapters => "adapters",
            Pool::Optimiser => "optimiser",
            Pool::Staging => "staging",
        })
    }
}

/// `1.5 GiB`, `640 MiB`, `12 KiB`.
pub fn human(bytes: u64) -> String {
    let b = bytes as f64;
    match bytes {
        b if b < 1 << 10 => format!("{b} B"),
        x if x < 1 << 20 => format!("{:.1} KiB", b / 1024.0),
        x if x < 1 << 30 => format!("{:.1} MiB", b / 1_048_576.0),
        _ => format!("{:.2} GiB", b / 1_073_741_824.0),
    }
}
