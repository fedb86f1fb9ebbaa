//! The server as clients see it, over real connections, with an engine that computes with hashes.

mod support;

mod chat;
mod guard;
mod load;
mod page;
mod state;
mod tools;
