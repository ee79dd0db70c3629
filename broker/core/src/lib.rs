//! The sans-IO heart of Tidings: what the broker *is*, without sockets, files, threads, clocks or
//! randomness. Time and the results of I/O come in as arguments; what is to be done comes out.
//!
//! The broker is a journal with readers: a publish appends, a session is filters plus a position,
//! delivery is reading on from the position.

pub mod account;
pub mod codec;
pub mod hash;
pub mod histogram;
pub mod journal;
pub mod limits;
pub mod message;
pub mod messages;
pub mod people;
pub mod rooms;
pub mod rules;
mod session;
pub mod shard;
pub mod state;
pub mod topic;
pub mod tree;
