//! A model as a graph of nodes: the only place that knows the order of operations.
//!
//! [`Graph::plan`] builds the nodes of one program from the spec ([`blocks`]), puts several into one where a device has
//! an op for them ([`fuse`]), and says where the values between them lie ([`live`]). [`Graph::record`] turns nodes into
//! dispatches. What `fuse` does not know stays as it is: a new kind of block is right first and fast later.
//!
//! [`Training::build`] builds the [steps](step) of forward, loss and backward from the same blocks, and
//! [`Training::place`] says what lies in scratch and what a layer keeps from its forward to its backward pass.

mod blocks;
mod build;
mod building;
mod common;
mod cost;
mod fuse;
mod learner;
mod live;
mod node;
mod pass;
mod planned;
mod record;
mod step;
mod training;

pub(crate) use common::{Common, attention_shape};
pub(crate) use learner::{Kept, Lesson};
pub(crate) use node::{Info, Routes, Value};
pub(crate) use pass::{Frame, Pass, UNSPLIT, Vectors, Want};
pub(crate) use planned::Graph;
pub(crate) use record::{Memory, Packed, Sums};
pub(crate) use step::{Room, Step};
pub(crate) use training::{Homes, Training};
