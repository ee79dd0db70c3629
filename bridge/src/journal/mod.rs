//! The journal: implementations of [`tidings_core::journal::Journal`].
//!
//! [`memory`] is the plain one; [`segments`] keeps what it is given. Both pass the same contract
//! tests (`contract`). [`thread`] gathers what several threads append into one commit at a time.

#[cfg(test)]
mod contract;
pub mod memory;
mod page;
mod pipeline;
pub mod retention;
pub mod segments;
#[cfg(test)]
mod slow_fs;
pub mod thread;
