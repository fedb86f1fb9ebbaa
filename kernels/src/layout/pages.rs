//! A KV cache in blocks: a pool that slots have blocks of, and where the tables that say which lie.

use super::{STATE_BYTES, Sequences};

/// Positions of a block: what attention reads at a time, so that a tile of keys is one block.
pub const BLOCK: u32 = 32;

/// How a pool of blocks is cut, and where the tables of its slots lie in the state buffer.
///
/// Position n of a slot is in its block `n / BLOCK`. Block b of every slot lies in chunk `b % chunks`, and the slot's
/// table has its place there, `0..blocks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// Blocks of a chunk.
    pub blocks: u32,
    /// Chunks, each in a binding of its own.
    pub chunks: u32,
    /// Slots that have a table.
    pub slots: u32,
    /// Blocks of a slot's table: those of the longest sequence.
    pub width: u32,
    /// Word of the state buffer at which the tables `[slots, width]` of u32 begin.
    pub table: u32,
    /// Word at which the [`State`](super::State) of a prompt's piece lies; behind it is the piece's slot.
    pub piece: u32,
    /// Word at which tokens of [`Sequences::Mixed`] have their position and their slot, two words each.
    pub mixed: u32,
}

impl Pages {
    /// Positions of a chunk.
    pub fn positions(&self) -> u32 {
        self.blocks * BLOCK
    }

    /// Bytes of the state buffer up to the end of the tables.
    pub fn state_bytes(&self) -> u64 {
        (u64::from(self.table) + u64::from(self.slots) * u64::from(self.width)) * 4
    }

    /// The word of the state buffer that has the place of a slot's block.
    ///
    /// # Panics
    /// If there is no such slot or block.
    pub fn word(&self, slot: u32, block: u32) -> u32 {
        assert!(slot < self.slots && block < self.width, "block {block} of slot {slot}");
        self.table + slot * self.width + block
    }

    /// The word that kernels find the position and the slot of tokens at, where these are no rows.
    pub(crate) fn whose(&self, sequences: Sequences) -> u32 {
        if sequences == Sequences::Mixed { self.mixed } else { self.piece }
    }

    /// The word behind a piece's state, which has its slot.
    pub fn piece_slot(&self) -> u32 {
        self.piece + STATE_BYTES as u32 / 4
    }
}
