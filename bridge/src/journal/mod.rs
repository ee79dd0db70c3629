//! The journal: implementations of [`tidings_core::journal::Journal`].

pub mod segments;
