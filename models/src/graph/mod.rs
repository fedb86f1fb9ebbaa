//! A model as a graph of nodes: the only place that knows the order of operations.
//!
//! [`Graph::plan`] builds the nodes of one program from the spec ([`blocks`]), puts several into one where a device has
//! an op for them ([`fuse`]), and says where the values between them lie ([`live`]). [`Graph::record`] turns nodes into
//! dispatches. What `fuse` does not know stays as it is: a new kind of block is right first and fast later.

mod blocks;
mod build;
mod cost;
mod fuse;
mod live;
mod node;
mod pass;
mod planned;
mod record;

pub(crate) use pass::{Frame, Pass, Vectors, Want};
pub(crate) use planned::Graph;
pub(crate) use record::{Memory, Packed, Sums, activation};
