//! The journal: implementations of [`tidings_core::journal::Journal`].

mod page;
pub mod segments;
